//! The COPY statement ("COPY" in Redshift's database developer guide).

use lakeward_model::{Column, ColumnType, Secret};

use super::config::{CopyFormat, RedshiftConfig};
use crate::destinations::sql::names::{list, literal};
use crate::destinations::sql::{Dialect, FileNeeds};

/// What stays the same of every COPY. Its text may hold a secret key.
pub(super) struct CopyStatement {
    config: RedshiftConfig,
}

/// Whether rows are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// They are.
    Load,
    /// They are only looked at, to find all that do not fit.
    Check,
}

/// The most errors that one COPY tells of.
pub(super) const ERRORS_MAX: usize = 100_000;

impl CopyStatement {
    pub(super) fn new(config: &RedshiftConfig) -> Self {
        Self { config: config.clone() }
    }

    /// The statement that loads the files of a manifest.
    pub(super) fn text(
        &self,
        into: &str,
        names: &[String],
        columns: &[Column],
        manifest: &str,
        purpose: Purpose,
    ) -> String {
        let text = |text: &str| literal(text, Dialect::Redshift);
        let mut copy = format!(
            "COPY {into} ({}) FROM {} {} FORMAT AS ",
            list(names.iter().map(String::as_str)),
            text(manifest),
            self.authorization(),
        );
        let options = &self.config.copy;
        let mut say = |words: &str| {
            copy.push_str(words);
            copy.push(' ');
        };
        match self.config.files() {
            FileNeeds::Csv { delimiter, null, gzip } => {
                say(&format!("CSV DELIMITER AS {}", text(&delimiter.to_string())));
                if !null.is_empty() {
                    say(&format!("NULL AS {}", text(null)));
                }
                for (words, wanted) in [
                    ("GZIP", gzip),
                    ("EMPTYASNULL", options.empty_as_null),
                    ("BLANKSASNULL", options.blanks_as_null),
                    ("TRUNCATECOLUMNS", options.truncate_columns),
                    ("ACCEPTANYDATE", options.accept_any_date),
                    ("TRIMBLANKS", options.trim_blanks),
                    ("ROUNDEC", options.round_decimals),
                    ("COMPUPDATE OFF", true),
                    ("STATUPDATE OFF", true),
                ] {
                    if wanted {
                        say(words);
                    }
                }
                say(&format!("TIMEFORMAT AS {}", text(&options.time_format)));
                say(&format!("DATEFORMAT AS {}", text(&options.date_format)));
                // COPY of columnar files takes no REGION: the bucket must be in
                // the cluster's.
                if let Some(region) = &self.config.staging.aws.region {
                    say(&format!("REGION AS {}", text(region)));
                }
                if purpose == Purpose::Check {
                    say(&format!("NOLOAD MAXERROR AS {ERRORS_MAX}"));
                }
            }
            FileNeeds::Parquet => {
                say("PARQUET STATUPDATE OFF");
                let is_nested = |ty: &ColumnType| matches!(ty, ColumnType::Struct(_) | ColumnType::List(_));
                if columns.iter().any(|column| is_nested(&column.ty)) {
                    say("SERIALIZETOJSON");
                }
            }
        }
        if let Some(stand_in) = options.accept_inv_chars {
            say(&format!("ACCEPTINVCHARS AS {}", text(&stand_in.to_string())));
        }
        copy.push_str("MANIFEST");
        copy
    }

    fn authorization(&self) -> String {
        let text = |text: &str| literal(text, Dialect::Redshift);
        let secret = |secret: &Option<Secret>| text(secret.as_ref().map_or("", Secret::expose));
        let staging = &self.config.staging;
        match self.config.iam_role.as_deref() {
            Some("default") => String::from("IAM_ROLE default"),
            Some(role) => format!("IAM_ROLE {}", text(role)),
            None => {
                let mut key = format!(
                    "ACCESS_KEY_ID {} SECRET_ACCESS_KEY {}",
                    text(staging.aws.access_key_id.as_deref().unwrap_or_default()),
                    secret(&staging.aws.secret_access_key),
                );
                if staging.aws.session_token.is_some() {
                    key.push_str(&format!(" SESSION_TOKEN {}", secret(&staging.aws.session_token)));
                }
                key
            }
        }
    }

    /// Whether files are Parquet, of which COPY names no rows.
    pub(super) fn is_parquet(&self) -> bool {
        self.config.copy.format == CopyFormat::Parquet
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws_access::AwsAccess;
    use crate::destinations::redshift::{CopyConfig, StagingConfig};

    fn config() -> RedshiftConfig {
        RedshiftConfig {
            iam_role: Some("arn:aws:iam::123456789012:role/copy".into()),
            ..RedshiftConfig::default()
        }
    }

    fn check(config: &RedshiftConfig, purpose: Purpose, expect: &str) {
        let names = [String::from("a"), String::from("b\"c")];
        let columns = [Column { name: "a".into(), ty: ColumnType::List(Box::new(ColumnType::Int64)) }];
        let text = CopyStatement::new(config).text("\"s\".\"t\"", &names, &columns, "s3://b/m", purpose);
        assert_eq!(text, expect);
    }

    #[test]
    fn csv() {
        check(
            &config(),
            Purpose::Load,
            r#"COPY "s"."t" ("a", "b""c") FROM 's3://b/m' IAM_ROLE 'arn:aws:iam::123456789012:role/copy' FORMAT AS CSV DELIMITER AS ',' NULL AS '@LakewardNull@' GZIP ROUNDEC COMPUPDATE OFF STATUPDATE OFF TIMEFORMAT AS 'auto' DATEFORMAT AS 'auto' MANIFEST"#,
        );
        let like_system_e = RedshiftConfig {
            iam_role: Some("default".into()),
            staging: StagingConfig {
                aws: AwsAccess { region: Some("eu-west-1".into()), ..AwsAccess::default() },
                ..StagingConfig::default()
            },
            copy: CopyConfig {
                delimiter: '~',
                gzip: false,
                empty_as_null: true,
                accept_inv_chars: Some('?'),
                truncate_columns: true,
                round_decimals: false,
                ..CopyConfig::default()
            },
            ..config()
        };
        check(
            &like_system_e,
            Purpose::Check,
            r#"COPY "s"."t" ("a", "b""c") FROM 's3://b/m' IAM_ROLE default FORMAT AS CSV DELIMITER AS '~' EMPTYASNULL TRUNCATECOLUMNS COMPUPDATE OFF STATUPDATE OFF TIMEFORMAT AS 'auto' DATEFORMAT AS 'auto' REGION AS 'eu-west-1' NOLOAD MAXERROR AS 100000 ACCEPTINVCHARS AS '?' MANIFEST"#,
        );
    }

    #[test]
    fn parquet_has_fewer_options() {
        let parquet = RedshiftConfig {
            copy: CopyConfig { format: CopyFormat::Parquet, ..CopyConfig::default() },
            iam_role: None,
            staging: StagingConfig {
                aws: AwsAccess {
                    access_key_id: Some("A".into()),
                    secret_access_key: Some(Secret::new("it's\\")),
                    region: Some("eu-west-1".into()),
                    ..AwsAccess::default()
                },
                ..StagingConfig::default()
            },
            ..config()
        };
        check(
            &parquet,
            Purpose::Load,
            r#"COPY "s"."t" ("a", "b""c") FROM 's3://b/m' ACCESS_KEY_ID 'A' SECRET_ACCESS_KEY 'it''s\\' FORMAT AS PARQUET STATUPDATE OFF SERIALIZETOJSON MANIFEST"#,
        );
    }
}
