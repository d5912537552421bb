//! Windows of hours, from Amplitude to the spool folder.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lakeward_model::clock::SharedClock;
use lakeward_model::{Failure, FailureKind, SliceFailure, Timestamp};
use tokio::{task, time};
use tracing::{info, warn};

use super::check;
use super::export::{Answer, Export};
use super::failures::{self, Miss, Stage};
use super::hours::Window;
use super::learned::Learned;
use super::spool::{Claim, Spool};

/// How often what came damaged or cut is asked for before less is.
const TRIES: u32 = 4;
/// The pause before the second try; twice that before the third.
const PAUSE: Duration = Duration::from_millis(100);

/// Fetches windows for a source.
#[derive(Debug)]
pub(super) struct Fetcher {
    export: Export,
    spool: Arc<Spool>,
    /// The most hours of a request.
    most: usize,
    learned: Mutex<Learned>,
    /// Until when the other side asked us to wait, and why.
    pause: Mutex<Option<(Timestamp, String)>>,
    clock: SharedClock,
}

impl Fetcher {
    pub(super) fn new(export: Export, spool: Arc<Spool>, most: usize, clock: SharedClock) -> Self {
        let learned = Mutex::new(Learned::load(spool.folder(), most));
        Self { export, spool, most, learned, pause: Mutex::default(), clock }
    }

    /// The most hours that a request should be for.
    pub(super) fn hours(&self) -> usize {
        lock(&self.learned).hours()
    }

    /// Fetches what was claimed, or as many of its first hours as can be had.
    pub(super) async fn fetch(&self, claim: Claim) -> Result<(), SliceFailure> {
        let result = self.try_all(claim.window).await;
        if let Err(SliceFailure::Source(failure)) = &result {
            claim.failed(failure);
        }
        result
    }

    async fn try_all(&self, mut window: Window) -> Result<(), SliceFailure> {
        self.waited()?;
        let mut tries = 0;
        loop {
            tries += 1;
            let miss = match self.once(window).await {
                Ok(()) => return Ok(()),
                Err(miss) => miss,
            };
            if let Miss::Failed(failure) | Miss::Slow(failure) = &miss {
                self.note_pause(failure);
            }
            match &miss {
                Miss::Failed(_) => return Err(miss.given_up()),
                Miss::Corrupt(_) | Miss::Cut(_) if tries < TRIES => {
                    warn!(%window, tries, problem = miss.message(), "an archive is fetched again");
                    time::sleep(PAUSE * tries).await;
                    continue;
                }
                _ => {}
            }
            if window.hours == 1 {
                return Err(miss.given_up());
            }
            // What asked for a pause gets it: the rest is asked for later.
            let hours = match miss {
                Miss::Strange(_) => self.shrink_to_one(window),
                _ => self.shrink(window),
            };
            info!(%window, hours, problem = miss.message(), "less is asked for");
            window.hours = hours;
            tries = 0;
            self.waited()?;
        }
    }

    async fn once(&self, window: Window) -> Result<(), Miss> {
        let disk = |error: std::io::Error| Miss::Failed(failures::spool(Stage::Write, &error));
        match self.export.ask(window, self.clock.now()).await? {
            Answer::Empty => self.spool.keep_empty(window, self.clock.now()).map_err(disk)?,
            Answer::Archive(body) => {
                let partial = self.spool.partial();
                let bytes = self.export.save(body, window, partial.path()).await?;
                let (spool, now) = (Arc::clone(&self.spool), self.clock.now());
                let done = task::spawn_blocking(move || {
                    check::check(partial.path(), window)?;
                    spool.keep(window, &partial, now).map_err(disk)
                });
                done.await.map_err(|error| disk(std::io::Error::other(error)))??;
                info!(%window, bytes, "an archive is fetched");
            }
        }
        let mut learned = lock(&self.learned);
        let before = learned.clone();
        learned.worked(window.hours, self.most);
        self.store(&before, &learned);
        Ok(())
    }

    fn shrink(&self, window: Window) -> usize {
        let mut learned = lock(&self.learned);
        let before = learned.clone();
        let hours = learned.shrink(window.hours);
        self.store(&before, &learned);
        hours
    }

    fn shrink_to_one(&self, window: Window) -> usize {
        let mut hours = window.hours;
        while hours > 1 {
            hours = self.shrink(Window { hours, ..window });
        }
        hours
    }

    fn store(&self, before: &Learned, learned: &Learned) {
        if before == learned {
            return;
        }
        if let Err(error) = learned.store(self.spool.folder()) {
            warn!(%error, "the size of a window that works could not be stored");
        }
    }

    fn note_pause(&self, failure: &Failure) {
        let Some(wait) = failure.retry_after else { return };
        let micros = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
        let until = Timestamp(self.clock.now().0.saturating_add(micros));
        *lock(&self.pause) = Some((until, failure.message.clone()));
    }

    /// Nobody is asked while the other side wants us to wait.
    fn waited(&self) -> Result<(), Failure> {
        let mut pause = lock(&self.pause);
        let Some((until, why)) = pause.as_ref() else { return Ok(()) };
        let left = until.0.saturating_sub(self.clock.now().0);
        if let Ok(left @ 1..) = u64::try_from(left) {
            let retry_after = Some(Duration::from_micros(left));
            let failure = Failure::new(FailureKind::NotDone, why.clone());
            return Err(Failure { retry_after, ..failure });
        }
        *pause = None;
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
