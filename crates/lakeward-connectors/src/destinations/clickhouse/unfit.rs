//! Finding the rows that a table will never take: the files, and then ever
//! smaller parts of them, are inserted into something that has the table's
//! columns and stores nothing.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use lakeward_model::{DataFile, Failure, FailureKind, UnfitRow, ids};

use super::client::{Client, Request, is_of_data};
use super::insert::{Loading, settings};
use super::inspect::Found;
use super::quote;
use super::refusal::Refusal;
use crate::destinations::warehouse::CutRows;

/// Where it is more than these, the engine does not go on.
const UNFIT_MAX: usize = 10_000;
/// From so many rows on it is first looked whether any row is fit at all.
const SAMPLED_ROWS: u64 = 1_000;
const SAMPLES: u64 = 16;
/// The temporary table of a session.
const CHECK: &str = "_lakeward_check";

/// What was found.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) rows: Vec<UnfitRow>,
    /// Whether it is each row that was looked at.
    pub(super) is_all: bool,
}

/// Rows of a file that are still to be looked at.
struct Part {
    rows: Range<u64>,
    /// Whether one of them is known to be unfit.
    is_bad: bool,
    /// Whether the part before it on the stack is its other half.
    is_left: bool,
}

/// Something that takes what the table takes, and stores nothing.
pub(super) struct Checker<'a> {
    client: &'a Client,
    loading: &'a Loading,
    cut: &'a CutRows,
    of_user: &'a BTreeMap<String, String>,
    table: String,
    /// The session that the temporary table lives in.
    session: Option<String>,
}

impl<'a> Checker<'a> {
    /// A temporary table with the table's columns and constraints, or, where
    /// that is not allowed, a function with its columns.
    pub(super) async fn open(
        client: &'a Client,
        loading: &'a Loading,
        cut: &'a CutRows,
        of_user: &'a BTreeMap<String, String>,
        (table, found): (&str, &Found),
    ) -> Result<Self, Refusal> {
        let session = format!("lakeward-{}", ids::fresh());
        let sql = format!("CREATE TEMPORARY TABLE {CHECK} AS {table} ENGINE = Null");
        let request = Request { sql: &sql, session: Some(&session), ..Request::default() };
        match client.send(request).await {
            Ok(_) => Ok(Self { client, loading, cut, of_user, table: CHECK.into(), session: Some(session) }),
            Err(refusal) if refusal.kind == FailureKind::Refused => {
                let columns = found.columns.iter();
                let columns = columns
                    .filter(|column| !matches!(column.default_kind.as_str(), "MATERIALIZED" | "ALIAS"))
                    .map(|column| format!("{} {}", quote::name(&column.name), column.ty));
                let structure = quote::literal(&columns.collect::<Vec<_>>().join(", "));
                let table = format!("FUNCTION null({structure})");
                Ok(Self { client, loading, cut, of_user, table, session: None })
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Every row of the files that will never be taken, up to one more than the
    /// engine can do something with.
    pub(super) async fn search(&self, files: &[(usize, &DataFile)]) -> Result<Search, Failure> {
        let mut search = Search { rows: Vec::new(), is_all: true };
        let mut looked = 0;
        for (index, file) in files {
            if self.refusal(file, file.body.clone(), file.rows).await?.is_none() {
                search.is_all = false;
                continue;
            }
            if file.rows >= SAMPLED_ROWS && self.is_hopeless(file).await? {
                let message = self.of_row(file, 0).await?.unwrap_or_default();
                self.close().await;
                return Ok(Search { rows: vec![UnfitRow { file: *index, row: 0, message }], is_all: true });
            }
            self.bisect(*index, file, &mut search.rows).await?;
            looked += file.rows;
            if search.rows.len() > UNFIT_MAX {
                break;
            }
        }
        search.is_all &= search.rows.len() as u64 == looked;
        self.close().await;
        Ok(search)
    }

    /// The file is known to be refused.
    async fn bisect(&self, index: usize, file: &DataFile, rows: &mut Vec<UnfitRow>) -> Result<(), Failure> {
        // The left half is looked at first: rows come in their order.
        let mut parts = vec![Part { rows: 0..file.rows, is_bad: true, is_left: false }];
        while let Some(Part { rows: part, is_bad, is_left }) = parts.pop() {
            if part.is_empty() || rows.len() > UNFIT_MAX {
                continue;
            }
            if part.end - part.start == 1 {
                match self.of_row(file, part.start).await? {
                    Some(message) => rows.push(UnfitRow { file: index, row: part.start, message }),
                    None => parts
                        .iter_mut()
                        .rev()
                        .take(usize::from(is_left))
                        .for_each(|right| right.is_bad = true),
                }
                continue;
            }
            if !is_bad && self.of(file, part.clone()).await?.is_none() {
                // Then it is the right half.
                if let Some(right) = parts.last_mut().filter(|_| is_left) {
                    right.is_bad = true;
                }
                continue;
            }
            let middle = part.start + (part.end - part.start) / 2;
            parts.push(Part { rows: middle..part.end, is_bad: false, is_left: false });
            parts.push(Part { rows: part.start..middle, is_bad: false, is_left: true });
        }
        Ok(())
    }

    /// Whether rows from all over the file are refused, each on its own.
    async fn is_hopeless(&self, file: &DataFile) -> Result<bool, Failure> {
        for sample in 0..SAMPLES {
            if self.of_row(file, (file.rows - 1) * sample / (SAMPLES - 1)).await?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn of_row(&self, file: &DataFile, row: u64) -> Result<Option<String>, Failure> {
        Ok(self.of(file, row..row + 1).await?.map(|refusal| refusal.message))
    }

    async fn of(&self, file: &DataFile, part: Range<u64>) -> Result<Option<Refusal>, Failure> {
        let (cut, whole, rows) = (CutRows::clone(self.cut), file.clone(), part.end - part.start);
        let body = tokio::task::spawn_blocking(move || cut(&whole, part)).await;
        let body = body.map_err(|error| error.to_string()).and_then(|body| body).map_err(|error| {
            let message = format!("{} cannot be searched for the rows at fault: {error}", file.path);
            Failure::new(FailureKind::Refused, message)
        })?;
        Ok(self.refusal(file, body, rows).await?)
    }

    /// What is wrong with the data of a file; `None` if nothing is.
    async fn refusal(&self, file: &DataFile, body: Bytes, rows: u64) -> Result<Option<Refusal>, Refusal> {
        let request = Request {
            sql: &self.loading.sql(&self.table, None),
            settings: settings(rows.max(file.rows), None, self.of_user),
            session: self.session.as_deref(),
            body: Some(body),
            ..Request::default()
        };
        match self.client.send(request).await {
            Ok(_) => Ok(None),
            Err(refusal) if is_of_data(&refusal) => Ok(Some(refusal)),
            Err(refusal) => Err(refusal),
        }
    }

    /// The session would end by itself; this is only tidier.
    async fn close(&self) {
        let Some(session) = self.session.as_deref() else { return };
        let sql = format!("DROP TEMPORARY TABLE IF EXISTS {CHECK}");
        let _ = self.client.send(Request { sql: &sql, session: Some(session), ..Request::default() }).await;
    }
}
