//! A batch by the Data API: all statements of its transaction are handed in at
//! once, and none can look at what another answered. What must hold in between
//! is said by guards: queries that divide by zero if it does not hold, whereupon
//! all is undone.
//!
//! Columns are read, and changed, in statements before it: a column that is
//! there twice as early harms nobody.

use lakeward_model::{Batch, BatchId, DataFile, Failure, FailureKind};

use super::RedshiftTable;
use super::copy::Purpose;
use super::errors::{self, Which};
use super::search::Tried;
use super::staging::Staged;
use crate::destinations::sql::connection::Stop;
use crate::destinations::sql::data_api::{DataApi, Failed};
use crate::destinations::sql::error::SqlError;
use crate::destinations::sql::session::Session;

/// SQLSTATE of a division by zero.
const GUARDED: &str = "22012";

impl RedshiftTable {
    /// Loads a staged batch; false if it is there.
    pub(super) async fn store_at_once(
        &self,
        api: &DataApi,
        session: &Session,
        batch: &Batch,
        files: &[(usize, &DataFile)],
        staged: &Staged,
    ) -> Result<bool, Stop> {
        let names = self.connection.fit(session, &self.making, batch).await?;
        let plan = self.plan(&names, batch, files, staged)?;
        let mut statements = vec![format!("LOCK {}", self.connection.ledger.table)];
        let not_there = statements.len();
        statements.push(self.is_not_there(batch.id));
        statements.extend(plan.before);
        statements.push(plan.copy);
        let counted = statements.len();
        // The function's value is of this session, and known only now.
        statements.push(guard("pg_last_copy_count() = ", plan.rows, ""));
        statements.extend(plan.after);
        let name = format!("lakeward {} {}", self.connection.table, batch.id);
        let ended = api.transact(Some(&name), &statements).await;
        let ended = ended.map_err(|error| error.failure(&self.connection, ""))?;
        let Some(failed) = ended.failed else { return Ok(true) };
        if failed.said.code == GUARDED && failed.at.is_none_or(|at| at == not_there || at == counted) {
            return self.guarded(&failed, counted, session, batch.id, plan.rows).await;
        }
        Err(self.stop(&SqlError::Server(failed.said)))
    }

    /// What a guard that held the transaction up means.
    async fn guarded(
        &self,
        failed: &Failed,
        counted: usize,
        session: &Session,
        batch: BatchId,
        rows: u64,
    ) -> Result<bool, Stop> {
        // The ledger itself is believed, not which of the two it was.
        let has = self.connection.ledger.has(session, batch).await;
        if has.map_err(|error| error.failure(&self.connection, ""))? {
            return Ok(false);
        }
        if failed.at == Some(counted) {
            return Err(Stop::Failed(self.miscounted(rows, "another number")));
        }
        let said = "the ledger had the batch, and now has it not: to be tried again";
        Err(Stop::Failed(Failure::new(FailureKind::NotDone, format!("{}: {said}", self.connection))))
    }

    /// A COPY by the Data API whose rows do not stay.
    pub(super) async fn try_at_once(
        &self,
        api: &DataApi,
        copy: String,
        purpose: Purpose,
    ) -> Result<Tried, Failure> {
        let failed = |error: SqlError| error.failure(&self.connection, "");
        let behind = match purpose {
            Purpose::Check => String::from(errors::LAST_COPY),
            // Holds up what came to here.
            Purpose::Load => guard("count(*) < ", 0, &format!(" FROM {}", self.connection.ledger.table)),
        };
        let ended = api.transact(None, &[copy, behind]).await.map_err(failed)?;
        match (&ended.failed, purpose) {
            (None, Purpose::Check) => {
                let rows = api.rows_of(&ended, 1).await.map_err(failed)?;
                let number = errors::number(&rows).map_err(failed)?;
                Ok(Tried { refused: None, which: Which::Finished(number) })
            }
            (None, Purpose::Load) => {
                Err(self.connection.refused("rows that were only tried have stayed: tell us of it"))
            }
            (Some(held), Purpose::Load) if held.said.code == GUARDED && held.at.is_none_or(|at| at == 1) => {
                Ok(Tried { refused: None, which: Which::Failed(Some(ended.process)) })
            }
            (Some(refusal), _) => {
                let error = SqlError::Server(refusal.said.clone());
                match self.stop(&error) {
                    Stop::Failed(failure) => Err(failure),
                    Stop::Rows => {
                        Ok(Tried { refused: Some(error), which: Which::Failed(Some(ended.process)) })
                    }
                }
            }
        }
    }

    /// Fails if the ledger has the batch.
    fn is_not_there(&self, batch: BatchId) -> String {
        guard("count(*) = ", 0, &format!(" FROM {} WHERE batch = '{batch}'", self.connection.ledger.table))
    }
}

/// A query that divides by zero unless what `left` and the number say holds.
/// Whether it does follows from rows or from the session, so that no planner
/// knows it before.
fn guard(left: &str, right: u64, from: &str) -> String {
    format!("SELECT 1 / (CASE WHEN {left}{right} THEN 1 ELSE 0 END){from}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards() {
        assert_eq!(
            guard("count(*) = ", 0, " FROM l WHERE batch = 'b'"),
            "SELECT 1 / (CASE WHEN count(*) = 0 THEN 1 ELSE 0 END) FROM l WHERE batch = 'b'"
        );
        assert_eq!(
            guard("pg_last_copy_count() = ", 7, ""),
            "SELECT 1 / (CASE WHEN pg_last_copy_count() = 7 THEN 1 ELSE 0 END)"
        );
    }
}
