//! `${NAME}` and `${NAME:-default}` in any text of the configuration;
//! `$${` stands for a literal `${`.

use serde_json::Value;

use super::Problem;

/// Replaces the variables in every text below `value`; those that are not set
/// and have no default are problems.
pub(super) fn interpolate(value: &mut Value, environment: &impl Fn(&str) -> Option<String>) -> Vec<Problem> {
    let mut problems = Vec::new();
    walk(value, "", environment, &mut problems);
    problems
}

fn walk(
    value: &mut Value,
    path: &str,
    environment: &impl Fn(&str) -> Option<String>,
    problems: &mut Vec<Problem>,
) {
    match value {
        Value::String(text) if text.contains("${") => match expand(text, environment) {
            Ok(expanded) => *text = expanded,
            Err(problem) => problems.push(Problem::new(path, problem)),
        },
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                walk(item, &format!("{path}[{index}]"), environment, problems);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                walk(member, &path, environment, problems);
            }
        }
        _ => {}
    }
}

fn expand(text: &str, environment: &impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        if let Some(literal) = before.strip_suffix('$') {
            out.push_str(literal);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let end = after.find('}').ok_or("`${` is not closed by `}`; write `$${` for a literal `${`")?;
        let (name, default) = match after[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&after[..end], None),
        };
        match environment(name).or_else(|| default.map(str::to_string)) {
            Some(value) => out.push_str(&value),
            None => return Err(format!("the environment variable {name} is not set")),
        }
        rest = &after[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables() {
        let environment = |name: &str| (name == "KEY").then(|| String::from("value"));
        let check = |text: &str, expect: Result<&str, ()>| {
            assert_eq!(expand(text, &environment).map_err(drop), expect.map(str::to_string), "{text}");
        };
        check("a${KEY}b", Ok("avalueb"));
        check("${NONE:-x y}", Ok("x y"));
        check("$${KEY} ${KEY}", Ok("${KEY} value"));
        check("!{timestamp:yyyy}$", Ok("!{timestamp:yyyy}$"));
        check("${NONE}", Err(()));
        check("${KEY", Err(()));
    }
}
