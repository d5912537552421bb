//! The configuration against its own schema: every problem at once, each with
//! the path of the value and what was probably meant.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use lakeward_model::units;
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

fn describe(error: &ValidationError<'_>, schema: &Value) -> Vec<Problem> {
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
        ValidationErrorKind::Enum { options } => {
            let words: Vec<String> = options
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_string)
                .collect();
            vec![Problem::new(path, format!("this is one of {}", words.join(", ")))]
        }
        ValidationErrorKind::OneOfNotValid { context } | ValidationErrorKind::AnyOf { context } => {
            no_branch(&path, error, context, schema)
        }
        ValidationErrorKind::Pattern { pattern } => {
            let wanted = match pattern.as_str() {
                units::DURATION_PATTERN => "a time such as `10s`, `1m 30s` or `7d`",
                units::BYTES_PATTERN => "a size such as `64MiB`",
                _ => "of the form that is wanted here",
            };
            vec![Problem::new(path, format!("this is not {wanted}"))]
        }
        _ => vec![Problem::new(path, error.masked().to_string())],
    }
}

/// A value that fits none of several forms: the words that are allowed, or
/// what is wrong with the form that was probably meant.
fn no_branch(
    path: &str,
    error: &ValidationError<'_>,
    branches: &[Vec<ValidationError<'static>>],
    schema: &Value,
) -> Vec<Problem> {
    let word = |branch: &Vec<ValidationError<'static>>| match branch.first().map(ValidationError::kind) {
        Some(ValidationErrorKind::Constant { expected_value }) => expected_value.as_str().map(str::to_string),
        _ => None,
    };
    let words: Vec<String> = branches.iter().filter_map(word).collect();
    if words.len() == branches.len() {
        let given = error.instance().as_str().unwrap_or_default();
        let near = nearest(given, &words).map(|word| format!("; did you mean `{word}`?")).unwrap_or_default();
        return vec![Problem::new(path, format!("this is one of {}{near}", words.join(", ")))];
    }
    let of_another_type = |branch: &Vec<ValidationError<'static>>| {
        branch.iter().any(|e| {
            matches!(e.kind(), ValidationErrorKind::Type { .. } | ValidationErrorKind::Constant { .. })
        })
    };
    let meant = branches.iter().min_by_key(|branch| (of_another_type(branch), branch.len()));
    meant.map(|branch| branch.iter().flat_map(|error| describe(error, schema)).collect()).unwrap_or_default()
}

fn nearest<'a>(given: &str, known: &'a [String]) -> Option<&'a String> {
    known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(name, given), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min()
        .map(|(_, name)| name)
}

fn unknown_key(path: &str, key: &str, known: &[String]) -> Problem {
    let problem = match nearest(key, known) {
        Some(name) => format!("there is no such key; did you mean `{name}`?"),
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

/// Takes the value at `path`, as [`readable`] writes it, out of its object.
pub(super) fn remove(value: &mut Value, path: &str) {
    let pointer = format!("/{}", path.replace('[', "/").replace(']', "").replace('.', "/"));
    if let Some((parent, key)) = pointer.rsplit_once('/')
        && let Some(Value::Object(members)) = value.pointer_mut(parent)
    {
        members.remove(key);
    }
}
