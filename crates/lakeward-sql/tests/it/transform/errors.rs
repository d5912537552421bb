//! What a user reads when a statement is refused.

use super::outcome;
use lakeward_columnar::transform::Transform;
use lakeward_sql::SqlTransform;

/// Refusals that need no columns, word for word.
#[test]
fn refused_at_once() {
    let cases = [
        ("SELEC a FROM input", "x"),
        ("", "there is no statement; write SELECT … FROM input"),
        ("SELECT a", "line 1, column 1: FROM is missing: SELECT … FROM input"),
        ("SELECT a FROM input; SELECT b FROM input", "line 1, column 22: only one statement is allowed; remove the second"),
        ("DELETE FROM input", "x"),
        ("SELECT a FROM events", "line 1, column 15: there is no table `events`; the records are the table `input`: FROM input"),
        ("SELECT a FROM input JOIN input b ON a = b", "x"),
        ("SELECT a FROM input, UNNEST(b)", "x"),
        ("SELECT a FROM input UNION SELECT b FROM input", "x"),
        ("SELECT count(*) FROM input", "x"),
        ("SELECT a FROM input GROUP BY a", "x"),
        ("SELECT DISTINCT a FROM input", "x"),
        ("SELECT row_number() OVER () AS n FROM input", "x"),
        ("SELECT a FROM input ORDER BY a", "x"),
        ("SELECT a FROM input LIMIT 10", "x"),
        ("SELECT a FROM input WHERE a IN (SELECT b FROM input)", "x"),
        ("SELECT (SELECT max(a) FROM input) AS m FROM input", "x"),
        ("SELECT\n  splitpart(a, ':', 1) AS x\nFROM input", "line 2, column 3: there is no function `splitpart`; did you mean `split_part`?"),
        ("SELECT frobnicate(a) AS x FROM input", "x"),
        ("SELECT range(1, 1000000000) AS x FROM input", "x"),
        ("SELECT version() AS x FROM input", "x"),
        ("SELECT repeat(a, n) AS x FROM input", "x"),
        ("SELECT unnest(a), unnest(b) AS c FROM input", "x"),
        ("SELECT a FROM input WHERE unnest(b) = 1", "x"),
        ("SELECT a + 1 FROM input", "line 1, column 8: this column has no name; write `a + 1 AS some_name`"),
        ("SELECT a, b AS a FROM input", "line 1, column 11: there are two columns `a`; give one another name: `… AS a_2`"),
        ("SELECT upper(a) AS b, length(b) AS c FROM input", "x"),
        ("SELECT c FROM (SELECT a, bb FROM input)", "x"),
        ("SELECT b FROM (SELECT a, bb FROM input)", "x"),
        ("SELECT a FROM (SELECT * EXCLUDE (a) FROM input)", "x"),
        ("SELECT 'a' * 2 AS x FROM input", "x"),
        ("SELECT split_part('a', 'b', 'c') AS x, a FROM input", "x"),
        ("SELECT split_part(a, 'b', 1, 2) AS x FROM input", "x"),
        ("SELECT regexp_replace(a, '(', '') AS x FROM input", "x"),
        ("SELECT a FROM input WHERE a = $1", "x"),
        ("SELECT CAST(a AS NOSUCHTYPE) AS x FROM input", "x"),
    ];
    let mut wrong = String::new();
    for (sql, expected) in cases {
        let got = match SqlTransform::compile(sql) {
            Ok(_) => String::from("(accepted)"),
            Err(error) => error.to_string(),
        };
        if got != expected {
            wrong += &format!("{sql}\n  expected: {expected}\n  got:      {got}\n");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// Refusals that need the columns' types.
#[test]
fn refused_for_these_columns() {
    let line = r#"{"s":"x","n":1,"o":{"a":1},"l":[1]}"#;
    let cases = [
        ("SELECT s FROM input WHERE n", "x"),
        ("SELECT s * 2 AS x FROM input", "x"),
        ("SELECT\n  n,\n  upper(split_part(o, ':', 1)) AS x FROM input", "x"),
        ("SELECT o + 1 AS x FROM input", "x"),
        ("SELECT date_trunc('hour', o) AS x FROM input", "x"),
        ("SELECT json_get(o, 'a') AS x FROM input", "x"),
        ("SELECT array_length(n) AS x FROM input", "x"),
        ("SELECT unnest(o) AS x FROM input", "x"),
        ("SELECT CASE WHEN s THEN 1 END AS x FROM input", "x"),
        ("SELECT coalesce(s, o) AS x FROM input", "x"),
    ];
    let mut wrong = String::new();
    for (sql, expected) in cases {
        let got = outcome(sql, line);
        if got.trim_end() != expected {
            wrong += &format!("{sql}\n  expected: {expected}\n  got:      {got}");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn what_is_read() {
    let cases: [(&str, Option<&[&str]>); 9] = [
        ("SELECT a, b.c AS x FROM input WHERE d IS NULL", Some(&["a", "b", "d"])),
        ("SELECT * FROM input", None),
        ("SELECT *, a FROM input", None),
        ("SELECT a FROM (SELECT * FROM input WHERE b = 1)", Some(&["a", "b"])),
        ("SELECT a FROM (SELECT *, upper(c) AS a, d AS e FROM input)", Some(&["c"])),
        ("SELECT t FROM (SELECT * RENAME (s AS t) FROM input)", Some(&["s", "t"])),
        ("SELECT unnest(items)['sku'] AS sku FROM input", Some(&["items"])),
        ("SELECT uuid() AS id, now() AS at, i.x FROM input i", Some(&["x"])),
        ("SELECT 1 AS one FROM input", Some(&[])),
    ];
    for (sql, expected) in cases {
        let transform = SqlTransform::compile(sql).unwrap();
        let expected = expected.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(transform.reads().map(<[String]>::to_vec), expected, "{sql}");
    }
}

/// A statement that is hard on the stack is refused, not fatal.
#[test]
fn deep_statements_are_refused() {
    let deep = [
        format!("SELECT {}1 AS x FROM input", "1 + ".repeat(15_000)),
        format!("SELECT {}1{} AS x FROM input", "(".repeat(10_000), ")".repeat(10_000)),
        format!("SELECT {}1 AS x FROM input", "-".repeat(3)) + &" ".repeat(70_000),
        format!("SELECT a{} AS x FROM input", "['b']".repeat(12_000)),
        format!("SELECT {}a{} AS x FROM input", "upper(".repeat(5_000), ")".repeat(5_000)),
    ];
    for sql in deep {
        eprintln!("{}", &sql[..40]);
        let refused = SqlTransform::compile(&sql);
        if let Ok(transform) = refused {
            assert!(sql.contains("['b']"));
            let rows = super::rows("{\"a\":1}", transform.reads(), &[]);
            transform.apply(&rows, &super::pinned()).unwrap();
        }
    }
    eprintln!("long");
    let long = format!("SELECT {} AS x FROM input", vec!["a = 'b'"; 150].join(" OR "));
    assert_eq!(outcome(&long, "{\"a\":\"b\"}"), "{\"x\":true}\n");
}
