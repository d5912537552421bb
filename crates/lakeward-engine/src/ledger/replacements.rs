//! Replacements: runs that take slices again and then remove what a pipeline
//! had delivered of them before.
//!
//! What is replaced is found once, before the first slice is taken, and stays
//! as it was found. It is forgotten when its run ends.
//!
//! | table              | key                   | value |
//! |--------------------|-----------------------|-------|
//! | `replacements`     | run                   | [`Replacement`] |
//! | `replaced_batches` | run, first offset     | nothing: the batch is to be replaced |
//! | `replaced_slices`  | run, slice's name     | 1 if the run did not ask for it, else 0; its date (µs since 1970, 8 bytes; the least number if it has none); then the ids that it had, 16 bytes each; little-endian |

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Bound;

use lakeward_model::{Offset, SliceId, Timestamp};
use redb::{ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::runs::{RunSlice, RunSliceState};
use super::slices::SliceRecord;
use super::{BATCHES, BatchRecord, Ledger, LedgerError, parse, render};
use super::{replays, runs, slice_counts, slices};

/// Most slices that a stream may have for one of its pipelines to be replaced
/// in parts.
pub const SLICES_MAX: usize = 1_000_000;
/// Most batches that one run replaces.
pub const BATCHES_MAX: usize = 100_000;
/// The bytes before the ids of a slice.
const HEAD: usize = 9;
/// The bytes of an id.
const ID: usize = 16;

const REPLACEMENTS: TableDefinition<'static, u128, &'static [u8]> = TableDefinition::new("replacements");
const OLD_BATCHES: TableDefinition<'static, (u128, u64), ()> = TableDefinition::new("replaced_batches");
const OLD_SLICES: TableDefinition<'static, (u128, &'static str), &'static [u8]> =
    TableDefinition::new("replaced_slices");

/// A replacement that is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// The pipeline.
    pub pipeline: String,
    /// The incarnation of its stream.
    pub incarnation: Uuid,
    /// Where its files lie: the destination's name.
    pub destination: String,
    /// Whether the new files count and the old ones are being removed.
    pub removing: bool,
}

/// Every slice of a stream that the ledger knows.
#[derive(Debug, Default)]
pub struct KnownSlices {
    names: Vec<String>,
    dates: Vec<Option<Timestamp>>,
    by_name: HashMap<String, u32>,
    ids: HashMap<u128, u32>,
    /// Names of those of which only the first records are taken, and the rest
    /// would be taken behind them.
    cut: HashSet<u32>,
}

/// What is to be replaced.
#[derive(Debug, Default)]
pub struct Found {
    /// The first offsets of the batches.
    pub batches: Vec<Offset>,
    /// The slices, with their ids.
    pub slices: Vec<(OldSlice, Vec<SliceId>)>,
}

/// A slice that is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldSlice {
    /// Its name.
    pub name: String,
    /// Its date, if it has one.
    pub date: Option<Timestamp>,
    /// Whether the run did not ask for it.
    pub widened: bool,
}

/// What came of looking for it.
#[derive(Debug)]
pub enum Search {
    /// This is to be replaced.
    Found(Found),
    /// Some of what is to be replaced is still being taken: look again later.
    Unsettled,
    /// It cannot be replaced.
    Impossible(String),
}

/// What a run did of one that it had to take.
fn is_taken(line: &RunSlice) -> bool {
    matches!(line.state, RunSliceState::Exported | RunSliceState::Empty)
}

pub(super) fn make_tables(write: &WriteTransaction) -> Result<(), LedgerError> {
    write.open_table(REPLACEMENTS)?;
    write.open_table(OLD_BATCHES)?;
    write.open_table(OLD_SLICES)?;
    Ok(())
}

/// Forgets a run's replacement.
pub(super) fn forget(write: &WriteTransaction, run: Uuid) -> Result<(), LedgerError> {
    let run = run.as_u128();
    let next = run.saturating_add(1);
    write.open_table(REPLACEMENTS)?.remove(run)?;
    write.open_table(OLD_BATCHES)?.retain_in((run, 0)..=(run, u64::MAX), |_, ()| false)?;
    write.open_table(OLD_SLICES)?.retain_in::<(u128, &str), _>((run, "")..(next, ""), |_, _| false)?;
    Ok(())
}

/// Forgets what is replaced of a pipeline that is removed: one of the same name
/// may deliver other batches in their places.
pub(super) fn forget_pipeline(write: &WriteTransaction, name: &str) -> Result<(), LedgerError> {
    let mut its = Vec::new();
    for entry in write.open_table(REPLACEMENTS)?.iter()? {
        let (run, value) = entry?;
        if parse::<Replacement>("replacements", value.value())?.pipeline == name {
            its.push(Uuid::from_u128(run.value()));
        }
    }
    its.into_iter().try_for_each(|run| forget(write, run))
}

/// Whether a batch of the stream is about to be replaced: then its quarantine
/// is, too, and nothing leaves that any more.
pub(super) fn holds(
    write: &WriteTransaction,
    pipeline: &str,
    incarnation: Uuid,
    from: u64,
) -> Result<bool, LedgerError> {
    let batches = write.open_table(OLD_BATCHES)?;
    for entry in write.open_table(REPLACEMENTS)?.iter()? {
        let (run, value) = entry?;
        let replacement: Replacement = parse("replacements", value.value())?;
        let is_its = replacement.pipeline == pipeline && replacement.incarnation == incarnation;
        if is_its && batches.get((run.value(), from))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Sets of slices that share batches.
struct Shares(Vec<u32>);

impl Shares {
    fn root(&mut self, mut at: u32) -> u32 {
        while self.0[at as usize] != at {
            let above = self.0[self.0[at as usize] as usize];
            self.0[at as usize] = above;
            at = above;
        }
        at
    }

    fn join(&mut self, one: u32, other: u32) {
        let (one, other) = (self.root(one), self.root(other));
        self.0[one.max(other) as usize] = one.min(other);
    }
}

impl Ledger {
    /// Every slice of a stream that was taken or set aside; `None` if there are
    /// more than [`SLICES_MAX`].
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn known_slices(&self, incarnation: Uuid) -> Result<Option<KnownSlices>, LedgerError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(slices::SLICES)?;
        let stream = incarnation.as_u128();
        let mut known = KnownSlices::default();
        for entry in
            table.range::<(u128, &str, u128)>((Bound::Included((stream, "", 0)), Bound::Unbounded))?
        {
            let (key, value) = entry?;
            let (of, name, id) = key.value();
            if of != stream {
                break;
            }
            if known.ids.len() == SLICES_MAX {
                return Ok(None);
            }
            let record: SliceRecord = parse("slices", value.value())?;
            if record.set_aside.is_some() && record.records == 0 {
                // No batch has anything of it; a run tries it again.
                continue;
            }
            // They are sorted by name.
            if known.names.last().is_none_or(|last| last != name) {
                let index = u32::try_from(known.names.len()).expect("far fewer");
                known.names.push(name.to_string());
                known.dates.push(record.slice.date);
                known.by_name.insert(name.to_string(), index);
            }
            let index = u32::try_from(known.names.len() - 1).expect("far fewer");
            known.ids.insert(id, index);
            let is_own = record.slice.id(Uuid::nil()).0 == id;
            if is_own && record.set_aside.is_some() {
                known.cut.insert(index);
            }
        }
        Ok(Some(known))
    }

    /// Finds what is replaced if these slices, by name, are taken again: all
    /// batches that have records of them, all slices that those batches have
    /// records of, and so on. `known` must be older than `delivered`: all
    /// that was in the stream when it was made is settled in the pipeline.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn find_replaced(
        &self,
        replacement: &Replacement,
        wanted: &BTreeSet<String>,
        known: &KnownSlices,
    ) -> Result<Search, LedgerError> {
        let read = self.database.begin_read()?;
        let of_batches = read.open_table(slice_counts::OF_BATCH)?;
        let (pipeline, stream) = (replacement.pipeline.as_str(), replacement.incarnation.as_u128());
        let every = (pipeline, stream, 0)..=(pipeline, stream, u64::MAX);
        let count = u32::try_from(known.names.len()).expect("far fewer");
        let mut shares = Shares((0..count).collect());
        for entry in of_batches.range(every.clone())? {
            let (_, ids) = entry?;
            let mut first = None;
            for index in ids_of(ids.value()).filter_map(|id| known.ids.get(&id.0).copied()) {
                shares.join(*first.get_or_insert(index), index);
            }
        }
        let asked: HashSet<u32> = wanted.iter().filter_map(|name| known.by_name.get(name).copied()).collect();
        let roots: HashSet<u32> = asked.iter().map(|index| shares.root(*index)).collect();
        let mut found = Found::default();
        let mut settled = 0_u64;
        let batches = read.open_table(BATCHES)?;
        for entry in of_batches.range(every)? {
            let (key, ids) = entry?;
            let (mut is_old, mut is_known) = (false, true);
            for id in ids_of(ids.value()) {
                match known.ids.get(&id.0) {
                    Some(index) => is_old |= roots.contains(&shares.root(*index)),
                    None => is_known = false,
                }
            }
            if !is_old {
                continue;
            }
            if !is_known {
                return Ok(Search::Unsettled);
            }
            if found.batches.len() == BATCHES_MAX {
                let said = format!("it would replace more than {BATCHES_MAX} batches: choose less");
                return Ok(Search::Impossible(said));
            }
            let Some(value) = batches.get(key.value())? else { continue };
            let record: BatchRecord = parse("batches", value.value())?;
            if let Some(said) = hindrance(&read, replacement, &record)? {
                return Ok(Search::Impossible(said));
            }
            settled += record.counts.settled();
            found.batches.push(record.span.from);
        }
        let mut ids: HashMap<u32, Vec<SliceId>> = HashMap::new();
        for (id, index) in &known.ids {
            if roots.contains(&shares.root(*index)) {
                ids.entry(*index).or_default().push(SliceId(*id));
            }
        }
        let counts = read.open_table(slice_counts::COUNTS)?;
        let mut counted = 0_u64;
        for (index, ids) in ids {
            let name = &known.names[index as usize];
            if known.cut.contains(&index) {
                return Ok(Search::Impossible(format!(
                    "{name} is set aside after its first records: mend it and take it with `lakeward pull`, or leave it out"
                )));
            }
            for id in &ids {
                let stored = counts.get((pipeline, id.0))?;
                counted += stored.map_or(0, |stored| slice_counts::read_counts(stored.value()).records());
            }
            let (name, date) = (name.clone(), known.dates[index as usize]);
            found.slices.push((OldSlice { name, date, widened: !asked.contains(&index) }, ids));
        }
        if counted != settled {
            return Ok(Search::Impossible(String::from(
                "files of these slices also hold records that did not come in slices and could not be taken again",
            )));
        }
        Ok(Search::Found(found))
    }

    /// Makes durable what a run replaces, unless some of it left quarantine
    /// since it was found: then it is looked for again, and this is `false`.
    ///
    /// # Errors
    /// See [`LedgerError`]; nothing changed.
    pub fn begin_replacement(
        &self,
        run: Uuid,
        replacement: &Replacement,
        found: &Found,
    ) -> Result<bool, LedgerError> {
        let run = run.as_u128();
        let mut is_same = true;
        self.write(|write| {
            for from in &found.batches {
                let of = (&replacement.pipeline, replacement.incarnation);
                is_same &= !replays::left_since(write, of.0, of.1, *from)?;
            }
            if !is_same {
                return Ok(());
            }
            let value = render("replacements", replacement)?;
            write.open_table(REPLACEMENTS)?.insert(run, value.as_slice())?;
            let mut batches = write.open_table(OLD_BATCHES)?;
            for from in &found.batches {
                batches.insert((run, from.0), ())?;
            }
            let mut slices = write.open_table(OLD_SLICES)?;
            for (OldSlice { name, date, widened }, ids) in &found.slices {
                let mut value = Vec::with_capacity(HEAD + ids.len() * ID);
                value.push(u8::from(*widened));
                value.extend_from_slice(&date.map_or(i64::MIN, |date| date.0).to_le_bytes());
                ids.iter().for_each(|id| value.extend_from_slice(&id.0.to_le_bytes()));
                slices.insert((run, name.as_str()), value.as_slice())?;
            }
            Ok(())
        })?;
        Ok(is_same)
    }

    /// A run's replacement, if it has begun.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn replacement(&self, run: Uuid) -> Result<Option<Replacement>, LedgerError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(REPLACEMENTS)?;
        table.get(run.as_u128())?.map(|value| parse("replacements", value.value())).transpose()
    }

    /// Up to `limit` slices that a run takes without having been
    /// asked, those behind the name `after`.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn widened(
        &self,
        run: Uuid,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<OldSlice>, LedgerError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(OLD_SLICES)?;
        let run = run.as_u128();
        let start = match after {
            Some(name) => Bound::Excluded((run, name)),
            None => Bound::Included((run, "")),
        };
        let mut slices = Vec::new();
        for entry in table.range::<(u128, &str)>((start, Bound::Unbounded))? {
            let (key, value) = entry?;
            let (of, name) = key.value();
            if of != run || slices.len() == limit {
                break;
            }
            if let Some(([1, date @ ..], _)) = value.value().split_first_chunk::<HEAD>() {
                let date = Some(i64::from_le_bytes(*date)).filter(|date| *date != i64::MIN).map(Timestamp);
                slices.push(OldSlice { name: name.to_string(), date, widened: true });
            }
        }
        Ok(slices)
    }

    /// The ids that slices of these names had when a run's replacement began,
    /// in their order; none for one that it does not replace.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn replaced_ids<'a>(
        &self,
        run: Uuid,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<Vec<SliceId>>, LedgerError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(OLD_SLICES)?;
        let ids = |name: &'a str| {
            let value = table.get((run.as_u128(), name))?;
            Ok(value.map_or_else(Vec::new, |value| {
                ids_of(value.value().get(HEAD..).unwrap_or_default()).collect()
            }))
        };
        names.into_iter().map(ids).collect()
    }

    /// Why what a run took cannot stand for what it replaces, if that is so.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn lacks_of_replacement(&self, run: Uuid) -> Result<Option<String>, LedgerError> {
        let read = self.database.begin_read()?;
        let lines = read.open_table(runs::RUN_SLICES)?;
        let (of, next) = (run.as_u128(), run.as_u128().saturating_add(1));
        let mut taken = HashSet::new();
        for entry in lines.range::<(u128, &str, u128)>((of, "", 0)..(next, "", 0))? {
            let (key, value) = entry?;
            let line: RunSlice = parse("run_slices", value.value())?;
            if line.state == RunSliceState::Failed {
                let reason = line.reason.unwrap_or_default();
                return Ok(Some(format!("{} could not be taken: {reason}", line.name)));
            }
            if is_taken(&line) {
                taken.insert(key.value().1.to_string());
            }
        }
        for entry in read.open_table(OLD_SLICES)?.range::<(u128, &str)>((of, "")..(next, ""))? {
            let (key, _) = entry?;
            let name = key.value().1;
            if !taken.contains(name) {
                return Ok(Some(format!("{name} is not at the source any more")));
            }
        }
        Ok(None)
    }

    /// From now on the new files count: notes in the old batches that they are
    /// replaced, and counts what was taken instead of them. A second time
    /// changes nothing. `false` if the replacement is forgotten, since the
    /// pipeline was removed.
    ///
    /// # Errors
    /// See [`LedgerError`]; nothing changed.
    pub fn replace_batches(&self, run: Uuid, replacement: &Replacement) -> Result<bool, LedgerError> {
        let mut is_known = true;
        let (pipeline, stream) = (replacement.pipeline.as_str(), replacement.incarnation.as_u128());
        let (of, next) = (run.as_u128(), run.as_u128().saturating_add(1));
        self.write(|write| {
            let known = {
                let table = write.open_table(REPLACEMENTS)?;
                let known = table.get(of)?.map(|value| parse::<Replacement>("replacements", value.value()));
                known.transpose()?
            };
            is_known = known.is_some();
            if known.is_none_or(|known| known.removing) {
                // It was done, and the answer was lost.
                return Ok(());
            }
            let mut batches = write.open_table(BATCHES)?;
            let mut of_batches = write.open_table(slice_counts::OF_BATCH)?;
            for entry in write.open_table(OLD_BATCHES)?.range((of, 0)..=(of, u64::MAX))? {
                let key = (pipeline, stream, entry?.0.value().1);
                let Some(mut record) = batches
                    .get(key)?
                    .map(|value| parse::<BatchRecord>("batches", value.value()))
                    .transpose()?
                else {
                    continue;
                };
                record.replaced_by = Some(run);
                batches.insert(key, render("batches", &record)?.as_slice())?;
                of_batches.remove(key)?;
            }
            let mut counts = write.open_table(slice_counts::COUNTS)?;
            for entry in write.open_table(OLD_SLICES)?.range::<(u128, &str)>((of, "")..(next, ""))? {
                let (_, ids) = entry?;
                for id in ids_of(ids.value().get(HEAD..).unwrap_or_default()) {
                    counts.remove((pipeline, id.0))?;
                }
            }
            let removing = Replacement { removing: true, ..replacement.clone() };
            let value = render("replacements", &removing)?;
            write.open_table(REPLACEMENTS)?.insert(of, value.as_slice())?;
            Ok(())
        })?;
        Ok(is_known)
    }

    /// Up to `limit` batches that a run replaces, those whose first offset is
    /// at or behind `from`.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn replaced_batches(
        &self,
        run: Uuid,
        replacement: &Replacement,
        from: Offset,
        limit: usize,
    ) -> Result<Vec<BatchRecord>, LedgerError> {
        let read = self.database.begin_read()?;
        let (pipeline, stream) = (replacement.pipeline.as_str(), replacement.incarnation.as_u128());
        let batches = read.open_table(BATCHES)?;
        let mut found = Vec::new();
        let run = run.as_u128();
        for entry in read.open_table(OLD_BATCHES)?.range((run, from.0)..=(run, u64::MAX))?.take(limit) {
            if let Some(value) = batches.get((pipeline, stream, entry?.0.value().1))? {
                found.push(parse("batches", value.value())?);
            }
        }
        Ok(found)
    }
}

/// Why this batch cannot be replaced.
fn hindrance(
    read: &ReadTransaction,
    replacement: &Replacement,
    record: &BatchRecord,
) -> Result<Option<String>, LedgerError> {
    if record.destination != replacement.destination {
        return Ok(Some(format!(
            "some of it was delivered to {}, which is not the pipeline's destination any more",
            record.destination
        )));
    }
    if record.counts.quarantined == 0 {
        return Ok(None);
    }
    let left = replays::left_of(read, &record.pipeline, record.incarnation, record.span.from)?;
    Ok((left > 0).then(|| {
        String::from("records of it left quarantine and were delivered again, in files that hold no slices")
    }))
}

fn ids_of(stored: &[u8]) -> impl Iterator<Item = SliceId> {
    let (ids, _) = stored.as_chunks::<ID>();
    ids.iter().map(|id| SliceId(u128::from_le_bytes(*id)))
}
