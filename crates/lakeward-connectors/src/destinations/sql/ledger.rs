//! The table in the warehouse that says which batches are in it: its row is
//! written in the transaction that loads the batch.

use lakeward_model::BatchId;

use super::Dialect;
use super::error::SqlError;
use super::names::{TableName, literal};
use super::session::Session;

/// Its name, if the configuration says none.
pub(crate) const NAME: &str = "lakeward_loads";
/// How many batches are asked for at once.
const PAGE: usize = 1000;

/// The ledger and how it is spoken to.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    pub(crate) dialect: Dialect,
    pub(crate) table: TableName,
}

impl Ledger {
    /// The statement that makes it.
    pub(crate) fn create(&self) -> String {
        let table = &self.table;
        match self.dialect {
            Dialect::Postgres => format!(
                "CREATE TABLE IF NOT EXISTS {table} (batch uuid PRIMARY KEY, target text NOT NULL, \
                 rows bigint NOT NULL, files integer NOT NULL, \
                 loaded_at timestamptz NOT NULL DEFAULT now())"
            ),
            // A key is not enforced here, so none is promised.
            Dialect::Redshift => format!(
                "CREATE TABLE IF NOT EXISTS {table} (batch char(36) NOT NULL, target varchar(300) NOT NULL, \
                 rows bigint NOT NULL, files integer NOT NULL, loaded_at timestamp NOT NULL DEFAULT getdate()) \
                 DISTSTYLE ALL SORTKEY (batch)"
            ),
        }
    }

    /// Makes it if it is not there.
    pub(crate) async fn ensure(&self, session: &Session) -> Result<(), SqlError> {
        if self.is_there(session).await? {
            return Ok(());
        }
        match session.run(&self.create()).await {
            // Another one made it at the same time.
            Err(SqlError::Server(said)) if matches!(said.code.as_str(), "23505" | "42P07") => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Whether it is there.
    pub(crate) async fn is_there(&self, session: &Session) -> Result<bool, SqlError> {
        let text = |text: &str| literal(text, self.dialect);
        let rows = session
            .rows(&format!(
                "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE n.nspname = {} AND c.relname = {}",
                text(&self.table.schema),
                text(&self.table.name),
            ))
            .await?;
        Ok(!rows.is_empty())
    }

    /// Whether this batch is in the table.
    pub(crate) async fn has(&self, session: &Session, batch: BatchId) -> Result<bool, SqlError> {
        let query = format!("SELECT 1 FROM {} WHERE batch = '{batch}' LIMIT 1", self.table);
        Ok(!session.rows(&query).await?.is_empty())
    }

    /// Writes the row of a batch; false if it was there: it waits for another
    /// transaction that is just writing it (PostgreSQL).
    pub(crate) async fn enter(
        &self,
        session: &Session,
        batch: BatchId,
        target: &str,
        rows: u64,
        files: usize,
    ) -> Result<bool, SqlError> {
        Ok(session.run(&self.entry(batch, target, rows, files)).await? > 0)
    }

    /// The statement that writes the row of a batch. On Redshift the caller
    /// holds the table's lock and has asked before.
    pub(crate) fn entry(&self, batch: BatchId, target: &str, rows: u64, files: usize) -> String {
        let conflict = match self.dialect {
            Dialect::Postgres => " ON CONFLICT (batch) DO NOTHING",
            Dialect::Redshift => "",
        };
        format!(
            "INSERT INTO {} (batch, target, rows, files) VALUES ('{batch}', {}, {rows}, {files}){conflict}",
            self.table,
            literal(target, self.dialect),
        )
    }

    /// Rows of each of these batches; 0 for one that is not in the table.
    pub(crate) async fn rows(&self, session: &Session, batches: &[BatchId]) -> Result<Vec<u64>, SqlError> {
        let query = |list: &str| format!("SELECT batch, rows FROM {} WHERE batch IN ({list})", self.table);
        counts(session, batches, query).await
    }
}

/// Asks for a number for each of these batches: `query` gets them as a list of
/// texts and answers rows of batch and number.
pub(crate) async fn counts(
    session: &Session,
    batches: &[BatchId],
    query: impl Fn(&str) -> String,
) -> Result<Vec<u64>, SqlError> {
    let mut found = std::collections::HashMap::new();
    for page in batches.chunks(PAGE) {
        let list: Vec<String> = page.iter().map(|batch| format!("'{batch}'")).collect();
        for row in session.rows(&query(&list.join(", "))).await? {
            if let [Some(batch), Some(count)] = row.as_slice()
                && let Ok(count) = count.trim().parse::<u64>()
            {
                found.insert(batch.trim().to_string(), count);
            }
        }
    }
    Ok(batches.iter().map(|batch| found.get(&batch.to_string()).copied().unwrap_or(0)).collect())
}
