//! What Redshift says about rows that it could not load: `stl_load_errors`, or
//! `sys_load_error_detail` where there is no such table (serverless).

use crate::destinations::sql::error::{Said, SqlError};
use crate::destinations::sql::session::{Row, Session};

use super::copy::ERRORS_MAX;

/// One row that was not loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LoadError {
    /// `s3://bucket/key`.
    pub(super) file: String,
    /// The line in it, from 1.
    pub(super) line: u64,
    pub(super) column: String,
    pub(super) code: String,
    /// It may quote a value.
    pub(super) reason: String,
}

/// Which COPY of this session is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// One that came to its end, by its number.
    Finished(i64),
    /// The last one that told of errors, of this session or of the server's
    /// process that ran it.
    Failed(Option<i64>),
}

/// The number of the last COPY that came to its end.
pub(super) async fn last_copy(session: &Session) -> Result<i64, SqlError> {
    number(&session.rows(LAST_COPY).await?)
}

/// Asks for the number of the last COPY.
pub(super) const LAST_COPY: &str = "SELECT pg_last_copy_id()";

/// What the answer to it says.
pub(super) fn number(rows: &[Row]) -> Result<i64, SqlError> {
    let number = rows.first().and_then(|row| row.first()?.as_deref()?.trim().parse().ok());
    number.ok_or_else(|| SqlError::Lost(String::from("pg_last_copy_id() told no number")))
}

/// Asks what rows were not loaded, in a transaction that nothing else is done
/// in: a question that is refused aborts it, and the next one begins another.
pub(super) async fn read(session: &Session, which: Which) -> Result<Vec<LoadError>, SqlError> {
    match session.rows(&query(which, false)).await {
        Ok(rows) => Ok(rows.into_iter().map(load_error).collect()),
        Err(SqlError::Server(said)) if is_missing(&said) => {
            session.roll_back().await?;
            session.begin().await?;
            let rows = session.rows(&query(which, true)).await?;
            Ok(rows.into_iter().map(load_error).collect())
        }
        Err(error) => Err(error),
    }
}

/// No such table, or none that this user may read.
fn is_missing(said: &Said) -> bool {
    matches!(said.code.as_str(), "42P01" | "42501" | "0A000")
}

fn query(which: Which, serverless: bool) -> String {
    let (table, query, session, columns) = if serverless {
        let columns = "TRIM(file_name), line_number, TRIM(column_name), error_code, TRIM(error_message)";
        ("sys_load_error_detail", "query_id", "session_id", columns)
    } else {
        (
            "stl_load_errors",
            "query",
            "session",
            "TRIM(filename), line_number, TRIM(colname), err_code, TRIM(err_reason)",
        )
    };
    let id = match which {
        Which::Finished(number) => number.to_string(),
        Which::Failed(process) => {
            let process = process.map_or_else(|| String::from("pg_backend_pid()"), |id| id.to_string());
            format!("(SELECT MAX({query}) FROM {table} WHERE {session} = {process})")
        }
    };
    format!("SELECT {columns} FROM {table} WHERE {query} = {id} ORDER BY 1, 2 LIMIT {ERRORS_MAX}")
}

fn load_error(row: Vec<Option<String>>) -> LoadError {
    let mut row = row.into_iter().map(Option::unwrap_or_default);
    let mut next = || row.next().unwrap_or_default();
    LoadError {
        file: next(),
        line: next().trim().parse().unwrap_or(0),
        column: next(),
        code: next().trim().to_string(),
        reason: next(),
    }
}

impl LoadError {
    /// For quarantine.
    pub(super) fn for_record(&self) -> String {
        let column = if self.column.is_empty() { String::new() } else { format!("column {}: ", self.column) };
        let text = format!("{column}{} [{}]", self.reason, self.code);
        text.chars().filter(|c| !c.is_control()).take(1000).collect()
    }

    /// For logs: where it is, and why, without what stands in quotes there.
    pub(super) fn for_person(&self) -> String {
        let reason = self.reason.split('\'').step_by(2).collect::<Vec<_>>().join("…");
        format!("{} line {}, column {}: {reason} [{}]", self.file, self.line, self.column, self.code)
    }
}

/// Whether a COPY failed for its rows: the server points at its table of
/// errors; of a columnar file it names no row.
pub(super) fn is_of_rows(said: &Said, is_parquet: bool) -> bool {
    let text = format!("{} {}", said.message, said.detail.as_deref().unwrap_or_default());
    let text = text.to_lowercase();
    said.blames_rows()
        || text.contains("stl_load_errors")
        || text.contains("sys_load_error_detail")
        || is_parquet && text.contains("spectrum scan error")
}

/// What a person can do about a COPY that failed for something else.
pub(super) fn hint(said: &Said) -> Option<&'static str> {
    let text = format!("{} {}", said.message, said.detail.as_deref().unwrap_or_default());
    let is = |words: &str| text.contains(words);
    if is("Status 403") || is("AccessDenied") || is("Access Denied") || is("InvalidAccessKeyId") {
        return Some(
            "COPY may not read the staged files: give iam_role s3:GetObject and s3:ListBucket on staging.url",
        );
    }
    if is("not authorized to assume") || is("is not associated to cluster") {
        return Some("attach iam_role to the cluster or the workgroup");
    }
    if is("PermanentRedirect") || is("Status 301") || is("must be addressed using the specified endpoint") {
        return Some("the bucket is in another region: give staging.region");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_see_no_values_and_quarantine_does() {
        let error = LoadError {
            file: "s3://b/0.csv".into(),
            line: 7,
            column: "n".into(),
            code: "1207".into(),
            reason: "Invalid digit, Value 'a', Pos 0, Type: Integer".into(),
        };
        assert_eq!(
            error.for_person(),
            "s3://b/0.csv line 7, column n: Invalid digit, Value …, Pos 0, Type: Integer [1207]"
        );
        assert_eq!(error.for_record(), "column n: Invalid digit, Value 'a', Pos 0, Type: Integer [1207]");
    }

    #[test]
    fn rows_or_something_else() {
        let said = |message: &str| Said { code: "XX000".into(), message: message.into(), ..Said::default() };
        let load = said("Load into table 't' failed.  Check 'stl_load_errors' system table for details.");
        assert!(is_of_rows(&load, false));
        let denied = said("S3ServiceException:Access Denied,Status 403,Error AccessDenied");
        assert!(!is_of_rows(&denied, true));
        assert!(hint(&denied).is_some_and(|hint| hint.contains("iam_role")));
        let scan = said("Spectrum Scan Error");
        assert!(is_of_rows(&scan, true) && !is_of_rows(&scan, false));
    }
}
