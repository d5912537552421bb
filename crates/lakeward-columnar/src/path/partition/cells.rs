//! What event expressions evaluate to, row by row: a few distinct texts and,
//! for every row, which of them.
//!
//! All patterns of one column are evaluated together, so that a path by year,
//! month, day and hour reads each time once.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use jiff::tz::TimeZone;
use lakeward_model::Timestamp;

use super::MISSING;
use crate::path::escape;
use crate::path::instant::{self, TimeReader};
use crate::path::java_time::{Pattern, QUARTER_HOUR};
use crate::path::template::{Event, zoned};

/// The value of a row.
#[derive(Debug)]
pub(super) struct Cell {
    /// One text per expression.
    pub(super) texts: Box<[String]>,
    /// Whether the row's value can be read back from the text.
    pub(super) exact: bool,
}

/// The values of all expressions of one column that have a pattern, or of one
/// that has none.
#[derive(Debug, Default)]
pub(super) struct Cells {
    /// How many expressions.
    width: usize,
    /// Whether slashes in its values separate folders.
    has_folders: bool,
    /// For each row, its cell; cells are numbered by first sight.
    of_row: Vec<u32>,
    cells: Vec<Cell>,
    by_texts: HashMap<Box<[String]>, u32>,
    missing: Option<u32>,
}

impl Cells {
    /// Evaluates expressions of `column` for every row: those of `patterns`,
    /// or the one without any.
    fn of(asked: Asked<'_>, rows: &RecordBatch, zone: &TimeZone, limit: usize) -> Self {
        let Asked { column, patterns, has_folders } = asked;
        let mut cells = Self {
            width: patterns.len().max(1),
            has_folders,
            of_row: Vec::with_capacity(rows.num_rows()),
            ..Self::default()
        };
        match find(rows, column) {
            None => cells.fill_missing(rows.num_rows()),
            Some(column) if patterns.is_empty() => cells.fill_values(&column, limit),
            Some(column) => cells.fill_times(&column, &mut Times::new(patterns, zone)),
        }
        assert_eq!(cells.of_row.len(), rows.num_rows(), "every row has a cell");
        cells
    }

    /// The value of a row.
    pub(super) fn at(&self, row: usize) -> &Cell {
        &self.cells[self.of_row[row] as usize]
    }

    fn intern(&mut self, texts: &[String], exact: bool) -> u32 {
        if let Some(id) = self.by_texts.get(texts) {
            return *id;
        }
        let id = u32::try_from(self.cells.len()).expect("a batch has fewer than 2^32 rows");
        self.cells.push(Cell { texts: texts.into(), exact });
        self.by_texts.insert(texts.into(), id);
        id
    }

    /// The cell of a row without a value.
    fn missing(&mut self) -> u32 {
        if let Some(id) = self.missing {
            return id;
        }
        let id = self.intern(&vec![String::from(MISSING); self.width], false);
        *self.missing.insert(id)
    }

    fn fill_missing(&mut self, rows: usize) {
        if rows > 0 {
            let missing = self.missing();
            self.of_row.resize(rows, missing);
        }
    }

    fn fill_times(&mut self, column: &Column, times: &mut Times<'_>) {
        let Column { values, nulls } = column;
        let rows = values.len();
        let valid = |row: usize| nulls.as_ref().is_none_or(|n| n.is_valid(row));
        let mut reader = TimeReader::default();
        match values.data_type() {
            DataType::Utf8 => {
                let texts = values.as_string::<i32>();
                let (ends, data) = (texts.value_offsets(), texts.value_data());
                let text = |row: usize| &data[ends[row] as usize..ends[row + 1] as usize];
                self.push_times(rows, times, |row| reader.read(text(row)), valid);
            }
            DataType::LargeUtf8 => {
                let texts = values.as_string::<i64>();
                self.push_times(rows, times, |row| reader.read(texts.value(row).as_bytes()), valid);
            }
            DataType::Utf8View => {
                let texts = values.as_string_view();
                self.push_times(rows, times, |row| reader.read(texts.value(row).as_bytes()), valid);
            }
            DataType::Int64 => {
                let numbers = values.as_primitive::<Int64Type>().values();
                self.push_times(rows, times, |row| instant::from_number(numbers[row]), valid);
            }
            DataType::Float64 => {
                let numbers = values.as_primitive::<Float64Type>().values();
                self.push_times(rows, times, |row| instant::from_float(numbers[row]), valid);
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                let micros = values.as_primitive::<TimestampMicrosecondType>().values();
                let in_range = |row: usize| Some(micros[row]).filter(|m| instant::RANGE.contains(m));
                self.push_times(rows, times, in_range, valid);
            }
            other => match time_type(other).and_then(|target| column.cast(&target)) {
                Some(column) => self.fill_times(&column, times),
                None => self.fill_missing(rows),
            },
        }
    }

    fn push_times(
        &mut self,
        rows: usize,
        times: &mut Times<'_>,
        mut micros: impl FnMut(usize) -> Option<i64>,
        valid: impl Fn(usize) -> bool,
    ) {
        let mut of_row = std::mem::take(&mut self.of_row);
        of_row.extend((0..rows).map(|row| match if valid(row) { micros(row) } else { None } {
            Some(micros) if times.current.contains(&micros) => times.cell,
            Some(micros) => times.enter(micros, self),
            None => self.missing(),
        }));
        self.of_row = of_row;
    }

    fn fill_values(&mut self, column: &Column, limit: usize) {
        let Column { values, nulls } = column;
        let rows = values.len();
        let valid = |row: usize| nulls.as_ref().is_none_or(|n| n.is_valid(row));
        match values.data_type() {
            DataType::Utf8 => {
                let texts = values.as_string::<i32>();
                self.push_texts(rows, limit, |row| valid(row).then(|| texts.value(row)));
            }
            DataType::LargeUtf8 => {
                let texts = values.as_string::<i64>();
                self.push_texts(rows, limit, |row| valid(row).then(|| texts.value(row)));
            }
            DataType::Utf8View => {
                let texts = values.as_string_view();
                self.push_texts(rows, limit, |row| valid(row).then(|| texts.value(row)));
            }
            DataType::Dictionary(_, value_type) => match column.cast(value_type) {
                Some(column) => self.fill_values(&column, limit),
                None => self.fill_missing(rows),
            },
            nested if nested.is_nested() => self.fill_missing(rows),
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
                // Arrow knows no zones by name, and an instant is the same in all.
                let micros = values.as_primitive::<TimestampMicrosecondType>().clone();
                let local: ArrayRef = Arc::new(micros.with_timezone_opt::<Arc<str>>(None));
                self.push_displayed(&local, valid, limit, "Z");
            }
            _ => self.push_displayed(values, valid, limit, ""),
        }
    }

    /// Texts, of which neighbours are often equal.
    fn push_texts<'t>(&mut self, rows: usize, limit: usize, text: impl Fn(usize) -> Option<&'t str>) {
        let mut known: HashMap<&'t str, u32> = HashMap::new();
        let mut recent = Recent::new();
        let mut last: Option<(&'t str, u32)> = None;
        let mut escaped = String::new();
        for row in 0..rows {
            let Some(text) = text(row) else {
                let missing = self.missing();
                self.of_row.push(missing);
                continue;
            };
            let cell = match last.filter(|(last, _)| *last == text) {
                Some((_, cell)) => cell,
                None => recent.get_or_insert_with(xxhash_rust::xxh3::xxh3_64(text.as_bytes()), text, || {
                    *known.entry(text).or_insert_with(|| {
                        escaped.clear();
                        let append = if self.has_folders { escape::append_folders } else { escape::append };
                        let exact = append(text, limit, &mut escaped);
                        self.intern(std::slice::from_ref(&escaped), exact)
                    })
                }),
            };
            last = Some((text, cell));
            self.of_row.push(cell);
        }
    }

    /// Numbers, truth values, dates and times: as Arrow displays them, with
    /// `zone` behind.
    fn push_displayed(&mut self, values: &ArrayRef, valid: impl Fn(usize) -> bool, limit: usize, zone: &str) {
        let options = FormatOptions::default();
        let Ok(formatter) = ArrayFormatter::try_new(values, &options) else {
            return self.fill_missing(values.len());
        };
        let (mut text, mut escaped) = (String::new(), String::new());
        for row in 0..values.len() {
            text.clear();
            let shown = valid(row) && formatter.value(row).write(&mut text).is_ok();
            let cell = if shown {
                text.push_str(zone);
                escaped.clear();
                let exact = escape::append(&text, limit, &mut escaped);
                self.intern(std::slice::from_ref(&escaped), exact)
            } else {
                self.missing()
            };
            self.of_row.push(cell);
        }
    }
}

/// Evaluates `events` for every row. Returns the cells, and for each event
/// which of them it has and which of their texts.
pub(super) fn evaluate<'e>(
    events: impl Iterator<Item = &'e Event>,
    rows: &RecordBatch,
    zone: &TimeZone,
    limit: usize,
) -> (Vec<Cells>, Vec<(usize, usize)>) {
    let mut columns: Vec<Asked<'_>> = Vec::new();
    let mut places = Vec::new();
    for event in events {
        // Patterns of the same column share an entry, which never is empty.
        let known = columns.iter().position(|asked| {
            asked.column == event.column && asked.patterns.is_empty() == event.pattern.is_none()
        });
        let at = known.unwrap_or_else(|| {
            columns.push(Asked {
                column: &event.column,
                patterns: Vec::new(),
                has_folders: event.has_folders(),
            });
            columns.len() - 1
        });
        let patterns = &mut columns[at].patterns;
        places.push((at, patterns.len()));
        patterns.extend(&event.pattern);
    }
    let cells = columns.into_iter().map(|asked| Cells::of(asked, rows, zone, limit));
    (cells.collect(), places)
}

/// What expressions want of one column.
struct Asked<'e> {
    column: &'e str,
    patterns: Vec<&'e Pattern>,
    has_folders: bool,
}

/// Numbers the rows by the combination of their cells, by first sight. `None`
/// if there are no expressions.
pub(super) fn combine(cells: &[Cells]) -> Option<Cow<'_, [u32]>> {
    let (first, others) = cells.split_first()?;
    let mut ids = Cow::Borrowed(first.of_row.as_slice());
    for other in others {
        let mut pairs: HashMap<(u32, u32), u32> = HashMap::new();
        let mut recent = Recent::new();
        let mut last = None;
        for (id, cell) in ids.to_mut().iter_mut().zip(&other.of_row) {
            let pair = (*id, *cell);
            *id = match last.filter(|(seen, _)| *seen == pair) {
                Some((_, id)) => id,
                None => recent.get_or_insert_with(u64::from(pair.0) << 4 ^ u64::from(pair.1), pair, || {
                    let next = pairs.len() as u32;
                    *pairs.entry(pair).or_insert(next)
                }),
            };
            last = Some((pair, *id));
        }
    }
    Some(ids)
}

/// The answers to the latest questions: one per slot, the later one stays.
struct Recent<K> {
    slots: Vec<Option<(K, u32)>>,
}

impl<K: PartialEq + Copy> Recent<K> {
    const SLOTS: usize = 256;

    fn new() -> Self {
        Self { slots: vec![None; Self::SLOTS] }
    }

    #[inline]
    fn get_or_insert_with(&mut self, hash: u64, key: K, find: impl FnOnce() -> u32) -> u32 {
        let slot = &mut self.slots[hash as usize % Self::SLOTS];
        match slot {
            Some((known, value)) if *known == key => *value,
            _ => slot.insert((key, find())).1,
        }
    }
}

/// The texts of time patterns, remembered per stretch of time.
struct Times<'a> {
    patterns: Vec<&'a Pattern>,
    zone: &'a TimeZone,
    granularity: i64,
    /// Instants that are known to have the text of `cell`.
    current: std::ops::Range<i64>,
    cell: u32,
    /// Known stretches by their start: one per slot, the later one stays.
    stretches: Vec<Option<(i64, u32)>>,
    texts: Vec<String>,
}

/// Room for 42 days of quarter-hours.
const SLOTS: usize = 4096;

impl<'a> Times<'a> {
    fn new(patterns: Vec<&'a Pattern>, zone: &'a TimeZone) -> Self {
        // Each divides the next coarser one.
        let granularity = patterns.iter().map(|pattern| pattern.granularity()).min().unwrap_or(1);
        Self {
            texts: vec![String::new(); patterns.len()],
            patterns,
            zone,
            granularity,
            current: 0..0,
            cell: 0,
            stretches: vec![None; SLOTS],
        }
    }

    /// The cell of an instant outside the current stretch.
    fn enter(&mut self, micros: i64, cells: &mut Cells) -> u32 {
        let number = match self.granularity {
            // By far the most used; a constant divides faster.
            QUARTER_HOUR => micros.div_euclid(QUARTER_HOUR),
            granularity => micros.div_euclid(granularity),
        };
        let start = number * self.granularity;
        let end = start + self.granularity;
        let slot = number.rem_euclid(SLOTS as i64) as usize;
        if let Some((_, cell)) = self.stretches[slot].filter(|(known, _)| *known == start) {
            (self.current, self.cell) = (start..end, cell);
            return cell;
        }
        let at = zoned(Timestamp(micros), self.zone);
        for (pattern, text) in self.patterns.iter().zip(&mut self.texts) {
            text.clear();
            pattern.format(&at, text);
        }
        let cell = cells.intern(&self.texts, true);
        if self.granularity > 1 && self.is_uniform(start, end, at.offset().seconds()) {
            self.stretches[slot] = Some((start, cell));
            (self.current, self.cell) = (start..end, cell);
        }
        cell
    }

    /// Whether all of `start..end` has the texts of one of its instants, at
    /// `offset`. A change of the offset inside it, or one of an odd size (local
    /// mean times of the 19th century), may break the stretch.
    fn is_uniform(&self, start: i64, end: i64, offset: i32) -> bool {
        let aligned = i64::from(offset) * 1_000_000 % self.granularity == 0;
        let same = |micros: i64| {
            let at = zoned(Timestamp(micros), self.zone);
            let same_text = |(pattern, expect): (&&Pattern, &String)| {
                let mut text = String::with_capacity(expect.len());
                pattern.format(&at, &mut text);
                text == *expect
            };
            at.offset().seconds() == offset && self.patterns.iter().zip(&self.texts).all(same_text)
        };
        aligned && same(start) && same(end - 1)
    }
}

/// A column with the nulls of the structs around it.
pub(crate) struct Column {
    pub(crate) values: ArrayRef,
    pub(crate) nulls: Option<NullBuffer>,
}

impl Column {
    fn new(values: &ArrayRef, around: Option<&NullBuffer>) -> Self {
        Self {
            values: ArrayRef::clone(values),
            nulls: NullBuffer::union(around, values.logical_nulls().as_ref()),
        }
    }

    /// `None` if the types cannot be cast; what does not fit becomes null.
    pub(crate) fn cast(&self, target: &DataType) -> Option<Self> {
        let values = cast(&self.values, target).ok()?;
        Some(Self::new(&values, self.nulls.as_ref()))
    }
}

/// What a column is cast to in order to be read as a time.
pub(crate) fn time_type(from: &DataType) -> Option<DataType> {
    use DataType as T;
    match from {
        T::Timestamp(_, zone) => Some(T::Timestamp(TimeUnit::Microsecond, zone.clone())),
        T::Date32 | T::Date64 => Some(T::Timestamp(TimeUnit::Microsecond, None)),
        T::Int8 | T::Int16 | T::Int32 | T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 => Some(T::Int64),
        T::Float16 | T::Float32 | T::Decimal128(..) | T::Decimal256(..) => Some(T::Float64),
        T::Dictionary(_, value) => Some(T::clone(value)),
        _ => None,
    }
}

/// Finds a column by its dotted path; a name that has dots itself goes first.
pub(crate) fn find(rows: &RecordBatch, path: &str) -> Option<Column> {
    find_among(&|name| rows.column_by_name(name), None, path)
}

fn find_among<'a>(
    get: &dyn Fn(&str) -> Option<&'a ArrayRef>,
    around: Option<&NullBuffer>,
    path: &str,
) -> Option<Column> {
    if let Some(column) = get(path) {
        return Some(Column::new(column, around));
    }
    path.match_indices('.').find_map(|(dot, _)| {
        let inner: &StructArray = get(&path[..dot])?.as_struct_opt()?;
        let nulls = NullBuffer::union(around, inner.nulls());
        find_among(&|name| inner.column_by_name(name), nulls.as_ref(), &path[dot + 1..])
    })
}
