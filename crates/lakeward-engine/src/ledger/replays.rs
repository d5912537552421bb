//! Replays: records that leave quarantine again, exactly once.
//!
//! A replay is queued in one transaction that also marks every record of it as
//! replayed, so a second request for the same record adds nothing. The pipeline
//! delivers each queued replay as a batch of its own and removes it with that
//! batch's commit.
//!
//! | table            | key                         | value |
//! |------------------|-----------------------------|-------|
//! | `replays`        | pipeline, number            | [`QueuedReplay`] |
//! | `replay_records` | pipeline, number            | the records: for each, its arrival (µs, i64), its length (u32) and its bytes, little-endian |
//! | `replayed`       | pipeline, incarnation or replay it was quarantined from, offset | the replay's number |
//! | `replayed_of`    | pipeline, incarnation or replay, first offset of the batch | how many of the batch's records left |

use std::collections::BTreeMap;

use bytes::Bytes;
use lakeward_model::{Offset, RecordBlock, Records, Timestamp};
use redb::{ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{BATCHES, Ledger, LedgerError, PROGRESS, Progress, parse, put, render, replacements};
use crate::ledger::BatchRecord;

type Numbered = TableDefinition<'static, (&'static str, u64), &'static [u8]>;
const REPLAYS: Numbered = TableDefinition::new("replays");
const RECORDS: Numbered = TableDefinition::new("replay_records");
type Counted = TableDefinition<'static, (&'static str, u128, u64), u64>;
const REPLAYED: Counted = TableDefinition::new("replayed");
const REPLAYED_OF: Counted = TableDefinition::new("replayed_of");

/// A replay that waits for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedReplay {
    /// Its identity.
    pub id: uuid::Uuid,
    /// How many records it has.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A record that is to leave quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// What its offset belongs to: [`BatchRecord::source`].
    pub source: uuid::Uuid,
    /// Its place there.
    pub offset: Offset,
    /// When it was first received.
    pub received_at: Timestamp,
    /// Its bytes, as received or as somebody fixed them.
    pub data: Bytes,
}

/// What became of a request to replay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayAnswer {
    /// Records that were queued.
    pub queued: u64,
    /// Records that left quarantine before.
    pub already: u64,
    /// Records that no committed batch of the pipeline has in quarantine.
    pub unknown: u64,
    /// The replay that those queued are: its batch has it as its source. `None`
    /// if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<uuid::Uuid>,
}

pub(super) fn make_tables(write: &WriteTransaction) -> Result<(), LedgerError> {
    write.open_table(REPLAYS)?;
    write.open_table(RECORDS)?;
    write.open_table(REPLAYED)?;
    write.open_table(REPLAYED_OF)?;
    Ok(())
}

/// Forgets all replays of a pipeline.
pub(super) fn forget(write: &WriteTransaction, name: &str) -> Result<(), LedgerError> {
    write.open_table(REPLAYS)?.retain_in((name, 0)..=(name, u64::MAX), |_, _| false)?;
    write.open_table(RECORDS)?.retain_in((name, 0)..=(name, u64::MAX), |_, _| false)?;
    for table in [REPLAYED, REPLAYED_OF] {
        write.open_table(table)?.retain_in((name, 0, 0)..=(name, u128::MAX, u64::MAX), |_, _| false)?;
    }
    Ok(())
}

/// Whether records of a batch of the stream left quarantine.
pub(super) fn left_since(
    write: &WriteTransaction,
    name: &str,
    incarnation: uuid::Uuid,
    from: Offset,
) -> Result<bool, LedgerError> {
    let table = write.open_table(REPLAYED_OF)?;
    Ok(table.get((name, incarnation.as_u128(), from.0))?.is_some_and(|left| left.value() > 0))
}

/// How many records of a batch of the stream left quarantine.
pub(super) fn left_of(
    read: &ReadTransaction,
    name: &str,
    incarnation: uuid::Uuid,
    from: Offset,
) -> Result<u64, LedgerError> {
    let table = read.open_table(REPLAYED_OF)?;
    Ok(table.get((name, incarnation.as_u128(), from.0))?.map_or(0, |left| left.value()))
}

/// Removes a replay that is delivered.
pub(super) fn settle(write: &WriteTransaction, name: &str, number: u64) -> Result<(), LedgerError> {
    write.open_table(REPLAYS)?.remove((name, number))?;
    write.open_table(RECORDS)?.remove((name, number))?;
    Ok(())
}

impl Ledger {
    /// Queues records of one pipeline to leave quarantine, those that did not
    /// before; how the pipeline stands then.
    ///
    /// # Errors
    /// See [`LedgerError`]; nothing changed.
    pub fn queue_replay(
        &self,
        name: &str,
        records: &[Quarantined],
    ) -> Result<(ReplayAnswer, Progress), LedgerError> {
        let mut answer = ReplayAnswer::default();
        let mut after = None;
        self.write(|write| {
            let mut progress: Progress = {
                let table = write.open_table(PROGRESS)?;
                let value = table.get(name)?.ok_or_else(|| LedgerError::NoPipeline(name.to_string()))?;
                parse("progress", value.value())?
            };
            let number = progress.replays.queued;
            // No more leave than there are, whatever a former pipeline of this
            // name left in `batches`.
            let room = progress.counts.quarantined - progress.replays.records_queued;
            let mut bytes = Vec::new();
            let mut replayed = write.open_table(REPLAYED)?;
            let mut batches = Batches { write, name, known: BTreeMap::new() };
            let table = write.open_table(BATCHES)?;
            let mut counts = write.open_table(REPLAYED_OF)?;
            for record in records {
                let key = (name, record.source.as_u128(), record.offset.0);
                if replayed.get(key)?.is_some() {
                    answer.already += 1;
                } else if answer.queued < room && batches.take(&table, &counts, &progress, record)? {
                    replayed.insert(key, number)?;
                    push(&mut bytes, record);
                    answer.queued += 1;
                } else {
                    answer.unknown += 1;
                }
            }
            for ((source, from), batch) in batches.known {
                counts.insert((name, source, from), batch.left)?;
            }
            if answer.queued > 0 {
                let replay = QueuedReplay {
                    id: lakeward_model::ids::fresh(),
                    records: answer.queued,
                    bytes: bytes.len() as u64,
                };
                answer.replay = Some(replay.id);
                let value = render("replays", &replay)?;
                write.open_table(REPLAYS)?.insert((name, number), value.as_slice())?;
                write.open_table(RECORDS)?.insert((name, number), bytes.as_slice())?;
                progress.replays.queued += 1;
                progress.replays.records_queued += answer.queued;
                progress.revision += 1;
                put(write, PROGRESS, name, &progress)?;
            }
            after = Some(progress);
            Ok(())
        })?;
        Ok((answer, after.expect("it was made above")))
    }

    /// The pipeline's replay with this number, if it is queued.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn replay(&self, name: &str, number: u64) -> Result<Option<QueuedReplay>, LedgerError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(REPLAYS)?;
        table.get((name, number))?.map(|value| parse("replays", value.value())).transpose()
    }

    /// The records of a queued replay; their offsets count from 0.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn replay_records(&self, name: &str, number: u64) -> Result<Vec<RecordBlock>, LedgerError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(RECORDS)?;
        let value = table.get((name, number))?.expect("a queued replay has records");
        Ok(blocks(value.value()))
    }

    /// Up to `limit` offsets of a source that left quarantine, from `from` on,
    /// ascending.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn replayed(
        &self,
        name: &str,
        source: uuid::Uuid,
        from: Offset,
        limit: usize,
    ) -> Result<Vec<Offset>, LedgerError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(REPLAYED)?;
        let source = source.as_u128();
        let all = table.range((name, source, from.0)..=(name, source, u64::MAX))?;
        all.take(limit).map(|entry| Ok(Offset(entry?.0.value().2))).collect()
    }
}

/// The batches that the records of a request come from. As many records leave
/// a batch's quarantine as it put there, and not one more: whoever asks for a
/// record that was delivered must not make the numbers wrong.
struct Batches<'a> {
    write: &'a WriteTransaction,
    name: &'a str,
    /// By source and first offset.
    known: BTreeMap<(u128, u64), Known>,
}

/// A batch that put records into quarantine.
struct Known {
    to: Offset,
    quarantined: u64,
    /// How many of them left.
    left: u64,
}

impl Batches<'_> {
    /// Whether the record may leave; if so, it is counted.
    fn take(
        &mut self,
        batches: &impl ReadableTable<(&'static str, u128, u64), &'static [u8]>,
        counts: &impl ReadableTable<(&'static str, u128, u64), u64>,
        progress: &Progress,
        record: &Quarantined,
    ) -> Result<bool, LedgerError> {
        let (source, offset) = (record.source.as_u128(), record.offset);
        let known = self.known.range((source, 0)..=(source, offset.0)).next_back();
        let key = match known {
            Some((key, batch)) if offset < batch.to => *key,
            _ => {
                let mut at_or_before =
                    batches.range((self.name, source, 0)..=(self.name, source, offset.0))?;
                let Some(last) = at_or_before.next_back() else { return Ok(false) };
                let batch: BatchRecord = parse("batches", last?.1.value())?;
                let quarantined = batch.counts.quarantined;
                if offset >= batch.span.to || quarantined == 0 || batch.incarnation != progress.incarnation {
                    return Ok(false);
                }
                // What is taken again is not delivered from quarantine, too.
                let (incarnation, from) = (batch.incarnation, batch.span.from.0);
                if batch.replaced_by.is_some()
                    || batch.replay.is_none()
                        && replacements::holds(self.write, self.name, incarnation, from)?
                {
                    return Ok(false);
                }
                let key = (source, from);
                let left = counts.get((self.name, key.0, key.1))?.map_or(0, |left| left.value());
                self.known.insert(key, Known { to: batch.span.to, quarantined, left });
                key
            }
        };
        let Some(batch) = self.known.get_mut(&key) else { return Ok(false) };
        let may_leave = batch.left < batch.quarantined;
        batch.left += u64::from(may_leave);
        Ok(may_leave)
    }
}

fn push(bytes: &mut Vec<u8>, record: &Quarantined) {
    let length = u32::try_from(record.data.len()).expect("a record is far below 4 GiB");
    bytes.extend_from_slice(&record.received_at.micros().to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&record.data);
}

/// Records that arrived at the same time and follow each other are one block.
fn blocks(mut bytes: &[u8]) -> Vec<RecordBlock> {
    let mut blocks: Vec<(Timestamp, Vec<u8>, Vec<u32>)> = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<12>() {
        let (arrival, length) = head.split_at(8);
        let arrival = Timestamp(i64::from_le_bytes(arrival.try_into().expect("8 bytes")));
        let length = u32::from_le_bytes(length.try_into().expect("4 bytes")) as usize;
        let (record, rest) = rest.split_at(length);
        if blocks.last().is_none_or(|(known, ..)| *known != arrival) {
            blocks.push((arrival, Vec::new(), Vec::new()));
        }
        if let Some((_, data, ends)) = blocks.last_mut() {
            data.extend_from_slice(record);
            ends.push(u32::try_from(data.len()).expect("a replay is far below 4 GiB"));
        }
        bytes = rest;
    }
    let mut first = Offset(0);
    let block = |(received_at, data, ends): (Timestamp, Vec<u8>, Vec<u32>)| {
        let block = RecordBlock { records: Records::new(data.into(), ends), first, received_at };
        first = first.plus(block.records.len() as u64);
        block
    };
    blocks.into_iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_with_their_arrival() {
        let record = |at, data: &'static [u8]| Quarantined {
            source: uuid::Uuid::nil(),
            offset: Offset(9),
            received_at: Timestamp(at),
            data: Bytes::from_static(data),
        };
        let mut bytes = Vec::new();
        for record in [record(5, b"a"), record(5, b""), record(7, b"bc")] {
            push(&mut bytes, &record);
        }
        let blocks = blocks(&bytes);
        let seen: Vec<_> = blocks
            .iter()
            .flat_map(|block| block.records.iter().map(|data| (block.received_at.micros(), data)))
            .collect();
        assert_eq!(seen, [(5, &b"a"[..]), (5, b""), (7, b"bc")]);
        assert_eq!(blocks[1].first, Offset(2));
    }
}
