//! The limits of a shard, for those who want to meet them before AWS does:
//! 1,000 records and 1 MiB written a second; 2 MiB read in 5 calls a second
//! (contract, section 4.2). Off unless configured.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lakeward_model::Timestamp;

const RECORDS_PER_SECOND: f64 = 1_000.0;
const BYTES_WRITTEN_PER_SECOND: f64 = 1_048_576.0;
const READS_PER_SECOND: f64 = 5.0;
const BYTES_READ_PER_SECOND: f64 = 2_097_152.0;

/// The shards of a stream that were used lately.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<HashMap<u32, Buckets>>);

#[derive(Debug)]
struct Buckets {
    since: Timestamp,
    records: f64,
    written: f64,
    reads: f64,
    read: f64,
}

impl Buckets {
    fn full(since: Timestamp) -> Self {
        Self {
            since,
            records: RECORDS_PER_SECOND,
            written: BYTES_WRITTEN_PER_SECOND,
            reads: READS_PER_SECOND,
            read: BYTES_READ_PER_SECOND,
        }
    }

    /// Each bucket holds one second's worth.
    fn refill(&mut self, now: Timestamp) {
        let seconds = now.since(self.since).as_secs_f64();
        self.since = now;
        let fill = |bucket: &mut f64, rate: f64| *bucket = (*bucket + seconds * rate).min(rate);
        fill(&mut self.records, RECORDS_PER_SECOND);
        fill(&mut self.written, BYTES_WRITTEN_PER_SECOND);
        fill(&mut self.reads, READS_PER_SECOND);
        fill(&mut self.read, BYTES_READ_PER_SECOND);
    }
}

impl Throttle {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Buckets>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a record of so many bytes, with its partition key, may be
    /// written.
    pub(super) fn write(&self, shard: u32, bytes: usize, now: Timestamp) -> bool {
        let mut shards = self.lock();
        let buckets = shards.entry(shard).or_insert_with(|| Buckets::full(now));
        buckets.refill(now);
        // A record larger than a second's worth goes through a full bucket.
        let needed = (bytes as f64).min(BYTES_WRITTEN_PER_SECOND);
        let fits = buckets.records >= 1.0 && buckets.written >= needed;
        if fits {
            buckets.records -= 1.0;
            buckets.written -= bytes as f64;
        }
        fits
    }

    /// Whether a read may begin.
    pub(super) fn read(&self, shard: u32, now: Timestamp) -> bool {
        let mut shards = self.lock();
        let buckets = shards.entry(shard).or_insert_with(|| Buckets::full(now));
        buckets.refill(now);
        let fits = buckets.reads >= 1.0 && buckets.read > 0.0;
        if fits {
            buckets.reads -= 1.0;
        }
        fits
    }

    /// A read gave so many bytes: the next ones wait for it, as at AWS.
    pub(super) fn has_read(&self, shard: u32, bytes: usize) {
        if let Some(buckets) = self.lock().get_mut(&shard) {
            buckets.read -= bytes as f64;
        }
    }

    /// Forgets shards that are gone.
    pub(super) fn keep(&self, is_there: impl Fn(u32) -> bool) {
        self.lock().retain(|shard, _| is_there(*shard));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holds_what_aws_says() {
        let throttle = Throttle::default();
        let at = |seconds: i64| Timestamp(seconds * 1_000_000);
        assert_eq!((0..2_000).filter(|_| throttle.write(0, 10, at(0))).count(), 1_000);
        assert!(throttle.write(1, 10, at(0)), "every shard has its own");
        assert_eq!((0..2_000).filter(|_| throttle.write(0, 2_048, at(1))).count(), 512);
        assert!(throttle.write(2, 10 << 20, at(1)), "a record of ten seconds");
        assert!(!throttle.write(2, 1, at(9)));
        assert!(throttle.write(2, 1, at(12)));
        assert_eq!((0..9).filter(|_| throttle.read(0, at(20))).count(), 5);
        throttle.has_read(0, 10 << 20);
        assert!(!throttle.read(0, at(23)));
        assert!(throttle.read(0, at(25)));
    }
}
