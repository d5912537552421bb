use axum::http::{HeaderName, HeaderValue, Request};
use lakeward_model::Secret;

use super::*;

const KEY: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const PUT: &str =
    r#"{"DeliveryStreamName": "launchdarkly-experiments-stream", "Record": {"Data": "eyJhIjoxfQo="}}"#;
const PUT_AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261121/us-east-1/firehose/aws4_request, \
    SignedHeaders=content-type;host;x-amz-date;x-amz-target, \
    Signature=70cc908b184b6720f621eb395c90e85d3af08109aea327dc34dd87d3ac88a350";

fn verifier() -> Verifier {
    let key = |id: &str, secret: &str| SigV4Key { access_key_id: id.into(), secret: Secret::new(secret) };
    Verifier::new(vec![key(KEY, SECRET), key("AK/ID", "s")])
}

fn at(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
}

fn request(headers: &[(&str, &str)]) -> Parts {
    let mut parts = Request::post("/").body(()).unwrap().into_parts().0;
    for (name, value) in headers {
        if value.is_empty() {
            continue;
        }
        parts.headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
    }
    parts
}

/// Requests that botocore 1.44.5 signed (`SigV4Auth`, clock held at
/// 2026-11-21T10:00:00Z), with its headers as they went over the wire.
#[test]
fn botocore_requests_verify() {
    let check = |host: &str, headers: &[(&str, &str)], body: &str| {
        let mut all = vec![("host", host), ("content-type", "application/x-amz-json-1.1")];
        all.push(("x-amz-date", "20261121T100000Z"));
        all.extend_from_slice(headers);
        let verifier = verifier();
        for _ in ["derives the key", "finds it in the cache"] {
            assert_eq!(
                verifier.verify("firehose", &request(&all), body.as_bytes(), at("2026-11-21T10:02:00Z")),
                Ok(())
            );
        }
        let other = format!("{body} ");
        assert!(
            verifier
                .verify("firehose", &request(&all), other.as_bytes(), at("2026-11-21T10:02:00Z"))
                .is_err()
        );
    };
    check(
        "127.0.0.1:7171",
        &[("x-amz-target", "Firehose_20150804.PutRecord"), ("authorization", PUT_AUTHORIZATION)],
        PUT,
    );
    check(
        "127.0.0.1:7171",
        &[
            ("x-amz-target", "Firehose_20150804.ListDeliveryStreams"),
            ("x-custom", "a   b  c"),
            ("amz-sdk-invocation-id", "0b5d9d8c-7bb0-4e65-8f0f-2b7f1d5d2f10"),
            ("x-amz-security-token", "TOKEN=="),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AK/ID/20261121/eu-central-1/firehose/aws4_request, \
                 SignedHeaders=amz-sdk-invocation-id;content-type;host;x-amz-date;x-amz-security-token;\
                 x-amz-target;x-custom, \
                 Signature=0c01f4d398cb1f26fae5a4db081e5c6b2e6ee1a046908546832d498712da179b",
            ),
        ],
        "{}",
    );
    check(
        "firehose.example.com",
        &[
            ("x-amz-target", "Firehose_20150804.ListDeliveryStreams"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261121/us-east-1/firehose/aws4_request, \
                 SignedHeaders=content-type;host;x-amz-date;x-amz-target, \
                 Signature=eb38be95da8a9dc46dd1154efaeeee5ef395d7c45fe789beaa9aae64551ed116",
            ),
        ],
        "",
    );
}

/// The good request with one thing changed, and what AWS says to it.
#[test]
fn everything_else_is_refused() {
    let check = |change: (&str, &str), now: &str, expect: &str| {
        let mut headers = vec![
            ("host", "127.0.0.1:7171"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-date", "20261121T100000Z"),
            ("x-amz-target", "Firehose_20150804.PutRecord"),
            ("authorization", PUT_AUTHORIZATION),
        ];
        match headers.iter_mut().find(|(name, _)| *name == change.0) {
            Some(header) => header.1 = change.1,
            None => headers.push(change),
        }
        let got = verifier().verify("firehose", &request(&headers), PUT.as_bytes(), at(now));
        let got = got.map_or_else(|e| format!("{e:?}"), |()| "Ok".to_owned());
        assert!(got.starts_with(expect), "{change:?}: {got}");
    };
    let now = "2026-11-21T10:00:00Z";
    let edit = |from: &str, to: &str| PUT_AUTHORIZATION.replace(from, to);
    check(("x-nothing", "x"), now, "Ok");
    check(("authorization", ""), now, "Missing");
    check(("authorization", "Bearer x"), now, "Incomplete(\"Unsupported AWS 'algorithm'");
    check(("authorization", "AWS4-HMAC-SHA256 x"), now, "Incomplete(\"'x' not a valid key=value pair");
    check(
        ("authorization", "AWS4-HMAC-SHA256 SignedHeaders=host"),
        now,
        "Incomplete(\"Authorization header requires 'Credential' parameter. Authorization header requires 'Signature'",
    );
    check(("authorization", &edit("/firehose", "")), now, "Incomplete(\"Credential must have exactly 5");
    check(("authorization", &edit("KIDEX", "KIDEY")), now, "UnknownKey");
    check(("authorization", &edit("70cc", "70cd")), now, "Invalid(\"The request signature we calculated");
    check(("authorization", &edit("350", "35")), now, "Invalid(\"The request signature we calculated");
    check(("authorization", &edit("us-east-1", "us-east-2")), now, "Invalid(\"The request signature");
    check(("authorization", &edit("/firehose/", "/kinesis/")), now, "Invalid(\"Credential should be scoped");
    check(("authorization", &edit("20261121", "20261120")), now, "Invalid(\"Date in Credential scope");
    check(("authorization", &edit(";x-amz-target", "")), now, "Invalid(\"'Host' or ':authority'");
    check(("authorization", &edit("host;", "")), now, "Invalid(\"'Host' or ':authority'");
    check(("x-amz-security-token", "unsigned"), now, "Invalid(\"'Host' or ':authority'");
    check(("x-amz-target", "Firehose_20150804.DeleteDeliveryStream"), now, "Invalid(\"The request signature");
    check(("host", "127.0.0.1:7172"), now, "Invalid(\"The request signature");
    check(("x-amz-date", ""), now, "Incomplete(\"Authorization header requires existence");
    check(("x-amz-date", "2026-11-21"), now, "Incomplete(\"Date must be in ISO-8601");
    check(("x-nothing", "x"), "2026-11-21T10:05:00Z", "Ok");
    check(
        ("x-nothing", "x"),
        "2026-11-21T10:05:01Z",
        "Invalid(\"Signature expired: 20261121T100000Z is now earlier than 20261121T100001Z (20261121T100501Z - 5 min.)\")",
    );
    check(
        ("x-nothing", "x"),
        "2026-11-21T09:54:59Z",
        "Invalid(\"Signature not yet current: 20261121T100000Z is still later than 20261121T095959Z",
    );
}

/// The signing-key example of the *IAM User Guide* ("Deriving the signing
/// key", service `iam`).
#[test]
fn the_signing_key_is_derived_as_documented() {
    let claim = Claim {
        access_key_id: "x",
        date: "20150830",
        region: "us-east-1",
        service: "iam",
        signed_headers: Vec::new(),
        signature: "",
    };
    let mut mac = derive(SECRET, &claim);
    mac.update(
        b"AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/iam/aws4_request\n\
          f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59",
    );
    assert_eq!(
        hex(&mac.finalize().into_bytes()),
        "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    );
}
