//! PostgreSQL: `COPY … FROM STDIN` in one transaction with the ledger's row.
//!
//! Whether a batch is there is decided by that row alone. A transaction that
//! was left behind by a process that died either committed, then the row is
//! there, or it did not; an insert of the same row waits until that is known.

mod config;
mod search;

use std::fmt;

use bytes::Bytes;
use lakeward_model::{Batch, BatchId, DataFile, Failure, Format};

pub use config::PostgresConfig;

use super::lake::ProbeResult;
use super::sql::columns::Making;
use super::sql::connection::{Connection, Reach, Stop};
use super::sql::error::SqlError;
use super::sql::ledger::Ledger;
use super::sql::merge::Merge;
use super::sql::names::{list, literal};
use super::sql::session::Session;
use super::sql::{Dialect, MergeConfig, SqlConfigError};
use super::warehouse::{CutRows, Table};

/// An open table. It prints as its address.
#[derive(Debug)]
pub struct PostgresTable {
    connection: Connection,
    making: Making,
    merge: Option<MergeConfig>,
    lineage: bool,
}

/// Opens a table. Connects only when something is loaded. Rows are cut out of
/// CSV files here, so that `cut` is not needed.
///
/// # Errors
/// The configuration cannot be used; nothing but a change of it helps.
pub fn open(config: &PostgresConfig, _cut: CutRows) -> Result<PostgresTable, SqlConfigError> {
    config.check()?;
    let ledger = Ledger { dialect: Dialect::Postgres, table: config.ledger()? };
    Ok(PostgresTable {
        connection: Connection::new(Reach::Wire(config.access()), ledger, config.table()?),
        making: Making {
            dialect: Dialect::Postgres,
            create: config.auto_create,
            evolve: config.auto_evolve,
            parquet: false,
            options: config.create_options.clone(),
        },
        merge: config.merge.clone(),
        lineage: config.lineage,
    })
}

/// How the rows of one batch get into the table, inside a transaction.
struct Way<'a> {
    connection: &'a Connection,
    names: &'a [String],
    merge: Option<Merge<'a>>,
}

impl Way<'_> {
    /// Stores the rows of these bodies; how many each had.
    async fn store(&self, session: &Session, bodies: Vec<Bytes>) -> Result<Vec<u64>, SqlError> {
        let into = match &self.merge {
            Some(merge) => {
                session.run(&merge.begin()).await?;
                merge.stage.clone()
            }
            None => self.connection.table.to_string(),
        };
        let statement = format!(
            "COPY {into} ({}) FROM STDIN WITH (FORMAT csv, NULL {})",
            list(self.names.iter().map(String::as_str)),
            literal(config::NULL, Dialect::Postgres),
        );
        let mut rows = Vec::with_capacity(bodies.len());
        for body in bodies {
            rows.push(session.copy(&statement, body).await?);
        }
        if let Some(merge) = &self.merge {
            for statement in merge.finish() {
                session.run(&statement).await?;
            }
        }
        Ok(rows)
    }
}

impl PostgresTable {
    /// The way of a batch, with the table ready for it.
    async fn way<'a>(
        &'a self,
        session: &Session,
        batch: &Batch,
        names: &'a mut Vec<String>,
    ) -> Result<Way<'a>, Failure> {
        *names = self.connection.fit(session, &self.making, batch).await?;
        let merge = self
            .merge
            .as_ref()
            .map(|merge| Merge::new(Dialect::Postgres, merge, &self.connection.table, names, batch.id));
        let merge = merge.transpose().map_err(|problem| self.connection.refused(problem))?;
        Ok(Way { connection: &self.connection, names, merge })
    }

    /// Stores a batch in a transaction that has begun; false if it is there.
    async fn store(
        &self,
        session: &Session,
        batch: &Batch,
        files: &[(usize, &DataFile)],
    ) -> Result<bool, Stop> {
        let all = files.iter().map(|(_, file)| file.rows).sum();
        let target = self.connection.table.to_string();
        let entered = self.connection.ledger.enter(session, batch.id, &target, all, files.len()).await;
        if !entered.map_err(|error| self.connection.stop(&error))? {
            return Ok(false);
        }
        let mut names = Vec::new();
        let way = self.way(session, batch, &mut names).await?;
        let bodies = files.iter().map(|(_, file)| file.body.clone()).collect();
        let stored = way.store(session, bodies).await.map_err(|error| self.connection.stop(&error))?;
        for ((_, file), rows) in files.iter().zip(stored) {
            if file.rows != rows {
                let path = &file.path;
                let problem = format!("{path} has {} rows and COPY took {rows}: nothing is kept", file.rows);
                return Err(Stop::Failed(self.connection.refused(problem)));
            }
        }
        Ok(true)
    }
}

#[async_trait::async_trait]
impl Table for PostgresTable {
    async fn load(&self, batch: &Batch, files: &[(usize, &DataFile)]) -> Result<Vec<bool>, Failure> {
        if let Some((_, file)) = files.iter().find(|(_, file)| file.format != Format::Csv) {
            let problem = format!("{} is {:?}, and only CSV can be copied", file.path, file.format);
            return Err(self.connection.refused(problem));
        }
        let transaction = self.connection.begin().await?;
        match self.store(&transaction.session, batch, files).await {
            Ok(true) => match transaction.commit().await {
                Ok(()) => return Ok(vec![false; files.len()]),
                // Constraints may be looked at as late as this.
                Err(error) => match self.connection.stop(&error) {
                    Stop::Rows => {}
                    Stop::Failed(_) => return Err(error.of_commit(&self.connection)),
                },
            },
            Ok(false) => {
                transaction.roll_back().await;
                return Ok(vec![true; files.len()]);
            }
            Err(Stop::Failed(failure)) => {
                // The connection goes with it: another one may lead to another
                // server, as when a replica has become the primary.
                drop(transaction);
                return Err(failure);
            }
            Err(Stop::Rows) => transaction.roll_back().await,
        }
        Err(self.search(batch, files).await)
    }

    async fn loaded(&self, batches: &[BatchId]) -> Result<Option<Vec<u64>>, Failure> {
        let counted = self.lineage && self.merge.is_none();
        self.connection.loaded(batches, counted).await.map(Some)
    }

    async fn probe(&self) -> Vec<ProbeResult> {
        self.connection.probe(&self.making, self.merge.is_some()).await
    }
}

impl fmt::Display for PostgresTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.connection.fmt(f)
    }
}
