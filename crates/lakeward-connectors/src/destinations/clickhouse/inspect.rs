//! What is there: the table, its columns, how long it remembers inserts, and
//! the materialized views that every insert goes on to.

use std::collections::BTreeSet;

use regex::Regex;
use serde::Deserialize;

use super::client::Client;
use super::quote;
use super::refusal::Refusal;

/// Views, and views of views, that are looked at.
const VIEWS_MAX: usize = 64;

/// A table as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Found {
    pub(super) engine: String,
    /// How many inserts it remembers; `None` if that cannot be said.
    pub(super) window: Option<u64>,
    /// How many seconds it remembers them, where there is such a limit.
    pub(super) window_seconds: Option<u64>,
    pub(super) partition_key: String,
    pub(super) sorting_key: String,
    pub(super) columns: Vec<FoundColumn>,
    pub(super) views: Vec<FoundView>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct FoundColumn {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) ty: String,
    /// `DEFAULT`, `MATERIALIZED`, `ALIAS`, `EPHEMERAL` or nothing.
    pub(super) default_kind: String,
}

/// A materialized view, and the table that its rows go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FoundView {
    /// Its name, quoted.
    pub(super) name: String,
    /// Its table's name, quoted.
    pub(super) target: String,
    /// How many inserts that table remembers.
    pub(super) window: Option<u64>,
    /// Its engine.
    pub(super) engine: String,
}

/// A server, and what its user may do.
#[derive(Debug, Deserialize)]
pub(super) struct Server {
    pub(super) version: String,
    pub(super) user: String,
    /// 0: may write; 1 and 2: may not.
    pub(super) readonly: u64,
    /// Whether the database is there.
    pub(super) databases: u64,
}

#[derive(Deserialize)]
struct TableRow {
    engine: String,
    engine_full: String,
    partition_key: String,
    sorting_key: String,
    dependencies_database: Vec<String>,
    dependencies_table: Vec<String>,
    create_table_query: String,
    uuid: String,
}

pub(super) async fn server(client: &Client, database: &str) -> Result<Server, Refusal> {
    let sql = format!(
        "SELECT version() AS version, currentUser() AS user, toUInt64(getSetting('readonly')) AS readonly, \
         (SELECT toUInt64(count()) FROM system.databases WHERE name = {}) AS databases FORMAT JSONEachRow",
        quote::literal(database)
    );
    let rows: Vec<Server> = client.rows(&sql, Vec::new()).await?;
    rows.into_iter().next().ok_or_else(|| Refusal::unknown("ClickHouse does not say its version".into()))
}

/// `None` if there is no such table.
pub(super) async fn table(client: &Client, database: &str, name: &str) -> Result<Option<Found>, Refusal> {
    let Some(row) = row(client, database, name).await? else { return Ok(None) };
    let sql = format!(
        "SELECT name, type, default_kind FROM system.columns WHERE database = {} AND table = {} \
         ORDER BY position FORMAT JSONEachRow",
        quote::literal(database),
        quote::literal(name)
    );
    let columns = client.rows(&sql, Vec::new()).await?;
    let (window, window_seconds) = window(client, &row).await?;
    let views = views(client, &row).await?;
    let TableRow { engine, partition_key, sorting_key, .. } = row;
    Ok(Some(Found { engine, window, window_seconds, partition_key, sorting_key, columns, views }))
}

async fn row(client: &Client, database: &str, name: &str) -> Result<Option<TableRow>, Refusal> {
    let sql = format!(
        "SELECT engine, engine_full, partition_key, sorting_key, dependencies_database, dependencies_table, \
         create_table_query, toString(uuid) AS uuid FROM system.tables WHERE database = {} AND name = {} \
         FORMAT JSONEachRow",
        quote::literal(database),
        quote::literal(name)
    );
    Ok(client.rows(&sql, Vec::new()).await?.into_iter().next())
}

/// The table setting that says how many inserts an engine remembers.
pub(super) fn window_setting(engine: &str) -> Option<&'static str> {
    if !engine.ends_with("MergeTree") {
        None
    } else if engine.starts_with("Replicated") || engine.starts_with("Shared") {
        Some("replicated_deduplication_window")
    } else {
        Some("non_replicated_deduplication_window")
    }
}

/// Inserts and seconds.
async fn window(client: &Client, row: &TableRow) -> Result<(Option<u64>, Option<u64>), Refusal> {
    #[derive(Deserialize)]
    struct Setting {
        name: String,
        value: String,
    }
    let Some(setting) = window_setting(&row.engine) else { return Ok((None, None)) };
    let is_replicated = setting.starts_with("replicated");
    let seconds = format!("{setting}_seconds");
    let own = (number_in(&row.engine_full, setting), number_in(&row.engine_full, &seconds));
    if own.0.is_some() && (own.1.is_some() || !is_replicated) {
        return Ok(own);
    }
    // What the table does not say, the server does.
    let of = if is_replicated { "replicated_merge_tree_settings" } else { "merge_tree_settings" };
    let sql = format!(
        "SELECT name, value FROM system.{of} WHERE name IN ('{setting}', '{seconds}') FORMAT JSONEachRow"
    );
    let settings: Vec<Setting> = client.rows(&sql, Vec::new()).await?;
    let of_server = |name: &str| {
        settings.iter().find(|setting| setting.name == name).and_then(|setting| setting.value.parse().ok())
    };
    let all_seconds = if is_replicated { own.1.or_else(|| of_server(&seconds)) } else { None };
    Ok((own.0.or_else(|| of_server(setting)), all_seconds))
}

/// The number in `… SETTINGS name = 100, …`.
fn number_in(engine: &str, name: &str) -> Option<u64> {
    let settings = &engine[engine.rfind(" SETTINGS ")?..];
    let rest = settings.split([',', ' ']).skip_while(|word| *word != name).nth(2)?;
    rest.trim_matches(|c: char| !c.is_ascii_digit()).parse().ok()
}

/// All views behind a table, also behind the tables of its views.
async fn views(client: &Client, table: &TableRow) -> Result<Vec<FoundView>, Refusal> {
    let dependent = |row: &TableRow| -> Vec<(String, String)> {
        row.dependencies_database.iter().cloned().zip(row.dependencies_table.iter().cloned()).collect()
    };
    let (mut wanted, mut seen, mut views) = (dependent(table), BTreeSet::new(), Vec::new());
    while let Some((database, name)) = wanted.pop() {
        if views.len() >= VIEWS_MAX || !seen.insert((database.clone(), name.clone())) {
            continue;
        }
        let Some(view) = row(client, &database, &name).await? else { continue };
        if view.engine != "MaterializedView" {
            continue;
        }
        let (of, table) = target(&view, &database, &name);
        let target = row(client, &of, &table).await?;
        let (window, engine) = match target {
            Some(row) => {
                wanted.extend(dependent(&row));
                (window(client, &row).await?.0, row.engine)
            }
            None => (None, String::new()),
        };
        let (name, target) = (quote::qualified(&database, &name), quote::qualified(&of, &table));
        views.push(FoundView { name, target, window, engine });
    }
    Ok(views)
}

/// The database and the table that a view's rows go to.
fn target(view: &TableRow, database: &str, name: &str) -> (String, String) {
    let part = r"(`(?:[^`\\]|\\.)*`|[A-Za-z0-9_]+)";
    let pattern =
        format!(r"^CREATE MATERIALIZED VIEW {part}(?:\.{part})?(?: UUID '[^']*')? TO {part}(?:\.{part})?");
    let found = Regex::new(&pattern).ok().and_then(|pattern| pattern.captures(&view.create_table_query));
    let unquoted = |text: &str| match text.strip_prefix('`').and_then(|text| text.strip_suffix('`')) {
        Some(inside) => inside.replace("\\`", "`").replace("\\\\", "\\"),
        None => text.to_string(),
    };
    let to = |at: usize| found.as_ref().and_then(|found| found.get(at)).map(|part| unquoted(part.as_str()));
    match (to(3), to(4)) {
        (Some(of), Some(table)) => (of, table),
        // `TO INNER UUID` is its own.
        (Some(table), None) if table != "INNER" => (database.into(), table),
        _ if view.uuid.chars().any(|c| c != '0' && c != '-') => {
            (database.into(), format!(".inner_id.{}", view.uuid))
        }
        _ => (database.into(), format!(".inner.{name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_read_from_the_engine() {
        let full = "MergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 10, index_granularity = 8192";
        assert_eq!(number_in(full, "non_replicated_deduplication_window"), Some(10));
        assert_eq!(number_in(full, "index_granularity"), Some(8192));
        assert_eq!(number_in(full, "granularity"), None);
        assert_eq!(number_in("MergeTree ORDER BY id", "index_granularity"), None);
        assert_eq!(window_setting("SharedReplacingMergeTree"), Some("replicated_deduplication_window"));
        assert_eq!(window_setting("ReplacingMergeTree"), Some("non_replicated_deduplication_window"));
        assert_eq!(window_setting("Distributed"), None);
    }

    #[test]
    fn targets_of_views() {
        let check = |create: &str, uuid: &str, expect: (&str, &str)| {
            let view = TableRow {
                engine: "MaterializedView".into(),
                engine_full: String::new(),
                partition_key: String::new(),
                sorting_key: String::new(),
                dependencies_database: Vec::new(),
                dependencies_table: Vec::new(),
                create_table_query: create.into(),
                uuid: uuid.into(),
            };
            assert_eq!(target(&view, "d", "v"), (expect.0.into(), expect.1.into()), "{create}");
        };
        let nil = "00000000-0000-0000-0000-000000000000";
        check("CREATE MATERIALIZED VIEW a.mv TO a.dst (`id` UInt64) AS SELECT 1", nil, ("a", "dst"));
        check(r"CREATE MATERIALIZED VIEW a.`m v` TO a.`d\`t` AS SELECT 1", nil, ("a", "d`t"));
        check("CREATE MATERIALIZED VIEW mv TO dst AS SELECT ' TO x'", nil, ("d", "dst"));
        let own = "CREATE MATERIALIZED VIEW a.v (`id` UInt64) ENGINE = MergeTree ORDER BY id AS SELECT 1";
        check(own, nil, ("d", ".inner.v"));
        check(own, "3f0c", ("d", ".inner_id.3f0c"));
    }
}
