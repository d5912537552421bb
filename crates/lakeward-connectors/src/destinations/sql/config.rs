//! Settings that PostgreSQL and Redshift share.

use std::path::Path;
use std::time::Duration;

use lakeward_model::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Dialect;
use super::names::TableName;

/// Whether a connection is encrypted, and whether the server has to prove who
/// it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// Encrypted; the server's certificate is checked, with its name.
    VerifyFull,
    /// Encrypted, but anyone may be at the other end.
    Require,
    /// Not encrypted.
    Off,
}

/// Rows replace those with the same key instead of being added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct MergeConfig {
    /// The columns that make the key. A row in which one of them is null has
    /// no key, and is added.
    pub key: Vec<String>,
    /// Of several rows of one batch with one key, the one with the highest
    /// value in this column is kept. Default: the last one. What is in the
    /// table is always replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_by: Option<String>,
}

/// A configuration that cannot be used; the text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct SqlConfigError {
    /// The setting at fault.
    pub setting: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl SqlConfigError {
    pub(crate) fn new(setting: &'static str, problem: impl Into<String>) -> Self {
        Self { setting, problem: problem.into() }
    }
}

/// How a server is reached; the settings have the names of these fields.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) dialect: Dialect,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) database: String,
    pub(crate) user: String,
    pub(crate) password: Option<Secret>,
    pub(crate) tls: Tls,
    pub(crate) ca_file: Option<String>,
    pub(crate) connect_timeout: Duration,
    pub(crate) statement_timeout: Duration,
}

impl Access {
    /// What `tls` is if nothing is said.
    pub(crate) fn default_tls(host: &str) -> Tls {
        let loopback = host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        if loopback { Tls::Off } else { Tls::VerifyFull }
    }

    /// Checks all that can be checked without asking anyone.
    pub(crate) fn check(&self) -> Result<(), SqlConfigError> {
        let wrong = |setting, problem: &str| Err(SqlConfigError::new(setting, problem));
        if self.host.is_empty() || self.host.contains(['/', ' ', '@']) {
            return wrong("host", "say the server's name or address alone, without a scheme or a port");
        }
        if self.port == 0 {
            return wrong("port", "between 1 and 65535");
        }
        if self.database.is_empty() {
            return wrong("database", "say which database the table is in");
        }
        if self.user.is_empty() {
            return wrong("user", "say as which user to connect");
        }
        if self.connect_timeout < Duration::from_secs(1) {
            return wrong("connect_timeout", "at least 1s");
        }
        if self.statement_timeout < Duration::from_secs(1) {
            return wrong("statement_timeout", "at least 1s");
        }
        if self.ca_file.is_some() && self.tls != Tls::VerifyFull {
            return wrong("ca_file", "only with tls: verify-full");
        }
        Ok(())
    }
}

/// Makes a relative path relative to `folder`.
pub(crate) fn resolve(path: &mut Option<String>, folder: &Path) {
    if let Some(path) = path
        && Path::new(path.as_str()).is_relative()
    {
        *path = folder.join(path.as_str()).display().to_string();
    }
}

/// Reads a table's name for a setting.
pub(crate) fn table(
    setting: &'static str,
    text: &str,
    dialect: Dialect,
) -> Result<TableName, SqlConfigError> {
    TableName::parse(text, dialect).map_err(|problem| SqlConfigError::new(setting, problem))
}

impl MergeConfig {
    /// Checks the names.
    pub(crate) fn check(&self) -> Result<(), SqlConfigError> {
        if self.key.is_empty() || self.key.iter().any(String::is_empty) {
            return Err(SqlConfigError::new("merge.key", "name at least one column"));
        }
        Ok(())
    }
}

/// How the files of a pipeline must be encoded for its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileNeeds {
    /// Delimited text without a header, quoted as RFC 4180 has it.
    Csv {
        /// What stands between fields.
        delimiter: char,
        /// What stands for null, without quotes.
        null: &'static str,
        /// Whether files are compressed with gzip.
        gzip: bool,
    },
    /// Parquet.
    Parquet,
}
