//! How a Glue catalog is configured.

use std::collections::BTreeMap;
use std::time::Duration;

use lakeward_model::units;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::aws_access::AwsAccess;

/// A table of the AWS Glue Data Catalog, which Athena, Redshift Spectrum, EMR
/// and Lake Formation read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GlueConfig {
    /// The database; it is made if it is not there.
    pub database: String,
    /// The table; it is made if it is not there. Default: the pipeline's name
    /// in lower case, with `_` for what is no letter or digit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// The account that the catalog belongs to, if it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog_id: Option<String>,
    /// Whether Athena works out the partitions by itself (partition
    /// projection). Then none are registered, and only Athena sees them.
    pub projection: bool,
    /// Projection: the first day with data, `YYYY-MM-DD`. Default 2020-01-01.
    pub projection_from: String,
    /// Projection: the values of partition keys that are no times: `{ area:
    /// [checkout, search] }`. A key without them must be given in every query
    /// (type `injected`).
    pub projection_values: BTreeMap<String, Vec<String>>,
    /// Where Glue is, and as whom it is asked.
    #[serde(flatten)]
    pub aws: AwsAccess,
    /// How long one call may take. Default `30s`.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub timeout: Duration,
}

impl Default for GlueConfig {
    fn default() -> Self {
        Self {
            database: String::new(),
            table: None,
            catalog_id: None,
            projection: false,
            projection_from: String::from("2020-01-01"),
            projection_values: BTreeMap::new(),
            aws: AwsAccess::default(),
            timeout: Duration::from_secs(30),
        }
    }
}

/// A configuration that cannot be used; the text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct GlueConfigError {
    /// The setting at fault.
    pub setting: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl GlueConfig {
    /// Checks all that can be checked without asking anyone.
    ///
    /// # Errors
    /// See [`GlueConfigError`].
    pub fn check(&self) -> Result<(), GlueConfigError> {
        let wrong = |setting, problem: &str| Err(GlueConfigError { setting, problem: problem.into() });
        if !is_name(&self.database) {
            return wrong("database", "lower-case letters, digits and `_`, at most 255 of them");
        }
        if self.table.as_deref().is_some_and(|table| !is_name(table)) {
            return wrong("table", "lower-case letters, digits and `_`, at most 255 of them");
        }
        if !is_day(&self.projection_from) {
            return wrong("projection_from", "a day such as 2024-01-31");
        }
        if !self.projection && !self.projection_values.is_empty() {
            return wrong("projection_values", "only with `projection: true`");
        }
        for values in self.projection_values.values() {
            if values.is_empty() || values.iter().any(|value| value.is_empty() || value.contains(',')) {
                return wrong("projection_values", "a list of texts without commas for every key");
            }
        }
        if self.timeout < Duration::from_secs(1) {
            return wrong("timeout", "at least 1s");
        }
        self.aws.check().map_err(|error| GlueConfigError { setting: error.setting, problem: error.problem })
    }

    /// The table's name for a pipeline.
    #[must_use]
    pub fn table_for(&self, pipeline: &str) -> String {
        self.table.clone().unwrap_or_else(|| table_name(pipeline))
    }
}

/// A name that every engine takes without quotes, made from any text:
/// `flag-evaluations` becomes `flag_evaluations`.
#[must_use]
pub fn table_name(pipeline: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let name: String = pipeline.chars().take(128).map(plain).collect();
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) { name } else { format!("t_{name}") }
}

/// What Athena takes ("Name databases, tables, and columns" in its user guide).
fn is_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    (1..=255).contains(&name.len()) && name.bytes().all(fits)
}

fn is_day(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts.as_slice() else { return false };
    let number =
        |text: &str, digits: usize| (text.len() == digits).then(|| text.parse::<u32>().ok()).flatten();
    number(year, 4).is_some_and(|year| year >= 1970)
        && number(month, 2).is_some_and(|month| (1..=12).contains(&month))
        && number(day, 2).is_some_and(|day| (1..=31).contains(&day))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_legal() {
        for (pipeline, expect) in [
            ("flag-evaluations", "flag_evaluations"),
            ("Über/x", "t__ber_x"),
            ("2024", "t_2024"),
            ("a.B", "a_b"),
        ] {
            assert_eq!(table_name(pipeline), expect);
            assert!(is_name(&table_name(pipeline)));
        }
    }

    #[test]
    fn settings_that_do_not_fit_say_so() {
        let check = |change: fn(&mut GlueConfig), expect: Option<&str>| {
            let mut config = GlueConfig { database: "lake".into(), ..GlueConfig::default() };
            change(&mut config);
            assert_eq!(config.check().err().map(|error| error.setting), expect);
        };
        check(|_| {}, None);
        check(|c| c.database = String::new(), Some("database"));
        check(|c| c.database = "My-Lake".into(), Some("database"));
        check(|c| c.table = Some("a b".into()), Some("table"));
        check(|c| c.projection_from = "2024-1-1".into(), Some("projection_from"));
        check(|c| drop(c.projection_values.insert("a".into(), vec!["x".into()])), Some("projection_values"));
        check(|c| c.timeout = Duration::ZERO, Some("timeout"));
        check(|c| c.aws.endpoint = Some("http://moto:5000".into()), Some("endpoint"));
    }

    #[test]
    fn it_hides_its_secret() {
        let config: GlueConfig = serde_json::from_str(
            r#"{"database": "d", "access_key_id": "a", "secret_access_key": "hush", "timeout": "5s"}"#,
        )
        .expect("it reads");
        assert_eq!(config.check(), Ok(()));
        assert!(!format!("{config:?}").contains("hush"));
        assert!(serde_json::from_str::<GlueConfig>(r#"{"database": "d", "nope": 1}"#).is_err());
    }
}
