//! The one connection of a destination, and the transaction on it.

use std::fmt;

use lakeward_model::{BATCH_COLUMN, Batch, BatchId, Failure};
use tokio::sync::{Mutex, MutexGuard};

use super::config::Access;
use super::error::SqlError;
use super::ledger::{self, Ledger};
use super::names::TableName;
use super::session::Session;
use super::{columns, merge::Merge};
use crate::destinations::lake::ProbeResult;

/// How a table is reached. Batches are loaded one after the other, so one
/// connection is enough; it is kept between them.
pub(crate) struct Connection {
    pub(crate) access: Access,
    pub(crate) ledger: Ledger,
    pub(crate) table: TableName,
    session: Mutex<Option<Session>>,
}

/// A transaction that has begun. Dropped, it is rolled back by the server, for
/// the connection ends.
pub(crate) struct Transaction<'a> {
    slot: MutexGuard<'a, Option<Session>>,
    pub(crate) session: Session,
}

/// Why a transaction did not come to its end.
pub(crate) enum Stop {
    /// The server will not take some of the rows.
    Rows,
    /// Anything else.
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Connection {
    pub(crate) fn new(access: Access, ledger: Ledger, table: TableName) -> Self {
        Self { access, ledger, table, session: Mutex::new(None) }
    }

    /// Connects, unless it is connected, and begins a transaction.
    pub(crate) async fn begin(&self) -> Result<Transaction<'_>, Failure> {
        let mut slot = self.session.lock().await;
        if let Some(session) = slot.take()
            && session.is_open()
            // A connection that idled may be gone without a word.
            && session.run("BEGIN").await.is_ok()
        {
            return Ok(Transaction { slot, session });
        }
        let session = self.open().await?;
        session.run("BEGIN").await.map_err(|error| error.failure(self, ""))?;
        Ok(Transaction { slot, session })
    }

    /// A new session, in which the ledger is there.
    async fn open(&self) -> Result<Session, Failure> {
        let session = Session::open(&self.access)
            .await
            .map_err(|error| error.of_connecting(self, self.access.dialect))?;
        self.ledger.ensure(&session).await.map_err(|error| {
            let hint = format!("let someone who may run: {};", self.ledger.create());
            error.failure(self, &hint)
        })?;
        Ok(session)
    }

    /// The table's columns, changed so that all of the batch have a place. The
    /// names by which the table knows them.
    pub(crate) async fn fit(
        &self,
        session: &Session,
        making: &columns::Making,
        batch: &Batch,
    ) -> Result<Vec<String>, Failure> {
        let existing = columns::read(session, &self.table, self.access.dialect)
            .await
            .map_err(|error| error.failure(self, ""))?;
        let fit = columns::fit(making, &self.table, &existing, &batch.columns)
            .map_err(|problem| self.refused(problem))?;
        for change in &fit.changes {
            tracing::info!(table = %self.table, "{change}");
            session.run(change).await.map_err(|error| {
                let hint = match error.said().map(|said| said.code.as_str()) {
                    Some("3F000") => {
                        format!("CREATE SCHEMA {};", super::names::identifier(&self.table.schema))
                    }
                    _ => format!("let someone who may run: {change};"),
                };
                error.failure(self, &hint)
            })?;
        }
        Ok(fit.names)
    }

    /// Moves staged rows into the table.
    pub(crate) async fn merge(&self, session: &Session, merge: &Merge<'_>) -> Result<(), SqlError> {
        for statement in merge.finish() {
            session.run(&statement).await?;
        }
        Ok(())
    }

    /// A failure of a statement that loads, or that it is the rows that do not
    /// fit.
    pub(crate) fn stop(&self, error: &SqlError) -> Stop {
        if error.said().is_some_and(super::error::Said::blames_rows) {
            return Stop::Rows;
        }
        let hint = match error.said().map(|said| said.code.as_str()) {
            Some("42501") => format!(
                "GRANT SELECT, INSERT, DELETE ON {}, {} TO {};",
                self.table,
                self.ledger.table,
                super::names::identifier(&self.access.user)
            ),
            Some("42P01") => format!("see that the table {} is there, and its ledger", self.table),
            _ => String::new(),
        };
        Stop::Failed(error.failure(self, &hint))
    }

    /// It cannot be done as things are.
    pub(crate) fn refused(&self, problem: impl fmt::Display) -> Failure {
        Failure::new(lakeward_model::FailureKind::Refused, format!("{self}: {problem}"))
    }

    /// Rows of each of these batches, as the ledger has them; or as the table
    /// has them, if each row says of which batch it is.
    pub(crate) async fn loaded(&self, batches: &[BatchId], counted: bool) -> Result<Vec<u64>, Failure> {
        let transaction = self.begin().await?;
        let session = &transaction.session;
        let rows = if counted {
            let query = |list: &str| {
                format!(
                    "SELECT \"{BATCH_COLUMN}\", count(*) FROM {} WHERE \"{BATCH_COLUMN}\" IN ({list}) GROUP BY 1",
                    self.table
                )
            };
            ledger::counts(session, batches, query).await
        } else {
            self.ledger.rows(session, batches).await
        };
        let rows = rows.map_err(|error| error.failure(self, ""));
        transaction.roll_back().await;
        rows
    }

    /// Tries what deliveries need, and changes nothing.
    pub(crate) async fn probe(&self, making: &columns::Making, merges: bool) -> Vec<ProbeResult> {
        let mut results = Vec::new();
        let mut add = |name, result: Result<String, String>| {
            let ok = result.is_ok();
            results.push(ProbeResult { name, ok, message: result.unwrap_or_else(|problem| problem) });
        };
        let session = match Session::open(&self.access).await {
            Ok(session) => session,
            Err(error) => {
                add("connect", Err(error.of_connecting(self, self.access.dialect).message));
                return results;
            }
        };
        let version = session.rows("SELECT version()").await.ok().and_then(|rows| {
            rows.into_iter().next()?.into_iter().next()?.map(|text| text.chars().take(60).collect::<String>())
        });
        add("connect", Ok(format!("connected to {}", version.unwrap_or_default())));
        add("ledger", self.probe_ledger(&session).await);
        add("table", self.probe_table(&session, making, merges).await);
        results
    }

    async fn probe_ledger(&self, session: &Session) -> Result<String, String> {
        let said = |error: SqlError| error.failure(self, "").message;
        let table = &self.ledger.table;
        if self.ledger.is_there(session).await.map_err(said)? {
            let rights: &[&str] = match self.access.dialect {
                super::Dialect::Postgres => &["SELECT", "INSERT"],
                // To lock it.
                super::Dialect::Redshift => &["SELECT", "INSERT", "UPDATE"],
            };
            self.may(session, table, rights).await?;
            return Ok(format!("{table} is there, and may be read and written"));
        }
        let may = self.may_create(session, table).await.map_err(said)?;
        let create = self.ledger.create();
        if may {
            Ok(format!("{table} will be made"))
        } else {
            Err(format!("run this as an owner: {create};"))
        }
    }

    async fn probe_table(
        &self,
        session: &Session,
        making: &columns::Making,
        merges: bool,
    ) -> Result<String, String> {
        let said = |error: SqlError| error.failure(self, "").message;
        let table = &self.table;
        let columns = columns::read(session, table, self.access.dialect).await.map_err(said)?;
        if columns.is_empty() {
            if !making.create {
                return Err(format!("{table} is not there: create it, or set auto_create: true"));
            }
            if !self.may_create(session, table).await.map_err(said)? {
                let schema = super::names::identifier(&table.schema);
                let user = super::names::identifier(&self.access.user);
                return Err(format!(
                    "{table} is not there and may not be made: CREATE SCHEMA IF NOT EXISTS {schema}; \
                     GRANT USAGE, CREATE ON SCHEMA {schema} TO {user};"
                ));
            }
            return Ok(format!("{table} will be made"));
        }
        let rights: &[&str] = if merges { &["SELECT", "INSERT", "DELETE"] } else { &["INSERT"] };
        self.may(session, table, rights).await?;
        Ok(format!("{table} has {} columns, and may be written", columns.len()))
    }

    async fn may_create(&self, session: &Session, table: &TableName) -> Result<bool, SqlError> {
        let dialect = self.access.dialect;
        let schema = super::names::literal(&table.schema, dialect);
        let query = format!(
            "SELECT has_schema_privilege(nspname, 'CREATE') FROM pg_namespace WHERE nspname = {schema}"
        );
        Ok(is_true(&session.rows(&query).await?))
    }

    async fn may(&self, session: &Session, table: &TableName, rights: &[&str]) -> Result<(), String> {
        for right in rights {
            let name = super::names::literal(&table.to_string(), self.access.dialect);
            let query = format!("SELECT has_table_privilege({name}, '{right}')");
            let rows = session.rows(&query).await.map_err(|error| error.failure(self, "").message)?;
            if !is_true(&rows) {
                let user = super::names::identifier(&self.access.user);
                return Err(format!("GRANT {} ON {table} TO {user};", rights.join(", ")));
            }
        }
        Ok(())
    }
}

fn is_true(rows: &[super::session::Row]) -> bool {
    rows.first().and_then(|row| row.first()).is_some_and(|value| value.as_deref() == Some("t"))
}

impl Transaction<'_> {
    /// Ends it, and keeps the connection.
    ///
    /// # Errors
    /// Whether it is done may be unknown.
    pub(crate) async fn commit(mut self) -> Result<(), SqlError> {
        self.session.run("COMMIT").await?;
        *self.slot = Some(self.session);
        Ok(())
    }

    /// Undoes it, and keeps the connection if that works.
    pub(crate) async fn roll_back(mut self) {
        if self.session.run("ROLLBACK").await.is_ok() {
            *self.slot = Some(self.session);
        }
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.access.dialect {
            super::Dialect::Postgres => "postgres",
            super::Dialect::Redshift => "redshift",
        };
        let Access { host, port, database, .. } = &self.access;
        write!(f, "{scheme}://{host}:{port}/{database} {}", self.table)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({self})")
    }
}
