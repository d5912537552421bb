//! `k=v/` folders: what they say, and which files a filter leaves.

use std::collections::BTreeSet;

use crate::lake::{Lake, json};

const DAYS: &str = concat!(
    r#"{"at":"2023-11-20T10:00:00Z","n":1}"#,
    "\n",
    r#"{"at":"2023-11-21T10:00:00Z","n":2}"#,
    "\n",
    r#"{"at":"2023-12-01T10:00:00Z","n":3}"#,
    "\n",
    r#"{"n":4}"#,
);

fn days() -> Lake {
    let mut lake = Lake::parquet("e/month=!{event:at:MM}/day=!{event:at:dd}/");
    lake.deliver(DAYS);
    assert_eq!(lake.files.len(), 4);
    lake
}

#[tokio::test]
async fn only_the_files_of_matching_folders_are_opened() {
    let lake = days();
    for (filter, folders) in [
        ("day = '21'", &["month=11/day=21"][..]),
        ("month = '11' AND n > 0", &["month=11/day=20", "month=11/day=21"]),
        ("month = '12' OR day = '20'", &["month=11/day=20", "month=12/day=01"]),
        ("day IN ('01', '99')", &["month=12/day=01"]),
        ("day BETWEEN '02' AND '20'", &["month=11/day=20"]),
        ("day LIKE '2%' AND NOT month = '12'", &["month=11/day=20", "month=11/day=21"]),
        ("concat(month, day) >= '1121'", &["month=11/day=21", "month=12/day=01"]),
        ("month = '07'", &[]),
        // Rows without a time have no day.
        ("month IS NULL", &["month=__missing__/day=__missing__"]),
        ("day = '21' AND random() >= 0", &["month=11/day=21"]),
    ] {
        let sql = format!("SELECT n FROM events WHERE {filter}");
        lake.store.files();
        let rows = lake.ask(&sql).await.lines().count();
        let opened = lake.store.files();
        let opened: BTreeSet<&str> = opened
            .iter()
            .map(|file| file.strip_prefix("e/").expect("below e/").rsplit_once('/').expect("a file").0)
            .collect();
        assert_eq!(opened, folders.iter().copied().collect(), "{filter}");
        assert_eq!(rows, folders.len(), "{filter}");
    }
    lake.store.files();
    lake.ask("SELECT n FROM events WHERE n = 1 OR day = '21'").await;
    assert_eq!(lake.store.files().len(), 4, "no folder is ruled out");
}

#[tokio::test]
async fn folders_are_columns() {
    let lake = days();
    // All months are plain integers, `01` among the days is none.
    let expect = concat!(
        r#"{"n":1,"month":11,"day":"20"}"#,
        "\n",
        r#"{"n":2,"month":11,"day":"21"}"#,
        "\n",
        r#"{"n":3,"month":12,"day":"01"}"#,
        "\n",
        r#"{"n":4,"month":null,"day":null}"#,
        "\n",
    );
    assert_eq!(lake.ask("SELECT n, month, day FROM events ORDER BY n").await, expect);
}

#[tokio::test]
async fn every_value_of_a_column_that_is_a_folder_reads_back() {
    let long = "long/".repeat(60);
    let values = ["plain", "", "a/b=c", "..", "100%", "Zürich", "2024", "a-0123456789abcdef", &long];
    let mut lake = Lake::parquet("who=!{event:who}/");
    let mut lines: String =
        values.iter().map(|value| serde_json::json!({ "who": value, "n": 1 }).to_string() + "\n").collect();
    lines += "{\"n\":1}\n{\"who\":null,\"n\":1}\n";
    lake.deliver(&lines).deliver("{\"who\":{\"not\":\"a scalar\"},\"n\":1}");
    for mut session in [lake.session(), lake.session_without_schema()] {
        let found =
            json(&mut session, "SELECT who FROM events WHERE who IS NOT NULL").await.expect("an answer");
        let mut found: Vec<String> = found
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["who"].to_string())
            .collect();
        found.sort();
        let mut expect: Vec<String> =
            values.iter().map(|value| serde_json::json!(value).to_string()).collect();
        expect.sort();
        assert_eq!(found, expect);
        let filtered = format!("SELECT count(*) AS n FROM events WHERE who = '{long}'");
        assert_eq!(json(&mut session, &filtered).await.expect("an answer"), "{\"n\":1}\n");
        let rest = "SELECT count(*) AS n FROM events WHERE who IS NULL";
        assert_eq!(json(&mut session, rest).await.expect("an answer"), "{\"n\":3}\n");
    }
}

#[tokio::test]
async fn a_column_of_numbers_stays_one_in_a_folder() {
    let mut lake = Lake::parquet("shop=!{event:shop}/ok=!{event:ok}/");
    lake.deliver("{\"shop\":7,\"ok\":true}\n{\"shop\":12,\"ok\":false}\n{\"ok\":true}");
    let expect = "{\"shop\":7,\"ok\":true}\n{\"shop\":12,\"ok\":false}\n{\"shop\":null,\"ok\":true}\n";
    assert_eq!(lake.ask("SELECT shop, ok FROM events ORDER BY shop").await, expect);
}

#[tokio::test]
async fn a_layout_may_change() {
    let mut lake = Lake::parquet("flat/");
    lake.deliver(r#"{"who":"a","n":1}"#);
    lake.shape.path = "new/who=!{event:who}/".into();
    lake.deliver(r#"{"who":"b","n":2}"#);
    lake.shape.path = "other/day=!{event:n}/".into();
    lake.deliver(r#"{"who":"a","n":3}"#);
    let expect = "{\"who\":\"a\",\"n\":1}\n{\"who\":\"b\",\"n\":2}\n{\"who\":\"a\",\"n\":3}\n";
    assert_eq!(lake.ask("SELECT who, n FROM events ORDER BY n").await, expect);
    lake.store.files();
    assert_eq!(lake.ask("SELECT n FROM events WHERE who = 'a' ORDER BY n").await, "{\"n\":1}\n{\"n\":3}\n");
    assert!(!lake.store.files().iter().any(|file| file.contains("who=b")));
}
