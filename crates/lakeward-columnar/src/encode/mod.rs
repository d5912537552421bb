//! Columns to files: Parquet, NDJSON, CSV, RowBinary, and records passed through as
//! they came.
//!
//! The same input always gives the same bytes.

mod compress;
mod csv;
pub(crate) mod json;
mod parquet;
pub(crate) mod row_binary;
mod runs;
mod snappy;
#[cfg(test)]
mod tests;
mod zip;

use std::io::{self, BufWriter, Write};
use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::datatypes::Field;
use bytes::Bytes;
use lakeward_model::ContentEncoding;

use self::compress::FileWriter;
use crate::shape::{CsvOptions, FileCompression, Newline, Output};

/// The name that every Parquet file gives as its writer.
pub const CREATED_BY: &str = concat!("lakeward version ", env!("CARGO_PKG_VERSION"));

/// One encoded file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The file's bytes.
    pub body: Bytes,
    /// The end of its name, with the dot: `.parquet`, `.ndjson.gz`; empty for
    /// uncompressed verbatim files, as Firehose has it.
    pub extension: &'static str,
    /// The object's `Content-Encoding`, where Firehose sets one: for verbatim
    /// files in a compression that Firehose knows.
    pub content_encoding: Option<ContentEncoding>,
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// An option cannot be used; the configuration must change.
    #[error("{option}: {reason}")]
    Option {
        /// Which option of the output.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A column's type has no place in the format; the columns must change.
    #[error("the format has no place for a column's type: {0}")]
    Type(String),
    /// The file grows beyond what its format can hold; the batch must be cut
    /// smaller.
    #[error("a {format} file holds at most {limit} bytes")]
    TooLarge {
        /// Which format.
        format: &'static str,
        /// Its limit.
        limit: u64,
    },
    /// A library gave up on valid input; trying the same batch again cannot
    /// help.
    #[error("encoding failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl EncodeError {
    pub(crate) fn failed(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Failed(Box::new(source))
    }
}

impl From<io::Error> for EncodeError {
    fn from(error: io::Error) -> Self {
        Self::failed(error)
    }
}

impl From<arrow::error::ArrowError> for EncodeError {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::failed(error)
    }
}

impl From<::parquet::errors::ParquetError> for EncodeError {
    fn from(error: ::parquet::errors::ParquetError) -> Self {
        match error {
            ::parquet::errors::ParquetError::NYI(message) => Self::Type(message),
            other => Self::failed(other),
        }
    }
}

/// Makes files one after the other, and uses its buffers again for each.
pub struct Encoder<'a>(Format<'a>);

enum Format<'a> {
    Parquet(Box<parquet::FileEncoder<'a>>),
    Ndjson(FileCompression),
    Csv(&'a CsvOptions),
    RowBinary,
}

impl<'a> Encoder<'a> {
    /// An encoder of files that `output` describes.
    ///
    /// # Errors
    /// An option cannot be used.
    pub fn new(output: &'a Output) -> Result<Self, EncodeError> {
        Ok(Self(match output {
            Output::Parquet(options) => Format::Parquet(Box::new(parquet::FileEncoder::new(options)?)),
            Output::Ndjson { compression } => Format::Ndjson(*compression),
            Output::Csv(options) => Format::Csv(options),
            Output::RowBinary => Format::RowBinary,
            Output::Verbatim { .. } => {
                let reason = String::from("verbatim output is made of records, not of columns");
                return Err(EncodeError::Option { option: "format", reason });
            }
        }))
    }

    /// Encodes the rows of `batch` that are in `runs`, in their order, as one
    /// file.
    ///
    /// # Errors
    /// See [`EncodeError`]; the same input fails again, and this encoder must
    /// not be used any more.
    ///
    /// # Panics
    /// A run reaches beyond the batch.
    pub fn encode(&mut self, batch: &RecordBatch, runs: &[Range<usize>]) -> Result<Encoded, EncodeError> {
        assert!(runs.iter().all(|run| run.end <= batch.num_rows()), "every run is in the batch");
        match &mut self.0 {
            Format::Parquet(encoder) => {
                let body = encoder.encode(batch, runs)?;
                Ok(Encoded { body, extension: ".parquet", content_encoding: None })
            }
            Format::Ndjson(compression) => {
                let mut file = FileWriter::new(*compression)?;
                json::write_lines(&mut file, &runs::batches(batch, runs)?)?;
                text(file, extension_of(*compression).ndjson)
            }
            Format::RowBinary => {
                let body = row_binary::encode(batch, runs)?;
                Ok(Encoded { body, extension: ".rowbinary", content_encoding: None })
            }
            Format::Csv(options) => {
                let mut file = FileWriter::new(options.compression)?;
                csv::write_table(&mut file, options, batch.schema_ref(), &runs::batches(batch, runs)?)?;
                text(file, extension_of(options.compression).csv)
            }
        }
    }
}

/// One file, by an encoder of its own; see [`Encoder::encode`].
///
/// # Errors
/// See [`EncodeError`]; the same input fails again.
pub fn encode(output: &Output, batch: &RecordBatch, runs: &[Range<usize>]) -> Result<Encoded, EncodeError> {
    Encoder::new(output)?.encode(batch, runs)
}

/// Encodes `records`, in their order, as one file of the bytes as received.
///
/// # Errors
/// See [`EncodeError`]; the same input fails again.
pub fn verbatim<'a>(
    records: impl Iterator<Item = &'a [u8]>,
    compression: FileCompression,
    newline: Newline,
) -> Result<Encoded, EncodeError> {
    let mut file = BufWriter::with_capacity(64 * 1024, FileWriter::new(compression)?);
    for record in records {
        file.write_all(record)?;
        if newline == Newline::Ensure && record.last() != Some(&b'\n') {
            file.write_all(b"\n")?;
        }
    }
    let body = file.into_inner().map_err(|e| EncodeError::failed(e.into_error()))?.finish()?;
    let names = extension_of(compression);
    Ok(Encoded { body, extension: names.verbatim, content_encoding: names.content_encoding })
}

/// Encodes those of `records` that are in `runs`, as [`verbatim`] does.
///
/// # Errors
/// See [`EncodeError`]; the same input fails again.
///
/// # Panics
/// A run reaches beyond the records.
pub fn verbatim_runs(
    records: &[&[u8]],
    runs: &[Range<usize>],
    compression: FileCompression,
    newline: Newline,
) -> Result<Encoded, EncodeError> {
    let chosen = runs.iter().flat_map(|run| &records[run.clone()]).copied();
    verbatim(chosen, compression, newline)
}

fn text(file: FileWriter, extension: &'static str) -> Result<Encoded, EncodeError> {
    Ok(Encoded { body: file.finish()?, extension, content_encoding: None })
}

/// The extensions that one compression gives the formats, and the content
/// encoding that Firehose gives its objects (`CompressionFormat` of its
/// `ExtendedS3DestinationConfiguration`).
struct Names {
    verbatim: &'static str,
    ndjson: &'static str,
    csv: &'static str,
    content_encoding: Option<ContentEncoding>,
}

const fn extension_of(compression: FileCompression) -> Names {
    let (verbatim, ndjson, csv, content_encoding) = match compression {
        FileCompression::None => ("", ".ndjson", ".csv", None),
        FileCompression::Gzip => (".gz", ".ndjson.gz", ".csv.gz", Some(ContentEncoding::Gzip)),
        FileCompression::Zstd => (".zst", ".ndjson.zst", ".csv.zst", None),
        FileCompression::Snappy => (".sz", ".ndjson.sz", ".csv.sz", None),
        FileCompression::Zip => (".zip", ".ndjson.zip", ".csv.zip", Some(ContentEncoding::Zip)),
        FileCompression::SnappyJava => {
            (".snappy", ".ndjson.snappy", ".csv.snappy", Some(ContentEncoding::SnappyJava))
        }
        FileCompression::HadoopSnappy => {
            (".snappy", ".ndjson.snappy", ".csv.snappy", Some(ContentEncoding::HadoopSnappy))
        }
    };
    Names { verbatim, ndjson, csv, content_encoding }
}

/// Whether a text column holds JSON text, by the mark that the decoder sets.
fn is_json(field: &Field) -> bool {
    field.name() == "_rescued" || field.metadata().get("lakeward:json").is_some_and(|v| v == "true")
}
