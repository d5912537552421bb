//! A table of ClickHouse behind a server that says what it is told. The real
//! engine is in `tests/test_clickhouse.py`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lakeward_connectors::destinations::clickhouse::{self, ClickHouse, ClickHouseConfig};
use lakeward_connectors::destinations::warehouse::{CutRows, Table};
use lakeward_model::{
    Batch, BatchId, Column, ColumnType, DataFile, Failure, FailureKind, Format, LakePath, Offset, Role,
    Secret, Span,
};

use crate::functions::server::{Answer, Server, reply};

const PASSWORD: &str = "hush-hush";

fn open(server: &Server) -> ClickHouse {
    let config = ClickHouseConfig {
        url: server.address.clone(),
        user: "loader".into(),
        password: Some(Secret::new(PASSWORD)),
        table: "events".into(),
        timeout: Duration::from_secs(2),
        ..ClickHouseConfig::default()
    };
    // A part is its first and last row, as text.
    let cut: CutRows = Arc::new(|_, rows| Ok(Bytes::from(format!("{} {}", rows.start, rows.end))));
    clickhouse::open(&config, cut).expect("it opens")
}

fn batch(number: u128, rows: u64) -> Batch {
    let column = |name: &str, ty| Column { name: name.into(), ty };
    let file = DataFile {
        path: LakePath::new("a.parquet").expect("a path"),
        role: Role::Data,
        format: Format::Parquet,
        content_encoding: None,
        rows,
        body: Bytes::from_static(b"PAR1 and so on"),
    };
    Batch {
        id: BatchId(uuid::Uuid::from_u128(number)),
        span: Span::new(Offset(0), Offset(rows)).expect("not empty"),
        files: vec![file],
        columns: Arc::new([
            column("id", ColumnType::Int64),
            column("_lakeward_batch", ColumnType::Utf8),
            column("_lakeward_row", ColumnType::Int64),
        ]),
    }
}

async fn load(table: &ClickHouse, batch: &Batch) -> Result<Vec<bool>, Failure> {
    let files: Vec<_> = batch.files.iter().enumerate().collect();
    table.load(batch, &files).await
}

/// What is answered when the table is looked at.
fn looked() -> [Answer; 2] {
    let table = r#"{"engine":"MergeTree","engine_full":"MergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 100","partition_key":"","sorting_key":"id","dependencies_database":[],"dependencies_table":[],"create_table_query":"","uuid":""}"#;
    let columns = r#"{"name":"id","type":"Int64","default_kind":""}
{"name":"_lakeward_batch","type":"LowCardinality(String)","default_kind":""}
{"name":"_lakeward_row","type":"Int64","default_kind":""}"#;
    [reply(200, "", table), reply(200, "", columns)]
}

fn present(rows: u64) -> Answer {
    reply(200, "", &format!(r#"{{"rows":{rows},"all":{rows}}}"#))
}

const WRITTEN: &str = "X-ClickHouse-Summary: {\"written_rows\":\"5\"}\r\n";

fn failed(code: u32, said: &str) -> Answer {
    let header = match code {
        252 => "X-ClickHouse-Exception-Code: 252\r\n",
        469 => "X-ClickHouse-Exception-Code: 469\r\n",
        497 => "X-ClickHouse-Exception-Code: 497\r\n",
        _ => "",
    };
    reply(500, header, &format!("Code: {code}. DB::Exception: {said}. (X) (version 1)"))
}

fn statements(server: &Server) -> Vec<String> {
    let statement = |request: &crate::functions::server::Request| {
        let (_, query) = request.line.split_once('?').unwrap_or_default();
        if query.contains("query=INSERT") {
            "INSERT".into()
        } else {
            String::from_utf8_lossy(&request.body).into_owned()
        }
    };
    server.requests().iter().map(statement).collect()
}

#[tokio::test]
async fn the_file_is_the_body_and_nothing_of_the_password_is_in_the_address() {
    let mut script = Vec::from(looked());
    script.extend([present(0), reply(200, WRITTEN, ""), present(5), reply(200, WRITTEN, "")]);
    let server = Server::start(script).await;
    let table = open(&server);
    let first = batch(1, 5);
    assert_eq!(load(&table, &first).await.expect("loaded"), [false]);
    // The next one was certainly never sent: nobody is asked.
    assert_eq!(load(&table, &batch(2, 5)).await.expect("loaded"), [false]);
    let requests = server.requests();
    assert_eq!(requests.len(), 6);
    let insert = &requests[3];
    assert_eq!(insert.body, first.files[0].body);
    assert!(insert.line.starts_with("POST /?") && !insert.line.contains("hush"), "{}", insert.line);
    assert!(insert.headers["authorization"].starts_with("Basic "));
    assert!(!format!("{table:?} {table}").contains("hush"));
}

#[tokio::test]
async fn without_an_answer_the_table_is_asked_first() {
    for lost in
        [Answer::Close, Answer::Hang, reply(502, "", "<html>"), reply(200, "", "<html>a proxy</html>")]
    {
        let mut script = Vec::from(looked());
        script.extend([present(0), lost.clone()]);
        script.extend(looked());
        script.push(present(5));
        let server = Server::start(script).await;
        let table = open(&server);
        let failure = load(&table, &batch(1, 5)).await.expect_err("no answer");
        assert_eq!(failure.kind, FailureKind::Unknown, "{lost:?}: {failure}");
        assert_eq!(load(&table, &batch(1, 5)).await.expect("it is there"), [true]);
        let seen = statements(&server);
        assert_eq!(seen.iter().filter(|statement| *statement == "INSERT").count(), 1, "{seen:?}");
    }
}

#[tokio::test]
async fn a_certain_no_needs_no_question() {
    let mut script = Vec::from(looked());
    script.extend([present(0), reply(200, WRITTEN, ""), present(5)]);
    script.extend([failed(252, "Too many parts"), reply(200, WRITTEN, "")]);
    let server = Server::start(script).await;
    let table = open(&server);
    load(&table, &batch(1, 5)).await.expect("loaded");
    let failure = load(&table, &batch(2, 5)).await.expect_err("refused");
    assert_eq!((failure.kind, failure.retry_after), (FailureKind::NotDone, Some(Duration::from_secs(30))));
    load(&table, &batch(2, 5)).await.expect("loaded");
    assert_eq!(server.requests().len(), 7);
}

#[tokio::test]
async fn fewer_rows_than_sent_are_no_success() {
    let few = "X-ClickHouse-Summary: {\"written_rows\":\"4\"}\r\n";
    let mut script = Vec::from(looked());
    script.extend([present(0), reply(200, few, "")]);
    let server = Server::start(script).await;
    let failure = load(&open(&server), &batch(1, 5)).await.expect_err("too few");
    assert!(failure.kind == FailureKind::Unknown && failure.message.contains("4 of 5"), "{failure}");
}

#[tokio::test]
async fn redirections_are_not_followed_and_other_files_not_loaded() {
    let server = Server::start([reply(302, "Location: http://elsewhere/\r\n", "")]).await;
    let failure = load(&open(&server), &batch(1, 5)).await.expect_err("a redirection");
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    let mut csv = batch(1, 5);
    csv.files[0].format = Format::Csv;
    let mut script = Vec::from(looked());
    script.push(present(0));
    let failure = load(&open(&Server::start(script).await), &csv).await.expect_err("no such format");
    assert!(failure.message.contains("output.format"), "{failure}");
    let verbatim = Batch { columns: Arc::default(), ..batch(1, 5) };
    let server = Server::start([]).await;
    let failure = load(&open(&server), &verbatim).await.expect_err("no columns");
    assert!(failure.kind == FailureKind::Refused && server.requests().is_empty(), "{failure}");
}

/// The rows are found by halves, against a table that stores nothing.
#[tokio::test]
async fn unfit_rows_are_found_one_by_one() {
    let bad = || failed(469, "Constraint is violated");
    let good = || reply(200, "", "");
    let mut script = Vec::from(looked());
    script.extend([present(0), reply(200, WRITTEN, ""), present(5)]);
    // The insert; what is there; no temporary tables here; the whole file.
    script.extend([bad(), present(0), failed(497, "no"), bad()]);
    // 0..2 is good, so 2..5 is bad: 2..3 is good, so 3..5 is: 3 is bad, 4 good.
    script.extend([good(), good(), bad(), good()]);
    let server = Server::start(script).await;
    let table = open(&server);
    load(&table, &batch(1, 5)).await.expect("loaded");
    let failure = load(&table, &batch(2, 5)).await.expect_err("unfit");
    let rows: Vec<_> = failure.unfit.iter().map(|row| (row.file, row.row)).collect();
    assert_eq!(rows, [(0, 3)], "{failure}");
    assert!(failure.unfit[0].message.contains("Constraint is violated"));
    let parts: Vec<String> =
        server.requests()[9..].iter().map(|request| String::from_utf8_lossy(&request.body).into()).collect();
    assert_eq!(parts, ["0 2", "2 3", "3 4", "4 5"]);
    let null = &server.requests()[8].line;
    assert!(null.contains("FUNCTION+null") || null.contains("FUNCTION%20null"), "{null}");
}

#[tokio::test]
async fn the_audit_counts_by_batch() {
    let ids: Vec<BatchId> = (1..4).map(|n| batch(n, 1).id).collect();
    let mut script = Vec::from(looked());
    script.push(reply(200, "", &format!(r#"{{"batch":"{}","rows":7}}"#, ids[1])));
    let server = Server::start(script).await;
    assert_eq!(open(&server).loaded(&ids).await.expect("counted"), Some(vec![0, 7, 0]));
}
