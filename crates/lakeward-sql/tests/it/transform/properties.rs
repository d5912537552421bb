//! What must hold for any records.

use std::collections::HashSet;

use lakeward_columnar::transform::Transform;
use lakeward_sql::SqlTransform;

use super::{pinned, rows, text};

/// Statements that filter, fail, unnest, and do nothing.
const STATEMENTS: &[&str] = &[
    "SELECT * FROM input",
    "SELECT *, n + 1 AS m FROM input WHERE n % 3 <> 0",
    "SELECT id, CAST(s AS BIGINT) AS s FROM input",
    "SELECT *, CAST(s AS BIGINT) * 2 AS t FROM input WHERE n % 2 = 0",
    "SELECT id, unnest(l) AS e, s FROM input WHERE n > 2",
    "SELECT id, e * 10 AS e10 FROM (SELECT *, unnest(l) AS e FROM input) WHERE e <> 3",
    "SELECT id, CAST(s AS BIGINT) + unnest(l) AS e FROM input",
    "SELECT id, upper(s) AS u, o.k, o['v'] AS v FROM input WHERE s ~ '^[0-9]+$' AND CAST(s AS BIGINT) > 40",
    "SELECT 1 / n AS q, id FROM input",
    "SELECT id, unnest(l) AS e, unnest(l) + n AS f FROM (SELECT * FROM input WHERE n > 0)",
];

/// Records in which every seventh text is no number, drawn from a seed.
fn records(count: u64, seed: u64) -> String {
    let mut state = seed | 1;
    let mut next = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut lines = String::new();
    for id in 0..count {
        let s = if next(7) == 0 { format!("x{}", next(9)) } else { next(100).to_string() };
        let list: Vec<String> = (0..next(4)).map(|_| next(6).to_string()).collect();
        let list = if next(5) == 0 { String::from("null") } else { format!("[{}]", list.join(",")) };
        lines += &format!(
            "{{\"id\":{id},\"n\":{},\"s\":\"{s}\",\"l\":{list},\"o\":{{\"k\":\"k{}\",\"v\":{}}}}}\n",
            next(10),
            next(3),
            next(5)
        );
    }
    lines
}

#[test]
fn what_a_row_gives_does_not_depend_on_the_rows_around_it() {
    for (sql, seed) in STATEMENTS.iter().zip(3..) {
        let transform = SqlTransform::compile(sql).unwrap();
        // More than one slice.
        let whole = rows(&records(20_000, seed), transform.reads(), &[]);
        let all = transform.apply(&whole, &pinned()).unwrap();
        assert_eq!(all.rows.num_rows(), all.sources.len());
        assert!(all.sources.is_sorted());
        let failed: HashSet<u32> = all.failed.iter().map(|failed| failed.row).collect();
        assert!(all.failed.is_sorted_by(|a, b| a.row < b.row), "{sql}");
        assert!(all.sources.iter().all(|row| !failed.contains(row)), "{sql}");
        let (mut lines, mut sources, mut failures) = (String::new(), Vec::new(), Vec::new());
        let mut from = 0;
        for step in [1, 2, 3, 997, 16_384, 5].into_iter().cycle() {
            if from >= whole.num_rows() {
                break;
            }
            let count = step.min(whole.num_rows() - from);
            let part = transform.apply(&whole.slice(from, count), &pinned()).unwrap();
            lines += &text(&part.rows);
            sources.extend(part.sources.iter().map(|row| row + u32::try_from(from).unwrap()));
            failures.extend(part.failed.into_iter().map(|mut failed| {
                failed.row += u32::try_from(from).unwrap();
                failed
            }));
            from += count;
        }
        assert!(text(&all.rows) == lines, "{sql}");
        assert_eq!(all.sources, sources, "{sql}");
        assert_eq!(all.failed, failures, "{sql}");
    }
}

/// The rows that fail are those of which the text is no number.
#[test]
fn exactly_the_rows_at_fault_fail() {
    let lines = records(5_000, 99);
    let expected: Vec<u32> =
        lines.lines().zip(0..).filter(|(line, _)| line.contains("\"s\":\"x")).map(|(_, row)| row).collect();
    assert!(expected.len() > 500);
    let transform = SqlTransform::compile("SELECT CAST(s AS BIGINT) AS s FROM input").unwrap();
    let done = transform.apply(&rows(&lines, transform.reads(), &[]), &pinned()).unwrap();
    assert_eq!(done.failed.iter().map(|failed| failed.row).collect::<Vec<_>>(), expected);
    assert_eq!(done.rows.num_rows(), 5_000 - expected.len());
    assert!(done.failed[0].message.starts_with("s: Cannot cast string 'x"), "{:?}", done.failed[0]);
}

#[test]
fn chance_is_pinned_and_differs_by_row_call_and_batch() {
    let sql = "SELECT id, uuid() AS a, uuid() AS b, random() AS r, unnest(l) AS e FROM input";
    let lines = records(3_000, 5);
    let once = |batch: u128| {
        let transform = SqlTransform::compile(sql).unwrap();
        let mut pinned = pinned();
        pinned.batch = lakeward_model::BatchId(uuid::Uuid::from_u128(batch));
        let input = rows(&lines, transform.reads(), &[]);
        let first = text(&transform.apply(&input, &pinned).unwrap().rows);
        assert!(first == text(&transform.apply(&input, &pinned).unwrap().rows));
        first
    };
    let (one, again, other) = (once(1), once(1), once(2));
    assert!(one == again);
    assert!(one != other);
    let mut seen = HashSet::new();
    let mut sum = 0.0;
    for line in one.lines().chain(other.lines()) {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        for key in ["a", "b"] {
            let id = uuid::Uuid::parse_str(row[key].as_str().unwrap()).unwrap();
            assert_eq!(id.get_version_num(), 4);
            assert!(seen.insert(id), "{line}");
        }
        let random = row["r"].as_f64().unwrap();
        assert!((0.0..1.0).contains(&random));
        sum += random;
    }
    let mean = sum / (seen.len() / 2) as f64;
    assert!((0.47..0.53).contains(&mean), "{mean}");
}

#[test]
fn a_program_follows_its_columns_and_its_time() {
    let transform = SqlTransform::compile("SELECT a, now() AS at FROM input").unwrap();
    let run = |line: &str, micros: i64| {
        let mut pinned = pinned();
        pinned.now = lakeward_model::Timestamp(micros);
        text(&transform.apply(&rows(line, transform.reads(), &[]), &pinned).unwrap().rows)
    };
    assert_eq!(run("{\"a\":1}", 0), "{\"a\":1,\"at\":\"1970-01-01T00:00:00\"}\n");
    assert_eq!(run("{\"a\":\"x\"}", 0), "{\"a\":\"x\",\"at\":\"1970-01-01T00:00:00\"}\n");
    assert_eq!(run("{\"a\":1}", 1_000_000), "{\"a\":1,\"at\":\"1970-01-01T00:00:01\"}\n");
    assert_eq!(run("{}", 1_000_000), "{\"at\":\"1970-01-01T00:00:01\"}\n");
}

/// Limits count a row's own bytes, not those of the buffers that it shares.
#[test]
fn large_batches_are_no_large_rows() {
    let pad = "p".repeat(3_000);
    let lines: String = (0..40_000)
        .map(|id| format!("{{\"o\":{{\"pad\":\"{pad}\",\"id\":{id}}},\"l\":[1,2,3]}}\n"))
        .collect();
    let rows = rows(&lines, None, &[]);
    for (sql, expected) in [
        ("SELECT o['id'] AS id, unnest(l) AS e FROM input", 120_000),
        ("SELECT o['id'] + 1 AS id, o['pad'] AS pad FROM input WHERE l[1] = 1", 40_000),
    ] {
        let done = SqlTransform::compile(sql).unwrap().apply(&rows, &pinned()).unwrap();
        assert_eq!((done.rows.num_rows(), done.failed.len()), (expected, 0), "{sql}");
    }
    // One record that would fill the memory fails alone.
    let list: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
    let lines = format!(
        "{{\"l\":[1],\"t\":\"x\"}}\n{{\"l\":[{}],\"t\":\"{pad}\"}}\n{{\"l\":[2],\"t\":\"y\"}}\n",
        list.join(",")
    );
    let transform = SqlTransform::compile("SELECT upper(t) AS t, unnest(l) AS e FROM input").unwrap();
    let done = transform.apply(&super::rows(&lines, None, &[]), &pinned()).unwrap();
    assert_eq!(text(&done.rows), "{\"t\":\"X\",\"e\":1}\n{\"t\":\"Y\",\"e\":2}\n");
    assert_eq!(done.failed.len(), 1);
    assert!(done.failed[0].message.starts_with("unnest would make 289 MiB of it"), "{:?}", done.failed[0]);
    // The list itself is not repeated for each of its elements, unless it is asked for.
    let count = |sql: &str| {
        let done =
            SqlTransform::compile(sql).unwrap().apply(&super::rows(&lines, None, &[]), &pinned()).unwrap();
        (done.rows.num_rows(), done.failed.len())
    };
    assert_eq!(count("SELECT unnest(l) AS e FROM input"), (100_002, 0));
    assert_eq!(count("SELECT *, unnest(l) AS e FROM input"), (2, 1));
}
