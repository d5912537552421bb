//! From the rows of the records to the rows of the files: transformed, fitted
//! to the columns, without duplicates.

use std::borrow::Cow;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{filter_record_batch, take};

use super::arrive::Arrived;
use super::{BuildError, Input, Refused, Schemas, ShapeError};
use crate::decode::Decoded;
use crate::dedup::{Key, KeyTimes, Seen, SeenError, row_keys};
use crate::fit::{FitOptions, fit};
use crate::process::{Reason, Stage};
use crate::schema::{RESCUED, TableSchema};
use crate::shape::{DedupKey, OnMismatch, Shape};
use crate::transform::Pinned;

/// The rows of the files.
pub(super) struct Shaped {
    pub(super) rows: RecordBatch,
    /// For each row its piece.
    pub(super) pieces: Vec<u32>,
    /// For each row its record, ascending.
    pub(super) records: Vec<u32>,
    pub(super) schemas: Option<Schemas>,
    /// Values in `_rescued`.
    pub(super) rescued: u64,
    /// The keys of the rows that are no duplicates.
    pub(super) keys: Vec<Key>,
    /// Records of which only duplicates were left, ascending.
    pub(super) duplicates: Vec<u32>,
}

/// Makes the rows of the files.
pub(super) fn shape<E: std::error::Error + 'static>(
    input: &Input<'_>,
    decoded: Decoded,
    arrived: &mut Arrived,
) -> Result<Shaped, BuildError<E>> {
    let mut rescued = decoded.rescued;
    arrived.fail_late(refused(input, arrived));
    let mut shaping =
        Shaping { input, rows: decoded.rows, pieces: decoded.row_records, arrived, is_changed: false };
    if rescued > 0 {
        shaping.refuse_mismatches(None)?;
    }
    let schemas = match input.sql {
        None => {
            let changed = decoded.schema.version != input.schemas.table.version;
            changed.then(|| Schemas { table: decoded.schema, input: input.schemas.input.clone() })
        }
        Some(_) => shaping.transform(decoded.schema)?,
    };
    shaping.remove_failed()?;
    let (keys, duplicates) = shaping.remove_duplicates()?;
    if shaping.is_changed && rescued > 0 || input.sql.is_some() {
        rescued = count_rescued(&shaping.rows);
    }
    let Shaping { rows, pieces, .. } = shaping;
    let records = pieces.iter().map(|&piece| arrived.record_of(piece)).collect();
    Ok(Shaped { rows, pieces, records, schemas, rescued, keys, duplicates })
}

/// The records that the destination will never take, by their index.
fn refused(input: &Input<'_>, arrived: &Arrived) -> Vec<(u32, Reason)> {
    let failed = |refused: &Refused| {
        let record = refused.offset.0.checked_sub(arrived.first.0).filter(|at| *at < arrived.records)?;
        let reason = Reason {
            stage: Stage::Conversion,
            code: Cow::Borrowed("destination.refused"),
            message: refused.message.clone(),
            attempts: 1,
        };
        Some((u32::try_from(record).ok()?, reason))
    };
    input.refused.iter().filter_map(failed).collect()
}

struct Shaping<'a, 'b> {
    input: &'a Input<'a>,
    rows: RecordBatch,
    /// For each row its piece.
    pieces: Vec<u32>,
    arrived: &'b mut Arrived,
    /// Whether rows were removed.
    is_changed: bool,
}

impl Shaping<'_, '_> {
    /// Does what the pipeline wants done about rows with values that fit no
    /// column: `misfits`, or those with anything in `_rescued`.
    fn refuse_mismatches(&mut self, misfits: Option<&[u32]>) -> Result<(), ShapeError> {
        let on_mismatch = self.input.shape.on_mismatch;
        let Some(rescued) = rescued_of(&self.rows).filter(|_| on_mismatch != OnMismatch::Rescue) else {
            return Ok(());
        };
        let misfits: Vec<usize> = match misfits {
            Some(rows) => rows.iter().map(|&row| row as usize).collect(),
            None => (0..rescued.len()).filter(|&row| rescued.is_valid(row)).collect(),
        };
        let reason = |row: usize| Reason {
            stage: Stage::Conversion,
            code: Cow::Borrowed("schema.mismatch"),
            message: format!("these values fit no column: {}", cut(rescued.value(row))),
            attempts: 1,
        };
        let failed: Vec<_> =
            misfits.into_iter().map(|row| (self.arrived.record_of(self.pieces[row]), reason(row))).collect();
        if let (OnMismatch::Fail, Some((record, reason))) = (on_mismatch, failed.first()) {
            let offset = self.arrived.offset_of(*record);
            return Err(ShapeError::Mismatch { offset, message: reason.message.clone() });
        }
        self.arrived.fail_late(failed);
        Ok(())
    }

    /// Runs the SQL, and fits what it gives to the columns of the files.
    fn transform(&mut self, mut read: TableSchema) -> Result<Option<Schemas>, ShapeError> {
        let (input, Some(sql)) = (self.input, self.input.sql) else { return Ok(None) };
        let pinned = Pinned { now: input.planned_at, batch: input.batch };
        let transformed = sql.apply(&self.rows, &pinned).map_err(ShapeError::Sql)?;
        let failed = transformed.failed.into_iter().map(|failed| {
            let reason = Reason {
                stage: Stage::Conversion,
                code: Cow::Borrowed("sql.failed"),
                message: failed.message,
                attempts: 1,
            };
            (self.arrived.record_of(self.pieces[failed.row as usize]), reason)
        });
        let failed: Vec<_> = failed.collect();
        self.arrived.fail_late(failed);
        // What fitted no column of the records must not get lost because the
        // SQL does not name `_rescued`.
        let sources = UInt32Array::from(transformed.sources);
        let rescued = rescued_of(&self.rows).map(|column| take(column, &sources, None)).transpose()?;
        let Shape { column_limit, contract, .. } = *input.shape;
        let options = FitOptions { column_limit, contract };
        let rescued = rescued.as_ref().map(|column| column.as_string::<i32>());
        let fitted = fit(&transformed.rows, rescued, &input.schemas.table, &options)?;
        self.pieces = sources.values().iter().map(|&row| self.pieces[row as usize]).collect();
        self.rows = fitted.rows;
        self.refuse_mismatches(Some(&fitted.misfits))?;
        keep_unread(&mut read, input.schemas.input.as_ref());
        let after = Schemas { table: fitted.schema, input: Some(read) };
        Ok((after != *input.schemas).then_some(after))
    }

    /// Removes the rows of records that failed.
    fn remove_failed(&mut self) -> Result<(), ShapeError> {
        let arrived = &*self.arrived;
        // Without pieces, what failed early never had a row.
        if arrived.late.is_empty() && (arrived.quarantined.is_empty() || arrived.piece_records.is_none()) {
            return Ok(());
        }
        let kept = self.pieces.iter().map(|&piece| !arrived.has_failed(arrived.record_of(piece))).collect();
        self.keep(&kept)
    }

    /// Removes duplicates: the keys of the rest, and the records that have no
    /// row left for it.
    fn remove_duplicates<E: std::error::Error + 'static>(
        &mut self,
    ) -> Result<(Vec<Key>, Vec<u32>), BuildError<E>> {
        let (Some(dedup), Some((seen, seed))) = (&self.input.shape.dedup, self.input.seen) else {
            return Ok((Vec::new(), Vec::new()));
        };
        let arrived = &*self.arrived;
        let records: Vec<u32> = self.pieces.iter().map(|&piece| arrived.record_of(piece)).collect();
        let (is_duplicate, fresh) = match &dedup.key {
            DedupKey::Columns(columns) => {
                let times = KeyTimes {
                    row_records: &records,
                    arrivals: &arrived.arrivals,
                    column: dedup.time.as_deref(),
                };
                let keys = row_keys(&self.rows, columns, &times, seed).map_err(ShapeError::Arrow)?;
                let asked: Vec<Key> = keys.iter().flatten().copied().collect();
                let answers = seen.duplicates(&asked).map_err(BuildError::Seen)?;
                let mut answer = answers.iter().copied();
                let of_row = |key: &Option<Key>| key.is_some() && answer.next() == Some(true);
                (keys.iter().map(of_row).collect(), without(asked, &answers))
            }
            DedupKey::Content => duplicates_by_content(seen, arrived, &records).map_err(BuildError::Seen)?,
        };
        if is_duplicate.iter().any(|duplicate| *duplicate) {
            self.keep(&is_duplicate.iter().map(|duplicate| !duplicate).collect())?;
        }
        Ok((fresh, only_duplicates(&records, &is_duplicate)))
    }

    fn keep(&mut self, kept: &BooleanArray) -> Result<(), ShapeError> {
        self.rows = filter_record_batch(&self.rows, kept)?;
        let mut mask = kept.values().iter();
        self.pieces.retain(|_| mask.next().unwrap_or(false));
        self.is_changed = true;
        Ok(())
    }
}

/// Of rows or pieces, whose records are `records`, which are duplicates by
/// their bytes; and the keys of the others, one for each record.
pub(super) fn duplicates_by_content(
    seen: &dyn Seen,
    arrived: &Arrived,
    records: &[u32],
) -> Result<(Vec<bool>, Vec<Key>), SeenError> {
    let parts = || records.chunk_by(|a, b| a == b);
    let asked: Vec<Key> = parts().map(|part| arrived.content_keys[part[0] as usize]).collect();
    let answers = seen.duplicates(&asked)?;
    let each = parts().zip(&answers).flat_map(|(part, &answer)| std::iter::repeat_n(answer, part.len()));
    Ok((each.collect(), without(asked, &answers)))
}

/// Of rows or pieces, whose records are `records`, ascending: the records of
/// which all are duplicates.
pub(super) fn only_duplicates(records: &[u32], is_duplicate: &[bool]) -> Vec<u32> {
    let mut all = Vec::new();
    let mut start = 0;
    for part in records.chunk_by(|a, b| a == b) {
        let end = start + part.len();
        if is_duplicate[start..end].iter().all(|duplicate| *duplicate) {
            all.push(part[0]);
        }
        start = end;
    }
    all
}

/// The keys that are no duplicates.
fn without(keys: Vec<Key>, is_duplicate: &[bool]) -> Vec<Key> {
    keys.into_iter().zip(is_duplicate).filter(|(_, duplicate)| !**duplicate).map(|(key, _)| key).collect()
}

/// The `_rescued` column, if there is one with anything in it.
fn rescued_of(rows: &RecordBatch) -> Option<&StringArray> {
    let column = rows.column_by_name(RESCUED)?.as_string_opt::<i32>()?;
    (column.null_count() < column.len()).then_some(column)
}

/// How many values are in `_rescued`.
fn count_rescued(rows: &RecordBatch) -> u64 {
    let count = |text: &str| {
        serde_json::from_str::<std::collections::BTreeMap<Cow<'_, str>, &serde_json::value::RawValue>>(text)
            .map_or(1, |values| values.len() as u64)
    };
    rescued_of(rows).map_or(0, |column| column.iter().flatten().map(count).sum())
}

/// Keeps the columns that an earlier SQL read and this one does not.
fn keep_unread(read: &mut TableSchema, before: Option<&TableSchema>) {
    let Some(before) = before else { return };
    let unread = before.columns.iter().filter(|known| read.column(&known.name).is_none()).cloned();
    let unread: Vec<_> = unread.collect();
    let at = read.columns.iter().position(|column| column.name == RESCUED).unwrap_or(read.columns.len());
    read.columns.splice(at..at, unread);
    read.version = before.version + u64::from(read.columns != before.columns);
}

/// How many different values there are in an ascending sequence.
pub(super) fn distinct(ascending: impl Iterator<Item = u32>) -> u64 {
    let mut last = None;
    ascending.filter(|&value| last.replace(value) != Some(value)).count() as u64
}

/// The start of a text that may be long.
fn cut(text: &str) -> Cow<'_, str> {
    const MOST: usize = 500;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}
