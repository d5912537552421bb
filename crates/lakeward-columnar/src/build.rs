//! Building a batch: decode, partition, encode. A pure function of the plan.

use arrow::array::RecordBatch;
use jiff::tz::TimeZone;
use lakeward_model::{
    BatchId, DataFile, Format, LakePath, LakePathError, Offset, RecordBlock, Role, StreamName, Timestamp,
};

use crate::decode::{DecodeError, DecodeOptions, Decoded, Decoder};
use crate::encode::{self, EncodeError, Encoded, Encoder};
use crate::path::{
    self, Kind, Moment, Partition, Place, Template, TemplateError, UnknownTimeZone, object_name, partition,
};
use crate::process::{ProcessingError, Processor, Reason, Stage};
use crate::quarantine::{self, Context, Quarantined};
use crate::schema::TableSchema;
use crate::shape::{Naming, Output, Shape};

/// What a batch is built from, besides its records. All of it is pinned by the
/// plan or follows from the ledger, so that a rebuilt batch is the same batch.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The batch; names derive from it.
    pub batch: BatchId,
    /// The stream.
    pub stream: &'a StreamName,
    /// The pipeline's name.
    pub pipeline: &'a str,
    /// The pinned shape.
    pub shape: &'a Shape,
    /// The schema before this batch.
    pub schema: &'a TableSchema,
    /// When the batch was planned.
    pub planned_at: Timestamp,
    /// About how many bytes the records have, or 0: only for making room.
    pub expected_bytes: u64,
}

/// A batch as files.
#[derive(Debug)]
pub struct Built {
    /// The files, data first; in the order of their names' indexes.
    pub files: Vec<DataFile>,
    /// The schema after this batch, if it changed.
    pub schema: Option<TableSchema>,
    /// What became of the records.
    pub counts: BuiltCounts,
}

/// What became of a batch's records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BuiltCounts {
    /// Records with rows in the data files.
    pub delivered: u64,
    /// Records without any row: blank ones.
    pub filtered: u64,
    /// Records in quarantine files.
    pub quarantined: u64,
    /// Rows in the data files.
    pub rows: u64,
    /// Values in `_rescued`.
    pub rescued: u64,
    /// Bytes of all records as received.
    pub source_bytes: u64,
}

impl BuiltCounts {
    /// All records of the batch.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.delivered + self.filtered + self.quarantined
    }

    /// Adds another batch's.
    pub fn add(&mut self, more: &Self) {
        self.delivered += more.delivered;
        self.filtered += more.filtered;
        self.quarantined += more.quarantined;
        self.rows += more.rows;
        self.rescued += more.rescued;
        self.source_bytes += more.source_bytes;
    }
}

/// Why a batch was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError<E: std::error::Error + 'static> {
    /// The records could not be read.
    #[error(transparent)]
    Read(E),
    /// The shape does not fit; the configuration must change.
    #[error(transparent)]
    Shape(ShapeError),
}

/// Why a shape cannot be used, or not for these records.
#[derive(Debug, thiserror::Error)]
pub enum ShapeError {
    /// The path template is wrong.
    #[error("{0}")]
    Path(TemplateError),
    /// The error path template is wrong.
    #[error("{0}")]
    ErrorPath(TemplateError),
    /// The time zone is unknown.
    #[error(transparent)]
    TimeZone(#[from] UnknownTimeZone),
    /// Verbatim files are not decoded, so there are no columns to partition by.
    #[error("verbatim output has no columns; use `!{{timestamp:…}}` here, or another format")]
    VerbatimEvents,
    /// The processors cannot be used.
    #[error(transparent)]
    Processing(#[from] ProcessingError),
    /// An object's name came out as no path.
    #[error(transparent)]
    Name(#[from] LakePathError),
    /// The batch is too large for columns; a smaller `batch.size` helps.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The columns do not fit the format.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A computation on columns failed.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
}

impl ShapeError {
    /// The setting at fault.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::Path(_) | Self::VerbatimEvents | Self::Name(_) => "path",
            Self::ErrorPath(_) => "error_path",
            Self::Processing(error) => error.field,
            Self::TimeZone(_) => "time_zone",
            Self::Decode(_) | Self::Encode(_) | Self::Arrow(_) => "format",
        }
    }
}

/// A shape with its templates read.
struct Prepared<'a> {
    input: &'a Input<'a>,
    path: Template,
    error_path: Template,
    zone: TimeZone,
}

/// Checks everything about a shape that does not depend on records.
///
/// # Errors
/// What is wrong with it; the configuration must change.
pub fn check(shape: &Shape) -> Result<(), ShapeError> {
    templates(shape).map(drop)
}

fn templates(shape: &Shape) -> Result<(Template, Template, TimeZone), ShapeError> {
    let path = Template::parse(&shape.path, Kind::KeyedPrefix).map_err(ShapeError::Path)?;
    Processor::new(&shape.processing, path.partition_keys())?;
    let error_path = match &shape.error_path {
        Some(text) => Template::parse(text, Kind::ErrorPrefix).map_err(ShapeError::ErrorPath)?,
        None => path.default_error(),
    };
    if path.reads_events() && matches!(shape.output, Output::Verbatim { .. }) {
        return Err(ShapeError::VerbatimEvents);
    }
    Ok((path, error_path, path::time_zone(&shape.time_zone)?))
}

/// Builds the batch whose records `blocks` yields.
///
/// # Errors
/// See [`BuildError`]; nothing was done, and the same input fails again.
pub fn build<E: std::error::Error + 'static>(
    input: &Input<'_>,
    blocks: impl Iterator<Item = Result<RecordBlock, E>>,
) -> Result<Built, BuildError<E>> {
    let (path, error_path, zone) = templates(input.shape).map_err(BuildError::Shape)?;
    let prepared = Prepared { input, path, error_path, zone };
    match &input.shape.output {
        Output::Verbatim { .. } => {
            let blocks = blocks.collect::<Result<Vec<_>, E>>().map_err(BuildError::Read)?;
            prepared.verbatim(&blocks).map_err(BuildError::Shape)
        }
        _ => prepared.columns(blocks),
    }
}

/// Everything decoded, and what the records were.
#[derive(Default)]
struct Arrived {
    /// For each block: the index of its first record, and its arrival.
    arrivals: Vec<(u32, Timestamp)>,
    quarantined: Vec<Quarantined>,
    records: u64,
    bytes: u64,
}

impl Prepared<'_> {
    fn columns<E: std::error::Error + 'static>(
        &self,
        blocks: impl Iterator<Item = Result<RecordBlock, E>>,
    ) -> Result<Built, BuildError<E>> {
        let shape = self.input.shape;
        let options = DecodeOptions {
            columns: shape.columns.clone(),
            column_limit: shape.column_limit,
            expected_bytes: self.input.expected_bytes,
            ..DecodeOptions::default()
        };
        let mut decoder = Decoder::new(self.input.schema, options);
        let mut arrived = Arrived::default();
        for block in blocks {
            let block = block.map_err(BuildError::Read)?;
            arrived.take(&mut decoder, &block).map_err(BuildError::Shape)?;
        }
        let decoded = decoder.finish();
        self.files(decoded, arrived).map_err(BuildError::Shape)
    }

    fn files(&self, decoded: Decoded, arrived: Arrived) -> Result<Built, ShapeError> {
        let mut files = Vec::new();
        if decoded.rows.num_rows() > 0 {
            let place = Place { zone: &self.zone, batch: self.input.batch, first_index: 0 };
            let parts = partition(&self.path, &decoded.rows, &decoded.row_records, &arrived.arrivals, &place);
            let lean = self.without_hive_columns(&decoded.rows)?;
            let mut encoder = Encoder::new(&self.input.shape.output)?;
            for part in parts {
                // A value that cannot be read back from the folder stays in the file.
                let rows = if part.exact { &lean } else { &decoded.rows };
                files.push(self.data_file(&mut encoder, rows, part, files.len())?);
            }
        }
        for (stage, records) in quarantine::by_stage(&arrived.quarantined) {
            files.push(self.quarantine_file(stage, &records, files.len())?);
        }
        let quarantined = arrived.quarantined.len() as u64;
        let delivered = distinct(&decoded.row_records);
        let counts = BuiltCounts {
            delivered,
            filtered: decoded.empty,
            quarantined,
            rows: decoded.rows.num_rows() as u64,
            rescued: decoded.rescued,
            source_bytes: arrived.bytes,
        };
        assert_eq!(counts.records(), arrived.records, "every record of a batch is accounted for");
        let schema = (decoded.schema.version != self.input.schema.version).then_some(decoded.schema);
        Ok(Built { files, schema, counts })
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

    fn data_file(
        &self,
        encoder: &mut Encoder<'_>,
        rows: &RecordBatch,
        part: Partition,
        index: usize,
    ) -> Result<DataFile, ShapeError> {
        let shape = self.input.shape;
        let encoded = encoder.encode(rows, &part.rows)?;
        let format = match shape.output {
            Output::Parquet(_) => Format::Parquet,
            Output::Ndjson { .. } => Format::Ndjson,
            Output::Csv(_) => Format::Csv,
            Output::Verbatim { .. } => Format::Verbatim,
        };
        let count = part.rows.iter().map(|run| run.len() as u64).sum();
        self.file(&part.prefix, part.oldest, index, (format, Role::Data), count, encoded, &shape.naming)
    }

    fn verbatim(&self, blocks: &[RecordBlock]) -> Result<Built, ShapeError> {
        let Output::Verbatim { compression, newline } = self.input.shape.output else {
            unreachable!("the caller looked at the output");
        };
        let records = blocks.iter().flat_map(|block| block.records.iter());
        let encoded = encode::verbatim(records, compression, newline)?;
        let oldest = blocks.first().map_or(self.input.planned_at, |block| block.received_at);
        let prefix = self.path.evaluate(&self.moment(oldest, 0, ""));
        let count: u64 = blocks.iter().map(|block| block.records.len() as u64).sum();
        let kind = (Format::Verbatim, Role::Data);
        let file = self.file(&prefix, oldest, 0, kind, count, encoded, &self.input.shape.naming)?;
        let counts = BuiltCounts {
            delivered: count,
            rows: count,
            source_bytes: blocks.iter().map(|block| block.records.data.len() as u64).sum(),
            ..BuiltCounts::default()
        };
        Ok(Built { files: vec![file], schema: None, counts })
    }

    fn quarantine_file(
        &self,
        stage: Stage,
        records: &[&Quarantined],
        index: usize,
    ) -> Result<DataFile, ShapeError> {
        let input = self.input;
        let context = Context {
            stream: input.stream,
            pipeline: input.pipeline,
            configuration: &input.shape.configuration(),
            lambda: input.shape.processing.lambda.as_ref().map(|lambda| lambda.name.as_str()),
            planned_at: input.planned_at,
        };
        let lines = quarantine::render(records, &context, &input.shape.naming);
        let oldest = records.first().map_or(input.planned_at, |record| record.received_at);
        let prefix = self.error_path.evaluate(&self.moment(oldest, index, stage.error_output_type()));
        // Firehose's error objects have no extension.
        let (extension, naming) = match &input.shape.naming {
            Naming::Batch => (".ndjson", Naming::Batch),
            Naming::Firehose { stream, version, .. } => {
                ("", Naming::Firehose { stream: stream.clone(), version: *version, extension: None })
            }
        };
        let encoded = Encoded { body: lines.into(), extension, content_encoding: None };
        let kind = (Format::Ndjson, Role::Quarantine);
        self.file(&prefix, oldest, index, kind, records.len() as u64, encoded, &naming)
    }

    fn moment<'b>(&'b self, arrival: Timestamp, index: usize, error_output_type: &'b str) -> Moment<'b> {
        Moment { arrival, zone: &self.zone, batch: self.input.batch, index, error_output_type }
    }

    #[allow(clippy::too_many_arguments, reason = "what a file is made of")]
    fn file(
        &self,
        prefix: &str,
        oldest: Timestamp,
        index: usize,
        (format, role): (Format, Role),
        rows: u64,
        encoded: Encoded,
        naming: &Naming,
    ) -> Result<DataFile, ShapeError> {
        let name = object_name(naming, self.input.batch, index, oldest, &self.zone, encoded.extension);
        Ok(DataFile {
            path: LakePath::new(format!("{prefix}{name}"))?,
            role,
            format,
            content_encoding: encoded.content_encoding,
            rows,
            body: encoded.body,
        })
    }
}

impl Arrived {
    /// Decodes a block and keeps the original bytes of what was rejected.
    fn take(&mut self, decoder: &mut Decoder, block: &RecordBlock) -> Result<(), ShapeError> {
        let first =
            u32::try_from(self.records).map_err(|_| DecodeError::TooLarge { limit: u64::from(u32::MAX) })?;
        self.arrivals.push((first, block.received_at));
        decoder.push(block)?;
        for rejected in &decoder.rejected()[self.quarantined.len()..] {
            let index = (rejected.record - first) as usize;
            let start = if index == 0 { 0 } else { block.records.ends[index - 1] as usize };
            let end = block.records.ends[index] as usize;
            self.quarantined.push(Quarantined {
                offset: Offset(block.first.0 + index as u64),
                received_at: block.received_at,
                reason: Reason {
                    stage: Stage::Conversion,
                    code: rejected.code.into(),
                    message: rejected.message.clone(),
                    attempts: 1,
                },
                data: block.records.data[start..end].to_vec(),
            });
        }
        self.records += block.records.len() as u64;
        self.bytes += block.records.data.len() as u64;
        Ok(())
    }
}

/// How many records the rows come from; they are in order.
fn distinct(row_records: &[u32]) -> u64 {
    let first = u64::from(!row_records.is_empty());
    first + row_records.windows(2).filter(|pair| pair[0] != pair[1]).count() as u64
}
