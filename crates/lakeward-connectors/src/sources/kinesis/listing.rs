//! Which shards there are, and what comes from what.

use std::collections::{BTreeMap, BTreeSet};

use super::api::ShardReply;
use super::cursor::ShardId;
use super::sequence::Sequence;

/// A shard as Kinesis lists it.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    /// The shards that it was made of by a split or a merge.
    pub(super) parents: Vec<ShardId>,
    /// Every record of the shard has this number or a greater one.
    pub(super) first: Option<Sequence>,
    /// Whether it takes no more records.
    pub(super) closed: bool,
    /// Its part of the hashes: first and last, as decimal numbers.
    pub(super) hashes: (String, String),
}

/// All shards of a stream that have records or may get some.
#[derive(Debug, Clone, Default)]
pub(super) struct Listing(BTreeMap<ShardId, Listed>);

impl Listing {
    pub(super) fn new(shards: Vec<ShardReply>) -> Self {
        let listed = shards.into_iter().map(|shard| {
            let parents = [shard.parent_shard_id, shard.adjacent_parent_shard_id];
            let range = shard.sequence_number_range;
            let listed = Listed {
                parents: parents
                    .into_iter()
                    .flatten()
                    .filter(|id| !id.is_empty())
                    .map(ShardId::from)
                    .collect(),
                first: Sequence::new(&range.starting_sequence_number),
                closed: range.ending_sequence_number.is_some_and(|number| !number.is_empty()),
                hashes: (shard.hash_key_range.starting_hash_key, shard.hash_key_range.ending_hash_key),
            };
            (ShardId::from(shard.shard_id), listed)
        });
        Self(listed.collect())
    }

    pub(super) fn get(&self, shard: &str) -> Option<&Listed> {
        self.0.get(shard)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ShardId, &Listed)> {
        self.0.iter()
    }

    /// The shard's parents that still exist.
    pub(super) fn parents(&self, shard: &str) -> impl Iterator<Item = &ShardId> {
        let parents = self.0.get(shard).map(|listed| listed.parents.as_slice()).unwrap_or_default();
        parents.iter().filter(|parent| self.0.contains_key(*parent))
    }

    /// What the shard was split or merged into.
    pub(super) fn children(&self, shard: &str) -> Vec<ShardId> {
        let of_it = |listed: &Listed| listed.parents.iter().any(|parent| **parent == *shard);
        self.0.iter().filter(|(_, listed)| of_it(listed)).map(|(id, _)| ShardId::clone(id)).collect()
    }

    /// The shards that `known` are made of, directly or not.
    pub(super) fn ancestors<'a>(&self, known: impl IntoIterator<Item = &'a ShardId>) -> BTreeSet<ShardId> {
        let mut found = BTreeSet::new();
        let mut look: Vec<ShardId> = known.into_iter().cloned().collect();
        while let Some(shard) = look.pop() {
            let parents = self.0.get(&shard).map(|listed| listed.parents.clone()).unwrap_or_default();
            look.extend(parents.into_iter().filter(|parent| found.insert(ShardId::clone(parent))));
        }
        found
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Shards by number, each with its parents.
    pub(in super::super) fn listing(shards: &[(u32, &[u32], bool)]) -> Listing {
        let shard = |(number, parents, closed): &(u32, &[u32], bool)| {
            let listed = Listed {
                parents: parents.iter().map(|&parent| id(parent)).collect(),
                first: Sequence::new("100"),
                closed: *closed,
                hashes: ("0".into(), "9".into()),
            };
            (id(*number), listed)
        };
        Listing(shards.iter().map(shard).collect())
    }

    pub(in super::super) fn id(number: u32) -> ShardId {
        format!("shardId-{number:012}").into()
    }

    #[test]
    fn families() {
        let all = listing(&[(1, &[0], true), (2, &[1], true), (3, &[1], false), (4, &[2, 3], false)]);
        assert_eq!(all.parents(&id(1)).count(), 0, "a parent that is gone is none");
        assert_eq!(all.parents(&id(4)).cloned().collect::<Vec<_>>(), [id(2), id(3)]);
        assert_eq!(all.children(&id(1)), [id(2), id(3)]);
        assert_eq!(all.ancestors([&id(4)]), BTreeSet::from([id(0), id(1), id(2), id(3)]));
        assert_eq!(all.ancestors([&id(9)]), BTreeSet::new());
    }
}
