//! The dedup keys of a pipeline: which files there are, and how they change.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lakeward_model::{BatchId, ids};
use tracing::warn;

use super::filter;
use super::lookup::Member;
use super::merge::{self, Merge};
use super::run::Run;
use super::session::{Memory, Pending, Session};
use super::write::UNFINISHED;
use super::{DedupError, DedupState, reach};

/// What the filters of a pipeline may take in memory unless it is said
/// otherwise: those of 28 million keys. Files beyond are looked up on the disk,
/// the oldest ones.
pub const FILTER_BYTES: u64 = 40 << 20;

/// A merge that failed is not tried again with the very next commits: what was
/// in its way may still be.
const COMMITS_AFTER_FAILURE: u32 = 64;

/// The keys that a pipeline delivered. Everything about it may be called from
/// any thread, and blocks. There is one at a time for a folder.
///
/// Memory: the filters, up to their limit; 0.04 bytes a key for fences; up to
/// 5 MiB while a merge runs; about 40 bytes for each key of a batch that is
/// looked up.
#[derive(Debug)]
pub struct KeyStore {
    dir: PathBuf,
    filter_bytes: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: DedupState,
    /// The files of `state.runs`, in its order.
    members: Vec<Member>,
    merge: Option<Merge>,
    /// How many commits no merge is begun for, after one that failed.
    rest: u32,
}

/// What follows once a batch is committed.
#[derive(Debug)]
pub struct Next {
    state: DedupState,
    members: Vec<Member>,
    reach: i64,
}

impl Next {
    /// What the ledger must keep, in the transaction that commits the batch.
    #[must_use]
    pub fn state(&self) -> &DedupState {
        &self.state
    }
}

impl KeyStore {
    /// Opens the keys in `dir`, which is created if need be, as the ledger
    /// knows them, and removes files that it does not know: those of batches
    /// and merges that were not committed.
    ///
    /// `filter_bytes` is usually [`FILTER_BYTES`].
    ///
    /// # Errors
    /// See [`DedupError`]. The pipeline cannot start.
    pub fn open(dir: &Path, state: &DedupState, filter_bytes: u64) -> Result<Self, DedupError> {
        create(dir).map_err(DedupError::io(dir))?;
        let open = |known: &super::RunRef| {
            let run = Run::open(dir, &known.file).map_err(|error| match error {
                DedupError::Io { path, source } if source.kind() == std::io::ErrorKind::NotFound => {
                    DedupError::Missing { path, keys: known.keys }
                }
                other => other,
            })?;
            if run.reference() != *known {
                let what = "it is not the file that the ledger knows".to_string();
                return Err(DedupError::Damaged { path: dir.join(&known.file), what });
            }
            Ok(Member { run: Arc::new(run), filter: None })
        };
        let mut members = state.runs.iter().map(open).collect::<Result<Vec<_>, DedupError>>()?;
        load_filters(&mut members, filter_bytes)?;
        remove_others(dir, state).map_err(DedupError::io(dir))?;
        let inner = Mutex::new(Inner { state: state.clone(), members, merge: None, rest: 0 });
        Ok(Self { dir: dir.to_path_buf(), filter_bytes, inner })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is committed.
    #[must_use]
    pub fn state(&self) -> DedupState {
        self.inner().state.clone()
    }

    /// Begins to build a batch, with its plan's `window`. `in_flight` is the
    /// batch before it, if that is built and not committed.
    #[must_use]
    pub fn session(&self, batch: BatchId, window: Duration, in_flight: Option<&Pending>) -> Session {
        let inner = self.inner();
        let mut memory = Memory {
            members: inner.members.clone(),
            watermark: inner.state.watermark,
            horizon: inner.state.horizon,
        };
        drop(inner);
        if let Some(pending) = in_flight {
            // If it was committed in the meantime, this says the same twice.
            memory.members.extend(pending.member.clone());
            memory.watermark = memory.watermark.max(pending.watermark);
            memory.horizon = memory.horizon.max(pending.horizon);
        }
        let greatest = AtomicI64::new(i64::MIN);
        Session { dir: self.dir.clone(), batch, reach: reach(window), memory, greatest }
    }

    /// What the ledger must commit together with the batch: its keys are in,
    /// files that the window has left behind are out, and so are those that
    /// were merged meanwhile.
    ///
    /// If the commit fails, open the store anew.
    #[must_use]
    pub fn next(&self, pending: &Pending) -> Next {
        let mut inner = self.inner();
        let mut members = inner.members.clone();
        if let Some(merge) = inner.merge.take_if(|merge| merge.is_finished()) {
            let inputs = merge.inputs.clone();
            match merge.join() {
                Ok(merged) => {
                    members.retain(|member| !inputs.iter().any(|input| input == member.run.name()));
                    members.extend(merged.map(|run| Member { run: Arc::new(run), filter: None }));
                }
                // The keys are all there; a later commit tries again.
                Err(error) => {
                    warn!(%error, "dedup keys could not be merged");
                    inner.rest = COMMITS_AFTER_FAILURE;
                }
            }
        }
        let (seed, complete) = (inner.state.seed, inner.state.complete.clone());
        drop(inner);
        members.extend(pending.member.clone());
        let horizon = pending.horizon.unwrap_or(i64::MIN);
        members.retain(|member| member.run.header().max >= horizon);
        let state = DedupState {
            seed,
            watermark: pending.watermark,
            horizon: pending.horizon,
            runs: members.iter().map(|member| member.run.reference()).collect(),
            complete,
        };
        Next { state, members, reach: pending.reach }
    }

    /// Takes over what the ledger has committed: files that it no longer names
    /// are removed, and small ones begin to be merged.
    ///
    /// # Errors
    /// See [`DedupError`]; what was committed stays so. The pipeline stops.
    pub fn committed(&self, next: Next) -> Result<(), DedupError> {
        let mut inner = self.inner();
        let kept: HashSet<&str> = next.members.iter().map(|member| member.run.name()).collect();
        for member in inner.members.iter().filter(|member| !kept.contains(member.run.name())) {
            let path = self.dir.join(member.run.name());
            if let Err(error) = std::fs::remove_file(&path) {
                // It costs disk, not correctness: the next open removes it.
                warn!(path = %path.display(), %error, "a file of old dedup keys stays");
            }
        }
        (inner.state, inner.members) = (next.state, next.members);
        load_filters(&mut inner.members, self.filter_bytes)?;
        if inner.rest > 0 {
            inner.rest -= 1;
        } else if inner.merge.is_none() {
            inner.merge = self.begin_merge(&inner, next.reach);
        }
        Ok(())
    }

    fn begin_merge(&self, inner: &Inner, reach: i64) -> Option<Merge> {
        let files = merge::choose(&inner.state.runs, reach)?;
        let chosen = |member: &&Member| files.iter().any(|file| file == member.run.name());
        let inputs = inner.members.iter().filter(chosen).map(|member| Arc::clone(&member.run)).collect();
        let name = format!("merged-{}.run", ids::fresh());
        let horizon = inner.state.horizon.unwrap_or(i64::MIN);
        Merge::start(&self.dir, name, inputs, horizon)
            .inspect_err(|error| warn!(%error, "dedup keys could not be merged"))
            .ok()
    }

    /// Whether a merge is under way; the next commit after its end takes it in.
    #[must_use]
    pub fn is_merging(&self) -> bool {
        self.inner().merge.as_ref().is_some_and(|merge| !merge.is_finished())
    }
}

impl Drop for KeyStore {
    /// Ends the merge, so that nothing writes into the folder when it is opened
    /// again.
    fn drop(&mut self) {
        if let Some(merge) = self.inner().merge.take() {
            merge.stop();
        }
    }
}

/// Creates the folder, with its name durable.
fn create(dir: &Path) -> std::io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(dir)?;
    for created in dir.ancestors().skip(1).take(2).filter(|dir| dir.is_dir()) {
        std::fs::File::open(created)?.sync_all()?;
    }
    Ok(())
}

/// Gives the newest files their filters, as many as there is room for.
fn load_filters(members: &mut [Member], room: u64) -> Result<(), DedupError> {
    let mut by_age: Vec<&mut Member> = members.iter_mut().collect();
    by_age.sort_by_key(|member| std::cmp::Reverse(member.run.header().max));
    let mut room = Some(room);
    for member in by_age {
        room = room.and_then(|room| room.checked_sub(filter::bytes(member.run.header().keys)));
        if room.is_none() {
            member.filter = None;
        } else if member.filter.is_none() {
            member.filter = Some(Arc::new(member.run.filter()?));
        }
    }
    Ok(())
}

/// Removes the files of keys that the ledger does not name.
fn remove_others(dir: &Path, state: &DedupState) -> std::io::Result<()> {
    let known: HashSet<&str> = state.runs.iter().map(|run| run.file.as_str()).collect();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let ours = name.to_str().is_some_and(|name| {
            let run = name.strip_suffix(UNFINISHED).unwrap_or(name).ends_with(".run");
            run && !known.contains(name)
        });
        if ours {
            match std::fs::remove_file(dir.join(&name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}
