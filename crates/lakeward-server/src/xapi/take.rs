//! Statements on their way to the journal.
//!
//! A statement's id is its request key: the journal remembers it for its window
//! (`journal.request_key_window`), over restarts, so a statement that comes
//! again after a lost reply is there once. An id that is assigned here follows
//! from the statement's bytes if it has a time of its own, so that the same is
//! true of statements without an id.

use futures::{StreamExt, TryStreamExt};
use lakeward_model::{Offset, Origin, Records, RequestKey, Timestamp};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};
use uuid::Uuid;

use super::call::{Call, Version};
use super::statement::{self, Problem};
use crate::doors::Doors;
use crate::refusal::Refusal;
use crate::split;

/// What stands before an id in a request key, so that it equals no key of
/// another door.
const KEY_PREFIX: &[u8] = b"xapi:";
/// How many appends of one request are on their way at the same time.
const APPENDS: usize = 64;
/// What a statement may take of memory while it is looked at, times its bytes.
const ROOM: usize = 4;

/// A statement that was looked at.
struct Statement {
    id: Uuid,
    /// Whether the same statement would have the same id.
    is_known_by_id: bool,
    meaning: u128,
    /// What goes to the journal.
    record: Vec<u8>,
}

/// Takes the statements of a `POST`; their ids, in their order.
///
/// # Errors
/// Nothing was stored, unless the journal failed in the middle.
pub(super) async fn post(doors: &Doors, call: &mut Call) -> Result<Vec<Uuid>, Refusal> {
    let (statements, _) = read(doors, call, None)?;
    take(doors, statements).await
}

/// Takes the statement of a `PUT`.
///
/// # Errors
/// As for [`post`].
pub(super) async fn put(doors: &Doors, call: &mut Call) -> Result<(), Refusal> {
    let given =
        call.parameter("statementId").ok_or_else(|| Refusal::bad_request("statementId is required"))?;
    let id = Uuid::parse_str(given).map_err(|_| Refusal::bad_request("statementId: it is a UUID"))?;
    let (statements, is_list) = read(doors, call, Some(id))?;
    if is_list || statements.len() != 1 {
        return Err(Refusal::bad_request("a PUT has one statement"));
    }
    take(doors, statements).await.map(drop)
}

/// The statement with this id, if it came within the window and its record is
/// still in the journal.
pub(super) async fn get(doors: &Doors, id: Uuid) -> Option<Vec<u8>> {
    let key = key(id)?;
    let answered = doors.intake.answered(&doors.xapi.stream, &key)?;
    let record = record_at(doors, answered.first).await?;
    let has_id = serde_json::from_slice::<Value>(&record).is_ok_and(|it| it.get("id").is_some());
    Some(if has_id { record } else { with_members(&record, &[("id", Value::from(id.to_string()))]) })
}

/// Cuts the body and checks each statement; and whether it was a list of them.
fn read(doors: &Doors, call: &mut Call, named: Option<Uuid>) -> Result<(Vec<Statement>, bool), Refusal> {
    let body = call.body.clone();
    call.reservation.grow(body.len().saturating_mul(ROOM))?;
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&body).trim_ascii();
    let is_list = text.first() == Some(&b'[');
    let records = if is_list {
        split::values(text, doors.limits.records_per_request)?
    } else {
        Records::one(bytes::Bytes::copy_from_slice(text))
    };
    let mut seen = HashSet::new();
    let mut statements = Vec::with_capacity(records.len());
    for (number, record) in (1..).zip(records.iter()) {
        let one = one(doors, call, record, named).map_err(|what| {
            let which = if is_list { format!("statement {number}: ") } else { String::new() };
            Refusal::bad_request(format!("{which}{what}"))
        })?;
        if !seen.insert(one.id) && one.is_known_by_id {
            let message = format!("statement {number}: id: {} comes twice in one request", one.id);
            return Err(Refusal::bad_request(message));
        }
        statements.push(one);
    }
    Ok((statements, is_list))
}

/// Looks at one statement; the error says what is wrong with it.
fn one(doors: &Doors, call: &Call, record: &[u8], named: Option<Uuid>) -> Result<Statement, String> {
    let parsed: Value = serde_json::from_slice(record).map_err(|error| format!("it is no JSON: {error}"))?;
    let own = statement::check(&parsed, doors.xapi.strict);
    let own =
        own.map_err(
            |Problem { property, what }| {
                if property.is_empty() { what.to_owned() } else { format!("{property}: {what}") }
            },
        )?;
    if let (Some(own), Some(named)) = (own, named)
        && own != named
    {
        return Err(String::from("id: it is not the one of statementId"));
    }
    let is_timed = parsed.get("timestamp").is_some();
    let (id, is_known_by_id) = match own.or(named) {
        Some(id) => (id, true),
        None if is_timed => (of_bytes(record), true),
        None => (lakeward_model::ids::fresh(), false),
    };
    let meaning = statement::meaning(&parsed);
    let record = if doors.xapi.stamp {
        stamped(record, id, call, doors.clock.now())?
    } else if let (None, Some(named)) = (own, named) {
        // Nothing else says it.
        with_members(record, &[("id", Value::from(named.to_string()))])
    } else {
        record.to_vec()
    };
    Ok(Statement { id, is_known_by_id, meaning, record })
}

/// The id of a statement that has none: always the same for the same bytes. It
/// says that it is a UUID of version 5, which is made of a name too: clients
/// refuse later versions (TinCanPython 1.0 does).
fn of_bytes(record: &[u8]) -> Uuid {
    let digest = Sha256::digest(record);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_sha1_bytes(bytes).into_uuid()
}

/// The statement with what an LRS writes into it.
fn stamped(record: &[u8], id: Uuid, call: &Call, now: Timestamp) -> Result<Vec<u8>, String> {
    let mut parts: BTreeMap<String, &RawValue> =
        serde_json::from_slice(record).map_err(|error| format!("it is no JSON: {error}"))?;
    parts.remove("stored");
    let mut members = vec![("stored", Value::from(now.to_string()))];
    if !parts.contains_key("id") {
        members.push(("id", Value::from(id.to_string())));
    }
    if !parts.contains_key("version") {
        let version = if call.version == Version::One { "1.0.0" } else { "2.0.0" };
        members.push(("version", Value::from(version)));
    }
    if let Some(user) = &call.user {
        parts.remove("authority");
        let account = serde_json::json!({"homePage": "urn:lakeward:xapi", "name": user});
        members.push(("authority", serde_json::json!({"objectType": "Agent", "account": account})));
    }
    let rest = serde_json::to_vec(&parts).map_err(|error| error.to_string())?;
    Ok(with_members(&rest, &members))
}

/// An object with members put before its own.
fn with_members(object: &[u8], members: &[(&str, Value)]) -> Vec<u8> {
    let open = object.iter().position(|byte| *byte == b'{').map_or(0, |at| at + 1);
    let mut out = object[..open].to_vec();
    for (name, value) in members {
        out.extend_from_slice(format!("{}:{value},", Value::from(*name)).as_bytes());
    }
    if object[open..].trim_ascii_start().first() == Some(&b'}') {
        out.pop();
    }
    out.extend_from_slice(&object[open..]);
    out
}

fn key(id: Uuid) -> Option<RequestKey> {
    RequestKey::new([KEY_PREFIX, id.as_bytes()].concat())
}

/// Stores what is not there yet.
async fn take(doors: &Doors, statements: Vec<Statement>) -> Result<Vec<Uuid>, Refusal> {
    let ids: Vec<Uuid> = statements.iter().map(|statement| statement.id).collect();
    let mut fresh = Vec::with_capacity(statements.len());
    // All are looked at before any is stored: a request is taken whole or not.
    for statement in statements {
        let known = key(statement.id).filter(|_| statement.is_known_by_id);
        match known.and_then(|key| doors.intake.answered(&doors.xapi.stream, &key)) {
            Some(answered) => same_or_conflict(doors, &statement, answered.first).await?,
            None => fresh.push(statement),
        }
    }
    let (named, nameless): (Vec<_>, Vec<_>) = fresh.into_iter().partition(|it| it.is_known_by_id);
    let appends = futures::stream::iter(named).map(|statement| append(doors, statement));
    appends.buffered(APPENDS).try_collect::<()>().await?;
    // Last, and at once: whoever sends the request again because something
    // failed before does not store these twice.
    if !nameless.is_empty() {
        let mut records = Records::default();
        let mut data = Vec::new();
        for statement in &nameless {
            data.extend_from_slice(&statement.record);
            let end = u32::try_from(data.len()).map_err(|_| Refusal::bad_request("the body is too large"))?;
            records.ends.push(end);
        }
        records.data = data.into();
        doors.intake.accept(&doors.xapi.stream, records, Origin::Push(None)).await?;
    }
    Ok(ids)
}

/// Stores one statement under its id.
async fn append(doors: &Doors, statement: Statement) -> Result<(), Refusal> {
    let record = Records::one(bytes::Bytes::copy_from_slice(&statement.record));
    let origin = Origin::Push(key(statement.id));
    let accepted = doors.intake.accept(&doors.xapi.stream, record, origin).await?;
    if accepted.replayed {
        // Another request with this id came in between.
        return same_or_conflict(doors, &statement, accepted.first).await;
    }
    doors.xapi.known.remember(statement.id, statement.meaning);
    Ok(())
}

/// A statement whose id was seen: fine if it says the same. If nobody can tell
/// any more what the first one said, it is taken for the same: it is not stored
/// in any case.
async fn same_or_conflict(doors: &Doors, statement: &Statement, at: Offset) -> Result<(), Refusal> {
    let first = match doors.xapi.known.get(statement.id) {
        Some(meaning) => Some(meaning),
        None => {
            let record = record_at(doors, at).await;
            record.and_then(|record| serde_json::from_slice(&record).ok()).map(|it| statement::meaning(&it))
        }
    };
    match first {
        Some(first) if first != statement.meaning => Err(Refusal::new(
            axum::http::StatusCode::CONFLICT,
            "conflict",
            format!("id: there is another statement with the id {}", statement.id),
        )),
        Some(first) => {
            doors.xapi.known.remember(statement.id, first);
            Ok(())
        }
        None => Ok(()),
    }
}

/// A record of the stream, if the journal still has it.
async fn record_at(doors: &Doors, at: Offset) -> Option<Vec<u8>> {
    let blocks = doors.xapi.streams.read(&doors.xapi.stream, at, 1).await.ok()?;
    let first = blocks.first().filter(|block| block.first == at)?;
    first.records.iter().next().map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_come_first() {
        let id = [("id", json!("x"))];
        assert_eq!(with_members(b"{\"a\":1}", &id), b"{\"id\":\"x\",\"a\":1}");
        assert_eq!(with_members(b"{ }", &id), b"{\"id\":\"x\" }");
    }

    #[test]
    fn an_id_of_bytes_is_a_uuid_and_stays() {
        let id = of_bytes(b"{}");
        // sha256("{}") is 44136fa355b3678a1146ad16f7e8649e...
        assert_eq!(id.to_string(), "44136fa3-55b3-578a-9146-ad16f7e8649e");
        assert_ne!(id, of_bytes(b"{} "));
    }
}
