//! Reading all shards of a stream, or those that we hold leases of, from a
//! cursor on: who is read when, and what a page does to the cursor.

mod compare;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lakeward_model::{Cursor, Failure, FailureKind, Page, Records};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::api::Stream;
use super::config::KinesisConfig;
use super::cursor::{Position, Progress, ShardId, Start};
use super::failures::{self, THROTTLED_MAX};
use super::leases::{LeaseError, Leases, Unappended};
use super::listing::Listing;
use super::read::{Job, Read, ReadError};
use super::recover;

/// A poll answers after this long, also if there is nothing.
const PATIENCE: Duration = Duration::from_secs(1);
/// Kinesis allows 5 reads a second and shard, for all readers together.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Most troubles that are kept until a page takes them along.
const TROUBLES_MAX: usize = 20;
/// The longest that a shard waits because it was asked to.
const ASKED_MAX: Duration = Duration::from_secs(300);

/// A stream that is being read.
#[derive(Debug)]
pub(super) struct Reader {
    stream: Arc<Stream>,
    idle: Duration,
    discover: Duration,
    shards_at_once: usize,
    /// Where every shard will be once what was handed out last is stored.
    progress: Progress,
    /// The same as it was handed out.
    handed: Option<Cursor>,
    listing: Listing,
    listing_due: Instant,
    listing_failures: u32,
    /// Why the last listing failed, if it did.
    unlisted: Option<(FailureKind, String)>,
    /// How often in a row a shard of the cursor was not listed.
    absent: BTreeMap<ShardId, u32>,
    /// How often in a row a shard was listed as no shard can be that we read so
    /// far.
    another: BTreeMap<ShardId, u32>,
    /// Whether one was taken out of the cursor.
    forgot: bool,
    reading: BTreeMap<ShardId, Reading>,
    jobs: JoinSet<Done>,
    reads: u64,
    leases: Option<Leases>,
    unappended: VecDeque<Unappended>,
    troubles: Vec<String>,
    /// What we hold is unknown: only a new reader finds out.
    broken: bool,
}

/// A shard that is being read.
#[derive(Debug)]
struct Reading {
    position: Position,
    iterator: Option<String>,
    unsure: bool,
    due: Instant,
    failures: u32,
    behind: Option<Duration>,
    /// The read that is under way, and whether the shard was known to be closed
    /// when it began.
    job: Option<(u64, bool)>,
    /// Everything was handed out; what is left is to say so.
    ended: bool,
    /// Kinesis said that there is no such shard when it was read last.
    missing: bool,
    /// How often in a row it was not listed either.
    absent: u32,
}

/// A job's end.
#[derive(Debug)]
struct Done {
    shard: ShardId,
    job: u64,
    result: Result<Read, ReadError>,
}

impl Reading {
    fn new(position: Position) -> Self {
        let due = Instant::now();
        Self {
            position,
            iterator: None,
            unsure: true,
            due,
            failures: 0,
            behind: None,
            job: None,
            ended: false,
            missing: false,
            absent: 0,
        }
    }
}

impl Reader {
    /// A reader that goes on behind `progress`.
    pub(super) async fn open(
        config: &KinesisConfig,
        stream: Arc<Stream>,
        progress: Progress,
        stored: Option<Cursor>,
    ) -> Result<Self, Failure> {
        let (mut leases, mut unappended) = (None, Vec::new());
        if let Some(settings) = &config.leases {
            let opened = Leases::open(config, settings, &progress).await;
            let (open, missing) = opened.map_err(lease_failure)?;
            (leases, unappended) = (Some(open), missing);
        }
        Ok(Self {
            stream,
            idle: config.idle,
            discover: config.discover,
            shards_at_once: config.shards_at_once,
            progress,
            handed: stored,
            listing: Listing::default(),
            listing_due: Instant::now(),
            listing_failures: 0,
            unlisted: None,
            absent: BTreeMap::new(),
            another: BTreeMap::new(),
            forgot: false,
            reading: BTreeMap::new(),
            jobs: JoinSet::new(),
            reads: 0,
            leases,
            unappended: unappended.into(),
            troubles: Vec::new(),
            broken: false,
        })
    }

    /// Whether a poll behind `cursor` is one behind our last page.
    pub(super) fn is_at(&self, cursor: Option<&Cursor>) -> bool {
        !self.broken && self.handed.as_ref() == cursor
    }

    /// Gives the leases back. Everything that was handed out is stored.
    pub(super) async fn close(self) {
        if let Some(leases) = self.leases.filter(|_| !self.broken) {
            leases.close().await;
        }
    }

    /// The next page. The one before is stored.
    pub(super) async fn next(&mut self) -> Result<Page, Failure> {
        if let Some(leases) = &self.leases {
            leases.touch();
        }
        if let Some(claim) = self.unappended.front().cloned() {
            return self.recover(claim).await;
        }
        let until = Instant::now() + PATIENCE;
        loop {
            self.list().await?;
            self.keep_leases().await?;
            self.finish_ended().await?;
            if self.progress_changed() {
                return self.page(Records::default());
            }
            self.start_jobs();
            let wake = self.wake(until);
            tokio::select! {
                Some(done) = self.jobs.join_next(), if !self.jobs.is_empty() => {
                    let done = done.map_err(|error| {
                        self.broken = true;
                        failures::strange(error.to_string())
                    })?;
                    if let Some(records) = self.take(done).await? {
                        // The shard is read on while the page is stored.
                        self.start_jobs();
                        return self.page(records);
                    }
                }
                () = tokio::time::sleep_until(wake) => {}
            }
            if Instant::now() >= until {
                // With nothing to read this is no idle stream.
                return match &self.unlisted {
                    Some((kind, said)) if self.reading.is_empty() => Err(Failure::new(*kind, said.clone())),
                    _ => self.page(Records::default()),
                };
            }
        }
    }

    /// Whether a shard ended or went without a record telling it.
    fn progress_changed(&mut self) -> bool {
        if std::mem::take(&mut self.forgot) {
            return true;
        }
        let finished = |shard: &ShardId| self.progress.shards.get(shard) == Some(&Position::Finished);
        self.reading.keys().any(finished)
    }

    fn page(&mut self, records: Records) -> Result<Page, Failure> {
        let progress = &self.progress;
        self.reading.retain(|shard, _| progress.shards.get(shard) != Some(&Position::Finished));
        let Ok(next) = self.progress.cursor() else {
            // The positions have moved on, and the records were not handed out.
            self.broken = true;
            let shards = self.progress.shards.len();
            return Err(failures::refused(format!("{shards} shards are more than a cursor has room for")));
        };
        self.handed = Some(next.clone());
        let behind = self.reading.values().filter_map(|reading| reading.behind).max();
        let trouble = (!self.troubles.is_empty()).then(|| self.troubles.join("; "));
        self.troubles.clear();
        Ok(Page { records, next, behind, trouble })
    }

    /// Fetches what an earlier life of ours claimed and did not append.
    async fn recover(&mut self, claim: Unappended) -> Result<Page, Failure> {
        let (records, missing) = match recover::fetch(&self.stream, &claim).await {
            Ok(found) => found,
            Err(error) if failures::is_missing(&error) && !self.is_listed(&claim.shard).await? => {
                (Records::default(), claim.records)
            }
            Err(error) => return Err(failures::of_read(&claim.shard, error)),
        };
        info!(shard = %claim.shard, from = ?claim.from, to = %claim.to, records = records.len(), "fetched what was claimed before the restart");
        if missing > 0 {
            self.trouble(format!(
                "{missing} of {} records of {} up to {} were claimed by this process and are no longer in the stream: they are lost",
                claim.records, claim.shard, claim.to
            ));
        }
        self.progress.shards.insert(claim.shard, Position::Behind(claim.to));
        self.unappended.pop_front();
        self.page(records)
    }

    /// Whether the stream, which must be there, has such a shard.
    async fn is_listed(&self, shard: &ShardId) -> Result<bool, Failure> {
        let shards = self.stream.shards().await.map_err(failures::of_call)?;
        Ok(shards.iter().any(|listed| listed.shard_id == **shard))
    }

    /// Asks which shards there are, if it is time.
    async fn list(&mut self) -> Result<(), Failure> {
        if Instant::now() < self.listing_due {
            return Ok(());
        }
        match self.stream.shards().await {
            Ok(shards) if shards.is_empty() => {
                self.listing_due = Instant::now() + failures::backoff(1);
                Err(failures::strange(String::from("the stream has no shards, says the reply")))
            }
            Ok(shards) => {
                self.listing = Listing::new(shards);
                self.listing_failures = 0;
                self.unlisted = None;
                self.listing_due = Instant::now() + self.discover;
                self.compare();
                Ok(())
            }
            Err(error) => {
                self.listing_failures = self.listing_failures.saturating_add(1);
                self.listing_due = Instant::now() + failures::backoff(self.listing_failures);
                let failure = failures::of_call(error);
                self.unlisted = Some((failure.kind, failure.message.clone()));
                if self.reading.values().any(|reading| reading.failures == 0) {
                    // What is known already is read on.
                    self.trouble(failure.to_string());
                    return Ok(());
                }
                Err(failure)
            }
        }
    }

    /// Keeps the leases alive, if it is time, and reads what we hold.
    async fn keep_leases(&mut self) -> Result<(), Failure> {
        let Some(leases) = &mut self.leases else { return Ok(()) };
        if Instant::now() < leases.due() {
            return Ok(());
        }
        let kept = leases.keep(&self.listing).await;
        // Before anything else: what was lost, also if it is ours again since
        // and others read on meanwhile, is not read on from where we were.
        self.reading.retain(|shard, reading| leases.is_at(shard, &reading.position));
        kept.map_err(lease_failure)?;
        let held = leases.held();
        for shard in held {
            if self.reading.contains_key(&shard) {
                continue;
            }
            let Some(position) = leases.position(&shard) else {
                error!(%shard, "the lease's checkpoint cannot be read; the shard is not read");
                continue;
            };
            info!(%shard, from = ?position, "reading a shard");
            self.reading.insert(shard, Reading::new(position));
        }
        Ok(())
    }

    /// Tells the others of shards that are read to their end; their last page
    /// is stored.
    async fn finish_ended(&mut self) -> Result<(), Failure> {
        let Some(leases) = &mut self.leases else { return Ok(()) };
        // One that others read on meanwhile is not ours to finish.
        self.reading.retain(|shard, reading| !reading.ended || leases.is_at(shard, &reading.position));
        let ended: Vec<ShardId> = self
            .reading
            .iter()
            .filter(|(_, reading)| reading.ended)
            .map(|(shard, _)| ShardId::clone(shard))
            .collect();
        for shard in ended {
            // With the children in the listing, so that the lease names them.
            if self.listing.children(&shard).is_empty() {
                self.listing = Listing::new(self.stream.shards().await.map_err(failures::of_call)?);
            }
            leases.finish(&shard, &self.listing).await.map_err(failures::of_call)?;
            self.reading.remove(&shard);
        }
        Ok(())
    }

    /// Starts the reads that are due, the longest waiting first.
    fn start_jobs(&mut self) {
        let now = Instant::now();
        let mut due: Vec<(Instant, ShardId)> = self
            .reading
            .iter()
            .filter(|(shard, reading)| reading.due <= now && self.may_start(shard, reading))
            .map(|(shard, reading)| (reading.due, ShardId::clone(shard)))
            .collect();
        due.sort();
        for (_, shard) in due {
            if self.jobs.len() >= self.shards_at_once {
                return;
            }
            let Some(reading) = self.reading.get_mut(&shard) else { continue };
            self.reads += 1;
            let number = self.reads;
            let closed = self.listing.get(&shard).is_some_and(|listed| listed.closed);
            reading.job = Some((number, closed));
            let job = Job {
                stream: Arc::clone(&self.stream),
                shard: ShardId::clone(&shard),
                position: reading.position.clone(),
                iterator: reading.iterator.clone(),
                unsure: reading.unsure,
                until: None,
            };
            self.jobs.spawn(async move { Done { shard, job: number, result: job.run().await } });
        }
    }

    /// Whether nothing but the time stands against a read.
    fn may_start(&self, shard: &ShardId, reading: &Reading) -> bool {
        reading.job.is_none() && !reading.ended && !self.waits(shard)
    }

    /// A child begins when its parents are read to their end.
    fn waits(&self, shard: &ShardId) -> bool {
        match &self.leases {
            Some(leases) => leases.waits(shard, &self.listing),
            None => self
                .listing
                .parents(shard)
                .any(|parent| self.progress.shards.get(parent) != Some(&Position::Finished)),
        }
    }

    /// When there is something to do, if no read ends before.
    fn wake(&self, until: Instant) -> Instant {
        let mut wake = until.min(self.listing_due);
        if let Some(leases) = &self.leases {
            wake = wake.min(leases.due());
        }
        if self.jobs.len() < self.shards_at_once {
            let due = self.reading.iter().filter(|(shard, reading)| self.may_start(shard, reading));
            wake = due.map(|(_, reading)| reading.due).fold(wake, Instant::min);
        }
        wake
    }

    /// What a read brought: records to hand out, if any.
    async fn take(&mut self, done: Done) -> Result<Option<Records>, Failure> {
        let Done { shard, job, result } = done;
        let Some(reading) = self.reading.get_mut(&shard) else { return Ok(None) };
        let closed = match reading.job {
            Some((number, closed)) if number == job => closed,
            // The shard was lost meanwhile, and perhaps taken again.
            _ => return Ok(None),
        };
        reading.job = None;
        let read = match result {
            Ok(read) => read,
            Err(error) => return self.put_off(&shard, error),
        };
        if read.gap {
            let position = reading.position.clone();
            self.trouble(format!(
                "the record that {shard} was read up to is no longer in the stream ({position:?}): if the source stood still for longer than the stream keeps records, those in between are lost"
            ));
        }
        self.settle(&shard, read, closed).await
    }

    async fn settle(
        &mut self,
        shard: &ShardId,
        read: Read,
        closed: bool,
    ) -> Result<Option<Records>, Failure> {
        let at_tip = read.empty && read.behind.is_none_or(|behind| behind.is_zero());
        // Some servers give an iterator at the end of a closed shard for ever.
        let ended = read.iterator.is_none() || (closed && at_tip);
        if !read.records.is_empty()
            && let Some(leases) = &mut self.leases
            && let Some(to) = read.position.sequence()
        {
            let records = read.records.len() as u64;
            let Some(from) = self.reading.get(shard).map(|reading| reading.position.clone()) else {
                return Ok(None);
            };
            match leases.claim(shard, &from, to, read.last_part, records).await {
                Ok(true) => {}
                Ok(false) => {
                    self.reading.remove(shard);
                    return Ok(None);
                }
                Err(error) => {
                    self.broken = true;
                    return Err(failures::of_call(error));
                }
            }
        }
        let Some(reading) = self.reading.get_mut(shard) else { return Ok(None) };
        let more = !read.empty || read.behind.is_some_and(|behind| !behind.is_zero());
        reading.due = Instant::now() + if more { PAUSE_MIN.min(self.idle) } else { self.idle };
        reading.failures = 0;
        reading.missing = false;
        reading.iterator = read.iterator;
        reading.unsure = read.unsure;
        reading.behind = read.behind.or(reading.behind);
        reading.position = read.position.clone();
        reading.ended = ended;
        if !read.records.is_empty() {
            self.progress.shards.insert(ShardId::clone(shard), read.position);
        }
        if ended && self.leases.is_none() {
            info!(%shard, "read the shard to its end");
            self.progress.shards.insert(ShardId::clone(shard), Position::Finished);
            self.listing_due = Instant::now();
        }
        Ok((!read.records.is_empty()).then_some(read.records))
    }

    /// After a read that failed: the shard waits, the others go on. The poll
    /// fails only if there are no others.
    fn put_off(&mut self, shard: &ShardId, error: ReadError) -> Result<Option<Records>, Failure> {
        let Some(reading) = self.reading.get_mut(shard) else { return Ok(None) };
        reading.failures = reading.failures.saturating_add(1);
        let asked = failures::asked(&error).unwrap_or_default().min(ASKED_MAX);
        reading.due = Instant::now() + failures::backoff(reading.failures).max(asked);
        if reading.failures > 1 {
            // The iterator may be what is wrong.
            reading.iterator = None;
        }
        reading.missing = failures::is_missing(&error);
        if reading.missing {
            self.listing_due = Instant::now();
        }
        if failures::is_throttling(&error) && reading.failures < THROTTLED_MAX {
            debug!(%shard, ?error, "throttled");
            return Ok(None);
        }
        let is_at_a_time = matches!(reading.position, Position::At(Start::At(_)));
        let waits_for_its_start = is_at_a_time && failures::is_about_an_argument(&error);
        let mut failure = failures::of_read(shard, error);
        if waits_for_its_start {
            // A time in the future, by Kinesis' clock, becomes the past.
            failure.kind = FailureKind::NotDone;
        }
        if self.others_can_be_read(shard) {
            self.trouble(failure.to_string());
            return Ok(None);
        }
        Err(failure)
    }

    /// Whether there is a shard that is read, or could be, and did not fail.
    fn others_can_be_read(&self, shard: &ShardId) -> bool {
        self.reading.iter().any(|(other, reading)| {
            other != shard && reading.failures == 0 && !reading.ended && !self.waits(other)
        })
    }

    fn trouble(&mut self, said: String) {
        warn!(stream = self.progress.stream, "{said}");
        if self.troubles.len() < TROUBLES_MAX {
            self.troubles.push(said);
        }
    }
}

fn lease_failure(error: LeaseError) -> Failure {
    match error {
        LeaseError::Call(error) => failures::of_call(error),
        LeaseError::NotYet => Failure::new(FailureKind::NotDone, LeaseError::NotYet.to_string()),
        other => failures::refused(other.to_string()),
    }
}
