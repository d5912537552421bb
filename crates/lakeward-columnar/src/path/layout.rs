//! A path template as a reader sees it: which folders are partition keys.

use lakeward_model::{ColumnType, KeyFormat, LakePath, PartitionKey, TableSchema, TimeStep};

use super::template::{Event, From, Part};
use super::{MISSING, Pattern, Template};
use crate::dotted;

/// The folders of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The folders before the first that differs from file to file, with a
    /// trailing `/`, or empty: the table's own place.
    pub root: String,
    /// The partition keys.
    pub keys: Vec<PartitionKey>,
    /// The folders below the root: see
    /// [`lakeward_model::TableDescription::folders`].
    pub folders: String,
    /// How many more folders there are before a file.
    pub deeper: usize,
    groups: Vec<Group>,
}

/// Folders of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Group {
    /// The same everywhere.
    Fixed(String),
    /// A key's value, behind this text.
    Key { before: String, depth: usize },
}

/// Why a template's folders are no partitions of one table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A random folder above a partition key: a partition would be many
    /// folders.
    #[error(
        "the path has `!{{firehose:random-string}}` before a partition folder, so that one partition is many folders; put it behind them"
    )]
    RandomFirst,
    /// Two keys of one name.
    #[error("the path has two folders for the partition key {0}")]
    SameKey(String),
    /// A pattern whose slashes are quoted.
    #[error("the date pattern {0:?} ends in a quoted slash; write the slash behind the `}}`")]
    QuotedSlash(String),
}

/// A piece of a folder's name.
#[derive(Debug, Clone)]
enum Piece<'a> {
    Text(String),
    /// A pattern, without slashes at its ends; of the arrival, or of a column
    /// that may have no time.
    Time(&'a Pattern, bool),
    Value(&'a Event),
    Random,
}

impl Layout {
    /// Reads a template. `schema` gives the types of the columns that folders
    /// are named by; what it does not have is text.
    ///
    /// # Errors
    /// See [`LayoutError`]; the configuration must change.
    pub fn of(template: &Template, schema: &TableSchema) -> Result<Self, LayoutError> {
        let folders = folders(template)?;
        let mut layout = Self {
            root: String::new(),
            keys: Vec::new(),
            folders: String::new(),
            deeper: 0,
            groups: Vec::new(),
        };
        for pieces in &folders {
            let is_random = pieces.iter().any(|piece| matches!(piece, Piece::Random));
            if is_random || layout.deeper > 0 {
                let is_key = pieces.iter().any(|piece| matches!(piece, Piece::Time(..) | Piece::Value(_)));
                if is_key {
                    return Err(LayoutError::RandomFirst);
                }
                layout.deeper += 1;
            } else {
                layout.add(pieces, schema)?;
            }
        }
        Ok(layout)
    }

    fn add(&mut self, pieces: &[Piece<'_>], schema: &TableSchema) -> Result<(), LayoutError> {
        if let [Piece::Text(text)] = pieces {
            let folder = format!("{text}/");
            if self.keys.is_empty() {
                self.root.push_str(&folder);
            } else {
                self.folders.push_str(&folder);
            }
            self.groups.push(Group::Fixed(text.clone()));
            return Ok(());
        }
        let (name, pieces) = hive_name(pieces);
        let format = format_of(&pieces);
        let depth = pieces.iter().map(Piece::depth).sum::<usize>() + 1;
        let hive = name.is_some();
        let optional = pieces.iter().any(|piece| matches!(piece, Piece::Value(_) | Piece::Time(_, true)));
        let name = name.unwrap_or_else(|| self.name_for(&format));
        if self.keys.iter().any(|key| dotted::collide(&key.name, &name)) {
            return Err(LayoutError::SameKey(name));
        }
        let before = if hive { format!("{name}=") } else { String::new() };
        self.folders.push_str(&format!("{before}${{{name}}}/"));
        self.groups.push(Group::Key { before, depth });
        let ty = type_of(&pieces, &format, schema);
        self.keys.push(PartitionKey { name, ty, format, hive, optional, depth });
        Ok(())
    }

    /// A name for a folder that has none: Firehose's own for its default
    /// (`datehour`), else what a Glue crawler gives it.
    fn name_for(&self, format: &KeyFormat) -> String {
        let by_time = match format {
            KeyFormat::Time { step: TimeStep::Hour, .. } => Some("datehour"),
            KeyFormat::Time { step: TimeStep::Day, .. } => Some("day"),
            _ => None,
        };
        let is_free = |name: &&str| !self.keys.iter().any(|key| key.name == *name);
        match by_time.filter(is_free) {
            Some(name) => name.into(),
            None => format!("partition_{}", self.keys.iter().filter(|key| !key.hive).count()),
        }
    }

    /// The partition of a file: its values, unescaped, and its folder (with a
    /// trailing `/`, or empty). `None` if the file lies elsewhere: under
    /// another path template, or below a value that has slashes in it.
    #[must_use]
    pub fn partition_of(&self, file: &LakePath) -> Option<(Vec<Option<String>>, String)> {
        let mut folders = file.as_str().split('/');
        folders.next_back();
        let all: Vec<&str> = folders.collect();
        let mut rest = all.as_slice();
        let mut values = Vec::with_capacity(self.keys.len());
        for group in &self.groups {
            match group {
                Group::Fixed(name) => {
                    let (first, more) = rest.split_first()?;
                    if first != name {
                        return None;
                    }
                    rest = more;
                }
                Group::Key { before, depth } => {
                    // What has no time lies in one folder, however many it would have had.
                    let missing = rest.first()?.strip_prefix(before.as_str()) == Some(MISSING);
                    let (own, more) = rest.split_at_checked(if missing { 1 } else { *depth })?;
                    let text = own.join("/");
                    let value = text.strip_prefix(before.as_str())?;
                    values.push((!missing).then(|| unescape(value)));
                    rest = more;
                }
            }
        }
        if rest.len() != self.deeper {
            return None;
        }
        let folder: String = all[..all.len() - rest.len()].iter().flat_map(|name| [name, "/"]).collect();
        Some((values, folder))
    }
}

impl Piece<'_> {
    /// How many slashes its text has.
    fn depth(&self) -> usize {
        match self {
            Self::Time(pattern, _) => pattern.skeleton().trim_matches('/').matches('/').count(),
            _ => 0,
        }
    }
}

/// The folders of a template; what follows the last slash is the object's name.
fn folders(template: &Template) -> Result<Vec<Vec<Piece<'_>>>, LayoutError> {
    let mut folders = vec![Vec::new()];
    let end = |folders: &mut Vec<Vec<Piece<'_>>>| folders.push(Vec::new());
    let push = |folders: &mut Vec<Vec<_>>, piece| {
        if let Some(last) = folders.last_mut() {
            last.push(piece);
        }
    };
    for part in template.parts() {
        match part {
            Part::Literal(text) => {
                for (at, name) in text.split('/').enumerate() {
                    if at > 0 {
                        end(&mut folders);
                    }
                    if !name.is_empty() {
                        push(&mut folders, Piece::Text(name.into()));
                    }
                }
            }
            Part::Timestamp(pattern) | Part::Event(Event { pattern: Some(pattern), .. }) => {
                let skeleton = pattern.skeleton();
                if skeleton.starts_with('/') != pattern.text().starts_with('/')
                    || skeleton.ends_with('/') != pattern.text().ends_with('/')
                {
                    return Err(LayoutError::QuotedSlash(pattern.text().into()));
                }
                if skeleton.starts_with('/') {
                    end(&mut folders);
                }
                push(&mut folders, Piece::Time(pattern, matches!(part, Part::Event(_))));
                if skeleton.ends_with('/') {
                    end(&mut folders);
                }
            }
            Part::Event(event) => push(&mut folders, Piece::Value(event)),
            Part::RandomString(_) | Part::ErrorOutputType => push(&mut folders, Piece::Random),
        }
    }
    folders.pop();
    Ok(folders)
}

/// `name=…`: the name, and what comes behind it.
fn hive_name<'a>(pieces: &[Piece<'a>]) -> (Option<String>, Vec<Piece<'a>>) {
    if let Some(Piece::Text(text)) = pieces.first()
        && let Some((name, rest)) = text.split_once('=')
        && !name.is_empty()
    {
        let rest = (!rest.is_empty()).then(|| Piece::Text(rest.into()));
        return (Some(name.into()), rest.into_iter().chain(pieces[1..].iter().cloned()).collect());
    }
    (None, pieces.to_vec())
}

fn format_of(pieces: &[Piece<'_>]) -> KeyFormat {
    let (mut text, mut units) = (String::new(), Vec::new());
    for piece in pieces {
        match piece {
            Piece::Text(literal) => text.push_str(&format!("'{}'", literal.replace('\'', "''"))),
            Piece::Time(pattern, _) => {
                text.push_str(pattern.text().trim_matches('/'));
                let Some(more) = pattern.units() else { return KeyFormat::Any };
                units.extend(more);
            }
            Piece::Value(_) | Piece::Random => return KeyFormat::Any,
        }
    }
    let chain =
        [TimeStep::Year, TimeStep::Month, TimeStep::Day, TimeStep::Hour, TimeStep::Minute, TimeStep::Second];
    let mut sorted: Vec<TimeStep> = units.iter().map(|(unit, _)| *unit).collect();
    sorted.sort_unstable();
    if let Some(step) = sorted.last()
        && chain.starts_with(&sorted)
    {
        return KeyFormat::Time { pattern: text, step: *step };
    }
    match (units.as_slice(), pieces.len()) {
        ([(unit, digits)], 1) => {
            let (from, to) = match unit {
                TimeStep::Year => return KeyFormat::Any,
                TimeStep::Month => (1, 12),
                TimeStep::Day => (1, 31),
                TimeStep::Hour => (0, 23),
                TimeStep::Minute | TimeStep::Second => (0, 59),
            };
            KeyFormat::Number { from, to, digits: *digits }
        }
        _ => KeyFormat::Any,
    }
}

/// Text, unless every value certainly is more.
fn type_of(pieces: &[Piece<'_>], format: &KeyFormat, schema: &TableSchema) -> ColumnType {
    match (format, pieces) {
        (KeyFormat::Time { pattern, .. }, _) if pattern == "yyyy-MM-dd" || pattern == "uuuu-MM-dd" => {
            ColumnType::Date
        }
        (_, [Piece::Value(Event { column, from: From::Column, .. })]) => {
            match schema.column(column).map(|column| &column.ty) {
                Some(ty @ (ColumnType::Bool | ColumnType::Int64 | ColumnType::Date)) => ty.clone(),
                _ => ColumnType::Utf8,
            }
        }
        _ => ColumnType::Utf8,
    }
}

/// Undoes [`super::escape`].
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.into())
}

#[cfg(test)]
mod tests {
    use lakeward_model::Column;

    use super::super::Kind;
    use super::*;

    fn layout(path: &str) -> Result<Layout, LayoutError> {
        let schema = TableSchema {
            version: 1,
            columns: vec![
                Column { name: "n".into(), ty: ColumnType::Int64 },
                Column { name: "area".into(), ty: ColumnType::Utf8 },
                Column { name: "x".into(), ty: ColumnType::Float64 },
            ],
        };
        Layout::of(&Template::parse(path, Kind::KeyedPrefix).expect("a template"), &schema)
    }

    #[test]
    fn folders_become_keys() {
        let check = |path: &str, root: &str, folders: &str, keys: &[&str]| {
            let layout = layout(path).expect("a layout");
            let told: Vec<String> = layout
                .keys
                .iter()
                .map(|key| {
                    let format = match &key.format {
                        KeyFormat::Time { pattern, step } => format!("{pattern} {step:?}"),
                        KeyFormat::Number { from, to, digits } => format!("{from}-{to} {digits}"),
                        KeyFormat::Any => "any".into(),
                    };
                    format!("{} {} {format}", key.name, key.ty)
                })
                .collect();
            assert_eq!((layout.root.as_str(), layout.folders.as_str()), (root, folders), "{path}");
            assert_eq!(told, keys, "{path}");
        };
        check(
            "experiments/year=!{timestamp:yyyy}/month=!{timestamp:MM}/day=!{timestamp:dd}/hour=!{timestamp:HH}/",
            "experiments/",
            "year=${year}/month=${month}/day=${day}/hour=${hour}/",
            &["year string yyyy Year", "month string 1-12 2", "day string 1-31 2", "hour string 0-23 2"],
        );
        check("a/b/dt=!{event:t:yyyy-MM-dd}/", "a/b/", "dt=${dt}/", &["dt date yyyy-MM-dd Day"]);
        check("dt=!{timestamp:yyyy}-!{timestamp:MM}/", "", "dt=${dt}/", &["dt string yyyy'-'MM Month"]);
        check("logs/", "logs/", "${datehour}/", &["datehour string yyyy/MM/dd/HH Hour"]);
        check("logs", "", "${datehour}/", &["datehour string 'logs'yyyy/MM/dd/HH Hour"]);
        check(
            "c=!{partitionKeyFromQuery:c}/n=!{event:n}/x=!{event:x}/!{event:area}/v1/p-!{timestamp:HH}",
            "",
            "c=${c}/n=${n}/x=${x}/${partition_0}/v1/",
            &["c string any", "n int64 any", "x string any", "partition_0 string any"],
        );
        check(
            "d=!{timestamp:E}/h=!{timestamp:H}/",
            "",
            "d=${d}/h=${h}/",
            &["d string any", "h string 0-23 1"],
        );
        check("a/h=!{timestamp:HH}/!{firehose:random-string}/", "a/", "h=${h}/", &["h string 0-23 2"]);
        check("a/!{firehose:random-string}", "a/", "", &[]);
        assert_eq!(layout("!{firehose:random-string}/h=!{timestamp:HH}/"), Err(LayoutError::RandomFirst));
        assert_eq!(layout("a=!{event:n}/A=!{event:x}/"), Err(LayoutError::SameKey("A".into())));
    }

    #[test]
    fn files_tell_their_partition() {
        let check = |path: &str, file: &str, expect: Option<(&[Option<&str>], &str)>| {
            let layout = layout(path).expect("a layout");
            let file = LakePath::new(file).expect("a path");
            let expect = expect.map(|(values, folder)| {
                (values.iter().map(|value| value.map(String::from)).collect::<Vec<_>>(), folder.to_string())
            });
            assert_eq!(layout.partition_of(&file), expect, "{path} {file}");
        };
        let hourly = "e/year=!{timestamp:yyyy}/month=!{timestamp:MM}/";
        check(
            hourly,
            "e/year=2026/month=01/f.parquet",
            Some((&[Some("2026"), Some("01")], "e/year=2026/month=01/")),
        );
        check(hourly, "f/year=2026/month=01/f.parquet", None);
        check(hourly, "e/year=2026/f.parquet", None);
        check(hourly, "e/year=2026/month=01/x/f.parquet", None);
        check(hourly, "e/processing-failed/month=01/f.ndjson", None);
        check("a=!{event:area}/", "a=b%2Fc%3D/f", Some((&[Some("b/c=")], "a=b%2Fc%3D/")));
        check("a=!{event:area}/", "a=__missing__/f", Some((&[None], "a=__missing__/")));
        check("logs/", "logs/2026/11/21/17/f", Some((&[Some("2026/11/21/17")], "logs/2026/11/21/17/")));
        check("!{event:t:yyyy/MM/}", "__missing__/f", Some((&[None], "__missing__/")));
        check("h=!{timestamp:HH}/!{firehose:random-string}/", "h=01/AbC/f", Some((&[Some("01")], "h=01/")));
        check("all/!{firehose:random-string}", "all/AbCf", Some((&[], "all/")));
    }

    proptest::proptest! {
        /// Whatever a value is, a reader gets it back, or the file keeps it.
        #[test]
        fn every_value_comes_back(value in "\\PC{0,150}|[%/=.]{1,8}") {
            let layout = layout("a=!{event:area}/").expect("a layout");
            let mut folder = String::from("a=");
            let is_whole = super::super::escape::append(&value, super::super::escape::MAX_VALUE, &mut folder);
            let file = LakePath::new(format!("{folder}/f")).expect("a path");
            let (values, place) = layout.partition_of(&file).expect("a partition");
            proptest::prop_assert_eq!(place, format!("{folder}/"));
            if is_whole && !value.is_empty() && value != MISSING {
                proptest::prop_assert_eq!(values, vec![Some(value)]);
            }
        }
    }

    #[test]
    fn values_are_unescaped() {
        for (text, expect) in
            [("a%2Fb", "a/b"), ("%C3%BC", "ü"), ("100%", "100%"), ("%zz%2", "%zz%2"), ("%FF", "%FF")]
        {
            assert_eq!(unescape(text), expect);
        }
    }
}
