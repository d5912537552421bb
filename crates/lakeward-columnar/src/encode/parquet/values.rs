//! The values of a leaf column without its nulls, and how they are encoded.
//!
//! PLAIN or a dictionary, chosen from a sample. Both are what every reader
//! knows: Spark 3.2 (redpanda-data/connect#1504), Azure Synapse
//! (aloneguid/parquet-dotnet#392) and StarRocks of 2023
//! (StarRocks/starrocks#37169) refuse the DELTA encodings, so that Zstandard
//! does their work here.

use std::borrow::Cow;
use std::ops::Range;

use ::parquet::basic::Encoding;
use ::parquet::file::statistics::Statistics;
use arrow::array::{Array, ArrayRef, AsArray, BooleanBufferBuilder};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, ToByteSlice,
};

use super::dictionary::{Dictionary, NumberDictionary, Text, TextDictionary};
use super::{hybrid, statistics};
use crate::encode::runs;

/// Columns of fewer values are not sampled: their dictionary is tried.
const SMALL: usize = 8 * 1024;
/// Values in a sample.
const SAMPLE: usize = 2 * 1024;
/// After so many values without one repetition the dictionary of a small
/// column is given up: had it as few distinct values as a dictionary needs to
/// pay, they would have met by now, unless they come sorted.
const TRIAL: usize = 512;
/// What a dictionary must save at least: its page header and what the footer
/// says about it.
const OVERHEAD: usize = 48;

/// The values of one leaf that are there.
pub(super) enum Values<'a> {
    Boolean(BooleanBuffer),
    Int32(Cow<'a, [i32]>),
    Int64(Cow<'a, [i64]>),
    Float64(Cow<'a, [f64]>),
    Bytes { spans: Vec<Span>, data: &'a [u8], utf8: bool },
}

/// Where a text or binary value stands in its column.
#[derive(Clone, Copy)]
pub(super) struct Span {
    start: u32,
    length: u32,
}

/// Vectors that are kept only to be used again.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) indices: Vec<u32>,
    int32: Vec<i32>,
    int64: Vec<i64>,
    float64: Vec<f64>,
    spans: Vec<Span>,
}

/// Encoded values, page by page.
pub(super) enum Encoded {
    Plain,
    Dictionary { page: Vec<u8>, entries: usize, indices: Vec<u32> },
}

/// Whether this module encodes values of `data_type`.
pub(super) fn knows(data_type: &DataType) -> bool {
    use arrow::datatypes::TimeUnit::Microsecond;
    matches!(
        data_type,
        DataType::Boolean
            | DataType::Int32
            | DataType::Date32
            | DataType::Int64
            | DataType::Timestamp(Microsecond, _)
            | DataType::Float64
            | DataType::Utf8
            | DataType::Binary
    )
}

impl<'a> Values<'a> {
    /// The values of those rows of `runs` that are `present`. `array` has a
    /// type that this module [`knows`]; whether they are null is no longer
    /// looked at.
    pub(super) fn new(
        array: &'a ArrayRef,
        runs: &[Range<usize>],
        present: Option<&BooleanBuffer>,
        scratch: &mut Scratch,
    ) -> Self {
        let rows = Rows { runs, present };
        match array.data_type() {
            DataType::Boolean => Self::Boolean(rows.bits(array.as_boolean().values())),
            DataType::Int32 => {
                Self::Int32(rows.numbers(array.as_primitive::<Int32Type>().values(), &mut scratch.int32))
            }
            DataType::Date32 => {
                Self::Int32(rows.numbers(array.as_primitive::<Date32Type>().values(), &mut scratch.int32))
            }
            DataType::Int64 => {
                Self::Int64(rows.numbers(array.as_primitive::<Int64Type>().values(), &mut scratch.int64))
            }
            DataType::Timestamp(..) => {
                let times = array.as_primitive::<TimestampMicrosecondType>();
                Self::Int64(rows.numbers(times.values(), &mut scratch.int64))
            }
            DataType::Float64 => Self::Float64(
                rows.numbers(array.as_primitive::<Float64Type>().values(), &mut scratch.float64),
            ),
            DataType::Utf8 => {
                let text = array.as_string::<i32>();
                let spans = rows.spans(text.offsets(), &mut scratch.spans);
                Self::Bytes { spans, data: text.values(), utf8: true }
            }
            DataType::Binary => {
                let binary = array.as_binary::<i32>();
                let spans = rows.spans(binary.offsets(), &mut scratch.spans);
                Self::Bytes { spans, data: binary.values(), utf8: false }
            }
            other => unreachable!("{other} is not encoded here"),
        }
    }

    /// Gives the vectors back.
    pub(super) fn recycle(self, scratch: &mut Scratch) {
        match self {
            Self::Int32(Cow::Owned(values)) => scratch.int32 = values,
            Self::Int64(Cow::Owned(values)) => scratch.int64 = values,
            Self::Float64(Cow::Owned(values)) => scratch.float64 = values,
            Self::Bytes { spans, .. } => scratch.spans = spans,
            _ => {}
        }
    }

    /// Whether they are text or binary values, whose repetitions may be far
    /// apart.
    pub(super) fn is_bytes(&self) -> bool {
        matches!(self, Self::Bytes { .. })
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Boolean(bits) => bits.len(),
            Self::Int32(values) => values.len(),
            Self::Int64(values) => values.len(),
            Self::Float64(values) => values.len(),
            Self::Bytes { spans, .. } => spans.len(),
        }
    }

    /// Bytes that the values of `range` take if they are PLAIN.
    pub(super) fn plain_bytes(&self, range: Range<usize>) -> usize {
        match self {
            Self::Boolean(_) => range.len().div_ceil(8),
            Self::Int32(_) => range.len() * 4,
            Self::Int64(_) | Self::Float64(_) => range.len() * 8,
            Self::Bytes { spans, .. } => {
                range.len() * 4 + spans[range].iter().map(|span| span.length as usize).sum::<usize>()
            }
        }
    }

    /// Chooses how to encode them. `indices` is any vector that may be used
    /// again for the indices of a dictionary.
    pub(super) fn encode(&self, indices: &mut Vec<u32>) -> Encoded {
        match self {
            Self::Boolean(_) => Encoded::Plain,
            Self::Int32(values) => {
                self.choose::<NumberDictionary<4>>(indices, |i| u64::from(values[i].cast_unsigned()))
            }
            Self::Int64(values) => self.choose::<NumberDictionary<8>>(indices, |i| values[i].cast_unsigned()),
            Self::Float64(values) => self.choose::<NumberDictionary<8>>(indices, |i| values[i].to_bits()),
            Self::Bytes { spans, data, .. } => {
                self.choose::<TextDictionary>(indices, |i| Text::new(data, spans[i].range()))
            }
        }
    }

    fn choose<'b, D: Dictionary>(
        &'b self,
        indices: &mut Vec<u32>,
        value: impl Fn(usize) -> D::Value<'b>,
    ) -> Encoded {
        let count = self.len();
        if count > SMALL && !self.sample_repeats::<D>(&value) {
            return Encoded::Plain;
        }
        let mut dictionary = D::default();
        indices.clear();
        indices.reserve(count);
        for at in 0..count {
            if at == TRIAL && count <= SMALL && dictionary.len() == TRIAL {
                return Encoded::Plain;
            }
            match dictionary.index_of(value(at)) {
                Ok(index) => indices.push(index),
                Err(_) => return Encoded::Plain,
            }
        }
        let width = hybrid::width_of(dictionary.len().saturating_sub(1) as u32) as usize;
        if !self.pays(dictionary.bytes(), width) {
            return Encoded::Plain;
        }
        let entries = dictionary.len();
        Encoded::Dictionary { page: dictionary.into_page(), entries, indices: std::mem::take(indices) }
    }

    /// Whether a dictionary of so many bytes with indices of `width` bits is
    /// much smaller than PLAIN, which compresses better than indices do.
    fn pays(&self, dictionary: usize, width: usize) -> bool {
        let count = self.len();
        let plain = self.plain_bytes(0..count);
        dictionary + count * width / 8 + OVERHEAD < plain / 3 * 2
    }

    /// Judges by values taken at even distances. Pairs that are equal tell
    /// how many distinct values there are: of `m` drawn from `d`, `m² / 2d`
    /// are expected to be repeats.
    fn sample_repeats<'b, D: Dictionary>(&'b self, value: impl Fn(usize) -> D::Value<'b>) -> bool {
        let count = self.len();
        let mut dictionary = D::default();
        for step in 0..SAMPLE {
            if dictionary.index_of(value(step * count / SAMPLE)).is_err() {
                return false;
            }
        }
        let distinct = dictionary.len();
        let repeats = SAMPLE - distinct;
        if repeats == 0 {
            return false;
        }
        let expected = (SAMPLE * SAMPLE / (2 * repeats)).clamp(distinct, count);
        let bytes = dictionary.bytes() / distinct * expected;
        let width = hybrid::width_of(expected as u32) as usize;
        self.pays(bytes, width)
    }

    fn statistics(&self, nulls: u64) -> Statistics {
        match self {
            Self::Boolean(bits) => statistics::of_boolean(bits.count_set_bits(), bits.len(), nulls),
            Self::Int32(values) => statistics::of_int32(values, nulls),
            Self::Int64(values) => statistics::of_int64(values, nulls),
            Self::Float64(values) => statistics::of_float64(values, nulls),
            Self::Bytes { spans, data, utf8 } => {
                statistics::of_bytes(spans.iter().map(|span| &data[span.range()]), *utf8, nulls)
            }
        }
    }

    /// Appends the values of `range`, PLAIN.
    fn write_plain(&self, out: &mut Vec<u8>, range: Range<usize>) {
        // PLAIN is little-endian, as the buffers are here.
        const { assert!(cfg!(target_endian = "little")) };
        match self {
            Self::Boolean(bits) => {
                let bytes = range.len().div_ceil(8);
                let start = out.len();
                for word in bits.slice(range.start, range.len()).bit_chunks().iter_padded() {
                    out.extend_from_slice(&word.to_le_bytes());
                }
                out.truncate(start + bytes);
            }
            Self::Int32(values) => out.extend_from_slice(values[range].to_byte_slice()),
            Self::Int64(values) => out.extend_from_slice(values[range].to_byte_slice()),
            Self::Float64(values) => out.extend_from_slice(values[range].to_byte_slice()),
            Self::Bytes { spans, data, .. } => {
                out.reserve(self.plain_bytes(range.clone()));
                for span in &spans[range] {
                    out.extend_from_slice(&span.length.to_le_bytes());
                    out.extend_from_slice(&data[span.range()]);
                }
            }
        }
    }
}

impl Span {
    #[inline]
    fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + self.length as usize
    }
}

/// The rows whose values are wanted.
#[derive(Clone, Copy)]
struct Rows<'r> {
    runs: &'r [Range<usize>],
    present: Option<&'r BooleanBuffer>,
}

impl Rows<'_> {
    fn count(self) -> usize {
        self.present.map_or_else(|| runs::rows(self.runs), BooleanBuffer::count_set_bits)
    }

    fn bits(self, bits: &BooleanBuffer) -> BooleanBuffer {
        let mut gathered = BooleanBufferBuilder::new(self.count());
        runs::present(self.runs, self.present, |range| runs::append_bits(&mut gathered, bits, range));
        gathered.finish()
    }

    /// The numbers as they lie if they are one run, or gathered.
    fn numbers<'a, T: Copy>(self, values: &'a [T], scratch: &mut Vec<T>) -> Cow<'a, [T]> {
        if let ([run], None) = (self.runs, self.present) {
            return Cow::Borrowed(&values[run.clone()]);
        }
        let mut gathered = std::mem::take(scratch);
        gathered.clear();
        gathered.reserve(self.count());
        runs::present(self.runs, self.present, |range| gathered.extend_from_slice(&values[range]));
        Cow::Owned(gathered)
    }

    /// Text stays where it is.
    fn spans(self, offsets: &[i32], scratch: &mut Vec<Span>) -> Vec<Span> {
        let mut spans = std::mem::take(scratch);
        spans.clear();
        spans.reserve(self.count());
        runs::present(self.runs, self.present, |range| {
            // Offsets ascend from 0 or above.
            let ends = offsets[range.start..=range.end].windows(2);
            spans.extend(ends.map(|o| Span { start: o[0] as u32, length: (o[1] - o[0]) as u32 }));
        });
        spans
    }
}

/// The entries of a dictionary page of text.
fn entries(mut page: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = page.split_first_chunk()?;
        let (entry, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        page = rest;
        Some(entry)
    })
}

impl Encoded {
    pub(super) fn encoding(&self) -> Encoding {
        match self {
            Self::Plain => Encoding::PLAIN,
            Self::Dictionary { .. } => Encoding::RLE_DICTIONARY,
        }
    }

    /// The statistics of `values`; of text in a dictionary, from its entries.
    pub(super) fn statistics(&self, values: &Values<'_>, nulls: u64) -> Statistics {
        match (self, values) {
            (Self::Dictionary { page, .. }, Values::Bytes { utf8, .. }) => {
                statistics::of_bytes(entries(page), *utf8, nulls)
            }
            _ => values.statistics(nulls),
        }
    }

    /// Appends the values of `range` as a data page holds them.
    pub(super) fn write(&self, values: &Values<'_>, out: &mut Vec<u8>, range: Range<usize>) {
        match self {
            Self::Plain => values.write_plain(out, range),
            Self::Dictionary { entries, indices, .. } => {
                let width = hybrid::width_of(entries.saturating_sub(1) as u32);
                out.push(width as u8);
                hybrid::write_indices(out, &indices[range], width);
            }
        }
    }

    /// Bytes that the values of `range` take in a data page, about.
    pub(super) fn bytes(&self, values: &Values<'_>, range: Range<usize>) -> usize {
        match self {
            Self::Plain => values.plain_bytes(range),
            Self::Dictionary { .. } => range.len() * 2,
        }
    }
}
