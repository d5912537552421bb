//! How a Redshift table is configured.

use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;

use lakeward_model::{Secret, units};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::aws_access::AwsAccess;
use crate::destinations::lake::LakeConfig;
use crate::destinations::sql::names::TableName;
use crate::destinations::sql::{self, Access, Dialect, FileNeeds, MergeConfig, SqlConfigError, Tls, ledger};

/// What stands for null in CSV files, unless empty fields do. It is not `\N`,
/// COPY's own: a backslash means something else in many places.
const NULL: &str = "@LakewardNull@";

/// A table of an Amazon Redshift cluster or workgroup. Files are staged in S3
/// and loaded by one `COPY` from a manifest, in one transaction with a row of
/// the ledger table, so that a batch is there once whatever happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedshiftConfig {
    /// The endpoint's host:
    /// `name.123456789012.eu-west-1.redshift-serverless.amazonaws.com`.
    pub host: String,
    /// Default 5439.
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
    /// `verify-full`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// The table: `table` (in the schema `public`) or `schema.table`.
    pub table: String,
    /// The table that says which batches are loaded. Default `lakeward_loads`
    /// beside the table; it is made if it is not there. It is locked while a
    /// batch is loaded: pipelines that share it load one after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger: Option<String>,
    /// Whether the table is made if it is not there. Default true.
    pub auto_create: bool,
    /// Whether columns that are new in the stream are added to the table.
    /// Default true.
    pub auto_evolve: bool,
    /// What stands behind the columns when the table is made:
    /// `DISTKEY (user_id) SORTKEY (received_at)`.
    pub create_options: String,
    /// Whether rows replace those with the same key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge: Option<MergeConfig>,
    /// Whether each row says of which batch it is, in `_lakeward_batch` and
    /// `_lakeward_row`. Default false: the ledger says it.
    pub lineage: bool,
    /// Where files lie for `COPY`.
    pub staging: StagingConfig,
    /// The role by which `COPY` reads the staged files: an ARN, several with
    /// commas (chained), or `default`. Without it, the staging's access key goes
    /// to Redshift.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iam_role: Option<String>,
    /// The files and how `COPY` reads them.
    pub copy: CopyConfig,
    /// How long it may take to be connected. Default `10s`.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub connect_timeout: Duration,
    /// How long one statement may take. Default `1h`.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub statement_timeout: Duration,
    /// Where records go that cannot be loaded. Default the folder
    /// `./quarantine`.
    pub quarantine: LakeConfig,
}

/// Where files lie for `COPY`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct StagingConfig {
    /// `s3://bucket/prefix/`. `COPY` is told the `region` if it is given.
    pub url: String,
    /// How files are named below it.
    pub layout: StagingLayout,
    /// Whether staged files stay when the batch is loaded, for a lifecycle rule
    /// of the bucket to remove. Default false.
    pub keep: bool,
    /// Where the bucket is, and as whom files are written.
    #[serde(flatten)]
    pub aws: AwsAccess,
    /// Whether the bucket is in the path rather than in the host name. Default:
    /// true with an `endpoint`, else false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
}

/// How staged files are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "snake_case")]
pub enum StagingLayout {
    /// `<id>/<n>.csv.gz` and `<id>/manifest.json`, where `<id>` follows from the
    /// batch and its content.
    #[default]
    Lakeward,
    /// `<yyyymmdd>/<id>/<n>.csv`, and `<yyyymmdd>/manifest-<id>.json` beside the
    /// folder; the day is that of staging, in UTC. With `s3://bucket/ToIngest/`
    /// these are the names of adobe-livestream-redshift-daemon.
    Ingest,
}

/// The formats that are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "snake_case")]
pub enum CopyFormat {
    /// Delimited text with quotes, safe for any content.
    #[default]
    Csv,
    /// Parquet. Rows that do not fit cost more to find.
    Parquet,
}

/// The files and how `COPY` reads them ("Data conversion parameters" in
/// Redshift's database developer guide). `MAXERROR` is not here: rows that it
/// skips would be lost; they go to quarantine instead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CopyConfig {
    /// Default `csv`.
    pub format: CopyFormat,
    /// CSV: the ASCII character between fields. Default `,`.
    pub delimiter: char,
    /// CSV: whether files are compressed with gzip. Default true.
    pub gzip: bool,
    /// Most rows of a file: a cluster reads as many files at once as it has
    /// slices. Default any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_per_file: Option<NonZeroU64>,
    /// CSV: `EMPTYASNULL`, whether empty text is null. Default false: they are
    /// told apart.
    pub empty_as_null: bool,
    /// CSV: `BLANKSASNULL`, whether text of blanks alone is null. Default false.
    pub blanks_as_null: bool,
    /// CSV: `TIMEFORMAT`. Default `auto`.
    pub time_format: String,
    /// CSV: `DATEFORMAT`. Default `auto`.
    pub date_format: String,
    /// `ACCEPTINVCHARS`: the character that stands in for what Redshift cannot
    /// store. Default none: such rows go to quarantine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept_inv_chars: Option<char>,
    /// CSV: `TRUNCATECOLUMNS`, whether text is cut to its column. Default
    /// false: such rows go to quarantine.
    pub truncate_columns: bool,
    /// CSV: `ACCEPTANYDATE`, whether impossible dates are null. Default false:
    /// such rows go to quarantine.
    pub accept_any_date: bool,
    /// CSV: `TRIMBLANKS`, whether blanks at the end of text are removed.
    /// Default false.
    pub trim_blanks: bool,
    /// CSV: `ROUNDEC`, whether numbers are rounded to their column's scale
    /// rather than cut. Default true.
    pub round_decimals: bool,
}

impl Default for CopyConfig {
    fn default() -> Self {
        Self {
            format: CopyFormat::Csv,
            delimiter: ',',
            gzip: true,
            rows_per_file: None,
            empty_as_null: false,
            blanks_as_null: false,
            time_format: String::from("auto"),
            date_format: String::from("auto"),
            accept_inv_chars: None,
            truncate_columns: false,
            accept_any_date: false,
            trim_blanks: false,
            round_decimals: true,
        }
    }
}

impl Default for RedshiftConfig {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: 5439,
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
            staging: StagingConfig::default(),
            iam_role: None,
            copy: CopyConfig::default(),
            connect_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(3600),
            quarantine: LakeConfig::at("./quarantine"),
        }
    }
}

impl StagingConfig {
    /// The lake that files are put into.
    pub(super) fn lake(&self) -> LakeConfig {
        LakeConfig {
            url: self.url.clone(),
            aws: self.aws.clone(),
            path_style: self.path_style,
            ..LakeConfig::default()
        }
    }
}

impl CopyConfig {
    fn check(&self) -> Result<(), SqlConfigError> {
        let wrong = |setting, problem: &str| Err(SqlConfigError::new(setting, problem));
        let fits = |c: char| c.is_ascii() && !matches!(c, '"' | '\r' | '\n' | '\\' | '@' | '\0' | '\'');
        if !fits(self.delimiter) {
            return wrong("copy.delimiter", "one ASCII character, no quote, backslash, `@` or line break");
        }
        if self.accept_inv_chars.is_some_and(|c| !(c.is_ascii_graphic() && fits(c))) {
            return wrong("copy.accept_inv_chars", "one visible ASCII character such as `?`");
        }
        for (setting, text) in
            [("copy.time_format", &self.time_format), ("copy.date_format", &self.date_format)]
        {
            if text.is_empty() || text.contains(['\\', '\0']) {
                return wrong(setting, "`auto`, or a format such as `YYYY-MM-DD HH:MI:SS`");
            }
        }
        let plain = Self { format: CopyFormat::Parquet, ..Self::default() };
        let of_parquet = Self { rows_per_file: None, accept_inv_chars: None, ..self.clone() };
        if self.format == CopyFormat::Parquet && of_parquet != plain {
            return wrong(
                "copy",
                "with format: parquet only rows_per_file and accept_inv_chars may be given",
            );
        }
        Ok(())
    }
}

impl RedshiftConfig {
    /// Checks all that can be checked without asking anyone.
    ///
    /// # Errors
    /// See [`SqlConfigError`].
    pub fn check(&self) -> Result<(), SqlConfigError> {
        let wrong = |setting, problem: &str| Err(SqlConfigError::new(setting, problem));
        self.access().check()?;
        self.table()?;
        self.ledger()?;
        self.copy.check()?;
        if let Some(merge) = &self.merge {
            merge.check()?;
            if merge.order_by.is_none() && !self.lineage {
                return wrong("merge", "COPY keeps no order: give merge.order_by, or lineage: true");
            }
        }
        if self.create_options.contains(';') {
            return wrong("create_options", "one statement's end only, without `;`");
        }
        if !self.staging.url.starts_with("s3://") {
            return wrong("staging.url", "COPY reads from S3: s3://bucket/prefix/");
        }
        let staging = self.staging.lake().check();
        staging.map_err(|error| SqlConfigError::new("staging", error.to_string()))?;
        let role = |part: &str| part == "default" || (part.starts_with("arn:") && part.is_ascii());
        match &self.iam_role {
            Some(roles) if roles.contains(['\'', '\\']) || !roles.split(',').all(role) => {
                return wrong("iam_role", "`default`, or arn:aws:iam::123456789012:role/name");
            }
            Some(_) => {}
            None if self.staging.aws.access_key_id.is_none() => {
                return wrong(
                    "iam_role",
                    "say by which role COPY reads the staged files: an ARN, or `default`",
                );
            }
            None => {}
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
        match self.copy.format {
            CopyFormat::Csv => FileNeeds::Csv {
                delimiter: self.copy.delimiter,
                null: if self.copy.empty_as_null { "" } else { NULL },
                gzip: self.copy.gzip,
            },
            CopyFormat::Parquet => FileNeeds::Parquet,
        }
    }

    pub(super) fn access(&self) -> Access {
        Access {
            dialect: Dialect::Redshift,
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
        sql::table("table", &self.table, Dialect::Redshift)
    }

    pub(super) fn ledger(&self) -> Result<TableName, SqlConfigError> {
        match &self.ledger {
            Some(ledger) => sql::table("ledger", ledger, Dialect::Redshift),
            None => Ok(self.table()?.beside(ledger::NAME)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(in super::super) fn smallest() -> RedshiftConfig {
        RedshiftConfig {
            host: "cluster".into(),
            database: "dev".into(),
            user: "u".into(),
            table: "adobe_ls.stg".into(),
            iam_role: Some("arn:aws:iam::123456789012:role/copy".into()),
            staging: StagingConfig { url: "s3://bucket/stage/".into(), ..StagingConfig::default() },
            ..RedshiftConfig::default()
        }
    }

    #[test]
    fn settings_that_do_not_fit_say_so() {
        let check = |change: fn(&mut RedshiftConfig), expect: Option<&str>| {
            let mut config = smallest();
            change(&mut config);
            assert_eq!(config.check().err().map(|error| error.setting), expect);
        };
        check(|_| {}, None);
        check(|c| c.staging.url = "./folder".into(), Some("staging.url"));
        check(|c| c.staging.url = String::new(), Some("staging.url"));
        check(|c| c.staging.url = "s3://".into(), Some("staging"));
        check(|c| c.iam_role = None, Some("iam_role"));
        check(|c| c.iam_role = Some("default".into()), None);
        check(|c| c.iam_role = Some("x' CSV".into()), Some("iam_role"));
        check(
            |c| {
                c.iam_role = None;
                c.staging.aws.access_key_id = Some("a".into());
                c.staging.aws.secret_access_key = Some(Secret::new("s"));
            },
            None,
        );
        check(|c| c.copy.delimiter = '~', None);
        check(|c| c.copy.delimiter = '"', Some("copy.delimiter"));
        check(|c| c.copy.time_format = String::new(), Some("copy.time_format"));
        check(|c| c.copy.format = CopyFormat::Parquet, None);
        check(
            |c| {
                c.copy.format = CopyFormat::Parquet;
                c.copy.empty_as_null = true;
            },
            Some("copy"),
        );
        check(|c| c.merge = Some(MergeConfig { key: vec!["id".into()], order_by: None }), Some("merge"));
        check(
            |c| {
                c.merge = Some(MergeConfig { key: vec!["id".into()], order_by: None });
                c.lineage = true;
            },
            None,
        );
    }

    #[test]
    fn maxerror_cannot_be_given() {
        assert!(serde_json::from_str::<RedshiftConfig>(r#"{"copy": {"max_error": 10}}"#).is_err());
    }

    #[test]
    fn it_hides_its_secrets() {
        let config: RedshiftConfig =
            serde_json::from_str(r#"{"password": "hush", "staging": {"secret_access_key": "hush"}}"#)
                .expect("it reads");
        assert!(!format!("{config:?}").contains("hush"));
    }
}
