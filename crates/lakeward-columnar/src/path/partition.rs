//! Which rows go to which prefix.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema};
use jiff::tz::TimeZone;
use lakeward_model::{BatchId, Timestamp};

use super::template::{Event, From, Moment, Template};
use crate::process::PartitionKey;

mod cells;

use cells::Cells;
pub(crate) use cells::{Column, find, time_type};

/// What an event expression becomes for a row that has no value for it: the
/// column is missing or null, holds no scalar, or holds no time where a time
/// is asked for.
pub const MISSING: &str = "__missing__";

/// The rows of a batch that share a prefix: one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The evaluated prefix; a valid path once an object name follows.
    pub prefix: String,
    /// The rows, as ascending runs that do not touch.
    pub rows: Vec<Range<usize>>,
    /// The arrival of the oldest record among them.
    pub oldest: Timestamp,
    /// Whether every `!{event:<column>}` and `!{source:…}` value can be read back from the
    /// prefix. If not (a value was missing, or cut because it was too long),
    /// the file has to keep its hive columns so that no value is lost.
    pub exact: bool,
}

/// Where and as what a batch is partitioned.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The zone of all patterns.
    pub zone: &'a TimeZone,
    /// The batch.
    pub batch: BatchId,
    /// The index of the first partition's file in the batch; the others follow.
    pub first_index: usize,
}

/// The columns from which [`partition`] reads the partition keys of a
/// template: `values` has, for each row, those of all `keys` in their order.
///
/// Put them before the rows' own columns: the first of a name counts.
///
/// # Panics
/// A row has not as many values as there are keys.
#[must_use]
pub fn key_columns<'v>(
    keys: &[PartitionKey],
    values: impl ExactSizeIterator<Item = &'v [String]>,
) -> RecordBatch {
    let rows = values.len();
    let mut builders: Vec<StringBuilder> = keys.iter().map(|_| StringBuilder::new()).collect();
    for row in values {
        assert_eq!(row.len(), keys.len(), "every row has a value for every key");
        for (builder, value) in builders.iter_mut().zip(row) {
            builder.append_value(value);
        }
    }
    let fields: Vec<Field> = keys.iter().map(|key| Field::new(key.column(), DataType::Utf8, false)).collect();
    let columns = builders.into_iter().map(|mut builder| Arc::new(builder.finish()) as ArrayRef).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .expect("the columns are as long as the rows")
}

/// Groups `rows` by the values of the template's event expressions, in order
/// of first sight; one group of all rows if it has none, no group if there are
/// no rows.
///
/// `row_records` has the record of each row, ascending. `arrivals` has, for
/// each block of records, its first record and when it came, ascending by
/// record.
///
/// # Panics
/// `row_records` is not as long as `rows`, or `arrivals` does not cover its
/// first record.
#[must_use]
pub fn partition(
    template: &Template,
    rows: &RecordBatch,
    row_records: &[u32],
    arrivals: &[(u32, Timestamp)],
    place: &Place<'_>,
) -> Vec<Partition> {
    assert_eq!(rows.num_rows(), row_records.len(), "every row has a record");
    if row_records.is_empty() {
        return Vec::new();
    }
    let (cells, places) = cells::evaluate(template.events(), rows, place.zone, template.value_limit());
    let groups = group(&cells, row_records, arrivals);
    let evaluate = |(index, group): (usize, Group)| {
        let value = |event: usize| {
            let (column, text) = places[event];
            (cells[column].at(group.rows[0].start), text)
        };
        let prefix = template.evaluate_with(
            &Moment {
                arrival: group.oldest,
                zone: place.zone,
                batch: place.batch,
                index: place.first_index + index,
                error_output_type: "",
            },
            |event| {
                let (cell, text) = value(event);
                cell.texts[text].as_str()
            },
        );
        let is_plain = |event: &Event| event.pattern.is_none() && !matches!(event.from, From::Key(_));
        let mut plain = template.events().enumerate().filter(|(_, event)| is_plain(event));
        let exact = plain.all(|(event, _)| value(event).0.exact);
        Partition { prefix, rows: group.rows, oldest: group.oldest, exact }
    };
    groups.into_iter().enumerate().map(evaluate).collect()
}

/// The rows of a partition, before its prefix is known.
struct Group {
    rows: Vec<Range<usize>>,
    oldest: Timestamp,
}

fn group(cells: &[Cells], row_records: &[u32], arrivals: &[(u32, Timestamp)]) -> Vec<Group> {
    let rows = row_records.len();
    let mut arrivals = Arrivals { blocks: arrivals, at: 0 };
    let mut groups: Vec<Group> = Vec::new();
    let Some(ids) = cells::combine(cells) else {
        let oldest = arrivals.oldest(row_records[0], row_records[rows - 1]);
        return vec![Group { rows: std::iter::once(0..rows).collect(), oldest }];
    };
    let mut start = 0;
    while start < rows {
        let id = ids[start];
        let end = ids[start..].iter().position(|other| *other != id).map_or(rows, |run| start + run);
        let oldest = arrivals.oldest(row_records[start], row_records[end - 1]);
        match groups.get_mut(id as usize) {
            Some(group) => {
                group.rows.push(start..end);
                group.oldest = group.oldest.min(oldest);
            }
            None => groups.push(Group { rows: std::iter::once(start..end).collect(), oldest }),
        }
        start = end;
    }
    groups
}

/// Looks up arrivals for records that are asked for in ascending order.
struct Arrivals<'a> {
    blocks: &'a [(u32, Timestamp)],
    /// The block of the last question's first record.
    at: usize,
}

impl Arrivals<'_> {
    /// The earliest arrival of the blocks that hold `first..=last`: a clock
    /// may have gone backwards in between.
    fn oldest(&mut self, first: u32, last: u32) -> Timestamp {
        assert!(self.blocks[self.at].0 <= first, "records ascend and arrivals cover them");
        while self.blocks.get(self.at + 1).is_some_and(|next| next.0 <= first) {
            self.at += 1;
        }
        let inside = self.blocks[self.at..].iter().take_while(|block| block.0 <= last);
        inside.map(|block| block.1).min().expect("the first block is inside")
    }
}
