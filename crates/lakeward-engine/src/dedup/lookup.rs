//! Finding a sorted batch's keys in a file.
//!
//! The filter answers for most keys that the file does not have them. For each
//! of the others the fences name the one block that may have it. Where many
//! blocks are needed, they are read 64 at a time; where few are, one by one.

use std::sync::Arc;

use super::filter::Filter;
use super::run::{BLOCK_KEYS, Blocks, KEY_BYTES, Run, fingerprint, time};
use super::{DedupError, high};

/// How many blocks are read at once when every second one is needed: 256 KiB.
const SCAN_BLOCKS: usize = 64;

/// A file and its filter, if there was room for it.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) run: Arc<Run>,
    pub(super) filter: Option<Arc<Filter>>,
}

/// Finds `wanted`, ascending, in a file. Answers for each time that the file
/// has for one of them its index and the time, ascending by index.
pub(super) fn find(member: &Member, wanted: &[u128]) -> Result<Vec<(u32, i64)>, DedupError> {
    let run = &member.run;
    let candidates: Vec<u32> = match &member.filter {
        Some(filter) => indexes(wanted).filter(|at| filter.may_have(wanted[*at as usize])).collect(),
        None => indexes(wanted).collect(),
    };
    let fences = run.fences();
    let ahead = if candidates.len() >= fences.len() / 2 { SCAN_BLOCKS } else { 1 };
    let mut blocks = Blocks::new(run, ahead);
    let mut found = Vec::new();
    let mut fence = 0;
    for candidate in candidates {
        let key = wanted[candidate as usize];
        fence = first_not_below(fences, fence, high(key));
        // The block before may end with the key; the ones from here on may go
        // on with it as long as they start with its first half.
        let mut number = fence.saturating_sub(1);
        while number < fences.len() && (number < fence || fences[number] == high(key)) {
            let keys = blocks.get(number)?;
            number += 1;
            let mut at = lower_bound(keys, key);
            while at < keys.len() / KEY_BYTES && fingerprint(keys, at) == key {
                found.push((candidate, time(keys, at, run.header().base)));
                at += 1;
            }
        }
    }
    Ok(found)
}

fn indexes(wanted: &[u128]) -> std::ops::Range<u32> {
    0..u32::try_from(wanted.len()).expect("a batch has fewer than 2^32 keys")
}

/// The first fence from `from` on that is not below `high`: in leaps that
/// double, since the next key of a batch is mostly near.
fn first_not_below(fences: &[u64], from: usize, high: u64) -> usize {
    let mut leap = 1;
    let mut start = from;
    while start + leap < fences.len() && fences[start + leap] < high {
        start += leap;
        leap *= 2;
    }
    let end = (start + leap + 1).min(fences.len());
    start + fences[start..end].partition_point(|fence| *fence < high)
}

/// The first key of a block that is not below `key`.
fn lower_bound(keys: &[u8], key: u128) -> usize {
    let (mut low, mut rest) = (0, keys.len() / KEY_BYTES);
    debug_assert!(rest <= BLOCK_KEYS, "a block");
    while rest > 0 {
        let half = rest / 2;
        if fingerprint(keys, low + half) < key {
            low += half + 1;
            rest -= half + 1;
        } else {
            rest = half;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dedup::Entry;
    use crate::dedup::write::RunWriter;

    proptest! {
        #[test]
        fn leaps_find_what_a_search_finds(
            mut fences in prop::collection::vec(0_u64..200, 1..60),
            mut asked in prop::collection::vec(0_u64..210, 1..40),
        ) {
            fences.sort_unstable();
            asked.sort_unstable();
            let mut from = 0;
            for high in asked {
                from = first_not_below(&fences, from, high);
                prop_assert_eq!(from, fences.partition_point(|fence| *fence < high));
            }
        }
    }

    /// Keys that share their first half, or all of it with another time, over
    /// the borders of blocks.
    #[test]
    fn crowded_keys_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = RunWriter::create(dir.path(), "a.run".into(), 0).unwrap();
        let crowd = |n: u64| (u128::from(n / 500) << 64) | u128::from(n % 500 / 3);
        for n in 0..5_000_u64 {
            writer.push(Entry { fingerprint: crowd(n), seconds: (n % 500 % 3) as i64 }).unwrap();
        }
        let run = Arc::new(writer.finish().unwrap().unwrap());
        let wanted: Vec<u128> =
            (0..5_000).step_by(500).flat_map(|n| (n..n + 500).step_by(3)).map(crowd).collect();
        let missing: Vec<u128> = (0..10_u128).map(|n| (n << 64) | 1_000).collect();
        let filter = Some(Arc::new(run.filter().unwrap()));
        for member in [Member { run: Arc::clone(&run), filter: None }, Member { run, filter }] {
            let found = find(&member, &wanted).unwrap();
            assert_eq!(found.len(), 5_000);
            assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
            assert_eq!(find(&member, &missing).unwrap(), []);
            assert_eq!(find(&member, &wanted[7..8]).unwrap(), [(0, 0), (0, 1), (0, 2)]);
        }
    }
}
