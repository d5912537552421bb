//! What an invocation asks for.
//!
//! Contract `amplitude-xapi-adobe-warehouses.md`, section 2.4; the shapes of
//! AWS's events are those of the AWS Lambda developer guide ("Using AWS Lambda
//! with Amazon S3", "… SQS", "… SNS").

use serde_json::Value;

use super::bulk::Bulk;

/// What is asked for.
#[derive(Debug, PartialEq)]
pub(super) enum Asked {
    /// Whether all is well.
    Health,
    /// What can be reached.
    Diagnostics {
        /// Below which prefix objects are counted.
        prefix: Option<String>,
    },
    /// Objects of a range.
    Bulk(Bulk),
    /// Messages of a queue; each of them is answered for.
    Messages(Vec<Message>),
    /// Notifications; if one fails, all are to come again.
    Notifications(Vec<String>),
    /// One object, for somebody who waits for the answer.
    Object(String),
    /// Lines that are in the event itself.
    Lines {
        /// The lines.
        body: String,
        /// What stands for the object's key.
        key: Option<String>,
    },
}

/// A message of a queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) body: String,
}

/// What of an event makes it one for many objects.
const BULK: [&str; 6] = ["section_id", "start_date", "end_date", "s3_prefix", "dry_run", "force_reprocess"];

/// Reads an event.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(event: &[u8]) -> Result<Asked, String> {
    let event: Value =
        serde_json::from_slice(event).map_err(|error| format!("the event is no JSON: {error}"))?;
    let is = |name: &str| event.get(name).and_then(Value::as_bool).unwrap_or(false);
    let text = |name: &str| event.get(name).and_then(Value::as_str);
    if is("health_check") {
        return Ok(Asked::Health);
    }
    if is("diagnostics") {
        let prefix = event.pointer("/s3_check/prefix").and_then(Value::as_str).map(String::from);
        return Ok(Asked::Diagnostics { prefix });
    }
    if let Some(records) = event.get("Records").and_then(Value::as_array) {
        return of_records(&event, records);
    }
    if text("source") == Some("aws.s3") || text("Event") == Some("s3:TestEvent") {
        return Ok(Asked::Notifications(vec![event.to_string()]));
    }
    if is("_test_mode") {
        let body = text("_test_body").ok_or("`_test_body` has no lines")?;
        return Ok(Asked::Lines { body: body.into(), key: text("key").map(String::from) });
    }
    if text("bucket").is_some() && text("key").is_some() {
        return Ok(Asked::Object(event.to_string()));
    }
    if text("mode") == Some("bulk") || BULK.iter().any(|name| event.get(name).is_some()) {
        return Bulk::read(&event).map(Asked::Bulk);
    }
    Err(String::from(
        "the event is none that is known: a notification of S3, EventBridge, SNS or SQS, {bucket, key}, \
         {health_check}, {diagnostics}, or {mode: bulk, …}",
    ))
}

fn of_records(event: &Value, records: &[Value]) -> Result<Asked, String> {
    let text = |record: &Value, path: &str| record.pointer(path).and_then(Value::as_str).map(String::from);
    let is_of = |name: &str, service: &str| {
        !records.is_empty() && records.iter().all(|record| record[name].as_str() == Some(service))
    };
    if is_of("eventSource", "aws:sqs") {
        let message = |record: &Value| {
            Some(Message { id: text(record, "/messageId")?, body: text(record, "/body").unwrap_or_default() })
        };
        let messages: Option<Vec<Message>> = records.iter().map(message).collect();
        return messages.map(Asked::Messages).ok_or_else(|| "a message without an id".into());
    }
    if is_of("EventSource", "aws:sns") {
        let messages: Option<Vec<String>> =
            records.iter().map(|record| text(record, "/Sns/Message")).collect();
        return messages.map(Asked::Notifications).ok_or_else(|| "a record of SNS without a message".into());
    }
    Ok(Asked::Notifications(vec![event.to_string()]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(event: &Value) -> Result<Asked, String> {
        read(event.to_string().as_bytes())
    }

    #[test]
    fn every_shape() {
        let s3 = json!({"Records": [{"eventSource": "aws:s3", "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}}}]});
        let bridge = json!({"source": "aws.s3", "detail": {"bucket": {"name": "b"}, "object": {"key": "k"}}});
        let test = json!({"Service": "Amazon S3", "Event": "s3:TestEvent"});
        for notification in [&s3, &bridge, &test] {
            assert_eq!(asked(notification), Ok(Asked::Notifications(vec![notification.to_string()])));
        }
        let sns = json!({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": s3.to_string()}}]});
        assert_eq!(asked(&sns), Ok(Asked::Notifications(vec![s3.to_string()])));
        let sqs = json!({"Records": [{"eventSource": "aws:sqs", "messageId": "m", "body": s3.to_string()}]});
        let message = Message { id: "m".into(), body: s3.to_string() };
        assert_eq!(asked(&sqs), Ok(Asked::Messages(vec![message])));
        let one = json!({"bucket": "b", "key": "k"});
        assert_eq!(asked(&one), Ok(Asked::Object(one.to_string())));
        assert_eq!(asked(&json!({"health_check": true})), Ok(Asked::Health));
        let check = json!({"diagnostics": true, "s3_check": {"bucket": "b", "prefix": "p/"}});
        assert_eq!(asked(&check), Ok(Asked::Diagnostics { prefix: Some("p/".into()) }));
        let lines = json!({"_test_mode": true, "_test_body": "{}\n{}", "bucket": "b", "key": "k"});
        assert_eq!(asked(&lines), Ok(Asked::Lines { body: "{}\n{}".into(), key: Some("k".into()) }));
    }

    #[test]
    fn many_objects_are_meant_also_without_a_word() {
        for event in [
            json!({"mode": "bulk"}),
            json!({"section_id": 145}),
            json!({"start_date": "2024-01-01"}),
            json!({"dry_run": false}),
            json!({"force_reprocess": false, "s3_prefix": "section/"}),
        ] {
            assert!(matches!(asked(&event), Ok(Asked::Bulk(_))), "{event}");
        }
        for wrong in [
            json!({}),
            json!([]),
            json!({"health_check": false}),
            json!({"section_id": 1, "start_date": "yesterday"}),
            json!({"_test_mode": true}),
            json!({"Records": [{"eventSource": "aws:sqs"}]}),
        ] {
            assert!(asked(&wrong).is_err(), "{wrong}");
        }
        assert!(read(b"hello").is_err());
    }
}
