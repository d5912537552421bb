//! What an error of the server means.

use std::fmt;

use lakeward_model::{Failure, FailureKind};

use super::Dialect;

/// A statement that did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SqlError {
    /// The server said no.
    Server(Said),
    /// There is no connection any more, or no answer in time; what the text
    /// says is for people.
    Lost(String),
    /// Nobody answered what became of it: it may have been done.
    Unknown(String),
    /// There never was a connection: the settings are wrong.
    Unusable(String),
}

/// The server's words. They may quote values of a row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Said {
    /// The SQLSTATE (PostgreSQL's documentation, appendix A).
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    /// PostgreSQL's CONTEXT: `COPY t, line 3, column a: "x"`.
    pub(crate) context: Option<String>,
    /// The constraint, where the server names one.
    pub(crate) constraint: Option<String>,
}

impl From<tokio_postgres::Error> for SqlError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(next) = cause {
                text.push_str(": ");
                text.push_str(&next.to_string());
                cause = next.source();
            }
            return Self::Lost(text);
        };
        Self::Server(Said {
            code: said.code().code().to_string(),
            message: said.message().to_string(),
            detail: said.detail().map(String::from),
            context: said.where_().map(String::from),
            constraint: said.constraint().map(String::from),
        })
    }
}

impl Said {
    /// Whether it is the rows that the server will not take: data exceptions
    /// (22), broken constraints (23), a check option (44), a trigger's own
    /// exception (P0001), a row too big for a page or an index (54000).
    pub(crate) fn blames_rows(&self) -> bool {
        let class = self.code.get(..2).unwrap_or_default();
        matches!(class, "22" | "23" | "44") || matches!(self.code.as_str(), "P0001" | "54000")
    }

    /// Whether two transactions were in each other's way; the whole is tried
    /// again. Redshift has its own number (1023, serializable isolation
    /// violation) under an SQLSTATE that says nothing.
    pub(crate) fn is_conflict(&self) -> bool {
        let says = |text: &str| {
            self.message.contains(text) || self.detail.as_ref().is_some_and(|detail| detail.contains(text))
        };
        matches!(self.code.as_str(), "40001" | "40P01" | "55P03")
            || self.message.trim_start().starts_with("1023")
            || says("Serializable isolation violation")
            || says("could not serialize")
    }

    /// The column that PostgreSQL names in the context of a COPY.
    fn column(&self) -> Option<&str> {
        let context = self.context.as_deref()?.lines().next()?;
        let rest = &context[context.find(", column ")? + 9..];
        Some(rest.split(": ").next().unwrap_or(rest))
    }

    /// The line that PostgreSQL names in the context of a COPY, from 1.
    pub(crate) fn line(&self) -> Option<u64> {
        let context = self.context.as_deref()?.lines().next()?.strip_prefix("COPY ")?;
        let rest = &context[context.find(", line ")? + 7..];
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..digits].parse().ok()
    }

    /// For quarantine, beside the record itself: with the value at fault.
    pub(crate) fn for_record(&self) -> String {
        let mut text = String::new();
        if let Some(column) = self.column() {
            text.push_str(&format!("column {column}: "));
        }
        text.push_str(&self.message);
        if let Some(detail) = &self.detail {
            text.push_str(&format!(" ({})", detail.trim_end_matches('.')));
        }
        text.push_str(&format!(" [{}]", self.code));
        text.chars().filter(|c| !c.is_control()).take(1000).collect()
    }

    /// For logs: without the values of a row.
    pub(crate) fn for_person(&self) -> String {
        if !self.blames_rows() {
            let detail = self.detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
            return format!("{}{detail} [{}]", self.message, self.code);
        }
        let what = match self.code.as_str() {
            "22P02" => "a text that is no value of the column's type",
            "22001" => "a text longer than the column",
            "22003" => "a number beyond the column's range",
            "22007" | "22008" => "no date or time",
            "22021" => "a character that the database cannot store",
            "22P05" => "JSON with a character that the database cannot store",
            "23502" => "null where the column takes none",
            "23505" => "a key that is there already",
            "23503" => "a foreign key without its row",
            "23514" => "a value that a check constraint refuses",
            "P0001" => "a row that a trigger refuses",
            _ => "a value that the table refuses",
        };
        let column = self.column().map(|column| format!("column {column}: ")).unwrap_or_default();
        let constraint =
            self.constraint.as_ref().map(|name| format!(" (constraint {name})")).unwrap_or_default();
        format!("{column}{what}{constraint} [{}]", self.code)
    }

    fn kind(&self) -> FailureKind {
        if self.is_conflict() {
            return FailureKind::NotDone;
        }
        let class = self.code.get(..2).unwrap_or_default();
        match (class, self.code.as_str()) {
            (_, "40003" | "08007") => FailureKind::Unknown,
            // No password, no such user; no such database; rows, rights, names.
            ("28" | "3D" | "3F" | "22" | "23" | "44" | "42" | "0A" | "P0", _) => FailureKind::Refused,
            (_, "54000") => FailureKind::Refused,
            // Full, busy, starting, stopping, a replica that is no primary yet.
            _ => FailureKind::NotDone,
        }
    }
}

impl SqlError {
    /// What the engine is told. `hint` is what a person can do about it, if it
    /// is refused.
    pub(crate) fn failure(&self, place: &dyn fmt::Display, hint: &str) -> Failure {
        match self {
            Self::Server(said) => {
                let kind = said.kind();
                let hint = if kind == FailureKind::Refused && !hint.is_empty() {
                    format!(": {hint}")
                } else {
                    String::new()
                };
                Failure::new(kind, format!("{place}: {}{hint}", said.for_person()))
            }
            Self::Lost(what) => Failure::new(FailureKind::NotDone, format!("{place}: {what}")),
            Self::Unknown(what) => Failure::new(FailureKind::Unknown, format!("{place}: {what}")),
            Self::Unusable(what) => Failure::new(FailureKind::Refused, format!("{place}: {what}")),
        }
    }

    /// What the engine is told when it was COMMIT that got no answer.
    pub(crate) fn of_commit(&self, place: &dyn fmt::Display) -> Failure {
        let mut failure = self.failure(place, "");
        // A server that is stopped may have committed before it said so.
        let stopped = self.said().is_some_and(|said| said.code.starts_with("57P"));
        if stopped || matches!(self, Self::Lost(_)) {
            failure.kind = FailureKind::Unknown;
            failure.message = format!("{} (no answer to COMMIT)", failure.message);
        }
        failure
    }

    /// The server's words, if it spoke.
    pub(crate) fn said(&self) -> Option<&Said> {
        match self {
            Self::Server(said) => Some(said),
            Self::Lost(_) | Self::Unknown(_) | Self::Unusable(_) => None,
        }
    }

    /// What a person can do about an error of the first statement by the Data
    /// API.
    pub(crate) fn of_the_data_api(&self, place: &dyn fmt::Display) -> Failure {
        let hint = match self.said().map(|said| said.code.as_str()) {
            Some("28P01" | "28000") => {
                "see data_api.secret_arn and data_api.db_user, and whether the user is in the database"
            }
            Some("3D000") => "create the database, or see `database`",
            _ => "",
        };
        self.failure(place, hint)
    }

    /// What a person can do about an error of connecting.
    pub(crate) fn of_connecting(&self, place: &dyn fmt::Display, dialect: Dialect) -> Failure {
        let hint = match self.said().map(|said| said.code.as_str()) {
            Some("28P01") => "the password is not this user's: see `user` and `password`",
            Some("28000") => match dialect {
                Dialect::Postgres => {
                    "the server does not let this user in from here: see pg_hba.conf, `user` and `tls`"
                }
                Dialect::Redshift => "the server does not let this user in: see `user`, `password` and `tls`",
            },
            Some("3D000") => "create the database, or see `database`",
            Some("42501") => "grant the user the right to connect: GRANT CONNECT ON DATABASE … TO …",
            _ => "",
        };
        self.failure(place, hint)
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(said) => f.write_str(&said.for_person()),
            Self::Lost(what) | Self::Unknown(what) | Self::Unusable(what) => f.write_str(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: &str) -> Said {
        Said {
            code: code.into(),
            message: String::from("invalid input syntax for type integer: \"secret\""),
            context: Some(String::from("COPY t, line 17, column a, b: \"secret\"")),
            ..Said::default()
        }
    }

    #[test]
    fn kinds() {
        for (code, expect) in [
            ("40001", FailureKind::NotDone),
            ("40P01", FailureKind::NotDone),
            ("40003", FailureKind::Unknown),
            ("53300", FailureKind::NotDone),
            ("53100", FailureKind::NotDone),
            ("57014", FailureKind::NotDone),
            ("57P01", FailureKind::NotDone),
            ("57P03", FailureKind::NotDone),
            ("25006", FailureKind::NotDone),
            ("08006", FailureKind::NotDone),
            ("XX000", FailureKind::NotDone),
            ("42P01", FailureKind::Refused),
            ("42501", FailureKind::Refused),
            ("28P01", FailureKind::Refused),
            ("3D000", FailureKind::Refused),
            ("22P02", FailureKind::Refused),
        ] {
            assert_eq!(SqlError::Server(said(code)).failure(&"here", "").kind, expect, "{code}");
        }
        assert_eq!(SqlError::Lost("gone".into()).failure(&"here", "").kind, FailureKind::NotDone);
        assert_eq!(SqlError::Lost("gone".into()).of_commit(&"here").kind, FailureKind::Unknown);
    }

    #[test]
    fn redshifts_conflict_has_no_code_of_its_own() {
        let conflict = Said {
            code: "XX000".into(),
            message: "1023".into(),
            detail: Some(
                "Serializable isolation violation on table - 101, transactions forming the cycle".into(),
            ),
            ..Said::default()
        };
        assert!(conflict.is_conflict());
        assert!(!said("XX000").is_conflict());
    }

    #[test]
    fn logs_see_no_values_and_quarantine_does() {
        let said = said("22P02");
        assert_eq!(said.line(), Some(17));
        assert_eq!(said.for_person(), "column a, b: a text that is no value of the column's type [22P02]");
        assert_eq!(
            said.for_record(),
            "column a, b: invalid input syntax for type integer: \"secret\" [22P02]"
        );
    }
}
