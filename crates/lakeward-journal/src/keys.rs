//! The request keys that were seen lately, and what was answered.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use lakeward_model::{Offset, RequestKey, Timestamp};

/// What the first request with a key was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) first: Offset,
    pub(crate) count: u32,
    pub(crate) received_at: Timestamp,
}

/// Remembers keys for a window of time, and at most so many.
#[derive(Debug)]
pub(crate) struct RequestKeys {
    window: Duration,
    keys_max: usize,
    answers: HashMap<RequestKey, Answer>,
    /// Oldest first. A key that came again after its window is here twice;
    /// the offset tells which entry is the live one.
    order: VecDeque<(RequestKey, Offset)>,
}

impl RequestKeys {
    pub(crate) fn new(window: Duration, keys_max: usize) -> Self {
        Self { window, keys_max, answers: HashMap::new(), order: VecDeque::new() }
    }

    /// What `key` was answered, if that was within the window.
    pub(crate) fn get(&self, key: &RequestKey, now: Timestamp) -> Option<Answer> {
        self.answers.get(key).copied().filter(|answer| now.since(answer.received_at) <= self.window)
    }

    /// Remembers a key and forgets what is too old or too much.
    pub(crate) fn remember(&mut self, key: &RequestKey, answer: Answer) {
        // The key may be a slice of a whole request, which must not be kept.
        let Some(key) = RequestKey::new(Bytes::copy_from_slice(key.as_bytes())) else { return };
        if self.answers.insert(key.clone(), answer).is_some_and(|known| known.first == answer.first) {
            // Read from the saved keys and once more from its frame.
            return;
        }
        self.order.push_back((key, answer.first));
        while self.order.len() > self.keys_max {
            self.forget_oldest();
        }
        while self.oldest().is_some_and(|oldest| answer.received_at.since(oldest) > self.window) {
            self.forget_oldest();
        }
    }

    fn oldest(&self) -> Option<Timestamp> {
        let (key, first) = self.order.front()?;
        // An entry without a live answer is older than any.
        let live = self.answers.get(key).filter(|answer| answer.first == *first);
        Some(live.map_or(Timestamp(i64::MIN), |answer| answer.received_at))
    }

    fn forget_oldest(&mut self) {
        if let Some((key, first)) = self.order.pop_front()
            && self.answers.get(&key).is_some_and(|answer| answer.first == first)
        {
            self.answers.remove(&key);
        }
    }

    /// The remembered keys with their answers, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&RequestKey, &Answer)> {
        self.order.iter().filter_map(|(key, first)| {
            self.answers.get_key_value(key).filter(|(_, answer)| answer.first == *first)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &'static str) -> RequestKey {
        RequestKey::new(text).expect("a good key")
    }

    fn answer(first: u64, at: i64) -> Answer {
        Answer { first: Offset(first), count: 1, received_at: Timestamp(at) }
    }

    #[test]
    fn window_and_count_bound_what_is_remembered() {
        let mut keys = RequestKeys::new(Duration::from_micros(10), 2);
        keys.remember(&key("a"), answer(0, 100));
        assert_eq!(keys.get(&key("a"), Timestamp(110)), Some(answer(0, 100)));
        assert_eq!(keys.get(&key("a"), Timestamp(111)), None, "the window is over");
        keys.remember(&key("a"), answer(5, 111));
        assert_eq!(keys.get(&key("a"), Timestamp(112)), Some(answer(5, 111)));
        keys.remember(&key("b"), answer(6, 112));
        assert_eq!(keys.get(&key("a"), Timestamp(112)), Some(answer(5, 111)), "only its old entry went");
        keys.remember(&key("c"), answer(7, 113));
        assert_eq!(keys.get(&key("a"), Timestamp(113)), None, "at most two");
        let left: Vec<_> = keys.iter().map(|(k, a)| (k.clone(), a.first.0)).collect();
        assert_eq!(left, [(key("b"), 6), (key("c"), 7)]);
        keys.remember(&key("d"), answer(8, 200));
        keys.remember(&key("d"), answer(8, 200));
        assert_eq!(keys.answers.len(), 1);
        assert_eq!(keys.order.len(), 1);
    }
}
