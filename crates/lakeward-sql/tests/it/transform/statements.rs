//! Statements and what they make of records.

use super::{outcome, outcome_json};

/// Checks `(statement, lines in, lines out)`.
fn check(cases: &[(&str, &str, &str)]) {
    let mut wrong = String::new();
    for (sql, lines, expected) in cases {
        let got = outcome(sql, lines);
        if got.trim_end() != *expected {
            wrong += &format!(
                "{sql}\n  in:       {lines}\n  expected: {expected}\n  got:      {}\n",
                got.trim_end()
            );
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

const EVENT: &str = r#"{"flagKey":"web-checkout","ctx":{"tier":"premium","n":{"deep":[10,20]}},"tags":["a","b"],"n":3,"f":1.5,"b":true,"s":"2024-01-15T14:30:00.123456+02:00"}"#;

#[test]
fn columns_and_fields() {
    check(&[
        ("SELECT flagKey FROM input", EVENT, r#"{"flagKey":"web-checkout"}"#),
        ("SELECT flagkey FROM input", EVENT, "{}"),
        ("select i.flagKey as k from INPUT as i", EVENT, r#"{"k":"web-checkout"}"#),
        ("SELECT input.ctx.tier FROM input", EVENT, r#"{"tier":"premium"}"#),
        ("SELECT ctx['tier'] FROM input", EVENT, r#"{"tier":"premium"}"#),
        (r#"SELECT ctx["tier"], ctx.n['deep'] AS d FROM input"#, EVENT, r#"{"tier":"premium","d":[10,20]}"#),
        (
            "SELECT ctx['n']['deep'][1] AS one, ctx.n.deep[-1] AS last, ctx.n.deep[3] AS none FROM input",
            EVENT,
            r#"{"one":10,"last":20}"#,
        ),
        (
            "SELECT ctx['nothing']['there'] AS x, nothing['there'] AS y, nothing[1] AS z, n['x'] AS w FROM input",
            EVENT,
            "{}",
        ),
        ("SELECT tags[1] AS t, tags['x'] AS u, ctx[1] AS v FROM input", EVENT, r#"{"t":"a"}"#),
        ("SELECT * FROM input", r#"{"a":1,"b":{"c":2}}"#, r#"{"a":1,"b":{"c":2}}"#),
        ("SELECT *, a + 1 AS a1 FROM input", r#"{"a":1}"#, r#"{"a":1,"a1":2}"#),
        ("SELECT *, a + 1 AS a FROM input", r#"{"a":1,"b":2}"#, r#"{"b":2,"a":2}"#),
        ("SELECT *, missing FROM input", r#"{"a":1}"#, r#"{"a":1}"#),
        ("SELECT * EXCLUDE (a, gone) FROM input", r#"{"a":1,"b":2}"#, r#"{"b":2}"#),
        ("SELECT * EXCEPT (a) FROM input", r#"{"a":1,"b":2}"#, r#"{"b":2}"#),
        ("SELECT * REPLACE (a * 2 AS a) FROM input", r#"{"a":1,"b":2}"#, r#"{"a":2,"b":2}"#),
        ("SELECT * RENAME (a AS x) FROM input", r#"{"a":1,"b":2}"#, r#"{"x":1,"b":2}"#),
        ("SELECT x.* FROM input x", r#"{"a":1}"#, r#"{"a":1}"#),
        (
            "SELECT a FROM (SELECT * FROM input) WHERE b > 1",
            "{\"a\":1,\"b\":1}\n{\"a\":2,\"b\":2}\n",
            r#"{"a":2}"#,
        ),
        (
            "WITH big AS (SELECT a, b * 2 AS c FROM input WHERE b > 1) SELECT a, c FROM big WHERE c < 6",
            "{\"a\":1,\"b\":1}\n{\"a\":2,\"b\":2}\n{\"a\":3,\"b\":3}\n",
            r#"{"a":2,"c":4}"#,
        ),
        ("SELECT \"flag key\" AS k FROM input", r#"{"flag key":"x"}"#, r#"{"k":"x"}"#),
        (
            "SELECT timestamp, date, value FROM input",
            r#"{"timestamp":"t","date":"d","value":1}"#,
            r#"{"timestamp":"t","date":"d","value":1}"#,
        ),
        ("SELECT _rescued FROM input", r#"{"a":1,"a":2}"#, r#"{}"#),
        (
            "SELECT 1 AS one, NULL AS nothing, 'x' AS x FROM input",
            "{}\n{}\n",
            "{\"one\":1,\"x\":\"x\"}\n{\"one\":1,\"x\":\"x\"}",
        ),
        (
            "SELECT DATE '2024-01-31' AS d, INTERVAL '1 day' IS NULL AS i FROM input",
            "{}",
            r#"{"d":"2024-01-31","i":false}"#,
        ),
    ]);
}

#[test]
fn missing_columns_are_null_whatever_is_done_with_them() {
    for expr in [
        "x",
        "x + 1",
        "upper(x)",
        "split_part(x, ':', 1)",
        "date_trunc('hour', x)",
        "date_part('year', x)",
        "to_timestamp(x)",
        "to_timestamp_millis(x)",
        "array_length(x)",
        "x['a']['b']",
        "x[1]",
        "abs(x)",
        "x || 'a'",
        "regexp_replace(x, 'a', 'b')",
        "sha256_hex(x)",
        "json_get(x, 'a')",
        "json_get_int(x, 'a')",
        "to_json(x)",
        "x - y",
        "CAST(x AS BIGINT)",
        "TRY_CAST(x AS DOUBLE)",
        "CAST(x AS TIMESTAMP)",
        "nullif(x, 'a')",
        "coalesce(x, y)",
        "CASE WHEN x THEN 1 END",
        "CASE x WHEN 'a' THEN 1 END",
        "x LIKE 'a%'",
        "x ~ 'a'",
        "x > 1",
        "x = 'a'",
        "x IN ('a', 'b')",
        "x BETWEEN 1 AND 2",
        "NOT x",
        "x AND y",
        "to_char(x, '%Y')",
        "round(x, 2)",
        "array_to_string(x, ',')",
        "extract(year FROM x)",
        "from_unixtime(x)",
        "x AT TIME ZONE 'Europe/Berlin'",
        "encode(sha256(x), 'hex')",
        "to_timestamp(x, '%Y')",
        "length(x)",
        "-x",
        "substr(x, 1, 2)",
        "x::date",
        "string_to_array(x, ',')",
        "array_has(x, 'a')",
        "x -> 'a'",
        "x ->> 'a'",
        "trim(x)",
        "to_date(x)",
        "date_bin(INTERVAL '1 hour', x)",
        "x + INTERVAL '1 day'",
        "greatest(x, y)",
        "to_unixtime(x)",
    ] {
        let sql = format!("SELECT {expr} AS y FROM input");
        assert_eq!(outcome(&sql, "{\"a\":1}"), "{}\n", "{sql}");
        assert_eq!(
            outcome(&format!("SELECT a FROM input WHERE ({expr}) IS NOT NULL"), "{\"a\":1}"),
            "",
            "{sql}"
        );
    }
    assert_eq!(outcome("SELECT unnest(x) AS y FROM input", "{\"a\":1}"), "");
    assert_eq!(outcome("SELECT unnest(x)['b'] AS y, a FROM input", "{\"a\":1}"), "");
}

#[test]
fn text_functions() {
    check(&[
        (
            "SELECT split_part(flagKey, '-', 1) AS a, SPLIT_PART(flagKey, '-', 9) AS z, upper(flagKey) AS u FROM input",
            EVENT,
            r#"{"a":"web","z":"","u":"WEB-CHECKOUT"}"#,
        ),
        (
            "SELECT regexp_replace(flagKey, '(.*)-(.*)', '$2-$1') AS r, regexp_like(flagKey, '^web') AS l, regexp_match(flagKey, '-(.+)')[1] AS m, regexp_count(flagKey, 'e') AS c FROM input",
            EVENT,
            r#"{"r":"checkout-web","l":true,"m":"checkout","c":2}"#,
        ),
        (
            "SELECT flagKey ~ 'check' AS a, flagKey LIKE 'web%' AS b, flagKey ILIKE 'WEB%' AS c, flagKey || '!' AS d FROM input",
            EVENT,
            r#"{"a":true,"b":true,"c":true,"d":"web-checkout!"}"#,
        ),
        (
            "SELECT coalesce(nothing, flagKey, 'x') AS a, nullif(flagKey, 'web-checkout') AS b, CASE WHEN n > 2 THEN 'big' ELSE 'small' END AS c FROM input",
            EVENT,
            r#"{"a":"web-checkout","c":"big"}"#,
        ),
        (
            "SELECT sha256_hex('abc') AS a, encode(sha256('abc'), 'hex') AS b FROM input",
            "{}",
            r#"{"a":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","b":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}"#,
        ),
        (
            "SELECT lpad(CAST(n AS VARCHAR), 2, '0') AS p, trim(' a ') AS t, substr(flagKey, 1, 3) AS s, length(flagKey) AS l, replace(flagKey, '-', '_') AS r FROM input",
            EVENT,
            r#"{"p":"03","t":"a","s":"web","l":12,"r":"web_checkout"}"#,
        ),
        (
            "SELECT array_length(tags) AS n, array_has(tags, 'b') AS h, array_to_string(tags, '+') AS s, cardinality(tags) AS c FROM input",
            EVENT,
            r#"{"n":2,"h":true,"s":"a+b","c":2}"#,
        ),
        (
            "SELECT CAST(n AS VARCHAR) AS a, CAST('12' AS BIGINT) AS b, TRY_CAST(flagKey AS BIGINT) AS c, n::double AS d, f::int AS e FROM input",
            EVENT,
            r#"{"a":"3","b":12,"d":3.0,"e":1}"#,
        ),
    ]);
}

#[test]
fn times() {
    check(&[
        ("SELECT to_timestamp(s) AS t FROM input", EVENT, r#"{"t":"2024-01-15T12:30:00.123456"}"#),
        (
            "SELECT to_timestamp(s) AS t FROM input",
            r#"{"s":"2024-01-15 14:30:00.123456"}"#,
            r#"{"t":"2024-01-15T14:30:00.123456"}"#,
        ),
        (
            "SELECT to_timestamp(s) AS t FROM input",
            r#"{"s":"2024-01-15T14:30:00Z"}"#,
            r#"{"t":"2024-01-15T14:30:00"}"#,
        ),
        ("SELECT to_timestamp(s) AS t FROM input", r#"{"s":1705329000}"#, r#"{"t":"2024-01-15T14:30:00"}"#),
        (
            "SELECT to_timestamp(s) AS t FROM input",
            r#"{"s":1712518962.123456}"#,
            r#"{"t":"2024-04-07T19:42:42.123456"}"#,
        ),
        (
            "SELECT to_timestamp_seconds(1705329000) AS a, to_timestamp_millis(1705329000123) AS b, to_timestamp_micros(1705329000123456) AS c FROM input",
            "{}",
            r#"{"a":"2024-01-15T14:30:00","b":"2024-01-15T14:30:00.123","c":"2024-01-15T14:30:00.123456"}"#,
        ),
        (
            "SELECT to_timestamp('15/01/2024 10:05', '%d/%m/%Y %H:%M') AS t FROM input",
            "{}",
            r#"{"t":"2024-01-15T10:05:00"}"#,
        ),
        (
            "SELECT date_trunc('hour', to_timestamp(s)) AS h, date_part('year', to_timestamp(s)) AS y, extract(hour FROM to_timestamp(s)) AS x, to_char(to_timestamp(s), '%Y/%m/%d') AS c FROM input",
            EVENT,
            r#"{"h":"2024-01-15T12:00:00","y":2024,"x":12,"c":"2024/01/15"}"#,
        ),
        (
            "SELECT now() AS a, current_timestamp AS b, current_date AS c, today() AS d, now() - INTERVAL '1 hour' AS e FROM input",
            "{}",
            r#"{"a":"2024-01-15T14:30:00.5","b":"2024-01-15T14:30:00.5","c":"2024-01-15","d":"2024-01-15","e":"2024-01-15T13:30:00.5"}"#,
        ),
        ("SELECT now() - to_timestamp(s) > INTERVAL '1 hour' AS late FROM input", EVENT, r#"{"late":true}"#),
        (
            "SELECT to_timestamp(s) AT TIME ZONE 'Europe/Berlin' AS t, extract(hour FROM to_timestamp(s) AT TIME ZONE 'UTC' AT TIME ZONE 'Europe/Berlin') AS h FROM input",
            EVENT,
            r#"{"t":"2024-01-15T11:30:00.123456Z","h":13}"#,
        ),
        (
            "SELECT to_unixtime(to_timestamp(s)) AS t, to_date(s) AS d FROM input",
            EVENT,
            r#"{"t":1705321800,"d":"2024-01-15"}"#,
        ),
    ]);
}

#[test]
fn unnest_makes_rows() {
    let order = "{\"id\":1,\"items\":[{\"sku\":\"a\",\"n\":1},{\"sku\":\"b\",\"n\":2}]}\n{\"id\":2,\"items\":[]}\n{\"id\":3,\"items\":null}\n{\"id\":4,\"items\":[{\"sku\":\"c\"},null]}\n";
    check(&[
        (
            "SELECT id, unnest(items)['sku'] AS sku FROM input",
            order,
            "{\"id\":1,\"sku\":\"a\"}\n{\"id\":1,\"sku\":\"b\"}\n{\"id\":4,\"sku\":\"c\"}\n{\"id\":4}",
        ),
        (
            "SELECT id, item.sku, item['n'] * 2 AS n2 FROM (SELECT id, unnest(items) AS item FROM input) WHERE item.n > 1",
            order,
            "{\"id\":1,\"sku\":\"b\",\"n2\":4}",
        ),
        (
            "SELECT unnest(items)['sku'] AS sku, unnest(items)['n'] AS n FROM input WHERE id = 1",
            order,
            "{\"sku\":\"a\",\"n\":1}\n{\"sku\":\"b\",\"n\":2}",
        ),
        (
            "SELECT a, unnest(b) AS b FROM (SELECT unnest(a) AS a, b FROM input)",
            r#"{"a":[1,2],"b":["x","y"]}"#,
            "{\"a\":1,\"b\":\"x\"}\n{\"a\":1,\"b\":\"y\"}\n{\"a\":2,\"b\":\"x\"}\n{\"a\":2,\"b\":\"y\"}",
        ),
        (
            "SELECT * EXCLUDE (items), unnest(items) AS item FROM input WHERE id = 1",
            order,
            "{\"id\":1,\"item\":{\"sku\":\"a\",\"n\":1}}\n{\"id\":1,\"item\":{\"sku\":\"b\",\"n\":2}}",
        ),
        (
            "SELECT unnest(json_array(p)) AS e FROM input",
            r#"{"p":"[1,{\"a\":2},null,\"x\"]"}"#,
            "{\"e\":1}\n{\"e\":{\"a\":2}}\n{}\n{\"e\":\"x\"}",
        ),
        (
            "SELECT upper(unnest(string_to_array(p, ','))) AS e FROM input",
            r#"{"p":"a,b"}"#,
            "{\"e\":\"A\"}\n{\"e\":\"B\"}",
        ),
        (
            "SELECT 1 AS one FROM (SELECT unnest(items) AS item FROM input)",
            order,
            "{\"one\":1}\n{\"one\":1}\n{\"one\":1}\n{\"one\":1}",
        ),
        (
            "SELECT unnest(id) AS x FROM input",
            order,
            "! line 1, column 15: unnest takes a list, and `id` is of type bigint",
        ),
    ]);
}

#[test]
fn json_text() {
    let payload = r#"{"p":"{\"a\":{\"b\":[1,\"x\",{\"c\":true}]},\"n\":2.5,\"i\":7,\"s\":\"t\\\"q\",\"z\":null,\"a\":0}"}"#;
    check(&[
        (
            "SELECT p['s'] AS s, p.i AS i, p['a']['b'][2] AS x, p['a']['b'] AS l, p['z'] AS z, p['q']['r'] AS q FROM input",
            payload,
            r#"{"s":"t\"q","i":"7","x":"x","l":"[1,\"x\",{\"c\":true}]"}"#,
        ),
        (
            "SELECT json_get(p, 'a', 'b', 2) AS j, json_get(p, 's') AS s, json_get_str(p, 's') AS t, json_get_int(p, 'i') AS i, json_get_float(p, 'n') AS f, json_get_bool(p, 'a', 'b', 2, 'c') AS b, json_get_int(p, 'n') AS none FROM input",
            payload,
            r#"{"j":{"c":true},"s":"t\"q","t":"t\"q","i":7,"f":2.5,"b":true}"#,
        ),
        (
            "SELECT p -> 'a' AS a, p ->> 's' AS s FROM input",
            payload,
            r#"{"a":{"b":[1,"x",{"c":true}]},"s":"t\"q"}"#,
        ),
        (
            "SELECT json_get(p, 'a') AS a, p['a'] AS b FROM input",
            "{\"p\":\"no json\"}\n{\"p\":\"{\\\"a\\\":\"}\n{\"p\":\"\"}\n",
            "{}\n{}\n{}",
        ),
        (
            "SELECT to_json(o) AS o, to_json(l) AS l, to_json(n) AS n, to_json(s) AS s FROM input",
            "{\"o\":{\"a\":1,\"b\":[\"x\"]},\"l\":[1,2],\"n\":1.5,\"s\":\"t\\\"q\"}\n{}\n",
            "{\"o\":{\"a\":1,\"b\":[\"x\"]},\"l\":[1,2],\"n\":1.5,\"s\":\"t\\\"q\"}\n{}",
        ),
        (
            "SELECT json_array(p) AS l FROM input",
            "{\"p\":\"[1,2]\"}\n{\"p\":\"{}\"}\n",
            "{\"l\":[1,2]}\n! row 1: l: this is not a JSON array: {}",
        ),
        (
            "SELECT unnest(json_entries(p)) AS e FROM input",
            r#"{"p":"{\"b\": {\"x\": 1.50},\"a\\n\\u00e9\":null,\"b\":2}"}"#,
            "{\"e\":{\"key\":\"b\",\"value\":{\"x\": 1.50}}}\n{\"e\":{\"key\":\"a\\né\",\"value\":null}}",
        ),
        (
            "SELECT json_entries(p) AS l FROM input",
            "{\"p\":\"{}\"}\n{\"p\":\"null\"}\n{\"p\":\"[1]\"}\n{\"p\":\"{\\\"a\\\":\"}\n",
            "{\"l\":[]}\n{}\n! row 2: l: this is not a JSON object: [1]\n! row 3: l: this is not a JSON object: {\"a\":",
        ),
    ]);
    // A column that is kept as JSON text reads like an object.
    let any = "{\"v\":{\"a\":[{\"b\":1}]}}\n{\"v\":[1,2]}\n{\"v\":\"text\"}\n{\"v\":5}\n";
    assert_eq!(outcome_json("SELECT v FROM input", any, &["v"]), any);
    assert_eq!(
        outcome_json("SELECT v['a'][1]['b'] AS b, v[2] AS e FROM input", any, &["v"]),
        "{\"b\":\"1\"}\n{\"e\":\"2\"}\n{}\n{}\n"
    );
    assert_eq!(
        outcome_json("SELECT unnest(v) AS e FROM input", any, &["v"]),
        "{\"e\":1}\n{\"e\":2}\n! row 0: unnest: this is not a JSON array: {\"a\":[{\"b\":1}]}\n! row 2: unnest: this is not a JSON array: \"text\"\n! row 3: unnest: this is not a JSON array: 5\n"
    );
    assert_eq!(
        outcome_json("SELECT e['b'] AS b FROM (SELECT unnest(v['a']) AS e FROM input)", any, &["v"]),
        "{\"b\":\"1\"}\n"
    );
}

#[test]
fn rows_that_fail_are_set_apart() {
    check(&[
        (
            "SELECT CAST(a AS BIGINT) AS n FROM input",
            "{\"a\":\"1\"}\n{\"a\":\"x\"}\n{\"a\":\"3\"}\n",
            "{\"n\":1}\n{\"n\":3}\n! row 1: n: Cannot cast string 'x' to value of Int64 type",
        ),
        (
            "SELECT to_timestamp(a) AS t FROM input",
            "{\"a\":\"2024-01-01\"}\n{\"a\":\"yesterday\"}\n",
            "{\"t\":\"2024-01-01T00:00:00\"}\n! row 1: t: Error parsing timestamp from 'yesterday': timestamp must contain at least 10 characters",
        ),
        (
            "SELECT to_timestamp(a) AS t FROM input",
            "{\"a\":1.5}\n{\"a\":1e300}\n",
            "{\"t\":\"1970-01-01T00:00:01.5\"}\n! row 1: t: 1e300 is no time in seconds since 1970; for milliseconds there is to_timestamp_millis",
        ),
        (
            "SELECT a / b AS q FROM input",
            "{\"a\":4,\"b\":2}\n{\"a\":1,\"b\":0}\n",
            "{\"q\":2}\n! row 1: q: division by zero",
        ),
        (
            "SELECT a + b AS q, a * b AS r FROM input",
            "{\"a\":4,\"b\":2}\n{\"a\":9223372036854775807,\"b\":2}\n",
            "{\"q\":6,\"r\":8}\n! row 1: q: Overflow happened on: 9223372036854775807 + 2",
        ),
        (
            "SELECT a FROM input WHERE CAST(a AS BIGINT) > 1",
            "{\"a\":\"1\"}\n{\"a\":\"x\"}\n{\"a\":\"3\"}\n",
            "{\"a\":\"3\"}\n! row 1: WHERE: Cannot cast string 'x' to value of Int64 type",
        ),
        // Left to right, so that a condition can guard what follows it.
        (
            "SELECT a FROM input WHERE a ~ '^[0-9]+$' AND CAST(a AS BIGINT) > 1",
            "{\"a\":\"1\"}\n{\"a\":\"x\"}\n{\"a\":\"3\"}\n",
            "{\"a\":\"3\"}",
        ),
        (
            "SELECT CASE WHEN a ~ '^[0-9]+$' THEN CAST(a AS BIGINT) END AS n FROM input",
            "{\"a\":\"1\"}\n{\"a\":\"x\"}\n",
            "{\"n\":1}\n{}",
        ),
        (
            "SELECT CAST(a AS BIGINT) AS n FROM (SELECT * FROM input WHERE a ~ '^[0-9]+$')",
            "{\"a\":\"1\"}\n{\"a\":\"x\"}\n",
            "{\"n\":1}",
        ),
        (
            "SELECT CAST(a AS INT) AS n FROM input",
            "{\"a\":1}\n{\"a\":3000000000}\n",
            "{\"n\":1}\n! row 1: n: Can't cast value 3000000000 to type Int32",
        ),
        (
            "SELECT id, CAST(unnest(a) AS BIGINT) AS n FROM input",
            "{\"id\":0,\"a\":[\"1\",\"x\"]}\n{\"id\":1,\"a\":[\"2\"]}\n",
            "{\"id\":1,\"n\":2}\n! row 0: n: Cannot cast string 'x' to value of Int64 type",
        ),
    ]);
}

/// Rows are worked on some thousand at a time, so that columns start in the
/// middle of their buffers: booleans within a byte.
#[test]
fn fields_of_objects_that_are_not_there_in_many_rows() {
    let line = |n: u32| match n % 3 {
        0 => format!("{{\"n\":{n}}}\n"),
        1 => format!(
            "{{\"n\":{n},\"r\":{{\"ok\":true,\"s\":\"x\",\"f\":1.5,\"l\":[1],\"o\":{{\"no\":false}}}}}}\n"
        ),
        _ => format!("{{\"n\":{n},\"r\":{{\"s\":\"y\"}}}}\n"),
    };
    let lines: String = (0..30_000).map(line).collect();
    let sql = "SELECT n, r.ok AS ok, r.s AS s, r.f AS f, r.l AS l, r.o.no AS no FROM input";
    let done = super::apply(sql, &lines, &[]).unwrap();
    assert!(done.failed.is_empty(), "{} failed: {}", done.failed.len(), done.failed[0].message);
    let text = super::text(&done.rows);
    for (n, line) in (0_u32..).zip(text.lines()) {
        let expect = match n % 3 {
            0 => format!("{{\"n\":{n}}}"),
            1 => format!("{{\"n\":{n},\"ok\":true,\"s\":\"x\",\"f\":1.5,\"l\":[1],\"no\":false}}"),
            _ => format!("{{\"n\":{n},\"s\":\"y\"}}"),
        };
        assert_eq!(line, expect);
    }
    assert_eq!(text.lines().count(), 30_000);
}
