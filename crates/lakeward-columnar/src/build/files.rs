//! From rows to files.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{and, cast};
use arrow::datatypes::{DataType, Fields, Schema};
use jiff::tz::TimeZone;
use lakeward_model::{DataFile, Format, LakePath, Role, SliceId, Timestamp};

use super::arrive::Arrived;
use super::rows::{Shaped, distinct};
use super::sources::Sources;
use super::{Built, BuiltCounts, Input, Origins, ShapeError, SliceCounts, table};
use crate::encode::{Encoded, Encoder};
use crate::path::{
    self, Kind, Moment, Partition, Place, SourcePart, Template, key_columns, object_name, partition,
};
use crate::process::{ProcessingError, Processor, Stage};
use crate::quarantine::{self, Context, Quarantined};
use crate::shape::{DedupKey, Naming, Output, Processing, Shape};

/// A shape's templates, read and checked.
pub(super) struct Places {
    path: Template,
    error_path: Template,
    zone: TimeZone,
    is_verbatim: bool,
}

impl Places {
    /// Reads what a shape says about places, and checks the rest of it.
    pub(super) fn of(shape: &Shape) -> Result<Self, ShapeError> {
        let path = Template::parse(&shape.path, Kind::KeyedPrefix).map_err(ShapeError::Path)?;
        let error_path = match &shape.error_path {
            Some(text) => Template::parse(text, Kind::ErrorPrefix).map_err(ShapeError::ErrorPath)?,
            None => path.default_error(),
        };
        let is_verbatim = matches!(shape.output, Output::Verbatim { .. });
        let by_columns = shape
            .dedup
            .as_ref()
            .is_some_and(|dedup| matches!(dedup.key, DedupKey::Columns(_)) || dedup.time.is_some());
        let unusable = [
            (path.reads_events(), "path", "`!{event:…}`"),
            (shape.sql.is_some(), "sql", "SQL"),
            (shape.lineage, "lineage", "`lineage: true`"),
            (shape.raw, "raw", "`raw: true`"),
            (by_columns, "dedup", "a key of columns (but `key: content`)"),
        ];
        if let Some((_, field, what)) = unusable.into_iter().find(|(used, ..)| *used && is_verbatim) {
            return Err(ShapeError::Verbatim { field, what });
        }
        let zone = path::time_zone(&shape.time_zone)?;
        let places = Self { path, error_path, zone, is_verbatim };
        places.processor(&shape.processing)?;
        Ok(places)
    }

    pub(super) fn is_verbatim(&self) -> bool {
        self.is_verbatim
    }

    /// The processors.
    pub(super) fn processor<'a>(&self, processing: &'a Processing) -> Result<Processor<'a>, ProcessingError> {
        Processor::new(processing, self.path.partition_keys())
    }

    /// The files that the rows of `rows` go to. `records` has the record of
    /// each row.
    pub(super) fn partition(
        &self,
        input: &Input<'_>,
        rows: &RecordBatch,
        records: &[u32],
        arrived: &Arrived,
    ) -> Vec<Partition> {
        let place = Place { zone: &self.zone, batch: input.batch, first_index: 0 };
        partition(&self.path, rows, records, &arrived.arrivals, &place)
    }

    /// What notes where records were pulled from.
    pub(super) fn sources(&self) -> Sources {
        Sources::new(self.path.source_parts())
    }

    /// `rows`, of these pieces and records, with what the path reads besides
    /// as columns, which no file has: partition keys and parts of the lineage.
    pub(super) fn with_keys(
        &self,
        rows: &RecordBatch,
        pieces: &[u32],
        records: &[u32],
        arrived: &Arrived,
    ) -> Result<RecordBatch, ShapeError> {
        let keys = self.path.partition_keys();
        let sources = arrived.sources.columns(records);
        if keys.is_empty() && sources.is_empty() {
            return Ok(rows.clone());
        }
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        if !keys.is_empty() {
            let values = pieces.iter().map(|&piece| arrived.partition_keys[piece as usize].as_slice());
            let keys = key_columns(&keys, values);
            fields.extend(keys.schema_ref().fields().iter().cloned());
            columns.extend(keys.columns().iter().cloned());
        }
        for (field, column) in sources {
            fields.push(Arc::new(field));
            columns.push(column);
        }
        fields.extend(rows.schema_ref().fields().iter().cloned());
        columns.extend(rows.columns().iter().cloned());
        Ok(RecordBatch::try_new(Arc::new(Schema::new(Fields::from(fields))), columns)?)
    }

    /// Engines read `k=v/` folders as columns, so the files do not repeat them.
    fn without_hive_columns(&self, rows: &RecordBatch) -> Result<RecordBatch, ShapeError> {
        let hive = self.path.hive_columns();
        if hive.is_empty() {
            return Ok(rows.clone());
        }
        let schema = rows.schema();
        let kept: Vec<usize> =
            (0..rows.num_columns()).filter(|&at| !hive.contains(&schema.field(at).name().as_str())).collect();
        Ok(rows.project(&kept)?)
    }

    /// For each row whether the columns that are folders by the lineage
    /// (`k=!{source:k}/`) say what their folders do: a record that has such a
    /// field itself may say otherwise. `None` if there are no such columns.
    /// `keyed` are the rows with the hidden columns.
    fn says_its_folders(
        &self,
        keyed: &RecordBatch,
        rows: &RecordBatch,
    ) -> Result<Option<BooleanArray>, ShapeError> {
        let hive = self.path.hive_columns();
        let mut all = None;
        for part in self.path.source_parts() {
            let SourcePart::Captured(name) = &part else { continue };
            let own = rows.column_by_name(name).filter(|_| hive.contains(&name.as_str()));
            let (Some(own), Some(folder)) = (own, keyed.column_by_name(&part.column())) else { continue };
            let same = match cast(own, &DataType::Utf8View) {
                Ok(own) => not_distinct(&own, folder)?,
                Err(_) => BooleanArray::from(vec![false; rows.num_rows()]),
            };
            all = Some(match all {
                Some(others) => and(&others, &same)?,
                None => same,
            });
        }
        Ok(all)
    }

    /// The file of rows or records that `prefix` is for.
    #[allow(clippy::too_many_arguments, reason = "what a file is made of")]
    pub(super) fn file(
        &self,
        input: &Input<'_>,
        prefix: &str,
        oldest: Timestamp,
        index: usize,
        (format, role): (Format, Role),
        rows: u64,
        encoded: Encoded,
        naming: &Naming,
    ) -> Result<DataFile, ShapeError> {
        let name = object_name(naming, input.batch, index, oldest, &self.zone, encoded.extension);
        Ok(DataFile {
            path: LakePath::new(format!("{prefix}{name}"))?,
            role,
            format,
            content_encoding: encoded.content_encoding,
            rows,
            body: encoded.body,
        })
    }

    /// The files of what failed, one for each stage at which it did; the first
    /// has number `index`.
    pub(super) fn quarantine(
        &self,
        input: &Input<'_>,
        arrived: &Arrived,
        index: usize,
    ) -> Result<Vec<DataFile>, ShapeError> {
        let mut files = Vec::new();
        let records = arrived.quarantined.iter().map(|(_, record)| record);
        for (stage, records) in quarantine::by_stage(records) {
            files.push(self.quarantine_file(input, stage, &records, index + files.len())?);
        }
        Ok(files)
    }

    fn quarantine_file(
        &self,
        input: &Input<'_>,
        stage: Stage,
        records: &[&Quarantined],
        index: usize,
    ) -> Result<DataFile, ShapeError> {
        let shape = input.shape;
        let context = Context {
            stream: input.stream,
            pipeline: input.pipeline,
            configuration: &shape.configuration(),
            lambda: shape.processing.lambda.as_ref().map(|lambda| lambda.name.as_str()),
            planned_at: input.planned_at,
        };
        let lines = quarantine::render(records, &context, &shape.naming);
        let oldest = records.iter().map(|record| record.received_at).min().unwrap_or(input.planned_at);
        let moment = Moment {
            arrival: oldest,
            zone: &self.zone,
            batch: input.batch,
            index,
            error_output_type: stage.error_output_type(),
        };
        let prefix = self.error_path.evaluate(&moment);
        // Firehose's error objects have no extension.
        let (extension, naming) = match &shape.naming {
            Naming::Batch => (".ndjson", Naming::Batch),
            Naming::Firehose { stream, version, .. } => {
                ("", Naming::Firehose { stream: stream.clone(), version: *version, extension: None })
            }
        };
        let encoded = Encoded { body: lines.into(), extension, content_encoding: None };
        let kind = (Format::Ndjson, Role::Quarantine);
        self.file(input, &prefix, oldest, index, kind, records.len() as u64, encoded, &naming)
    }
}

/// Encodes the rows and what failed.
pub(super) fn build(
    input: &Input<'_>,
    places: &Places,
    mut shaped: Shaped,
    arrived: &Arrived,
) -> Result<Built, ShapeError> {
    let mut files = Vec::new();
    let mut rows_of_files = Vec::new();
    if shaped.rows.num_rows() > 0 {
        let keyed = places.with_keys(&shaped.rows, &shaped.pieces, &shaped.records, arrived)?;
        let mut parts = places.partition(input, &keyed, &shaped.records, arrived);
        let lean = match input.shape.table {
            None => places.without_hive_columns(&shaped.rows)?,
            Some(table) => {
                parts = table::cut(parts, table.rows_per_file);
                if table.row_ids {
                    shaped.rows = table::with_row_ids(&shaped.rows, input.batch)?;
                }
                shaped.rows.clone()
            }
        };
        let same = places.says_its_folders(&keyed, &shaped.rows)?;
        let is_same = |rows: &[Range<usize>]| {
            same.as_ref().is_none_or(|same| rows.iter().cloned().flatten().all(|row| same.value(row)))
        };
        let mut encoder = Encoder::new(&input.shape.output)?;
        for part in parts {
            // A value that cannot be read back from the folder stays in the file.
            let rows = if part.exact && is_same(&part.rows) { &lean } else { &shaped.rows };
            let encoded = encoder.encode(rows, &part.rows)?;
            let format = match input.shape.output {
                Output::Parquet(_) => Format::Parquet,
                Output::Ndjson { .. } => Format::Ndjson,
                Output::Csv(_) => Format::Csv,
                Output::RowBinary => Format::RowBinary,
                Output::Verbatim { .. } => Format::Verbatim,
            };
            let count = part.rows.iter().map(|run| run.len() as u64).sum();
            let (kind, naming) = ((format, Role::Data), &input.shape.naming);
            let index = files.len();
            files.push(places.file(input, &part.prefix, part.oldest, index, kind, count, encoded, naming)?);
            rows_of_files.push(part.rows);
        }
    }
    files.extend(places.quarantine(input, arrived, files.len())?);
    let (counts, by_slice) = count(arrived, &shaped.records, &shaped.duplicates);
    let counts = BuiltCounts { rescued: shaped.rescued, ..counts };
    let known = shaped.schemas.as_ref().unwrap_or(input.schemas);
    let columns = table::columns(&known.table, &shaped.rows);
    let origins = match input.shape.table {
        Some(_) => Origins { first: arrived.first, records: shaped.records, files: rows_of_files },
        None => Origins::default(),
    };
    Ok(Built { files, schemas: shaped.schemas, counts, by_slice, keys: shaped.keys, columns, origins })
}

/// What became of the records, in all and by slice: `rows` has the record of
/// each row, `duplicates` the records of which nothing else was left.
pub(super) fn count(
    arrived: &Arrived,
    rows: &[u32],
    duplicates: &[u32],
) -> (BuiltCounts, Vec<(SliceId, SliceCounts)>) {
    let delivered = distinct(rows.iter().copied());
    let quarantined: Vec<u32> = arrived.quarantined.iter().map(|(record, _)| *record).collect();
    let settled = delivered + (quarantined.len() + duplicates.len()) as u64;
    let counts = BuiltCounts {
        delivered,
        filtered: arrived.records.checked_sub(settled).expect("a record ends in one way"),
        duplicates: duplicates.len() as u64,
        quarantined: quarantined.len() as u64,
        rows: rows.len() as u64,
        source_bytes: arrived.bytes,
        ..BuiltCounts::default()
    };
    let records = u32::try_from(arrived.records).expect("every record has an index");
    (counts, arrived.slices.count(records, rows, duplicates, &quarantined))
}
