use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

#[test]
fn keys_go_where_aws_puts_them() {
    let check = |key: &str, hash: u128, of_four: u32| {
        assert_eq!(hash_of(key), hash, "{key}");
        let shards = Shards::uniform(4, NOW);
        assert_eq!(Routes::new(&shards).of(hash).number, of_four, "{key}");
    };
    // Contract, section 4.3.
    check("user-123", 250_018_372_642_977_770_877_286_195_909_578_633_128, 2);
    check("a", 16_955_237_001_963_240_173_058_271_559_858_726_497, 0);
    let uuid = "3f2504e0-4f89-11d3-9a0c-0305e82c3301";
    assert_eq!(Routes::new(&Shards::uniform(4, NOW)).of(hash_of(uuid)).number, 1);
}

#[test]
fn ranges_are_those_of_aws() {
    let check = |count: u32, expect: &[(u128, u128)]| {
        let shards = Shards::uniform(count, NOW);
        let ranges: Vec<_> = shards.open().map(|entry| (entry.low, entry.high)).collect();
        assert_eq!(ranges, expect, "{count}");
    };
    check(1, &[(0, u128::MAX)]);
    check(2, &[(0, (1 << 127) - 1), (1 << 127, u128::MAX)]);
    check(
        3,
        &[
            (0, 113_427_455_640_312_821_154_458_202_477_256_070_484),
            (
                113_427_455_640_312_821_154_458_202_477_256_070_485,
                226_854_911_280_625_642_308_916_404_954_512_140_969,
            ),
            (226_854_911_280_625_642_308_916_404_954_512_140_970, u128::MAX),
        ],
    );
    let quarter = 1_u128 << 126;
    let quarters =
        [0, 1, 2, 3].map(|i: u128| (i * quarter, (i * quarter).wrapping_add(quarter).wrapping_sub(1)));
    check(4, &quarters);
}

#[test]
fn what_cannot_be_split_or_merged() {
    let mut shards = Shards::uniform(3, NOW);
    let check = |result, expect| assert_eq!(result, Err(expect));
    check(shards.split(7, 5, Offset(1), NOW), ReshardError::NotOpen(7));
    check(shards.split(1, 5, Offset(1), NOW), ReshardError::Outside);
    check(shards.split(0, 0, Offset(1), NOW), ReshardError::Outside);
    check(shards.merge(0, 2, Offset(1), NOW), ReshardError::NotAdjacent);
    check(shards.merge(1, 0, Offset(1), NOW), ReshardError::NotAdjacent);
    check(shards.merge(2, 2, Offset(1), NOW), ReshardError::NotAdjacent);
    shards.split(0, 5, Offset(1), NOW).unwrap();
    check(shards.split(0, 3, Offset(1), NOW), ReshardError::NotOpen(0));
    check(shards.merge(0, 1, Offset(1), NOW), ReshardError::NotOpen(0));
}

/// A change of shards, or records.
#[derive(Debug, Clone)]
enum Step {
    Put(Vec<String>),
    Foreign(u64),
    Split { shard: usize, part: u8 },
    Merge { shard: usize },
    Resize(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        prop::collection::vec("[a-z0-9]{1,6}", 1..20).prop_map(Step::Put),
        (1..5_u64).prop_map(Step::Foreign),
        (any::<usize>(), any::<u8>()).prop_map(|(shard, part)| Step::Split { shard, part }),
        any::<usize>().prop_map(|shard| Step::Merge { shard }),
        (1..9_u32).prop_map(Step::Resize),
    ];
    prop::collection::vec(step, 1..30)
}

/// What the journal would hold: a record's key, if it has one.
type Log = Vec<Option<(Shard, String)>>;

fn run(count: u32, steps: Vec<Step>) -> (Shards, Log) {
    let mut shards = Shards::uniform(count, NOW);
    let mut log = Log::new();
    for (second, step) in steps.into_iter().enumerate() {
        let (end, now) = (Offset(log.len() as u64), Timestamp(NOW.0 + second as i64 / 2 * 1_000_000));
        let mut open: Vec<Entry> = shards.open().cloned().collect();
        open.sort_unstable_by_key(|entry| entry.low);
        match step {
            Step::Put(keys) => {
                let routes = Routes::new(&shards);
                log.extend(keys.into_iter().map(|key| Some((routes.of(hash_of(&key)), key))));
            }
            Step::Foreign(count) => log.extend((0..count).map(|_| None)),
            Step::Split { shard, part } => {
                let entry = &open[shard % open.len()];
                if entry.low == entry.high {
                    // One hash key cannot be divided.
                    continue;
                }
                let at = (entry.low + (entry.high - entry.low) / 256 * u128::from(part)).saturating_add(1);
                // A shard of one hash key cannot be split.
                let expect = if entry.low < entry.high { Ok(()) } else { Err(ReshardError::Outside) };
                assert_eq!(shards.split(entry.number, at, end, now), expect);
            }
            Step::Merge { shard } if open.len() > 1 => {
                let at = shard % (open.len() - 1);
                shards.merge(open[at].number, open[at + 1].number, end, now).unwrap();
            }
            Step::Merge { .. } => {}
            Step::Resize(count) => {
                shards.resize(count, end, now);
                assert_eq!(shards.open_count(), count as usize);
            }
        }
    }
    (shards, log)
}

proptest! {
    /// At every offset the open shards divide all hash keys; every record is in
    /// one shard; and a walk from parents to children meets every record once,
    /// with ascending sequence numbers along every path.
    #[test]
    fn every_record_is_met_once(count in 1..6_u32, steps in steps()) {
        let (shards, log) = run(count, steps);
        for offset in 0..=log.len() as u64 {
            let mut ranges: Vec<_> = shards
                .entries()
                .iter()
                .filter(|entry| entry.is_open_at(Offset(offset)))
                .map(|entry| (entry.low, entry.high))
                .collect();
            ranges.sort_unstable();
            prop_assert_eq!(ranges.first().map(|r| r.0), Some(0));
            prop_assert_eq!(ranges.last().map(|r| r.1), Some(u128::MAX));
            prop_assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0));
        }
        let mut met = BTreeSet::new();
        for entry in shards.entries() {
            for parent in &entry.parents {
                let parent = shards.get(*parent).unwrap();
                let closed = parent.closed.unwrap();
                prop_assert_eq!(closed.end, entry.start, "children follow at once");
                let last = parent.shard().sequence(closed.end).to_string();
                prop_assert!(entry.shard().sequence(entry.start).to_string() > last);
            }
            let end = entry.closed.map_or(log.len() as u64, |closed| closed.end.0);
            for offset in entry.start.0..end {
                let key = log[offset as usize].as_ref();
                let key = key.map(|(shard, key)| ShardKey { shard: *shard, partition_key: key });
                if shards.of_record(Offset(offset), key).map(Entry::shard) == Some(entry.shard()) {
                    if let Some(key) = key {
                        prop_assert_eq!(key.shard, entry.shard(), "puts are answered with the shard that reads find");
                    }
                    prop_assert!(met.insert(offset), "{} was met twice", offset);
                }
            }
        }
        prop_assert_eq!(met.len(), log.len());
        let stored = serde_json::to_value(&shards).unwrap();
        prop_assert_eq!(serde_json::from_value::<Shards>(stored).unwrap(), shards);
    }

    /// Routing at an offset is what routing was when that offset was written.
    #[test]
    fn the_past_can_be_asked(count in 1..6_u32, steps in steps()) {
        let (shards, log) = run(count, steps);
        for (offset, key) in log.iter().enumerate() {
            if let Some((shard, key)) = key {
                let then = shards.at(hash_of(key), Offset(offset as u64)).unwrap();
                prop_assert_eq!(then.shard(), *shard);
            }
        }
    }
}
