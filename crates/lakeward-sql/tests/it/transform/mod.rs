//! SQL on records, as a pipeline applies it.

mod docs;
mod errors;
mod properties;
mod statements;
mod systems;

use arrow::array::RecordBatch;
use lakeward_columnar::decode::{DecodeOptions, Decoder};
use lakeward_columnar::encode;
use lakeward_columnar::schema::TableSchema;
use lakeward_columnar::shape::{ColumnMode, FileCompression, Output};
use lakeward_columnar::transform::{Pinned, Transform, TransformError, Transformed};
use lakeward_model::{BatchId, Records, Timestamp};
use lakeward_sql::SqlTransform;

/// 2024-01-15T14:30:00.5Z
pub(crate) const NOW: Timestamp = Timestamp(1_705_329_000_500_000);

/// What the tests pin.
pub(crate) fn pinned() -> Pinned {
    Pinned { now: NOW, batch: BatchId(uuid::Uuid::from_u128(7)) }
}

/// The records of some lines as rows, of which only what is read.
pub(crate) fn rows(lines: &str, reads: Option<&[String]>, json: &[&str]) -> RecordBatch {
    let options = DecodeOptions {
        only: reads.map(<[String]>::to_vec),
        columns: json.iter().map(|name| ((*name).to_owned(), ColumnMode::Json)).collect(),
        ..DecodeOptions::default()
    };
    let mut decoder = Decoder::new(&TableSchema::default(), options);
    let mut records = Records::new(lines.to_owned().into(), Vec::new());
    let mut end = 0;
    for line in lines.split_inclusive('\n') {
        end += u32::try_from(line.len()).expect("a short line");
        records.ends.push(end);
    }
    decoder.push_records(&records).expect("few records");
    let decoded = decoder.finish();
    assert_eq!(decoded.rejected, [], "{lines}");
    decoded.rows
}

/// Applies a statement to some lines.
pub(crate) fn apply(sql: &str, lines: &str, json: &[&str]) -> Result<Transformed, TransformError> {
    let transform = SqlTransform::compile(sql)?;
    transform.apply(&rows(lines, transform.reads(), json), &pinned())
}

/// Rows as NDJSON.
pub(crate) fn text(rows: &RecordBatch) -> String {
    let output = Output::Ndjson { compression: FileCompression::None };
    let whole = 0..rows.num_rows();
    let encoded =
        encode::encode(&output, rows, std::slice::from_ref(&whole)).expect("rows that can be written");
    String::from_utf8(encoded.body.to_vec()).expect("JSON is text")
}

/// What a statement makes of some lines, as NDJSON; errors and failed rows are
/// lines that begin with `!`.
pub(crate) fn outcome(sql: &str, lines: &str) -> String {
    outcome_json(sql, lines, &[])
}

/// The same, with columns that are kept as JSON text.
pub(crate) fn outcome_json(sql: &str, lines: &str, json: &[&str]) -> String {
    match apply(sql, lines, json) {
        Ok(done) => {
            let mut lines = text(&done.rows);
            for failed in &done.failed {
                lines += &format!("! row {}: {}\n", failed.row, failed.message);
            }
            lines
        }
        Err(error) => format!("! {error}\n"),
    }
}
