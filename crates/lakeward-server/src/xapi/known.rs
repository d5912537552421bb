//! What the statements said whose ids were seen lately.
//!
//! Whether an id was seen is the journal's knowledge, which outlives a restart;
//! what its statement said is kept here, and can be read in the journal as long
//! as the record is there.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

/// How many ids are remembered, at about 80 bytes each.
const IDS_MAX: usize = 65_536;

/// The meanings of statements, by their id; the oldest are forgotten first.
#[derive(Debug, Default)]
pub(super) struct Known {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    meanings: HashMap<Uuid, u128>,
    order: VecDeque<Uuid>,
}

impl Known {
    pub(super) fn get(&self, id: Uuid) -> Option<u128> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).meanings.get(&id).copied()
    }

    pub(super) fn remember(&self, id: Uuid, meaning: u128) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.meanings.insert(id, meaning).is_none() {
            inner.order.push_back(id);
        }
        while inner.order.len() > IDS_MAX {
            if let Some(oldest) = inner.order.pop_front() {
                inner.meanings.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_latest_are_remembered() {
        let known = Known::default();
        for id in 0..=IDS_MAX as u128 {
            known.remember(Uuid::from_u128(id), id);
            known.remember(Uuid::from_u128(id), id);
        }
        assert_eq!(known.get(Uuid::from_u128(0)), None);
        assert_eq!(known.get(Uuid::from_u128(1)), Some(1));
        let inner = known.inner.lock().unwrap();
        assert_eq!((inner.meanings.len(), inner.order.len()), (IDS_MAX, IDS_MAX));
    }
}
