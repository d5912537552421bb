//! The constraints of the API's model: types, required members, lengths,
//! ranges, patterns and enums, with AWS's words for what breaks them.
//!
//! `model/firehose.json` is generated from botocore's service model by
//! `model/generate.py`. The words follow captures of the real service
//! (contract, section 2.1): `1 validation error detected: Value at
//! 'extendedS3DestinationConfiguration.compressionFormat' failed to satisfy
//! constraint: Member must satisfy enum value set: […]`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::fault::Fault;

static MODEL: LazyLock<Model> = LazyLock::new(|| {
    let model: Source =
        serde_json::from_str(include_str!("../../model/firehose.json")).expect("the model is valid JSON");
    let patterns = model
        .shapes
        .values()
        .filter_map(|shape| shape.pattern.as_deref())
        .map(|pattern| (pattern.to_owned(), Pattern::compile(pattern)))
        .collect();
    Model { source: model, patterns }
});

struct Model {
    source: Source,
    patterns: BTreeMap<String, Pattern>,
}

#[derive(Deserialize)]
struct Source {
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

/// Checks an operation's input against the model. Members that the model does
/// not have are ignored, as AWS does.
///
/// # Errors
/// SerializationException for a wrong JSON type, else ValidationException
/// with all that is wrong.
pub(super) fn check(operation: &str, input: &Value) -> Result<(), Fault> {
    let shape = MODEL.source.inputs.get(operation).ok_or_else(Fault::unknown_operation)?;
    let mut found = Vec::new();
    visit(shape, "", input, &mut found)?;
    if found.is_empty() {
        return Ok(());
    }
    let errors = if found.len() == 1 { "error" } else { "errors" };
    Err(Fault::validation(format!("{} validation {errors} detected: {}", found.len(), found.join("; "))))
}

fn visit(name: &str, path: &str, value: &Value, found: &mut Vec<String>) -> Result<(), Fault> {
    let shape = &MODEL.source.shapes[name];
    match (shape.r#type, value) {
        (Type::Structure, Value::Object(object)) => {
            for (member, member_shape) in &shape.members {
                let at = below(path, &lower_first(member));
                match object.get(member) {
                    Some(value) if !value.is_null() => visit(member_shape, &at, value, found)?,
                    _ if shape.required.contains(member) => fail(&at, "Member must not be null", found),
                    _ => {}
                }
            }
        }
        (Type::List, Value::Array(items)) => {
            length(shape, path, items.len(), found);
            let member = shape.member.as_deref().expect("a list has a member shape");
            for (i, item) in items.iter().enumerate() {
                visit(member, &below(path, &format!("{}.member", i + 1)), item, found)?;
            }
        }
        (Type::Map, Value::Object(entries)) => {
            let (key, member) = (shape.key.as_deref(), shape.value.as_deref());
            let (key, member) = key.zip(member).expect("a map has a key and a value shape");
            for (k, v) in entries {
                visit(key, &below(path, "key"), &Value::String(k.clone()), found)?;
                visit(member, &below(path, &format!("{k}.member")), v, found)?;
            }
        }
        (Type::String, Value::String(text)) => string(shape, path, text, found),
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

fn string(shape: &Shape, path: &str, text: &str, found: &mut Vec<String>) {
    // AWS counts UTF-16 code units, as Java does.
    length(shape, path, text.encode_utf16().count(), found);
    if let Some(pattern) = &shape.pattern
        && !MODEL.patterns[pattern].matches(text)
    {
        fail(path, &format!("Member must satisfy regular expression pattern: {pattern}"), found);
    }
    if let Some(values) = &shape.r#enum
        && !values.iter().any(|v| v == text)
    {
        fail(path, &format!("Member must satisfy enum value set: [{}]", values.join(", ")), found);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(operation: &str, input: Value, expect: &str) {
        let got = super::check(operation, &input)
            .map_or_else(|f| format!("{}: {}", f.kind, f.message), |()| "ok".into());
        assert_eq!(got, expect, "{input}");
    }

    #[test]
    fn puts() {
        let one = |name: &str, data: Value| json!({"DeliveryStreamName": name, "Record": {"Data": data}});
        check("PutRecord", one("s", json!("YQ==")), "ok");
        check(
            "PutRecord",
            json!({"DeliveryStreamName": "s", "Record": {"Data": "YQ=="}, "Other": [1]}),
            "ok",
        );
        check(
            "PutRecord",
            json!({"DeliveryStreamName": "s!", "Record": {}}),
            "ValidationException: 2 validation errors detected: Value at 'deliveryStreamName' failed to satisfy \
             constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; Value at 'record.data' \
             failed to satisfy constraint: Member must not be null",
        );
        check(
            "PutRecord",
            one(&"s".repeat(65), json!("")),
            "ValidationException: 1 validation error detected: Value at 'deliveryStreamName' failed to satisfy \
             constraint: Member must have length less than or equal to 64",
        );
        check("PutRecord", one("s", json!("?")), "SerializationException: record.data is not valid base64");
        check(
            "PutRecord",
            one("s", json!(7)),
            "SerializationException: NUMBER_VALUE can not be converted to Blob at 'record.data'",
        );
        check(
            "PutRecordBatch",
            json!({"DeliveryStreamName": "s", "Records": []}),
            "ValidationException: 1 validation error detected: Value at 'records' failed to satisfy constraint: \
             Member must have length greater than or equal to 1",
        );
        check("PutRecordBatch", json!([]), "SerializationException: Start of list found where not expected");
    }

    #[test]
    fn streams() {
        let s3 = |extra: Value| {
            let mut s3 =
                json!({"RoleARN": "arn:aws:iam::123456789012:role/r", "BucketARN": "arn:aws:s3:::b"});
            s3.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            json!({"DeliveryStreamName": "s", "ExtendedS3DestinationConfiguration": s3})
        };
        check("CreateDeliveryStream", s3(json!({})), "ok");
        check("CreateDeliveryStream", s3(json!({"CustomTimeZone": "", "FileExtension": ".json.gz"})), "ok");
        check(
            "CreateDeliveryStream",
            s3(json!({"CompressionFormat": "LZ4"})),
            "ValidationException: 1 validation error detected: Value at \
             'extendedS3DestinationConfiguration.compressionFormat' failed to satisfy constraint: Member must \
             satisfy enum value set: [ZIP, HADOOP_SNAPPY, Snappy, GZIP, UNCOMPRESSED]",
        );
        check(
            "CreateDeliveryStream",
            s3(json!({"BufferingHints": {"SizeInMBs": 129, "IntervalInSeconds": -1}})),
            "ValidationException: 2 validation errors detected: Value at \
             'extendedS3DestinationConfiguration.bufferingHints.intervalInSeconds' failed to satisfy constraint: \
             Member must have value greater than or equal to 0; Value at \
             'extendedS3DestinationConfiguration.bufferingHints.sizeInMBs' failed to satisfy constraint: Member \
             must have value less than or equal to 128",
        );
        check(
            "CreateDeliveryStream",
            s3(json!({"FileExtension": "json"})),
            "ValidationException: 1 validation error detected: Value at \
             'extendedS3DestinationConfiguration.fileExtension' failed to satisfy constraint: Member must satisfy \
             regular expression pattern: ^$|\\.[0-9a-z!\\-_.*'()]+",
        );
        check(
            "TagDeliveryStream",
            json!({"DeliveryStreamName": "s", "Tags": [{"Key": "aws:x"}, {"Key": "Größe", "Value": ""}]}),
            "ValidationException: 1 validation error detected: Value at 'tags.1.member.key' failed to satisfy \
             constraint: Member must satisfy regular expression pattern: \
             ^(?!aws:)[\\p{L}\\p{Z}\\p{N}_.:\\/=+\\-@%]*$",
        );
        check("Nothing", json!({}), "UnknownOperationException: ");
    }
}
