//! What a message of the queue says: S3's notification, EventBridge's, either
//! of them through SNS, or `{"bucket": …, "key": …}` from a person.

use lakeward_model::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::Value;

/// How often one message may be inside another.
const DEPTH_MAX: usize = 3;

/// An object that is there, as a notification says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Event {
    pub(in super::super) bucket: String,
    pub(in super::super) key: String,
    pub(in super::super) bytes: Option<u64>,
    /// Without quotes; empty if it is not said.
    pub(in super::super) etag: String,
    /// When it was written, by the clock of the store's events.
    pub(in super::super) modified: Option<Timestamp>,
}

/// The objects that a message tells of: none if it tells of something else that
/// is known, as S3's test event or an object that was deleted. The error says
/// why it was not understood.
pub(in super::super) fn read(body: &str) -> Result<Vec<Event>, &'static str> {
    let value: Value = serde_json::from_str(body).map_err(|_| "it is not JSON")?;
    read_value(&value, DEPTH_MAX)
}

fn read_value(value: &Value, depth: usize) -> Result<Vec<Event>, &'static str> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    if let Some(records) = value.get("Records") {
        let records = records.as_array().ok_or("its `Records` are no list")?;
        let events: Result<Vec<_>, _> = records.iter().map(of_s3).collect();
        return Ok(events?.into_iter().flatten().collect());
    }
    if text("Event") == Some("s3:TestEvent") {
        return Ok(Vec::new());
    }
    if text("source") == Some("aws.s3") {
        return of_event_bridge(value).map(|event| event.into_iter().collect());
    }
    // SNS, without raw message delivery (SNS developer guide, "Amazon SQS
    // message format").
    if let Some(inner) = text("Message")
        && text("TopicArn").is_some()
    {
        if depth == 0 {
            return Err("there are too many messages inside each other");
        }
        let inner: Value = serde_json::from_str(inner).map_err(|_| "what SNS brought is not JSON")?;
        return read_value(&inner, depth - 1);
    }
    match (text("bucket"), text("key")) {
        (Some(bucket), Some(key)) => Ok(vec![Event {
            bucket: bucket.into(),
            key: key.into(),
            bytes: None,
            etag: String::new(),
            modified: None,
        }]),
        _ => Err("it is neither a notification of S3 nor one of EventBridge"),
    }
}

/// One of `Records` (Amazon S3 user guide, "Event message structure").
fn of_s3(record: &Value) -> Result<Option<Event>, &'static str> {
    let s3 = record.get("s3").ok_or("one of its `Records` has no `s3`")?;
    let name = record.get("eventName").and_then(Value::as_str);
    let key = s3.pointer("/object/key").and_then(Value::as_str).ok_or("one of its `Records` has no key")?;
    let bucket = s3.pointer("/bucket/name").and_then(Value::as_str);
    let bucket = bucket.ok_or("one of its `Records` has no bucket")?;
    if name.is_some_and(|name| !name.trim_start_matches("s3:").starts_with("ObjectCreated:")) {
        return Ok(None);
    }
    let time = record.get("eventTime").and_then(Value::as_str);
    Ok(Some(Event {
        bucket: bucket.into(),
        key: decoded(key).ok_or("one of its `Records` has a key that is no text")?,
        bytes: s3.pointer("/object/size").and_then(Value::as_u64),
        etag: etag(s3.pointer("/object/eTag")),
        modified: time.and_then(instant),
    }))
}

/// EventBridge's keys are as they are (Amazon S3 user guide, "EventBridge
/// event message structure").
fn of_event_bridge(value: &Value) -> Result<Option<Event>, &'static str> {
    let text = |path: &str| value.pointer(path).and_then(Value::as_str);
    if value.get("detail-type").and_then(Value::as_str).is_some_and(|kind| kind != "Object Created") {
        return Ok(None);
    }
    let bucket = text("/detail/bucket/name").ok_or("its `detail` has no bucket")?;
    let key = text("/detail/object/key").ok_or("its `detail` has no key")?;
    Ok(Some(Event {
        bucket: bucket.into(),
        key: key.into(),
        bytes: value.pointer("/detail/object/size").and_then(Value::as_u64),
        etag: etag(value.pointer("/detail/object/etag")),
        modified: text("/time").and_then(instant),
    }))
}

fn etag(value: Option<&Value>) -> String {
    super::super::bucket::bare(value.and_then(Value::as_str))
}

/// S3 writes keys as forms do: a space is `+`.
fn decoded(key: &str) -> Option<String> {
    let key = key.replace('+', " ");
    percent_decode_str(&key).decode_utf8().ok().map(Into::into)
}

fn instant(text: &str) -> Option<Timestamp> {
    text.parse::<jiff::Timestamp>().ok().map(|at| Timestamp(at.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn keys(body: &Value) -> Result<Vec<String>, &'static str> {
        read(&body.to_string()).map(|events| events.into_iter().map(|event| event.key).collect())
    }

    fn record(name: &str, key: &str) -> Value {
        json!({"eventSource": "aws:s3", "eventName": name, "eventTime": "2026-03-01T05:06:07.123Z",
            "s3": {"bucket": {"name": "b"}, "object": {"key": key, "size": 12, "eTag": "e", "sequencer": "0"}}})
    }

    #[test]
    fn notifications_in_every_shape() {
        let s3 = json!({"Records": [record("ObjectCreated:Put", "a+b/%C3%A4%2Bc"), record("ObjectRemoved:Delete", "x"),
            record("s3:ObjectCreated:CompleteMultipartUpload", "in%2Fc")]});
        let bridge = json!({"version": "0", "detail-type": "Object Created", "source": "aws.s3",
            "time": "2026-03-01T05:06:07Z", "detail": {"bucket": {"name": "b"},
            "object": {"key": "a+b/ä", "size": 5, "etag": "f"}}});
        let sns =
            |inner: &Value| json!({"Type": "Notification", "TopicArn": "arn", "Message": inner.to_string()});
        let expect = Ok(vec![String::from("a b/ä+c"), String::from("in/c")]);
        assert_eq!(keys(&s3), expect);
        assert_eq!(keys(&sns(&s3)), expect);
        assert_eq!(keys(&sns(&sns(&s3))), expect);
        assert_eq!(keys(&bridge), Ok(vec![String::from("a+b/ä")]));
        assert_eq!(keys(&sns(&bridge)), keys(&bridge));
        let deleted = json!({"detail-type": "Object Deleted", "source": "aws.s3", "detail": {}});
        let test = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"});
        for nothing in [json!({"Records": []}), deleted, test.clone(), sns(&test)] {
            assert_eq!(keys(&nothing), Ok(vec![]), "{nothing}");
        }
        assert_eq!(keys(&json!({"bucket": "b", "key": "k"})), Ok(vec![String::from("k")]));
        // As system D's callers write it.
        let short = json!({"Records": [{"eventSource": "aws:s3",
            "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}}}]});
        let event = read(&short.to_string()).expect("read").remove(0);
        assert_eq!((event.etag.as_str(), event.bytes, event.modified), ("", None, None));
        let event = read(&s3.to_string()).expect("read").remove(0);
        assert_eq!((event.etag.as_str(), event.bytes), ("e", Some(12)));
        assert_eq!(event.modified, Some(Timestamp(1_772_341_567_123_000)));
    }

    #[test]
    fn what_cannot_be_understood_says_why() {
        let deep = (0..9)
            .fold(json!({"Records": []}), |inner, _| json!({"TopicArn": "a", "Message": inner.to_string()}));
        let bad_key = json!({"Records": [record("ObjectCreated:Put", "%ff")]});
        for bad in [
            json!([]),
            json!({}),
            json!("x"),
            json!({"Records": 1}),
            json!({"Records": [{}]}),
            deep,
            bad_key,
            json!({"Records": [record("ObjectCreated:Put", "a"), {"s3": {}}]}),
            json!({"TopicArn": "a", "Message": "hello"}),
        ] {
            assert!(read(&bad.to_string()).is_err(), "{bad}");
        }
        assert!(read("hello").is_err() && read("").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}") {
            let _ = read(&text);
            let _ = read(&json!({"Records": [record("ObjectCreated:Put", &text)]}).to_string());
            let _ = read(&json!({"TopicArn": "a", "Message": text}).to_string());
        }
    }
}
