//! What reference systems do, in SQL.

use super::outcome;

/// Amplitude's times (contract `amplitude-xapi-adobe-warehouses.md`, section
/// 1.3): a space, six digits, no zone, UTC.
#[test]
fn times_of_amplitude() {
    let sql = "SELECT CAST(event_time AS TIMESTAMP) AS at, date_part('hour', to_timestamp(event_time)) AS hour, \
        date_trunc('day', CAST(event_time AS TIMESTAMP)) AS day, \
        CAST(server_upload_time AS TIMESTAMP) - CAST(event_time AS TIMESTAMP) < INTERVAL '4 seconds' AS soon \
        FROM input";
    let line =
        r#"{"event_time":"2020-11-24 09:59:55.977000","server_upload_time":"2020-11-24 09:59:58.880000"}"#;
    let expect = r#"{"at":"2020-11-24T09:59:55.977","hour":9,"day":"2020-11-24T00:00:00","soon":true}"#;
    assert_eq!(outcome(sql, line).trim_end(), expect);
}

/// The lambda of reference system B, in UTC (contract
/// `aws-and-launchdarkly.md`, section 0).
#[test]
fn system_b() {
    let sql = "SELECT *, \
        to_char(to_timestamp_seconds(created_at), '%Y-%m-%dT%H:%M:%S') AS created_datetime, \
        CASE WHEN event_name LIKE '%:%' THEN split_part(event_name, ':', 1) ELSE '' END AS event_type, \
        CASE WHEN event_name LIKE '%:%:%' THEN split_part(event_name, ':', 2) ELSE '' END AS event_subtype, \
        CAST(date_part('month', to_timestamp(created_at)) AS VARCHAR) AS month, \
        CAST(date_part('hour', to_timestamp(created_at)) AS VARCHAR) AS hour \
        FROM input";
    let cases = [
        ("account:created", 1_712_518_922.5, "account", "", "2024-04-07T19:42:02", "4", "19"),
        ("payment:order:completed", 1_704_067_200.0, "payment", "order", "2024-01-01T00:00:00", "1", "0"),
        ("a:b:c:d", 1_735_689_599.999, "a", "b", "2024-12-31T23:59:59", "12", "23"),
        ("plain", 0.5, "", "", "1970-01-01T00:00:00", "1", "0"),
    ];
    for (name, at, event_type, subtype, datetime, month, hour) in cases {
        let line = format!(r#"{{"event_uuid":"u","event_name":"{name}","created_at":{at:?}}}"#);
        let expected = format!(
            r#"{{"event_uuid":"u","event_name":"{name}","created_at":{at:?},"created_datetime":"{datetime}","event_type":"{event_type}","event_subtype":"{subtype}","month":"{month}","hour":"{hour}"}}"#
        );
        assert_eq!(outcome(sql, &line).trim_end(), expected);
    }
}

/// Flattening what LaunchDarkly's hook sends (system A).
#[test]
fn system_a() {
    let line = r#"{"timestamp":"2024-01-15T14:30:00.123456+00:00","flag_key":"web-checkout","evaluation_context":{"key":"user-123","kind":"user","tier":"premium"},"flag_value":"treatment","variation_index":1,"reason_kind":"FALLTHROUGH","metadata":{"source":"launchdarkly-python-hook","version":"1.0"}}"#;
    let sql = "SELECT flag_key, variation_index, evaluation_context['tier'] AS tier, \
        split_part(flag_key,'-',1) AS area, timestamp FROM input WHERE variation_index IS NOT NULL";
    assert_eq!(
        outcome(sql, line).trim_end(),
        r#"{"flag_key":"web-checkout","variation_index":1,"tier":"premium","area":"web","timestamp":"2024-01-15T14:30:00.123456+00:00"}"#
    );
}
