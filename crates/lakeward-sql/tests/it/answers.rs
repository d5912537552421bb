//! What comes back: values, whatever became of the columns meanwhile.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, LargeStringArray, RecordBatch};

use crate::lake::{Lake, json, session};

#[tokio::test]
async fn files_with_other_columns_are_united_by_name() {
    let mut lake = Lake::parquet("a/");
    lake.deliver(r#"{"n":1,"deep":{"x":"one"},"list":[{"p":1}]}"#);
    lake.deliver(r#"{"new":true,"n":2.5,"deep":{"y":[1,2]},"list":[{"p":2,"q":"z"}]}"#);
    lake.deliver(r#"{"deep":{"x":7},"n":3}"#);
    let expect = concat!(
        r#"{"n":1.0,"deep":{"x":"one","y":null},"list":[{"p":1,"q":null}],"new":null,"_rescued":null}"#,
        "\n",
        r#"{"n":2.5,"deep":{"x":null,"y":[1,2]},"list":[{"p":2,"q":"z"}],"new":true,"_rescued":null}"#,
        "\n",
        r#"{"n":3.0,"deep":null,"list":null,"new":null,"_rescued":{"deep.x":7}}"#,
        "\n",
    );
    let sql = "SELECT * FROM events ORDER BY n";
    let known = lake.ask(sql).await;
    assert_eq!(known.replace(r#""deep":{"x":null,"y":null}"#, r#""deep":null"#), expect);
    // The same without help from the ledger.
    let found = json(&mut lake.session_without_schema(), sql).await.expect("an answer");
    assert_eq!(found, known);
}

#[tokio::test]
async fn questions_people_ask() {
    let mut lake = Lake::parquet("year=!{event:at:yyyy}/month=!{event:at:MM}/");
    lake.deliver(concat!(
        r#"{"at":"2023-11-15T10:00:00Z","userId":"a","spent":10,"ctx":{"tier":"pro"}}"#,
        "\n",
        r#"{"at":"2023-12-01T00:00:00Z","userId":"b","spent":5,"ctx":{"tier":"free"}}"#,
        "\n",
        r#"{"at":"2024-01-01T00:00:00Z","userId":"a","spent":null,"ctx":{"tier":"pro"}}"#,
    ));
    for (sql, expect) in [
        ("SELECT count(*) AS n FROM events", r#"{"n":3}"#),
        ("SELECT COUNT(spent) AS n, Sum(spent) AS s FROM events", r#"{"n":2,"s":15}"#),
        ("SELECT userId FROM events WHERE ctx['tier'] = 'free'", r#"{"userId":"b"}"#),
        ("SELECT year, month FROM events WHERE userId = 'b'", r#"{"year":2023,"month":"12"}"#),
        ("SELECT count(*) AS n FROM events WHERE year = 2023 AND month = '11'", r#"{"n":1}"#),
        ("SELECT count(*) AS n FROM events WHERE year = '2023' AND month = 11", r#"{"n":1}"#),
        ("SELECT max(date_trunc('day', at::timestamp)) AS d FROM events", r#"{"d":"2024-01-01T00:00:00"}"#),
        (
            "WITH e AS (SELECT * FROM events) SELECT a.userId FROM e a JOIN e b USING (at) WHERE b.spent = 5",
            r#"{"userId":"b"}"#,
        ),
        ("SELECT 1 AS one", r#"{"one":1}"#),
    ] {
        assert_eq!(lake.ask(sql).await.trim_end(), expect, "{sql}");
    }
}

#[tokio::test]
async fn a_pipeline_that_delivered_nothing_is_an_empty_table() {
    let lake = Lake::parquet("a/");
    assert_eq!(lake.ask("SELECT count(*) AS n FROM events").await, "{\"n\":0}\n");
    let error = json(&mut lake.session(), "SELECT a FROM events").await.expect_err("no column");
    assert_eq!(error.to_string(), "there is no column a: nothing was delivered to the table yet");
}

#[tokio::test]
async fn files_of_other_writers() {
    let mut lake = Lake::parquet("a/");
    lake.deliver(r#"{"n":9000000000,"s":"ours"}"#);
    let columns: [(&str, ArrayRef); 2] =
        [("s", Arc::new(LargeStringArray::from(vec!["theirs"]))), ("n", Arc::new(Int32Array::from(vec![7])))];
    let batch = RecordBatch::try_from_iter(columns).expect("a batch");
    let mut body = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut body, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
    lake.put("a/other.parquet", &body);
    lake.commit("a/other.parquet", 1);
    let expect = "{\"n\":7,\"s\":\"theirs\"}\n{\"n\":9000000000,\"s\":\"ours\"}\n";
    let sql = "SELECT * FROM events ORDER BY n";
    assert_eq!(lake.ask(sql).await, expect);
    assert_eq!(json(&mut lake.session_without_schema(), sql).await.expect("an answer"), expect);
}

#[tokio::test]
async fn two_pipelines_with_files_of_the_same_names() {
    let (mut one, mut two) = (Lake::parquet("a/"), Lake::parquet("a/"));
    one.deliver(r#"{"n":1,"s":"x"}"#);
    two.deliver(r#"{"n":2,"s":"y"}"#);
    assert_eq!(one.files[0].path, two.files[0].path);
    let mut other = two.table(Some(two.schema.clone()));
    other.name = "my-other".into();
    let mut session = session([one.table(None)]);
    session.add(other, vec!["my_other".into(), "events".into()]);
    let sql = "SELECT a.n, b.n AS m, c.s FROM events a, \"my-other\" b, my_other c";
    assert_eq!(json(&mut session, sql).await.expect("an answer"), "{\"n\":1,\"m\":2,\"s\":\"y\"}\n");
}

#[tokio::test]
async fn csv_and_texts_of_an_answer() {
    let mut lake = Lake::parquet("a/");
    lake.deliver(concat!(r#"{"s":"a,\"b\"","o":{"x":[1,null]},"f":1.5}"#, "\n", r#"{"s":""}"#));
    let mut session = lake.session();
    let mut answer = session.query("SELECT s, o, f, s IS NULL AS no FROM events").await.expect("an answer");
    let mut csv = Vec::new();
    answer.no_rows().write_csv(true, &mut csv).expect("a header");
    let rows = answer.next().await.expect("rows").expect("some");
    rows.write_csv(false, &mut csv).expect("lines");
    let expect = "s,o,f,no\n\"a,\"\"b\"\"\",\"{\"\"x\"\":[1,null]}\",1.5,false\n\"\",,,false\n";
    assert_eq!(String::from_utf8(csv).expect("text"), expect);
    let texts = rows.texts().expect("texts");
    assert_eq!(texts[0][1].as_deref(), Some(r#"{"x":[1,null]}"#));
    assert_eq!(texts[1], [Some(String::new()), None, None, Some("false".into())]);
}
