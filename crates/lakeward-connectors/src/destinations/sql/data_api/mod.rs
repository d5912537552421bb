//! The Redshift Data API: statements over HTTPS, allowed by IAM, for a warehouse
//! that no connection can be made to ("Using the Amazon Redshift Data API" in
//! the management guide; the calls are those of `redshift-data` 2019-12-20).
//!
//! A statement is handed in, and then asked after until it has ended. Nothing is
//! left of its session then, so what belongs together goes in one call:
//! [`DataApi::transact`]. A call whose answer is lost is made again with the
//! same client token, by which the service knows it.

mod call;
mod said;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lakeward_model::ids;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{Said, SqlError};
use super::session::{ROWS_MAX, Row};
use crate::aws_access::{AwsAccess, AwsAccessError};
use crate::aws_json::{AwsJson, AwsService};

const SERVICE: AwsService =
    AwsService { name: "redshift-data", target: "RedshiftData", content_type: "application/x-amz-json-1.1" };

/// The most statements of one call (`SqlList` in the service's model).
pub(crate) const STATEMENTS_MAX: usize = 40;
/// The most bytes of a statement ("Considerations when calling the Amazon
/// Redshift Data API": 100 KB).
const STATEMENT_BYTES_MAX: usize = 100_000;
/// The pauses between two questions whether a statement has ended.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How much longer than they may take statements are waited for.
const GRACE: Duration = Duration::from_secs(5);
/// How long a statement that was stopped may take to end.
const STOPPING: Duration = Duration::from_secs(20);
/// The most pages of statements that are looked through for one that still
/// runs.
const PAGES_MAX: usize = 50;

/// Which database statements run in, and as whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Place {
    /// A serverless workgroup, or
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) workgroup_name: Option<String>,
    /// a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cluster_identifier: Option<String>,
    pub(crate) database: String,
    /// A secret with user and password, or
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret_arn: Option<String>,
    /// the user that temporary credentials are for; else that of the IAM
    /// identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) db_user: Option<String>,
}

/// The service, for one database.
pub(crate) struct DataApi {
    aws: AwsJson,
    place: Place,
    statement_timeout: Duration,
    /// The database's user, once it was asked for.
    user: OnceLock<String>,
    /// Whether the end of all that was handed in is known. Not so at the start:
    /// a process before this one may have left a statement that still runs.
    settled: AtomicBool,
}

/// How statements that are one transaction ended.
#[derive(Debug)]
pub(crate) struct Ended {
    id: String,
    /// The process that ran them, by which Redshift's own tables know them.
    pub(crate) process: i64,
    /// The one that failed: then nothing was done.
    pub(crate) failed: Option<Failed>,
}

/// A statement of a transaction that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Its place among those that were given, if the service says it.
    pub(crate) at: Option<usize>,
    pub(crate) said: Said,
}

/// What the service says of a statement.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Described {
    status: String,
    error: Option<String>,
    has_result_set: Option<bool>,
    redshift_pid: Option<i64>,
    result_rows: Option<i64>,
    sub_statements: Option<Vec<Part>>,
}

/// One of several.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Part {
    id: String,
    status: String,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Submitted {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    records: Vec<Vec<BTreeMap<String, Value>>>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Statements {
    statements: Vec<Part>,
    next_token: Option<String>,
}

impl DataApi {
    /// Asks nobody. `timeout` is for one call.
    ///
    /// # Errors
    /// A setting of `access` cannot be used.
    pub(crate) fn open(
        access: &AwsAccess,
        place: Place,
        timeout: Duration,
        statement_timeout: Duration,
    ) -> Result<Self, AwsAccessError> {
        let aws = AwsJson::open(SERVICE, access, timeout)?;
        Ok(Self { aws, place, statement_timeout, user: OnceLock::new(), settled: AtomicBool::new(false) })
    }

    /// As whom statements are run, for hints.
    pub(crate) fn user(&self) -> &str {
        let known = self.user.get().or(self.place.db_user.as_ref());
        known.map_or("the user of the Data API", String::as_str)
    }

    /// Sees that statements can be run, and as whom.
    pub(crate) async fn hello(&self) -> Result<(), SqlError> {
        let rows = self.rows("SELECT current_user").await?;
        if let Some(user) = rows.into_iter().next().and_then(|row| row.into_iter().next()?) {
            let _ = self.user.set(user.trim().to_string());
        }
        Ok(())
    }

    /// Sees that the calls of a load are allowed, too.
    pub(crate) async fn try_calls(&self) -> Result<(), SqlError> {
        self.running("lakeward check").await?;
        match self.transact(None, &[String::from("SELECT 1")]).await?.failed {
            Some(failed) => Err(SqlError::Server(failed.said)),
            None => Ok(()),
        }
    }

    /// Runs a statement; how many rows it changed.
    pub(super) async fn run(&self, statement: &str) -> Result<u64, SqlError> {
        let (_, described) = self.execute(statement).await?;
        Ok(u64::try_from(described.result_rows.unwrap_or(0)).unwrap_or(0))
    }

    /// Runs a query; its rows as text.
    pub(super) async fn rows(&self, query: &str) -> Result<Vec<Row>, SqlError> {
        let (id, described) = self.execute(query).await?;
        if described.has_result_set == Some(false) {
            return Ok(Vec::new());
        }
        self.result(&id).await
    }

    async fn execute(&self, statement: &str) -> Result<(String, Described), SqlError> {
        fits(statement)?;
        let mut request = self.request()?;
        request["Sql"] = json!(statement);
        let id = self.submit("ExecuteStatement", &request).await?;
        let described = self.wait(&id).await?;
        match described.status.as_str() {
            "FINISHED" => Ok((id, described)),
            status => Err(SqlError::Server(said::read(status, described.error.as_deref()))),
        }
    }

    /// Runs statements as one transaction, and waits for its end. `name` is by
    /// what a later process finds it; no two of a name run at the same time.
    ///
    /// # Errors
    /// It is not known to have ended ([`SqlError::Unknown`]), or was not begun.
    pub(crate) async fn transact(
        &self,
        name: Option<&str>,
        statements: &[String],
    ) -> Result<Ended, SqlError> {
        let before = self.settings();
        if statements.len() + before.len() > STATEMENTS_MAX {
            let problem = format!("{} statements, and the Data API takes {STATEMENTS_MAX}", statements.len());
            return Err(SqlError::Unusable(problem));
        }
        statements.iter().try_for_each(|statement| fits(statement))?;
        let mut request = self.request()?;
        request["Sqls"] = json!([before.as_slice(), statements].concat());
        if let Some(name) = name {
            request["StatementName"] = json!(name);
            if !self.settled.swap(false, Ordering::SeqCst) {
                for id in self.running(name).await? {
                    tracing::warn!(statement = id, "a statement of an earlier try still runs: waiting");
                    self.wait(&id).await?;
                }
            }
        }
        let submitted = self.submit("BatchExecuteStatement", &request).await;
        let id = match submitted {
            Ok(id) => id,
            Err(SqlError::Unknown(what)) => return Err(SqlError::Unknown(what)),
            Err(error) => {
                self.settled.fetch_or(name.is_some(), Ordering::SeqCst);
                return Err(error);
            }
        };
        // Whatever is wrong with the question, the statements run.
        let described = self.wait(&id).await.map_err(|error| SqlError::Unknown(error.to_string()))?;
        self.settled.fetch_or(name.is_some(), Ordering::SeqCst);
        let failed = (described.status != "FINISHED").then(|| failed(&described, before.len()));
        Ok(Ended { id, process: described.redshift_pid.unwrap_or(0), failed })
    }

    /// What a session is told first, for this transaction alone.
    fn settings(&self) -> Vec<String> {
        vec![
            format!("SET LOCAL statement_timeout TO {}", self.statement_timeout.as_millis()),
            String::from("SET LOCAL timezone TO 'UTC'"),
            String::from("SET LOCAL datestyle TO 'ISO, YMD'"),
        ]
    }

    /// The rows of the `at`-th statement of a transaction.
    pub(crate) async fn rows_of(&self, ended: &Ended, at: usize) -> Result<Vec<Row>, SqlError> {
        self.result(&format!("{}:{}", ended.id, self.settings().len() + at + 1)).await
    }

    /// Those of this name that have not ended.
    async fn running(&self, name: &str) -> Result<Vec<String>, SqlError> {
        let mut running = Vec::new();
        let mut next = None;
        for _ in 0..PAGES_MAX {
            // Without a status only those that finished are told.
            let mut request = json!({ "StatementName": name, "Status": "ALL", "MaxResults": 100 });
            if let Some(token) = next.take() {
                request["NextToken"] = json!(token);
            }
            let page: Statements = self.ask("ListStatements", &request).await?;
            let live = page.statements.into_iter().filter(|statement| !has_ended(&statement.status));
            running.extend(live.map(|statement| statement.id));
            next = page.next_token.filter(|token| !token.is_empty());
            if next.is_none() {
                break;
            }
        }
        Ok(running)
    }

    /// Waits until a statement has ended. One that takes too long is stopped.
    async fn wait(&self, id: &str) -> Result<Described, SqlError> {
        let patience = self.statement_timeout + GRACE;
        if let Ok(described) = tokio::time::timeout(patience, self.watch(id)).await {
            return described;
        }
        let end = async {
            // It may just have ended.
            let _ = self.ask::<Value>("CancelStatement", &json!({ "Id": id })).await;
            self.watch(id).await
        };
        tokio::time::timeout(STOPPING, end).await.unwrap_or_else(|_| {
            let waited = patience.as_secs();
            Err(SqlError::Unknown(format!("the statement {id} has not ended within {waited} s")))
        })
    }

    async fn watch(&self, id: &str) -> Result<Described, SqlError> {
        let (mut pause, most) = PAUSES;
        loop {
            match self.ask::<Described>("DescribeStatement", &json!({ "Id": id })).await {
                Ok(described) if has_ended(&described.status) => return Ok(described),
                // Who does not answer now may do so later: the statement runs.
                Ok(_) | Err(SqlError::Lost(_) | SqlError::Unknown(_)) => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(most);
        }
    }

    async fn result(&self, id: &str) -> Result<Vec<Row>, SqlError> {
        let mut rows = Vec::new();
        let mut request = json!({ "Id": id });
        loop {
            let page: Page = self.ask("GetStatementResult", &request).await?;
            if rows.len() + page.records.len() > ROWS_MAX {
                return Err(SqlError::Lost(format!("an answer of more than {ROWS_MAX} rows")));
            }
            rows.extend(page.records.into_iter().map(|row| row.iter().map(text).collect::<Row>()));
            match page.next_token.filter(|token| !token.is_empty()) {
                Some(token) => request["NextToken"] = json!(token),
                None => return Ok(rows),
            }
        }
    }

    /// What every statement is handed in with.
    fn request(&self) -> Result<Value, SqlError> {
        let mut request =
            serde_json::to_value(&self.place).map_err(|error| SqlError::Unusable(error.to_string()))?;
        request["ClientToken"] = json!(format!("lakeward-{}", ids::fresh()));
        Ok(request)
    }
}

impl fmt::Display for DataApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.workgroup_name.as_ref().or(self.place.cluster_identifier.as_ref());
        write!(f, "redshift-data://{}/{}", place.map_or("", String::as_str), self.place.database)
    }
}

fn has_ended(status: &str) -> bool {
    matches!(status, "FINISHED" | "FAILED" | "ABORTED")
}

fn fits(statement: &str) -> Result<(), SqlError> {
    if statement.len() <= STATEMENT_BYTES_MAX {
        return Ok(());
    }
    Err(SqlError::Unusable(format!(
        "a statement of {} bytes, and the Data API takes {STATEMENT_BYTES_MAX}: load fewer columns, or connect by \
         `host`",
        statement.len()
    )))
}

/// Which statement failed, and why. `before` were put before those given.
fn failed(described: &Described, before: usize) -> Failed {
    let parts = described.sub_statements.as_deref().unwrap_or_default();
    let part = parts.iter().enumerate().find(|(_, part)| part.status == "FAILED");
    let told = part.and_then(|(_, part)| part.error.as_deref()).or(described.error.as_deref());
    let number = match part {
        // A suffix of the identifier is its number, from 1.
        Some((position, part)) => {
            part.id.rsplit_once(':').map_or(Some(position + 1), |(_, n)| n.parse().ok())
        }
        None => told.and_then(said::number),
    };
    let at = number.and_then(|number| number.checked_sub(1 + before));
    Failed { at, said: said::read(&described.status, told) }
}

/// A value as PostgreSQL writes it: the service has one member for each kind.
fn text(field: &BTreeMap<String, Value>) -> Option<String> {
    field.iter().find_map(|(kind, value)| match (kind.as_str(), value) {
        ("isNull", _) | (_, Value::Null) => None,
        (_, Value::Bool(yes)) => Some(String::from(if *yes { "t" } else { "f" })),
        (_, Value::String(text)) => Some(text.clone()),
        (_, other) => Some(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_texts() {
        let check = |field: Value, expect: Option<&str>| {
            let field: BTreeMap<String, Value> = serde_json::from_value(field).expect("a field");
            assert_eq!(text(&field).as_deref(), expect, "{field:?}");
        };
        check(json!({"isNull": true}), None);
        check(json!({"isNull": false, "stringValue": "a"}), Some("a"));
        check(json!({"booleanValue": true}), Some("t"));
        check(json!({"booleanValue": false}), Some("f"));
        check(json!({"longValue": 9_007_199_254_740_993_i64}), Some("9007199254740993"));
        check(json!({"stringValue": ""}), Some(""));
        check(json!({}), None);
    }

    #[test]
    fn the_statement_that_failed() {
        let check = |described: Value, at: Option<usize>, code: &str| {
            let described: Described = serde_json::from_value(described).expect("a description");
            let failed = failed(&described, 3);
            assert_eq!((failed.at, failed.said.code.as_str()), (at, code));
        };
        let part = |n: u8, status: &str| json!({"Id": format!("x:{n}"), "Status": status, "Error": "ERROR: division by zero"});
        check(
            json!({"Status": "FAILED", "Error": "ERROR: other",
                "SubStatements": [part(4, "FINISHED"), part(5, "FAILED"), part(6, "ABORTED")]}),
            Some(1),
            "22012",
        );
        check(
            json!({"Status": "FAILED", "Error": "Query #4 failed with ERROR: syntax error at or near \"x\""}),
            Some(0),
            "42601",
        );
        check(json!({"Status": "FAILED", "Error": "ERROR: 1023"}), None, "40001");
        check(json!({"Status": "FAILED", "SubStatements": [part(1, "FAILED")]}), None, "22012");
        check(json!({"Status": "ABORTED"}), None, "57014");
    }

    #[test]
    fn statements_have_a_limit() {
        assert!(fits(&"x".repeat(STATEMENT_BYTES_MAX)).is_ok());
        assert!(matches!(fits(&"x".repeat(STATEMENT_BYTES_MAX + 1)), Err(SqlError::Unusable(_))));
    }
}
