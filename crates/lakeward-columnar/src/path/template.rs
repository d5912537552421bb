//! A prefix template: parsed and checked once, evaluated per batch.

use jiff::tz::TimeZone;
use jiff::{Timestamp as Instant, Zoned};
use lakeward_model::{BatchId, LakePath, Timestamp};

use super::escape;
use super::instant::RANGE;
use super::java_time::{Pattern, PatternError};
use super::source::SourcePart;
use crate::process::PartitionKey;

/// Which of the two prefixes a template is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Where data goes, by arrival and by the rows' columns.
    Prefix,
    /// Where data goes, by partition keys too (Firehose's dynamic
    /// partitioning).
    KeyedPrefix,
    /// Where quarantined records go.
    ErrorPrefix,
}

/// A checked template. Whatever the rows hold, its evaluation followed by an
/// object name is a valid [`LakePath`] of at most 512 bytes before the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    kind: Kind,
    /// The most bytes that one event value may take.
    value_limit: usize,
    /// Whether expressions were written, rather than appended by default.
    written: bool,
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Literal(String),
    Timestamp(Pattern),
    /// `!{firehose:random-string}`, the how-manieth of the template.
    RandomString(usize),
    ErrorOutputType,
    Event(Event),
}

/// `!{event:…}`, or what is read as an event's value from a hidden column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) column: String,
    pub(super) pattern: Option<Pattern>,
    pub(super) from: From,
}

/// Where the value of an [`Event`] comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum From {
    /// A column of the rows.
    Column,
    /// A partition key.
    Key(PartitionKey),
    /// The lineage of the row's record.
    Source(SourcePart),
}

impl Event {
    /// Whether slashes in its values separate folders.
    pub(super) fn has_folders(&self) -> bool {
        matches!(self.from, From::Key(_) | From::Source(SourcePart::File))
    }
}

/// What is wrong with a template. The texts are for our own configuration;
/// the Firehose door says the same in AWS's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Over Firehose's limit for a prefix as written.
    #[error("it has {characters} characters; at most 1,024 are allowed")]
    TooLong {
        /// How many it has.
        characters: usize,
    },
    /// Over Firehose's limit for an evaluated prefix.
    #[error("it can become longer than 512 bytes, or too long for its values to fit")]
    EvaluatesTooLong,
    /// `!{` without `}`.
    #[error("the expression {expression:?} has no closing `}}`")]
    Unterminated {
        /// It, cut to 64 characters.
        expression: String,
    },
    /// Not `!{namespace:value}`.
    #[error("{expression:?} is not `!{{namespace:value}}`")]
    Malformed {
        /// The text between the braces.
        expression: String,
    },
    /// Not a namespace.
    #[error("there is no namespace {namespace:?}{}", suggestion.map(|s| format!(": did you mean `{s}`?")).unwrap_or_default())]
    UnknownNamespace {
        /// What was written.
        namespace: String,
        /// What may have been meant.
        suggestion: Option<&'static str>,
    },
    /// `!{firehose:…}` of something else.
    #[error("`!{{firehose:{value}}}` is neither `random-string` nor `error-output-type`")]
    UnknownFirehoseValue {
        /// What was written.
        value: String,
    },
    /// `!{firehose:error-output-type}` outside an error prefix.
    #[error("`!{{firehose:error-output-type}}` is only for an error prefix")]
    ErrorOutputTypeInPrefix,
    /// An error prefix with expressions but without that one.
    #[error("an error prefix with an expression needs `!{{firehose:error-output-type}}` too")]
    ErrorOutputTypeMissing,
    /// `!{partitionKeyFrom…}`, `!{event:…}` or `!{source:…}` in an error prefix.
    #[error("`!{{{namespace}:…}}` cannot be used in an error prefix")]
    NotInErrorPrefix {
        /// The namespace.
        namespace: &'static str,
    },
    /// `!{partitionKeyFrom…}` in a prefix: it needs dynamic partitioning.
    #[error(
        "`!{{{namespace}:{key}}}` needs dynamic partitioning; `!{{event:{key}}}` takes a column as it is"
    )]
    NeedsDynamicPartitioning {
        /// The namespace.
        namespace: &'static str,
        /// The key.
        key: String,
    },
    /// The date pattern is wrong.
    #[error("in the date pattern {pattern:?}: {error}")]
    Pattern {
        /// It, as written.
        pattern: String,
        /// What is wrong.
        #[source]
        error: PatternError,
    },
    /// What surrounds the expressions makes no path.
    #[error("it makes no path inside the lake: {reason}")]
    NotAPath {
        /// The path's rule that it breaks.
        reason: &'static str,
    },
}

/// A prefix with expressions needs an error prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a prefix with expressions needs an error prefix")]
pub struct ErrorPrefixRequired;

/// Firehose's rule for the pair (our own configuration need not keep it: see
/// [`Template::default_error`]).
///
/// # Errors
/// `prefix` was written with an expression and there is no error prefix.
pub fn require_error_prefix(
    prefix: &Template,
    error_prefix: Option<&Template>,
) -> Result<(), ErrorPrefixRequired> {
    if prefix.written && error_prefix.is_none() { Err(ErrorPrefixRequired) } else { Ok(()) }
}

/// What the parts of a template that are not about rows are evaluated from.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// The arrival of the oldest record in the object.
    pub arrival: Timestamp,
    /// The zone of all patterns.
    pub zone: &'a TimeZone,
    /// The batch.
    pub batch: BatchId,
    /// Which of its files.
    pub index: usize,
    /// `processing-failed`, `format-conversion-failed` and so on; not used by
    /// a prefix of data.
    pub error_output_type: &'a str,
}

impl Template {
    /// Reads a template and checks all that does not depend on rows.
    ///
    /// A static prefix of data gets `yyyy/MM/dd/HH/` appended, with no slash
    /// in between; a static error prefix stays as it is.
    ///
    /// # Errors
    /// See [`TemplateError`]; the configuration is at fault.
    pub fn parse(text: &str, kind: Kind) -> Result<Self, TemplateError> {
        let characters = text.chars().count();
        if characters > 1024 {
            return Err(TemplateError::TooLong { characters });
        }
        let mut parts = parse_parts(text, kind)?;
        let written = parts.iter().any(|part| !matches!(part, Part::Literal(_)));
        if kind == Kind::ErrorPrefix && written && !parts.contains(&Part::ErrorOutputType) {
            return Err(TemplateError::ErrorOutputTypeMissing);
        }
        if kind != Kind::ErrorPrefix && !written {
            parts.push(Part::Timestamp(Pattern::firehose_default()));
        }
        let skeleton: String = parts.iter().map(Part::skeleton).chain([String::from("x")]).collect();
        LakePath::new(skeleton).map_err(|error| TemplateError::NotAPath { reason: error.reason })?;
        let value_limit = value_limit(&parts).ok_or(TemplateError::EvaluatesTooLong)?;
        Ok(Self { parts, kind, value_limit, written })
    }

    /// The error prefix of a pipeline that names none:
    /// `<prefix>!{firehose:error-output-type}/yyyy/MM/dd/HH/`. Of a prefix with
    /// expressions only the folders before the first of them are taken.
    #[must_use]
    pub fn default_error(&self) -> Self {
        let start = match self.parts.first() {
            Some(Part::Literal(text)) if self.written => &text[..text.rfind('/').map_or(0, |at| at + 1)],
            Some(Part::Literal(text)) => text,
            _ => "",
        };
        let literal = |text: &str| Part::Literal(text.into());
        let mut parts =
            vec![Part::ErrorOutputType, literal("/"), Part::Timestamp(Pattern::firehose_default())];
        if !start.is_empty() {
            parts.insert(0, literal(start));
        }
        Self { parts, kind: Kind::ErrorPrefix, value_limit: escape::MAX_VALUE, written: true }
    }

    /// Which of the two it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it was written with an expression (the appended default does
    /// not count).
    #[must_use]
    pub fn has_expressions(&self) -> bool {
        self.written
    }

    /// Whether it reads columns of the rows; partition keys and parts of the
    /// lineage are none.
    #[must_use]
    pub fn reads_events(&self) -> bool {
        self.event_columns().next().is_some()
    }

    /// The dotted paths of the columns that it reads, as often as they occur.
    pub fn event_columns(&self) -> impl Iterator<Item = &str> {
        self.events().filter(|event| event.from == From::Column).map(|event| event.column.as_str())
    }

    /// The partition keys that it reads, each once, in order of first sight.
    /// Their values are read from hidden columns: see
    /// [`PartitionKey::column`] and [`super::key_columns`].
    #[must_use]
    pub fn partition_keys(&self) -> Vec<PartitionKey> {
        let mut keys = Vec::new();
        for event in self.events() {
            if let From::Key(key) = &event.from
                && !keys.contains(key)
            {
                keys.push(key.clone());
            }
        }
        keys
    }

    /// The parts of the records' lineage that it reads, each once, in order of
    /// first sight, from hidden columns: see [`SourcePart::column`].
    #[must_use]
    pub fn source_parts(&self) -> Vec<SourcePart> {
        let mut parts = Vec::new();
        for event in self.events() {
            if let From::Source(part) = &event.from
                && !parts.contains(part)
            {
                parts.push(part.clone());
            }
        }
        parts
    }

    /// The top-level columns that are a folder of their own under their own
    /// name, `k=!{event:k}/` or `k=!{source:k}/`: engines read them from the
    /// path, so the file does not repeat them.
    #[must_use]
    pub fn hive_columns(&self) -> Vec<&str> {
        let mut columns = Vec::new();
        for (at, part) in self.parts.iter().enumerate() {
            let column = match part {
                Part::Event(Event { column, pattern: None, from: From::Column }) => column,
                Part::Event(Event {
                    pattern: None, from: From::Source(SourcePart::Captured(name)), ..
                }) => name,
                _ => continue,
            };
            let Some(Part::Literal(before)) = at.checked_sub(1).map(|i| &self.parts[i]) else { continue };
            let ends = matches!(self.parts.get(at + 1), Some(Part::Literal(after)) if after.starts_with('/'));
            let starts = before
                .strip_suffix('=')
                .and_then(|b| b.strip_suffix(column.as_str()))
                .is_some_and(|b| b.ends_with('/') || (b.is_empty() && at == 1));
            if starts && ends && !column.contains('.') && !columns.contains(&column.as_str()) {
                columns.push(column);
            }
        }
        columns
    }

    /// The prefix for `moment`, every event expression being `__missing__`:
    /// for templates that read no events, and for batches without rows.
    #[must_use]
    pub fn evaluate(&self, moment: &Moment<'_>) -> String {
        self.evaluate_with(moment, |_| super::MISSING)
    }

    /// The prefix for `moment`, the n-th event expression being `value(n)`.
    pub(super) fn evaluate_with<'v>(&self, moment: &Moment<'_>, value: impl Fn(usize) -> &'v str) -> String {
        let mut out = String::with_capacity(96);
        let mut arrival = None;
        let mut events = 0;
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Timestamp(pattern) => {
                    let at = arrival.get_or_insert_with(|| zoned(moment.arrival, moment.zone));
                    pattern.format(at, &mut out);
                }
                Part::RandomString(nth) => random_string(moment.batch, moment.index, *nth, &mut out),
                Part::ErrorOutputType => out.push_str(moment.error_output_type),
                Part::Event(_) => {
                    out.push_str(value(events));
                    events += 1;
                }
            }
        }
        out
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    pub(super) fn events(&self) -> impl Iterator<Item = &Event> {
        self.parts.iter().filter_map(|part| if let Part::Event(event) = part { Some(event) } else { None })
    }

    pub(super) fn value_limit(&self) -> usize {
        self.value_limit
    }
}

impl Part {
    /// The text with `x` for what is not known yet.
    fn skeleton(&self) -> String {
        match self {
            Self::Literal(text) => text.clone(),
            Self::Timestamp(pattern) => pattern.skeleton(),
            Self::Event(Event { pattern: Some(pattern), .. }) => pattern.skeleton(),
            _ => String::from("x"),
        }
    }

    /// An upper bound for its length, in bytes; 0 for a plain event value.
    fn max_len(&self) -> usize {
        match self {
            Self::Literal(text) => text.len(),
            Self::Timestamp(pattern) => pattern.max_len(),
            Self::Event(Event { pattern: Some(pattern), .. }) => pattern.max_len().max(super::MISSING.len()),
            Self::Event(_) => 0,
            Self::RandomString(_) => RANDOM_STRING,
            Self::ErrorOutputType => "AmazonOpenSearchService-failed".len(),
        }
    }
}

/// How long one event value may be so that the prefix keeps to 512 bytes
/// (Firehose's limit) and every folder to 250 (file systems allow 255).
/// `None` if values do not fit.
fn value_limit(parts: &[Part]) -> Option<usize> {
    let fits = |most: usize, fixed: usize, values: usize| match (most.checked_sub(fixed)?, values) {
        (_, 0) => Some(escape::MAX_VALUE),
        (left, values) => Some(left / values).filter(|limit| *limit >= escape::MIN_LIMIT),
    };
    let plain = |part: &Part| usize::from(matches!(part, Part::Event(Event { pattern: None, .. })));
    let mut limit = escape::MAX_VALUE.min(fits(
        512,
        parts.iter().map(Part::max_len).sum(),
        parts.iter().map(plain).sum(),
    )?);
    let (mut fixed, mut values) = (0, 0);
    for part in parts {
        let skeleton = part.skeleton();
        if let (Part::Literal(_), Some(slash)) = (part, skeleton.find('/')) {
            limit = limit.min(if values > 0 { fits(250, fixed + slash, values)? } else { limit });
            (fixed, values) = (skeleton.len() - skeleton.rfind('/').map_or(0, |at| at + 1), 0);
        } else {
            (fixed, values) = (fixed + part.max_len(), values + plain(part));
        }
    }
    // The last folder of a prefix without a closing slash is the object's name.
    const NAME: usize = 140;
    limit = limit.min(if values > 0 { fits(250, fixed + NAME, values)? } else { limit });
    Some(limit)
}

fn parse_parts(text: &str, kind: Kind) -> Result<Vec<Part>, TemplateError> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("!{") {
        if start > 0 {
            parts.push(Part::Literal(rest[..start].into()));
        }
        let inside = &rest[start + 2..];
        let end = inside.find('}').ok_or_else(|| TemplateError::Unterminated {
            expression: rest[start..].chars().take(64).collect(),
        })?;
        let nth = parts.iter().filter(|part| matches!(part, Part::RandomString(_))).count();
        parts.push(parse_expression(&inside[..end], kind, nth)?);
        rest = &inside[end + 1..];
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest.into()));
    }
    Ok(parts)
}

fn parse_expression(expression: &str, kind: Kind, random_strings: usize) -> Result<Part, TemplateError> {
    let malformed = || TemplateError::Malformed { expression: expression.into() };
    let (namespace, value) = expression.split_once(':').ok_or_else(malformed)?;
    if value.is_empty() {
        return Err(malformed());
    }
    let data_only = |namespace| match kind {
        Kind::ErrorPrefix => Err(TemplateError::NotInErrorPrefix { namespace }),
        Kind::Prefix | Kind::KeyedPrefix => Ok(()),
    };
    let keyed = |key: PartitionKey| {
        let namespace = key.namespace();
        data_only(namespace)?;
        if kind == Kind::Prefix {
            return Err(TemplateError::NeedsDynamicPartitioning { namespace, key: key.name().into() });
        }
        Ok(Part::Event(Event { column: key.column(), pattern: None, from: From::Key(key) }))
    };
    match (namespace, value) {
        ("timestamp", _) => parse_pattern(value).map(Part::Timestamp),
        ("firehose", "random-string") => Ok(Part::RandomString(random_strings)),
        ("firehose", "error-output-type") if kind == Kind::ErrorPrefix => Ok(Part::ErrorOutputType),
        ("firehose", "error-output-type") => Err(TemplateError::ErrorOutputTypeInPrefix),
        ("firehose", _) => Err(TemplateError::UnknownFirehoseValue { value: value.into() }),
        ("partitionKeyFromQuery", _) => keyed(PartitionKey::Query(value.into())),
        ("partitionKeyFromLambda", _) => keyed(PartitionKey::Lambda(value.into())),
        ("event", _) => {
            data_only("event")?;
            let (column, pattern) = with_pattern(value)?;
            if column.is_empty() {
                return Err(malformed());
            }
            Ok(Part::Event(Event { column: column.into(), pattern, from: From::Column }))
        }
        ("source", _) => {
            data_only("source")?;
            let (name, pattern) = with_pattern(value)?;
            let part = SourcePart::named(name).ok_or_else(malformed)?;
            Ok(Part::Event(Event { column: part.column(), pattern, from: From::Source(part) }))
        }
        _ => Err(TemplateError::UnknownNamespace {
            namespace: namespace.chars().take(64).collect(),
            suggestion: suggest_namespace(namespace),
        }),
    }
}

/// A name, and the pattern behind it, if there is one.
fn with_pattern(value: &str) -> Result<(&str, Option<Pattern>), TemplateError> {
    match value.split_once(':') {
        Some((name, pattern)) => Ok((name, Some(parse_pattern(pattern)?))),
        None => Ok((value, None)),
    }
}

fn parse_pattern(text: &str) -> Result<Pattern, TemplateError> {
    Pattern::parse(text).map_err(|error| TemplateError::Pattern { pattern: text.into(), error })
}

/// The namespace that starts with the same three letters.
fn suggest_namespace(written: &str) -> Option<&'static str> {
    let start = written.trim().get(..3)?.to_ascii_lowercase();
    ["timestamp", "firehose", "event", "partitionKeyFromQuery", "source"]
        .into_iter()
        .find(|known| known.starts_with(&start))
}

const RANDOM_STRING: usize = 11;

/// 11 letters and digits that look random and follow from the file.
fn random_string(batch: BatchId, index: usize, nth: usize, out: &mut String) {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut bits =
        xxhash_rust::xxh3::xxh3_128_with_seed(batch.file(index).as_bytes(), (nth as u64).wrapping_add(1));
    for _ in 0..RANDOM_STRING {
        out.push(char::from(ALPHABET[(bits % 62) as usize]));
        bits /= 62;
    }
}

/// `at` in `zone`; an instant beyond the calendar is its first or last one.
pub(super) fn zoned(at: Timestamp, zone: &TimeZone) -> Zoned {
    let bounded = at.micros().clamp(RANGE.start, RANGE.end - 1);
    Instant::from_microsecond(bounded).expect("inside jiff's calendar").to_zoned(zone.clone())
}
