//! Which leases to take: KCL's rule, so that its workers and ours come to the
//! same shares (awslabs/amazon-kinesis-client 2.x, `DynamoDBLeaseTaker`).

use std::collections::BTreeMap;

use super::super::cursor::ShardId;

/// A lease that is not finished, as far as its owner matters.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) shard: ShardId,
    /// Who holds it, if it is somebody who lives.
    pub(super) owner: Option<String>,
}

/// The leases that `me` should take now: free ones up to an equal share, else
/// one of the worker that has the most. `chance` decides between equals.
pub(super) fn wanted(mut leases: Vec<Seen>, me: &str, chance: u64) -> Vec<ShardId> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::from([(me, 0)]);
    for owner in leases.iter().filter_map(|lease| lease.owner.as_deref()) {
        *counts.entry(owner).or_default() += 1;
    }
    let share = leases.len().div_ceil(counts.len());
    let missing = share.saturating_sub(counts[me]);
    if missing == 0 {
        return Vec::new();
    }
    let most = counts.iter().filter(|(owner, _)| **owner != me).max_by_key(|(_, count)| **count);
    // One that has no more than its share keeps it, unless two are missing here.
    let least = if missing > 1 { share } else { share + 1 };
    let victim = most.filter(|(_, count)| **count >= least.max(1)).map(|(owner, _)| String::from(*owner));
    drop(counts);
    if !leases.is_empty() {
        // Two workers that look at the same moment begin at different leases.
        let turn = usize::try_from(chance % leases.len() as u64).unwrap_or(0);
        leases.rotate_left(turn);
    }
    let free: Vec<ShardId> = leases
        .iter()
        .filter(|lease| lease.owner.is_none())
        .map(|lease| ShardId::clone(&lease.shard))
        .take(missing)
        .collect();
    if !free.is_empty() {
        return free;
    }
    let Some(victim) = victim else { return Vec::new() };
    let theirs = leases.into_iter().find(|lease| lease.owner.as_deref() == Some(victim.as_str()));
    theirs.map(|lease| lease.shard).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::listing::tests::id;
    use super::*;

    fn leases(owners: &[&str]) -> Vec<Seen> {
        let seen = |(number, owner): (usize, &&str)| Seen {
            shard: id(number as u32),
            owner: (!owner.is_empty()).then(|| (*owner).to_string()),
        };
        owners.iter().enumerate().map(seen).collect()
    }

    #[test]
    fn shares_are_equal() {
        let check = |owners: &[&str], expect: usize| {
            for chance in 0..5 {
                let taken = wanted(leases(owners), "me", chance);
                assert_eq!(taken.len(), expect, "{owners:?}");
                assert!(taken.iter().collect::<std::collections::BTreeSet<_>>().len() == expect);
            }
        };
        check(&[], 0);
        check(&["", "", "", ""], 4);
        check(&["you", "you", "", ""], 2);
        check(&["me", "me", "you", "you"], 0);
        check(&["me", "you", "you", "you"], 1);
        check(&["you", "you", "you", "you"], 1);
        check(&["you"], 0);
        check(&["you", "her", "you", "her", "you"], 1);
        check(&["you", "her"], 0);
        check(&["me", "you", "you"], 0);
    }

    #[test]
    fn nobody_takes_back_and_forth() {
        let mut owners = vec!["you", "you", "you", "you", "you"];
        for _ in 0..20 {
            for me in ["me", "you"] {
                for shard in wanted(leases(&owners), me, 1) {
                    let at = (0..5).find(|&n| id(n as u32) == shard).expect("a known one");
                    owners[at] = me;
                }
            }
        }
        let mine = owners.iter().filter(|&&owner| owner == "me").count();
        assert!(mine == 2 || mine == 3, "{owners:?}");
        let settled = owners.clone();
        assert!(wanted(leases(&owners), "me", 3).is_empty() && wanted(leases(&owners), "you", 3).is_empty());
        assert_eq!(settled, owners);
    }
}
