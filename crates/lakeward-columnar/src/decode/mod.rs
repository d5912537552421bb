//! JSON records to Arrow columns.
//!
//! Events of one stream look alike, so the decoder predicts: after a field it
//! expects the bytes that came there before (see [`links`]), and appends what
//! follows straight to that field's buffers (see [`node`]). Whatever was not
//! predicted goes the general way, with the same result.
//!
//! # What becomes of a record
//!
//! A record holds any number of JSON objects, or arrays of objects, with or
//! without whitespace between them; a byte order mark at its start is skipped.
//! Each object is a row. A record with anything else in it, or with anything
//! malformed, is rejected as a whole and leaves no trace. A record without a
//! value in it is counted as empty.
//!
//! # What becomes of a value
//!
//! - A null is nothing, like an absent key. A column exists from its first
//!   value on.
//! - Text, booleans, objects and arrays have their own types. Integers are
//!   `Int64`; numbers with a fraction or an exponent, and integers beyond
//!   `i64` that a float equals, are `Float64`.
//! - An `Int64` column becomes `Float64` when a float comes, also if the schema
//!   has it, as long as floats equal all its integers; else the float is
//!   rescued. In a `Float64` column an integer that no float equals is rescued.
//! - Any other conflict inside one batch makes a new column a `Json` one, with
//!   what came before rendered as JSON text. In a column of the schema, what
//!   does not fit is rescued.
//! - A declared column is there from the start and has its declared type,
//!   whatever the schema says. It takes what means the same (see
//!   [`ColumnMode`]); the rest is rescued. An array of objects may come where
//!   fields of an object are declared, if it comes before any object: then they
//!   are those of its elements.
//! - A key that differs from a column's name only in case is rescued: DuckDB,
//!   Spark and Athena do not tell them apart.
//! - An object or array in which nothing but nulls was seen by the end of the
//!   batch is a `Json` column that holds `{}` or `[]`, and stays one: empty
//!   free-form maps are common, Parquet has no empty structs, and a column's
//!   type must not depend on which batch came first more than once.
//! - When a key comes twice in an object the first value is the column's, and
//!   later ones are rescued (nulls are nothing here too).
//! - A lone surrogate escape is U+FFFD in the column, and the whole string is
//!   rescued with its original escapes. `Json` columns keep it as it is.
//! - A column named `_rescued` (in any case), keys with lone surrogates (under their escaped
//!   spelling), paths beyond 1,024 bytes, and fields beyond the column limit
//!   are rescued.
//! - Numbers beyond the floats (`1e400`, or `1e-400`) are rescued. `-0` is the
//!   integer 0, and -0.0 in a `Float64` column.
//!
//! # What rescued means
//!
//! The column `_rescued` holds a JSON object per row: the dotted path of the
//! field (a key that contains `.` or `"`, or is empty, in JSON quotes) and the
//! original text of the value; if several values have one path, a list of
//! them. If the value is inside a list, the outermost list is there whole: it
//! replaces the column's, which has a null in that place. A record of which
//! more than 16 times its length would be rescued (its paths are long and its
//! values many) is rejected instead.

mod arrays;
mod declare;
pub(crate) mod exact;
mod fault;
mod fields;
mod input;
mod links;
mod node;
mod number;
mod render;
mod rescue;
mod scan;
pub(crate) mod special;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use arrow::record_batch::RecordBatch;
use lakeward_model::{RecordBlock, Records};

use self::fault::{Fault, What};
use self::input::{Input, PADDING};
use self::links::Links;
use self::node::{ROOT, Tree};
use self::rescue::Rescues;
use crate::schema::{RESCUED, TableSchema};
use crate::shape::{ColumnMode, Contract};

/// How deep objects and arrays may nest at most, whatever the options say:
/// the decoder descends on the stack.
const DEPTH_MAX: usize = 64;

/// The most input bytes that one batch may have: Arrow's string offsets are
/// 32 bits wide.
const INPUT_MAX: u64 = i32::MAX as u64;

/// How many bytes may be rescued of a record, per byte that it has. Paths
/// repeat what the record says once: a hostile one must not take all memory.
const RESCUED_MAX: usize = 16;

/// How to decode.
#[derive(Debug, Clone)]
pub struct DecodeOptions {
    /// Declared columns by dotted path. Default none.
    pub columns: BTreeMap<String, ColumnMode>,
    /// How many leaf columns the schema may grow to; what comes beyond is
    /// rescued. Default 1,000.
    pub column_limit: usize,
    /// How deep objects and arrays may nest, the row's object included; a
    /// record that nests deeper is rejected. Default 64, which is also the most.
    pub depth_limit: usize,
    /// The top-level columns that are wanted; the others are checked and
    /// skipped, and are not in the resulting schema either. Default all.
    pub only: Option<Vec<String>>,
    /// How many bytes will be pushed in all, if known: after the first block
    /// the buffers are made that large. Default 0, not known.
    pub expected_bytes: u64,
    /// Whether columns may come. Unless `evolve`, and if the schema has a
    /// column or one is declared, no column is new and none is widened: what
    /// other fields hold is rescued (`freeze`) or left out and counted
    /// (`discard_unknown`). Default `evolve`.
    pub contract: Contract,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            columns: BTreeMap::new(),
            column_limit: 1_000,
            depth_limit: 64,
            only: None,
            expected_bytes: 0,
            contract: Contract::Evolve,
        }
    }
}

/// Turns records into columns. Give it all blocks of a batch, then finish.
#[derive(Debug)]
pub struct Decoder {
    options: DecodeOptions,
    schema: TableSchema,
    tree: Tree,
    links: Links,
    /// Leaf columns so far.
    leaves: usize,
    /// Nodes that there may be: bounds columns of which only nulls are known.
    nodes_max: usize,
    rows: usize,
    row_records: Vec<u32>,
    records: u32,
    rejected: Vec<Rejected>,
    empty: u64,
    rescues: Rescues,
    /// No column is new.
    closed: bool,
    discarded: u64,
    /// No column has more bytes of text than this.
    taken: u64,
    current: Current,
    scratch: Vec<u8>,
}

/// What is known about the record that is being read.
#[derive(Debug, Default)]
struct Current {
    /// Where it starts: behind the byte order mark.
    start: usize,
    /// The grammar of all of it was checked, so that it will not be rejected.
    checked: bool,
    /// How many lists are open.
    lists: usize,
    /// Something in the outermost open list found no place in the columns.
    spoilt: bool,
}

/// A batch as columns.
#[derive(Debug)]
pub struct Decoded {
    /// The rows. The columns are exactly those of `schema`.
    pub rows: RecordBatch,
    /// For each row the index of its record, counted from the first pushed.
    pub row_records: Vec<u32>,
    /// The records that gave no row because they are malformed, in order.
    pub rejected: Vec<Rejected>,
    /// How many records held nothing: no bytes, only whitespace, or only `[]`.
    pub empty: u64,
    /// The schema after this batch: the given columns in their order, then new
    /// ones in order of first sight, then `_rescued` if there is one. Its
    /// version is one more than the given if anything changed.
    pub schema: TableSchema,
    /// How many values are in `_rescued`.
    pub rescued: u64,
    /// The rows that have values in `_rescued`, ascending.
    pub rescued_rows: Vec<u32>,
    /// How many values of unknown fields were left out, as the contract says.
    /// An object or array counts once.
    pub discarded: u64,
}

/// A record that is malformed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its index, counted from the first pushed record.
    pub record: u32,
    /// `json.syntax`, `json.utf8`, `json.depth`, `json.not_object` or
    /// `json.too_large`.
    pub code: &'static str,
    /// For a person, with the position in the record.
    pub message: String,
}

/// Why a block was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The batch would be too large for Arrow's 32-bit offsets. The caller
    /// drops this decoder and starts again with fewer records.
    #[error("a batch may hold at most {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
}

impl Decoder {
    /// A decoder for one batch of a table with this schema.
    #[must_use]
    pub fn new(schema: &TableSchema, mut options: DecodeOptions) -> Self {
        options.depth_limit = options.depth_limit.min(DEPTH_MAX);
        let mut tree = Tree::new();
        for column in &schema.columns {
            if column.name != RESCUED {
                tree.add_pinned(ROOT, &column.name, &column.ty);
            }
        }
        let mut decoder = Self {
            leaves: 0,
            nodes_max: 0,
            closed: options.contract != Contract::Evolve
                && !(schema.is_empty() && options.columns.is_empty()),
            discarded: 0,
            options,
            schema: schema.clone(),
            tree,
            links: Links::default(),
            rows: 0,
            row_records: Vec::new(),
            records: 0,
            rejected: Vec::new(),
            empty: 0,
            rescues: Rescues::default(),
            taken: 0,
            current: Current::default(),
            scratch: Vec::new(),
        };
        decoder.apply_options();
        decoder.nodes_max = decoder.tree.0.len() + 2 * decoder.options.column_limit + 1_024;
        decoder
    }

    /// Appends the records of `block`.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn push(&mut self, block: &RecordBlock) -> Result<(), DecodeError> {
        self.push_records(&block.records)
    }

    /// Appends `records`.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn push_records(&mut self, records: &Records) -> Result<(), DecodeError> {
        let data = &records.data[..];
        let first = self.taken == 0;
        let taken = self.taken + data.len() as u64;
        if taken > INPUT_MAX || self.rescues.bytes() as u64 > INPUT_MAX / 2 {
            return Err(DecodeError::TooLarge { limit: INPUT_MAX });
        }
        self.taken = taken;
        let is_text = simdutf8::basic::from_utf8(data).is_ok();
        let mut start = 0;
        for &end in &records.ends {
            let end = end as usize;
            // In a block with bad bytes a record must not see its neighbours.
            if is_text && end + PADDING <= data.len() {
                self.record(Input::new(&data[start..end + PADDING]));
            } else {
                self.copied_record(&data[start..end], is_text);
            }
            start = end;
        }
        if first && !data.is_empty() && self.options.expected_bytes > data.len() as u64 {
            // A little more, as later records differ from the first ones.
            let expected = self.options.expected_bytes.min(INPUT_MAX) as f64;
            self.tree.reserve(expected / data.len() as f64 * 1.05);
        }
        Ok(())
    }

    /// How many rows there are so far.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The records that were rejected so far, in order.
    #[must_use]
    pub fn rejected(&self) -> &[Rejected] {
        &self.rejected
    }

    /// The bytes that the decoder holds. It never holds on to a block.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.tree.memory()
            + self.links.memory()
            + self.rescues.memory()
            + self.row_records.capacity() * 4
            + self.scratch.capacity()
    }

    /// Reads a record that has no padding.
    fn copied_record(&mut self, record: &[u8], is_text: bool) {
        if !is_text && let Err(error) = simdutf8::compat::from_utf8(record) {
            self.reject(Fault::new(What::Utf8, error.valid_up_to()));
            self.records += 1;
            return;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.extend_from_slice(record);
        scratch.extend_from_slice(&[0; PADDING]);
        self.record(Input::new(&scratch));
        self.scratch = scratch;
    }

    /// Reads a record: all of it, or nothing.
    #[inline]
    fn record(&mut self, input: Input<'_>) {
        let (before, rescued, discarded) = (self.rows, self.rescues.bytes(), self.discarded);
        self.current = Current::default();
        let read = self.documents(input).and_then(|()| {
            let is_bounded = self.rescues.bytes() - rescued <= RESCUED_MAX * input.end();
            if is_bounded { Ok(()) } else { Err(Fault::new(What::TooLarge, 0)) }
        });
        match read {
            Ok(()) if self.rows == before => self.empty += 1,
            Ok(()) => {}
            Err(fault) => {
                self.rows = before;
                self.discarded = discarded;
                self.row_records.truncate(before);
                self.tree.truncate(ROOT, before);
                self.rescues.truncate(before);
                self.reject(fault.within(input.end()));
            }
        }
        self.records += 1;
    }

    #[cold]
    fn reject(&mut self, fault: Fault) {
        self.rejected.push(Rejected { record: self.records, code: fault.code(), message: fault.message() });
    }

    /// Reads the documents of a record.
    #[inline]
    fn documents(&mut self, input: Input<'_>) -> Result<(), Fault> {
        let depth = self.options.depth_limit;
        let has_mark = input.byte(0) == 0xef && input.slice(0, 3) == b"\xef\xbb\xbf";
        let mut at = if has_mark { 3 } else { 0 };
        self.current.start = at;
        loop {
            at = input.skip_space(at);
            if at >= input.end() {
                return Ok(());
            }
            at = match input.byte(at) {
                b'{' => self.row(input, at, depth)?,
                b'[' => {
                    let inner = depth.checked_sub(1).ok_or(Fault::new(What::Depth, at))?;
                    scan::elements(input, at, |at| match input.byte(at) {
                        b'{' => self.row(input, at, inner),
                        _ => Err(scan::not_object(input, at, inner)),
                    })?
                }
                _ => return Err(scan::not_object(input, at, depth)),
            };
            if at > input.end() {
                return Err(Fault::new(What::Truncated, input.end()));
            }
        }
    }

    /// Reads the object at `at` as a row.
    #[inline]
    fn row(&mut self, input: Input<'_>, at: usize, depth: usize) -> Result<usize, Fault> {
        let inner = depth.checked_sub(1).ok_or(Fault::new(What::Depth, at))?;
        let end = self.object(input, at + 1, ROOT, self.rows, inner)?;
        self.row_records.push(self.records);
        self.rows += 1;
        Ok(end)
    }

    /// Makes sure that the record will not be rejected, before anything that
    /// could not be taken back.
    fn check_record(&mut self, input: Input<'_>) -> Result<(), Fault> {
        if !self.current.checked {
            scan::record(input, self.current.start, self.options.depth_limit)?;
            self.current.checked = true;
        }
        Ok(())
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.options.only.as_ref().is_none_or(|only| only.iter().any(|wanted| wanted == name))
    }
}
