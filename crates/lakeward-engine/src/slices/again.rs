//! Whether slices may be taken once more without doubling what is delivered.

use std::sync::Arc;
use std::time::Duration;

use lakeward_columnar::shape::Dedup;
use lakeward_model::{Slice, SliceId, Timestamp, Wanted};

use super::control::SlicesError;
use super::flow::Flow;
use crate::dedup::{Complete, DedupState};
use crate::engine::Shared;
use crate::ledger::{Ledger, LedgerError};

/// A slice may have been read for so long when its `taken_at` was noted: its
/// first records are older by that.
const READING: Duration = Duration::from_secs(86_400);
/// A run may take so long until the last of its slices comes once more.
const RUNNING: Duration = Duration::from_secs(7 * 86_400);

/// A pipeline of the source's stream, and what it remembers.
#[derive(Debug)]
struct Memory {
    pipeline: String,
    dedup: Dedup,
    /// Whether records of the stream are not settled yet.
    pending: bool,
    state: DedupState,
}

/// Looks whether every pipeline of the source's stream would know what it
/// delivered of the slices that are wanted.
///
/// # Errors
/// [`SlicesError::Invalid`] if one would not; the message says what to do
/// instead. [`SlicesError::Failed`].
pub(super) async fn check(shared: &Arc<Shared>, flow: &Flow, wanted: Wanted) -> Result<(), SlicesError> {
    let mut asked = Vec::new();
    let pending: Vec<String> =
        shared.status().into_iter().filter(|it| it.pending > 0).map(|it| it.pipeline).collect();
    for spec in shared.specs().into_iter().filter(|spec| spec.stream == flow.stream) {
        let dedup = spec.shape.dedup.ok_or_else(|| SlicesError::Invalid(without(&spec.name)))?;
        if let Some(time) = &dedup.time {
            return Err(SlicesError::Invalid(by_column(&spec.name, time)));
        }
        let pending = pending.contains(&spec.name);
        asked.push((spec.name, dedup, pending));
    }
    let open: Vec<(SliceId, Slice)> = {
        let state = flow.state();
        let its = state.open.iter().map(|(id, open)| (*id, open.slice.clone()));
        its.filter(|(_, slice)| wanted.means(slice)).collect()
    };
    let (now, incarnation) = (flow.now(), flow.incarnation);
    let problem = shared.on_ledger(move |ledger| {
        let mut memories = Vec::with_capacity(asked.len());
        for (pipeline, dedup, pending) in asked {
            let state = ledger.dedup(&pipeline)?.unwrap_or_default();
            memories.push(Memory { pipeline, dedup, pending, state });
        }
        for memory in &memories {
            let begun = |(id, _): &&(SliceId, Slice)| memory.complete().is_none_or(|it| it.but.contains(id));
            if let Some((_, slice)) = open.iter().find(begun) {
                return Ok(Some(memory.too_late(slice)));
            }
        }
        ledger.find_slice(incarnation, &wanted.prefix, |id, record| {
            // What was set aside goes on where it was, and is not repeated.
            if record.records == 0 || record.set_aside.is_some() || !wanted.means(&record.slice) {
                return Ok(None);
            }
            for memory in &memories {
                let problem = memory.problem(id, &record.slice, record.taken_at, now);
                if problem.is_some() && memory.has(ledger, id)? {
                    return Ok(problem);
                }
            }
            Ok(None)
        })
    });
    problem.await?.map_or(Ok(()), |problem| Err(SlicesError::Invalid(problem)))
}

impl Memory {
    fn complete(&self) -> Option<&Complete> {
        self.state.complete.as_ref().filter(|complete| complete.is_of(&self.dedup))
    }

    /// Whether the pipeline delivered anything of the slice, or may do so from
    /// a batch that was planned before its keys changed.
    fn has(&self, ledger: &Ledger, id: SliceId) -> Result<bool, LedgerError> {
        Ok(self.pending || ledger.slice_counts(&self.pipeline, id)?.delivered > 0)
    }

    /// Why the pipeline may not know the records of a slice, if so.
    fn problem(&self, id: SliceId, slice: &Slice, taken_at: Timestamp, now: Timestamp) -> Option<String> {
        let window = self.dedup.window;
        let knows = |complete: &Complete| taken_at >= complete.since && !complete.but.contains(&id);
        // A longer window does not bring back what was forgotten before.
        let reading = READING.min(window / 8);
        let first = taken_at.micros().div_euclid(1_000_000) - seconds(reading);
        if !self.complete().is_some_and(knows) || self.state.horizon.is_some_and(|horizon| first < horizon) {
            return Some(self.too_late(slice));
        }
        (now.since(taken_at) + RUNNING.min(window / 8) >= window).then(|| {
            format!(
                "the pipeline {} remembers its dedup keys for {}, and {} was taken {} ago: by the end of the run it may be forgotten, and would be doubled; {}",
                self.pipeline,
                days(window),
                slice.name,
                days(now.since(taken_at)),
                self.instead()
            )
        })
    }

    fn too_late(&self, slice: &Slice) -> String {
        let since = self.complete().map_or_else(
            || String::from("just now"),
            |complete| {
                let at =
                    complete.since.max(Timestamp(self.state.horizon.unwrap_or(0).saturating_mul(1_000_000)));
                jiff::Timestamp::from_microsecond(at.micros())
                    .map_or_else(|_| String::from("now"), |at| format!("{at:.0}"))
            },
        );
        format!(
            "the pipeline {} remembers its dedup keys only since {since}, and {} was taken before that: its rows would be doubled; {}",
            self.pipeline,
            slice.name,
            self.instead()
        )
    }

    fn instead(&self) -> String {
        format!(
            "choose slices that were taken later, or take `dedup` away from the pipeline and replace what is there: `lakeward backfill apply {} --replace`",
            self.pipeline
        )
    }
}

fn without(pipeline: &str) -> String {
    format!(
        "the pipeline {pipeline} would deliver every record once more: replace what is there with `lakeward backfill apply {pipeline} --replace`, or give the pipeline `dedup: {{ key: [uuid], window: 400d }}`, which knows only what is delivered from then on"
    )
}

fn by_column(pipeline: &str, time: &str) -> String {
    format!(
        "the pipeline {pipeline} takes the time of its dedup keys from the column {time}: rows that came later than its window are not remembered, and would be doubled; leave `time` out of its `dedup` (it then knows what is delivered from then on), or take `dedup` away and replace what is there: `lakeward backfill apply {pipeline} --replace`"
    )
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

fn days(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 172_800.. => format!("{} days", seconds / 86_400),
        seconds => format!("{} hours", seconds.div_ceil(3_600)),
    }
}

#[cfg(test)]
mod tests {
    use lakeward_columnar::shape::DedupKey;
    use lakeward_model::conformance::plain_slice;

    use super::*;

    const HOUR: i64 = 3_600_000_000;

    #[test]
    fn only_what_is_remembered_is_taken_once_more() {
        let key = DedupKey::Columns(vec!["uuid".into()]);
        let (slice, late) = (plain_slice("s"), plain_slice("late"));
        let check = |since: Option<i64>, horizon: Option<i64>, hours: u64, taken: i64, words: &str| {
            let complete = since.map(|since| Complete {
                key: key.clone(),
                time: None,
                since: Timestamp(since * HOUR),
                but: vec![late.id(uuid::Uuid::nil())],
            });
            let horizon = horizon.map(|horizon| horizon * 3_600);
            let memory = Memory {
                pipeline: "p".into(),
                dedup: Dedup { key: key.clone(), window: Duration::from_secs(hours * 3_600), time: None },
                pending: false,
                state: DedupState { complete, horizon, ..DedupState::default() },
            };
            let of = |slice: &Slice| {
                let id = slice.id(uuid::Uuid::nil());
                memory.problem(id, slice, Timestamp(taken * HOUR), Timestamp(1_000 * HOUR))
            };
            let said = of(&slice);
            match (&said, words) {
                (None, "") => assert!(of(&late).is_some_and(|said| said.contains("only since"))),
                (Some(said), words) => assert!(!words.is_empty() && said.contains(words), "{said}"),
                (None, words) => panic!("not {words:?}"),
            }
        };
        check(Some(900), None, 240, 950, "");
        // A dedup that was added after it was taken, or with another key.
        check(Some(960), None, 9_600, 950, "only since");
        check(None, None, 240, 950, "only since just now");
        // The window, with time for the run.
        check(Some(0), None, 40, 950, "was taken 2 days ago");
        check(Some(0), None, 56, 950, "was taken 2 days ago");
        check(Some(0), None, 58, 950, "");
        // A window that grew: what was forgotten stays so.
        check(Some(0), Some(940), 9_600, 950, "only since");
        check(Some(0), Some(940), 9_600, 965, "");
    }
}
