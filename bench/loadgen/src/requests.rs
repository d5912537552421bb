//! Whole requests, made before the clock starts.

use lakeward_loadgen::{Generator, http};

/// Which front door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// `POST /v1/streams/{stream}/records` with NDJSON.
    Http,
    /// `Firehose_20150804.PutRecordBatch`.
    Firehose,
    /// `Kinesis_20131202.PutRecords`.
    Kinesis,
}

/// Where requests go.
pub(crate) struct Target<'a> {
    pub(crate) host: &'a str,
    pub(crate) stream: &'a str,
    pub(crate) token: Option<&'a str>,
}

impl Door {
    /// One request with the next `batch` events.
    pub(crate) fn request(self, target: &Target<'_>, generator: &mut Generator, batch: usize) -> Vec<u8> {
        match self {
            Self::Http => ndjson(target, generator, batch),
            Self::Firehose => put_record_batch(target, generator, batch),
            Self::Kinesis => put_records(target, generator, batch),
        }
    }

    /// How many of `batch` records an answer of status 200 took.
    pub(crate) fn accepted(self, body: &[u8], batch: u64) -> u64 {
        match self {
            Self::Http => batch,
            Self::Firehose => batch.saturating_sub(failed_count("\"FailedPutCount\":", body)),
            Self::Kinesis => batch.saturating_sub(failed_count("\"FailedRecordCount\":", body)),
        }
    }
}

fn ndjson(target: &Target<'_>, generator: &mut Generator, batch: usize) -> Vec<u8> {
    let mut body = Vec::new();
    generator.fill(&mut body, batch);
    let path = format!("/v1/streams/{}/records", target.stream);
    let bearer = target.token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("content-type", "application/x-ndjson")];
    headers.extend(bearer.iter().map(|bearer| ("authorization", bearer.as_str())));
    http::post(target.host, &path, &headers, &body)
}

fn put_record_batch(target: &Target<'_>, generator: &mut Generator, batch: usize) -> Vec<u8> {
    let mut body = format!("{{\"DeliveryStreamName\":\"{}\",\"Records\":[", target.stream).into_bytes();
    let mut line = Vec::new();
    for index in 0..batch {
        line.clear();
        generator.line(&mut line);
        body.extend_from_slice(if index == 0 { b"{\"Data\":\"" } else { b",{\"Data\":\"" });
        body.extend_from_slice(base64_simd::STANDARD.encode_to_string(&line).as_bytes());
        body.extend_from_slice(b"\"}");
    }
    body.extend_from_slice(b"]}");
    call(target.host, "firehose", "Firehose_20150804.PutRecordBatch", &body)
}

fn put_records(target: &Target<'_>, generator: &mut Generator, batch: usize) -> Vec<u8> {
    let mut body = format!("{{\"StreamName\":\"{}\",\"Records\":[", target.stream).into_bytes();
    let mut line = Vec::new();
    for index in 0..batch {
        line.clear();
        generator.line(&mut line);
        body.extend_from_slice(if index == 0 { b"{\"Data\":\"" } else { b",{\"Data\":\"" });
        body.extend_from_slice(base64_simd::STANDARD.encode_to_string(&line).as_bytes());
        body.extend_from_slice(b"\",\"PartitionKey\":\"");
        generator.partition_key(&mut body);
        body.extend_from_slice(b"\"}");
    }
    body.extend_from_slice(b"]}");
    call(target.host, "kinesis", "Kinesis_20131202.PutRecords", &body)
}

/// Not signed: `lakeward dev`, and `run` without keys on loopback, take any credentials.
fn call(host: &str, service: &str, operation: &str, body: &[u8]) -> Vec<u8> {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=LOADGEN/20261121/us-east-1/{service}/aws4_request, SignedHeaders=host, \
         Signature=0000000000000000000000000000000000000000000000000000000000000000"
    );
    let headers = [
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-target", operation),
        ("authorization", authorization.as_str()),
    ];
    http::post(host, "/", &headers, body)
}

/// The number after a member's name; everything failed if it is not there.
fn failed_count(member: &str, body: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(body);
    let after = text.split_once(member).map(|(_, after)| after.trim_start());
    let digits = after.and_then(|after| after.split(|c: char| !c.is_ascii_digit()).next());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_records_are_not_counted_as_accepted() {
        let check = |body: &[u8], expect| assert_eq!(Door::Firehose.accepted(body, 500), expect);
        check(br#"{"FailedPutCount":0,"RequestResponses":[]}"#, 500);
        check(br#"{"RequestResponses":[], "FailedPutCount": 12}"#, 488);
        check(b"{}", 0);
        assert_eq!(Door::Kinesis.accepted(br#"{"FailedRecordCount":3,"Records":[]}"#, 500), 497);
    }
}
