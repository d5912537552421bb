//! Which slices of a source are taken. A slice is there once it is durable in
//! the journal as a whole, or set aside; what is under way is in the cursor.
//!
//! | table          | key                                  | value |
//! |----------------|--------------------------------------|-------|
//! | `slices`       | incarnation of the stream, slice's name, slice's id | [`SliceRecord`] |
//! | `slice_totals` | incarnation of the stream            | [`SliceTotals`] |
//! | `looks`        | source                               | when it last began to look, µs since 1970 |

use lakeward_model::{Slice, SliceId, Timestamp};
use redb::{ReadableDatabase, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::runs::{self, RunSlice};
use super::{Ledger, LedgerError, parse, render};

pub(super) type Slices = TableDefinition<'static, (u128, &'static str, u128), &'static [u8]>;
pub(super) const SLICES: Slices = TableDefinition::new("slices");
const TOTALS: TableDefinition<'static, u128, &'static [u8]> = TableDefinition::new("slice_totals");
const LOOKS: TableDefinition<'static, &'static str, i64> = TableDefinition::new("looks");

/// A slice that is taken, or set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceRecord {
    /// The slice.
    pub slice: Slice,
    /// Its records in the journal.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When it was taken or set aside.
    pub taken_at: Timestamp,
    /// The run that it was taken for, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Uuid>,
    /// Why it was set aside, if it was; then only its first records are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_aside: Option<String>,
    /// How many of its chunks are in the journal.
    pub chunks: u64,
    /// Where a slice that was set aside goes on when it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Vec<u8>>,
}

/// How many slices of a stream there are in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SliceTotals {
    /// Those taken.
    pub taken: u64,
    /// Those set aside.
    pub set_aside: u64,
}

impl SliceTotals {
    fn of(&mut self, record: &SliceRecord) -> &mut u64 {
        if record.set_aside.is_some() { &mut self.set_aside } else { &mut self.taken }
    }
}

/// A slice that is done with, and what a run is told of it.
#[derive(Debug, Clone)]
pub struct Settled {
    /// Its id.
    pub id: SliceId,
    /// What is kept of it; nothing if it is gone and nothing of it was taken.
    pub record: Option<SliceRecord>,
    /// The run that it is of, and its line there.
    pub told: Option<(Uuid, RunSlice)>,
}

pub(super) fn make_tables(write: &WriteTransaction) -> Result<(), LedgerError> {
    write.open_table(SLICES)?;
    write.open_table(TOTALS)?;
    write.open_table(LOOKS)?;
    Ok(())
}

impl Ledger {
    /// What there is under each of these names, in their order: every version,
    /// and every time that one was taken again.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn slices_named<'a>(
        &self,
        incarnation: Uuid,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<Vec<(SliceId, SliceRecord)>>, LedgerError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(SLICES)?;
        let stream = incarnation.as_u128();
        let under = |name: &'a str| {
            table
                .range((stream, name, 0)..=(stream, name, u128::MAX))?
                .map(|entry| {
                    let (key, value) = entry?;
                    Ok((SliceId(key.value().2), parse("slices", value.value())?))
                })
                .collect()
        };
        names.into_iter().map(under).collect()
    }

    /// One slice, if it was taken or set aside.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn slice(
        &self,
        incarnation: Uuid,
        name: &str,
        id: SliceId,
    ) -> Result<Option<SliceRecord>, LedgerError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(SLICES)?;
        table
            .get((incarnation.as_u128(), name, id.0))?
            .map(|value| parse("slices", value.value()))
            .transpose()
    }

    /// Goes through the slices of a stream whose names start with `prefix`, in
    /// the order of the names, until `look` finds something.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn find_slice<T>(
        &self,
        incarnation: Uuid,
        prefix: &str,
        mut look: impl FnMut(SliceId, &SliceRecord) -> Result<Option<T>, LedgerError>,
    ) -> Result<Option<T>, LedgerError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(SLICES)?;
        let stream = incarnation.as_u128();
        for entry in table.range::<(u128, &str, u128)>((stream, prefix, 0)..)? {
            let (key, value) = entry?;
            let (of, name, id) = key.value();
            if of != stream || !name.starts_with(prefix) {
                break;
            }
            let found = look(SliceId(id), &parse("slices", value.value())?)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// How many there are.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn slice_totals(&self, incarnation: Uuid) -> Result<SliceTotals, LedgerError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(TOTALS)?;
        let known = table.get(incarnation.as_u128())?.map(|value| parse("slice_totals", value.value()));
        Ok(known.transpose()?.unwrap_or_default())
    }

    /// Notes slices that are done with; answers how many there are now.
    ///
    /// # Errors
    /// See [`LedgerError`]; nothing changed.
    pub fn settle_slices(&self, incarnation: Uuid, settled: &[Settled]) -> Result<SliceTotals, LedgerError> {
        let stream = incarnation.as_u128();
        let mut totals = self.slice_totals(incarnation)?;
        self.write(|write| {
            let mut slices = write.open_table(SLICES)?;
            for Settled { id, record, .. } in settled {
                let Some(record) = record else { continue };
                let value = render("slices", record)?;
                let key = (stream, record.slice.name.as_str(), id.0);
                if let Some(before) = slices.insert(key, value.as_slice())? {
                    *totals.of(&parse("slices", before.value())?) -= 1;
                }
                *totals.of(record) += 1;
            }
            let value = render("slice_totals", &totals)?;
            write.open_table(TOTALS)?.insert(stream, value.as_slice())?;
            runs::put_slices(write, settled.iter().filter_map(|settled| settled.told.as_ref()))
        })?;
        Ok(totals)
    }

    /// When the source last began to look by itself.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn looked_at(&self, source: &str) -> Result<Option<Timestamp>, LedgerError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(LOOKS)?;
        Ok(table.get(source)?.map(|at| Timestamp(at.value())))
    }

    /// Notes when the source last began to look by itself.
    ///
    /// # Errors
    /// See [`LedgerError`]; nothing changed.
    pub fn set_looked_at(&self, source: &str, at: Timestamp) -> Result<(), LedgerError> {
        self.write(|write| {
            write.open_table(LOOKS)?.insert(source, at.0)?;
            Ok(())
        })
    }
}
