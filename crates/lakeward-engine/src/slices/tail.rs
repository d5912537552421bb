//! Where a look begins if names grow: most of what is listed was taken long ago,
//! so most looks need not list it again.

use std::collections::VecDeque;
use std::time::Duration;

use lakeward_model::{Slice, Timestamp};

/// So many names before the last one a look begins: a page of a list, for those
/// that come a little late.
const NAMES: usize = 1_000;

/// What looks found before. Not kept when the process ends: the first look
/// begins at the start.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// When the last look began that began at the start and came to the end.
    whole: Option<Timestamp>,
    /// The last names before the first slice that was not ready.
    names: VecDeque<String>,
}

/// The names of a look as they come.
#[derive(Debug)]
pub(super) struct Names {
    begun: Timestamp,
    whole: bool,
    names: VecDeque<String>,
    /// A slice was not ready: nothing behind it may be left out next time.
    ended: bool,
}

impl Tail {
    /// Begins a look: behind which name, and what is told of its names.
    pub(super) fn begin(&self, now: Timestamp, growing: Option<Duration>) -> (Option<String>, Names) {
        let recent =
            |every: Duration| self.whole.is_some_and(|whole| whole <= now && now.since(whole) < every);
        let start = self.names.front().filter(|_| self.names.len() == NAMES && growing.is_some_and(recent));
        let names = Names {
            begun: now,
            whole: start.is_none(),
            names: start.cloned().into_iter().collect(),
            ended: false,
        };
        (start.cloned(), names)
    }

    /// The look came to the end of the list.
    pub(super) fn end(&mut self, names: Names) {
        self.names = names.names;
        if names.whole {
            self.whole = Some(names.begun);
        }
    }
}

impl Names {
    /// What came next, in the order of the list.
    pub(super) fn came(&mut self, slices: &[Slice]) {
        for slice in slices {
            self.ended |= slice.ready_at.is_some_and(|at| at > self.begun);
            if self.ended {
                return;
            }
            if self.names.len() == NAMES {
                self.names.pop_front();
            }
            self.names.push_back(slice.name.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use lakeward_model::conformance::plain_slice;

    use super::*;

    fn slices(range: std::ops::Range<usize>) -> Vec<Slice> {
        range.map(|n| plain_slice(&format!("{n:05}"))).collect()
    }

    #[test]
    fn a_look_begins_near_the_end_but_for_one_a_day() {
        let day = Duration::from_secs(86_400);
        let at = |seconds: i64| Timestamp(seconds * 1_000_000);
        let mut tail = Tail::default();
        let mut look = |seconds: i64, growing: Option<Duration>, found: &[Slice]| {
            let (start, mut names) = tail.begin(at(seconds), growing);
            let behind = |slice: &&Slice| start.as_ref().is_none_or(|start| slice.name > *start);
            names.came(&found.iter().filter(behind).cloned().collect::<Vec<_>>());
            tail.end(names);
            start
        };
        // Few names are one page, whole or not.
        assert_eq!(look(0, Some(day), &slices(0..999)), None);
        assert_eq!(look(10, Some(day), &slices(0..2_500)), None);
        assert_eq!(look(20, None, &slices(0..2_500)), None);
        assert_eq!(look(30, Some(day), &slices(0..2_600)).as_deref(), Some("01500"));
        // What is not ready is looked at again.
        let mut found = slices(0..9_000);
        found[2_700].ready_at = Some(at(100));
        assert_eq!(look(40, Some(day), &found).as_deref(), Some("01600"));
        assert_eq!(look(50, Some(day), &found).as_deref(), Some("01700"));
        assert_eq!(look(100, Some(day), &found).as_deref(), Some("01700"));
        assert_eq!(look(110, Some(day), &found).as_deref(), Some("08000"));
        // The day counts from the last whole look, and a clock may go back.
        assert_eq!(look(86_419, Some(day), &found).as_deref(), Some("08000"));
        assert_eq!(look(86_420, Some(day), &found), None);
        assert_eq!(look(86_430, Some(day), &found).as_deref(), Some("08000"));
        assert_eq!(look(1, Some(day), &found), None);
        // By that clock one is not ready again. Removed at the source: all is
        // listed.
        assert_eq!(look(11, Some(day), &slices(8_900..9_000)).as_deref(), Some("01700"));
        assert_eq!(look(12, Some(day), &slices(8_900..9_000)), None);
    }
}
