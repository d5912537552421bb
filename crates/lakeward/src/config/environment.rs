//! `${NAME}` and `${NAME:-default}` in any text of the configuration;
//! `$${` stands for a literal `${`.

use std::path::Path;

use serde_json::Value;

use super::Problem;

/// The process' variable `name`, or the credential of that name that the
/// service manager left in a file (systemd.exec(5), `LoadCredential=`).
pub(super) fn of_process(name: &str) -> Option<String> {
    std::env::var(name).ok().or_else(|| {
        let folder = std::env::var_os("CREDENTIALS_DIRECTORY")?;
        credential(Path::new(&folder), name)
    })
}

fn credential(folder: &Path, name: &str) -> Option<String> {
    // Only a file of the folder itself: `${../x}` leads nowhere.
    let file = (!name.contains('/')).then(|| folder.join(name))?;
    // Editors end a file with a newline that is no part of the secret.
    std::fs::read_to_string(file).ok().map(|text| text.trim_end_matches(['\r', '\n']).to_string())
}

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

    #[test]
    fn credentials_are_files_of_one_folder() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("credentials");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(inside.join("TOKEN"), "hush \r\n").unwrap();
        std::fs::write(folder.path().join("OUTSIDE"), "x").unwrap();
        assert_eq!(credential(&inside, "TOKEN").as_deref(), Some("hush "));
        assert_eq!(credential(&inside, "NONE"), None);
        assert_eq!(credential(&inside, "../OUTSIDE"), None);
        assert_eq!(credential(&inside, ".."), None);
        assert_eq!(credential(&inside, ""), None);
    }
}
