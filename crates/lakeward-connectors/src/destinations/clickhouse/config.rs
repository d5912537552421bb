//! How a table of ClickHouse is configured as a destination.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use lakeward_model::{Secret, units};
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::aws_access::is_loopback;
use crate::destinations::lake::LakeConfig;

/// A table of ClickHouse, by its HTTP interface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClickHouseConfig {
    /// The server's HTTP interface: `https://host:8443`, `http://host:8123`.
    pub url: String,
    /// The user. Default `default`.
    pub user: String,
    /// Its password; better as `${ENV}` than in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The database. Default `default`.
    pub database: String,
    /// The table.
    pub table: String,
    /// Makes the table, and its database, if they are not there. Default: they
    /// must be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_create: Option<AutoCreate>,
    /// Adds columns to the table when the data have new ones, fields to its
    /// tuples, and makes integers floats where fractions come. Default false:
    /// the pipeline waits and says the ALTER that it waits for.
    pub auto_evolve: bool,
    /// Whether rows carry the columns `_lakeward_batch` and `_lakeward_row`, by
    /// which the table knows them again: nothing is loaded twice or left out
    /// however long ago a try was, and `lakeward audit` counts. Default true;
    /// without, the table must remember its inserts (a deduplication window).
    pub lineage: bool,
    /// Most parts that are made in a minute: an insert makes one for each
    /// partition it touches. Records wait in the journal, and come in larger
    /// inserts. 1 to 6,000. Default 60.
    pub parts_per_minute: u32,
    /// How long connecting may take. Default `10s`.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub connect_timeout: Duration,
    /// How long an insert may take, with its upload. Default `5m`. What was
    /// asked for after that is not given up: it is looked for before it is sent
    /// again.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub timeout: Duration,
    /// Whether a plain `http://` address may be another machine.
    pub allow_http: bool,
    /// Further settings of every insert: `{insert_quorum: "auto"}`. Not those
    /// that exactly-once rests on.
    pub settings: BTreeMap<String, String>,
    /// Where the records that the table does not take are kept: a lake.
    /// Default: the folder `./quarantine`.
    pub quarantine: LakeConfig,
}

impl Default for ClickHouseConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            user: String::from("default"),
            password: None,
            database: String::from("default"),
            table: String::new(),
            auto_create: None,
            auto_evolve: false,
            lineage: true,
            parts_per_minute: 60,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(300),
            allow_http: false,
            settings: BTreeMap::new(),
            quarantine: LakeConfig::at("./quarantine"),
        }
    }
}

/// How a new table is made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AutoCreate {
    /// The engine. Default `merge_tree`.
    pub engine: TableEngine,
    /// Replacing engines: the column whose largest value is kept. Default: the
    /// row that was inserted last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The sorting key: columns of the data, or expressions of them. Columns in
    /// it are not Nullable: null becomes the type's default. Default none, rows
    /// lie as they came.
    pub order_by: Vec<String>,
    /// What the partitions are made by. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition_by: Option<PartitionBy>,
    /// When rows are deleted. Default never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Ttl>,
}

/// Engines of tables that are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TableEngine {
    /// Rows stay as they are.
    #[default]
    MergeTree,
    /// Of the rows with one sorting key one is kept, some time.
    ReplacingMergeTree,
    /// `merge_tree` on several replicas; the server's macros say where.
    ReplicatedMergeTree,
    /// `replacing_merge_tree` on several replicas.
    ReplicatedReplacingMergeTree,
}

/// What a table's partitions are made by: a time or a day of each row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PartitionBy {
    /// The column, a timestamp or a date.
    pub column: String,
    /// How much of it is one partition. Default `month`.
    #[serde(default)]
    pub by: PartitionStep,
}

/// How long a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PartitionStep {
    /// A month.
    #[default]
    Month,
    /// A day.
    Day,
}

/// When a row is deleted: so long after a time in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ttl {
    /// The column, a timestamp or a date.
    pub column: String,
    /// Days after it: 1 to 7,300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
    /// Months after it, instead of days: 1 to 240.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub months: Option<u32>,
}

/// A configuration that cannot be used; the text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct ClickHouseConfigError {
    /// The setting's name.
    pub setting: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

fn wrong(setting: &'static str, problem: &str) -> ClickHouseConfigError {
    ClickHouseConfigError { setting, problem: problem.into() }
}

/// Settings and parameters that are ours alone.
const RESERVED: [&str; 26] = [
    "async_insert",
    "buffer_size",
    "compress",
    "database",
    "date_time_input_format",
    "decompress",
    "deduplicate_blocks_in_dependent_materialized_views",
    "deduplicate_insert",
    "default_format",
    "input_format_allow_errors_num",
    "input_format_allow_errors_ratio",
    "input_format_null_as_default",
    "input_format_skip_unknown_fields",
    "insert_deduplicate",
    "insert_deduplication_token",
    "insert_null_as_default",
    "max_insert_block_size",
    "max_insert_threads",
    "min_insert_block_size_bytes",
    "min_insert_block_size_rows",
    "password",
    "query",
    "query_id",
    "session_id",
    "user",
    "wait_end_of_query",
];

impl ClickHouseConfig {
    /// Makes a relative folder of the quarantine relative to `folder`.
    pub fn resolve_in(&mut self, folder: &Path) {
        self.quarantine.resolve_in(folder);
    }

    /// Checks all that can be checked without asking anyone.
    ///
    /// # Errors
    /// See [`ClickHouseConfigError`].
    pub fn check(&self) -> Result<(), ClickHouseConfigError> {
        self.address()?;
        for (setting, name) in [("database", &self.database), ("table", &self.table), ("user", &self.user)] {
            if name.is_empty() {
                return Err(wrong(setting, "missing"));
            }
            if name.len() > 200 || name.chars().any(char::is_control) {
                return Err(wrong(setting, "at most 200 bytes and no control characters"));
            }
        }
        if let Some((database, table)) = self.table.split_once('.') {
            return Err(ClickHouseConfigError {
                setting: "table",
                problem: format!("without the database: database: {database}, table: {table}"),
            });
        }
        if self.user.contains(':') {
            return Err(wrong("user", "a colon cannot be in it"));
        }
        if !(1..=6_000).contains(&self.parts_per_minute) {
            return Err(wrong("parts_per_minute", "between 1 and 6,000"));
        }
        let minute = Duration::from_secs(60);
        if !(Duration::from_millis(100)..=minute).contains(&self.connect_timeout) {
            return Err(wrong("connect_timeout", "100ms to 1m"));
        }
        if !(Duration::from_secs(1)..=60 * minute).contains(&self.timeout) {
            return Err(wrong("timeout", "1s to 1h"));
        }
        for name in self.settings.keys() {
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(wrong("settings", "a setting's name is letters, digits and `_`"));
            }
            if RESERVED.contains(&name.as_str()) || name.starts_with("param_") {
                return Err(ClickHouseConfigError {
                    setting: "settings",
                    problem: format!("{name} is set by Lakeward: exactly-once rests on it"),
                });
            }
        }
        if let Some(create) = &self.auto_create {
            create.check()?;
        }
        self.quarantine
            .check()
            .map_err(|error| ClickHouseConfigError { setting: "quarantine", problem: error.to_string() })
    }

    /// The server's address.
    pub(super) fn address(&self) -> Result<Url, ClickHouseConfigError> {
        if self.url.is_empty() {
            return Err(wrong("url", "missing: the server's HTTP interface, such as https://host:8443"));
        }
        let Ok(url) = Url::parse(&self.url) else {
            return Err(wrong("url", "not an address such as https://host:8443"));
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("url", "no user or password in the address: use user and password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("url", "without `?` and `#`: settings go into `settings`"));
        }
        match (url.scheme(), url.port()) {
            (_, Some(9000 | 9440)) => {
                Err(wrong("url", "that is the port of the native protocol; HTTP has 8123, HTTPS 8443"))
            }
            ("https", _) => Ok(url),
            ("http", _) if self.allow_http || is_loopback(&url) => Ok(url),
            ("http", _) => Err(wrong(
                "url",
                "plain http to another machine would show the password: use https, or set allow_http: true",
            )),
            _ => Err(wrong("url", "starts with https:// (or http://)")),
        }
    }
}

impl AutoCreate {
    fn check(&self) -> Result<(), ClickHouseConfigError> {
        let is_replacing = matches!(
            self.engine,
            TableEngine::ReplacingMergeTree | TableEngine::ReplicatedReplacingMergeTree
        );
        if self.version.is_some() && !is_replacing {
            return Err(wrong("auto_create.version", "only with a replacing engine"));
        }
        if is_replacing && self.order_by.is_empty() {
            return Err(wrong("auto_create.order_by", "missing: it says which rows replace each other"));
        }
        if self.order_by.iter().any(|part| part.trim().is_empty()) {
            return Err(wrong("auto_create.order_by", "columns or expressions, none of them empty"));
        }
        match &self.ttl {
            // ClickHouse's times end in 2106: a sum beyond that is in the past.
            Some(
                Ttl { days: Some(1..=7_300), months: None, .. }
                | Ttl { days: None, months: Some(1..=240), .. },
            )
            | None => Ok(()),
            Some(_) => Err(wrong("auto_create.ttl", "give days (1 to 7,300) or months (1 to 240)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> ClickHouseConfig {
        ClickHouseConfig {
            url: "https://ch.example.com:8443".into(),
            table: "events".into(),
            password: Some(Secret::new("hush")),
            ..ClickHouseConfig::default()
        }
    }

    #[test]
    fn settings_that_do_not_fit_say_so() {
        let check = |change: fn(&mut ClickHouseConfig), expect: Option<&str>| {
            let mut config = good();
            change(&mut config);
            assert_eq!(config.check().err().map(|error| error.setting), expect);
        };
        check(|_| {}, None);
        check(|c| c.url = String::new(), Some("url"));
        check(|c| c.url = "http://127.0.0.1:8123".into(), None);
        check(|c| c.url = "http://ch:8123".into(), Some("url"));
        check(|c| (c.url, c.allow_http) = ("http://ch:8123".into(), true), None);
        check(|c| c.url = "https://ch:9440".into(), Some("url"));
        check(|c| c.url = "https://u:p@ch".into(), Some("url"));
        check(|c| c.url = "https://ch/?async_insert=1".into(), Some("url"));
        check(|c| c.url = "clickhouse://ch".into(), Some("url"));
        check(|c| c.table = String::new(), Some("table"));
        check(|c| c.table = "db.events".into(), Some("table"));
        check(|c| c.table = "a\nb".into(), Some("table"));
        check(|c| c.parts_per_minute = 0, Some("parts_per_minute"));
        check(|c| c.timeout = Duration::ZERO, Some("timeout"));
        check(|c| c.settings = [("async_insert".into(), "1".into())].into(), Some("settings"));
        check(|c| c.settings = [("a&b".into(), "1".into())].into(), Some("settings"));
        check(|c| c.settings = [("insert_quorum".into(), "2".into())].into(), None);
        check(|c| c.quarantine.url = String::new(), Some("quarantine"));
        let created = |create: AutoCreate| ClickHouseConfig { auto_create: Some(create), ..good() };
        let check = |create: AutoCreate, expect: Option<&str>| {
            assert_eq!(created(create).check().err().map(|error| error.setting), expect);
        };
        check(AutoCreate::default(), None);
        check(
            AutoCreate { engine: TableEngine::ReplacingMergeTree, ..AutoCreate::default() },
            Some("auto_create.order_by"),
        );
        check(AutoCreate { version: Some("v".into()), ..AutoCreate::default() }, Some("auto_create.version"));
        let ttl = |days, months| Some(Ttl { column: "at".into(), days, months });
        check(AutoCreate { ttl: ttl(Some(3), None), ..AutoCreate::default() }, None);
        check(AutoCreate { ttl: ttl(Some(3), Some(1)), ..AutoCreate::default() }, Some("auto_create.ttl"));
        check(AutoCreate { ttl: ttl(None, Some(1_200)), ..AutoCreate::default() }, Some("auto_create.ttl"));
        check(AutoCreate { ttl: ttl(None, None), ..AutoCreate::default() }, Some("auto_create.ttl"));
    }

    #[test]
    fn it_reads_as_documented_and_hides_its_secret() {
        let text = r#"{"url": "https://ch:8443", "password": "hush", "table": "events", "auto_evolve": true,
            "auto_create": {"engine": "replacing_merge_tree", "version": "v", "order_by": ["id"],
              "partition_by": {"column": "at", "by": "day"}, "ttl": {"column": "at", "months": 18}},
            "timeout": "1m", "settings": {"insert_quorum": "auto"}, "quarantine": {"url": "/q"}}"#;
        let config: ClickHouseConfig = serde_json::from_str(text).expect("it reads");
        assert_eq!(config.check(), Ok(()));
        assert!(config.lineage && config.parts_per_minute == 60);
        assert!(!format!("{config:?}").contains("hush"));
        assert!(serde_json::from_str::<ClickHouseConfig>(r#"{"nope": 1}"#).is_err());
        let again: ClickHouseConfig =
            serde_json::from_value(serde_json::to_value(&config).expect("writes")).expect("reads");
        assert_eq!(again, config);
    }
}
