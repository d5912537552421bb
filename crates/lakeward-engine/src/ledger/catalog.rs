//! How far a pipeline's catalog is.
//!
//! | table     | key                | value |
//! |-----------|--------------------|-------|
//! | `catalog` | pipeline           | [`CatalogProgress`] |
//! | `commits` | pipeline, revision of its progress | the key of the batch that was committed then |
//!
//! Batches are kept in the order of their keys, which is not that of time: a
//! replay's comes anywhere. So a pipeline with a catalog also keeps the order of
//! its commits, from the catalog's own place on. What lies before that place is
//! found by going through all its batches once.

use std::ops::Bound;

use lakeward_columnar::build::Schemas;
use redb::{ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{
    BATCHES, BatchKey, BatchRecord, Documents, Ledger, LedgerError, PROGRESS, Progress, SCHEMAS, parse, put,
};

const CATALOG: Documents = TableDefinition::new("catalog");
const COMMITS: TableDefinition<'static, (&'static str, u64), (u128, u64)> = TableDefinition::new("commits");

/// Batches are counted up to here.
const BEHIND_MAX: usize = 1_000;

/// What a catalog knows of a pipeline's batches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogProgress {
    /// The catalog's name: another one starts from the first batch.
    pub catalog: String,
    /// Every commit up to this revision of the pipeline's progress is
    /// registered, once the history is.
    pub revision: u64,
    /// The batches of before: where they are gone through. `None` once all are
    /// registered.
    pub history: Option<History>,
    /// Whether the table was ever registered.
    pub registered: bool,
    /// The version of the columns that was registered last.
    pub schema_version: u64,
    /// What the catalog said that tells its table from another one of its name.
    #[serde(default)]
    pub made: Option<String>,
}

/// How far the batches of before are registered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// Those up to this key are. `None`: none is.
    pub after: Option<BatchKey>,
}

/// Batches that a catalog does not know.
#[derive(Debug)]
pub struct CatalogWork {
    /// The columns now.
    pub schemas: Schemas,
    /// The batches, and how far the catalog is with each.
    pub batches: Vec<(CatalogProgress, BatchRecord)>,
    /// How far it is when all of them are registered, or when there are none.
    pub end: CatalogProgress,
}

impl Ledger {
    /// Where the catalog stands, from now on a durable place: that of before if
    /// it is the same catalog, else before the first batch.
    ///
    /// # Panics
    /// If the pipeline was never registered.
    ///
    /// # Errors
    /// See [`LedgerError`]; nothing changed.
    pub fn begin_catalog(&self, name: &str, catalog: &str) -> Result<CatalogProgress, LedgerError> {
        match self.catalog(name)? {
            Some(known) if known.catalog == catalog => Ok(known),
            _ => self.restart_catalog(name, catalog),
        }
    }

    /// Puts the catalog before the first batch: it knows nothing any more.
    ///
    /// # Panics
    /// If the pipeline was never registered.
    ///
    /// # Errors
    /// See [`LedgerError`]; nothing changed.
    pub fn restart_catalog(&self, name: &str, catalog: &str) -> Result<CatalogProgress, LedgerError> {
        let mut placed = None;
        self.write(|write| {
            // A commit after this transaction finds the place and is kept in
            // order; those before it are history.
            let progress: Progress = {
                let table = write.open_table(PROGRESS)?;
                let value = table.get(name)?.expect("a pipeline is registered first");
                parse("progress", value.value())?
            };
            let place = CatalogProgress {
                catalog: catalog.into(),
                revision: progress.revision,
                history: Some(History::default()),
                registered: false,
                schema_version: 0,
                made: None,
            };
            put(write, CATALOG, name, &place)?;
            write.open_table(COMMITS)?.retain_in((name, 0)..=(name, u64::MAX), |_, _| false)?;
            placed = Some(place);
            Ok(())
        })?;
        Ok(placed.expect("it was made above"))
    }

    /// Where the catalog stands, if the pipeline has one.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn catalog(&self, name: &str) -> Result<Option<CatalogProgress>, LedgerError> {
        self.get(CATALOG, "catalog", name)
    }

    /// Moves the catalog on, if it is where it was: a task that outlived its
    /// pipeline moves nobody else's. Whether it moved.
    ///
    /// # Errors
    /// See [`LedgerError`]; nothing changed, and the same is registered again.
    pub fn move_catalog(
        &self,
        name: &str,
        from: &CatalogProgress,
        to: &CatalogProgress,
    ) -> Result<bool, LedgerError> {
        let mut moved = false;
        self.write(|write| {
            let known = write.open_table(CATALOG)?.get(name)?.map(|value| parse("catalog", value.value()));
            let known: Option<CatalogProgress> = known.transpose()?;
            if known.as_ref() == Some(from) {
                put(write, CATALOG, name, to)?;
                write.open_table(COMMITS)?.retain_in((name, 0)..=(name, to.revision), |_, _| false)?;
                moved = true;
            }
            Ok(())
        })?;
        Ok(moved)
    }

    /// Forgets where a catalog stood: the pipeline has none any more.
    ///
    /// # Errors
    /// See [`LedgerError`]; nothing changed.
    pub fn forget_catalog(&self, name: &str) -> Result<(), LedgerError> {
        if self.catalog(name)?.is_none() {
            return Ok(());
        }
        self.write(|write| forget(write, name))
    }

    /// Up to `limit` batches that the catalog at `place` does not know.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn catalog_work(
        &self,
        name: &str,
        place: &CatalogProgress,
        limit: usize,
    ) -> Result<CatalogWork, LedgerError> {
        let read = self.database.begin_read()?;
        let schemas = read.open_table(SCHEMAS)?.get(name)?.map(|value| parse("schemas", value.value()));
        let schemas: Schemas = schemas.transpose()?.unwrap_or_default();
        let (batches, end) = match &place.history {
            Some(history) => before(&read, name, place, history, limit)?,
            None => since(&read, name, place, limit)?,
        };
        Ok(CatalogWork { schemas, batches, end })
    }

    /// How many batches the catalog at `place` does not know: exact up to 1,000
    /// while it follows; of a history, what comes after it.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn catalog_behind(&self, name: &str, place: &CatalogProgress) -> Result<u64, LedgerError> {
        let read = self.database.begin_read()?;
        let mut count = 0;
        if let Some(history) = &place.history {
            let table = read.open_table(BATCHES)?;
            let left = table.range::<(&str, u128, u64)>(after(name, history))?;
            count += left.take(BEHIND_MAX).count();
        }
        let table = read.open_table(COMMITS)?;
        let left = table.range((name, place.revision.saturating_add(1))..=(name, u64::MAX))?;
        count += left.take(BEHIND_MAX).count();
        Ok(count.min(BEHIND_MAX) as u64)
    }
}

type Page = (Vec<(CatalogProgress, BatchRecord)>, CatalogProgress);

/// A key of a batch, as a bound of a range.
type KeyBound<'k> = Bound<(&'k str, u128, u64)>;

/// The keys of the history behind its place.
fn after<'k>(name: &'k str, history: &'k History) -> (KeyBound<'k>, KeyBound<'k>) {
    let start = match &history.after {
        Some(key) => Bound::Excluded((name, key.source.as_u128(), key.from.0)),
        None => Bound::Included((name, 0, 0)),
    };
    (start, Bound::Included((name, u128::MAX, u64::MAX)))
}

/// Batches of the history, in the order of their keys.
fn before(
    read: &ReadTransaction,
    name: &str,
    place: &CatalogProgress,
    history: &History,
    limit: usize,
) -> Result<Page, LedgerError> {
    let table = read.open_table(BATCHES)?;
    let mut batches = Vec::new();
    for entry in table.range::<(&str, u128, u64)>(after(name, history))?.take(limit) {
        let batch: BatchRecord = parse("batches", entry?.1.value())?;
        let history = Some(History { after: Some(batch.key()) });
        batches.push((CatalogProgress { history, ..place.clone() }, batch));
    }
    let end = if batches.len() < limit {
        CatalogProgress { history: None, ..place.clone() }
    } else {
        batches.last().map_or_else(|| place.clone(), |(place, _)| place.clone())
    };
    Ok((batches, end))
}

/// Batches since then, in the order of their commits.
fn since(
    read: &ReadTransaction,
    name: &str,
    place: &CatalogProgress,
    limit: usize,
) -> Result<Page, LedgerError> {
    let (commits, table) = (read.open_table(COMMITS)?, read.open_table(BATCHES)?);
    let mut batches = Vec::new();
    let mut end = place.clone();
    for entry in commits.range((name, place.revision.saturating_add(1))..=(name, u64::MAX))?.take(limit) {
        let (key, batch) = entry?;
        end.revision = key.value().1;
        let (source, from) = batch.value();
        if let Some(value) = table.get((name, source, from))? {
            batches.push((end.clone(), parse("batches", value.value())?));
        }
    }
    Ok((batches, end))
}

pub(super) fn make_tables(write: &WriteTransaction) -> Result<(), LedgerError> {
    write.open_table(CATALOG)?;
    write.open_table(COMMITS)?;
    Ok(())
}

/// Keeps the order of a commit, if a catalog needs it.
pub(super) fn committed(
    write: &WriteTransaction,
    name: &str,
    revision: u64,
    record: &BatchRecord,
) -> Result<(), LedgerError> {
    if write.open_table(CATALOG)?.get(name)?.is_some() {
        let key = (record.source().as_u128(), record.span.from.0);
        write.open_table(COMMITS)?.insert((name, revision), key)?;
    }
    Ok(())
}

/// The pipeline's revisions start again: what is known stays known.
pub(super) fn restarted(write: &WriteTransaction, name: &str) -> Result<(), LedgerError> {
    write.open_table(COMMITS)?.retain_in((name, 0)..=(name, u64::MAX), |_, _| false)?;
    let known = write.open_table(CATALOG)?.get(name)?.map(|value| parse("catalog", value.value()));
    match known.transpose()? {
        Some(place) => {
            let place: CatalogProgress = place;
            // What was committed and not registered is in the history only.
            let place = CatalogProgress { revision: 0, history: Some(History::default()), ..place };
            put(write, CATALOG, name, &place)
        }
        None => Ok(()),
    }
}

pub(super) fn forget(write: &WriteTransaction, name: &str) -> Result<(), LedgerError> {
    write.open_table(CATALOG)?.remove(name)?;
    write.open_table(COMMITS)?.retain_in((name, 0)..=(name, u64::MAX), |_, _| false)?;
    Ok(())
}
