//! The task of a source: poll, append, go on. What is pulled comes in through
//! the same intake as what is pushed; the cursor is in the frame of its records,
//! so a page is appended once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use lakeward_model::{Cursor, FailureKind, Origin, Page, Records, Source, StreamName, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{error, info, warn};

use crate::engine::Shared;
use crate::instant;
use crate::intake::{AcceptError, Intake};
use crate::slices::runs::Runs;
use crate::slices::{self, Flow, SlicedSpec};

const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A source that refuses is asked again this often: somebody may grant the
/// permission or create the stream without restarting us.
const PAUSE_REFUSED: Duration = Duration::from_secs(15);

/// A source as the configuration asks for it.
#[derive(Debug)]
pub struct SourceSpec {
    /// Its name, unique in the process.
    pub name: String,
    /// The stream that takes its records. No two sources share one: each would
    /// go on from the other's cursor.
    pub stream: StreamName,
    /// What kind it is, for people: `kinesis`.
    pub kind: String,
    /// Itself.
    pub source: Box<dyn Source>,
}

/// A source's numbers at one instant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Its name.
    pub source: String,
    /// What kind it is.
    pub kind: String,
    /// The stream that takes its records.
    pub stream: StreamName,
    /// What it is doing.
    #[serde(flatten)]
    pub state: SourceState,
    /// How far its slowest part is behind its newest record, in milliseconds;
    /// absent while that is unknown.
    #[serde(default)]
    pub behind_ms: Option<u64>,
    /// Records appended since the process started.
    pub records: u64,
    /// What went wrong last since then, also if it is mended.
    #[serde(default)]
    pub last_error: Option<String>,
    /// Its slices, if its records come in slices.
    #[serde(flatten)]
    pub slices: Option<SlicesStatus>,
}

/// How far a sliced source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SlicesStatus {
    /// When it looks for what is new; absent if it only does what it is asked.
    #[serde(with = "instant::maybe")]
    pub next_look: Option<Timestamp>,
    /// Slices that are being read, or not settled yet.
    pub open: u64,
    /// Slices taken, ever.
    pub taken: u64,
    /// Slices that cannot be read and were set aside.
    pub set_aside: u64,
}

/// What a source is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SourceState {
    /// The first poll is under way.
    #[default]
    Starting,
    /// There was nothing new at the last poll.
    Idle,
    /// Records come.
    Reading,
    /// The journal is full: the source waits for room.
    Waiting,
    /// A poll failed; it is tried again.
    Retrying {
        /// Tries so far.
        attempts: u32,
    },
    /// The source refuses; it is tried again slowly.
    Refused,
    /// It stopped, because the process does.
    Stopped,
}

/// The sources of a process.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    running: Mutex<Vec<Running>>,
    /// The sliced ones. Weak, because they keep what holds this.
    sliced: Mutex<BTreeMap<String, Weak<Flow>>>,
    /// What sliced sources are asked to do.
    pub(crate) runs: Arc<Runs>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Running {
    status: watch::Receiver<SourceStatus>,
    task: Option<JoinHandle<()>>,
}

impl Sources {
    /// Starts a task for every source.
    pub(crate) fn start(&self, shared: &Arc<Shared>, specs: Vec<SourceSpec>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        for spec in specs {
            let (status, told) = watch::channel(SourceStatus {
                source: spec.name.clone(),
                kind: spec.kind,
                stream: spec.stream.clone(),
                state: SourceState::default(),
                behind_ms: None,
                records: 0,
                last_error: None,
                slices: None,
            });
            let pull = Pull {
                name: spec.name,
                stream: spec.stream,
                intake: Intake { shared: Arc::clone(shared) },
                status,
                stop: self.stop.clone(),
            };
            running.push(Running { status: told, task: Some(tokio::spawn(pull.run(spec.source))) });
        }
    }

    /// Starts a task for every sliced source.
    pub(crate) fn start_sliced(&self, shared: &Arc<Shared>, specs: Vec<SlicedSpec>) {
        let names: Vec<String> = specs.iter().map(|spec| spec.name.clone()).collect();
        slices::end_runs_of_others(shared, &self.runs, &names);
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sliced = self.sliced.lock().unwrap_or_else(PoisonError::into_inner);
        for spec in specs {
            let name = spec.name.clone();
            let (flow, announcements, status) = slices::prepare(shared, &self.runs, spec, self.stop.clone());
            sliced.insert(name, Arc::downgrade(&flow));
            let task = match shared.rests {
                false => tokio::spawn(slices::run(flow, announcements)),
                true => tokio::spawn(slices::rest(flow)),
            };
            running.push(Running { status, task: Some(task) });
        }
    }

    /// The sliced source of this name.
    pub(crate) fn flow(&self, name: &str) -> Option<Arc<Flow>> {
        let sliced = self.sliced.lock().unwrap_or_else(PoisonError::into_inner);
        sliced.get(name).and_then(Weak::upgrade)
    }

    /// Stops them when the guard goes, as a crash would.
    pub(crate) fn stopped_on_drop(&self) -> DropGuard {
        self.stop.clone().drop_guard()
    }

    /// Every source's numbers now, in the order of the configuration.
    pub(crate) fn status(&self) -> Vec<SourceStatus> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.iter().map(|source| source.status.borrow().clone()).collect()
    }

    /// Lets every source append what it has in hand, and stops it. What takes
    /// longer than `grace` is cut off, as by a crash.
    pub(crate) async fn stop(&self, grace: Duration) {
        self.stop.cancel();
        let tasks: Vec<JoinHandle<()>> = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.iter_mut().filter_map(|source| source.task.take()).collect()
        };
        let cut = tasks.iter().map(JoinHandle::abort_handle).collect::<Vec<_>>();
        let mut ended = futures::future::join_all(tasks);
        if tokio::time::timeout(grace, &mut ended).await.is_err() {
            warn!("a source did not stop in time; it goes on from its cursor at the next start");
            cut.iter().for_each(tokio::task::AbortHandle::abort);
            ended.await;
        }
    }
}

/// One source's task.
struct Pull {
    name: String,
    stream: StreamName,
    intake: Intake,
    status: watch::Sender<SourceStatus>,
    stop: CancellationToken,
}

impl Pull {
    async fn run(self, mut source: Box<dyn Source>) {
        let mut cursor = self.intake.shared.journal.last_cursor(&self.stream);
        let mut failures = 0_u32;
        info!(source = self.name, stream = %self.stream, resumes = cursor.is_some(), "source started");
        // A poll is never dropped in the middle: its page may be ours alone.
        while !self.stop.is_cancelled() {
            match source.poll(cursor.as_ref()).await {
                Ok(page) => {
                    failures = 0;
                    match self.append(&mut cursor, page).await {
                        Ok(()) => {}
                        Err(AcceptError::Draining) => break,
                        Err(error) => {
                            failures = failures.saturating_add(1);
                            self.failed(failures, FailureKind::Unknown, &error.to_string(), None).await;
                        }
                    }
                }
                Err(failure) => {
                    failures = failures.saturating_add(1);
                    let said = failure.to_string();
                    self.failed(failures, failure.kind, &said, failure.retry_after).await;
                }
            }
        }
        source.close().await;
        self.tell(|status| status.state = SourceState::Stopped);
        info!(source = self.name, "source stopped");
    }

    /// Makes records and cursor durable, waiting for room if need be.
    async fn store(&self, records: Records, next: &Cursor) -> Result<(), AcceptError> {
        loop {
            let origin = Origin::Pull(next.clone());
            let retry_after = match self.intake.accept(&self.stream, records.clone(), origin).await {
                Err(AcceptError::Full { retry_after }) => retry_after,
                Err(error) => return Err(error),
                Ok(_) => return Ok(()),
            };
            self.tell(|status| status.state = SourceState::Waiting);
            tokio::select! {
                () = tokio::time::sleep(retry_after) => {}
                // The page is fetched again at the next start.
                () = self.stop.cancelled() => return Err(AcceptError::Draining),
            }
        }
    }

    /// Makes a page durable and says what it tells.
    async fn append(&self, cursor: &mut Option<Cursor>, page: Page) -> Result<(), AcceptError> {
        let Page { records, next, behind, trouble } = page;
        let count = records.len() as u64;
        if count > 0 || cursor.as_ref() != Some(&next) {
            self.store(records, &next).await?;
        }
        *cursor = Some(next);
        metrics::counter!("lakeward_source_records_total", "source" => self.name.clone()).increment(count);
        if let Some(behind) = behind {
            metrics::gauge!("lakeward_source_behind_seconds", "source" => self.name.clone())
                .set(behind.as_secs_f64());
        }
        self.tell(|status| {
            status.state = if count > 0 { SourceState::Reading } else { SourceState::Idle };
            status.records += count;
            if let Some(behind) = behind {
                status.behind_ms = Some(u64::try_from(behind.as_millis()).unwrap_or(u64::MAX));
            }
            if trouble.is_some() {
                status.last_error = trouble;
            }
        });
        Ok(())
    }

    /// Says what went wrong, and waits.
    async fn failed(&self, attempts: u32, kind: FailureKind, said: &str, asked: Option<Duration>) {
        let pause = pause_after(kind, attempts, asked);
        metrics::counter!("lakeward_source_failures_total", "source" => self.name.clone()).increment(1);
        let state = if kind == FailureKind::Refused {
            error!(source = self.name, code = "LW-3001", error = said, retry_in = ?pause, "the source refuses");
            SourceState::Refused
        } else {
            warn!(source = self.name, attempts, error = said, retry_in = ?pause, "a poll failed; trying again");
            SourceState::Retrying { attempts }
        };
        self.tell(|status| {
            status.state = state;
            status.last_error = Some(said.to_string());
        });
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.stop.cancelled() => {}
        }
    }

    fn tell(&self, change: impl FnOnce(&mut SourceStatus)) {
        self.status.send_modify(change);
    }
}

/// How long to wait before poll `attempts + 1`.
pub(crate) fn pause_after(kind: FailureKind, attempts: u32, asked: Option<Duration>) -> Duration {
    let backoff = match kind {
        FailureKind::Refused => PAUSE_REFUSED,
        FailureKind::NotDone | FailureKind::Unknown => {
            PAUSE_FIRST.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(PAUSE_MAX)
        }
    };
    asked.map_or(backoff, |asked| asked.clamp(PAUSE_FIRST, Duration::from_secs(300)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_honour_what_was_asked() {
        let check = |kind, attempts, asked: Option<u64>, expect| {
            assert_eq!(pause_after(kind, attempts, asked.map(Duration::from_secs)), expect);
        };
        check(FailureKind::NotDone, 1, None, Duration::from_millis(100));
        check(FailureKind::Unknown, u32::MAX, None, PAUSE_MAX);
        check(FailureKind::Refused, 1, None, PAUSE_REFUSED);
        check(FailureKind::NotDone, 1, Some(7), Duration::from_secs(7));
    }

    #[test]
    fn a_status_comes_back() {
        let status = SourceStatus {
            source: "orders".into(),
            kind: "kinesis".into(),
            stream: StreamName::new("orders").expect("a name"),
            state: SourceState::Retrying { attempts: 3 },
            behind_ms: Some(1_200),
            records: 7,
            last_error: Some("no".into()),
            slices: None,
        };
        let sliced = SlicesStatus { next_look: Some(Timestamp(0)), open: 1, taken: 2, set_aside: 3 };
        let sliced = SourceStatus { slices: Some(sliced), ..status.clone() };
        let text = serde_json::to_value(&sliced).expect("it writes");
        assert_eq!((&text["next_look"], &text["taken"]), (&"1970-01-01T00:00:00Z".into(), &2.into()));
        assert_eq!(serde_json::from_value::<SourceStatus>(text).expect("it reads"), sliced);
        let text = serde_json::to_value(&status).expect("it writes");
        assert_eq!((&text["state"], &text["attempts"]), (&"retrying".into(), &3.into()));
        assert_eq!(serde_json::from_value::<SourceStatus>(text).expect("it reads"), status);
    }
}
