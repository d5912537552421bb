//! The leases that we hold, and the task that keeps them alive while the source
//! does something that takes long: a pause after a failure, a reply that does
//! not come, a journal that is full.
//!
//! Reading and claiming are the reader's alone. The task only counts leases up.
//! Either may find that the other moved the counter: then the row says what is
//! true, and the newer one is kept. That a page is claimed from where it was
//! read, and only then, does not rest on the task.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::super::cursor::ShardId;
use super::table::{Row, Table};
use crate::aws_json::AwsError;

/// A worker that was not asked for a page for so long gives its leases up, so
/// that those who have room go on. Longer than any pause of ours but that of a
/// full journal and one that a server asks for.
const UNUSED_MAX: Duration = Duration::from_secs(120);

/// The leases that we hold.
#[derive(Debug)]
pub(super) struct Held {
    table: Arc<Table>,
    failover: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// As we last wrote them.
    rows: BTreeMap<ShardId, Row>,
    /// When all were last counted up.
    renewed: Instant,
    /// When somebody last wanted a page.
    used: Instant,
}

impl Held {
    pub(super) fn new(table: Arc<Table>, failover: Duration) -> Self {
        let now = Instant::now();
        let state = State { rows: BTreeMap::new(), renewed: now, used: now };
        Self { table, failover, state: Mutex::new(state) }
    }

    /// Never held over an await.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody wants a page.
    pub(super) fn touch(&self) {
        self.state().used = Instant::now();
    }

    pub(super) fn rows(&self) -> Vec<Row> {
        self.state().rows.values().cloned().collect()
    }

    pub(super) fn get(&self, shard: &str) -> Option<Row> {
        self.state().rows.get(shard).cloned()
    }

    pub(super) fn contains(&self, shard: &str) -> bool {
        self.state().rows.contains_key(shard)
    }

    /// A lease that is ours from now on.
    pub(super) fn insert(&self, row: Row) {
        self.state().rows.insert(ShardId::clone(&row.shard), row);
    }

    /// A lease of ours as it was written or read now, unless a newer one is
    /// known, or it was given away meanwhile.
    pub(super) fn update(&self, row: Row) {
        if let Some(known) = self.state().rows.get_mut(&row.shard)
            && known.counter < row.counter
        {
            *known = row;
        }
    }

    pub(super) fn remove(&self, shard: &str) -> Option<Row> {
        self.state().rows.remove(shard)
    }

    pub(super) fn lost(&self, shard: &str) {
        if self.remove(shard).is_some() {
            info!(shard, "another worker has the shard's lease now");
        }
    }

    /// Counts all up. What another has is ours no more. `stored` says that all
    /// we ever claimed is appended, so that the claims can go.
    pub(super) async fn renew(&self, stored: bool) -> Result<(), AwsError> {
        let begun = Instant::now();
        for row in self.rows() {
            let now = match self.table.renew(&row, stored).await? {
                Some(now) => Some(now),
                // An earlier renewal whose answer was lost, a change that the
                // reader made at the same time, or a new owner.
                None => self.table.get(&row.shard).await?,
            };
            match now.filter(|now| now.owner.as_ref() == Some(&self.table.me)) {
                Some(now) => self.update(now),
                None => {
                    // Unless the reader has taken it again since.
                    let known = self.get(&row.shard);
                    if known.is_some_and(|known| known.counter == row.counter) {
                        self.lost(&row.shard);
                    }
                }
            }
        }
        self.state().renewed = begun;
        Ok(())
    }

    /// Renews whenever nobody else did in time, until it is cut off.
    pub(super) async fn keep_alive(self: Arc<Self>) {
        loop {
            let (renewed, used) = {
                let state = self.state();
                (state.renewed, state.used)
            };
            let due = renewed + self.failover / 2;
            if Instant::now() < due {
                tokio::time::sleep_until(due).await;
                continue;
            }
            if used.elapsed() < UNUSED_MAX {
                match self.renew(false).await {
                    Ok(()) => continue,
                    Err(error) => warn!(%error, "the leases could not be renewed"),
                }
            }
            tokio::time::sleep(self.failover / 10).await;
        }
    }
}
