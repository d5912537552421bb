//! Merging small files into a larger one, on a thread of its own.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::run::{Entries, Run};
use super::write::{RunWriter, UNFINISHED};
use super::{DedupError, Entry, RunRef};

/// A merge waits for so many files of about the same size.
const FAN_IN: usize = 8;
/// The most files that are merged at once: each has a buffer of 64 KiB.
const FILES_MAX: usize = 64;
/// Between two looks at whether to stop, in keys.
const LOOK_EVERY: u64 = 1 << 16;

/// Files are about as large if their keys have the same power of 8.
fn level(run: &RunRef) -> u32 {
    run.keys.max(1).ilog2() / 3
}

/// Which files to merge, if any: neighbours in time, at least [`FAN_IN`] of
/// them of one size and none larger.
///
/// Together they span no more than an eighth of the window, so that files are
/// still dropped whole once the window has passed them; or little more than
/// the widest of them does already, since records that come late make every
/// file wide. They have at most four fifths of all keys, so that the old and
/// the new files together stay below twice the keys.
pub(super) fn choose(runs: &[RunRef], reach: i64) -> Option<Vec<String>> {
    let mut by_time: Vec<&RunRef> = runs.iter().collect();
    by_time.sort_unstable_by_key(|run| (run.max, run.min, &run.file));
    let total: u64 = runs.iter().map(|run| run.keys).sum();
    let top = by_time.iter().map(|run| level(run)).max()?;
    for at_level in 0..=top {
        for start in 0..by_time.len() {
            let chosen = from(&by_time[start..], at_level, reach);
            if chosen.iter().filter(|run| level(run) == at_level).count() < FAN_IN {
                continue;
            }
            let mut keys = 0;
            let fits = |run: &&&RunRef| {
                keys += run.keys;
                u128::from(keys) * 5 <= u128::from(total) * 4
            };
            let chosen: Vec<String> = chosen.iter().take_while(fits).map(|run| run.file.clone()).collect();
            if chosen.len() >= FAN_IN / 2 {
                return Some(chosen);
            }
        }
    }
    None
}

/// As many of `runs` from the first one on as may be merged at this level.
fn from<'a>(runs: &'a [&'a RunRef], at_level: u32, reach: i64) -> &'a [&'a RunRef] {
    let (mut min, mut max, mut widest) = (i64::MAX, i64::MIN, 0);
    let may = |run: &&&RunRef| {
        (min, max) = (min.min(run.min), max.max(run.max));
        widest = widest.max(run.max - run.min);
        let span = max - min;
        let limit = (reach / 8).max(widest.saturating_add(widest / 4)).min(i64::from(u32::MAX));
        level(run) <= at_level && span <= limit
    };
    let count = runs.iter().take(FILES_MAX).take_while(may).count();
    &runs[..count]
}

/// A merge that runs, or has ended.
#[derive(Debug)]
pub(super) struct Merge {
    /// The files that it reads.
    pub(super) inputs: Vec<String>,
    thread: JoinHandle<Result<Option<Run>, DedupError>>,
    stop: Arc<AtomicBool>,
}

impl Merge {
    /// Merges `inputs` into the file `name`, without the keys before `horizon`.
    pub(super) fn start(
        dir: &Path,
        name: String,
        inputs: Vec<Arc<Run>>,
        horizon: i64,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let names = inputs.iter().map(|run| run.name().to_string()).collect();
        let (dir, stopped): (PathBuf, _) = (dir.to_path_buf(), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("dedup-merge".into()).spawn(move || {
            let unfinished = dir.join(format!("{name}{UNFINISHED}"));
            merge(&dir, name, &inputs, horizon, &stopped).inspect_err(|_| {
                // The next merge has another name; this file is nobody's.
                let _ = std::fs::remove_file(&unfinished);
            })
        })?;
        Ok(Self { inputs: names, thread, stop })
    }

    pub(super) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end. `None` if no key was left, or it was stopped.
    pub(super) fn join(self) -> Result<Option<Run>, DedupError> {
        self.thread.join().expect("a merge does not panic")
    }

    /// Ends it soon, without a file.
    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Err(error) = self.join() {
            tracing::debug!(%error, "a merge of dedup keys that was stopped had failed");
        }
    }
}

fn merge(
    dir: &Path,
    name: String,
    inputs: &[Arc<Run>],
    horizon: i64,
    stop: &AtomicBool,
) -> Result<Option<Run>, DedupError> {
    let oldest = inputs.iter().map(|run| run.header().min).min().unwrap_or(0);
    let mut writer = RunWriter::create(dir, name, oldest.max(horizon))?;
    let mut readers: Vec<Entries<'_>> = inputs.iter().map(|run| Entries::new(run)).collect();
    let mut heap: BinaryHeap<Reverse<(Entry, usize)>> = BinaryHeap::with_capacity(readers.len());
    for (index, reader) in readers.iter_mut().enumerate() {
        heap.extend(reader.next()?.map(|entry| Reverse((entry, index))));
    }
    let mut read = 0_u64;
    while let Some(mut least) = heap.peek_mut() {
        let Reverse((entry, index)) = *least;
        if entry.seconds >= horizon {
            writer.push(entry)?;
        }
        match readers[index].next()? {
            Some(next) => *least = Reverse((next, index)),
            None => {
                std::collections::binary_heap::PeekMut::pop(least);
            }
        }
        read += 1;
        if read.is_multiple_of(LOOK_EVERY) && stop.load(Ordering::Relaxed) {
            writer.discard();
            return Ok(None);
        }
    }
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(file: usize, keys: u64, min: i64, max: i64) -> RunRef {
        RunRef { file: format!("{file:03}"), keys, min, max, bytes: keys * 20 }
    }

    fn chosen(runs: &[RunRef], reach: i64) -> Option<usize> {
        choose(runs, reach).map(|files| files.len())
    }

    #[test]
    fn small_neighbours_are_chosen() {
        let steady: Vec<RunRef> = (0..20).map(|n| run(n, 1_000, n as i64 * 60, n as i64 * 60 + 59)).collect();
        assert_eq!(chosen(&steady[..7], 604_800), None);
        assert_eq!(chosen(&steady[..8], 604_800), Some(6), "four fifths");
        assert_eq!(chosen(&steady, 604_800), Some(16));
        // Fewer than 8 fit into an eighth of the window.
        assert_eq!(chosen(&steady, 3_600), None);
        assert_eq!(chosen(&steady, 8 * 600), Some(10));
        // A larger one parts them.
        let mut parted = steady[..14].to_vec();
        parted[7].keys = 100_000;
        assert_eq!(chosen(&parted, 604_800), None);
        // Smaller ones go along.
        parted[7].keys = 5;
        assert_eq!(chosen(&parted, 604_800), Some(11));
    }

    #[test]
    fn wide_files_are_merged_too() {
        let wide: Vec<RunRef> =
            (0..10).map(|n| run(n, 1_000, n as i64 * 60, n as i64 * 60 + 600_000)).collect();
        assert_eq!(chosen(&wide, 604_800), Some(8));
    }

    /// However many batches there are, few files remain, and a key is written
    /// few times.
    #[test]
    fn files_stay_few() {
        let window = 604_800;
        let mut runs: Vec<RunRef> = Vec::new();
        let (mut written, mut most) = (0, 0);
        for n in 0..20_000_usize {
            let at = n as i64 * 60;
            runs.push(run(n, 900 + (n as u64 * 7_919) % 300, at, at + 59));
            runs.retain(|run| run.max >= at - window);
            if let Some(files) = choose(&runs, window) {
                let inputs: Vec<RunRef> = runs.extract_if(.., |run| files.contains(&run.file)).collect();
                let keys = inputs.iter().map(|run| run.keys).sum();
                let min = inputs.iter().map(|run| run.min).min().unwrap();
                let max = inputs.iter().map(|run| run.max).max().unwrap();
                assert!(max - min <= window / 8);
                written += keys;
                runs.push(RunRef { file: format!("m{n}"), keys, min, max, bytes: keys * 20 });
            }
            most = most.max(runs.len());
        }
        assert!(most <= 80, "{most} files");
        assert!(written <= 20_000 * 1_050 * 5, "each key was written {} times", written / (20_000 * 1_050));
    }
}
