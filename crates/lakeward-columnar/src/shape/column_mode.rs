//! The types that a user can declare for a column.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::schema::ColumnType;

/// The declared type of a column. The column is there from the first batch on,
/// and its type never changes. What does not fit is a mismatch, except that
/// each type also takes what means the same value (see the variants).
///
/// In the configuration it is a word: `bool`, `int64`, `float64`, `string`,
/// `json`, `timestamp`, `timestamptz`, `date` or `decimal(18,4)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum ColumnMode {
    /// True or false; also `"true"` and `"false"`.
    Bool,
    /// Integers of 64 bits; also in strings (`"123"`), and numbers with a
    /// fraction of zeros or an exponent (`5.0`, `1e3`).
    Int64,
    /// 64-bit floats; also in strings (`"1.5"`).
    Float64,
    /// Text; also numbers as they are spelt, and `true` and `false`.
    String,
    /// Any value, as its JSON text: for free-form maps and mixed types.
    Json,
    /// A date and a time of day without zone, in microseconds (finer digits
    /// are cut): ISO 8601 text, of which an offset is taken into account so
    /// that the time is in UTC; or epoch numbers, seconds below 10^12 in
    /// absolute value, then milliseconds, from 10^15 microseconds, from 10^18
    /// nanoseconds (`aws-and-launchdarkly.md`, section 2.7); also in strings
    /// of at least 9 digits.
    Timestamp,
    /// The same as an instant. Text without a zone is UTC.
    TimestampTz,
    /// A day: `YYYY-MM-DD`, or whatever a timestamp takes, of which it is the
    /// day in UTC.
    Date,
    /// Exact numbers of so many digits (1 to 38), so many of them behind the
    /// point; also in strings. A number with more digits is a mismatch.
    Decimal(u8, u8),
}

/// A word that is no type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a column type; it is one of bool, int64, float64, string, json, timestamp, timestamptz, date and decimal(precision,scale) with 1 to 38 digits"
)]
pub struct UnknownColumnMode(String);

impl ColumnMode {
    /// What the column holds.
    #[must_use]
    pub fn column_type(self) -> ColumnType {
        match self {
            Self::Bool => ColumnType::Bool,
            Self::Int64 => ColumnType::Int64,
            Self::Float64 => ColumnType::Float64,
            Self::String => ColumnType::Utf8,
            Self::Json => ColumnType::Json,
            Self::Timestamp => ColumnType::Timestamp,
            Self::TimestampTz => ColumnType::TimestampTz,
            Self::Date => ColumnType::Date,
            Self::Decimal(precision, scale) => ColumnType::Decimal(precision, scale),
        }
    }
}

impl fmt::Display for ColumnMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.column_type(), f)
    }
}

impl From<ColumnMode> for String {
    fn from(mode: ColumnMode) -> Self {
        mode.to_string()
    }
}

impl TryFrom<String> for ColumnMode {
    type Error = UnknownColumnMode;

    fn try_from(text: String) -> Result<Self, UnknownColumnMode> {
        text.parse()
    }
}

impl FromStr for ColumnMode {
    type Err = UnknownColumnMode;

    fn from_str(text: &str) -> Result<Self, UnknownColumnMode> {
        Ok(match text {
            "bool" => Self::Bool,
            "int64" => Self::Int64,
            "float64" => Self::Float64,
            "string" => Self::String,
            "json" => Self::Json,
            "timestamp" => Self::Timestamp,
            "timestamptz" => Self::TimestampTz,
            "date" => Self::Date,
            other => decimal(other).ok_or_else(|| UnknownColumnMode(other.to_owned()))?,
        })
    }
}

fn decimal(text: &str) -> Option<ColumnMode> {
    let (precision, scale) = text.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
    let (precision, scale) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
    ((1..=38).contains(&precision) && scale <= precision).then_some(ColumnMode::Decimal(precision, scale))
}

impl JsonSchema for ColumnMode {
    fn schema_name() -> Cow<'static, str> {
        "ColumnMode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The declared type of a column: bool, int64, float64, string, json, timestamp, timestamptz, date or decimal(precision,scale).",
            "type": "string",
            "anyOf": [
                {"enum": ["bool", "int64", "float64", "string", "json", "timestamp", "timestamptz", "date"]},
                {"pattern": r"^decimal\( *[0-9]{1,2} *, *[0-9]{1,2} *\)$"},
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_types_and_back() {
        for word in [
            "bool",
            "int64",
            "float64",
            "string",
            "json",
            "timestamp",
            "timestamptz",
            "date",
            "decimal(38,0)",
            "decimal(18,4)",
        ] {
            let mode: ColumnMode = serde_json::from_value(word.into()).unwrap();
            assert_eq!(serde_json::to_value(mode).unwrap(), word);
        }
        assert_eq!("decimal(9, 2)".parse(), Ok(ColumnMode::Decimal(9, 2)));
        for word in
            ["", "Json", "text", "decimal", "decimal(0,0)", "decimal(39,0)", "decimal(4,5)", "decimal(4)"]
        {
            let error = word.parse::<ColumnMode>().unwrap_err();
            assert!(error.to_string().starts_with(&format!("{word:?} is not a column type")));
        }
    }
}
