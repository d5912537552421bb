//! Amazon Redshift: files staged in S3, one COPY from their manifest, in one
//! transaction with the ledger's row.
//!
//! Keys are not enforced here, so the ledger is locked before it is asked: two
//! who load the same batch come one after the other, and the second sees the
//! first one's row. A snapshot is taken by the first statement that reads, not
//! by LOCK ("Serializable isolation" in the developer guide).
//!
//! Over a connection the answers of one statement decide about the next; by the
//! Data API all are handed in at once, see [`at_once`].

mod at_once;
mod config;
mod copy;
mod data_api;
mod errors;
mod plan;
mod search;
mod staging;

use std::fmt;

use lakeward_model::{Batch, BatchId, DataFile, Failure, FailureKind, Format};

pub use config::{CopyConfig, CopyFormat, RedshiftConfig, StagingConfig, StagingLayout};
pub use data_api::DataApiConfig;

use super::lake::ProbeResult;
use super::sql::columns::Making;
use super::sql::connection::{Connection, Stop};
use super::sql::error::SqlError;
use super::sql::ledger::Ledger;
use super::sql::session::Session;
use super::sql::{Dialect, MergeConfig, SqlConfigError};
use super::warehouse::{CutRows, Table};
use copy::CopyStatement;
use staging::{Staged, Staging};

/// An open table. It prints as its address.
pub struct RedshiftTable {
    connection: Connection,
    making: Making,
    merge: Option<MergeConfig>,
    lineage: bool,
    copy: CopyStatement,
    staging: Staging,
    cut: CutRows,
}

/// Opens a table. Connects only when something is loaded.
///
/// # Errors
/// The configuration cannot be used; nothing but a change of it helps.
pub fn open(config: &RedshiftConfig, cut: CutRows) -> Result<RedshiftTable, SqlConfigError> {
    config.check()?;
    let ledger = Ledger { dialect: Dialect::Redshift, table: config.ledger()? };
    Ok(RedshiftTable {
        connection: Connection::new(config.reach()?, ledger, config.table()?),
        making: Making {
            dialect: Dialect::Redshift,
            create: config.auto_create,
            evolve: config.auto_evolve,
            parquet: config.copy.format == CopyFormat::Parquet,
            options: config.create_options.clone(),
        },
        merge: config.merge.clone(),
        lineage: config.lineage,
        copy: CopyStatement::new(config),
        staging: Staging::open(&config.staging)?,
        cut,
    })
}

impl RedshiftTable {
    /// Whether the batch is in the table, as far as the ledger shows without
    /// its lock: then nothing need be staged.
    async fn has(&self, batch: BatchId) -> Result<bool, Failure> {
        let transaction = self.connection.begin().await?;
        let has = self.connection.ledger.has(&transaction.session, batch).await;
        transaction.roll_back().await;
        has.map_err(|error| error.failure(&self.connection, ""))
    }

    /// Loads a staged batch in a transaction that has begun; false if it is
    /// there.
    async fn store(
        &self,
        session: &Session,
        batch: &Batch,
        files: &[(usize, &DataFile)],
        staged: &Staged,
    ) -> Result<bool, Stop> {
        let failed = |error: SqlError| self.stop(&error);
        let ledger = &self.connection.ledger;
        session.run(&format!("LOCK {}", ledger.table)).await.map_err(failed)?;
        if ledger.has(session, batch.id).await.map_err(failed)? {
            return Ok(false);
        }
        let names = self.connection.fit(session, &self.making, batch).await?;
        let plan = self.plan(&names, batch, files, staged)?;
        for statement in plan.before.iter().chain([&plan.copy]) {
            session.run(statement).await.map_err(failed)?;
        }
        let copied = self.copied(session).await.map_err(failed)?;
        if copied != plan.rows {
            return Err(Stop::Failed(self.miscounted(plan.rows, &copied.to_string())));
        }
        for statement in &plan.after {
            session.run(statement).await.map_err(failed)?;
        }
        Ok(true)
    }

    /// How many rows the last COPY loaded.
    async fn copied(&self, session: &Session) -> Result<u64, SqlError> {
        let rows = session.rows("SELECT pg_last_copy_count()").await?;
        let count = rows.first().and_then(|row| row.first()?.as_deref()?.trim().parse().ok());
        count.ok_or_else(|| SqlError::Lost(String::from("pg_last_copy_count() told no number")))
    }

    /// A COPY that loaded something other than the batch.
    fn miscounted(&self, rows: u64, copied: &str) -> Failure {
        self.connection
            .refused(format!("the batch has {rows} rows and COPY loaded {copied}: nothing is kept"))
    }

    /// What an error of a statement means.
    fn stop(&self, error: &SqlError) -> Stop {
        let Some(said) = error.said() else { return self.connection.stop(error) };
        if errors::is_of_rows(said, self.copy.is_parquet()) {
            return Stop::Rows;
        }
        match errors::hint(said) {
            Some(hint) => {
                let mut failure = error.failure(&self.connection, "");
                failure.kind = FailureKind::Refused;
                failure.message = format!("{}: {hint}", failure.message);
                Stop::Failed(failure)
            }
            None => self.connection.stop(error),
        }
    }
}

#[async_trait::async_trait]
impl Table for RedshiftTable {
    async fn load(&self, batch: &Batch, files: &[(usize, &DataFile)]) -> Result<Vec<bool>, Failure> {
        let expected = if self.copy.is_parquet() { Format::Parquet } else { Format::Csv };
        if let Some((_, file)) = files.iter().find(|(_, file)| file.format != expected) {
            let problem = format!("{} is {:?}, and copy.format is {expected:?}", file.path, file.format);
            return Err(self.connection.refused(problem));
        }
        if self.has(batch.id).await? {
            self.staging.remove(batch, files).await;
            return Ok(vec![true; files.len()]);
        }
        let staged = self.staging.put(batch, files).await?;
        let transaction = self.connection.begin().await?;
        let session = &transaction.session;
        let stored = match session.api() {
            Some(api) => self.store_at_once(api, session, batch, files, &staged).await,
            None => self.store(session, batch, files, &staged).await,
        };
        let already_there = match stored {
            Ok(true) => {
                transaction.commit().await.map_err(|error| error.of_commit(&self.connection))?;
                false
            }
            Ok(false) => {
                transaction.roll_back().await;
                true
            }
            Err(Stop::Failed(failure)) => {
                // The connection goes with it: another one may lead to another
                // server, as when a replica has become the primary.
                drop(transaction);
                return Err(failure);
            }
            Err(Stop::Rows) => {
                transaction.roll_back().await;
                let failure = self.search(batch, files, &staged).await;
                if !failure.unfit.is_empty() {
                    // It is staged anew without them.
                    self.staging.remove(batch, files).await;
                }
                return Err(failure);
            }
        };
        self.staging.remove(batch, files).await;
        Ok(vec![already_there; files.len()])
    }

    async fn loaded(&self, batches: &[BatchId]) -> Result<Option<Vec<u64>>, Failure> {
        let counted = self.lineage && self.merge.is_none();
        self.connection.loaded(batches, counted).await.map(Some)
    }

    async fn probe(&self) -> Vec<ProbeResult> {
        let mut results = self.connection.probe(&self.making, self.merge.is_some()).await;
        let staging = self.staging.lake().probe().await;
        let ok = staging.iter().all(|probe| probe.ok);
        let message = match staging.into_iter().find(|probe| !probe.ok) {
            Some(probe) => format!("{} {}: {}", self.staging.lake(), probe.name, probe.message),
            None => format!("{} may be written, read and cleaned", self.staging.lake()),
        };
        results.push(ProbeResult { name: "staging", ok, message });
        results
    }
}

impl fmt::Display for RedshiftTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.connection.fmt(f)
    }
}

impl fmt::Debug for RedshiftTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedshiftTable({self})")
    }
}
