//! A part of an encoded file: for finding the rows that a table will not take.

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use arrow::compute::concat_batches;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use lakeward_model::{DataFile, Format, limits};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::encode::{EncodeError, encode, row_binary};
use crate::shape::Output;

/// Most bytes of a file that is inflated to be cut.
const INFLATED_BYTES_MAX: u64 = 4 << 30;

/// Why a file was not cut.
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// Its format, or its compression, is none that can be cut.
    #[error("{0} files cannot be cut")]
    Format(&'static str),
    /// It has fewer rows than that.
    #[error("the file has no such rows")]
    Rows,
    /// It is none of ours.
    #[error("the file cannot be read: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// It is none of ours.
    #[error("the file cannot be read: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// Its rows could not be encoded again.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// It could not be inflated or compressed.
    #[error("the file cannot be inflated: {0}")]
    Inflate(#[from] std::io::Error),
}

/// The file's bytes with nothing but these rows: Parquet as it is written by
/// default, NDJSON and CSV (without a header) as they are, plain or gzip.
///
/// # Errors
/// See [`CutError`]; the same file fails again.
pub fn rows(file: &DataFile, rows: Range<u64>) -> Result<Bytes, CutError> {
    if rows.end > file.rows || rows.start > rows.end {
        return Err(CutError::Rows);
    }
    match file.format {
        Format::Parquet => of_parquet(&file.body, rows),
        Format::Ndjson => of_text(&file.body, rows, |text| memchr::memchr(b'\n', text).map(|at| at + 1)),
        Format::Csv => of_text(&file.body, rows, csv_record),
        Format::RowBinary => row_binary::rows(&file.body, rows).ok_or(CutError::Rows),
        Format::Verbatim => Err(CutError::Format("verbatim")),
    }
}

fn of_parquet(body: &Bytes, rows: Range<u64>) -> Result<Bytes, CutError> {
    let (start, end) = (count(rows.start)?, count(rows.end)?);
    let builder = ParquetRecordBatchReaderBuilder::try_new(body.clone())?;
    let schema = Arc::clone(builder.schema());
    let reader = builder.with_offset(start).with_limit(end - start).build()?;
    let parts = reader.collect::<Result<Vec<_>, _>>()?;
    let batch = concat_batches(&schema, &parts)?;
    let all = 0..batch.num_rows();
    Ok(encode(&Output::default(), &batch, std::slice::from_ref(&all))?.body)
}

/// `record` tells how long the first record of a text is, with its line end.
fn of_text(
    body: &Bytes,
    rows: Range<u64>,
    record: impl Fn(&[u8]) -> Option<usize>,
) -> Result<Bytes, CutError> {
    let is_gzip = body.starts_with(&[0x1f, 0x8b]);
    let text = if is_gzip { inflate(body)? } else { body.clone() };
    let mut at = 0;
    let mut skip = |records: u64| {
        for _ in 0..records {
            let rest = text.get(at..).filter(|rest| !rest.is_empty()).ok_or(CutError::Rows)?;
            at += record(rest).unwrap_or(rest.len());
        }
        Ok::<_, CutError>(at)
    };
    let start = skip(rows.start)?;
    let end = skip(rows.end - rows.start)?;
    let part = text.slice(start..end);
    if !is_gzip {
        return Ok(part);
    }
    let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&part)?;
    Ok(packed.finish()?.into())
}

fn inflate(body: &[u8]) -> Result<Bytes, CutError> {
    let mut text = Vec::new();
    limits::read_capped(MultiGzDecoder::new(body), INFLATED_BYTES_MAX, &mut text)?;
    Ok(text.into())
}

/// Where the first record of delimited text ends: at the first line end that
/// is outside quotes. A doubled quote inside quotes closes and opens them.
fn csv_record(text: &[u8]) -> Option<usize> {
    let mut is_quoted = false;
    for at in memchr::memchr2_iter(b'"', b'\n', text) {
        match text[at] {
            b'"' => is_quoted = !is_quoted,
            _ if !is_quoted => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn count(rows: u64) -> Result<usize, CutError> {
    usize::try_from(rows).map_err(|_| CutError::Rows)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use lakeward_model::{LakePath, Role};

    use super::*;
    use crate::shape::{CsvOptions, FileCompression};

    fn batch() -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10));
        let texts: ArrayRef = Arc::new(StringArray::from_iter((0..10).map(|n| match n % 4 {
            0 => None,
            1 => Some(format!("two\nlines \"{n}\"")),
            2 => Some(String::new()),
            _ => Some(format!("a,b{n}")),
        })));
        RecordBatch::try_from_iter([("n", numbers), ("t", texts)]).expect("a batch")
    }

    #[test]
    fn a_part_is_what_encoding_only_these_rows_gives() {
        let text = |compression| CsvOptions { compression, header: false, ..CsvOptions::default() };
        let outputs = [
            (Format::Parquet, Output::default()),
            (Format::Ndjson, Output::Ndjson { compression: FileCompression::None }),
            (Format::Ndjson, Output::Ndjson { compression: FileCompression::Gzip }),
            (Format::Csv, Output::Csv(text(FileCompression::None))),
            (Format::Csv, Output::Csv(text(FileCompression::Gzip))),
        ];
        for (format, output) in outputs {
            let encoded = |run: Range<usize>| {
                encode(&output, &batch(), std::slice::from_ref(&run)).expect("it encodes").body
            };
            let file = DataFile {
                path: LakePath::new("f").expect("a path"),
                role: Role::Data,
                format,
                content_encoding: None,
                rows: 10,
                body: encoded(0..10),
            };
            let plain = |body: Bytes| {
                if body.starts_with(&[0x1f, 0x8b]) { inflate(&body).expect("gzip") } else { body }
            };
            for (from, to) in [(0, 10), (0, 1), (3, 7), (9, 10), (4, 4)] {
                let part = rows(&file, from as u64..to as u64).expect("it is cut");
                assert_eq!(plain(part), plain(encoded(from..to)), "{format:?} {from}..{to}");
            }
            assert!(matches!(rows(&file, 5..11), Err(CutError::Rows)));
        }
    }

    #[test]
    fn what_is_no_such_file_is_an_error() {
        let file = |format, body: &'static [u8]| DataFile {
            path: LakePath::new("f").expect("a path"),
            role: Role::Data,
            format,
            content_encoding: None,
            rows: 3,
            body: Bytes::from_static(body),
        };
        assert!(rows(&file(Format::Parquet, b"PAR1"), 0..1).is_err());
        assert!(rows(&file(Format::Ndjson, b"{}\n"), 0..3).is_err());
        assert!(rows(&file(Format::Csv, b"\x1f\x8bno"), 0..1).is_err());
        assert!(rows(&file(Format::Verbatim, b"a"), 0..1).is_err());
    }
}
