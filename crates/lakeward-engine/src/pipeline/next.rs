//! What a pipeline does next: wait until a batch is due, and plan it.

use std::sync::Arc;
use std::time::Duration;

use lakeward_journal::ReadError;
use lakeward_model::clock::Stopwatch;
use lakeward_model::{BatchId, Offset, Span};

use super::{Halt, Pipeline, Standing};
use crate::plan::{Decision, Filling, Frame, Plan, Replay};

/// While a batch fills, the journal is looked at no more often than this.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is due.
enum Work {
    /// These records of the stream, with about so many bytes.
    Span(Span, u64),
    /// The next replay.
    Replay,
}

impl Pipeline {
    /// Waits until a batch is due, and plans it. `None` once the pipeline is to
    /// stop, or the process drains and nothing is pending.
    pub(super) async fn next_plan(&self, standing: &Standing) -> Result<Option<Plan>, Halt> {
        Ok(match self.next_work(standing).await? {
            None => None,
            Some(Work::Span(span, source_bytes)) => {
                Some(self.plan(self.incarnation, span, None, source_bytes))
            }
            Some(Work::Replay) => {
                let (ledger, name) = (Arc::clone(&self.ledger), self.spec.name.clone());
                let number = standing.replay;
                let queued = tokio::task::spawn_blocking(move || ledger.replay(&name, number)).await??;
                let queued = queued.expect("a queued replay waits until it is settled");
                let span = Span::new(Offset(0), Offset(queued.records)).expect("a replay has records");
                let replay = Replay { id: queued.id, number };
                Some(self.plan(queued.id, span, Some(replay), queued.bytes))
            }
        })
    }

    fn plan(&self, source: uuid::Uuid, span: Span, replay: Option<Replay>, source_bytes: u64) -> Plan {
        Plan {
            batch: BatchId::derive(source, &self.spec.stream, &self.spec.name, span),
            span,
            replay,
            shape: self.spec.shape.clone(),
            destination: self.destination.name.clone(),
            reopen: (!self.configured).then(|| self.spec.destination.clone()),
            planned_at: self.clock.now(),
            source_bytes,
            refused: Vec::new(),
        }
    }

    /// The first half of a plan that is not durable.
    pub(super) fn first_half(&self, plan: &Plan) -> Plan {
        let middle = plan.span.from.plus(plan.span.records() / 2);
        let span = Span::new(plan.span.from, middle).expect("the plan has two records");
        let batch = BatchId::derive(self.incarnation, &self.spec.stream, &self.spec.name, span);
        Plan { batch, span, source_bytes: plan.source_bytes / 2, ..plan.clone() }
    }

    /// Waits until a batch is due.
    async fn next_work(&self, standing: &Standing) -> Result<Option<Work>, Halt> {
        let from = standing.offset;
        let mut progress = self.progress.subscribe();
        let mut ends = self.journal.watch(&self.spec.stream).ok_or(ReadError::UnknownStream)?;
        let mut filling = Filling::new(from, self.spec.batch);
        let mut since = None;
        let pause = LOOK_EVERY.min(self.spec.batch.age / 4);
        loop {
            if progress.borrow_and_update().replays.queued > standing.replay {
                return Ok(Some(Work::Replay));
            }
            let draining = self.draining.is_cancelled();
            let end = *ends.borrow_and_update();
            self.look(&mut filling, end)?;
            if filling.next() > from && since.is_none() {
                since = Some(Stopwatch::start());
            }
            // The wall clock may jump back; what we have seen ourselves does not.
            let seen = since.map_or(Duration::ZERO, Stopwatch::elapsed);
            let age = self.clock.now().since(filling.oldest()).max(seen);
            let wait = match filling.decide(age, draining) {
                Decision::Cut(span) => return Ok(Some(Work::Span(span, filling.bytes()))),
                Decision::Empty if draining => return Ok(None),
                Decision::Empty => Duration::MAX,
                Decision::Wait(wait) => wait,
            };
            let more = async {
                if ends.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(pause.min(wait)).await;
            };
            tokio::select! {
                () = more => {}
                () = sleep_at_most(wait) => {}
                // The sender is our own.
                _ = progress.changed() => {}
                () = self.draining.cancelled(), if !draining => {}
                () = self.stop.cancelled() => return Ok(None),
            }
        }
    }

    /// Adds the frames that came since the last look.
    fn look(&self, filling: &mut Filling, end: Offset) -> Result<(), ReadError> {
        while filling.next() < end && !filling.is_full() {
            for frame in self.journal.frames(&self.spec.stream, filling.next(), 1024)? {
                if filling.is_full() {
                    break;
                }
                filling.add(&Frame {
                    first: frame.first,
                    records: u64::from(frame.records),
                    bytes: frame.bytes,
                    received_at: frame.received_at,
                });
            }
        }
        Ok(())
    }
}

async fn sleep_at_most(wait: Duration) {
    if wait == Duration::MAX {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(wait).await;
}
