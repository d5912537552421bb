//! ClickHouse's HTTP interface (contract `amplitude-xapi-adobe-warehouses.md`,
//! section 3.1): a statement, its settings, a body; and whether it was done.
//!
//! A good status is no success: an error may stand in the reply's body, with a
//! tag since 25.11.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use lakeward_model::{FailureKind, Secret, innermost};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Response, Url, redirect};
use serde::de::DeserializeOwned;
use tracing::warn;

use super::config::{ClickHouseConfig, ClickHouseConfigError};
use super::refusal::{Matter, Refusal};

/// The most bytes of an answer to a question of ours.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// The most bytes that are read of an answer that is an error.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// The longest wait that a server may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// Since 25.11 the end of a reply that failed on its way.
const EXCEPTION: &str = "__exception__\r\n";

/// A server, and who we are to it.
pub(super) struct Client {
    http: reqwest::Client,
    url: Url,
    user: String,
    password: Secret,
    timeout: Duration,
    /// Settings that the server does not know or lets nobody change.
    left_out: Mutex<BTreeSet<String>>,
}

/// What is sent.
#[derive(Debug, Default)]
pub(super) struct Request<'a> {
    pub(super) sql: &'a str,
    /// Settings and parameters.
    pub(super) settings: Vec<(&'a str, String)>,
    pub(super) query_id: Option<&'a str>,
    pub(super) session: Option<&'a str>,
    /// The data of an insert; the statement then stands in the address.
    pub(super) body: Option<Bytes>,
}

/// What was done.
#[derive(Debug)]
pub(super) struct Answer {
    body: Bytes,
    /// Rows that the server says it wrote, if it says so.
    pub(super) written: Option<u64>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.url)
    }
}

impl Client {
    pub(super) fn open(config: &ClickHouseConfig) -> Result<Self, ClickHouseConfigError> {
        let http = reqwest::Client::builder()
            .connect_timeout(config.connect_timeout)
            // Servers close idle connections after 10 s and more.
            .pool_idle_timeout(Duration::from_secs(5))
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| ClickHouseConfigError {
                setting: "url",
                problem: format!("no HTTP client: {}", innermost(&error)),
            })?;
        Ok(Self {
            http,
            url: config.address()?,
            user: config.user.clone(),
            password: config.password.clone().unwrap_or_else(|| Secret::new("")),
            timeout: config.timeout,
            left_out: Mutex::default(),
        })
    }

    /// The rows of a `SELECT`, one JSON object each. It must end with
    /// `FORMAT JSONEachRow`.
    pub(super) async fn rows<T: DeserializeOwned>(
        &self,
        sql: &str,
        mut settings: Vec<(&str, String)>,
    ) -> Result<Vec<T>, Refusal> {
        // Numbers as JSON has them, whatever the user's profile says.
        settings.push(("output_format_json_quote_64bit_integers", "0".into()));
        settings.push(("wait_end_of_query", "1".into()));
        let answer = self.send(Request { sql, settings, ..Request::default() }).await?;
        let lines = answer.body.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        let rows = lines.map(serde_json::from_slice).collect::<Result<_, _>>();
        rows.map_err(|error| Refusal::unknown(format!("ClickHouse's answer cannot be read: {error}")))
    }

    /// Does something once. A setting that may be left out is, from the first
    /// time that the server does not take it.
    pub(super) async fn send(&self, request: Request<'_>) -> Result<Answer, Refusal> {
        let Request { sql, settings, query_id, session, body } = request;
        loop {
            let known = self.left_out.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let sent = settings.iter().filter(|(name, _)| !known.contains(*name));
            let mut parameters: Vec<(&str, &str)> =
                sent.map(|(name, value)| (*name, value.as_str())).collect();
            parameters.extend(query_id.map(|id| ("query_id", id)));
            parameters.extend(session.map(|id| ("session_id", id)));
            let refusal = match self.once(sql, parameters, body.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(refusal) => refusal,
            };
            let Some(setting) = refusal.setting() else { return Err(refusal) };
            let is_sent = settings.iter().any(|(name, _)| *name == setting) && !known.contains(&setting);
            if !is_sent || !may_be_left_out(&setting, refusal.code) {
                return Err(refusal);
            }
            warn!(setting, error = refusal.message, "ClickHouse does not take a setting; it goes without");
            self.left_out.lock().unwrap_or_else(PoisonError::into_inner).insert(setting);
        }
    }

    async fn once(
        &self,
        sql: &str,
        mut parameters: Vec<(&str, &str)>,
        body: Option<Bytes>,
    ) -> Result<Answer, Refusal> {
        let mut request = self.http.post(self.url.clone()).timeout(self.timeout);
        if !self.password.is_empty() || self.user != "default" {
            request = request.basic_auth(&self.user, Some(self.password.expose()));
        }
        request = match body {
            Some(body) => {
                parameters.push(("query", sql));
                if let Some(encoding) = encoding_of(&body) {
                    request = request.header(CONTENT_ENCODING, encoding);
                }
                request.header(CONTENT_TYPE, "application/octet-stream").body(body)
            }
            None => request.header(CONTENT_TYPE, "text/plain; charset=UTF-8").body(sql.to_string()),
        };
        let answer = match request.query(&parameters).send().await {
            Ok(answer) => answer,
            Err(error) => return Err(self.unanswered(error)),
        };
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let code = number(&headers, "x-clickhouse-exception-code").and_then(|code| u32::try_from(code).ok());
        let is_good = (200..300).contains(&status) && code.is_none();
        let limit = if is_good { ANSWER_BYTES_MAX } else { ERROR_BYTES_MAX };
        let body = match read(answer, limit).await {
            Ok(body) => body,
            // What was done is known by the status already.
            Err(_) if !(200..300).contains(&status) => Bytes::new(),
            Err(Some(error)) => return Err(self.unanswered(error)),
            Err(None) => return Err(Refusal::unknown(format!("the answer has more than {limit} bytes"))),
        };
        let refusal = if is_good { late(&body) } else { Some(refused(status, code, &body)) };
        match refusal {
            Some(refusal) => Err(self.told(refusal, &headers)),
            None => Ok(Answer { written: written(&headers), body }),
        }
    }

    /// The refusal with what the headers say, and without our password.
    fn told(&self, mut refusal: Refusal, headers: &HeaderMap) -> Refusal {
        if refusal.kind != FailureKind::Refused {
            refusal.retry_after = retry_after(headers).or(refusal.retry_after);
        }
        refusal.message = self.hidden(&refusal.message);
        refusal
    }

    fn unanswered(&self, error: reqwest::Error) -> Refusal {
        let host = self.url.host_str().unwrap_or_default();
        let is_connect = error.is_connect();
        let error = error.without_url();
        if error.is_timeout() && !is_connect {
            let seconds = self.timeout.as_secs_f32();
            return Refusal::unknown(format!(
                "no answer from {host} within {seconds}s; it may still be done"
            ));
        }
        let message = self.hidden(&format!("{host} cannot be reached: {}", innermost(&error)));
        Refusal {
            kind: if is_connect { FailureKind::NotDone } else { FailureKind::Unknown },
            ..Refusal::unknown(message)
        }
    }

    fn hidden(&self, text: &str) -> String {
        match self.password.expose() {
            "" => text.to_string(),
            password => text.replace(password, "…"),
        }
    }
}

impl Answer {
    /// Whether anything came back, which nothing does for an insert.
    pub(super) fn said(&self) -> Option<String> {
        let said = String::from_utf8_lossy(&self.body[..self.body.len().min(200)]);
        let said = said.trim();
        (!said.is_empty()).then(|| said.chars().filter(|c| !c.is_control()).collect())
    }
}

/// What a server that does not know a setting, or lets nobody change it, may go
/// without. What exactly-once rests on is not among the latter.
fn may_be_left_out(setting: &str, code: Option<u32>) -> bool {
    const UNKNOWN: [&str; 14] = [
        "async_insert",
        "deduplicate_blocks_in_dependent_materialized_views",
        "input_format_json_named_tuples_as_objects",
        "input_format_json_read_arrays_as_strings",
        "input_format_json_read_objects_as_strings",
        "input_format_with_types_use_header",
        "insert_distributed_sync",
        "insert_null_as_default",
        "max_insert_threads",
        "max_partitions_per_insert_block",
        "min_insert_block_size_rows",
        "output_format_json_quote_64bit_integers",
        "precise_float_parsing",
        "select_sequential_consistency",
    ];
    const LOCKED: [&str; 11] = [
        "input_format_json_named_tuples_as_objects",
        "input_format_json_read_arrays_as_strings",
        "input_format_json_read_objects_as_strings",
        "input_format_with_types_use_header",
        "insert_distributed_sync",
        "insert_null_as_default",
        "max_insert_threads",
        "max_partitions_per_insert_block",
        "output_format_json_quote_64bit_integers",
        "precise_float_parsing",
        "select_sequential_consistency",
    ];
    if code == Some(115) { UNKNOWN.contains(&setting) } else { LOCKED.contains(&setting) }
}

/// How the file is compressed as a whole, by its first bytes.
fn encoding_of(body: &[u8]) -> Option<&'static str> {
    match body {
        [0x1f, 0x8b, ..] => Some("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
        _ => None,
    }
}

fn refused(status: u16, code: Option<u32>, body: &[u8]) -> Refusal {
    let said = String::from_utf8_lossy(body);
    match code.or_else(|| code_in(&said)) {
        Some(code) => Refusal::of_code(code, &said, (200..300).contains(&status)),
        None => Refusal::of_status(status, &said),
    }
}

/// An error in the body of a reply that began as a success.
fn late(body: &[u8]) -> Option<Refusal> {
    let tail = String::from_utf8_lossy(&body[body.len().saturating_sub(ERROR_BYTES_MAX)..]);
    let said = match tail.rfind(EXCEPTION) {
        Some(end) => {
            let start = tail[..end].rfind(EXCEPTION).map_or(0, |at| at + EXCEPTION.len());
            // The tag, the message, then its length and the tag again.
            let inside = tail[start..end].trim_end();
            let inside = inside.split_once("\r\n").map_or(inside, |(_, message)| message);
            inside.rsplit_once('\n').map_or(inside, |(message, _)| message)
        }
        // Ours are lines of JSON and begin otherwise.
        None => tail.lines().rfind(|line| line.starts_with("Code: ") && line.contains("DB::Exception"))?,
    };
    match code_in(said) {
        Some(code) => Some(Refusal::of_code(code, said, true)),
        None => Some(Refusal::unknown(format!("ClickHouse's reply ends with an error: {}", said.trim()))),
    }
}

/// The number in `Code: 27. DB::Exception: …`.
fn code_in(said: &str) -> Option<u32> {
    let rest = &said[said.find("Code: ")? + "Code: ".len()..];
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    rest[digits.len()..].starts_with(". DB::").then(|| digits.parse().ok())?
}

fn written(headers: &HeaderMap) -> Option<u64> {
    let summary = headers.get("x-clickhouse-summary")?.to_str().ok()?;
    let summary: serde_json::Value = serde_json::from_str(summary).ok()?;
    match summary.get("written_rows")? {
        serde_json::Value::String(text) => text.parse().ok(),
        number => number.as_u64(),
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// `Retry-After` in seconds; as a date it is left to the caller's own pauses.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// The body; `Err(None)` if it is longer than `limit`.
async fn read(mut answer: Response, limit: usize) -> Result<Bytes, Option<reqwest::Error>> {
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(Some)? {
        if body.len() + chunk.len() > limit {
            return Err(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Whether an insert failed for a value in it.
pub(super) fn is_of_data(refusal: &Refusal) -> bool {
    refusal.matter() == Matter::Data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_in_a_good_reply_are_found() {
        let check = |body: &str, expect: Option<Option<u32>>| {
            assert_eq!(late(body.as_bytes()).map(|refusal| refusal.code), expect, "{body}");
        };
        check("", None);
        check("{\"message\":\"Code: 27. is nice\"}\n", None);
        let tagged = "{\"a\":1}\n__exception__\r\nabcdefghijklmnop\r\nCode: 241. DB::Exception: Memory. \
                      (MEMORY_LIMIT_EXCEEDED)\n63 abcdefghijklmnop\r\n__exception__\r\n";
        check(tagged, Some(Some(241)));
        check("Code: 60. DB::Exception: no table. (UNKNOWN_TABLE)\n", Some(Some(60)));
        check("{\"a\":1}\nCode: 241. DB::Exception: Memory limit. (X) (version 25.1)\n", Some(Some(241)));
        check("{\"a\":1}\n__exception__\r\nwhat\r\n__exception__\r\n", Some(None));
        let refusal = late(tagged.as_bytes()).expect("a refusal");
        assert_eq!(refusal.kind, FailureKind::Unknown);
        assert!(refusal.message.ends_with("Memory. (MEMORY_LIMIT_EXCEEDED)"), "{}", refusal.message);
    }

    #[test]
    fn what_exactly_once_rests_on_is_never_left_out() {
        for setting in
            ["insert_deduplication_token", "insert_deduplicate", "input_format_skip_unknown_fields"]
        {
            assert!(
                !may_be_left_out(setting, Some(115)) && !may_be_left_out(setting, Some(452)),
                "{setting}"
            );
        }
        assert!(!may_be_left_out("async_insert", Some(452)));
        assert!(may_be_left_out("async_insert", Some(115)));
        assert!(may_be_left_out("max_partitions_per_insert_block", Some(452)));
    }

    #[test]
    fn headers() {
        let mut headers = HeaderMap::new();
        headers.insert("x-clickhouse-summary", r#"{"written_rows":"12"}"#.parse().expect("a header"));
        headers.insert("retry-after", "9999".parse().expect("a header"));
        assert_eq!(written(&headers), Some(12));
        assert_eq!(retry_after(&headers), Some(RETRY_AFTER_MAX));
        headers.insert("x-clickhouse-summary", "nope".parse().expect("a header"));
        assert_eq!(written(&headers), None);
        assert_eq!((encoding_of(b"PAR1"), encoding_of(&[0x1f, 0x8b, 8])), (None, Some("gzip")));
    }
}
