//! The constraints of an API's model: types, required members, lengths,
//! ranges, patterns and enums, with AWS's words for what breaks them.
//!
//! `model/*.json` are generated from botocore's service models by
//! `model/generate.py`. The words follow captures of the real service
//! (contract, section 2.1): `1 validation error detected: Value at
//! 'extendedS3DestinationConfiguration.compressionFormat' failed to satisfy
//! constraint: Member must satisfy enum value set: […]`.

use std::collections::BTreeMap;

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::fault::Fault;

/// The inputs of an API's operations.
pub(crate) struct Model {
    source: Source,
    patterns: BTreeMap<String, Pattern>,
}

#[derive(Deserialize)]
struct Source {
    /// Operations of the API that are not there.
    absent: Vec<String>,
    inputs: BTreeMap<String, String>,
    shapes: BTreeMap<String, Shape>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    r#type: Type,
    #[serde(default)]
    required: Vec<String>,
    #[serde(default)]
    members: BTreeMap<String, String>,
    member: Option<String>,
    key: Option<String>,
    value: Option<String>,
    min: Option<f64>,
    max: Option<f64>,
    pattern: Option<String>,
    r#enum: Option<Vec<String>>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Type {
    Any,
    Blob,
    Boolean,
    Double,
    Integer,
    List,
    Map,
    String,
    Structure,
}

/// A Java pattern that must match the whole text. `(?!x)` at its start, which
/// our engine has not, becomes a second pattern that must not match there.
struct Pattern {
    not: Option<Regex>,
    whole: Regex,
}

impl Pattern {
    fn compile(java: &str) -> Self {
        let (not, rest) = match java.strip_prefix("^(?!").and_then(|p| p.split_once(')')) {
            Some((not, rest)) => (Some(not), rest),
            None => (None, java),
        };
        // Java's classes are ASCII.
        let ascii = |p: &str| {
            p.replace("\\d", "[0-9]")
                .replace("\\w", "[a-zA-Z0-9_]")
                .replace("\\s", "[ \\t\\n\\x0B\\x0C\\r]")
                .replace("\\S", "[^ \\t\\n\\x0B\\x0C\\r]")
        };
        let compile = |p: String| Regex::new(&p).expect("the model's patterns are valid");
        Self {
            not: not.map(|p| compile(format!("^(?:{})", ascii(p)))),
            whole: compile(format!("^(?:{})$", ascii(rest))),
        }
    }

    fn matches(&self, text: &str) -> bool {
        self.whole.is_match(text) && !self.not.as_ref().is_some_and(|not| not.is_match(text))
    }
}

impl Model {
    /// Reads what `model/generate.py` wrote.
    ///
    /// # Panics
    /// If it is something else.
    pub(crate) fn read(json: &str) -> Self {
        let source: Source = serde_json::from_str(json).expect("the model is valid JSON");
        let patterns = source
            .shapes
            .values()
            .filter_map(|shape| shape.pattern.as_deref())
            .map(|pattern| (pattern.to_owned(), Pattern::compile(pattern)))
            .collect();
        Self { source, patterns }
    }

    /// Checks an operation's input against the model. Members that the model
    /// does not have are ignored, as AWS does.
    ///
    /// # Errors
    /// UnknownOperationException; SerializationException for a wrong JSON type,
    /// else ValidationException with all that is wrong.
    pub(crate) fn check(&self, operation: &str, input: &Value) -> Result<(), Fault> {
        let shape = match self.source.inputs.get(operation) {
            Some(shape) => shape,
            None if self.source.absent.iter().any(|absent| absent == operation) => {
                return Err(Fault::unsupported(operation));
            }
            None => return Err(Fault::unknown_operation()),
        };
        let mut found = Vec::new();
        self.visit(shape, "", input, &mut found)?;
        if found.is_empty() {
            return Ok(());
        }
        let errors = if found.len() == 1 { "error" } else { "errors" };
        Err(Fault::validation(format!("{} validation {errors} detected: {}", found.len(), found.join("; "))))
    }

    fn visit(&self, name: &str, path: &str, value: &Value, found: &mut Vec<String>) -> Result<(), Fault> {
        let shape = &self.source.shapes[name];
        match (shape.r#type, value) {
            (Type::Structure, Value::Object(object)) => {
                for (member, member_shape) in &shape.members {
                    let at = below(path, &lower_first(member));
                    match object.get(member) {
                        Some(value) if !value.is_null() => self.visit(member_shape, &at, value, found)?,
                        _ if shape.required.contains(member) => fail(&at, "Member must not be null", found),
                        _ => {}
                    }
                }
            }
            (Type::List, Value::Array(items)) => {
                length(shape, path, items.len(), found);
                let member = shape.member.as_deref().expect("a list has a member shape");
                for (i, item) in items.iter().enumerate() {
                    self.visit(member, &below(path, &format!("{}.member", i + 1)), item, found)?;
                }
            }
            (Type::Map, Value::Object(entries)) => {
                let (key, member) = (shape.key.as_deref(), shape.value.as_deref());
                let (key, member) = key.zip(member).expect("a map has a key and a value shape");
                length(shape, path, entries.len(), found);
                for (k, v) in entries {
                    self.visit(key, &below(path, "key"), &Value::String(k.clone()), found)?;
                    self.visit(member, &below(path, &format!("{k}.member")), v, found)?;
                }
            }
            (Type::String, Value::String(text)) => self.string(shape, path, text, found),
            (Type::Blob, Value::String(text)) => {
                let bytes = base64_simd::STANDARD.decode_to_vec(text);
                let bytes = bytes.map_err(|_| Fault::serialization(format!("{path} is not valid base64")))?;
                length(shape, path, bytes.len(), found);
            }
            (Type::Integer, Value::Number(n)) if n.is_i64() || n.is_u64() => {
                range(shape, path, n.as_f64().unwrap_or(f64::MAX), found);
            }
            (Type::Double, Value::Number(n)) => range(shape, path, n.as_f64().unwrap_or(f64::MAX), found),
            (Type::Boolean, Value::Bool(_)) | (Type::Any, _) => {}
            (expected, given) => return Err(wrong_type(path, expected, given)),
        }
        Ok(())
    }

    fn string(&self, shape: &Shape, path: &str, text: &str, found: &mut Vec<String>) {
        // AWS counts UTF-16 code units, as Java does.
        length(shape, path, text.encode_utf16().count(), found);
        if let Some(pattern) = &shape.pattern
            && !self.patterns[pattern].matches(text)
        {
            fail(path, &format!("Member must satisfy regular expression pattern: {pattern}"), found);
        }
        if let Some(values) = &shape.r#enum
            && !values.iter().any(|v| v == text)
        {
            fail(path, &format!("Member must satisfy enum value set: [{}]", values.join(", ")), found);
        }
    }
}

fn length(shape: &Shape, path: &str, length: usize, found: &mut Vec<String>) {
    if let Some(max) = shape.max.filter(|max| length as f64 > *max) {
        fail(path, &format!("Member must have length less than or equal to {max}"), found);
    }
    if let Some(min) = shape.min.filter(|min| (length as f64) < *min) {
        fail(path, &format!("Member must have length greater than or equal to {min}"), found);
    }
}

fn range(shape: &Shape, path: &str, value: f64, found: &mut Vec<String>) {
    if let Some(max) = shape.max.filter(|max| value > *max) {
        fail(path, &format!("Member must have value less than or equal to {max}"), found);
    }
    if let Some(min) = shape.min.filter(|min| value < *min) {
        fail(path, &format!("Member must have value greater than or equal to {min}"), found);
    }
}

fn fail(path: &str, constraint: &str, found: &mut Vec<String>) {
    found.push(format!("Value at '{path}' failed to satisfy constraint: {constraint}"));
}

fn wrong_type(path: &str, expected: Type, given: &Value) -> Fault {
    let given = match given {
        Value::Null => "NULL_VALUE",
        Value::Bool(true) => "TRUE_VALUE",
        Value::Bool(false) => "FALSE_VALUE",
        Value::Number(n) if n.is_f64() => "DECIMAL_VALUE",
        Value::Number(_) => "NUMBER_VALUE",
        Value::String(_) => "STRING_VALUE",
        Value::Array(_) => return Fault::serialization("Start of list found where not expected"),
        Value::Object(_) => {
            return Fault::serialization("Start of structure or map found where not expected.");
        }
    };
    let expected = match expected {
        Type::Blob => "Blob",
        Type::Boolean => "Boolean",
        Type::Double => "Double",
        Type::Integer => "Integer",
        Type::List => "List",
        Type::Map => "Map",
        Type::String => "String",
        Type::Structure | Type::Any => "Structure",
    };
    let at = if path.is_empty() { String::new() } else { format!(" at '{path}'") };
    Fault::serialization(format!("{given} can not be converted to {expected}{at}"))
}

fn below(path: &str, member: &str) -> String {
    if path.is_empty() { member.to_owned() } else { format!("{path}.{member}") }
}

/// `S3DestinationConfiguration` is `s3DestinationConfiguration` in messages.
fn lower_first(member: &str) -> String {
    let mut chars = member.chars();
    chars.next().map(|c| c.to_ascii_lowercase()).into_iter().chain(chars).collect()
}
