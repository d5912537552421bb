//! Whether a table is such that loading it again and again changes nothing, and
//! what has to be done so that it becomes one: always the exact statement.

use lakeward_model::{BATCH_COLUMN, Column, Format, ROW_COLUMN};

use super::insert::Loading;
use super::inspect::{Found, FoundColumn, window_setting};
use super::types::{self, Fit};
use super::{WINDOW, quote, statements};

/// Without lineage a table has to remember at least so many inserts.
const WINDOW_MIN: u64 = 100;
/// And, where there is a limit in time, so long that an outage fits in.
const WINDOW_SECONDS_MIN: u64 = 86_400;

/// What stands in the way, and what is only good to know.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// Each with what to do.
    pub(super) problems: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// How a table's columns and those of a batch stand to each other.
#[derive(Debug)]
pub(super) struct Columns {
    /// Parts of an `ALTER TABLE` that the batch waits for.
    pub(super) alters: Vec<String>,
    /// What no `ALTER` of ours mends.
    pub(super) problems: Vec<String>,
    /// How files go in; `None` if something stands in the way.
    pub(super) loading: Option<Loading>,
}

/// Whether the engine, and what it remembers, are enough. `table` is its name,
/// quoted.
pub(super) fn engine(found: &Found, table: &str, lineage: bool) -> Findings {
    let mut findings = Findings::default();
    let Found { engine, window, window_seconds, .. } = found;
    let folds = ["Summing", "Aggregating", "Collapsing", "Graphite", "Coalescing"];
    let setting = window_setting(engine);
    if setting.is_none() && engine != "Distributed" {
        findings.problems.push(format!(
            "{table} is a {engine}: a retry cannot be told from new rows there. Load a table of the MergeTree family"
        ));
        return findings;
    }
    if lineage && folds.iter().any(|kind| engine.contains(kind)) {
        findings.problems.push(format!(
            "{table} is a {engine}, which folds rows together, so their lineage is lost: set lineage: false, or load a \
             MergeTree and fold in a materialized view"
        ));
    }
    match (setting, *window) {
        (Some(setting), None | Some(0..WINDOW_MIN)) => {
            let now = window.map_or_else(|| "unknown".into(), |window| window.to_string());
            let alter = format!("ALTER TABLE {table} MODIFY SETTING {setting} = {WINDOW}");
            if lineage {
                findings.warnings.push(format!(
                    "{table} remembers few inserts ({setting} is {now}); rows are known by their lineage. Better: {alter}"
                ));
            } else {
                findings.problems.push(format!(
                    "{table} remembers too few inserts ({setting} is {now}): a retry would load rows twice. \
                     {alter}; or set lineage: true"
                ));
            }
        }
        (None, _) if !lineage => findings.problems.push(format!(
            "{table} is {engine}, whose memory of inserts cannot be seen: a retry might load rows twice. Set lineage: true"
        )),
        _ => {}
    }
    if let (Some(setting), Some(0..WINDOW_SECONDS_MIN), false) = (setting, *window_seconds, lineage) {
        findings.warnings.push(format!(
            "{table} remembers inserts for {}s only: a retry after a longer outage would load rows twice. \
             ALTER TABLE {table} MODIFY SETTING {setting}_seconds = 604800; or set lineage: true",
            window_seconds.unwrap_or(0)
        ));
    }
    views(found, lineage, &mut findings);
    findings
}

/// A view's table that forgets inserts counts a retry twice (contract, 3.2,
/// measurement 6).
fn views(found: &Found, lineage: bool, findings: &mut Findings) {
    for view in &found.views {
        let setting = window_setting(&view.engine);
        if setting.is_none() && !lineage {
            findings.warnings.push(format!(
                "the materialized view {} writes to {}, a {:?} table that may count a retry twice",
                view.name, view.target, view.engine
            ));
        }
        let (Some(setting), None | Some(0..WINDOW_MIN)) = (setting, view.window) else { continue };
        let alter = format!("ALTER TABLE {} MODIFY SETTING {setting} = {WINDOW}", view.target);
        let what = format!(
            "the materialized view {} writes to {}, which remembers {} inserts",
            view.name,
            view.target,
            view.window.unwrap_or(0)
        );
        if lineage {
            findings.warnings.push(format!(
                "{what}: it may count rows twice if the server dies in the middle of an insert. Better: {alter}"
            ));
        } else {
            findings.problems.push(format!("{what}: a retry would be counted twice there. {alter}"));
        }
    }
}

/// How the columns of files of `format` go into the table.
pub(super) fn columns(found: &Found, wanted: &[Column], format: Format, evolves: bool) -> Columns {
    let (mut alters, mut problems, mut fits) = (Vec::new(), Vec::new(), Vec::new());
    for column in wanted {
        let Some(there) = found.columns.iter().find(|there| there.name == column.name) else {
            alters.push(statements::add_column(column));
            if column.name == BATCH_COLUMN && found.engine.ends_with("MergeTree") {
                alters.push(statements::add_index());
            }
            continue;
        };
        if matches!(there.default_kind.as_str(), "MATERIALIZED" | "ALIAS") {
            problems.push(format!(
                "the column {} is {} in the table, which nothing can be loaded into: leave it out of the data (sql)",
                quote::name(&column.name),
                there.default_kind
            ));
            continue;
        }
        let fit = types::fit(&quote::name(&column.name), &column.ty, &there.ty, format);
        let wide = statements::widened(&there.ty, &column.ty);
        match (fit, wide) {
            // A float goes into an integer as long as it is one.
            (fit @ Fit::Cast(_), wide) if !evolves || wide.is_none() || is_key(found, there) => {
                fits.push((column, fit));
            }
            (Fit::Exact, _) => fits.push((column, Fit::Exact)),
            (_, Some(wide)) => alters.push(statements::modify_column(&column.name, &wide)),
            (Fit::No(better), None) => problems.push(format!(
                "the column {} is {} in the table, which does not take {:?}: {}, or convert it in the pipeline (sql)",
                quote::name(&column.name),
                there.ty,
                column.ty,
                statements::modify_column(&column.name, &better)
            )),
            (fit @ Fit::Cast(_), None) => fits.push((column, fit)),
        }
    }
    let loading = if alters.is_empty() && problems.is_empty() { Loading::new(&fits, format) } else { None };
    if alters.is_empty() && problems.is_empty() && loading.is_none() {
        problems.push(format!(
            "{format:?} files are not loaded: set output.format to parquet, ndjson or row_binary"
        ));
    }
    Columns { alters, problems, loading }
}

/// Whether a column is in a key, which cannot become another type.
fn is_key(found: &Found, column: &FoundColumn) -> bool {
    [&found.sorting_key, &found.partition_key].iter().any(|key| statements::is_word_of(key, &column.name))
}

/// Whether the table has the columns by which it knows rows again.
pub(super) fn has_lineage(found: &Found) -> bool {
    [BATCH_COLUMN, ROW_COLUMN].iter().all(|name| found.columns.iter().any(|column| column.name == *name))
}

#[cfg(test)]
mod tests {
    use lakeward_model::ColumnType;

    use super::super::inspect::FoundView;
    use super::*;

    fn found(engine: &str, window: Option<u64>) -> Found {
        Found { engine: engine.into(), window, ..Found::default() }
    }

    fn there(name: &str, ty: &str, default_kind: &str) -> FoundColumn {
        FoundColumn { name: name.into(), ty: ty.into(), default_kind: default_kind.into() }
    }

    #[test]
    fn tables_that_forget_are_refused_or_warned_of() {
        let check = |found: &Found, lineage, problems: usize, warnings: usize, says: &str| {
            let findings = engine(found, "`d`.`t`", lineage);
            let seen = (findings.problems.len(), findings.warnings.len());
            assert_eq!(seen, (problems, warnings), "{findings:?}");
            let all = [findings.problems, findings.warnings].concat().join("\n");
            assert!(all.contains(says), "{all}");
        };
        let alter = "ALTER TABLE `d`.`t` MODIFY SETTING non_replicated_deduplication_window = 10000";
        check(&found("MergeTree", Some(0)), false, 1, 0, alter);
        check(&found("MergeTree", Some(99)), false, 1, 0, alter);
        check(&found("MergeTree", Some(100)), false, 0, 0, "");
        check(&found("MergeTree", Some(0)), true, 0, 1, alter);
        check(&found("SummingMergeTree", Some(1000)), true, 1, 0, "lineage: false");
        check(&found("SummingMergeTree", Some(1000)), false, 0, 0, "");
        check(&found("Log", None), true, 1, 0, "MergeTree family");
        check(&found("Distributed", None), true, 0, 0, "");
        check(&found("Distributed", None), false, 1, 0, "lineage: true");
        let short = Found { window_seconds: Some(3600), ..found("ReplicatedMergeTree", Some(10_000)) };
        check(&short, false, 0, 1, "replicated_deduplication_window_seconds = 604800");
        check(&short, true, 0, 0, "");
        let view = FoundView {
            name: "`d`.`mv`".into(),
            target: "`d`.`dst`".into(),
            window: Some(0),
            engine: "SummingMergeTree".into(),
        };
        let viewed = Found { views: vec![view], ..found("MergeTree", Some(1000)) };
        let alter = "ALTER TABLE `d`.`dst` MODIFY SETTING non_replicated_deduplication_window";
        check(&viewed, false, 1, 0, alter);
        check(&viewed, true, 0, 1, alter);
    }

    #[test]
    fn columns_fit_are_altered_or_refused() {
        let table = Found {
            columns: vec![
                there("id", "UInt64", ""),
                there("n", "Int64", ""),
                there("key", "Int64", ""),
                there("m", "String", "MATERIALIZED"),
                there("d", "Date", ""),
            ],
            sorting_key: "key".into(),
            ..found("MergeTree", Some(1000))
        };
        let column = |name: &str, ty| Column { name: name.into(), ty };
        let check = |wanted: Column, evolves, alters: &[&str], problems: usize, loads: bool| {
            let seen = columns(&table, std::slice::from_ref(&wanted), Format::Parquet, evolves);
            assert_eq!(seen.alters, alters, "{wanted:?}");
            assert_eq!((seen.problems.len(), seen.loading.is_some()), (problems, loads), "{seen:?}");
        };
        check(column("id", ColumnType::Int64), false, &[], 0, true);
        check(
            column("new", ColumnType::Utf8),
            false,
            &["ADD COLUMN IF NOT EXISTS `new` Nullable(String)"],
            0,
            false,
        );
        check(column("n", ColumnType::Float64), false, &[], 0, true);
        check(column("n", ColumnType::Float64), true, &["MODIFY COLUMN `n` Float64"], 0, false);
        check(column("key", ColumnType::Float64), true, &[], 0, true);
        check(column("m", ColumnType::Utf8), true, &[], 1, false);
        check(column("d", ColumnType::Timestamp), true, &[], 1, false);
        let batch = [column("id", ColumnType::Int64)];
        let csv = columns(&table, &batch, Format::Csv, false);
        assert!(csv.loading.is_none() && csv.problems[0].contains("parquet"), "{csv:?}");
    }
}
