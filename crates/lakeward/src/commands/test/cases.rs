//! Files of cases.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::exit::{Code, coded};

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cases {
    /// The configuration file, from this file's folder. Default
    /// `lakeward.yaml`.
    #[serde(default)]
    pub(super) config: Option<PathBuf>,
    pub(super) tests: Vec<Case>,
}

/// Records in, expected rows out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) pipeline: String,
    /// What `now()` is, and when the records arrive. Default
    /// `2026-01-01T00:00:00Z`.
    #[serde(default)]
    pub(super) now: Option<String>,
    /// A text is a record's bytes; anything else is a record of its JSON.
    pub(super) records: Vec<Value>,
    #[serde(default)]
    pub(super) expect: Expect,
}

/// What must come out. What is left out is not looked at, except quarantine:
/// no record goes there unexpected.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Expect {
    /// The rows, in order. A column that a row leaves out must be null.
    pub(super) rows: Option<Vec<Value>>,
    /// Look only at the columns that an expected row names.
    pub(super) partial: bool,
    /// The records that go to quarantine.
    pub(super) quarantined: Vec<Refused>,
    /// How many records give no row on purpose.
    pub(super) filtered: Option<u64>,
    /// How many records are duplicates.
    pub(super) duplicates: Option<u64>,
    /// The folders that files go to, in order.
    pub(super) folders: Option<Vec<String>>,
}

/// A record in quarantine.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Refused {
    /// Its place among the records, from 0.
    pub(super) record: u64,
    /// The reason, as its file gives it. Default any.
    #[serde(default)]
    pub(super) reason: Option<String>,
}

impl Cases {
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let refuse = |problem: String| coded(Code::Usage, format!("{}: {problem}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| refuse(error.to_string()))?;
        let value: serde_yaml_ng::Value =
            serde_yaml_ng::from_str(&text).map_err(|error| refuse(error.to_string()))?;
        serde_path_to_error::deserialize(value).map_err(|error| refuse(error.to_string()))
    }
}
