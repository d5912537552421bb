//! `--sql fix.sql`: what makes new bytes of records in quarantine.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use arrow::array::{Array, RecordBatch};
use arrow::array::{ArrayRef, AsArray, BinaryArray, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::DataType;
use lakeward_columnar::transform::{Pinned, Transform};

use crate::exit::{Code, coded};
use crate::quarantine::Record;

/// Records that SQL looks at at a time.
pub(super) const RECORDS_AT_ONCE: usize = 8_192;

/// The SQL of a fix, compiled.
pub(super) struct Fix {
    /// The file, for messages.
    file: String,
    transform: Arc<dyn Transform>,
}

/// What became of records.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fixed {
    /// For each record its new bytes; `None` stays in quarantine.
    pub(super) data: Vec<Option<Vec<u8>>>,
    /// Records on which the SQL failed, and why. They stay.
    pub(super) failed: Vec<(usize, String)>,
}

impl Fix {
    /// Reads and compiles a file.
    pub(super) fn read(
        file: &Path,
        compile: impl Fn(&str) -> Result<Arc<dyn Transform>, lakeward_columnar::transform::TransformError>,
    ) -> anyhow::Result<Self> {
        let sql = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let file = file.display().to_string();
        match compile(&sql) {
            Ok(transform) => Ok(Self { file, transform }),
            Err(error) => Err(coded(Code::Usage, format!("{file}: {error}"))),
        }
    }

    /// Makes new bytes of `records`, all of one batch.
    pub(super) fn apply(&self, pipeline: &str, records: &[Record], pinned: &Pinned) -> anyhow::Result<Fixed> {
        let wrong = |what: String| coded(Code::Data, format!("{}: {what}", self.file));
        let output = self
            .transform
            .apply(&input(pipeline, records)?, pinned)
            .map_err(|error| wrong(error.to_string()))?;
        let mut fixed = Fixed { data: vec![None; records.len()], failed: Vec::new() };
        for failed in output.failed {
            fixed.failed.push((usize::try_from(failed.row)?, failed.message));
        }
        let column = output.rows.column_by_name("data").ok_or_else(|| {
            wrong(String::from("the SELECT has no column `data`; it becomes the record's new bytes"))
        })?;
        let column = texts(column).ok_or_else(|| {
            wrong(format!(
                "its column `data` is {}; make it text, for instance with CAST(… AS VARCHAR)",
                column.data_type()
            ))
        })?;
        let mut before = None;
        for (row, &source) in output.sources.iter().enumerate() {
            if before == Some(source) {
                let offset = records.get(usize::try_from(source)?).and_then(|record| record.offset);
                let offset = offset.map_or_else(String::new, |offset| format!(" at offset {offset}"));
                return Err(wrong(format!(
                    "it makes more than one row of the record{offset}; a record leaves quarantine as one"
                )));
            }
            before = Some(source);
            if column.is_valid(row)
                && let Some(data) = fixed.data.get_mut(usize::try_from(source)?)
            {
                *data = Some(column.value(row).to_vec());
            }
        }
        Ok(fixed)
    }
}

/// The table `input`. `data` is NULL where the bytes are no UTF-8: SQL sees
/// text, and must not make other bytes of it in passing.
fn input(pipeline: &str, records: &[Record]) -> anyhow::Result<RecordBatch> {
    let data: StringArray = records.iter().map(|record| std::str::from_utf8(&record.data).ok()).collect();
    let reason = StringArray::from_iter_values(records.iter().map(|record| &record.reason));
    let message = StringArray::from_iter_values(records.iter().map(|record| &record.message));
    let offset: Int64Array =
        records.iter().map(|record| record.offset.and_then(|offset| i64::try_from(offset.0).ok())).collect();
    let received_at =
        TimestampMicrosecondArray::from_iter_values(records.iter().map(|record| record.received_at.micros()))
            .with_timezone("UTC");
    let pipeline = StringArray::from_iter_values(records.iter().map(|_| pipeline));
    let columns: [(&str, ArrayRef); 6] = [
        ("data", Arc::new(data)),
        ("reason", Arc::new(reason)),
        ("message", Arc::new(message)),
        ("offset", Arc::new(offset)),
        ("received_at", Arc::new(received_at)),
        ("pipeline", Arc::new(pipeline)),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))?)
}

/// A column of text or bytes, as bytes.
fn texts(column: &ArrayRef) -> Option<BinaryArray> {
    let texts = |all: &mut dyn Iterator<Item = Option<&str>>| {
        all.map(|text| text.map(str::as_bytes)).collect::<BinaryArray>()
    };
    Some(match column.data_type() {
        DataType::Utf8 => texts(&mut column.as_string::<i32>().iter()),
        DataType::LargeUtf8 => texts(&mut column.as_string::<i64>().iter()),
        DataType::Utf8View => texts(&mut column.as_string_view().iter()),
        DataType::Binary => column.as_binary::<i32>().clone(),
        DataType::LargeBinary => column.as_binary::<i64>().iter().collect(),
        DataType::BinaryView => column.as_binary_view().iter().collect(),
        // Every row is NULL: nothing has a type.
        DataType::Null => std::iter::repeat_n(None::<&[u8]>, column.len()).collect(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use lakeward_columnar::transform::{FailedRow, TransformError, Transformed};
    use lakeward_model::{BatchId, Offset, Timestamp};

    use super::*;

    /// Stands for SQL: says which rows come out, with which text.
    #[derive(Debug, Clone)]
    struct Says {
        column: &'static str,
        rows: Vec<(u32, Option<&'static str>)>,
        failed: Vec<u32>,
        number: bool,
    }

    impl Transform for Says {
        fn reads(&self) -> Option<&[String]> {
            None
        }

        fn apply(&self, rows: &RecordBatch, _: &Pinned) -> Result<Transformed, TransformError> {
            let names: Vec<_> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
            assert_eq!(names, ["data", "reason", "message", "offset", "received_at", "pipeline"]);
            assert!(rows.column(0).is_null(2), "bytes that are no text are no text in SQL");
            let column: ArrayRef = if self.number {
                Arc::new(Int64Array::from(vec![1; self.rows.len()]))
            } else {
                Arc::new(self.rows.iter().map(|(_, text)| *text).collect::<StringArray>())
            };
            Ok(Transformed {
                rows: RecordBatch::try_from_iter_with_nullable([(self.column, column, true)]).unwrap(),
                sources: self.rows.iter().map(|(source, _)| *source).collect(),
                failed: self.failed.iter().map(|&row| FailedRow { row, message: "no".into() }).collect(),
            })
        }
    }

    #[test]
    fn rows_become_bytes() {
        let record = |offset, data: &[u8]| Record {
            offset: Some(Offset(offset)),
            received_at: Timestamp(5),
            reason: "r".into(),
            message: "m".into(),
            data: data.to_vec(),
        };
        let records = [record(10, b"a"), record(11, b"b"), record(12, b"\xff"), record(13, b"d")];
        let pinned = Pinned { now: Timestamp(0), batch: BatchId(uuid::Uuid::nil()) };
        let apply = |says: Says| {
            Fix { file: "fix.sql".into(), transform: Arc::new(says) }.apply("p", &records, &pinned)
        };
        let good = Says {
            column: "data",
            rows: vec![(0, Some("A")), (2, None), (3, Some(""))],
            failed: vec![1],
            number: false,
        };
        let fixed = apply(good.clone()).unwrap();
        assert_eq!(fixed.data, [Some(b"A".to_vec()), None, None, Some(Vec::new())]);
        assert_eq!(fixed.failed, [(1, "no".to_string())]);

        let refused = |says, words: &str| {
            let message = apply(says).unwrap_err().to_string();
            assert!(message.starts_with("fix.sql: ") && message.contains(words), "{message}");
        };
        refused(Says { column: "text", ..good.clone() }, "no column `data`");
        refused(Says { number: true, ..good.clone() }, "Int64");
        refused(
            Says { rows: vec![(1, Some("x")), (1, Some("y"))], ..good },
            "more than one row of the record at offset 11",
        );
    }
}
