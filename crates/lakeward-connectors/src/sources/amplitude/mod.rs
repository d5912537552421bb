//! Amplitude's Export API as a source: every hour of upload once.
//!
//! - A slice is an hour of `server_upload_time` in UTC, `2026-03-01T05`. Which
//!   there are is computed, not asked. It is asked for only once Amplitude has
//!   all of it, so 404 means that it is empty.
//! - A request is for a closed window of hours that follow one another
//!   ([`fetch`]). Its archive is fetched to the disk, checked to its last byte
//!   and made durable before a record of it leaves ([`spool`], [`check`]), so
//!   what was half read when the process died is read on exactly where it was.
//! - Too large or too slow: half of it is asked for, and that is remembered
//!   ([`learned`]).
//! - If an archive is lost and its half-read hour has other members when it is
//!   fetched again, the hour starts anew and says so; dedup on `uuid` drops what
//!   comes twice.

mod check;
mod config;
mod export;
mod failures;
mod fetch;
mod hours;
mod learned;
mod members;
mod place;
mod reader;
mod spool;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lakeward_model::clock::{Clock as _, SharedClock, SystemClock};
use lakeward_model::{
    Chunk, Failure, FailureKind, Slice, SliceFailure, SliceId, SlicePage, SliceReader, SlicedSource, Wanted,
};
use tokio::task;
use xxhash_rust::xxh3::xxh3_64;

pub use config::{AmplitudeConfig, AmplitudeConfigError, AmplitudeRegion};
use export::{Answer, Export};
use fetch::Fetcher;
use hours::{EARLIEST, Hour, Window};
use place::Resume;
use reader::{HourReader, Job};
use spool::{Found, Spool};

/// Hours of a page of the list.
const PAGE: usize = 1_000;
/// How often an hour lets the one before it go first; there are up to four.
const TURNS: usize = 16;

/// A project of Amplitude that is pulled.
#[derive(Debug)]
pub struct AmplitudeSource {
    first: Hour,
    delay: Duration,
    window: usize,
    fetcher: Fetcher,
    spool: Arc<Spool>,
    clock: SharedClock,
}

impl AmplitudeSource {
    /// Asks nobody yet. `spool` is the folder for archives if the configuration
    /// names none; it is made if it is not there, and belongs to this source
    /// alone.
    ///
    /// # Errors
    /// The configuration cannot be used; nothing but a change of it helps.
    pub fn open(config: &AmplitudeConfig, spool: &Path) -> Result<Self, AmplitudeConfigError> {
        Self::open_at(config, spool, Arc::new(SystemClock))
    }

    /// The same with a clock of one's own, for tests and simulations.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_at(
        config: &AmplitudeConfig,
        spool: &Path,
        clock: SharedClock,
    ) -> Result<Self, AmplitudeConfigError> {
        config.check()?;
        let folder = config.spool.as_deref().unwrap_or(spool);
        // Archives of another project or service are of no use here.
        let whose = format!("{}\n{}", config.url()?, config.api_key.expose());
        let project = format!("{:016x}", xxh3_64(whose.as_bytes()));
        let spool = Spool::open(folder, project, clock.now()).map_err(|error| AmplitudeConfigError {
            setting: "spool",
            problem: format!("the folder {} cannot be used: {error}", folder.display()),
        })?;
        let spool = Arc::new(spool);
        let fetcher =
            Fetcher::new(Export::open(config)?, Arc::clone(&spool), config.window, Arc::clone(&clock));
        Ok(Self { first: config.first()?, delay: config.delay, window: config.window, fetcher, spool, clock })
    }

    /// Asks for the newest hour that there should be; what was found, for a
    /// person. Nothing is kept of it, and the spool folder is left alone.
    ///
    /// # Errors
    /// The configuration cannot be used, Amplitude cannot be reached or refuses;
    /// the message says why.
    pub async fn probe(config: &AmplitudeConfig) -> Result<String, Failure> {
        let refused = |error: AmplitudeConfigError| Failure::new(FailureKind::Refused, error.to_string());
        config.check().map_err(refused)?;
        let now = SystemClock.now();
        let mut hour = Hour::of(now);
        while hour.ready_at(config.delay) > now && hour > EARLIEST {
            hour = hour.before();
        }
        let export = Export::open(config).map_err(refused)?;
        match export.ask(Window { first: hour, hours: 1 }, now).await {
            Ok(Answer::Archive(_)) => Ok(format!("the keys are good, and hour {hour} has events")),
            Ok(Answer::Empty) => Ok(format!("the keys are good, and hour {hour} has no events")),
            Err(miss) => Err(miss.failure()),
        }
    }

    fn is_ready(&self, hour: Hour) -> bool {
        hour.ready_at(self.delay) <= self.clock.now()
    }

    fn slice(&self, hour: Hour) -> Slice {
        Slice {
            name: hour.name(),
            version: String::new(),
            date: Some(hour.start()),
            bytes: None,
            ready_at: Some(hour.ready_at(self.delay)),
            captured: Vec::new(),
        }
    }

    /// How many hours from `hour` on are asked for at once: those that are
    /// wanted next, are ready, and are not here or on their way already.
    fn hours_of(
        &self,
        hour: Hour,
        coming: &[Slice],
        known: &dyn Fn(Hour) -> bool,
        asked: &dyn Fn(Hour) -> bool,
    ) -> usize {
        let most = self.fetcher.hours().min(self.window);
        let mut coming = coming.iter().filter_map(|slice| Hour::named(&slice.name)).peekable();
        let mut hours = 1;
        while hours < most {
            let next = hour.plus(hours);
            while coming.peek().is_some_and(|other| *other < next) {
                coming.next();
            }
            let wanted = coming.peek() == Some(&next) || asked(next);
            if !wanted || known(next) || !self.is_ready(next) {
                break;
            }
            hours += 1;
        }
        hours
    }
}

#[async_trait::async_trait]
impl SlicedSource for AmplitudeSource {
    fn dates(&self) -> &'static str {
        "the hour of upload to Amplitude, in UTC"
    }

    fn looks_ahead(&self) -> usize {
        self.window
    }

    async fn list(&self, wanted: &Wanted, after: Option<&str>) -> Result<SlicePage, Failure> {
        // A run may want hours before the first one.
        let mut hour = wanted.from.map_or(self.first, Hour::from).max(EARLIEST);
        if let Some(after) = after.and_then(Hour::named) {
            hour = hour.max(after.plus(1));
        }
        let now = Hour::of(self.clock.now());
        let end = wanted.to.map_or(now.plus(1), |to| Hour::from(to).min(now.plus(1)));
        let hours = hour.until(end);
        let page = (0..hours.min(PAGE)).map(|number| self.slice(hour.plus(number)));
        let slices =
            page.filter(|slice| wanted.means(slice) && after.is_none_or(|after| slice.name.as_str() > after));
        let next = (hours > PAGE).then(|| hour.plus(PAGE - 1).name());
        Ok(SlicePage { slices: slices.collect(), next })
    }

    async fn open(
        &self,
        slice: &Slice,
        id: SliceId,
        resume: Option<&[u8]>,
        coming: &[Slice],
    ) -> Result<Box<dyn SliceReader>, SliceFailure> {
        let Some(hour) = Hour::named(&slice.name) else {
            return Err(SliceFailure::Broken(format!("{:?} is no hour of upload", slice.name)));
        };
        let resume = match resume {
            None => None,
            Some(stored) => Some(Resume::read(stored).ok_or_else(failures::later_release)?),
        };
        let wait = hour.ready_at(self.delay).0.saturating_sub(self.clock.now().0);
        if let Ok(wait @ 1..) = u64::try_from(wait) {
            return Err(failures::not_ready(hour, Duration::from_micros(wait)).into());
        }
        let _opening = self.spool.opening(hour);
        // Those that are opened at the same time say so first, and the first of
        // them asks for all.
        for _ in 0..TURNS {
            task::yield_now().await;
            if !self.spool.is_behind_another(hour) {
                break;
            }
        }
        loop {
            let choose = |known: &dyn Fn(Hour) -> bool, asked: &dyn Fn(Hour) -> bool| {
                self.hours_of(hour, coming, known, asked)
            };
            let found = self.spool.find(hour, resume.is_some(), choose);
            match found.map_err(|error| failures::spool(failures::Stage::Read, &error))? {
                Found::Archive(held) => {
                    return Ok(Box::new(HourReader::start(Job { hour, id, resume, held })));
                }
                Found::Empty if resume.is_some() => {
                    self.spool.of_no_use(hour);
                    return Err(SliceFailure::Broken(failures::vanished(hour)));
                }
                Found::Empty => {
                    self.spool.ended(hour, 0);
                    return Ok(Box::new(Nothing));
                }
                Found::Wait(fetch) => fetch.end().await?,
                Found::Claimed(claim) => self.fetcher.fetch(claim).await?,
            }
        }
    }
}

/// An hour without events.
#[derive(Debug)]
struct Nothing;

#[async_trait::async_trait]
impl SliceReader for Nothing {
    async fn next(&mut self) -> Result<Option<Chunk>, SliceFailure> {
        Ok(None)
    }
}
