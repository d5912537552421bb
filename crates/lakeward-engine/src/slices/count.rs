//! Runs that only count: slices are read as if they were taken, and what they
//! hold is noted, slice by slice, so that a restart goes on where it was.

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use lakeward_model::{FailureKind, Slice, SliceFailure, Wanted};
use tokio::time::Instant;
use uuid::Uuid;

use super::admit::not_ready;
use super::choose::Listed;
use super::flow::Flow;
use crate::ledger::runs::{Run, RunError, RunErrorKind, RunKind, RunSlice, RunSliceState, RunState};
use crate::source::pause_after;

/// So many slices are counted before their lines are stored, unless they are
/// large or it takes long.
const LINES: usize = 64;
const LINES_BYTES: u64 = 64 << 20;
const LINES_EVERY: Duration = Duration::from_secs(10);

/// What counting a slice came to.
enum Counted {
    Line(RunSlice),
    /// The source refuses, or nobody wants the count any more.
    Over(Option<String>),
}

impl Flow {
    /// Does what counting runs ask for, one after the other, as long as the
    /// process runs.
    pub(super) async fn count_runs(&self) {
        loop {
            let next = self.until(|_| self.runs.first(&self.name, RunKind::Count).ok_or(None));
            let Some(run) = next.await else { return };
            self.runs.update(run.id, Run::begin);
            let Some(refused) = self.count_run(&run).await else { return };
            let error = refused.map(|message| RunError { kind: RunErrorKind::Refused, message });
            self.end(run.id, error).await;
        }
    }

    /// Why the source refuses, if it does; `None` if the process stops.
    async fn count_run(&self, run: &Run) -> Option<Option<String>> {
        let id = run.id;
        let wanted = run.asked.wanted.within(&self.wanted);
        let mut after = None;
        loop {
            let page = match self.count_page(id, &wanted, after.as_deref()).await {
                Listed::Page(page) => page,
                Listed::Refused(said) => return Some(Some(said)),
                Listed::Over => return Some(None),
                Listed::Stopped => return None,
            };
            for part in page.slices.chunks(LINES) {
                if let Some(over) = self.count_part(id, part).await? {
                    return Some(over);
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Some(None),
            }
            self.runs.update(id, |run| run.state = RunState::Taking);
        }
    }

    /// Asks for a page until it comes. What fails here is the count's trouble
    /// alone: the source may do well for all others.
    async fn count_page(&self, run: Uuid, wanted: &Wanted, after: Option<&str>) -> Listed {
        let mut attempts = 0_u32;
        loop {
            let listed = tokio::select! {
                listed = self.source.list(wanted, after) => listed,
                ended = self.ended(run) => return if ended.is_some() { Listed::Over } else { Listed::Stopped },
            };
            let failure = match listed {
                Ok(page) => return Listed::Page(page),
                Err(failure) => failure,
            };
            attempts = attempts.saturating_add(1);
            let said = failure.to_string();
            self.runs.trouble_of(run, &said);
            if failure.kind == FailureKind::Refused {
                return Listed::Refused(said);
            }
            tokio::select! {
                () = tokio::time::sleep(pause_after(failure.kind, attempts, failure.retry_after)) => {}
                ended = self.ended(run) => return if ended.is_some() { Listed::Over } else { Listed::Stopped },
            }
        }
    }

    /// Waits until the run is ended; `None` if the process stops.
    async fn ended(&self, run: Uuid) -> Option<()> {
        self.until(|_| if self.runs.goes_on(run) { Err(None) } else { Ok(()) }).await
    }

    /// Counts some slices; `Some(Some(..))` if the run is over.
    async fn count_part(&self, run: Uuid, slices: &[Slice]) -> Option<Option<Option<String>>> {
        let asked = slices.to_vec();
        let known = self.ledger(move |ledger| {
            asked
                .iter()
                .map(|slice| ledger.run_slice(run, &slice.name, slice.id(Uuid::nil())))
                .collect::<Result<Vec<_>, _>>()
        });
        let known = known.await?;
        let (now, mut lines, mut over) = (self.now(), Vec::new(), None);
        let counts =
            |line: &Option<RunSlice>| line.as_ref().is_some_and(|l| l.state == RunSliceState::Counted);
        self.runs.update(run, |run| {
            run.slices += slices.len() as u64;
            run.expected_bytes += slices.iter().filter_map(|slice| slice.bytes).sum::<u64>();
        });
        for line in known.iter().filter(|line| counts(line)).flatten() {
            self.runs.count(run, line);
        }
        let left = slices.iter().zip(&known).filter(|(_, line)| !counts(line)).map(|(slice, _)| slice);
        let (late, ready): (Vec<Slice>, Vec<Slice>) =
            left.cloned().partition(|slice| slice.ready_at.is_some_and(|at| at > now));
        for slice in late {
            let line = not_ready(&slice);
            self.runs.count(run, &line);
            lines.push((run, line));
        }
        {
            let (mut stored_at, mut unstored) = (Instant::now(), 0);
            let behind = (1..=ready.len()).map(|next| &ready[next..]);
            let each = ready.iter().zip(behind);
            let each: Vec<_> =
                each.map(|(slice, coming)| self.count_slice(run, slice, coming).boxed()).collect();
            let mut counted = futures::stream::iter(each).buffer_unordered(self.parallel);
            while let Some(one) = counted.next().await {
                match one? {
                    Counted::Line(line) => {
                        self.runs.count(run, &line);
                        unstored += line.bytes;
                        lines.push((run, line));
                        if unstored >= LINES_BYTES || stored_at.elapsed() >= LINES_EVERY {
                            let now = std::mem::take(&mut lines);
                            self.ledger(move |ledger| ledger.put_run_slices(&now)).await?;
                            (stored_at, unstored) = (Instant::now(), 0);
                        }
                    }
                    Counted::Over(refused) => {
                        over = Some(refused);
                        break;
                    }
                }
            }
        }
        self.ledger(move |ledger| ledger.put_run_slices(&lines)).await?;
        Some(over)
    }

    /// `None` if the process stops.
    async fn count_slice(&self, run: Uuid, slice: &Slice, coming: &[Slice]) -> Option<Counted> {
        let mut attempts = 0_u32;
        let id = slice.id(Uuid::nil());
        let line = |state, records, bytes, reason| {
            Some(Counted::Line(RunSlice { name: slice.name.clone(), id, state, records, bytes, reason }))
        };
        loop {
            let read = tokio::select! {
                biased;
                ended = self.ended(run) => return ended.map(|()| Counted::Over(None)),
                read = self.count_records(slice, coming) => read,
            };
            let failure = match read {
                Ok((records, bytes)) => return line(RunSliceState::Counted, records, bytes, None),
                Err(SliceFailure::Broken(reason) | SliceFailure::Gone(reason)) => {
                    return line(RunSliceState::Failed, 0, 0, Some(reason));
                }
                Err(SliceFailure::Source(failure)) => failure,
            };
            attempts = attempts.saturating_add(1);
            let said = failure.to_string();
            self.runs.trouble_of(run, &said);
            if failure.kind == FailureKind::Refused {
                return Some(Counted::Over(Some(said)));
            }
            tokio::select! {
                () = tokio::time::sleep(pause_after(failure.kind, attempts, failure.retry_after)) => {}
                ended = self.ended(run) => return ended.map(|()| Counted::Over(None)),
            }
        }
    }

    async fn count_records(&self, slice: &Slice, coming: &[Slice]) -> Result<(u64, u64), SliceFailure> {
        let mut reader = self.source.open(slice, slice.id(Uuid::nil()), None, coming).await?;
        let (mut records, mut bytes) = (0, 0);
        while let Some(chunk) = reader.next().await? {
            records += chunk.records.len() as u64;
            bytes += chunk.records.data.len() as u64;
        }
        Ok((records, bytes))
    }
}
