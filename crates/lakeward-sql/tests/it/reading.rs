//! What is read of the lake: exactly the committed files, and no more of them
//! than is needed.

use lakeward_columnar::shape::{Output, ParquetOptions};
use lakeward_sql::query::{QueryError, Session};

use crate::lake::{Lake, json};

#[tokio::test]
async fn exactly_the_committed_files_are_read() {
    let mut lake = Lake::parquet("a/");
    lake.deliver(r#"{"n":1}"#).deliver(r#"{"n":2}"#);
    let stray = std::fs::read(lake.place(lake.files[0].path.as_str())).expect("a file");
    lake.put("a/in-flight.parquet", &stray);
    lake.put("a/.lakeward-tmp/x.parquet", &stray);
    lake.put("quarantine/x.ndjson", b"{\"reason\":\"json.syntax\"}\n");
    assert_eq!(lake.ask("SELECT count(*) AS c, sum(n) AS s FROM events").await, "{\"c\":2,\"s\":3}\n");
}

#[tokio::test]
async fn a_missing_or_broken_file_is_named() {
    let mut lake = Lake::parquet("a/");
    lake.deliver(r#"{"n":1}"#).deliver(r#"{"n":2}"#);
    let path = lake.files[1].path.to_string();
    let whole = std::fs::read(lake.place(&path)).expect("a file");
    std::fs::remove_file(lake.place(&path)).expect("removed");
    let sql = "SELECT sum(n) AS s FROM events";
    let error = json(&mut lake.session(), sql).await.expect_err("a file is missing");
    assert!(matches!(error, QueryError::Unavailable(_)), "{error:?}");
    assert!(error.to_string().contains(&path) && error.to_string().contains("lakeward audit"), "{error}");
    lake.put(&path, &vec![b'x'; whole.len()]);
    let error = json(&mut lake.session(), sql).await.expect_err("a file is broken");
    assert!(matches!(error, QueryError::Data(_)), "{error:?}");
}

/// 50,000 rows in row groups of 1,000, with one column that is most of the file.
fn wide() -> Lake {
    let options = ParquetOptions { row_group_rows: 1_000, ..ParquetOptions::default() };
    let mut lake = Lake::new(Output::Parquet(options), "a/");
    let word = |n: u64, i: u64| format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15 + 2 * i));
    let pad = |n: u64| (0..16).map(|i| word(n, i)).collect::<String>();
    let lines: String = (1..=50_000).map(|n| format!("{{\"n\":{n},\"pad\":\"{}\"}}\n", pad(n))).collect();
    lake.deliver(&lines);
    lake
}

#[tokio::test]
async fn columns_and_row_groups_that_are_not_needed_are_not_read() {
    let lake = wide();
    let size = lake.files[0].bytes;
    let mut read = Vec::new();
    for sql in [
        "SELECT sum(n) AS x FROM events",
        "SELECT max(pad) AS x FROM events WHERE n = 777",
        "SELECT count(*) AS x FROM events",
    ] {
        lake.store.bytes();
        lake.ask(sql).await;
        let (bytes, requests) = lake.store.bytes();
        assert!(bytes < size / 3, "{sql}: {bytes} of {size} bytes in {requests} requests");
        read.push(bytes);
    }
    lake.store.bytes();
    lake.ask("SELECT sum(length(pad)) AS x FROM events").await;
    let all = lake.store.bytes().0;
    assert!(all > size / 2, "the count is of something: {all} of {size}, others {read:?}");
}

#[tokio::test]
async fn filters_reach_the_files() {
    let mut lake = Lake::parquet("who=!{event:who}/");
    lake.deliver("{\"who\":\"a\",\"n\":1}\n{\"n\":2}");
    let plan = lake.ask("EXPLAIN SELECT n FROM events WHERE n > 1 AND who <> 'b'").await;
    assert!(plan.contains("predicate=n@"), "{plan}");
    assert!(!plan.contains("FilterExec"), "{plan}");
}

#[tokio::test]
async fn a_limit_stops_the_reading() {
    let mut lake = Lake::parquet("a/");
    for n in 0..40 {
        lake.deliver(&format!("{{\"n\":{n}}}"));
    }
    lake.store.files();
    assert_eq!(lake.ask("SELECT n FROM events LIMIT 1").await.lines().count(), 1);
    let opened = lake.store.files().len();
    assert!(opened < 30, "{opened} files for one row");
}

#[tokio::test]
async fn memory_is_bounded() {
    let lake = wide();
    let mut session = Session::new(4 << 20).expect("a session");
    session.add(lake.table(Some(lake.schema.clone())), Vec::new());
    assert_eq!(
        json(&mut session, "SELECT count(*) AS c, max(n) AS m FROM events").await.expect("little memory"),
        "{\"c\":50000,\"m\":50000}\n"
    );
    let error =
        json(&mut session, "SELECT pad, count(*) FROM events GROUP BY pad").await.expect_err("too much");
    assert!(matches!(error, QueryError::Memory(_)), "{error:?}");
    let error = json(&mut session, "SELECT * FROM events ORDER BY pad").await.expect_err("too much");
    assert!(matches!(error, QueryError::Memory(_)), "{error:?}");
}
