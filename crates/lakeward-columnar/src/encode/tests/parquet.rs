//! Parquet files, read back by the `parquet` crate's reader.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array,
    Int64Array, LargeStringArray, ListArray, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Encoding;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use proptest::prelude::*;

use super::{batch, runs, strings};
use crate::encode::{CREATED_BY, EncodeError, encode};
use crate::shape::{Output, ParquetCompression, ParquetOptions};

fn read(body: bytes::Bytes) -> (RecordBatch, Arc<ParquetMetaData>) {
    let builder = ParquetRecordBatchReaderBuilder::try_new(body).unwrap();
    let (schema, metadata) = (Arc::clone(builder.schema()), Arc::clone(builder.metadata()));
    // At once: arrow's `concat` does not take every nested array that its reader gives.
    let batches: Vec<_> = builder.with_batch_size(1 << 20).build().unwrap().map(Result::unwrap).collect();
    (concat_batches(&schema, &batches).unwrap(), metadata)
}

fn file(options: ParquetOptions, batch: &RecordBatch, runs: &[Range<usize>]) -> bytes::Bytes {
    let encoded = encode(&Output::Parquet(options), batch, runs).unwrap();
    assert_eq!((encoded.extension, encoded.content_encoding), (".parquet", None));
    encoded.body
}

/// Encodes, reads back, compares; answers the file's metadata.
fn check(options: ParquetOptions, batch: &RecordBatch, runs: &[Range<usize>]) -> Arc<ParquetMetaData> {
    let schema = batch.schema();
    let body = file(options.clone(), batch, runs);
    assert_eq!(body, file(options.clone(), batch, runs), "the same input gives the same bytes");
    let slices: Vec<_> = runs.iter().map(|run| batch.slice(run.start, run.len())).collect();
    let expect = concat_batches(&schema, &slices).unwrap();
    assert_eq!(
        body,
        file(options, &expect, &super::runs(&expect, usize::MAX)),
        "where rows lie changes nothing"
    );
    let (rows, metadata) = read(body);
    assert_eq!(rows.num_rows(), expect.num_rows());
    for (index, field) in schema.fields().iter().enumerate() {
        assert_eq!(rows.schema().field(index).data_type(), field.data_type());
        assert!(rows.column(index).to_data() == expect.column(index).to_data(), "column {}", field.name());
    }
    assert_eq!(metadata.file_metadata().created_by(), Some(CREATED_BY));
    metadata
}

fn check_column(column: ArrayRef) -> Arc<ParquetMetaData> {
    let table = batch(vec![("v", column)]);
    check(ParquetOptions::default(), &table, &runs(&table, usize::MAX))
}

/// A small generator: the same seed, the same batch.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Validity with nulls that are rare, frequent, in runs, or nowhere.
    fn nulls(&mut self, rows: usize) -> Option<NullBuffer> {
        let mode = self.below(6);
        let mut run = 0;
        let mut valid = true;
        let bits: Vec<bool> = (0..rows)
            .map(|_| match mode {
                0 => true,
                1 => self.below(500) > 0,
                2 => self.below(2) > 0,
                3 => self.below(500) == 0,
                4 => false,
                _ => {
                    if run == 0 {
                        run = self.below(300);
                        valid = !valid;
                    }
                    run = run.saturating_sub(1);
                    valid
                }
            })
            .collect();
        (mode > 0).then(|| NullBuffer::from(bits))
    }

    fn numbers(&mut self, rows: usize) -> Vec<i64> {
        let distinct = [1, 2, 7, 300, u64::MAX][self.below(5) as usize];
        (0..rows).map(|_| self.below(distinct).wrapping_mul(0x0123_4567_89ab_cdef).cast_signed()).collect()
    }

    fn text(&mut self, rows: usize) -> Vec<String> {
        let distinct = [1, 2, 9, 300, u64::MAX][self.below(5) as usize];
        let length = [0, 3, 8, 15, 16, 17, 24, 40, 200][self.below(9) as usize];
        let word = |n: u64| format!("{:é<1$}", format!("{n:x}"), (n % (length + 1)) as usize);
        (0..rows).map(|_| word(self.below(distinct))).collect()
    }

    fn leaf(&mut self, rows: usize, nulls: Option<NullBuffer>) -> ArrayRef {
        let numbers = self.numbers(rows);
        match self.below(7) {
            0 => Arc::new(BooleanArray::new(numbers.iter().map(|n| n & 1 == 1).collect(), nulls)),
            1 => Arc::new(Int64Array::new(numbers.into(), nulls)),
            2 => Arc::new(TimestampMicrosecondArray::new(numbers.into(), nulls).with_timezone("UTC")),
            3 => {
                let floats: Vec<f64> = numbers.iter().map(|n| f64::from_bits(n.cast_unsigned())).collect();
                Arc::new(Float64Array::new(floats.into(), nulls))
            }
            4 => Arc::new(Date32Array::new(numbers.iter().map(|n| *n as i32).collect(), nulls)),
            5 => {
                // Nulls that have bytes below them are allowed too.
                let text = StringArray::from(self.text(rows));
                let (offsets, values, _) = text.into_parts();
                Arc::new(BinaryArray::new(offsets, values, nulls))
            }
            _ => {
                let text = self.text(rows);
                let valid = |i: usize| nulls.as_ref().is_none_or(|n| n.is_valid(i));
                Arc::new((0..rows).map(|i| valid(i).then_some(&text[i])).collect::<StringArray>())
            }
        }
    }

    fn column(&mut self, rows: usize, depth: u32) -> ArrayRef {
        let nulls = self.nulls(rows);
        match self.below(6) {
            0 if depth < 3 => {
                let children: Vec<ArrayRef> =
                    (0..=self.below(3)).map(|_| self.column(rows, depth + 1)).collect();
                let field = |(i, child): (usize, &ArrayRef)| {
                    let required = child.null_count() == 0 && i % 2 == 1;
                    Field::new(format!("c{i}"), child.data_type().clone(), !required)
                };
                let fields = children.iter().enumerate().map(field).collect();
                Arc::new(StructArray::new(fields, children, nulls))
            }
            1 if depth == 0 => {
                let ends: Vec<i32> = (0..=rows as i32).map(|i| i / 2).collect();
                let items = self.column(rows / 2, depth + 1);
                let item = Arc::new(Field::new_list_field(items.data_type().clone(), true));
                Arc::new(ListArray::new(item, OffsetBuffer::new(ends.into()), items, nulls))
            }
            _ => self.leaf(rows, nulls),
        }
    }

    fn batch(&mut self, rows: usize) -> RecordBatch {
        let columns: Vec<ArrayRef> = (0..=self.below(8)).map(|_| self.column(rows, 0)).collect();
        let field = |(i, c): (usize, &ArrayRef)| {
            Field::new(format!("c{i}"), c.data_type().clone(), c.null_count() > 0 || i % 2 == 0)
        };
        let schema = Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>());
        RecordBatch::try_new(Arc::new(schema), columns).unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn any_batch_comes_back(
        seed in any::<u64>(),
        rows in prop_oneof![1..4_usize, 60..70_usize, 1..2500_usize],
        run in prop_oneof![Just(usize::MAX), 1..200_usize],
        // A run, then rows that are not in the file.
        gap in prop_oneof![Just(0), 1..200_usize],
        skip in 0..3_usize,
        row_group_rows in prop_oneof![Just(1 << 20), 1..1000_usize],
        dictionary in any::<bool>(),
        codec in 0..4_usize,
    ) {
        let mut random = Random(seed);
        let whole = random.batch(rows + skip);
        let whole = whole.slice(skip, rows);
        let run = run.min(rows);
        let runs: Vec<_> = (0..rows).step_by(run + gap).map(|at| at..rows.min(at + run)).collect();
        let rows: usize = runs.iter().map(Range::len).sum();
        let compression = [
            ParquetCompression::Zstd, ParquetCompression::Snappy, ParquetCompression::Gzip, ParquetCompression::None,
        ][codec];
        let options = ParquetOptions { row_group_rows, dictionary, compression, statistics: true };
        let metadata = check(options, &whole, &runs);
        prop_assert_eq!(metadata.num_row_groups(), rows.div_ceil(row_group_rows));
    }
}

#[test]
fn no_rows() {
    let table = batch(vec![("a", strings(&[])), ("b", Arc::new(Int64Array::from(Vec::<i64>::new())))]);
    assert_eq!(check(ParquetOptions::default(), &table, &[]).num_row_groups(), 0);
    assert_eq!(check(ParquetOptions::default(), &table, std::slice::from_ref(&(0..0))).num_row_groups(), 0);
}

#[test]
fn many_pages() {
    let mut random = Random(7);
    let rows = 300_000;
    let ids: StringArray = (0..rows).map(|_| Some(format!("{:032x}", random.next()))).collect();
    let few: StringArray =
        (0..rows).map(|i| (i % 5 > 0).then(|| format!("k{}", random.below(1000)))).collect();
    let many: StringArray = (0..rows).map(|_| Some(format!("user-{}", random.below(40_000)))).collect();
    let times: Int64Array = (0..rows).map(|i| (i % 3 > 0).then_some(i64::from(i) * 1_000_003)).collect();
    let flags: BooleanArray = (0..rows).map(|i| (i % 7 > 0).then_some(random.below(2) > 0)).collect();
    let table = batch(vec![
        ("ids", Arc::new(ids)),
        ("few", Arc::new(few)),
        ("many", Arc::new(many)),
        ("times", Arc::new(times)),
        ("flags", Arc::new(flags)),
    ]);
    let metadata = check(ParquetOptions::default(), &table, &runs(&table, usize::MAX));
    let has_dictionary = |i: usize| metadata.row_group(0).column(i).dictionary_page_offset().is_some();
    assert_eq!([0, 1, 2, 3, 4].map(has_dictionary), [false, true, true, false, false]);
    assert!(metadata.row_group(0).column(1).encodings().any(|e| e == Encoding::RLE_DICTIONARY));
    check(
        ParquetOptions { row_group_rows: 70_001, ..ParquetOptions::default() },
        &table,
        &runs(&table, 100_000),
    );
}

#[test]
fn long_strings() {
    let long = "é\"\n\0x".repeat(200_000);
    let longer = format!("{long}y");
    let values = [Some(long.as_str()), None, Some(""), Some(&longer), Some(&long), Some(&long), Some("a")];
    check_column(strings(&values));
    check_column(strings(&values[1..2]));
}

#[test]
fn a_dictionary_that_grows_too_large_is_given_up() {
    // The sample sees few values; the rest has too many.
    let values: StringArray =
        (0..400_000).map(|i: u32| Some(if i.is_multiple_of(2) { 0 } else { i }.to_string())).collect();
    let metadata = check_column(Arc::new(values));
    assert!(metadata.row_group(0).column(0).dictionary_page_offset().is_none());
}

#[test]
fn other_types_take_the_crates_writer() {
    let decimals =
        Decimal128Array::from(vec![Some(1), None, Some(-3)]).with_precision_and_scale(20, 4).unwrap();
    let items: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
    let item = Arc::new(Field::new_list_field(DataType::Int64, true));
    let offsets = OffsetBuffer::new(vec![0, 2, 2, 3].into());
    let list = ListArray::new(item, offsets, items, Some(NullBuffer::from(vec![true, false, true])));
    let table = batch(vec![
        ("a", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ("decimal", Arc::new(decimals)),
        ("list", Arc::new(list)),
        ("large", Arc::new(LargeStringArray::from(vec![Some("x"), None, Some("z")]))),
        ("small", Arc::new(Int32Array::from(vec![Some(1), None, Some(3)]))),
    ]);
    let options = ParquetOptions { row_group_rows: 2, ..ParquetOptions::default() };
    check(options, &table, &runs(&table, 1));
}

#[test]
fn empty_structs_are_refused() {
    let table = batch(vec![("v", Arc::new(StructArray::new_empty_fields(1, None)))]);
    let refused = encode(&Output::default(), &table, &runs(&table, usize::MAX));
    assert!(matches!(refused, Err(EncodeError::Type(_))), "{refused:?}");
    let none = Output::Parquet(ParquetOptions { row_group_rows: 0, ..ParquetOptions::default() });
    assert!(matches!(encode(&none, &table, &[]), Err(EncodeError::Option { .. })));
}

fn statistics(column: ArrayRef) -> Statistics {
    check_column(column).row_group(0).column(0).statistics().unwrap().clone()
}

#[test]
fn number_statistics() {
    let floats = |values: Vec<Option<f64>>| match statistics(Arc::new(Float64Array::from(values))) {
        Statistics::Double(s) => {
            (s.min_opt().map(|v| v.to_bits()), s.max_opt().map(|v| v.to_bits()), s.null_count_opt())
        }
        other => panic!("{other:?}"),
    };
    let bits = |v: f64| Some(v.to_bits());
    assert_eq!(floats(vec![Some(f64::NAN), Some(2.0), None, Some(-1.0)]), (bits(-1.0), bits(2.0), Some(1)));
    assert_eq!(floats(vec![Some(f64::NAN), None]), (None, None, Some(1)));
    assert_eq!(floats(vec![Some(0.0)]), (bits(-0.0), bits(0.0), Some(0)));
    assert_eq!(floats(vec![Some(-0.0), Some(-5.0)]), (bits(-5.0), bits(0.0), Some(0)));
    assert_eq!(
        floats(vec![Some(f64::INFINITY), Some(f64::NEG_INFINITY)]),
        (bits(f64::NEG_INFINITY), bits(f64::INFINITY), Some(0))
    );
    match statistics(Arc::new(Int64Array::from(vec![None, Some(i64::MIN), Some(i64::MAX)]))) {
        Statistics::Int64(s) => assert_eq!((s.min_opt(), s.max_opt()), (Some(&i64::MIN), Some(&i64::MAX))),
        other => panic!("{other:?}"),
    }
    match statistics(Arc::new(BooleanArray::from(vec![None, Some(false)]))) {
        Statistics::Boolean(s) => assert_eq!((s.min_opt(), s.max_opt()), (Some(&false), Some(&false))),
        other => panic!("{other:?}"),
    }
}

#[test]
fn text_statistics() {
    let text = |values: &[Option<&str>]| match statistics(strings(values)) {
        Statistics::ByteArray(s) => {
            let bound = |b: Option<&parquet::data_type::ByteArray>| {
                b.map(|b| String::from_utf8(b.data().to_vec()).unwrap())
            };
            (bound(s.min_opt()), s.min_is_exact(), bound(s.max_opt()), s.max_is_exact())
        }
        other => panic!("{other:?}"),
    };
    let some = |s: &str| Some(String::from(s));
    assert_eq!(text(&[Some("b"), None, Some(""), Some("a")]), (some(""), true, some("b"), true));
    assert_eq!(text(&[None]), (None, false, None, false));
    let long = "a".repeat(100);
    assert_eq!(
        text(&[Some(&long)]),
        (some(&"a".repeat(64)), false, some(&format!("{}b", "a".repeat(63))), false)
    );
    let last = "\u{10ffff}".repeat(30);
    assert_eq!(text(&[Some(&last)]), (some(&"\u{10ffff}".repeat(16)), false, None, false));
    let before = format!("{}\u{d7ff}{}", "a".repeat(60), "\u{10ffff}".repeat(20));
    assert_eq!(text(&[Some(&before)]).2, some(&format!("{}\u{e000}", "a".repeat(60))));
}
