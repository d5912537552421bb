//! What a user reads when a statement is refused.

use super::outcome;
use lakeward_columnar::transform::Transform;
use lakeward_sql::SqlTransform;

/// Refusals that need no columns, word for word.
#[test]
fn refused_at_once() {
    let cases = [
        ("SELEC a FROM input", "line 1, column 1: not SQL: Expected: an SQL statement, found: SELEC"),
        ("", "there is no statement; write SELECT … FROM input"),
        ("SELECT a", "line 1, column 1: FROM is missing: SELECT … FROM input"),
        (
            "SELECT a FROM input; SELECT b FROM input",
            "line 1, column 22: only one statement is allowed; remove the second",
        ),
        ("DELETE FROM input", "line 1, column 1: only a SELECT is allowed: SELECT … FROM input"),
        (
            "SELECT a FROM events",
            "line 1, column 15: there is no table `events`; the records are the table `input`: FROM input",
        ),
        (
            "SELECT a FROM input JOIN input b ON a = b",
            "line 1, column 26: joins are not possible: a transform sees one record at a time (to make rows of a list, write unnest in the SELECT list)",
        ),
        (
            "SELECT a FROM input, UNNEST(b)",
            "line 1, column 29: joins are not possible: a transform sees one record at a time (to make rows of a list, write unnest in the SELECT list)",
        ),
        (
            "SELECT a FROM input UNION SELECT b FROM input",
            "line 1, column 27: UNION is not possible: one record gives its rows in one SELECT; use CASE, or two pipelines on one stream",
        ),
        (
            "SELECT count(*) FROM input",
            "line 1, column 8: count is an aggregate, and a transform sees one record at a time (for lists there are array_sum, array_length, array_max …)",
        ),
        (
            "SELECT a FROM input GROUP BY a",
            "line 1, column 30: GROUP BY is not possible: a transform sees one record at a time",
        ),
        (
            "SELECT DISTINCT a FROM input",
            "line 1, column 1: DISTINCT is not possible: a transform sees one record at a time; use the pipeline's `dedup`",
        ),
        (
            "SELECT row_number() OVER () AS n FROM input",
            "line 1, column 8: window functions are not possible: a transform sees one record at a time",
        ),
        (
            "SELECT a FROM input ORDER BY a",
            "line 1, column 30: ORDER BY is not possible: a transform is applied to each record by itself, in the order of the stream",
        ),
        (
            "SELECT a FROM input LIMIT 10",
            "line 1, column 27: LIMIT and OFFSET are not possible: a transform is applied to each record by itself, in the order of the stream; use WHERE",
        ),
        (
            "SELECT a FROM input WHERE a IN (SELECT b FROM input)",
            "line 1, column 27: subqueries can stand in FROM only: a transform sees one record at a time",
        ),
        (
            "SELECT (SELECT max(a) FROM input) AS m FROM input",
            "line 1, column 9: subqueries can stand in FROM only: a transform sees one record at a time",
        ),
        (
            "SELECT\n  splitpart(a, ':', 1) AS x\nFROM input",
            "line 2, column 3: there is no function `splitpart`; did you mean `split_part`?",
        ),
        (
            "SELECT frobnicate(a) AS x FROM input",
            "line 1, column 8: there is no function `frobnicate`; docs/sql.md lists them all",
        ),
        (
            "SELECT range(1, 1000000000) AS x FROM input",
            "line 1, column 8: range is not possible in a transform: its result could be of any size",
        ),
        (
            "SELECT version() AS x FROM input",
            "line 1, column 8: version is not possible in a transform: it depends on the machine",
        ),
        (
            "SELECT repeat(a, n) AS x FROM input",
            "line 1, column 8: repeat takes its length as a plain number, at most 10000",
        ),
        (
            "SELECT unnest(a), unnest(b) AS c FROM input",
            "line 1, column 19: unbalanced unnest: a second unnest in one SELECT would pad lists of different lengths with NULLs; unnest one list in a subquery, and the other around it: SELECT *, unnest(b) AS b1 FROM (SELECT *, unnest(a) AS a1 FROM input)",
        ),
        (
            "SELECT a FROM input WHERE unnest(b) = 1",
            "line 1, column 27: unnest can stand in the SELECT list only: unnest in a subquery, and filter around it: SELECT … FROM (SELECT unnest(items) AS item FROM input) WHERE …",
        ),
        ("SELECT a + 1 FROM input", "line 1, column 8: this column has no name; write `a + 1 AS some_name`"),
        (
            "SELECT a, b AS a FROM input",
            "line 1, column 11: there are two columns `a`; give one another name: `… AS a_2`",
        ),
        (
            "SELECT upper(a) AS b, length(b) AS c FROM input",
            "line 1, column 30: `b` is made in this SELECT and cannot be used in it: use it in a SELECT around this one (SELECT … FROM (SELECT *, … AS b FROM …)); if you mean the record's own field, write input.b",
        ),
        (
            "SELECT c FROM (SELECT a, bb FROM input)",
            "line 1, column 8: there is no column `c`; the subquery has `a`, `bb`",
        ),
        (
            "SELECT b FROM (SELECT a, bb FROM input)",
            "line 1, column 8: there is no column `b`; the subquery has `a`, `bb`",
        ),
        (
            "SELECT a FROM (SELECT * EXCLUDE (a) FROM input)",
            "line 1, column 8: there is no column `a`; the subquery leaves it out",
        ),
        (
            "SELECT 'a' * 2 AS x FROM input",
            "line 1, column 8: `*` cannot be applied to 'a', 2; CAST one of them",
        ),
        (
            "SELECT split_part('a', 'b', 'c') AS x, a FROM input",
            "line 1, column 8: split_part cannot be applied to 'a', 'b', 'c'; it is split_part(str, delimiter, pos)",
        ),
        (
            "SELECT split_part(a, 'b', 1, 2) AS x FROM input",
            "line 1, column 8: split_part takes at most 3 arguments, not 4; it is split_part(str, delimiter, pos)",
        ),
        (
            "SELECT column_one FROM (SELECT a, column_1 FROM input)",
            "line 1, column 8: there is no column `column_one`; did you mean `column_1`?",
        ),
        (
            "SELECT regexp_replace(a, '(', '') AS x FROM input",
            "line 1, column 26: '(' is not a regular expression: unclosed group",
        ),
        ("SELECT a FROM input WHERE a = $1", "line 1, column 31: there are no parameters to put in for `$1`"),
        (
            "SELECT CAST(a AS NOSUCHTYPE) AS x FROM input",
            "line 1, column 13: Unsupported SQL type NOSUCHTYPE",
        ),
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
        (
            "SELECT s FROM input WHERE n",
            "! line 1, column 27: WHERE needs a condition, and `n` is of type bigint",
        ),
        (
            "SELECT s * 2 AS x FROM input",
            "! line 1, column 8: `*` cannot be applied to s of type text, 2; CAST one of them",
        ),
        (
            "SELECT\n  n,\n  upper(split_part(o, ':', 1)) AS x FROM input",
            "! line 3, column 9: split_part cannot be applied to o of type object, ':', 1; it is split_part(str, delimiter, pos)",
        ),
        (
            "SELECT o + 1 AS x FROM input",
            "! line 1, column 8: `+` cannot be applied to o of type object, 1; CAST one of them",
        ),
        (
            "SELECT date_trunc('hour', o) AS x FROM input",
            "! line 1, column 8: date_trunc cannot be applied to 'hour', o of type object; it is date_trunc(precision, expression)",
        ),
        (
            "SELECT json_get(o, 'a') AS x FROM input",
            "! line 1, column 8: json_get(o, 'a'): json_get reads JSON text, not object; for objects and lists write a['field'] or a[1] (o of type object, 'a')",
        ),
        (
            "SELECT array_length(n) AS x FROM input",
            "! line 1, column 8: array_length cannot be applied to n of type bigint; it is array_length(array[, dimension])",
        ),
        (
            "SELECT unnest(o) AS x FROM input",
            "! line 1, column 15: unnest takes a list, and `o` is of type object",
        ),
        (
            "SELECT CASE WHEN s THEN 1 END AS x FROM input",
            "! row 0: x: Cannot cast value 'x' to value of Boolean type",
        ),
        (
            "SELECT coalesce(s, o) AS x FROM input",
            "! line 1, column 8: coalesce cannot be applied to s of type text, o of type object; it is coalesce(expression1[, ..., expression_n])",
        ),
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
        let refused = SqlTransform::compile(&sql);
        if let Ok(transform) = refused {
            assert!(sql.contains("['b']"));
            let rows = super::rows("{\"a\":1}", transform.reads(), &[]);
            transform.apply(&rows, &super::pinned()).unwrap();
        }
    }
    let long = format!("SELECT {} AS x FROM input", vec!["a = 'b'"; 150].join(" OR "));
    assert_eq!(outcome(&long, "{\"a\":\"b\"}"), "{\"x\":true}\n");
}
