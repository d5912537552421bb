//! What became of each slice's records.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use lakeward_model::{Shard, ShardKey};
use proptest::prelude::*;

use super::*;
use crate::build::{BuiltCounts, SliceCounts};
use crate::process::{Reason, Stage};
use crate::shape::{Dedup, DedupKey, Lambda, Processing, Split};

/// A record of a test, by what is in it.
#[derive(Debug, Clone)]
enum Sent {
    /// Documents with these numbers, one behind the other.
    Documents(Vec<u64>),
    /// An aggregate of the Kinesis Producer Library, of one such document each.
    Aggregate(Vec<u64>),
    /// Nothing.
    Blank,
    /// What does not parse.
    Broken,
}

/// The test's function leaves these out.
fn is_dropped(number: u64) -> bool {
    number % 7 == 3
}

/// And fails on these.
fn fails(number: u64) -> bool {
    number % 11 == 4
}

impl Sent {
    fn bytes(&self) -> Vec<u8> {
        let document = |number: &u64| format!("{{\"n\":{number}}}");
        match self {
            Self::Documents(numbers) => numbers.iter().map(document).collect::<String>().into_bytes(),
            Self::Aggregate(numbers) => {
                let mut message = vec![0x0a, 1, b'k'];
                for document in numbers.iter().map(document) {
                    let length = u8::try_from(document.len()).unwrap();
                    message.extend_from_slice(&[0x1a, length + 4, 8, 0, 0x1a, length]);
                    message.extend_from_slice(document.as_bytes());
                }
                let digest = {
                    use md5::Digest as _;
                    md5::Md5::digest(&message)
                };
                [&[0xf3, 0x89, 0x9a, 0xc2][..], &message, &digest].concat()
            }
            Self::Blank => b" \n".to_vec(),
            Self::Broken => b"{\"n\":".to_vec(),
        }
    }

    fn numbers(&self) -> &[u64] {
        match self {
            Self::Documents(numbers) | Self::Aggregate(numbers) => numbers,
            Self::Blank | Self::Broken => &[],
        }
    }
}

fn shape(output: Output, key: DedupKey) -> Shape {
    let split = Some(Split::Json);
    Shape {
        output,
        processing: Processing { split, lambda: Some(Lambda::one_at_a_time()), ..Processing::default() },
        dedup: Some(Dedup { key, window: Duration::from_secs(3600), time: None }),
        ..Shape::default()
    }
}

/// The test's function.
fn function(piece: &[u8]) -> Outcome {
    let document: serde_json::Value = serde_json::from_slice(piece).expect("a document");
    let number = document["n"].as_u64().expect("a number");
    let failed = Reason {
        stage: Stage::Processing,
        code: "Lambda.ProcessingFailedStatus".into(),
        message: "it failed".into(),
        attempts: 1,
    };
    match number {
        number if fails(number) => Outcome::Failed(failed),
        number if is_dropped(number) => Outcome::Dropped,
        _ => Outcome::Ok { data: Bytes::copy_from_slice(piece), keys: Vec::new() },
    }
}

/// What must become of each record, told apart by key or by bytes.
fn expected(sent: &[(Sent, Beside)], by_content: bool) -> Vec<SliceCounts> {
    let mut seen: HashSet<Vec<u8>> = HashSet::new();
    let mut each = Vec::new();
    for (record, _) in sent {
        let mut counts = SliceCounts::default();
        let left: Vec<u64> = record.numbers().iter().copied().filter(|n| !is_dropped(*n)).collect();
        if matches!(record, Sent::Broken) || record.numbers().iter().any(|&n| fails(n)) {
            counts.quarantined = 1;
        } else if left.is_empty() {
            counts.filtered = 1;
        } else {
            counts.rows = if by_content {
                if seen.insert(record.bytes()) { left.len() as u64 } else { 0 }
            } else {
                left.iter().filter(|number| seen.insert(number.to_le_bytes().to_vec())).count() as u64
            };
            let has_rows = counts.rows > 0;
            (counts.delivered, counts.duplicates) = (u64::from(has_rows), u64::from(!has_rows));
        }
        each.push(counts);
    }
    each
}

/// What lies beside a record.
#[derive(Debug, Clone, Copy)]
enum Beside {
    Slice(u128),
    Shard,
    Nothing,
}

impl Beside {
    fn stored(self) -> Option<Vec<u8>> {
        match self {
            Self::Slice(slice) => lineage(slice, "a/b.json.gz", 1, "\"section_id\":145"),
            Self::Shard => {
                let shard = Shard { number: 1, created: 2 };
                Some(ShardKey { shard, partition_key: "k" }.stored().to_vec())
            }
            Self::Nothing => None,
        }
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    let numbers = proptest::collection::vec(0_u64..60, 1..4);
    prop_oneof![
        6 => proptest::collection::vec(0_u64..60, 1..3).prop_map(Sent::Documents),
        1 => numbers.prop_map(Sent::Aggregate),
        1 => Just(Sent::Blank),
        1 => Just(Sent::Broken),
    ]
}

fn beside() -> impl Strategy<Value = Beside> {
    prop_oneof![
        6 => (1_u128..4).prop_map(Beside::Slice),
        1 => Just(Beside::Shard),
        1 => Just(Beside::Nothing),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Slice by slice every record ends in the one way that it must.
    #[test]
    fn slices_add_up(
        given in proptest::collection::vec(
            proptest::collection::vec((sent(), beside()), 1..12), 1..5),
        is_verbatim: bool,
        by_content: bool,
    ) {
        let by_content = by_content || is_verbatim;
        let key = if by_content { DedupKey::Content } else { DedupKey::Columns(vec!["n".into()]) };
        let shape = shape(if is_verbatim { verbatim() } else { ndjson() }, key);
        let blocks: Vec<Vec<Given>> = given
            .iter()
            .map(|block| block.iter().map(|(sent, beside)| (sent.bytes(), beside.stored())).collect())
            .collect();
        let built = built(&shape, &blocks, function);

        let all: Vec<(Sent, Beside)> = given.into_iter().flatten().collect();
        let mut of_slices: BTreeMap<SliceId, SliceCounts> = BTreeMap::new();
        let mut total = SliceCounts::default();
        for ((_, beside), counts) in all.iter().zip(expected(&all, by_content)) {
            total = total.plus(&counts);
            if let Beside::Slice(slice) = beside {
                let of = of_slices.entry(SliceId(*slice)).or_default();
                *of = of.plus(&counts);
            }
        }
        prop_assert_eq!(built.by_slice, of_slices.into_iter().collect::<Vec<_>>());
        let BuiltCounts { delivered, filtered, duplicates, quarantined, rows, .. } = built.counts;
        prop_assert_eq!(SliceCounts { delivered, filtered, duplicates, quarantined, rows }, total);
        prop_assert_eq!(total.records(), all.len() as u64);
    }
}

#[test]
fn without_lineage_nothing_is_counted_by_slice() {
    let record = |key: Option<Vec<u8>>| (b"{\"n\":1}".to_vec(), key);
    let shape = Shape { output: ndjson(), ..Shape::default() };
    let given = [vec![record(None); 3], vec![record(Beside::Shard.stored()); 3]];
    let built = built(&shape, &given, |_| unreachable!("there is no function"));
    assert_eq!((built.by_slice, built.counts.delivered), (Vec::new(), 6));
}
