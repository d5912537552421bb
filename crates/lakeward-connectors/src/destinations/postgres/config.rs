//! How a PostgreSQL table is configured.

use std::path::Path;
use std::time::Duration;

use lakeward_model::{Secret, units};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::destinations::lake::LakeConfig;
use crate::destinations::sql::names::TableName;
use crate::destinations::sql::{self, Access, Dialect, FileNeeds, MergeConfig, SqlConfigError, Tls, ledger};

/// What stands for null in the files: unquoted, as COPY wants it.
pub(super) const NULL: &str = "\\N";

/// A table of a PostgreSQL database (12 or later). Each batch is one
/// transaction, which also writes a row of the ledger table, so that a batch is
/// there once whatever happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PostgresConfig {
    /// The server's name or address.
    pub host: String,
    /// Default 5432.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The user. It needs `INSERT` on the table (with `merge` also `SELECT` and
    /// `DELETE`), `SELECT` and `INSERT` on the ledger, and `CREATE` on the schema
    /// if they are to be made.
    pub user: String,
    /// The user's password; better as `${ENV}` than in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// `verify-full`: encrypted, and the server proves who it is. `require`:
    /// encrypted only. `off`: neither. Default `verify-full`; `off` for this
    /// machine's loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// A file of root certificates (PEM) instead of the machine's own, for
    /// `verify-full`. RDS needs AWS's bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// The table: `table` (in the schema `public`) or `schema.table`, with
    /// double quotes around what has dots in it.
    pub table: String,
    /// The table that says which batches are loaded. Default `lakeward_loads`
    /// beside the table; it is made if it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger: Option<String>,
    /// Whether the table is made if it is not there. Default true.
    pub auto_create: bool,
    /// Whether columns that are new in the stream are added to the table, and
    /// integers become floats when fractions come. Default true.
    pub auto_evolve: bool,
    /// What stands behind the columns when the table is made:
    /// `PARTITION BY RANGE (received_at)`.
    pub create_options: String,
    /// Whether rows replace those with the same key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge: Option<MergeConfig>,
    /// Whether each row says of which batch it is, in `_lakeward_batch` and
    /// `_lakeward_row`. Default false: the ledger says it.
    pub lineage: bool,
    /// How long it may take to be connected. Default `10s`.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub connect_timeout: Duration,
    /// How long one statement may take. Default `10m`.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub statement_timeout: Duration,
    /// Where records go that cannot be loaded. Default the folder
    /// `./quarantine`.
    pub quarantine: LakeConfig,
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: 5432,
            database: String::new(),
            user: String::new(),
            password: None,
            tls: None,
            ca_file: None,
            table: String::new(),
            ledger: None,
            auto_create: true,
            auto_evolve: true,
            create_options: String::new(),
            merge: None,
            lineage: false,
            connect_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(600),
            quarantine: LakeConfig::at("./quarantine"),
        }
    }
}

impl PostgresConfig {
    /// Checks all that can be checked without asking anyone.
    ///
    /// # Errors
    /// See [`SqlConfigError`].
    pub fn check(&self) -> Result<(), SqlConfigError> {
        self.access().check()?;
        self.table()?;
        self.ledger()?;
        if let Some(merge) = &self.merge {
            merge.check()?;
        }
        if self.create_options.contains(';') {
            return Err(SqlConfigError::new("create_options", "one statement's end only, without `;`"));
        }
        self.quarantine.check().map_err(|error| SqlConfigError::new("quarantine", error.to_string()))
    }

    /// Makes relative paths relative to `folder`.
    pub fn resolve_in(&mut self, folder: &Path) {
        self.quarantine.resolve_in(folder);
        sql::resolve(&mut self.ca_file, folder);
    }

    /// How files must be encoded.
    #[must_use]
    pub fn files(&self) -> FileNeeds {
        FileNeeds::Csv { delimiter: ',', null: NULL, gzip: false }
    }

    pub(super) fn access(&self) -> Access {
        Access {
            dialect: Dialect::Postgres,
            host: self.host.clone(),
            port: self.port,
            database: self.database.clone(),
            user: self.user.clone(),
            password: self.password.clone(),
            tls: self.tls.unwrap_or_else(|| Access::default_tls(&self.host)),
            ca_file: self.ca_file.clone(),
            connect_timeout: self.connect_timeout,
            statement_timeout: self.statement_timeout,
        }
    }

    pub(super) fn table(&self) -> Result<TableName, SqlConfigError> {
        sql::table("table", &self.table, Dialect::Postgres)
    }

    pub(super) fn ledger(&self) -> Result<TableName, SqlConfigError> {
        match &self.ledger {
            Some(ledger) => sql::table("ledger", ledger, Dialect::Postgres),
            None => Ok(self.table()?.beside(ledger::NAME)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smallest() -> PostgresConfig {
        PostgresConfig {
            host: "db".into(),
            database: "d".into(),
            user: "u".into(),
            table: "t".into(),
            ..PostgresConfig::default()
        }
    }

    #[test]
    fn settings_that_do_not_fit_say_so() {
        let check = |change: fn(&mut PostgresConfig), expect: Option<&str>| {
            let mut config = smallest();
            change(&mut config);
            assert_eq!(config.check().err().map(|error| error.setting), expect);
        };
        check(|_| {}, None);
        check(|c| c.host = String::new(), Some("host"));
        check(|c| c.host = "postgres://db".into(), Some("host"));
        check(|c| c.database = String::new(), Some("database"));
        check(|c| c.user = String::new(), Some("user"));
        check(|c| c.table = "a.b.c".into(), Some("table"));
        check(|c| c.ledger = Some(String::new()), Some("ledger"));
        check(|c| c.merge = Some(MergeConfig::default()), Some("merge.key"));
        check(|c| c.create_options = "; DROP TABLE x".into(), Some("create_options"));
        check(|c| c.ca_file = Some("ca.pem".into()), None);
        check(
            |c| {
                c.ca_file = Some("ca.pem".into());
                c.tls = Some(Tls::Require);
            },
            Some("ca_file"),
        );
        check(|c| c.connect_timeout = Duration::ZERO, Some("connect_timeout"));
        check(|c| c.quarantine = LakeConfig::at("gs://x"), Some("quarantine"));
    }

    #[test]
    fn it_is_encrypted_unless_it_stays_on_this_machine() {
        let tls = |host: &str| PostgresConfig { host: host.into(), ..smallest() }.access().tls;
        assert_eq!(tls("db.example.com"), Tls::VerifyFull);
        assert_eq!(tls("10.0.0.1"), Tls::VerifyFull);
        assert_eq!((tls("127.0.0.1"), tls("localhost"), tls("::1")), (Tls::Off, Tls::Off, Tls::Off));
    }

    #[test]
    fn it_hides_its_secret() {
        let config: PostgresConfig =
            serde_json::from_str(r#"{"host": "h", "password": "hush", "tls": "verify-full"}"#)
                .expect("it reads");
        assert!(!format!("{config:?}").contains("hush"));
        assert!(serde_json::from_str::<PostgresConfig>(r#"{"host": "h", "nope": 1}"#).is_err());
    }
}
