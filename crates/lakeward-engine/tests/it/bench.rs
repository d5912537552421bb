//! An engine on a temporary directory, with an in-memory lake that outlives it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::catalog::MemoryCatalog;
use bytes::Bytes;
use lakeward_columnar::shape::{FileCompression, Output, Shape};
use lakeward_engine::{
    AutoPipeline, BatchLimits, Connectors, Engine, EngineOptions, OpenEngineError, Opened, OpenedCatalog,
    PipelineSpec, PipelineStatus, RemoveFile,
};
use lakeward_model::clock::SystemClock;
use lakeward_model::conformance::{Fault, Faulty, MemoryDestination};
use lakeward_model::{Failure, FailureKind, Origin, Records, RequestKey, Role, StreamName};

/// The lakes of a test, by name; each with its script of faults.
#[derive(Clone, Default)]
pub(crate) struct Lakes(
    Arc<BTreeMap<&'static str, Arc<Faulty<MemoryDestination>>>>,
    Arc<MemoryCatalog>,
    /// How many of the next removals of a file fail.
    pub(crate) Arc<AtomicUsize>,
);

impl Lakes {
    pub(crate) fn new(names: &[&'static str]) -> Self {
        let lake = |name: &&'static str| (*name, Arc::new(Faulty::new(MemoryDestination::default(), [])));
        Self(Arc::new(names.iter().map(lake).collect()), Arc::default(), Arc::default())
    }

    pub(crate) fn faults(&self, name: &str, faults: impl IntoIterator<Item = Fault>) {
        for fault in faults {
            self.0[name].then(fault);
        }
    }

    /// The catalog of every pipeline that has one.
    pub(crate) fn catalog(&self) -> &MemoryCatalog {
        &self.1
    }

    pub(crate) fn lake(&self, name: &str) -> &Faulty<MemoryDestination> {
        &self.0[name]
    }

    /// The same, for a destination that wraps it.
    pub(crate) fn shared(&self, name: &str) -> Arc<Faulty<MemoryDestination>> {
        Arc::clone(&self.0[name])
    }

    /// Waits until so many deliveries were held.
    pub(crate) async fn held(&self, name: &str, holds: usize) {
        while self.0[name].holds() < holds {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The numbers that lie in a lake of NDJSON files, sorted.
    pub(crate) fn numbers(&self, name: &str) -> Vec<u64> {
        let mut all: Vec<u64> = Vec::new();
        for file in self.0[name].inner().files() {
            if file.role == Role::Data {
                all.extend(lines(&file.body).map(|line| {
                    let row: serde_json::Value = serde_json::from_slice(line).expect("a row is JSON");
                    row["n"].as_u64().expect("a row has its number")
                }));
            }
        }
        all.sort_unstable();
        all
    }
}

pub(crate) fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|&b| b == b'\n').filter(|line| !line.is_empty())
}

/// A pipeline of NDJSON files with small batches.
pub(crate) fn pipeline(name: &str, stream: &str, lake: &str) -> PipelineSpec {
    PipelineSpec {
        name: name.to_string(),
        stream: StreamName::new(stream).expect("a stream name"),
        shape: Shape {
            output: Output::Ndjson { compression: FileCompression::None },
            path: format!("{name}/!{{timestamp:yyyy}}/"),
            ..Shape::default()
        },
        from_latest: false,
        batch: BatchLimits { bytes: 1 << 20, records: 10, age: Duration::from_millis(20) },
        destination: serde_json::json!(lake),
        catalog: None,
        owner: None,
    }
}

pub(crate) fn options(state: &Path, lakes: &Lakes) -> EngineOptions {
    let (lakes, catalog, failures) = (lakes.clone(), Arc::clone(&lakes.1), Arc::clone(&lakes.2));
    EngineOptions {
        state: state.to_path_buf(),
        journal: lakeward_journal::Options { segment_bytes: 1 << 20, ..lakeward_journal::Options::default() },
        retention: Duration::ZERO,
        streams: Vec::new(),
        sources: Vec::new(),
        sliced: Vec::new(),
        clock: Arc::new(SystemClock),
        connectors: Connectors {
            destination: Arc::new(move |value| {
                let name = value.as_str().unwrap_or_default();
                let destination = lakes.0.get(name).ok_or_else(|| format!("there is no lake {name}"))?;
                let (of, failures) = (destination.inner().clone(), Arc::clone(&failures));
                let remove: RemoveFile = Arc::new(move |path| {
                    let (of, failures) = (of.clone(), Arc::clone(&failures));
                    Box::pin(async move {
                        tokio::task::yield_now().await;
                        let fails =
                            failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
                        of.remove(&path);
                        fails.map_or(Ok(()), |_| Err(Failure::new(FailureKind::Unknown, "cut")))
                    })
                });
                Ok(Opened {
                    remove: (name != "write-only").then_some(remove),
                    destination: Arc::<Faulty<MemoryDestination>>::clone(destination),
                    name: name.to_string(),
                })
            }),
            function: Arc::new(|_, _| unreachable!("there is no function here")),
            catalog: Arc::new(move |name, _| {
                let name = name.as_str().unwrap_or_default().to_string();
                Ok(OpenedCatalog { catalog: Arc::<MemoryCatalog>::clone(&catalog), name })
            }),
            arn: lakeward_engine::lambda::StreamArn {
                region: "us-east-1".into(),
                account_id: "000000000000".into(),
            },
            sql: Arc::new(|_| unreachable!("these tests have no SQL")),
        },
        auto: None,
    }
}

pub(crate) async fn try_open(
    state: &Path,
    lakes: &Lakes,
    specs: Vec<PipelineSpec>,
    auto: Option<AutoPipeline>,
) -> Result<Engine, OpenEngineError> {
    Engine::open(EngineOptions { auto, ..options(state, lakes) }, specs).await
}

pub(crate) async fn open(state: &Path, lakes: &Lakes, specs: Vec<PipelineSpec>) -> Engine {
    // An engine that was stopped without draining may still be letting go of its ledger.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        match try_open(state, lakes, specs.clone(), None).await {
            Err(OpenEngineError::Ledger(error)) if tokio::time::Instant::now() < deadline => {
                assert!(error.to_string().contains("already open"), "{error}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            opened => return opened.expect("the engine opens"),
        }
    }
}

/// Sends the numbers as one append each.
pub(crate) async fn send(engine: &Engine, stream: &str, numbers: std::ops::Range<u64>) {
    let (intake, stream) = (engine.intake(), StreamName::new(stream).expect("a stream name"));
    for n in numbers {
        let key = RequestKey::new(n.to_string());
        let accepted = intake.accept(&stream, record(&format!("{{\"n\":{n}}}")), Origin::Push(key)).await;
        accepted.expect("the record is accepted");
    }
}

pub(crate) fn record(text: &str) -> Records {
    Records::one(Bytes::copy_from_slice(text.as_bytes()))
}

/// Waits until `done` says so of the pipeline's numbers.
pub(crate) async fn wait_for(
    engine: &Engine,
    pipeline: &str,
    done: impl Fn(&PipelineStatus) -> bool,
) -> PipelineStatus {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let status =
            engine.control().status().into_iter().find(|s| s.pipeline == pipeline).expect("it exists");
        assert_eq!(
            status.received,
            status.counts.settled() + status.pending,
            "the equation holds at every instant"
        );
        if done(&status) {
            return status;
        }
        assert!(tokio::time::Instant::now() < deadline, "it did not come to that: {status:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
