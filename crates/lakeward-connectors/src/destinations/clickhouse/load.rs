//! One try to load a batch.

use std::sync::Arc;

use lakeward_model::{
    BATCH_COLUMN, Batch, BatchId, DataFile, Failure, FailureKind, ROW_COLUMN, Role, UnfitRow,
};
use serde::Deserialize;
use tracing::warn;

use super::client::{Request, is_of_data};
use super::insert::{self, Loading};
use super::inspect::Found;
use super::refusal::{Matter, Refusal};
use super::unfit::{Checker, Search};
use super::{ClickHouse, FRESH, State, consistent, quote, standing};

/// Where every row of fewer is unfit, it may as well be the rows' fault.
const FEW_ROWS: u64 = 1_000;
/// One insert is taken apart by partitions into up to so many.
const SLICES_MAX: u32 = 1_024;

/// What is known of the batch that was tried last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attempt {
    id: BatchId,
    /// Whether any of it may be in the table.
    is_doubtful: bool,
    /// These files, and no other content, were seen to be fit.
    checked: Option<u64>,
    /// How often the server said that it had rows which are not there.
    lost: u32,
}

impl Attempt {
    /// The first batch after a start may be one that a process before sent; each
    /// later one follows a batch that is committed, and was never sent.
    fn of(id: BatchId, last: Option<Self>) -> Self {
        match last {
            Some(last) if last.id == id => last,
            last => Self { id, is_doubtful: last.is_none(), checked: None, lost: 0 },
        }
    }
}

/// How the files of a load go into the table.
#[derive(Clone)]
struct Into {
    found: Arc<Found>,
    loading: Arc<Loading>,
    /// The rows that are sent; all, if there is none.
    filter: Option<String>,
    /// What the tokens end with.
    suffix: String,
    /// Whether it is certain that nothing of the batch is in the table.
    is_first: bool,
}

pub(super) struct Load<'a> {
    of: &'a ClickHouse,
    state: &'a mut State,
    batch: &'a Batch,
    files: &'a [(usize, &'a DataFile)],
    /// Rows of all data files of the batch.
    rows: u64,
    /// Whether rows say which they are.
    has_ids: bool,
    /// Each with its content: a token is never used for anything else.
    tokens: Vec<String>,
    id: String,
}

impl<'a> Load<'a> {
    pub(super) fn new(
        of: &'a ClickHouse,
        state: &'a mut State,
        batch: &'a Batch,
        files: &'a [(usize, &'a DataFile)],
    ) -> Result<Self, Failure> {
        let refused = |message: &str| Err(Failure::new(FailureKind::Refused, message));
        if batch.columns.is_empty() && !files.is_empty() {
            return refused(
                "only columns are loaded into a table: set output.format to parquet, ndjson or row_binary",
            );
        }
        if files.iter().any(|(_, file)| file.format != files[0].1.format) {
            return refused("the files of a batch have different formats");
        }
        let has = |name: &str| batch.columns.iter().any(|column| column.name == name);
        let id = batch.id.to_string();
        let token = |(index, file): &(usize, &DataFile)| {
            format!("{id}-{index}-{:016x}", xxhash_rust::xxh3::xxh3_64(&file.body))
        };
        Ok(Self {
            rows: batch.files.iter().filter(|file| file.role == Role::Data).map(|file| file.rows).sum(),
            has_ids: has(BATCH_COLUMN) && has(ROW_COLUMN),
            tokens: files.iter().map(token).collect(),
            of,
            state,
            batch,
            files,
            id,
        })
    }

    /// Whether each file was there already.
    pub(super) async fn run(mut self) -> Result<Vec<bool>, Failure> {
        let before = Attempt::of(self.batch.id, self.state.attempt);
        self.state.attempt = Some(before);
        let Some((_, first)) = self.files.first() else { return Ok(Vec::new()) };
        let found = self.look(before.is_doubtful).await?;
        let mut present = 0;
        if let Some(found) = &found {
            present = self.present(found).await?;
            if present == self.rows {
                return Ok(vec![true; self.files.len()]);
            }
            self.of.known(self.state, Found::clone(found), self.batch, first.format, self.has_ids).await?;
        }
        let Some(known) = &self.state.known else {
            return Err(Failure::new(FailureKind::NotDone, "the table was not looked at"));
        };
        let (found, loading) = (Arc::clone(&known.found), Arc::clone(&known.loading));
        if present == 0 && self.files.len() > 1 {
            self.check_all(&found, &loading).await?;
        }
        // Other content than before, so another token.
        let mut suffix = if present > 0 { format!("-after-{present}") } else { String::new() };
        if before.lost > 0 {
            suffix += &format!("-again-{}", before.lost);
        }
        let into = Into {
            filter: (present > 0).then(|| insert::missing(&self.of.table, &self.id)),
            suffix,
            // Without lineage only the server knows what an earlier try did.
            is_first: !before.is_doubtful || (self.has_ids && present == 0),
            found,
            loading,
        };
        for at in 0..self.files.len() {
            let into = Into { is_first: into.is_first && at == 0, ..into.clone() };
            if let Err(refusal) = self.store(at, &into).await {
                return Err(self.failed(refusal, present == 0 && at == 0, &into).await);
            }
        }
        let found = into.found;
        if before.is_doubtful && self.has_ids {
            self.verify(&found).await?;
        }
        self.state.is_proven = true;
        Ok(vec![false; self.files.len()])
    }

    /// The table as it is, if it was not looked at a short time ago or the batch
    /// may be in it.
    async fn look(&mut self, is_doubtful: bool) -> Result<Option<Arc<Found>>, Failure> {
        let format = self.files.first().map(|(_, file)| file.format);
        let is_fresh = self.state.known.as_ref().is_some_and(|known| {
            known.at.elapsed() < FRESH && known.columns == self.batch.columns && Some(known.format) == format
        });
        if is_fresh && !is_doubtful {
            return Ok(None);
        }
        self.state.known = None;
        Ok(Some(Arc::new(self.of.found(&self.batch.columns).await?)))
    }

    /// How many of the batch's rows are in the table; 0 where nothing says so.
    async fn present(&self, found: &Found) -> Result<u64, Failure> {
        #[derive(Deserialize)]
        struct Present {
            rows: u64,
            all: u64,
        }
        let is_doubtful = self.state.attempt.is_none_or(|attempt| attempt.is_doubtful);
        if !is_doubtful || !self.has_ids || !standing::has_lineage(found) {
            return Ok(0);
        }
        self.caught_up(found).await?;
        let sql = format!(
            "SELECT toUInt64(uniqExact({})) AS rows, toUInt64(count()) AS all FROM {} WHERE {} FORMAT JSONEachRow",
            quote::name(ROW_COLUMN),
            self.of.table,
            insert::of_batch(&self.id)
        );
        let rows: Vec<Present> = self.of.client.rows(&sql, consistent(found)).await?;
        let Some(Present { rows, all }) = rows.into_iter().next() else { return Ok(0) };
        if all > rows || rows > self.rows {
            warn!(
                table = self.of.table,
                batch = self.id,
                all,
                expected = self.rows,
                "rows of the batch are in the table more than once: somebody copied them"
            );
        }
        Ok(rows.min(self.rows))
    }

    /// A replica that others are ahead of does not know what was stored there.
    async fn caught_up(&self, found: &Found) -> Result<(), Failure> {
        #[derive(Deserialize)]
        struct Replica {
            behind: u64,
        }
        if !found.engine.starts_with("Replicated") {
            return Ok(());
        }
        let config = &self.of.config;
        let sql = format!(
            "SELECT toUInt64(inserts_in_queue + greatest(toInt64(log_max_index) - toInt64(log_pointer) + 1, 0)) AS behind \
             FROM system.replicas WHERE database = {} AND table = {} FORMAT JSONEachRow",
            quote::literal(&config.database),
            quote::literal(&config.table)
        );
        let replicas: Vec<Replica> = self.of.client.rows(&sql, Vec::new()).await?;
        match replicas.first() {
            Some(Replica { behind }) if *behind > 0 => Err(Failure::new(
                FailureKind::Unknown,
                format!(
                    "the replica is {behind} steps behind the others; what it has of the batch is asked again"
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Stores a file.
    async fn store(&mut self, at: usize, into: &Into) -> Result<(), Refusal> {
        match self.insert(at, into).await {
            Err(refusal) if refusal.matter() == Matter::Partitions => {
                if !self.has_ids || into.found.partition_key.is_empty() {
                    let advice = "raise max_partitions_per_insert_block for the user, or set lineage: true";
                    return Err(Refusal { message: format!("{} ({advice})", refusal.message), ..refusal });
                }
                self.in_slices(at, into, refusal).await
            }
            other => other,
        }
    }

    /// A file that touches too many partitions goes in by groups of them.
    async fn in_slices(&mut self, at: usize, into: &Into, refusal: Refusal) -> Result<(), Refusal> {
        let (mut slices, mut done) = (2, 0);
        while done < slices {
            let rows = insert::missing(&self.of.table, &self.id);
            let slice = insert::slice(&into.found.partition_key, done, slices);
            let suffix = format!("{}-{done}of{slices}", into.suffix);
            let part =
                Into { filter: Some(format!("{slice} AND {rows}")), suffix, is_first: false, ..into.clone() };
            match self.insert(at, &part).await {
                Ok(()) => done += 1,
                Err(again) if again.matter() == Matter::Partitions && slices < SLICES_MAX => {
                    // What is there already is left out again.
                    (slices, done) = (slices * 2, 0);
                }
                Err(again) if again.matter() == Matter::Partitions => return Err(refusal),
                Err(again) => return Err(again),
            }
        }
        Ok(())
    }

    /// One insert.
    async fn insert(&mut self, at: usize, into: &Into) -> Result<(), Refusal> {
        let Into { found, loading, filter, suffix, is_first } = into;
        let (_, file) = self.files[at];
        self.state.pace.wait().await;
        let before = self.parts(found).await;
        let token = format!("{}{suffix}", self.tokens[at]);
        // A try that still runs has this id too: the server takes no second one.
        let query_id = format!("lakeward-{token}");
        let mut settings = insert::settings(file.rows, Some(token), &self.of.config.settings);
        if self.has_ids && found.engine.contains("Replacing") {
            // All rows are there to be counted, until a merge.
            settings.push(("optimize_on_insert", "0".into()));
        }
        let sql = loading.sql(&self.of.table, filter.as_deref());
        let body = Some(file.body.clone());
        self.set_doubtful(true);
        let request = Request { sql: &sql, settings, query_id: Some(&query_id), session: None, body };
        let answer = match self.of.client.send(request).await {
            Ok(answer) => answer,
            Err(refusal) => {
                if refusal.matter() == Matter::Table {
                    self.state.known = None;
                }
                // It is certain that nothing of the batch is there.
                if *is_first && refusal.kind != FailureKind::Unknown && !is_of_data(&refusal) {
                    self.set_doubtful(false);
                }
                return Err(refusal);
            }
        };
        if let Some(said) = answer.said() {
            return Err(Refusal::unknown(format!(
                "an insert is answered with {said:?}: something else answers at url"
            )));
        }
        let after = self.parts(found).await;
        let parts = before.zip(after).map_or(1, |(before, after)| after.saturating_sub(before));
        self.state.pace.made(u32::try_from(parts).unwrap_or(u32::MAX));
        // Rows of views are counted too; a repeat that the server knew may count none.
        match answer.written {
            Some(written) if filter.is_none() && written < file.rows && (written > 0 || *is_first) => {
                Err(Refusal::unknown(format!("ClickHouse says it wrote {written} of {} rows", file.rows)))
            }
            _ => Ok(()),
        }
    }

    fn set_doubtful(&mut self, is_doubtful: bool) {
        if let Some(attempt) = &mut self.state.attempt {
            attempt.is_doubtful = is_doubtful;
        }
    }

    /// A number that grows by one with every part of a table with partitions.
    async fn parts(&self, found: &Found) -> Option<u64> {
        #[derive(Deserialize)]
        struct Parts {
            parts: u64,
        }
        if found.partition_key.is_empty() {
            return None;
        }
        // Replicas count blocks in each partition, other tables in all.
        let is_replicated = found.engine.starts_with("Replicated") || found.engine.starts_with("Shared");
        let (of, group) = if is_replicated { ("sum", " GROUP BY partition_id") } else { ("max", "") };
        let config = &self.of.config;
        let sql = format!(
            "SELECT toUInt64({of}(block)) AS parts FROM (SELECT max(max_block_number) AS block FROM system.parts \
             WHERE database = {} AND table = {}{group}) FORMAT JSONEachRow",
            quote::literal(&config.database),
            quote::literal(&config.table)
        );
        let parts: Vec<Parts> = self.of.client.rows(&sql, Vec::new()).await.ok()?;
        Some(parts.first()?.parts)
    }

    /// What a refusal means for the batch.
    async fn failed(&mut self, refusal: Refusal, is_untouched: bool, into: &Into) -> Failure {
        if !is_of_data(&refusal) {
            return refusal.into();
        }
        if !is_untouched {
            let message = format!("{}; a part of the batch is in the table already", refusal.message);
            return Failure::new(FailureKind::Refused, message);
        }
        // A view that fails may do so when its table has the rows.
        match self.present(&into.found).await {
            Ok(0) => {}
            Ok(_) => return Failure::new(FailureKind::Unknown, refusal.message),
            Err(failure) => return failure,
        }
        match self.search(&into.found, &into.loading).await {
            Ok(Some(failure)) => {
                // Read, converted or checked in vain: it had not come to storing.
                self.set_doubtful(false);
                failure
            }
            Ok(None) => {
                let message =
                    format!("{}; each row alone is taken: look at the table's views", refusal.message);
                Failure::new(FailureKind::Refused, message)
            }
            Err(failure) => failure,
        }
    }

    /// Before the first of several files is stored, all of them are tried.
    async fn check_all(&mut self, found: &Found, loading: &Loading) -> Result<(), Failure> {
        let content = xxhash_rust::xxh3::xxh3_64(self.tokens.concat().as_bytes());
        if self.state.attempt.is_some_and(|attempt| attempt.checked == Some(content)) {
            return Ok(());
        }
        if let Some(failure) = self.search(found, loading).await? {
            return Err(failure);
        }
        if let Some(attempt) = &mut self.state.attempt {
            attempt.checked = Some(content);
        }
        Ok(())
    }

    /// What is wrong with the rows of the batch; `None` if nothing is.
    async fn search(&self, found: &Found, loading: &Loading) -> Result<Option<Failure>, Failure> {
        let of = self.of;
        let checker =
            Checker::open(&of.client, loading, &of.cut, &of.config.settings, (&of.table, found)).await?;
        let Search { rows, is_all } = checker.search(self.files).await?;
        let Some(UnfitRow { message, .. }) = rows.first() else { return Ok(None) };
        if is_all && (self.rows >= FEW_ROWS || !self.is_proven(found).await?) {
            let message = format!(
                "{message}. It is so for every row that was tried: rather the table's columns are wrong than the data"
            );
            return Ok(Some(Failure::new(FailureKind::Refused, message)));
        }
        let message = format!("{} rows do not fit the table {}; the first: {message}", rows.len(), of.table);
        Ok(Some(Failure::unfit(message, rows)))
    }

    /// Whether the table ever took a row of ours.
    async fn is_proven(&self, found: &Found) -> Result<bool, Failure> {
        #[derive(Deserialize)]
        struct Rows {
            rows: u64,
        }
        if self.state.is_proven || !standing::has_lineage(found) {
            return Ok(self.state.is_proven);
        }
        let sql = format!(
            "SELECT toUInt64(count()) AS rows FROM (SELECT 1 FROM {} WHERE {} != '' LIMIT 1) FORMAT JSONEachRow",
            self.of.table,
            quote::name(BATCH_COLUMN)
        );
        let rows: Vec<Rows> = self.of.client.rows(&sql, Vec::new()).await?;
        Ok(rows.first().is_some_and(|row| row.rows > 0))
    }

    /// After a doubtful try all rows are counted: a server that took a repeat
    /// for known, but has lost it since, is noticed here.
    async fn verify(&mut self, found: &Found) -> Result<(), Failure> {
        let present = self.present(found).await?;
        if present == self.rows || found.engine.contains("Replacing") {
            return Ok(());
        }
        if let Some(attempt) = &mut self.state.attempt {
            attempt.lost = attempt.lost.saturating_add(1);
        }
        let message = format!("{present} of {} rows are in the table after the insert", self.rows);
        Err(Failure::new(FailureKind::Unknown, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_batch_and_uncertain_ones_are_doubtful() {
        let id = |n: u128| BatchId(uuid::Uuid::from_u128(n));
        let first = Attempt::of(id(1), None);
        assert!(first.is_doubtful);
        let second = Attempt::of(id(2), Some(first));
        assert!(!second.is_doubtful);
        let uncertain = Attempt { is_doubtful: true, checked: Some(7), lost: 1, ..second };
        assert_eq!(Attempt::of(id(2), Some(uncertain)), uncertain);
        assert_eq!(Attempt::of(id(3), Some(uncertain)).checked, None);
    }
}
