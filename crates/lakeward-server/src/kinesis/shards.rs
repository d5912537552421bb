//! The shards of a stream: which there are and were, which hash keys are whose,
//! and what splitting and merging make of them. Pure.
//!
//! All shards share one journal. A shard is therefore a range of hash keys and
//! a range of offsets, `[start, end)`: at every offset of the journal the
//! shards that are open there divide all hash keys among them. Which shard a
//! record belongs to follows from its offset and its hash key alone.

use lakeward_model::{Offset, Shard, ShardKey, Timestamp};
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

/// Most open shards of a stream: *UpdateShardCount*, "Scale up to more than
/// 10000 shards in a stream".
pub(super) const SHARDS_MAX: u32 = 10_000;

/// A shard, open or closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Its number and the second in its sequence numbers.
    number: u32,
    created: u32,
    /// The first and the last hash key.
    #[serde(with = "decimal")]
    pub(super) low: u128,
    #[serde(with = "decimal")]
    pub(super) high: u128,
    /// The numbers of the shards that it came from: none, one or two.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) parents: Vec<u32>,
    /// Where its records begin.
    pub(super) start: Offset,
    pub(super) opened_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) closed: Option<Closed>,
}

/// When and where a shard was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Closed {
    /// One past its last record.
    pub(super) end: Offset,
    pub(super) at: Timestamp,
}

impl Entry {
    pub(super) fn shard(&self) -> Shard {
        Shard { number: self.number, created: self.created }
    }

    pub(super) fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// Whether it was open when the record at `offset` came.
    fn is_open_at(&self, offset: Offset) -> bool {
        self.start <= offset && self.closed.is_none_or(|closed| offset < closed.end)
    }

    /// Whether it was open at this instant. The first shards of a stream have
    /// always been.
    pub(super) fn was_open(&self, at: Timestamp) -> bool {
        (self.parents.is_empty() || self.opened_at <= at) && self.closed.is_none_or(|closed| at < closed.at)
    }

    /// Whether all its records came before `horizon`.
    pub(super) fn is_expired(&self, horizon: Timestamp) -> bool {
        self.closed.is_some_and(|closed| closed.at < horizon)
    }

    fn covers(&self, hash: u128) -> bool {
        (self.low..=self.high).contains(&hash)
    }
}

/// Why shards were not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReshardError {
    /// There is no open shard of that number.
    NotOpen(u32),
    /// The hash key does not lie inside of the shard.
    Outside,
    /// The shards are not neighbours.
    NotAdjacent,
}

/// All shards of a stream that may still have records, by number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shards {
    entries: Vec<Entry>,
    /// The number of the next shard: numbers are not used again.
    next: u32,
}

impl Shards {
    /// `count` shards of the same size, from offset 0 on.
    pub(super) fn uniform(count: u32, now: Timestamp) -> Self {
        let count = count.clamp(1, SHARDS_MAX);
        let bounds = Bounds(count);
        let entries = (0..count).map(|number| Entry {
            number,
            created: seconds(now),
            low: bounds.low(number),
            high: bounds.high(number),
            parents: Vec::new(),
            start: Offset(0),
            opened_at: now,
            closed: None,
        });
        Self { entries: entries.collect(), next: count }
    }

    /// All of them, by number.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn open(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.is_open())
    }

    pub(super) fn open_count(&self) -> usize {
        self.open().count()
    }

    pub(super) fn get(&self, number: u32) -> Option<&Entry> {
        let at = self.entries.binary_search_by_key(&number, |entry| entry.number).ok()?;
        Some(&self.entries[at])
    }

    pub(super) fn children(&self, number: u32) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.parents.contains(&number))
    }

    /// The shard that was open for a hash key at an offset.
    pub(super) fn at(&self, hash: u128, offset: Offset) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.is_open_at(offset) && entry.covers(hash))
    }

    /// The shard that a record of the journal belongs to: the one that its key
    /// names, if that was open there; for a record that came through another
    /// door, or from another stream, the one that was open for its partition
    /// key. A record without a key has its offset, in decimal, for one.
    pub(super) fn of_record(&self, offset: Offset, key: Option<ShardKey<'_>>) -> Option<&Entry> {
        let named = key.and_then(|key| {
            let entry = self.get(key.shard.number)?;
            (entry.created == key.shard.created && entry.is_open_at(offset)).then_some(entry)
        });
        named.or_else(|| match key {
            Some(key) => self.at(hash_of(key.partition_key), offset),
            None => self.at(hash_of(&offset.to_string()), offset),
        })
    }

    /// Splits an open shard in two; the upper one starts with hash key `at`.
    /// The journal ends at `end`.
    pub(super) fn split(
        &mut self,
        number: u32,
        at: u128,
        end: Offset,
        now: Timestamp,
    ) -> Result<(), ReshardError> {
        let (low, high) = self.open_range(number)?;
        if at <= low || at > high {
            return Err(ReshardError::Outside);
        }
        self.close(&[number], end, now);
        self.push(vec![number], (low, at - 1), end, now);
        self.push(vec![number], (at, high), end, now);
        Ok(())
    }

    /// Merges two open shards, the lower one first.
    pub(super) fn merge(
        &mut self,
        number: u32,
        adjacent: u32,
        end: Offset,
        now: Timestamp,
    ) -> Result<(), ReshardError> {
        let (low, high) = self.open_range(number)?;
        let (next, last) = self.open_range(adjacent)?;
        if high.checked_add(1) != Some(next) {
            return Err(ReshardError::NotAdjacent);
        }
        self.close(&[number, adjacent], end, now);
        self.push(vec![number, adjacent], (low, last), end, now);
        Ok(())
    }

    /// Splits and merges until there are `count` open shards of the same size.
    /// Since a shard has at most two parents, shards that live no time at all
    /// may lie between the old and the new ones, as at AWS.
    pub(super) fn resize(&mut self, count: u32, end: Offset, now: Timestamp) {
        let bounds = Bounds(count.clamp(1, SHARDS_MAX));
        for part in 1..bounds.0 {
            let at = bounds.low(part);
            let inside = self.open().find(|entry| entry.low < at && at <= entry.high);
            if let Some(number) = inside.map(|entry| entry.number) {
                self.split(number, at, end, now).expect("the hash key lies inside of the shard");
            }
        }
        for part in 0..bounds.0 {
            let mut parts: Vec<_> = self
                .open()
                .filter(|entry| bounds.low(part) <= entry.low && entry.high <= bounds.high(part))
                .map(|entry| (entry.low, entry.number))
                .collect();
            parts.sort_unstable();
            let mut rest = parts.into_iter().map(|(_, number)| number);
            let Some(mut merged) = rest.next() else { continue };
            for number in rest {
                self.merge(merged, number, end, now).expect("pieces of one range are neighbours");
                merged = self.next - 1;
            }
        }
    }

    /// When shards changed last.
    pub(super) fn changed_at(&self) -> Timestamp {
        let times = self
            .entries
            .iter()
            .map(|entry| entry.closed.map_or(entry.opened_at, |closed| closed.at.max(entry.opened_at)));
        times.max().unwrap_or(Timestamp(0))
    }

    /// Forgets the shards that were closed before `horizon`.
    pub(super) fn prune(&mut self, horizon: Timestamp) {
        self.entries.retain(|entry| !entry.is_expired(horizon));
    }

    fn open_range(&self, number: u32) -> Result<(u128, u128), ReshardError> {
        let entry = self.get(number).filter(|entry| entry.is_open()).ok_or(ReshardError::NotOpen(number))?;
        Ok((entry.low, entry.high))
    }

    fn close(&mut self, numbers: &[u32], end: Offset, at: Timestamp) {
        for entry in self.entries.iter_mut().filter(|entry| numbers.contains(&entry.number)) {
            entry.closed = Some(Closed { end, at });
        }
    }

    fn push(&mut self, parents: Vec<u32>, (low, high): (u128, u128), start: Offset, now: Timestamp) {
        let newest = parents.iter().filter_map(|parent| self.get(*parent)).map(|parent| parent.created).max();
        // A child's sequence numbers lie above its parents'.
        let created = seconds(now).max(newest.map_or(0, |second| second.saturating_add(1)));
        let number = self.next;
        self.next += 1;
        self.entries.push(Entry { number, created, low, high, parents, start, opened_at: now, closed: None });
    }
}

/// The open shards, for finding the one of a hash key fast.
#[derive(Debug, Clone)]
pub(super) struct Routes(Vec<(u128, Shard)>);

impl Routes {
    pub(super) fn new(shards: &Shards) -> Self {
        let mut highs: Vec<_> = shards.open().map(|entry| (entry.high, entry.shard())).collect();
        highs.sort_unstable();
        Self(highs)
    }

    pub(super) fn of(&self, hash: u128) -> Shard {
        let at = self.0.partition_point(|(high, _)| *high < hash);
        self.0.get(at).expect("the open shards cover all hash keys").1
    }
}

/// Where the shards begin that divide all hash keys into equal parts.
#[derive(Debug, Clone, Copy)]
struct Bounds(u32);

impl Bounds {
    /// The first hash key of part `number`: `number × ⌊2^128 / parts⌋`.
    fn low(self, number: u32) -> u128 {
        let parts = u128::from(self.0);
        // 2^128 itself has no u128.
        let is_exact = parts > 1 && u128::MAX % parts == parts - 1;
        (u128::MAX / parts + u128::from(is_exact)) * u128::from(number)
    }

    fn high(self, number: u32) -> u128 {
        if number + 1 == self.0 { u128::MAX } else { self.low(number + 1) - 1 }
    }
}

/// The hash key of a partition key: MD5, big-endian (contract, section 4.3).
pub(super) fn hash_of(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into())
}

fn seconds(at: Timestamp) -> u32 {
    u32::try_from(at.micros().div_euclid(1_000_000)).unwrap_or(0)
}

/// JSON has no integers of 128 bits.
mod decimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
