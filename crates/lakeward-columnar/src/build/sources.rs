//! What a path takes from the records' lineage, for every row.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringViewBuilder};
use arrow::datatypes::{DataType, Field};
use lakeward_model::{Lineage, RecordBlock};

use crate::path::SourcePart;

/// Where the records of a batch were pulled from, as far as the path asks for
/// it: records that follow one another mostly come from one file.
#[derive(Debug, Default)]
pub(super) struct Sources {
    asked: Vec<SourcePart>,
    /// For each stretch of records from one file, or from none, where it starts.
    starts: Vec<u32>,
    /// For each stretch the values of what is asked for.
    values: Vec<Box<[Option<String>]>>,
    /// The file and the fields of the latest stretch.
    latest: Option<(String, String)>,
}

impl Sources {
    pub(super) fn new(asked: Vec<SourcePart>) -> Self {
        Self { asked, ..Self::default() }
    }

    /// Notes a block whose first record has the index `first` in the batch.
    pub(super) fn note(&mut self, block: &RecordBlock, first: u32) {
        if self.asked.is_empty() {
            return;
        }
        let Some(keys) = &block.records.keys else { return self.enter(first, None) };
        for (index, at) in (first..).zip(0..block.records.len()) {
            self.enter(index, Lineage::read(keys.get(at)));
        }
    }

    fn enter(&mut self, record: u32, lineage: Option<Lineage<'_>>) {
        let latest = self.latest.as_ref().map(|(file, fields)| (file.as_str(), fields.as_str()));
        let now = lineage.map(|lineage| (lineage.file, lineage.fields));
        if latest == now && !self.starts.is_empty() {
            return;
        }
        let value = |part: &SourcePart| lineage.and_then(|lineage| part.of(&lineage));
        self.values.push(self.asked.iter().map(value).collect());
        self.starts.push(record);
        self.latest = now.map(|(file, fields)| (file.into(), fields.into()));
    }

    /// The hidden columns of rows whose records are `records`, ascending.
    pub(super) fn columns(&self, records: &[u32]) -> Vec<(Field, ArrayRef)> {
        let column = |at: usize| {
            let field = Field::new(self.asked[at].column(), DataType::Utf8View, true);
            (field, self.column(at, records))
        };
        (0..self.asked.len()).map(column).collect()
    }

    fn column(&self, part: usize, records: &[u32]) -> ArrayRef {
        let mut column = StringViewBuilder::with_capacity(records.len());
        let mut rest = records;
        for (stretch, values) in self.values.iter().enumerate() {
            let end = self.starts.get(stretch + 1).copied().unwrap_or(u32::MAX);
            let (rows, more) = rest.split_at(rest.partition_point(|&record| record < end));
            rest = more;
            match &values[part] {
                Some(value) if !rows.is_empty() => append(&mut column, value, rows.len()),
                _ => rows.iter().for_each(|_| column.append_null()),
            }
        }
        Arc::new(column.finish())
    }
}

/// Appends a text many times, which is there once.
fn append(column: &mut StringViewBuilder, text: &str, rows: usize) {
    let Ok(length) = u32::try_from(text.len()) else {
        unreachable!("the name of a file has at most 65,535 bytes");
    };
    let block = column.append_block(text.as_bytes().to_vec().into());
    for _ in 0..rows {
        column.try_append_view(block, 0, length).expect("the block is this text");
    }
}
