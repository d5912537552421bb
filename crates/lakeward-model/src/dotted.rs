//! Dotted paths of fields: `context.attributes`. Elements of a list have the
//! list's path. A key that contains `.` or `"`, or is empty, stands in JSON
//! quotes.

/// The path of the field `name` below `parent`, which is empty for the root.
#[must_use]
pub fn join(parent: &str, name: &str) -> String {
    let quoted = name.is_empty() || name.contains(['.', '"']);
    let name = if quoted { serde_json::Value::from(name).to_string() } else { name.to_owned() };
    if parent.is_empty() { name } else { format!("{parent}.{name}") }
}

/// The names of a path from the root, or `None` if it is none: a quote is not
/// closed, or a name without quotes is empty or has a quote in it.
#[must_use]
pub fn split(path: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = path;
    loop {
        if rest.starts_with('"') {
            let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<String>();
            names.push(stream.next()?.ok()?);
            rest = &rest[stream.byte_offset()..];
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            let (name, more) = rest.split_at(end);
            if name.is_empty() || name.contains('"') {
                return None;
            }
            names.push(name.to_owned());
            rest = more;
        }
        if rest.is_empty() {
            return Some(names);
        }
        rest = rest.strip_prefix('.')?;
    }
}

/// Whether readers that do not tell case apart take the names for one.
#[must_use]
pub fn collide(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() {
        return a.eq_ignore_ascii_case(b);
    }
    a.to_lowercase() == b.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_split_as_they_were_joined() {
        for names in [&["a"][..], &["a", "b"], &["", "a.b", "\"x\"", "é"], &["a b", "."]] {
            let path = names.iter().fold(String::new(), |path, name| join(&path, name));
            assert_eq!(
                split(&path).as_deref(),
                Some(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()[..])
            );
        }
        for bad in ["", ".", "a.", ".a", "a..b", "\"a", "a\"b", "\"a\"b"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_collide_whatever_their_case() {
        assert!(collide("Id", "iD") && collide("É", "é") && !collide("id", "id_"));
    }
}
