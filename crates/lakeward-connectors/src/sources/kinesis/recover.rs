//! Fetching the records of a claim once more.

use std::sync::Arc;

use bytes::Bytes;
use lakeward_model::{Keys, Records};

use super::api::Stream;
use super::cursor::ShardId;
use super::leases::Unappended;
use super::read::{Job, Read, ReadError};

/// The records of the claim that Kinesis still has, and how many it has not.
pub(super) async fn fetch(stream: &Arc<Stream>, claim: &Unappended) -> Result<(Records, u64), ReadError> {
    let mut pages: Vec<Records> = Vec::new();
    let (mut position, mut iterator) = (claim.from.clone(), None);
    loop {
        let job = Job {
            stream: Arc::clone(stream),
            shard: ShardId::clone(&claim.shard),
            position,
            iterator,
            unsure: false,
            until: Some(claim.to.clone()),
        };
        let read: Read = job.run().await?;
        let reached = read.position.sequence().is_some_and(|at| *at >= claim.to);
        let at_tip = read.empty && read.behind.is_none_or(|behind| behind.is_zero());
        if !read.records.is_empty() {
            pages.push(read.records);
        }
        if reached || read.passed || at_tip || read.iterator.is_none() {
            break;
        }
        (position, iterator) = (read.position, read.iterator);
    }
    let records = joined(pages);
    let missing = claim.records.saturating_sub(records.len() as u64);
    Ok((records, missing))
}

/// All in one. They were one page once, so they are not too many.
fn joined(pages: Vec<Records>) -> Records {
    let (mut data, mut ends) = (Vec::new(), Vec::new());
    let (mut keys, mut key_ends) = (Vec::new(), Vec::new());
    for page in pages {
        put(&mut data, &mut ends, &page.data, &page.ends);
        let page_keys = page.keys.unwrap_or_default();
        put(&mut keys, &mut key_ends, &page_keys.data, &page_keys.ends);
    }
    let keys = Keys { data: Bytes::from(keys), ends: key_ends };
    Records { data: Bytes::from(data), ends, keys: Some(keys) }
}

fn put(data: &mut Vec<u8>, ends: &mut Vec<u32>, more: &[u8], more_ends: &[u32]) {
    let start = u32::try_from(data.len()).expect("a page is far below 4 GiB");
    data.extend_from_slice(more);
    ends.extend(more_ends.iter().map(|end| start + end));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_become_one() {
        let page = |text: &'static str, ends: &[u32]| Records {
            data: text.into(),
            ends: ends.to_vec(),
            keys: Some(Keys { data: "xyz"[..ends.len()].into(), ends: (1..).take(ends.len()).collect() }),
        };
        let all = joined(vec![page("abc", &[1, 3]), page("d", &[1])]);
        assert_eq!(all.iter().collect::<Vec<_>>(), [&b"a"[..], b"bc", b"d"]);
        let keys = all.keys.expect("keys");
        assert_eq!((keys.get(0), keys.get(1), keys.get(2)), (&b"x"[..], &b"y"[..], &b"x"[..]));
        assert!(joined(Vec::new()).is_empty());
    }
}
