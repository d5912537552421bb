//! Sharing a stream's shards with other processes by leases in DynamoDB, so
//! that each record is appended by exactly one of them.
//!
//! The table is KCL's, and KCL's rules decide who holds what: an owner counts
//! its leases up to show that it lives; a lease whose counter stood still for
//! the failover time, by the reader's own clock, is free; who has less than its
//! share takes one. But KCL processes first and moves the checkpoint
//! afterwards, so that a lease that changes hands is processed twice from the
//! last checkpoint on. Here it is the other way round: **claim, then append**.
//!
//! For a page of a shard, the records behind `a` up to `b`:
//!
//! 1. The page is read, and not appended.
//! 2. One conditional update of the lease: if we hold it, with the counter that
//!    we know, and its checkpoint is `a`, then the checkpoint becomes `b`, the
//!    counter grows, and our own attribute `lakewardClaim_<worker>` says
//!    (`a`, `b`, number of records).
//! 3. The page is appended with a cursor that says `b` for this shard.
//! 4. Only then may the next claim of this shard overwrite our attribute.
//!
//! Why each record is appended once:
//!
//! - *By whom.* The update is the only thing that moves a checkpoint, and it
//!   needs the checkpoint to be `a`. So the intervals that were ever claimed of
//!   a shard follow each other without gap or overlap, and each has one worker.
//!   A worker that lost its lease without knowing fails in step 2 and throws
//!   the page away, also if it has the lease again by then: `a` is where the
//!   page was read, not what the row says. One that takes a lease over begins
//!   at the checkpoint.
//! - *That it is appended.* Who dies between 2 and 3 leaves the claim in the
//!   row, under its own name, where nobody else writes. When it starts again it
//!   compares its claims with its own journal's cursor, before it does anything
//!   else, and fetches what is missing from Kinesis once more: exactly the
//!   records behind `a` up to `b`.
//! - *That it is appended once.* The cursor is in the frame of the records, so
//!   a claim is covered by the cursor if and only if its records are there.
//! - *A lost reply.* The same update is sent again. Its condition names the
//!   counter, which the update itself moves, so it works at most once; if it
//!   fails, a consistent read says whether our claim is there. A request that
//!   still travels when we die cannot come true later either: the first thing
//!   after a start is to count the leases in our name up, and anybody else who
//!   takes them counts up too.
//!
//! The worker's id is drawn with the first cursor and stored in it: it is as
//! durable as what was appended, and no second journal has it.
//!
//! What it costs: one conditional write for each page with records. What
//! remains: a worker whose disk is lost takes the page with it that it had
//! claimed last; a worker that stays away for longer than the stream's
//! retention cannot fetch it any more, which is said; and a KCL worker beside
//! us is at-least-once on its own shards, as KCL is.

mod balance;
mod held;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lakeward_model::clock::{Clock, SystemClock};
use lakeward_model::ids;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

use super::config::{KinesisConfig, KinesisConfigError, LeasesConfig, StartConfig};
use super::cursor::{Position, Progress, ShardId, Start};
use super::listing::Listing;
use super::sequence::Sequence;
use crate::aws_json::AwsError;
use balance::Seen;
use held::Held;
use table::{Checkpoint, Claim, Row, SHARD_END, Table};

/// How often a claim is tried whose answer does not come.
const CLAIM_TRIES: u32 = 6;
/// How often an update is tried that somebody else was faster than.
const RACES_MAX: u32 = 10;

/// Our leases, and what we know of the others'.
#[derive(Debug)]
pub(super) struct Leases {
    table: Arc<Table>,
    failover: Duration,
    /// What a checkpoint in time means that has no instant.
    start: Start,
    /// What KCL calls such a checkpoint.
    start_word: &'static str,
    /// The leases that we hold.
    held: Arc<Held>,
    /// All leases as last read, and when each was seen to change.
    seen: BTreeMap<ShardId, (Row, Instant)>,
    due: Instant,
    /// Renews while we wait for something else; ends with us.
    renewal: JoinSet<()>,
}

/// A claim of ours whose records our journal does not have.
#[derive(Debug, Clone)]
pub(super) struct Unappended {
    pub(super) shard: ShardId,
    pub(super) from: Position,
    pub(super) to: Sequence,
    pub(super) records: u64,
}

/// Why the leases cannot be used now.
#[derive(Debug, thiserror::Error)]
pub(super) enum LeaseError {
    #[error(transparent)]
    Config(#[from] KinesisConfigError),
    #[error(transparent)]
    Call(#[from] AwsError),
    /// DynamoDB is making the table.
    #[error("the lease table is being made")]
    NotYet,
    /// The table holds something that is no lease of this kind.
    #[error("{0}")]
    Strange(String),
}

impl Leases {
    /// Takes up what an earlier life of this worker left: its leases, and the
    /// claims that its journal does not cover.
    pub(super) async fn open(
        config: &KinesisConfig,
        leases: &LeasesConfig,
        progress: &Progress,
    ) -> Result<(Self, Vec<Unappended>), LeaseError> {
        let worker = progress.worker.unwrap_or_default();
        let table = Arc::new(Table::open(config, leases, worker)?);
        if !table.ensure().await? {
            return Err(LeaseError::NotYet);
        }
        let now = Instant::now();
        let held = Arc::new(Held::new(Arc::clone(&table), leases.failover));
        let mut all = Self {
            table,
            failover: leases.failover,
            start: progress.start,
            start_word: if config.start == StartConfig::Latest { "LATEST" } else { "AT_TIMESTAMP" },
            held,
            seen: BTreeMap::new(),
            due: now,
            renewal: JoinSet::new(),
        };
        let mut missing = Vec::new();
        let rows = all.table.rows().await?;
        all.check(&rows)?;
        for row in rows {
            let row = all.fenced(row).await?;
            if let Some(claim) = &row.claim {
                missing.extend(all.unappended(&row, claim, progress)?);
            }
            if row.owner.as_ref() == Some(&all.table.me) && row.checkpoint.at != SHARD_END {
                all.held.insert(row.clone());
            }
            all.seen.insert(ShardId::clone(&row.shard), (row, now));
        }
        all.renewal.spawn(Arc::clone(&all.held).keep_alive());
        Ok((all, missing))
    }

    /// The row, with a new counter if it is in our name: whatever an earlier
    /// life of ours has sent and that still travels fails from here on.
    async fn fenced(&self, mut row: Row) -> Result<Row, LeaseError> {
        for _ in 0..RACES_MAX {
            if row.owner.as_ref() != Some(&self.table.me) {
                return Ok(row);
            }
            if let Some(renewed) = self.table.renew(&row, false).await? {
                return Ok(renewed);
            }
            match self.table.get(&row.shard).await? {
                Some(now) => row = now,
                None => return Ok(Row { owner: None, ..row }),
            }
        }
        Err(LeaseError::Strange(format!("another process uses this worker's name on {}", row.shard)))
    }

    fn unappended(
        &self,
        row: &Row,
        claim: &Claim,
        mine: &Progress,
    ) -> Result<Option<Unappended>, LeaseError> {
        let strange = || LeaseError::Strange(format!("the claim on {} cannot be read: {claim:?}", row.shard));
        let to = Sequence::new(&claim.to.at).ok_or_else(strange)?;
        let appended = mine.shards.get(&row.shard).and_then(Position::sequence);
        if appended.is_some_and(|appended| *appended >= to) {
            return Ok(None);
        }
        let from = claim.from.position(row.instant, self.start).ok_or_else(strange)?;
        Ok(Some(Unappended { shard: ShardId::clone(&row.shard), from, to, records: claim.records }))
    }

    /// A page is wanted: while that is so the leases are kept alive, however
    /// long it takes.
    pub(super) fn touch(&self) {
        self.held.touch();
    }

    /// When [`keep`](Self::keep) wants to be called.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Shows that we live, sees who else does, and takes what is ours to take.
    /// All that was ever claimed must be appended.
    pub(super) async fn keep(&mut self, listing: &Listing) -> Result<(), LeaseError> {
        // Also after a failure: the leases of others do not run away.
        self.due = Instant::now() + self.failover / 3;
        self.held.renew(true).await?;
        self.look().await?;
        self.make_missing(listing).await?;
        self.take().await?;
        self.remove_old(listing).await?;
        Ok(())
    }

    /// A table belongs to one stream: a lease names the shard only.
    fn check(&self, rows: &[Row]) -> Result<(), LeaseError> {
        let other =
            rows.iter().filter_map(|row| row.stream.as_ref()).find(|name| **name != self.table.stream);
        match other {
            Some(other) => Err(LeaseError::Strange(format!(
                "the lease table {} is that of the stream {other}; give each stream a table of its own",
                self.table.name
            ))),
            None => Ok(()),
        }
    }

    async fn look(&mut self) -> Result<(), LeaseError> {
        let rows = self.table.rows().await?;
        self.check(&rows)?;
        let now = Instant::now();
        let mut seen = BTreeMap::new();
        for row in rows {
            let before = self.seen.get(&row.shard);
            let same = before.filter(|(old, _)| old.counter == row.counter && old.owner == row.owner);
            let changed = same.map_or(now, |(_, changed)| *changed);
            seen.insert(ShardId::clone(&row.shard), (row, changed));
        }
        self.seen = seen;
        Ok(())
    }

    /// Makes the leases of shards that are new: those that have none and of
    /// whose descendants none has one. (A finished shard whose lease was
    /// removed has descendants with leases.) Parents first, so that a crash in
    /// between leaves the same rule true.
    async fn make_missing(&mut self, listing: &Listing) -> Result<(), LeaseError> {
        let old = listing.ancestors(self.seen.keys());
        let first = self.seen.is_empty();
        let mut made = false;
        for (shard, listed) in listing.iter() {
            if self.seen.contains_key(shard) || old.contains(shard) {
                continue;
            }
            // A shard that is made of one with a lease is newer than the start,
            // unless whoever made that lease died before it made this one: so
            // it begins at the same instant, which changes nothing for one that
            // is newer.
            let family = listing.ancestors([shard]);
            let parents = || family.iter().filter_map(|parent| self.seen.get(parent));
            let (checkpoint, instant) = match self.start {
                Start::At(instant) if first || parents().next().is_none() => (self.start_word, Some(instant)),
                _ => ("TRIM_HORIZON", parents().filter_map(|(row, _)| row.instant).min()),
            };
            self.table.create(shard, listed, checkpoint, instant).await?;
            made = true;
        }
        if made { self.look().await } else { Ok(()) }
    }

    async fn take(&mut self) -> Result<(), AwsError> {
        let now = Instant::now();
        let open = self.seen.values().filter(|(row, _)| row.checkpoint.at != SHARD_END);
        let leases: Vec<Seen> = open
            .map(|(row, changed)| {
                let mine = self.held.contains(&row.shard);
                let lives = mine || now.duration_since(*changed) <= self.failover;
                Seen { shard: ShardId::clone(&row.shard), owner: row.owner.clone().filter(|_| lives) }
            })
            .collect();
        let chance = ids::fresh().as_u64_pair().1;
        for shard in balance::wanted(leases, &self.table.me, chance) {
            let Some((row, _)) = self.seen.get(&shard) else { continue };
            let Some(taken) = self.table.take(row, SystemClock.now()).await? else { continue };
            info!(%shard, from = row.owner.as_deref().unwrap_or("nobody"), "took the shard's lease");
            self.seen.insert(shard, (taken.clone(), now));
            self.held.insert(taken);
        }
        // What is in our name is ours, also if the answer to taking it was lost.
        for (shard, (row, _)) in &self.seen {
            let mine = row.owner.as_ref() == Some(&self.table.me) && row.checkpoint.at != SHARD_END;
            if mine && !self.held.contains(shard) {
                self.held.insert(row.clone());
            }
        }
        Ok(())
    }

    /// Removes the leases of finished shards that Kinesis has no more. One that
    /// holds a claim of another worker stays: it may not be appended.
    async fn remove_old(&mut self, listing: &Listing) -> Result<(), AwsError> {
        if listing.iter().next().is_none() {
            // Nothing is known yet.
            return Ok(());
        }
        let is_old = |row: &Row| row.checkpoint.at == SHARD_END && listing.get(&row.shard).is_none();
        let old: Vec<Row> =
            self.seen.values().filter(|(row, _)| is_old(row)).map(|(row, _)| row.clone()).collect();
        for row in old {
            if !row.others_claim {
                self.table.remove(&row.shard).await?;
                self.seen.remove(&row.shard);
            } else if row.claim.is_some() {
                self.table.forget(&row.shard).await?;
            }
        }
        Ok(())
    }

    /// The shards that we hold.
    pub(super) fn held(&self) -> Vec<ShardId> {
        self.held.rows().into_iter().map(|row| row.shard).collect()
    }

    /// Where a shard that we hold is to be read on.
    pub(super) fn position(&self, shard: &str) -> Option<Position> {
        let row = self.held.get(shard)?;
        row.checkpoint.position(row.instant, self.start)
    }

    /// Whether the checkpoint of a shard that we hold is where `position` is: if
    /// not, others read on since the position was ours.
    pub(super) fn is_at(&self, shard: &str, position: &Position) -> bool {
        let Some(there) = self.position(shard) else { return false };
        match (position, &there) {
            (Position::Inside(..), _) => *position == there,
            // Our own checkpoints name the last part of the last record.
            _ => position.sequence() == there.sequence(),
        }
    }

    /// Whether a parent of the shard is still being read, by whomever.
    pub(super) fn waits(&self, shard: &str, listing: &Listing) -> bool {
        let open =
            |parent: &ShardId| self.seen.get(parent).is_some_and(|(row, _)| row.checkpoint.at != SHARD_END);
        listing.get(shard).is_some_and(|listed| listed.parents.iter().any(open))
    }

    /// How far the shard is read, by whomever, if it has a lease.
    pub(super) fn checkpoint(&self, shard: &str) -> Option<Position> {
        let (row, _) = self.seen.get(shard)?;
        row.checkpoint.position(row.instant, self.start)
    }

    /// Whether there is a lease for the shard.
    pub(super) fn knows(&self, shard: &str) -> bool {
        self.seen.contains_key(shard)
    }

    /// Makes the records behind `from`, up to `to`, ours. `false` if the lease
    /// is another's or others read on since `from`: then the page must be thrown
    /// away.
    ///
    /// # Errors
    /// It is unknown whether they are ours. Nothing may be done until
    /// [`open`](Self::open) has cleared that up.
    pub(super) async fn claim(
        &mut self,
        shard: &str,
        from: &Position,
        to: &Sequence,
        part: u64,
        records: u64,
    ) -> Result<bool, AwsError> {
        let Some(mut row) = self.held.get(shard) else { return Ok(false) };
        // A lease that was lost and taken again has another checkpoint, and a
        // page that was read before is none behind it.
        if !self.is_at(shard, from) {
            return Ok(false);
        }
        let to = Checkpoint { at: to.to_string(), part };
        let claim = Claim { from: row.checkpoint.clone(), to, records };
        for attempt in 0..CLAIM_TRIES {
            let error = match self.table.claim(&row, &claim).await {
                Ok(Some(now)) => {
                    self.held.update(now);
                    return Ok(true);
                }
                Ok(None) => match self.after_a_refusal(shard, &row, Some(&claim)).await {
                    Ok(Settled::Done) => return Ok(true),
                    Ok(Settled::Lost) => return Ok(false),
                    Ok(Settled::Again(now)) => {
                        row = *now;
                        continue;
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if matches!(error, AwsError::Answered(_)) || attempt + 1 == CLAIM_TRIES {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(50 << attempt)).await;
        }
        warn!(shard, "somebody else writes this worker's lease");
        self.held.lost(shard);
        Ok(false)
    }

    /// What a refused condition means for an update that moves the checkpoint.
    async fn after_a_refusal(
        &mut self,
        shard: &str,
        row: &Row,
        claim: Option<&Claim>,
    ) -> Result<Settled, AwsError> {
        let now = self.table.get(shard).await?;
        let is_mine = |now: &Row| now.owner.as_ref() == Some(&self.table.me);
        let done = |now: &Row| match claim {
            Some(claim) => now.claim.as_ref() == Some(claim),
            None => is_mine(now) && now.checkpoint.at == SHARD_END,
        };
        Ok(match now {
            // An earlier try worked; its answer was lost.
            Some(now) if done(&now) => {
                if claim.is_none() {
                    self.finished(shard, now);
                } else if is_mine(&now) {
                    self.held.update(now);
                } else {
                    self.held.lost(shard);
                }
                Settled::Done
            }
            Some(now) if is_mine(&now) && now.checkpoint == row.checkpoint => Settled::Again(Box::new(now)),
            _ => {
                self.held.lost(shard);
                Settled::Lost
            }
        })
    }

    /// Says that a shard is read to its end; all of it must be appended.
    pub(super) async fn finish(&mut self, shard: &str, listing: &Listing) -> Result<(), AwsError> {
        let Some(mut row) = self.held.get(shard) else { return Ok(()) };
        for _ in 0..RACES_MAX {
            if let Some(now) = self.table.finish(&row, &listing.children(shard)).await? {
                self.finished(shard, now);
                return Ok(());
            }
            match self.after_a_refusal(shard, &row, None).await? {
                Settled::Again(now) => row = *now,
                Settled::Done | Settled::Lost => return Ok(()),
            }
        }
        self.held.lost(shard);
        Ok(())
    }

    fn finished(&mut self, shard: &str, row: Row) {
        self.held.remove(shard);
        self.seen.insert(ShardId::from(shard), (row, Instant::now()));
        // The children's turn, perhaps ours.
        self.due = Instant::now();
    }

    /// Gives the leases back, so that others need not wait.
    pub(super) async fn close(mut self) {
        self.renewal.shutdown().await;
        for row in self.held.rows() {
            if let Err(error) = self.release(row).await {
                warn!(%error, "could not give the leases back; they run out by themselves");
                return;
            }
        }
    }

    async fn release(&self, row: Row) -> Result<(), AwsError> {
        if self.table.release(&row).await? {
            return Ok(());
        }
        // A renewal that was cut off just now may have counted it up.
        match self.table.get(&row.shard).await? {
            Some(now) if now.owner.as_ref() == Some(&self.table.me) => {
                self.table.release(&now).await.map(drop)
            }
            _ => Ok(()),
        }
    }
}

/// What became of an update whose condition did not hold.
enum Settled {
    Done,
    Lost,
    /// The row is ours and as it was, but for its counter.
    Again(Box<Row>),
}
