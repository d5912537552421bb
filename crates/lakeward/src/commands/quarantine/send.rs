//! Sending records to replay, a request at a time, and seeing how they end.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Context;
use lakeward_engine::{Counts, PipelineState, Quarantined};

use crate::commands::target::Inspected;
use crate::exit::{Code, coded};
use crate::terminal::{Output, plural};

/// Most bytes of records in a request, unless it has one record only.
const BYTES_AT_ONCE: usize = 8 << 20;
/// How often the service is asked whether a replay is delivered.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Sends records in requests of a limited size. Each request becomes a batch.
pub(super) struct Sender<'a> {
    inspected: &'a Inspected,
    pipeline: &'a str,
    /// Most records in a request.
    records_at_once: usize,
    waiting: Vec<Quarantined>,
    waiting_bytes: usize,
    /// Records that were queued.
    pub(super) queued: u64,
    /// Records that somebody else replayed meanwhile.
    pub(super) already: u64,
    /// Records that the service does not have in quarantine.
    pub(super) unknown: u64,
    /// The replays, each with its records.
    replays: VecDeque<(uuid::Uuid, u64)>,
}

impl<'a> Sender<'a> {
    pub(super) fn new(inspected: &'a Inspected, pipeline: &'a str, records_at_once: usize) -> Self {
        Self {
            inspected,
            pipeline,
            records_at_once,
            waiting: Vec::new(),
            waiting_bytes: 0,
            queued: 0,
            already: 0,
            unknown: 0,
            replays: VecDeque::new(),
        }
    }

    /// Adds a record, and sends a request if it is full.
    pub(super) async fn push(&mut self, record: Quarantined) -> anyhow::Result<()> {
        if !self.waiting.is_empty() && self.waiting_bytes + record.data.len() > BYTES_AT_ONCE {
            self.flush().await?;
        }
        self.waiting_bytes += record.data.len();
        self.waiting.push(record);
        if self.waiting.len() >= self.records_at_once {
            self.flush().await?;
        }
        Ok(())
    }

    /// Sends what waits.
    pub(super) async fn flush(&mut self) -> anyhow::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let answer = self.inspected.replay(self.pipeline, &self.waiting).await.with_context(|| {
            format!(
                "{} queued; run the same command again for the rest, nothing is delivered twice",
                plural(self.queued, "record")
            )
        })?;
        self.queued += answer.queued;
        self.already += answer.already;
        self.unknown += answer.unknown;
        self.replays.extend(answer.replay.map(|replay| (replay, answer.queued)));
        self.waiting.clear();
        self.waiting_bytes = 0;
        Ok(())
    }

    /// Waits until everything that was queued is settled; how it ended.
    pub(super) async fn settled(mut self, out: &Output) -> anyhow::Result<Counts> {
        let mut ended = Counts::default();
        let mut told = false;
        let bar = out.progress(self.queued, "delivering");
        // A pipeline settles its replays in the order in which they came.
        while let Some(&(replay, records)) = self.replays.front() {
            let batch = self.inspected.batch_of(self.pipeline, replay).await.context(
                "the service does not answer any more; what was queued is delivered once it runs again",
            )?;
            if let Some(batch) = batch {
                ended = ended.plus(&batch.counts);
                bar.inc(records);
                self.replays.pop_front();
                continue;
            }
            match self.inspected.status_of(self.pipeline).await?.state {
                PipelineState::Halted { code, error } => {
                    bar.finish_and_clear();
                    let message = format!(
                        "the records are queued, but the pipeline is halted ({code}: {error}); they are delivered once it goes on"
                    );
                    return Err(coded(Code::TryAgain, message));
                }
                PipelineState::Retrying { error, .. } if !told => {
                    told = true;
                    bar.suspend(|| out.say(format!("the destination fails and is tried again: {error}")));
                }
                _ => {}
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        bar.finish_and_clear();
        Ok(ended)
    }
}
