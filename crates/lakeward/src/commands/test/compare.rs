//! What came out against what is expected.

use serde_json::Value;

use super::cases::Expect;
use super::run::Got;

/// Everything in which the two differ, for people.
pub(super) fn differences(expect: &Expect, got: &Got) -> Vec<String> {
    let mut differences = Vec::new();
    if let Some(rows) = &expect.rows {
        if rows.len() != got.rows.len() {
            differences.push(format!("{} rows expected, {} came", rows.len(), got.rows.len()));
        }
        for (index, (expected, row)) in rows.iter().zip(&got.rows).enumerate() {
            differences.extend(of_rows(index, expected, row, expect.partial));
        }
        differences.extend(got.rows.iter().skip(rows.len()).map(|row| format!("unexpected row {row}")));
    }
    for refused in &expect.quarantined {
        match got.quarantined.iter().find(|one| one.record == refused.record) {
            None => differences.push(format!("record {} is not in quarantine", refused.record)),
            Some(one) if refused.reason.as_ref().is_some_and(|reason| *reason != one.reason) => {
                differences.push(format!("record {} is in quarantine for {}", refused.record, one.reason));
            }
            Some(_) => {}
        }
    }
    for one in &got.quarantined {
        if !expect.quarantined.iter().any(|refused| refused.record == one.record) {
            differences
                .push(format!("record {} is in quarantine: {} ({})", one.record, one.message, one.reason));
        }
    }
    let counts =
        [("filtered", expect.filtered, got.filtered), ("duplicates", expect.duplicates, got.duplicates)];
    for (what, expected, came) in counts {
        if expected.is_some_and(|expected| expected != came) {
            differences.push(format!("{what}: {} expected, {came} came", expected.unwrap_or_default()));
        }
    }
    if let Some(folders) = &expect.folders
        && *folders != got.folders
    {
        differences.push(format!("folders: {folders:?} expected, {:?} came", got.folders));
    }
    differences
}

fn of_rows(index: usize, expected: &Value, row: &Value, partial: bool) -> Vec<String> {
    let (Value::Object(wanted), Value::Object(came)) = (expected, row) else {
        return vec![format!("row {index}: an expected row is an object of columns")];
    };
    let unnamed = came.keys().filter(|name| !partial && !wanted.contains_key(*name));
    let names = wanted.keys().chain(unnamed);
    let of = |row: &serde_json::Map<String, Value>, name: &str| row.get(name).cloned().unwrap_or_default();
    let pairs = names.map(|name| (name, of(wanted, name), of(came, name)));
    pairs
        .filter(|(_, wanted, came)| !same(wanted, came))
        .map(|(name, wanted, came)| format!("row {index}, {name}: {wanted} expected, {came} came"))
        .collect()
}

/// Whether two values are the same: `1` and `1.0` are, and a null is an absent
/// field.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            let null = Value::Null;
            a.keys().chain(b.keys()).all(|k| same(a.get(k).unwrap_or(&null), b.get(k).unwrap_or(&null)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_are_compared_column_by_column() {
        let check = |wanted: Value, came: Value, partial, expect: &[&str]| {
            assert_eq!(of_rows(3, &wanted, &came, partial), expect);
        };
        check(json!({"a": 1}), json!({"a": 1.0}), false, &[]);
        check(json!({"a": 1, "b": null}), json!({"a": 1}), false, &[]);
        check(json!({"a": {"x": [1, null]}}), json!({"a": {"x": [1.0, null], "y": null}}), false, &[]);
        check(json!({"a": 1}), json!({"a": "1"}), false, &["row 3, a: 1 expected, \"1\" came"]);
        check(json!({}), json!({"b": 2}), false, &["row 3, b: null expected, 2 came"]);
        check(json!({}), json!({"b": 2}), true, &[]);
    }
}
