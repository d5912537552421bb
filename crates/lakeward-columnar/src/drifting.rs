//! Streams of records that drift, for tests of what is lost: types change,
//! fields come and go, nesting and the case of names change from batch to
//! batch and, more rarely, inside of one.

use std::collections::BTreeMap;

use arrow::array::{Array, RecordBatch};
use serde_json::{Map, Value, json};

use crate::dotted::collide;
use crate::reassemble::{self, canonical, same};
use crate::schema::{Column, ColumnType, RESCUED, TableSchema};
use crate::shape::ColumnMode;

/// A stream: the same seed, the same records.
pub(crate) struct Stream {
    seed: u64,
    /// What fields hold at the moment, mostly.
    habits: BTreeMap<String, u64>,
    /// Whether fields of [`declared`] names hold what can be converted.
    pub(crate) declared: bool,
}

/// A record: as it is sent, and with the values of declared columns as those
/// have them.
pub(crate) struct Record {
    pub(crate) sent: Value,
    stored: Value,
}

/// The columns that a stream may declare.
pub(crate) fn declared() -> BTreeMap<String, ColumnMode> {
    let words = [
        ("t", "timestamp"),
        ("ctx.when", "timestamptz"),
        ("n", "int64"),
        ("s", "string"),
        ("f", "float64"),
        ("ok", "bool"),
        ("m", "decimal(12,2)"),
        ("day", "date"),
        ("ctx.free", "json"),
    ];
    words.into_iter().map(|(path, word)| (path.to_owned(), word.parse().unwrap())).collect()
}

impl Stream {
    pub(crate) fn new(seed: u64) -> Self {
        let mut stream = Self { seed, habits: BTreeMap::new(), declared: false };
        stream.declared = stream.below(2) == 0;
        stream
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    /// The next batch; habits change before it.
    pub(crate) fn batch(&mut self) -> Vec<Record> {
        let kept = self.below(4);
        let habits = std::mem::take(&mut self.habits);
        self.habits = habits.into_iter().filter(|_| self.below(4) < kept).collect();
        (0..1 + self.below(6)).map(|_| self.record()).collect()
    }

    fn record(&mut self) -> Record {
        let (sent, stored) = self.object("", 3);
        Record { sent, stored }
    }

    fn object(&mut self, path: &str, depth: u64) -> (Value, Value) {
        const NAMES: [&str; 15] =
            ["a", "A", "b", "B", "ctx", "Ctx", "list", "t", "n", "s", "f", "ok", "m", "day", "free"];
        let (mut sent, mut stored) = (Map::new(), Map::new());
        for _ in 0..self.below(7) {
            let name = match NAMES[self.below(15) as usize] {
                "t" if path == "ctx" => "when",
                name => name,
            };
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            let (value, converted) = self.field(&path, depth);
            sent.insert(name.to_owned(), value);
            stored.insert(name.to_owned(), converted);
        }
        (Value::Object(sent), Value::Object(stored))
    }

    fn field(&mut self, path: &str, depth: u64) -> (Value, Value) {
        if self.declared
            && let Some(mode) = declared().get(path)
        {
            if self.below(8) > 0 {
                return self.convertible(*mode);
            }
            // What fits no declared column; a json one takes everything.
            let odd =
                [json!([]), json!([1, "x"]), json!({"a": 1}), Value::Null][self.below(4) as usize].clone();
            return (odd.clone(), odd);
        }
        let drawn = self.below(14);
        let habit = *self.habits.entry(path.to_owned()).or_insert(drawn);
        let kind = if self.below(12) == 0 { drawn } else { habit };
        self.value(kind, path, depth)
    }

    fn value(&mut self, kind: u64, path: &str, depth: u64) -> (Value, Value) {
        let value = match kind {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => json!(self.below(200) as i64 - 100),
            3 => json!(self.below(u64::MAX).cast_signed()),
            4 => json!(self.below(u64::MAX)),
            5 => json!(self.below(1000) as f64 / 8.0),
            6 => json!(f64::from_bits(self.below(u64::MAX) & 0xbfef_ffff_ffff_ffff)),
            7 => json!(["", "x", "é\"\\\n", "12", "true", "2026-01-02"][self.below(6) as usize]),
            8 => json!(format!("{:x}", self.below(u64::MAX))),
            9 | 10 if depth > 0 => {
                let kind = self.below(14);
                let values: Vec<_> = (0..self.below(4))
                    .map(|_| {
                        let odd = self.below(10) == 0;
                        let kind = if odd { self.below(14) } else { kind };
                        self.value(kind, path, depth - 1)
                    })
                    .collect();
                let (sent, stored): (Vec<_>, Vec<_>) = values.into_iter().unzip();
                return (Value::Array(sent), Value::Array(stored));
            }
            11.. if depth > 0 => return self.object(path, depth - 1),
            _ => json!(7),
        };
        (value.clone(), value)
    }

    /// A value that a declared column takes, and how it reads.
    fn convertible(&mut self, mode: ColumnMode) -> (Value, Value) {
        let same = |value: Value| (value.clone(), value);
        let spelling = self.below(6);
        match mode {
            ColumnMode::Timestamp | ColumnMode::TimestampTz => {
                let seconds = 946_684_800 + self.below(2_000_000_000) as i64;
                let micros = self.below(1_000_000) as i64;
                let at = |micros: i64| jiff::Timestamp::from_microsecond(micros).unwrap();
                let whole = at(seconds * 1_000_000);
                let fine = seconds * 1_000_000 + micros;
                let stored = |micros: i64| json!(format!("@{micros}"));
                match spelling {
                    0 => (json!(seconds), stored(seconds * 1_000_000)),
                    1 => (json!(seconds * 1_000 + 7), stored(seconds * 1_000_000 + 7_000)),
                    2 => (json!(fine), stored(fine)),
                    3 => (json!(at(fine).to_string()), stored(fine)),
                    4 => {
                        let text = at((seconds + 7_200) * 1_000_000).to_string().replace('Z', "+02:00");
                        (json!(text), stored(seconds * 1_000_000))
                    }
                    _ => {
                        let text = whole.to_string().replace('T', " ").replace('Z', ".000001");
                        (json!(text), stored(seconds * 1_000_000 + 1))
                    }
                }
            }
            ColumnMode::Date => {
                let day = self.below(20_000) as i32;
                let date = jiff::civil::date(1970, 1, 1).checked_add(jiff::Span::new().days(day)).unwrap();
                (json!(date.to_string()), json!(format!("day {day}")))
            }
            ColumnMode::Int64 => {
                let value = self.below(u64::MAX).cast_signed();
                match spelling {
                    0 => (json!(value.to_string()), json!(value)),
                    1 => (json!((value % 1000) as f64), json!(value % 1000)),
                    _ => same(json!(value)),
                }
            }
            ColumnMode::Float64 => {
                let value = self.below(100_000) as f64 / 64.0;
                if spelling == 0 { (json!(value.to_string()), json!(value)) } else { same(json!(value)) }
            }
            ColumnMode::Bool => {
                let value = self.below(2) == 0;
                if spelling == 0 { (json!(value.to_string()), json!(value)) } else { same(json!(value)) }
            }
            ColumnMode::String => {
                let value = self.value(1 + spelling, "", 0).0;
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                (value, json!(text))
            }
            ColumnMode::Decimal(..) => {
                let cents = self.below(1_000_000);
                let value = cents as f64 / 100.0;
                (json!(value), json!(format!("{}.{:02}", cents / 100, cents % 100)))
            }
            ColumnMode::Json => same(self.value(12, "free", 2).0),
        }
    }
}

/// What is wrong with the rows that came of these records, if anything.
pub(crate) fn fault(rows: &RecordBatch, records: &[Record]) -> Option<String> {
    if rows.num_rows() != records.len() {
        return Some(format!("{} rows of {} records", rows.num_rows(), records.len()));
    }
    for (row, Record { sent, stored }) in records.iter().enumerate() {
        let (sent, stored, got) = (canonical(sent), canonical(stored), reassemble::row(rows, row));
        if !agrees(&got, &sent, &stored) {
            return Some(format!("row {row}: {got} is not {sent}"));
        }
        let doubled = reassemble::doubled(rows, row);
        if !doubled.is_empty() {
            return Some(format!("row {row}: {doubled:?} are in a column and rescued: {sent}"));
        }
    }
    None
}

/// Whether a value is what was sent, or what a declared column makes of it.
fn agrees(got: &Value, sent: &Value, stored: &Value) -> bool {
    if same(got, sent) || same(got, stored) {
        return true;
    }
    match (got, sent, stored) {
        (Value::Object(got), Value::Object(sent), Value::Object(stored)) => {
            got.len() == sent.len()
                && got.iter().all(|(name, got)| {
                    sent.get(name)
                        .zip(stored.get(name))
                        .is_some_and(|(sent, stored)| agrees(got, sent, stored))
                })
        }
        // Rescued of the record, and again with what columns made of it.
        (Value::Array(both), _, _)
            if both.len() == 2 && both[1].is_array() && agrees(&both[0], sent, stored) =>
        {
            true
        }
        (Value::Array(got), Value::Array(sent), Value::Array(stored)) => {
            got.len() == sent.len()
                && got
                    .iter()
                    .zip(sent.iter().zip(stored))
                    .all(|(got, (sent, stored))| agrees(got, sent, stored))
        }
        // What a column had and was rescued is text again.
        (got, _, Value::String(stored)) => {
            let text = got.as_str().map_or_else(|| got.to_string(), str::to_owned);
            let instant = text.parse::<jiff::Timestamp>().or_else(|_| {
                text.parse::<jiff::civil::DateTime>()?
                    .to_zoned(jiff::tz::TimeZone::UTC)
                    .map(|z| z.timestamp())
            });
            let day = text
                .parse::<jiff::civil::Date>()
                .map(|day| jiff::civil::date(1970, 1, 1).until(day).map_or(0, |span| span.get_days()));
            instant.is_ok_and(|instant| *stored == format!("@{}", instant.as_microsecond()))
                || day.is_ok_and(|day| *stored == format!("day {day}"))
                || text == *stored
        }
        _ => false,
    }
}

/// What is wrong with the step from one schema to the next, if anything.
pub(crate) fn broken(old: &TableSchema, new: &TableSchema) -> Option<String> {
    if !has_one_of_each(&new.columns) {
        return Some(format!("names that differ only in case: {new:?}"));
    }
    if new.version != old.version + u64::from(new.columns != old.columns) {
        return Some(format!("version {} after {}", new.version, old.version));
    }
    let of = |schema: &TableSchema| {
        ColumnType::Struct(schema.columns.iter().filter(|c| c.name != RESCUED).cloned().collect())
    };
    (!grows(&of(old), &of(new))).then(|| format!("{old:?} became {new:?}"))
}

fn has_one_of_each(columns: &[Column]) -> bool {
    columns.iter().enumerate().all(|(i, column)| {
        let mut item = &column.ty;
        while let ColumnType::List(inner) = item {
            item = inner;
        }
        columns[..i].iter().all(|before| !collide(&before.name, &column.name))
            && !matches!(item, ColumnType::Struct(inner) if !has_one_of_each(inner))
    })
}

/// Whether readers of `old` find all of it in `new`, or wider.
fn grows(old: &ColumnType, new: &ColumnType) -> bool {
    match (old, new) {
        (ColumnType::Int64, ColumnType::Float64) => true,
        (ColumnType::List(old), ColumnType::List(new)) => grows(old, new),
        (ColumnType::Struct(old), ColumnType::Struct(new)) => {
            old.len() <= new.len()
                && old.iter().zip(new).all(|(old, new)| old.name == new.name && grows(&old.ty, &new.ty))
        }
        (old, new) => old == new,
    }
}

/// The rows with something in `_rescued`.
pub(crate) fn rows_with_rescues(rows: &RecordBatch) -> Vec<u32> {
    let column = rows.column_by_name(RESCUED);
    (0..rows.num_rows() as u32).filter(|&row| column.is_some_and(|c| c.is_valid(row as usize))).collect()
}
