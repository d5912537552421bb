//! What happens to records between the journal and the files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lakeward_columnar::dotted;
use lakeward_columnar::shape::{ColumnMode, Contract, Dedup, DedupKey, Lambda, OnMismatch, Shape, Split};
use lakeward_connectors::functions::{FunctionConfig, OnUnavailable};
use lakeward_model::units;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Problem;

/// The columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SchemaConfig {
    /// Whether new fields (with `sql`: new columns of its result) become columns
    /// of the files. Default `evolve`.
    pub(crate) contract: Contract,
    /// What becomes of a record with a value that fits no column. Default
    /// `rescue`: the value goes to `_rescued`.
    pub(crate) on_mismatch: OnMismatch,
    /// Declared types, by dotted path: `{ created_at: timestamp,
    /// context.attributes: json }`. Default none: types come from the data.
    pub(crate) columns: BTreeMap<String, ColumnMode>,
    /// How many leaf columns a schema may grow to; what comes beyond goes to
    /// `_rescued`. Default 1,000.
    pub(crate) column_limit: usize,
}

impl Default for SchemaConfig {
    fn default() -> Self {
        let Shape { contract, on_mismatch, columns, column_limit, .. } = Shape::default();
        Self { contract, on_mismatch, columns, column_limit }
    }
}

impl SchemaConfig {
    pub(super) fn problems(&self, path: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut names: Vec<&String> = Vec::new();
        for name in self.columns.keys() {
            let place = || format!("{path}.columns.{name}");
            if dotted::split(name).is_none() {
                problems.push(Problem::new(place(), "this is no dotted path of keys"));
            } else if let Some(other) = names.iter().find(|other| dotted::collide(other, name)) {
                let problem =
                    format!("it differs from `{other}` only in case, which many engines do not see");
                problems.push(Problem::new(place(), problem));
            }
            names.push(name);
        }
        problems
    }
}

/// What a shape says of a function.
pub(super) fn lambda(config: &FunctionConfig) -> Lambda {
    Lambda {
        function: serde_json::to_value(config.without_secrets()).expect("a configuration is plain data"),
        name: config.name(),
        bytes: config.size,
        records: config.records,
        retries: config.retries,
        concurrency: config.concurrency,
        wait: config.on_unavailable == OnUnavailable::Wait,
    }
}

/// How a record is taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SplitConfig {
    /// JSON objects, one behind the other.
    Json,
    /// At every occurrence of this text.
    Delimiter(String),
}

impl SplitConfig {
    pub(super) fn split(self) -> Split {
        match self {
            Self::Json => Split::Json,
            Self::Delimiter(text) => Split::Delimiter(text),
        }
    }
}

/// A pipeline's SQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum SqlConfig {
    /// Its text.
    Text(String),
    /// A file that holds it.
    File(SqlFile),
}

/// A file of SQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SqlFile {
    /// Its path; a relative one starts at the configuration file's folder.
    pub(crate) file: PathBuf,
}

impl SqlConfig {
    /// The text; a file's is read first, with [`Self::read_in`].
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::File(_) => None,
        }
    }

    /// Puts a file's text in its place.
    pub(super) fn read_in(&mut self, folder: &Path) -> Result<(), String> {
        if let Self::File(SqlFile { file }) = self {
            let path = folder.join(&*file);
            let text = std::fs::read_to_string(&path)
                .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            *self = Self::Text(text);
        }
        Ok(())
    }
}

/// Which rows are duplicates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DedupConfig {
    /// The columns of the output that a duplicate has in common with the first,
    /// or `content` for every byte of the record.
    pub(crate) key: KeyConfig,
    /// How long a key is remembered.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub(crate) window: Duration,
    /// The column whose time counts for the window. Default the arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) time: Option<String>,
}

/// What a duplicate has in common with the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum KeyConfig {
    /// These columns.
    Columns(Vec<String>),
    /// Everything.
    Content(ContentWord),
}

/// The word `content`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ContentWord {
    /// Every byte of the record.
    Content,
}

impl DedupConfig {
    pub(super) fn dedup(&self) -> Dedup {
        Dedup {
            key: match &self.key {
                KeyConfig::Columns(columns) => DedupKey::Columns(columns.clone()),
                KeyConfig::Content(_) => DedupKey::Content,
            },
            window: self.window,
            time: self.time.clone(),
        }
    }

    pub(super) fn problems(&self, path: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.key == KeyConfig::Columns(Vec::new()) {
            problems.push(Problem::new(format!("{path}.key"), "a key has at least one column"));
        }
        const CENTURY: Duration = Duration::from_secs(100 * 366 * 86_400);
        if !(Duration::from_secs(1)..=CENTURY).contains(&self.window) {
            problems.push(Problem::new(format!("{path}.window"), "a window has between 1s and 100 years"));
        }
        problems
    }
}
