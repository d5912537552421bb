//! One batch: which of its keys are duplicates, and the file of those that are
//! not.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use lakeward_columnar::dedup::{Key, Seen, SeenError};
use lakeward_model::BatchId;

use super::lookup::{self, Member};
use super::write::RunWriter;
use super::{DedupError, Entry, high, seconds};

/// What is remembered when a batch is built: all keys in `members` that are not
/// before `horizon`.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    pub(super) members: Vec<Member>,
    pub(super) watermark: Option<i64>,
    pub(super) horizon: Option<i64>,
}

/// A batch that is being built. It sees what was delivered when it began,
/// whatever is committed or merged meanwhile, so it needs no lock and may live
/// on any thread.
#[derive(Debug)]
pub struct Session {
    pub(super) dir: PathBuf,
    pub(super) batch: BatchId,
    /// The most seconds between a key and its duplicate.
    pub(super) reach: i64,
    pub(super) memory: Memory,
    /// The greatest time that was asked about.
    pub(super) greatest: AtomicI64,
}

/// A built batch whose keys are durable, but not committed.
#[derive(Debug, Clone)]
pub struct Pending {
    pub(super) member: Option<Member>,
    pub(super) reach: i64,
    pub(super) watermark: Option<i64>,
    pub(super) horizon: Option<i64>,
}

impl Session {
    /// The first second that the batch's window still reaches. Part of the
    /// answer, so that it never depends on when a file was merged or dropped.
    fn horizon(&self) -> i64 {
        horizon(self.memory.horizon, self.memory.watermark, self.reach).unwrap_or(i64::MIN)
    }

    /// Makes the keys of the batch durable: `fresh` are those of the rows that
    /// it delivers. Keys that its window forgets at once, because their time is
    /// too long ago, are not kept.
    ///
    /// The same keys give the same file, so that a rebuilt batch writes over
    /// the one of its first build.
    ///
    /// # Errors
    /// See [`DedupError`]; the batch must not be delivered.
    pub fn write(&self, fresh: &[Key]) -> Result<Pending, DedupError> {
        let asked = self.greatest.load(Ordering::Relaxed);
        let asked = (asked > i64::MIN).then_some(asked);
        let newest = fresh.iter().map(|key| seconds(key.at)).max();
        let watermark = self.memory.watermark.max(asked).max(newest);
        let horizon = horizon(self.memory.horizon, watermark, self.reach);
        let kept = |entry: &Entry| horizon.is_none_or(|horizon| entry.seconds >= horizon);
        let entry = |key: &Key| Entry { fingerprint: key.fingerprint, seconds: seconds(key.at) };
        let mut entries: Vec<Entry> = fresh.iter().map(entry).filter(kept).collect();
        entries.sort_unstable();
        let mut pending = Pending { member: None, reach: self.reach, watermark, horizon };
        if let Some(base) = entries.iter().map(|entry| entry.seconds).min() {
            let mut writer = RunWriter::create(&self.dir, format!("{}.run", self.batch), base)?;
            for entry in entries {
                writer.push(entry)?;
            }
            if let Some(run) = writer.finish()? {
                let filter = Some(Arc::new(run.filter()?));
                pending.member = Some(Member { run: Arc::new(run), filter });
            }
        }
        Ok(pending)
    }
}

/// Where memory begins when `watermark` is the greatest time.
fn horizon(before: Option<i64>, watermark: Option<i64>, reach: i64) -> Option<i64> {
    before.max(watermark.map(|watermark| watermark.saturating_sub(reach)))
}

impl Seen for Session {
    /// Ask once for a batch: what an earlier call was asked is not remembered.
    fn duplicates(&self, keys: &[Key]) -> Result<Vec<bool>, SeenError> {
        let mut duplicate = vec![false; keys.len()];
        let (Some(oldest), Some(newest)) = (keys.iter().map(|k| k.at).min(), keys.iter().map(|k| k.at).max())
        else {
            return Ok(duplicate);
        };
        let (oldest, newest) = (seconds(oldest), seconds(newest));
        self.greatest.fetch_max(newest, Ordering::Relaxed);
        let horizon = self.horizon().max(oldest.saturating_sub(self.reach));
        let order = order(keys);
        let wanted = distinct(keys, &order);
        let mut known: Vec<(u32, i64)> = Vec::new();
        for member in &self.memory.members {
            let header = member.run.header();
            if header.max >= horizon && header.min <= newest.saturating_add(self.reach) {
                let found = lookup::find(member, &wanted)?;
                known.extend(found.into_iter().filter(|(_, seconds)| *seconds >= horizon));
            }
        }
        known.sort_unstable();
        self.decide(keys, &order, &known, &mut duplicate);
        Ok(duplicate)
    }
}

impl Session {
    /// Goes through the keys in `order`; `known` has the times of those that
    /// were delivered, by their number among the distinct ones.
    fn decide(&self, keys: &[Key], order: &[(u64, u32)], known: &[(u32, i64)], duplicate: &mut [bool]) {
        let same = |a: &(u64, u32), b: &(u64, u32)| fingerprint(keys, a) == fingerprint(keys, b);
        let mut known = known.iter().peekable();
        let mut times = Vec::new();
        for (number, group) in order.chunk_by(same).enumerate() {
            times.clear();
            while let Some((_, seconds)) = known.next_if(|(of, _)| *of as usize == number) {
                times.push(*seconds);
            }
            if times.is_empty() && group.len() == 1 {
                continue;
            }
            for (_, at) in group {
                let seconds = seconds(keys[*at as usize].at);
                let near = |time: &i64| seconds.abs_diff(*time) <= self.reach.unsigned_abs();
                duplicate[*at as usize] = times.iter().any(near);
                if !duplicate[*at as usize] {
                    times.push(seconds);
                }
            }
        }
    }
}

fn fingerprint(keys: &[Key], entry: &(u64, u32)) -> u128 {
    keys[entry.1 as usize].fingerprint
}

/// The keys by fingerprint, those with the same one in their order: the first
/// half of the fingerprint, and which key.
fn order(keys: &[Key]) -> Vec<(u64, u32)> {
    let entry = |(key, at): (&Key, u32)| (high(key.fingerprint), at);
    let mut order: Vec<_> = keys.iter().zip(0..=u32::MAX).map(entry).collect();
    assert_eq!(order.len(), keys.len(), "a batch has fewer than 2^32 keys");
    order.sort_unstable_by(|a, b| {
        let rest = || fingerprint(keys, a).cmp(&fingerprint(keys, b)).then(a.1.cmp(&b.1));
        a.0.cmp(&b.0).then_with(rest)
    });
    order
}

fn distinct(keys: &[Key], order: &[(u64, u32)]) -> Vec<u128> {
    let mut wanted: Vec<u128> = order.iter().map(|entry| fingerprint(keys, entry)).collect();
    wanted.dedup();
    wanted
}
