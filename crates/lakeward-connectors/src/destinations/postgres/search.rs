//! The search for rows that the table will not take: parts of the files are
//! copied, each behind a savepoint, in a transaction that is rolled back.

use std::ops::Range;

use lakeward_model::{Batch, DataFile, Failure};

use super::super::sql::connection::Stop;
use super::super::sql::lines::Rows;
use super::super::sql::session::Session;
use super::super::sql::unfit::{self, Fault, Trial};
use super::{PostgresTable, Way};

impl PostgresTable {
    /// What the engine is told of a batch whose rows the table will not take.
    pub(super) async fn search(&self, batch: &Batch, files: &[(usize, &DataFile)]) -> Failure {
        match self.find(batch, files).await {
            Ok(failure) | Err(failure) => failure,
        }
    }

    async fn find(&self, batch: &Batch, files: &[(usize, &DataFile)]) -> Result<Failure, Failure> {
        let transaction = self.connection.begin().await?;
        let session = &transaction.session;
        let mut names = Vec::new();
        let way = self.way(session, batch, &mut names).await?;
        // What is checked at the end of a transaction is checked at once.
        session
            .run("SET CONSTRAINTS ALL IMMEDIATE")
            .await
            .map_err(|error| error.failure(&self.connection, ""))?;
        let rows = files.iter().map(|(_, file)| Rows::of(file.body.clone())).collect();
        let mut trial = Copies { session, way, rows };
        let counts: Vec<_> =
            files.iter().zip(&trial.rows).map(|((index, _), rows)| (*index, rows.len())).collect();
        let unfit = unfit::find(&mut trial, &counts).await?;
        transaction.roll_back().await;
        Ok(unfit.failure(&self.connection, counts.iter().map(|(_, rows)| rows).sum()))
    }
}

struct Copies<'a> {
    session: &'a Session,
    way: Way<'a>,
    rows: Vec<Rows>,
}

#[async_trait::async_trait]
impl Trial for Copies<'_> {
    async fn rows(&mut self, file: usize, rows: Range<u64>) -> Result<Option<Fault>, Failure> {
        let connection = self.way.connection;
        let failed = |error: &super::SqlError| error.failure(connection, "");
        self.session.run("SAVEPOINT lakeward").await.map_err(|error| failed(&error))?;
        let part = self.rows[file].cut(rows.clone());
        let Err(error) = self.way.store(self.session, vec![part]).await else {
            self.session.run("RELEASE SAVEPOINT lakeward").await.map_err(|error| failed(&error))?;
            return Ok(None);
        };
        if let Stop::Failed(failure) = connection.stop(&error) {
            return Err(failure);
        }
        self.session.run("ROLLBACK TO SAVEPOINT lakeward").await.map_err(|error| failed(&error))?;
        let said = error.said();
        // Its lines count from the part's first.
        let first = self.rows[file].line_of(rows.start);
        let line = said.and_then(|said| said.line());
        let row = line.and_then(|line| self.rows[file].at_line(first + line - 1));
        let message = said.map_or_else(String::new, |said| said.for_record());
        Ok(Some(Fault { row, message, summary: error.to_string() }))
    }
}
