//! The configuration against its own schema: every problem at once, each with
//! the path of the value and what was probably meant.

use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

use super::{Problem, schema};

/// What is wrong with `value`, before it is deserialized.
pub(super) fn against_schema(value: &Value) -> Vec<Problem> {
    let schema = schema();
    let validator = jsonschema::validator_for(&schema).expect("the generated schema is valid");
    let mut problems: Vec<Problem> =
        validator.iter_errors(value).flat_map(|error| describe(&error, &schema)).collect();
    problems.dedup();
    problems
}

fn describe(error: &jsonschema::ValidationError<'_>, schema: &Value) -> Vec<Problem> {
    let path = readable(error.instance_path().as_str());
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let known = known_keys(schema, error.schema_path().as_str());
            unexpected.iter().map(|key| unknown_key(&path, key, &known)).collect()
        }
        ValidationErrorKind::Required { property } => {
            let key = property.as_str().unwrap_or_default();
            vec![Problem::new(path, format!("`{key}` is missing"))]
        }
        ValidationErrorKind::OneOfNotValid { .. } | ValidationErrorKind::AnyOf { .. } => {
            vec![Problem::new(path, "this is none of the forms that are allowed here".to_string())]
        }
        _ => vec![Problem::new(path, error.masked().to_string())],
    }
}

fn unknown_key(path: &str, key: &str, known: &[String]) -> Problem {
    let near = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(name, key), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min();
    let problem = match near {
        Some((_, name)) => format!("there is no such key; did you mean `{name}`?"),
        None => format!("there is no such key; the keys here are {}", known.join(", ")),
    };
    let path = if path == "(file)" { key.to_string() } else { format!("{path}.{key}") };
    Problem::new(path, problem)
}

/// The keys that the object schema at `path` (`…/additionalProperties`) knows.
fn known_keys(schema: &Value, path: &str) -> Vec<String> {
    let mut at = schema;
    for part in path.trim_end_matches("/additionalProperties").split('/').skip(1) {
        if part == "$ref" {
            let target = at
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|to| schema.pointer(to.trim_start_matches('#')));
            match target {
                Some(target) => at = target,
                None => return Vec::new(),
            }
            continue;
        }
        let next = match at {
            Value::Array(items) => part.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => at.get(part),
        };
        match next {
            Some(next) => at = next,
            None => return Vec::new(),
        }
    }
    at.get("properties")
        .and_then(Value::as_object)
        .map(|all| all.keys().cloned().collect())
        .unwrap_or_default()
}

/// `/pipelines/0/name` as `pipelines[0].name`.
fn readable(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1) {
        if part.bytes().all(|b| b.is_ascii_digit()) && !part.is_empty() {
            path.push_str(&format!("[{part}]"));
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(part);
        }
    }
    if path.is_empty() { "(file)".to_string() } else { path }
}
