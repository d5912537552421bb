//! The search for rows that Redshift will not take. For CSV, one COPY that
//! loads nothing tells of all of them by file and line; where that does not
//! help (Parquet; an error that only a real COPY meets), parts of the files are
//! copied in transactions that are rolled back.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use lakeward_model::{Batch, DataFile, Failure, UnfitRow};

use super::RedshiftTable;
use super::copy::{ERRORS_MAX, Purpose};
use super::errors::{self, LoadError, Which};
use super::staging::Staged;
use crate::destinations::sql::connection::Stop;
use crate::destinations::sql::error::SqlError;
use crate::destinations::sql::lines::Rows;
use crate::destinations::sql::unfit::{self, Fault, Trial, Unfit};

/// Most bytes of a file that is inflated to find its lines.
const INFLATED_BYTES_MAX: u64 = 4 << 30;

impl RedshiftTable {
    /// What the engine is told of a batch whose rows the table will not take.
    pub(super) async fn search(
        &self,
        batch: &Batch,
        files: &[(usize, &DataFile)],
        staged: &Staged,
    ) -> Failure {
        match self.find(batch, files, staged).await {
            Ok(failure) | Err(failure) => failure,
        }
    }

    async fn find(
        &self,
        batch: &Batch,
        files: &[(usize, &DataFile)],
        staged: &Staged,
    ) -> Result<Failure, Failure> {
        let all = files.iter().map(|(_, file)| file.rows).sum();
        if !self.copy.is_parquet() {
            let told = self.look(batch, staged).await?;
            if told.len() >= ERRORS_MAX {
                let first = told.first().map(LoadError::for_person).unwrap_or_default();
                let problem = format!("more than {ERRORS_MAX} errors in one batch, the first: {first}");
                return Err(self.connection.refused(problem));
            }
            if let Some(unfit) = by_line(files, staged, &told)
                && !unfit.rows.is_empty()
            {
                return Ok(unfit.failure(&self.connection, all));
            }
        }
        let counts: Vec<_> = files.iter().map(|(index, file)| (*index, file.rows)).collect();
        let unfit = unfit::find(&mut Parts { table: self, batch, files }, &counts).await?;
        Ok(unfit.failure(&self.connection, all))
    }

    /// Lets COPY look at all rows and load none.
    async fn look(&self, batch: &Batch, staged: &Staged) -> Result<Vec<LoadError>, Failure> {
        // Even so many errors may be too many: then it is refused.
        let tried = self.try_out(batch, staged, Purpose::Check).await?;
        self.told(tried.which).await
    }

    /// Runs a COPY whose rows do not stay.
    async fn try_out(&self, batch: &Batch, staged: &Staged, purpose: Purpose) -> Result<Tried, Failure> {
        let transaction = self.connection.begin().await?;
        let session = &transaction.session;
        let names = self.connection.fit(session, &self.making, batch).await?;
        let target = self.connection.table.to_string();
        let copy = self.copy.text(&target, &names, &batch.columns, &staged.manifest, purpose);
        if let Some(api) = session.api() {
            let tried = self.try_at_once(api, copy, purpose).await;
            transaction.roll_back().await;
            return tried;
        }
        let tried = match session.run(&copy).await {
            Ok(_) if purpose == Purpose::Check => {
                let copy = errors::last_copy(session).await;
                let copy = copy.map_err(|error| error.failure(&self.connection, ""))?;
                Tried { refused: None, which: Which::Finished(copy) }
            }
            Ok(_) => Tried { refused: None, which: Which::Failed(None) },
            Err(error) => match self.stop(&error) {
                Stop::Failed(failure) => return Err(failure),
                Stop::Rows => Tried { refused: Some(error), which: Which::Failed(None) },
            },
        };
        transaction.roll_back().await;
        Ok(tried)
    }

    /// What a COPY told of rows.
    async fn told(&self, which: Which) -> Result<Vec<LoadError>, Failure> {
        let transaction = self.connection.begin().await?;
        let told = errors::read(&transaction.session, which).await;
        transaction.roll_back().await;
        told.map_err(|error| error.failure(&self.connection, ""))
    }
}

/// What came of a COPY whose rows do not stay.
pub(super) struct Tried {
    /// Why the rows were refused, if they were.
    pub(super) refused: Option<SqlError>,
    /// By what its errors are found.
    pub(super) which: Which,
}

/// The rows that errors name. `None` if one names no row.
fn by_line(files: &[(usize, &DataFile)], staged: &Staged, told: &[LoadError]) -> Option<Unfit> {
    let mut rows: Vec<Option<Rows>> = files.iter().map(|_| None).collect();
    let mut found = BTreeMap::new();
    for error in told {
        let position = staged.urls.iter().position(|url| *url == error.file)?;
        let (index, file) = files[position];
        if rows[position].is_none() {
            rows[position] = Some(Rows::of(inflate(&file.body)?));
        }
        let row = rows[position].as_ref()?.at_line(error.line)?;
        // The first reason is the one that is told.
        found.entry((index, row)).or_insert_with(|| error.for_record());
    }
    let summary = told.first().map(LoadError::for_person).unwrap_or_default();
    let unfit = |((file, row), message)| UnfitRow { file, row, message };
    Some(Unfit { rows: found.into_iter().map(unfit).collect(), summary })
}

/// The text of a file that is compressed, or not.
fn inflate(body: &Bytes) -> Option<Bytes> {
    if !body.starts_with(&[0x1f, 0x8b]) {
        return Some(body.clone());
    }
    let mut text = Vec::new();
    let mut capped = MultiGzDecoder::new(&body[..]).take(INFLATED_BYTES_MAX);
    #[allow(clippy::disallowed_methods, reason = "it is capped")]
    capped.read_to_end(&mut text).ok()?;
    Some(Bytes::from(text))
}

/// Parts of the files, each staged and copied on its own. There are no
/// savepoints here: each part is tried in a transaction of its own.
struct Parts<'a> {
    table: &'a RedshiftTable,
    batch: &'a Batch,
    files: &'a [(usize, &'a DataFile)],
}

#[async_trait::async_trait]
impl Trial for Parts<'_> {
    async fn rows(&mut self, file: usize, rows: Range<u64>) -> Result<Option<Fault>, Failure> {
        let table = self.table;
        let (index, whole) = self.files[file];
        let count = rows.end - rows.start;
        let body = (table.cut)(whole, rows).map_err(|problem| table.connection.refused(problem))?;
        let part = DataFile { body, rows: count, ..whole.clone() };
        let part = [(index, &part)];
        let staged = table.staging.put(self.batch, &part).await?;
        let tried = table.try_out(self.batch, &staged, Purpose::Load).await?;
        let fault = match tried.refused {
            None => None,
            Some(error) => {
                let said = error.said().map_or_else(String::new, |said| said.for_record());
                let told = table.told(tried.which).await.unwrap_or_default();
                // Of what an earlier COPY told nothing is meant here.
                let first = told.iter().find(|error| staged.urls.contains(&error.file));
                let message = first.map_or(said, LoadError::for_record);
                let summary = first.map_or_else(|| error.to_string(), LoadError::for_person);
                Some(Fault { row: None, message, summary })
            }
        };
        table.staging.remove(self.batch, &part).await;
        Ok(fault)
    }
}

#[cfg(test)]
mod tests {
    use lakeward_model::conformance::sample_batch;

    use super::*;

    #[test]
    fn lines_become_rows_of_their_files() {
        let mut batch = sample_batch(1, 2, 10);
        batch.files[0].body = Bytes::from_static(b"1,\"a\nb\"\n2,c\n3,d\n");
        batch.files[1].body = Bytes::from_static(b"4,e\n");
        let files: Vec<_> = batch.files.iter().enumerate().map(|(index, file)| (index + 3, file)).collect();
        let staged = Staged::at(&["s3://b/0.csv", "s3://b/1.csv"]);
        let told = |file: &str, line| LoadError {
            file: file.into(),
            line,
            column: "n".into(),
            code: "1207".into(),
            reason: format!("line {line}"),
        };
        let found = |errors: &[LoadError]| {
            let unfit = by_line(&files, &staged, errors)?;
            Some(unfit.rows.iter().map(|row| (row.file, row.row)).collect::<Vec<_>>())
        };
        let errors = [
            told("s3://b/0.csv", 3),
            told("s3://b/1.csv", 1),
            told("s3://b/0.csv", 2),
            told("s3://b/0.csv", 1),
        ];
        assert_eq!(found(&errors), Some(vec![(3, 0), (3, 1), (4, 0)]));
        assert_eq!(found(&[told("s3://b/other.csv", 1)]), None);
        assert_eq!(found(&[told("s3://b/1.csv", 9)]), None);
    }
}
