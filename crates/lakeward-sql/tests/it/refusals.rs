//! What a person is told.

use lakeward_sql::query::QueryError;

use crate::lake::{Lake, json};

#[tokio::test]
async fn errors_are_short_and_say_what_to_do() {
    let mut lake = Lake::parquet("a/");
    lake.deliver(r#"{"userId":"a","amount":1,"ctx":{"tier":"pro"}}"#);
    for (sql, expect) in [
        ("SELECT userid FROM events", "there is no column userid; did you mean userId?"),
        ("SELECT ammount FROM events", "there is no column ammount; did you mean amount?"),
        ("SELECT zzz FROM events", "there is no column zzz; there are userId, amount, ctx"),
        ("SELECT e.nope FROM events e", "there is no column nope; there are userId, amount, ctx"),
        ("SELECT 1 FROM event", "there is no table event; did you mean events?"),
        ("SELECT 1 FROM Events", "there is no table Events; did you mean events?"),
        ("SELECT 1 FROM zzz", "there is no table zzz; there is events"),
        ("SELECT 1 FROM a.b", "there is no table a.b; there is events"),
        ("SELECT 1 FROM '/etc/passwd'", "there is no table /etc/passwd; there is events"),
        ("SELECT 1; SELECT 2", "one statement at a time"),
        ("", "there is no statement"),
    ] {
        let error = json(&mut lake.session(), sql).await.expect_err(sql);
        assert!(matches!(error, QueryError::Wrong(_)), "{sql}: {error:?}");
        assert_eq!(error.to_string(), expect, "{sql}");
    }
    for (sql, part) in [
        ("SELEC 1", "SQL syntax: "),
        ("SELECT nofunc(amount) FROM events", "nofunc"),
        ("SELECT ctx['nope'] FROM events", "nope"),
        ("SELECT amount FROM events GROUP BY userId", "amount"),
    ] {
        let error = json(&mut lake.session(), sql).await.expect_err(sql);
        assert!(matches!(error, QueryError::Wrong(_)), "{sql}: {error:?}");
        let text = error.to_string();
        assert!(text.contains(part), "{sql}: {text}");
        for noise in ["DataFusion", "Error during", "backtrace", "Execution error", "Schema error"] {
            assert!(!text.contains(noise), "{sql}: {text}");
        }
    }
}

#[tokio::test]
async fn queries_only_read() {
    let mut lake = Lake::parquet("a/");
    lake.deliver(r#"{"n":1}"#);
    let target = lake.place("stolen.csv");
    let copy = format!("COPY (SELECT 1) TO '{}'", target.display());
    for sql in [
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "INSERT INTO events VALUES (1)",
        "UPDATE events SET n = 2",
        "DELETE FROM events",
        "DROP TABLE events",
        "SELECT * INTO t FROM events",
        "SET datafusion.execution.batch_size = 1",
        "RESET datafusion.execution.batch_size",
        "EXPLAIN ANALYZE SELECT 1",
        "EXPLAIN INSERT INTO events VALUES (1)",
        "SHOW TABLES",
        "PREPARE p AS SELECT 1",
        "BEGIN",
        &copy,
    ] {
        let error = json(&mut lake.session(), sql).await.expect_err(sql);
        assert!(matches!(error, QueryError::NotReadOnly(_)), "{sql}: {error:?}");
        assert!(!error.to_string().contains("DataFusion"), "{sql}: {error}");
    }
    assert!(!target.exists());
    for sql in ["EXPLAIN SELECT n FROM events", "DESCRIBE events", "VALUES (1)", "SELECT 1 UNION SELECT 2"] {
        json(&mut lake.session(), sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

#[tokio::test]
async fn values_that_do_not_fit_say_so() {
    let mut lake = Lake::parquet("a/");
    lake.deliver("{\"s\":\"x\",\"n\":0}");
    for sql in ["SELECT CAST(s AS BIGINT) FROM events", "SELECT 1 / n FROM events"] {
        let error = json(&mut lake.session(), sql).await.expect_err(sql);
        assert!(matches!(error, QueryError::Data(_)), "{sql}: {error:?}");
        assert!(!error.to_string().contains("Arrow error"), "{sql}: {error}");
    }
}
