//! The one connection of a destination, and the transaction on it.

use std::fmt;
use std::sync::Arc;

use lakeward_model::{BATCH_COLUMN, Batch, BatchId, Failure};
use tokio::sync::{Mutex, MutexGuard};

use super::Dialect;
use super::columns;
use super::config::Access;
use super::data_api::DataApi;
use super::error::SqlError;
use super::ledger::{self, Ledger};
use super::names::TableName;
use super::session::Session;
use super::wire::Wire;

/// The most changes of a table in one transaction of the Data API: it takes
/// some more statements, and those that set the session up are among them.
const CHANGES_MAX: usize = 32;

/// How a table is reached. Batches are loaded one after the other, so one
/// connection is enough; it is kept between them.
pub(crate) struct Connection {
    pub(super) reach: Reach,
    pub(crate) ledger: Ledger,
    pub(crate) table: TableName,
    session: Mutex<Option<Session>>,
}

/// How a server is reached.
pub(crate) enum Reach {
    /// Over the PostgreSQL protocol.
    Wire(Access),
    /// By the Redshift Data API.
    Api(Arc<DataApi>),
}

/// A transaction that has begun. Dropped, it is rolled back by the server, for
/// the connection ends. By the Data API it is none: each statement stands for
/// itself.
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
    pub(crate) fn new(reach: Reach, ledger: Ledger, table: TableName) -> Self {
        Self { reach, ledger, table, session: Mutex::new(None) }
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.ledger.dialect
    }

    /// As whom it is connected, as it stands in a statement.
    pub(super) fn user(&self) -> String {
        super::names::identifier(match &self.reach {
            Reach::Wire(access) => &access.user,
            Reach::Api(api) => api.user(),
        })
    }

    /// Connects, unless it is connected, and begins a transaction.
    pub(crate) async fn begin(&self) -> Result<Transaction<'_>, Failure> {
        let mut slot = self.session.lock().await;
        if let Some(session) = slot.take()
            && session.is_open()
            // A connection that idled may be gone without a word.
            && session.begin().await.is_ok()
        {
            return Ok(Transaction { slot, session });
        }
        let session = self.open().await?;
        session.begin().await.map_err(|error| error.failure(self, ""))?;
        Ok(Transaction { slot, session })
    }

    /// A new session, in which the ledger is there.
    async fn open(&self) -> Result<Session, Failure> {
        let session = self.session().await?;
        self.ledger.ensure(&session).await.map_err(|error| {
            let hint = format!("let someone who may run: {};", self.ledger.create());
            error.failure(self, &hint)
        })?;
        Ok(session)
    }

    /// A new session, in which nothing was done.
    pub(super) async fn session(&self) -> Result<Session, Failure> {
        match &self.reach {
            Reach::Wire(access) => {
                let wire = Wire::open(access).await;
                Ok(Session::Wire(wire.map_err(|error| error.of_connecting(self, self.dialect()))?))
            }
            Reach::Api(api) => {
                api.hello().await.map_err(|error| error.of_the_data_api(self))?;
                Ok(Session::Api(Arc::clone(api)))
            }
        }
    }

    /// The table's columns, changed so that all of the batch have a place. The
    /// names by which the table knows them.
    pub(crate) async fn fit(
        &self,
        session: &Session,
        making: &columns::Making,
        batch: &Batch,
    ) -> Result<Vec<String>, Failure> {
        let existing = columns::read(session, &self.table, self.dialect())
            .await
            .map_err(|error| error.failure(self, ""))?;
        let fit = columns::fit(making, &self.table, &existing, &batch.columns)
            .map_err(|problem| self.refused(problem))?;
        for change in fit.changes.iter().flatten() {
            tracing::info!(table = %self.table, "{change}");
        }
        if let Some(api) = session.api() {
            self.change_at_once(api, &fit.changes).await?;
            return Ok(fit.names);
        }
        for change in fit.changes.iter().flatten() {
            session.run(change).await.map_err(|error| self.of_change(&error, change))?;
        }
        Ok(fit.names)
    }

    /// Changes the table by the Data API: what belongs together in one
    /// transaction.
    async fn change_at_once(&self, api: &DataApi, changes: &[Vec<String>]) -> Result<(), Failure> {
        let mut rest = changes;
        while !rest.is_empty() {
            let mut statements = rest[0].clone();
            let mut groups = 1;
            while let Some(next) = rest.get(groups)
                && statements.len() + next.len() <= CHANGES_MAX
            {
                statements.extend_from_slice(next);
                groups += 1;
            }
            let ended = api.transact(None, &statements).await.map_err(|error| error.failure(self, ""))?;
            if let Some(failed) = ended.failed {
                let change = failed.at.and_then(|at| statements.get(at)).or(statements.first());
                let is_there = matches!(failed.said.code.as_str(), "42P07" | "42701");
                let mut failure =
                    self.of_change(&SqlError::Server(failed.said), change.map_or("", String::as_str));
                if is_there {
                    // Someone else changed it since it was read.
                    failure.kind = lakeward_model::FailureKind::NotDone;
                }
                return Err(failure);
            }
            rest = &rest[groups..];
        }
        Ok(())
    }

    /// A change of the table that did not work.
    fn of_change(&self, error: &SqlError, change: &str) -> Failure {
        let hint = match error.said().map(|said| said.code.as_str()) {
            Some("3F000") => {
                format!("CREATE SCHEMA {};", super::names::identifier(&self.table.schema))
            }
            _ => format!("let someone who may run: {change};"),
        };
        error.failure(self, &hint)
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
                self.user()
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
}

impl Transaction<'_> {
    /// Ends it, and keeps the connection.
    ///
    /// # Errors
    /// Whether it is done may be unknown.
    pub(crate) async fn commit(mut self) -> Result<(), SqlError> {
        self.session.commit().await?;
        *self.slot = Some(self.session);
        Ok(())
    }

    /// Undoes it, and keeps the connection if that works.
    pub(crate) async fn roll_back(mut self) {
        if self.session.roll_back().await.is_ok() {
            *self.slot = Some(self.session);
        }
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reach {
            Reach::Wire(Access { dialect, host, port, database, .. }) => {
                let scheme = match dialect {
                    Dialect::Postgres => "postgres",
                    Dialect::Redshift => "redshift",
                };
                write!(f, "{scheme}://{host}:{port}/{database} {}", self.table)
            }
            Reach::Api(api) => write!(f, "{api} {}", self.table),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({self})")
    }
}
