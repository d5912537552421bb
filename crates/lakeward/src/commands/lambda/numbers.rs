//! The numbers that a caller gets: those of the function that this replaces
//! (contract `amplitude-xapi-adobe-warehouses.md`, section 2.4).
//!
//! How many statements of a kind there were is counted in what was built: by
//! the column `event_type`, or, where no table has it, by the rows of the
//! tables that are named after a kind. So the mapping says what is what, and
//! nothing else does.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::DataType;
use lakeward_columnar::build::BuiltCounts;
use lakeward_model::{DataFile, Format, Role};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};

/// The column that says what a statement is.
const KIND: &str = "event_type";
/// The kinds that callers are told of.
const KINDS: [&str; 5] = ["video", "activity_attempt", "page_attempt", "page_viewed", "part_attempt"];

/// What became of an object's records in one pipeline.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct OfPipeline {
    rows: u64,
    quarantined: u64,
    duplicates: u64,
    /// Rows by what they say they are, if they do.
    kinds: Option<BTreeMap<String, u64>>,
}

/// What became of an object's records, or of many objects'.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    pipelines: BTreeMap<String, OfPipeline>,
}

impl Numbers {
    /// Counts a batch.
    pub(super) fn count(&mut self, pipeline: &str, counts: &BuiltCounts, files: &[DataFile]) {
        let kinds = kinds(files);
        let its = self.pipelines.entry(pipeline.to_owned()).or_default();
        its.rows += counts.rows;
        its.quarantined += counts.quarantined;
        its.duplicates += counts.duplicates;
        its.add(kinds);
    }

    /// Adds another object's.
    pub(super) fn add(&mut self, more: &Self) {
        for (name, more) in &more.pipelines {
            let its = self.pipelines.entry(name.clone()).or_default();
            its.rows += more.rows;
            its.quarantined += more.quarantined;
            its.duplicates += more.duplicates;
            its.add(more.kinds.clone());
        }
    }

    /// Writes them into an answer, with `prefix` before the names of the
    /// counts of statements.
    pub(super) fn tell(&self, prefix: &str, answer: &mut Map<String, Value>) {
        let typed = self.pipelines.values().find_map(|its| Some((its.rows, its.kinds.as_ref()?)));
        let of_kind = |kind: &str| match typed {
            Some((_, kinds)) => kinds.get(kind).copied().unwrap_or(0),
            None => self.pipelines.get(&format!("{kind}_events")).map_or(0, |its| its.rows),
        };
        let all = match typed {
            Some((rows, _)) => rows,
            None => match KINDS.map(of_kind).iter().sum() {
                // Other tables than those of a kind.
                0 => self.most(|its| its.rows),
                sum => sum,
            },
        };
        answer.insert(format!("{prefix}events_processed"), all.into());
        for kind in KINDS {
            answer.insert(format!("{prefix}{kind}_events_processed"), of_kind(kind).into());
        }
        answer.insert("invalid_lines".into(), self.most(|its| its.quarantined).into());
        answer.insert("duplicate_lines".into(), self.most(|its| its.duplicates).into());
        let rows: Map<String, Value> =
            self.pipelines.iter().map(|(name, its)| (name.clone(), its.rows.into())).collect();
        answer.insert("rows".into(), rows.into());
    }

    /// Every pipeline sees every record.
    fn most(&self, of: impl Fn(&OfPipeline) -> u64) -> u64 {
        self.pipelines.values().map(of).max().unwrap_or(0)
    }
}

impl OfPipeline {
    fn add(&mut self, kinds: Option<BTreeMap<String, u64>>) {
        for (kind, rows) in kinds.into_iter().flatten() {
            *self.kinds.get_or_insert_default().entry(kind).or_default() += rows;
        }
    }
}

/// How many rows say that they are what, if they do.
fn kinds(files: &[DataFile]) -> Option<BTreeMap<String, u64>> {
    let mut found = None;
    for file in files.iter().filter(|file| file.role == Role::Data) {
        match file.format {
            Format::Parquet => of_parquet(file, &mut found)?,
            Format::Ndjson => of_lines(file, &mut found)?,
            Format::Csv | Format::RowBinary | Format::Verbatim => return None,
        }
    }
    found
}

type Found = Option<BTreeMap<String, u64>>;

fn of_parquet(file: &DataFile, found: &mut Found) -> Option<()> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file.body.clone()).ok()?;
    let at = builder.schema().index_of(KIND).ok()?;
    let only = ProjectionMask::roots(builder.parquet_schema(), [at]);
    for rows in builder.with_projection(only).build().ok()? {
        let column = arrow::compute::cast(rows.ok()?.column(0), &DataType::Utf8).ok()?;
        for kind in column.as_string::<i32>().iter().flatten() {
            *found.get_or_insert_default().entry(kind.to_owned()).or_default() += 1;
        }
    }
    Some(())
}

fn of_lines(file: &DataFile, found: &mut Found) -> Option<()> {
    for line in file.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let row: Value = serde_json::from_slice(line).ok()?;
        let kind = row.get(KIND)?.as_str()?;
        *found.get_or_insert_default().entry(kind.to_owned()).or_default() += 1;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lakeward_model::LakePath;

    use super::*;

    fn told(numbers: &Numbers) -> Value {
        let mut answer = Map::new();
        numbers.tell("", &mut answer);
        answer.into()
    }

    fn ndjson(text: &'static str) -> DataFile {
        DataFile {
            path: LakePath::new("a").unwrap(),
            role: Role::Data,
            format: Format::Ndjson,
            content_encoding: None,
            rows: 0,
            body: Bytes::from_static(text.as_bytes()),
        }
    }

    #[test]
    fn kinds_are_counted_by_their_column_or_by_their_table() {
        let rows = |rows| BuiltCounts { rows, ..BuiltCounts::default() };
        let mut by_table = Numbers::default();
        by_table.count("video_events", &rows(3), &[]);
        by_table.count("page_viewed_events", &rows(2), &[]);
        let told_by_table = told(&by_table);
        assert_eq!(told_by_table["events_processed"], 5);
        assert_eq!(told_by_table["video_events_processed"], 3);
        assert_eq!(told_by_table["part_attempt_events_processed"], 0);

        let mut by_column = by_table.clone();
        let lines = "{\"event_type\":\"video\"}\n{\"event_type\":\"unknown\"}\n";
        let counts = BuiltCounts { rows: 2, quarantined: 1, ..BuiltCounts::default() };
        by_column.count("raw_events", &counts, &[ndjson(lines)]);
        let told_by_column = told(&by_column);
        assert_eq!(told_by_column["events_processed"], 2);
        assert_eq!(told_by_column["video_events_processed"], 1);
        assert_eq!(told_by_column["invalid_lines"], 1);
        assert_eq!(told_by_column["rows"]["video_events"], 3);

        let mut twice = by_column.clone();
        twice.add(&by_column);
        assert_eq!(told(&twice)["events_processed"], 4);
        assert_eq!(told(&twice)["video_events_processed"], 2);
    }

    #[test]
    fn other_tables_are_counted_too() {
        let mut numbers = Numbers::default();
        numbers.count("mine", &BuiltCounts { rows: 7, ..BuiltCounts::default() }, &[]);
        assert_eq!(told(&numbers)["events_processed"], 7);
    }
}
