//! The folder in which archives lie while their hours are read, so that no hour
//! is fetched twice.
//!
//! An archive lies there under the name of its window, `<project>_<first
//! hour>_<last hour>.zip`, only when it is whole and durable; a window without
//! any event is an empty file `….empty`. What is being fetched has a name that
//! no later process uses. Beside an archive, `….ended` has a line for each hour
//! that was read to its end: such an hour is fetched anew if it is wanted from
//! its start once more, so nobody is given what was true some time ago. An
//! archive goes when all its hours were read and so much was read after them
//! that what came of them must be durable, or after two days of this process:
//! what a stream holds half of is read on from the same archive.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lakeward_model::{Failure, FailureKind, Timestamp, ids};
use tokio::sync::watch;
use tracing::warn;

use super::hours::{Hour, Window};

/// An archive that nobody came back for goes after this long.
const AGE_MAX: Duration = Duration::from_secs(2 * 86_400);
/// So many bytes of records, or so many hours, that were handed out behind an
/// archive's say that its own are durable: the engine holds at most 4 MiB and
/// 256 messages, a frame of as many, and what it appends in the second in which
/// it settles the slices that ended.
const BYTES_BEHIND: u64 = 256 << 20;
const HOURS_BEHIND: u64 = 1_024;
/// What is being fetched.
const PARTIAL: &str = "fetching-";

/// The spool of one project.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    /// Which project of which service: archives of another are never used.
    project: String,
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    kept: Vec<Kept>,
    claims: Vec<(Window, watch::Receiver<Outcome>)>,
    /// Hours that are asked for right now, each as often.
    opening: BTreeMap<Hour, usize>,
    /// How often an hour's files were found damaged.
    damaged: BTreeMap<Hour, u32>,
    read: Behind,
}

/// What was read to its end since the process started.
#[derive(Debug, Default, Clone, Copy)]
struct Behind {
    bytes: u64,
    hours: u64,
}

impl Behind {
    /// Whether so much was read since `then` that what was read before that is
    /// durable.
    fn is_past(self, then: Behind) -> bool {
        self.bytes - then.bytes >= BYTES_BEHIND || self.hours - then.hours >= HOURS_BEHIND
    }
}

/// How a fetch ended that others waited for: what it failed with, if so.
type Outcome = Option<Result<(), (FailureKind, String, Option<Duration>)>>;

/// A window that was fetched.
#[derive(Debug)]
struct Kept {
    window: Window,
    empty: bool,
    /// Read to their end.
    ended: BTreeSet<Hour>,
    /// Of no use in here.
    damaged: BTreeSet<Hour>,
    readers: usize,
    fetched_at: Timestamp,
    /// What had been read when its last hour was.
    done_at: Option<Behind>,
}

/// What there is of an hour.
pub(super) enum Found {
    /// It is in this archive.
    Archive(Held),
    /// It has no events, as a fetch said.
    Empty,
    /// Someone else fetches it.
    Wait(Wait),
    /// The caller is to fetch this window.
    Claimed(Claim),
}

impl Spool {
    /// Finds what an earlier process left, and removes what is of no use.
    pub(super) fn open(folder: &Path, project: String, now: Timestamp) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let spool = Self { folder: folder.into(), project, shelf: Mutex::default() };
        let mut kept = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().map(String::from) else { continue };
            if name.strip_prefix(PARTIAL).is_some_and(|rest| rest.starts_with(&spool.project)) {
                fs::remove_file(entry.path())?;
                continue;
            }
            let (stem, kind) = name.rsplit_once('.').unwrap_or((&name, ""));
            let Some((project, window)) = windowed(stem) else { continue };
            let fetched_at = modified(&entry.metadata()?);
            if project != spool.project {
                if is_old(fetched_at, now) {
                    fs::remove_file(entry.path())?;
                }
                continue;
            }
            if matches!(kind, "zip" | "empty") {
                let ended = fs::read_to_string(spool.path(window, "ended")).unwrap_or_default();
                let ended = ended.lines().filter_map(Hour::named).collect();
                let (empty, damaged) = (kind == "empty", BTreeSet::new());
                let mut one = Kept { window, empty, ended, damaged, readers: 0, fetched_at, done_at: None };
                one.done_at = one.is_done().then(Behind::default);
                kept.push(one);
            }
        }
        // The newest is looked at first.
        kept.sort_by_key(|kept| kept.fetched_at);
        // However long nobody ran: what was half read is read on.
        kept.iter_mut().for_each(|kept| kept.fetched_at = now);
        spool.shelf().kept = kept;
        Ok(spool)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where an hour is. `again` says that it was read in part already: then an
    /// archive may be used that it was read from to the end. If it is nowhere
    /// `choose` says how many hours from it on are fetched; it is asked which
    /// of them would be fetched twice.
    pub(super) fn find(
        self: &Arc<Self>,
        hour: Hour,
        again: bool,
        choose: impl FnOnce(&dyn Fn(Hour) -> bool, &dyn Fn(Hour) -> bool) -> usize,
    ) -> io::Result<Found> {
        let mut shelf = self.shelf();
        while let Some(at) = shelf.kept.iter().rposition(|kept| kept.has(hour, again)) {
            let kept = &mut shelf.kept[at];
            if kept.empty {
                return Ok(Found::Empty);
            }
            match File::open(self.path(kept.window, "zip")) {
                Ok(file) => {
                    kept.readers += 1;
                    let window = kept.window;
                    drop(shelf);
                    return Ok(Found::Archive(Held { spool: Arc::clone(self), window, file }));
                }
                // Someone tidied up.
                Err(error) if error.kind() == io::ErrorKind::NotFound => shelf.kept.remove(at),
                Err(error) => return Err(error),
            };
        }
        if let Some((_, outcome)) = shelf.claims.iter().find(|(window, _)| window.has(hour)) {
            return Ok(Found::Wait(Wait(outcome.clone())));
        }
        let known = |hour| {
            shelf.kept.iter().any(|kept| kept.has(hour, false))
                || shelf.claims.iter().any(|(window, _)| window.has(hour))
        };
        let asked = |hour| shelf.opening.contains_key(&hour);
        // An hour whose files were damaged is fetched alone.
        let alone = shelf.damaged.contains_key(&hour);
        let hours = if alone { 1 } else { choose(&known, &asked).max(1) };
        let (outcome, seen) = watch::channel(None);
        let window = Window { first: hour, hours };
        shelf.claims.push((window, seen));
        drop(shelf);
        Ok(Found::Claimed(Claim { spool: Arc::clone(self), window, outcome }))
    }

    /// Says that an hour is asked for, as long as what is returned lives.
    pub(super) fn opening(self: &Arc<Self>, hour: Hour) -> Opening {
        *self.shelf().opening.entry(hour).or_default() += 1;
        Opening { spool: Arc::clone(self), hour }
    }

    /// Whether the hour before this one is about to ask for it, too.
    pub(super) fn is_behind_another(&self, hour: Hour) -> bool {
        let (shelf, before) = (self.shelf(), hour.before());
        let asks = |hour| shelf.claims.iter().any(|(window, _)| window.has(hour));
        let here = |hour| shelf.kept.iter().any(|kept| kept.has(hour, false));
        let waits = shelf.opening.contains_key(&before) && !asks(before) && !here(before);
        waits && !asks(hour) && !here(hour)
    }

    /// A name for what is being fetched; the file goes with it.
    pub(super) fn partial(&self) -> Partial {
        let name = format!("{PARTIAL}{}-{}", self.project, ids::fresh().simple());
        Partial(self.folder.join(name))
    }

    /// Gives a checked, durable file its name. Blocking.
    pub(super) fn keep(&self, window: Window, partial: &Partial, now: Timestamp) -> io::Result<()> {
        self.forget_old(now);
        let _ = fs::remove_file(self.path(window, "ended"));
        fs::rename(&partial.0, self.path(window, "zip"))?;
        File::open(&self.folder)?.sync_all()?;
        self.put(window, false, now);
        Ok(())
    }

    /// Notes that a window has no events. Blocking.
    pub(super) fn keep_empty(&self, window: Window, now: Timestamp) -> io::Result<()> {
        self.forget_old(now);
        let _ = fs::remove_file(self.path(window, "ended"));
        File::create(self.path(window, "empty"))?;
        self.put(window, true, now);
        Ok(())
    }

    fn put(&self, window: Window, empty: bool, now: Timestamp) {
        let (ended, damaged) = (BTreeSet::new(), BTreeSet::new());
        let kept = Kept { window, empty, ended, damaged, readers: 0, fetched_at: now, done_at: None };
        let mut shelf = self.shelf();
        shelf.kept.retain(|other| other.window != window || other.empty != empty);
        shelf.kept.push(kept);
    }

    /// An hour was read to its end, with so many bytes of records; what nobody
    /// needs any more goes. Blocking.
    pub(super) fn ended(&self, hour: Hour, bytes: u64) {
        let mut shelf = self.shelf();
        shelf.damaged.remove(&hour);
        shelf.read.bytes = shelf.read.bytes.saturating_add(bytes);
        shelf.read.hours += 1;
        let read = shelf.read;
        for kept in shelf.kept.iter_mut().filter(|kept| kept.window.has(hour)) {
            if kept.ended.insert(hour) {
                let note = OpenOptions::new().create(true).append(true).open(self.path(kept.window, "ended"));
                // Lost, it would cost a second use of this archive for an hour
                // that is asked for again within two days.
                if let Err(error) = note.and_then(|mut file| writeln!(file, "{hour}")) {
                    warn!(%error, %hour, "it could not be noted that an hour was read");
                }
            }
        }
        for kept in shelf.kept.iter_mut().filter(|kept| kept.window.has(hour) && kept.is_done()) {
            kept.done_at = Some(read);
        }
        self.sweep(&mut shelf, |kept| kept.done_at.is_some_and(|then| read.is_past(then)));
    }

    /// What is here of an hour is nothing that it can be read on from: it is
    /// fetched if it is wanted again.
    pub(super) fn of_no_use(&self, hour: Hour) {
        let mut shelf = self.shelf();
        for kept in shelf.kept.iter_mut().filter(|kept| kept.window.has(hour)) {
            kept.damaged.insert(hour);
        }
        self.sweep(&mut shelf, |kept| kept.window.has(hour) && kept.is_of_no_use());
    }

    /// An hour's files are damaged in the archive of this window; how often
    /// that was so.
    fn damaged(&self, hour: Hour, window: Window) -> u32 {
        let mut shelf = self.shelf();
        for kept in shelf.kept.iter_mut().filter(|kept| kept.window == window) {
            kept.damaged.insert(hour);
        }
        let times = shelf.damaged.entry(hour).or_default();
        *times += 1;
        *times
    }

    /// It was given up; the next attempt starts from nothing.
    pub(super) fn given_up(&self, hour: Hour) {
        self.shelf().damaged.remove(&hour);
    }

    fn forget_old(&self, now: Timestamp) {
        self.sweep(&mut self.shelf(), |kept| is_old(kept.fetched_at, now));
    }

    /// Removes those that nobody reads.
    fn sweep(&self, shelf: &mut Shelf, goes: impl Fn(&Kept) -> bool) {
        shelf.kept.retain(|kept| {
            let goes = kept.readers == 0 && goes(kept);
            if goes {
                for kind in [if kept.empty { "empty" } else { "zip" }, "ended"] {
                    let _ = fs::remove_file(self.path(kept.window, kind));
                }
            }
            !goes
        });
    }

    fn path(&self, window: Window, kind: &str) -> PathBuf {
        self.folder.join(format!("{}_{}_{}.{kind}", self.project, window.first, window.last()))
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Whether an hour can be read from it.
    fn has(&self, hour: Hour, again: bool) -> bool {
        self.window.has(hour) && !self.damaged.contains(&hour) && (again || !self.ended.contains(&hour))
    }

    fn is_done(&self) -> bool {
        let of_use = |hour| !self.ended.contains(&hour) && !self.damaged.contains(&hour);
        !(0..self.window.hours).any(|number| of_use(self.window.first.plus(number)))
    }

    /// Whether it holds nothing that can be read, and nothing that was: then it
    /// need not wait for anything.
    fn is_of_no_use(&self) -> bool {
        self.ended.is_empty() && !self.damaged.is_empty() && self.is_done()
    }
}

/// An archive that is being read.
#[derive(Debug)]
pub(super) struct Held {
    spool: Arc<Spool>,
    pub(super) window: Window,
    pub(super) file: File,
}

impl Held {
    pub(super) fn ended(&self, hour: Hour, bytes: u64) {
        self.spool.ended(hour, bytes);
    }

    pub(super) fn of_no_use(&self, hour: Hour) {
        self.spool.of_no_use(hour);
    }

    pub(super) fn damaged(&self, hour: Hour) -> u32 {
        self.spool.damaged(hour, self.window)
    }

    pub(super) fn given_up(&self, hour: Hour) {
        self.spool.given_up(hour);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut shelf = self.spool.shelf();
        let mine = shelf.kept.iter_mut().find(|kept| kept.window == self.window && !kept.empty);
        if let Some(kept) = mine {
            kept.readers = kept.readers.saturating_sub(1);
        }
        self.spool.sweep(&mut shelf, |kept| kept.window == self.window && kept.is_of_no_use());
    }
}

/// The right to fetch a window; others wait for it.
#[derive(Debug)]
pub(super) struct Claim {
    spool: Arc<Spool>,
    pub(super) window: Window,
    outcome: watch::Sender<Outcome>,
}

impl Claim {
    /// Tells those who wait what it failed with.
    pub(super) fn failed(&self, failure: &Failure) {
        let outcome = Err((failure.kind, failure.message.clone(), failure.retry_after));
        self.outcome.send_replace(Some(outcome));
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut shelf = self.spool.shelf();
        shelf.claims.retain(|(window, _)| *window != self.window);
        drop(shelf);
        self.outcome.send_if_modified(|outcome| outcome.is_none() && outcome.replace(Ok(())).is_none());
    }
}

/// A fetch of someone else.
pub(super) struct Wait(watch::Receiver<Outcome>);

impl Wait {
    /// Waits for its end. What it failed with would meet the caller too.
    pub(super) async fn end(mut self) -> Result<(), Failure> {
        let Ok(outcome) = self.0.wait_for(Option::is_some).await else { return Ok(()) };
        match &*outcome {
            Some(Err((kind, message, retry_after))) => {
                Err(Failure { retry_after: *retry_after, ..Failure::new(*kind, message.clone()) })
            }
            _ => Ok(()),
        }
    }
}

/// An hour that is asked for.
#[derive(Debug)]
pub(super) struct Opening {
    spool: Arc<Spool>,
    hour: Hour,
}

impl Drop for Opening {
    fn drop(&mut self) {
        let mut shelf = self.spool.shelf();
        if let Some(times) = shelf.opening.get_mut(&self.hour) {
            *times -= 1;
            if *times == 0 {
                shelf.opening.remove(&self.hour);
            }
        }
    }
}

/// A file that is being written; it goes unless it was renamed.
#[derive(Debug)]
pub(super) struct Partial(PathBuf);

impl Partial {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// What a file's name says: `<project>_<first hour>_<last hour>`.
fn windowed(stem: &str) -> Option<(&str, Window)> {
    let (rest, last) = stem.rsplit_once('_')?;
    let (project, first) = rest.rsplit_once('_')?;
    let (first, last) = (Hour::named(first)?, Hour::named(last)?);
    (first <= last).then(|| (project, Window { first, hours: first.until(last) + 1 }))
}

fn is_old(fetched_at: Timestamp, now: Timestamp) -> bool {
    let age = i64::try_from(AGE_MAX.as_micros()).unwrap_or(i64::MAX);
    fetched_at.0 < now.0.saturating_sub(age)
}

fn modified(of: &fs::Metadata) -> Timestamp {
    let since = of.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    Timestamp(since.and_then(|since| i64::try_from(since.as_micros()).ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_stays_until_what_came_of_it_is_durable() {
        let folder = tempfile::tempdir().expect("a folder");
        let now = Timestamp(1_772_341_200_000_000);
        let open = |now| Arc::new(Spool::open(folder.path(), "p".into(), now).expect("it opens"));
        let first = Hour::named("2026-03-01T00").expect("an hour");
        let spool = open(now);
        for number in 0..4 {
            let partial = spool.partial();
            fs::write(partial.path(), "zip").expect("it writes");
            spool.keep(Window { first: first.plus(number), hours: 1 }, &partial, now).expect("it is kept");
        }
        let there = |spool: &Arc<Spool>, number: usize| {
            let found = spool.find(first.plus(number), true, |_, _| 1).expect("it looks");
            matches!(found, Found::Archive(_))
        };
        spool.ended(first, 1 << 20);
        // The journal is full: all that was read later may wait with it.
        spool.ended(first.plus(1), 100 << 20);
        assert!(there(&spool, 0));
        spool.ended(first.plus(2), BYTES_BEHIND - (100 << 20));
        assert!(!there(&spool, 0) && there(&spool, 1));
        // Many hours of nothing do as well.
        for _ in 0..HOURS_BEHIND {
            spool.ended(first.plus(100), 0);
        }
        assert!(!there(&spool, 1) && !there(&spool, 2) && there(&spool, 3));
        // Nobody ran for a month.
        let month = Timestamp(now.0.saturating_add(30 * 86_400_000_000));
        let spool = open(month);
        assert!(there(&spool, 3));
    }
}
