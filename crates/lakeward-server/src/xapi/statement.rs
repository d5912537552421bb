//! What a statement must have, and when two statements are the same.
//!
//! Source: *Experience API 1.0.3, part two: data* (adlnet/xAPI-Spec), and for
//! the lenient rules what learning platforms really send (contract
//! `amplitude-xapi-adobe-warehouses.md`, section 2.2): no id, an integer where
//! an account's name belongs, a brace in an activity's id, an object as a
//! response, properties at the top that are nobody's.

use serde_json::{Map, Value};
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

/// What an LRS sets by itself, so that it tells no two statements apart
/// (part two, section 2.3.1: statement comparision requirements).
const SET_BY_OTHERS: [&str; 5] = ["id", "stored", "authority", "version", "attachments"];
const KNOWN: [&str; 11] = [
    "id",
    "actor",
    "verb",
    "object",
    "result",
    "context",
    "timestamp",
    "stored",
    "authority",
    "version",
    "attachments",
];
const CONTEXT_ACTIVITIES: [&str; 4] = ["parent", "grouping", "category", "other"];

/// The property at fault, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) property: String,
    pub(super) what: &'static str,
}

type Checked = Result<(), Problem>;

fn wrong<T>(property: impl Into<String>, what: &'static str) -> Result<T, Problem> {
    Err(Problem { property: property.into(), what })
}

/// Checks a statement; its id, if it has one.
pub(super) fn check(statement: &Value, strict: bool) -> Result<Option<Uuid>, Problem> {
    let Some(parts) = statement.as_object() else { return wrong("", "a statement is an object") };
    let id = match parts.get("id") {
        None => None,
        Some(id) => match id.as_str().and_then(|id| Uuid::parse_str(id).ok()) {
            Some(id) => Some(id),
            None => return wrong("id", "it is a UUID"),
        },
    };
    said(parts, "", strict, true)?;
    if strict {
        if let Some(unknown) = parts.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            return wrong(unknown.clone(), "the specification has no such property");
        }
        if let Some(authority) = parts.get("authority") {
            agent(authority, "authority")?;
        }
        match parts.get("version").map(Value::as_str) {
            None => {}
            Some(Some(version)) if version.starts_with("1.0") || version.starts_with("2.0") => {}
            Some(_) => return wrong("version", "it is 1.0.x or 2.0.x"),
        }
        time(parts, "stored")?;
    }
    Ok(id)
}

/// Who did what, of a statement or of one inside it.
fn said(parts: &Map<String, Value>, at: &str, strict: bool, outer: bool) -> Checked {
    let path = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    for required in ["actor", "verb", "object"] {
        match parts.get(required) {
            None => return wrong(path(required), "it is required"),
            Some(Value::Object(_)) => {}
            Some(_) => return wrong(path(required), "it is an object"),
        }
    }
    for optional in ["result", "context"] {
        if parts.get(optional).is_some_and(|part| !part.is_object()) {
            return wrong(path(optional), "it is an object");
        }
    }
    let verb = parts["verb"].get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
    let Some(verb) = verb else { return wrong(path("verb.id"), "it is a text, and required") };
    if strict && !is_iri(verb) {
        return wrong(path("verb.id"), "it is an IRI");
    }
    if parts.get("timestamp").is_some_and(|time| !time.is_string()) {
        return wrong(path("timestamp"), "it is a text");
    }
    object(&parts["object"], &path("object"), strict, outer)?;
    if strict {
        agent(&parts["actor"], &path("actor"))?;
        languages(parts["verb"].get("display"), &path("verb.display"))?;
        if let Some(score_and_more) = parts.get("result") {
            result(score_and_more, &path("result"))?;
        }
        if let Some(around) = parts.get("context") {
            context(around, &path("context"))?;
        }
        time(parts, "timestamp")?;
    }
    Ok(())
}

fn object(object: &Value, at: &str, strict: bool, outer: bool) -> Checked {
    let kind = match object.get("objectType") {
        None => "Activity",
        Some(Value::String(kind)) => kind.as_str(),
        Some(_) => return wrong(format!("{at}.objectType"), "it is a text"),
    };
    let id = object.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
    match kind {
        "Agent" | "Group" if strict => agent(object, at),
        "Agent" | "Group" => Ok(()),
        "SubStatement" if outer => match object.as_object() {
            Some(parts) => said(parts, at, strict, false),
            None => wrong(at, "it is an object"),
        },
        "SubStatement" => wrong(at, "a statement inside a statement has no further one inside"),
        _ if id.is_none() => wrong(format!("{at}.id"), "it is a text, and required"),
        "StatementRef" if strict && id.is_some_and(|id| Uuid::parse_str(id).is_err()) => {
            wrong(format!("{at}.id"), "it is a UUID")
        }
        "Activity" if strict => {
            if id.is_some_and(|id| !is_iri(id)) {
                return wrong(format!("{at}.id"), "it is an IRI");
            }
            definition(object.get("definition"), &format!("{at}.definition"))
        }
        "StatementRef" => Ok(()),
        _ if strict => {
            wrong(format!("{at}.objectType"), "it is Activity, Agent, Group, StatementRef or SubStatement")
        }
        _ => Ok(()),
    }
}

fn definition(definition: Option<&Value>, at: &str) -> Checked {
    let Some(definition) = definition else { return Ok(()) };
    languages(definition.get("name"), &format!("{at}.name"))?;
    languages(definition.get("description"), &format!("{at}.description"))?;
    for name in ["type", "moreInfo"] {
        if definition.get(name).is_some_and(|it| !it.as_str().is_some_and(is_iri)) {
            return wrong(format!("{at}.{name}"), "it is an IRI");
        }
    }
    extensions(definition.get("extensions"), &format!("{at}.extensions"))
}

/// An Agent has exactly one identifier; a Group has one, or members.
fn agent(agent: &Value, at: &str) -> Checked {
    let Some(parts) = agent.as_object() else { return wrong(at, "it is an object") };
    let text = |name: &str| parts.get(name).map(|it| it.as_str().unwrap_or_default());
    let ids = ["mbox", "mbox_sha1sum", "openid", "account"];
    let count = ids.iter().filter(|id| parts.contains_key(**id)).count();
    let is_group = text("objectType") == Some("Group");
    let has_members = parts.get("member").and_then(Value::as_array).is_some_and(|all| !all.is_empty());
    if count > 1 || (count == 0 && !(is_group && has_members)) {
        return wrong(at, "it has exactly one of mbox, mbox_sha1sum, openid and account");
    }
    if text("mbox").is_some_and(|mbox| !mbox.strip_prefix("mailto:").is_some_and(|it| it.contains('@'))) {
        return wrong(format!("{at}.mbox"), "it is `mailto:` and an address");
    }
    let is_sha1 = |sum: &str| sum.len() == 40 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
    if text("mbox_sha1sum").is_some_and(|sum| !is_sha1(sum)) {
        return wrong(format!("{at}.mbox_sha1sum"), "it is 40 hexadecimal digits");
    }
    if text("openid").is_some_and(|openid| !is_iri(openid)) {
        return wrong(format!("{at}.openid"), "it is a URI");
    }
    if let Some(account) = parts.get("account") {
        if !account.get("homePage").and_then(Value::as_str).is_some_and(is_iri) {
            return wrong(format!("{at}.account.homePage"), "it is an IRL, and required");
        }
        if !account.get("name").is_some_and(Value::is_string) {
            return wrong(format!("{at}.account.name"), "it is a text, and required");
        }
    }
    Ok(())
}

fn result(result: &Value, at: &str) -> Checked {
    for (name, fits, what) in [
        ("success", Value::is_boolean as fn(&Value) -> bool, "it is true or false"),
        ("completion", Value::is_boolean, "it is true or false"),
        ("response", Value::is_string, "it is a text"),
        ("duration", |it| it.as_str().is_some_and(|it| it.starts_with('P')), "it is an ISO 8601 duration"),
        ("score", Value::is_object, "it is an object"),
    ] {
        if result.get(name).is_some_and(|it| !fits(it)) {
            return wrong(format!("{at}.{name}"), what);
        }
    }
    let score = |name: &str| result.get("score").and_then(|score| score.get(name));
    for name in ["scaled", "raw", "min", "max"] {
        if score(name).is_some_and(|it| !it.is_number()) {
            return wrong(format!("{at}.score.{name}"), "it is a number");
        }
    }
    let number = |name: &str| score(name).and_then(Value::as_f64);
    if number("scaled").is_some_and(|scaled| !(-1.0..=1.0).contains(&scaled)) {
        return wrong(format!("{at}.score.scaled"), "it is between -1 and 1");
    }
    let least = number("min").unwrap_or(f64::NEG_INFINITY);
    let most = number("max").unwrap_or(f64::INFINITY);
    if least >= most || number("raw").is_some_and(|raw| !(least..=most).contains(&raw)) {
        return wrong(format!("{at}.score"), "min is below max, and raw between them");
    }
    extensions(result.get("extensions"), &format!("{at}.extensions"))
}

fn context(context: &Value, at: &str) -> Checked {
    let is_uuid = |it: &Value| it.as_str().is_some_and(|it| Uuid::parse_str(it).is_ok());
    if context.get("registration").is_some_and(|it| !is_uuid(it)) {
        return wrong(format!("{at}.registration"), "it is a UUID");
    }
    for name in ["instructor", "team"] {
        if let Some(who) = context.get(name) {
            agent(who, &format!("{at}.{name}"))?;
        }
    }
    for name in ["revision", "platform", "language"] {
        if context.get(name).is_some_and(|it| !it.is_string()) {
            return wrong(format!("{at}.{name}"), "it is a text");
        }
    }
    if let Some(activities) = context.get("contextActivities") {
        let at = format!("{at}.contextActivities");
        let Some(all) = activities.as_object() else { return wrong(at, "it is an object") };
        for (name, some) in all {
            if !CONTEXT_ACTIVITIES.contains(&name.as_str()) {
                return wrong(format!("{at}.{name}"), "the specification has no such property");
            }
            let some = some.as_array().map_or(std::slice::from_ref(some), Vec::as_slice);
            some.iter().try_for_each(|one| object(one, &format!("{at}.{name}"), true, false))?;
        }
    }
    extensions(context.get("extensions"), &format!("{at}.extensions"))
}

fn extensions(extensions: Option<&Value>, at: &str) -> Checked {
    let Some(extensions) = extensions else { return Ok(()) };
    let Some(all) = extensions.as_object() else { return wrong(at, "it is an object") };
    match all.keys().find(|key| !is_iri(key)) {
        Some(key) => {
            wrong(format!("{at}.{}", key.chars().take(100).collect::<String>()), "its key is an IRI")
        }
        None => Ok(()),
    }
}

fn languages(map: Option<&Value>, at: &str) -> Checked {
    let is_map = |it: &Value| it.as_object().is_some_and(|all| all.values().all(Value::is_string));
    if map.is_some_and(|it| !is_map(it)) { wrong(at, "it has a text for each language") } else { Ok(()) }
}

fn time(parts: &Map<String, Value>, name: &str) -> Checked {
    let is_time = |it: &Value| it.as_str().is_some_and(|it| it.parse::<jiff::Timestamp>().is_ok());
    if parts.get(name).is_some_and(|it| !is_time(it)) {
        return wrong(name, "it is an instant such as 2026-03-01T05:06:07.123Z");
    }
    Ok(())
}

/// A scheme, a colon, something behind it, and nothing that no IRI has
/// (RFC 3987).
fn is_iri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let never = |c: char| c.is_whitespace() || c.is_control() || "<>\"{}|\\^`".contains(c);
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(is_scheme)
        && !rest.is_empty()
        && !rest.contains(never)
}

/// What a statement says, whatever an LRS wrote into it and however it is
/// spelt: the same for the same statement.
pub(super) fn meaning(statement: &Value) -> u128 {
    let mut hash = Xxh3::new();
    match statement.as_object() {
        Some(parts) => members(parts, &SET_BY_OTHERS, &mut hash),
        None => value(statement, &mut hash),
    }
    hash.digest128()
}

fn members(parts: &Map<String, Value>, but: &[&str], hash: &mut Xxh3) {
    let mut parts: Vec<_> = parts.iter().filter(|(name, _)| !but.contains(&name.as_str())).collect();
    parts.sort_unstable_by_key(|(name, _)| name.as_str());
    hash.update(b"{");
    for (name, part) in parts {
        text(name, hash);
        value(part, hash);
    }
    hash.update(b"}");
}

fn text(text: &str, hash: &mut Xxh3) {
    hash.update(b"\"");
    hash.update(&(text.len() as u64).to_le_bytes());
    hash.update(text.as_bytes());
}

fn value(one: &Value, hash: &mut Xxh3) {
    match one {
        Value::Object(parts) => members(parts, &[], hash),
        Value::Array(all) => {
            hash.update(b"[");
            all.iter().for_each(|each| value(each, hash));
            hash.update(b"]");
        }
        Value::String(it) => text(it, hash),
        // 1 and 1.0 are the same number.
        Value::Number(number) => {
            hash.update(b"#");
            match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => text(&whole.to_string(), hash),
                (None, Some(float)) if float.fract() == 0.0 && float.abs() < 9e15 => {
                    text(&format!("{float:.0}"), hash);
                }
                _ => text(&number.to_string(), hash),
            }
        }
        Value::Bool(true) => hash.update(b"t"),
        Value::Bool(false) => hash.update(b"f"),
        Value::Null => hash.update(b"n"),
    }
}

#[cfg(test)]
mod tests;
