//! Runs: what somebody asked a source to take or to count. They survive a
//! restart; one that was not finished is begun again, and what it took already
//! is known from its slices.
//!
//! | table        | key                       | value |
//! |--------------|---------------------------|-------|
//! | `runs`       | run                       | [`Run`] |
//! | `run_slices` | run, slice's name, slice's id | [`RunSlice`] |

use std::collections::BTreeMap;
use std::ops::Bound;

use lakeward_model::{Offset, SliceId, Timestamp, Wanted};
use redb::{ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Ledger, LedgerError, parse, render, replacements};
use crate::instant;

const RUNS: TableDefinition<'static, u128, &'static [u8]> = TableDefinition::new("runs");
pub(super) type Slices = TableDefinition<'static, (u128, &'static str, u128), &'static [u8]>;
pub(super) const RUN_SLICES: Slices = TableDefinition::new("run_slices");
/// Ended runs that are kept; the oldest go first.
const ENDED_MAX: usize = 500;

/// What a run is asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// To take or to count.
    pub kind: RunKind,
    /// Which slices.
    #[serde(default)]
    pub wanted: Asked,
    /// Whether slices that are taken are taken once more. Their records get
    /// another place in the stream; a pipeline with dedup drops those that it
    /// has.
    #[serde(default)]
    pub again: bool,
    /// The pipeline whose files of these slices are replaced by what is taken
    /// again.
    #[serde(default)]
    pub replace: Option<String>,
}

/// What is done with slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// Their records are taken.
    Take,
    /// They are read and counted, and nothing is taken.
    Count,
}

/// [`Wanted`] with its instants as text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Asked {
    /// Slices whose date is at or behind this instant.
    #[serde(with = "instant::maybe", skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Slices whose date is before this instant.
    #[serde(with = "instant::maybe", skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// Slices whose name starts so.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// Slices whose name says so.
    #[serde(rename = "where", skip_serializing_if = "BTreeMap::is_empty")]
    pub captured: BTreeMap<String, String>,
}

impl Asked {
    /// What is wanted, where `otherwise` says what is left open here.
    #[must_use]
    pub fn within(&self, otherwise: &Wanted) -> Wanted {
        let mine: Vec<_> = self.captured.clone().into_iter().collect();
        Wanted {
            from: self.from.or(otherwise.from),
            to: self.to.or(otherwise.to),
            prefix: if self.prefix.is_empty() { otherwise.prefix.clone() } else { self.prefix.clone() },
            captured: if mine.is_empty() { otherwise.captured.clone() } else { mine },
        }
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub id: Uuid,
    /// The source that it is of.
    pub source: String,
    /// What it was asked.
    #[serde(flatten)]
    pub asked: RunRequest,
    /// How far it is.
    pub state: RunState,
    /// Slices that it means, as far as they are listed: the sum of the next
    /// five and of those still to come.
    pub slices: u64,
    /// Those that had been taken before it.
    #[serde(default)]
    pub slices_already: u64,
    /// Those that it took or counted and that hold records.
    pub slices_done: u64,
    /// Those that it took or counted and that are empty.
    pub slices_empty: u64,
    /// Those that cannot be had yet.
    pub slices_not_ready: u64,
    /// Those that cannot be read, and those that are gone.
    pub slices_set_aside: u64,
    /// Records that it took or counted.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes at the source of the slices that it takes, as far as they are
    /// known.
    pub expected_bytes: u64,
    /// Why it failed, if it did.
    pub error: Option<RunError>,
    /// Failures of the source since it began.
    pub attempts: u32,
    /// What the source said last, also if that is mended.
    pub last_error: Option<String>,
    /// When it was asked for.
    #[serde(with = "instant")]
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(with = "instant::maybe")]
    pub ended_at: Option<Timestamp>,
    /// Whether all that is in the stream at its end is settled in every
    /// pipeline of the stream.
    #[serde(default)]
    pub delivered: bool,
    /// The end of the stream when it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_end: Option<StreamEnd>,
}

/// A place in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEnd {
    /// The stream's incarnation.
    pub incarnation: Uuid,
    /// One past the last record.
    pub offset: Offset,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It waits for its turn.
    Waiting,
    /// Its slices are listed, and the first ones taken.
    Listing,
    /// All its slices are known.
    Taking,
    /// Everything that it means is taken, not ready or set aside.
    Done,
    /// It ended before that; see [`Run::error`].
    Failed,
    /// Somebody ended it.
    Cancelled,
}

impl RunState {
    /// Whether nothing more comes of it.
    #[must_use]
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunError {
    /// In a word.
    pub kind: RunErrorKind,
    /// For people.
    pub message: String,
}

/// Why a run failed, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunErrorKind {
    /// The source refuses: no permission, a wrong name.
    Refused,
    /// The source cannot be had.
    Unavailable,
    /// What it holds cannot be read.
    Data,
}

/// What became of a slice in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSlice {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: SliceId,
    /// What became of it.
    pub state: RunSliceState,
    /// Its records.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Why it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What became of a slice in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunSliceState {
    /// Its records are taken.
    Exported,
    /// It holds none.
    Empty,
    /// It cannot be had yet.
    NotReady,
    /// It cannot be read, or is gone.
    Failed,
    /// Its records are counted.
    Counted,
}

impl Run {
    /// A run that begins now.
    #[must_use]
    pub fn new(id: Uuid, source: &str, asked: RunRequest, now: Timestamp) -> Self {
        Self {
            id,
            source: source.to_string(),
            asked,
            state: RunState::Waiting,
            slices: 0,
            slices_already: 0,
            slices_done: 0,
            slices_empty: 0,
            slices_not_ready: 0,
            slices_set_aside: 0,
            records: 0,
            bytes: 0,
            expected_bytes: 0,
            error: None,
            attempts: 0,
            last_error: None,
            started_at: now,
            ended_at: None,
            delivered: false,
            stream_end: None,
        }
    }

    /// Back to its beginning: what it did is counted anew from its slices.
    pub(crate) fn begin(&mut self) {
        let asked = self.asked.clone();
        let fresh = Self::new(self.id, &self.source, asked, self.started_at);
        *self = Self {
            state: RunState::Listing,
            attempts: self.attempts,
            last_error: self.last_error.take(),
            ..fresh
        };
    }

    /// Counts a slice that is done with.
    pub(crate) fn count(&mut self, slice: &RunSlice) {
        match slice.state {
            RunSliceState::Exported => self.slices_done += 1,
            RunSliceState::Counted if slice.records > 0 => self.slices_done += 1,
            RunSliceState::Counted | RunSliceState::Empty => self.slices_empty += 1,
            RunSliceState::NotReady => self.slices_not_ready += 1,
            RunSliceState::Failed => self.slices_set_aside += 1,
        }
        self.records += slice.records;
        self.bytes += slice.bytes;
    }
}

pub(super) fn make_tables(write: &WriteTransaction) -> Result<(), LedgerError> {
    write.open_table(RUNS)?;
    write.open_table(RUN_SLICES)?;
    Ok(())
}

/// Notes what became of slices of runs.
pub(super) fn put_slices<'a>(
    write: &WriteTransaction,
    slices: impl Iterator<Item = &'a (Uuid, RunSlice)>,
) -> Result<(), LedgerError> {
    let mut table = write.open_table(RUN_SLICES)?;
    for (run, slice) in slices {
        let value = render("run_slices", slice)?;
        table.insert((run.as_u128(), slice.name.as_str(), slice.id.0), value.as_slice())?;
    }
    Ok(())
}

impl Ledger {
    /// All runs that are kept, the newest first.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn runs(&self) -> Result<Vec<Run>, LedgerError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(RUNS)?;
        let all: Result<Vec<Run>, LedgerError> =
            table.iter()?.map(|entry| parse("runs", entry?.1.value())).collect();
        let mut all = all?;
        all.sort_by_key(|run| (std::cmp::Reverse(run.started_at), run.id));
        Ok(all)
    }

    /// A run, if it is kept.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn run(&self, id: Uuid) -> Result<Option<Run>, LedgerError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(RUNS)?;
        table.get(id.as_u128())?.map(|value| parse("runs", value.value())).transpose()
    }

    /// Stores a run. The oldest ended ones make room.
    ///
    /// # Errors
    /// See [`LedgerError`]; nothing changed.
    pub fn put_run(&self, run: &Run) -> Result<(), LedgerError> {
        let mut ended: Vec<Run> = self.runs()?.into_iter().filter(|run| run.state.is_ended()).collect();
        let oldest = ended.split_off(ended.len().min(ENDED_MAX));
        self.write(|write| {
            let mut runs = write.open_table(RUNS)?;
            let mut slices = write.open_table(RUN_SLICES)?;
            for old in oldest {
                let id = old.id.as_u128();
                runs.remove(id)?;
                slices.retain_in::<(u128, &str, u128), _>(
                    (id, "", 0)..(id.saturating_add(1), "", 0),
                    |_, _| false,
                )?;
            }
            let value = render("runs", run)?;
            runs.insert(run.id.as_u128(), value.as_slice())?;
            if run.asked.replace.is_some() && run.state.is_ended() {
                replacements::forget(write, run.id)?;
            }
            Ok(())
        })
    }

    /// Notes what became of slices of a run.
    ///
    /// # Errors
    /// See [`LedgerError`]; nothing changed.
    pub fn put_run_slices(&self, slices: &[(Uuid, RunSlice)]) -> Result<(), LedgerError> {
        if slices.is_empty() {
            return Ok(());
        }
        self.write(|write| put_slices(write, slices.iter()))
    }

    /// What became of the slice of this name and id in the run.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn run_slice(&self, run: Uuid, name: &str, id: SliceId) -> Result<Option<RunSlice>, LedgerError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(RUN_SLICES)?;
        table.get((run.as_u128(), name, id.0))?.map(|value| parse("run_slices", value.value())).transpose()
    }

    /// About `limit` slices of a run in the order of their names, those behind
    /// the name `after`: all that have the last one's name, too, so that the
    /// next part can begin behind it.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn run_slices(
        &self,
        run: Uuid,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<RunSlice>, LedgerError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(RUN_SLICES)?;
        let run = run.as_u128();
        let start = match after {
            Some(name) => Bound::Excluded((run, name, u128::MAX)),
            None => Bound::Included((run, "", 0)),
        };
        let mut found: Vec<RunSlice> = Vec::new();
        for entry in table.range::<(u128, &str, u128)>((start, Bound::Unbounded))? {
            let (key, value) = entry?;
            let (of, name, _) = key.value();
            let is_next = found.last().is_none_or(|last| last.name != name);
            if of != run || found.len() >= limit && is_next {
                break;
            }
            found.push(parse("run_slices", value.value())?);
        }
        Ok(found)
    }
}
