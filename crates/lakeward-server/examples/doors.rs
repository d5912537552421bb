//! The doors in front of the real journal, with pipelines that never deliver:
//! what the intake alone costs, and something to point a client at.
//!
//! `cargo run --release -p lakeward-server --example doors -- STATE_DIR [ACCESS_KEY_ID SECRET]`
//! listens on 127.0.0.1:7171, makes every stream that is named, and on Ctrl-C
//! prints what it took.
#![allow(clippy::unwrap_used, reason = "an example fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use lakeward_engine::{BatchLimits, Connectors, Engine, EngineOptions, Opened, PipelineSpec};
use lakeward_model::Secret;
use lakeward_model::clock::SystemClock;
use lakeward_model::conformance::MemoryDestination;
use lakeward_server::{Backend, ServerConfig, SigV4Key, serve};
use serde_json::json;
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let state = arguments.first().expect("a state directory");
    let never = BatchLimits { bytes: u64::MAX, records: u64::MAX, age: Duration::from_secs(86_400) };
    let options = EngineOptions {
        state: state.into(),
        journal: lakeward_journal::Options::default(),
        retention: Duration::ZERO,
        streams: Vec::new(),
        sources: Vec::new(),
        sliced: Vec::new(),
        clock: Arc::new(SystemClock),
        connectors: Connectors {
            destination: Arc::new(|_| {
                Ok(Opened {
                    destination: Arc::new(MemoryDestination::default()),
                    name: "memory".to_owned(),
                    remove: None,
                })
            }),
            function: Arc::new(|_, _| unreachable!("there is no function here")),
            catalog: Arc::new(|_, _| unreachable!("there is no catalog here")),
            arn: lakeward_engine::lambda::StreamArn {
                region: "us-east-1".into(),
                account_id: "000000000000".into(),
            },
            sql: Arc::new(|_| unreachable!("there is no SQL here")),
        },
        auto: Some(Arc::new(move |stream| PipelineSpec {
            name: stream.to_string(),
            stream: stream.clone(),
            shape: lakeward_columnar::shape::Shape::default(),
            from_latest: false,
            batch: never,
            destination: json!({}),
            catalog: None,
            owner: None,
        })),
    };
    let engine = Engine::open(options, Vec::new()).await.unwrap();
    let mut config = ServerConfig::default();
    if let [_, access_key_id, secret] = &arguments[..] {
        let key = SigV4Key { access_key_id: access_key_id.clone(), secret: Secret::new(secret) };
        config.auth.sigv4_keys.push(key);
    }
    let backend = Backend {
        intake: engine.intake(),
        control: engine.control(),
        streams: engine.streams(),
        clock: Arc::new(SystemClock),
        metrics: None,
        bucket_destination: Arc::new(|bucket| json!({"bucket": bucket})),
        queries: None,
    };
    let shutdown = CancellationToken::new();
    let running = serve(config, backend, shutdown.clone()).await.unwrap();
    println!("listening on {}", running.addr());
    tokio::signal::ctrl_c().await.unwrap();
    shutdown.cancel();
    running.finished().await;
    for status in engine.control().status() {
        println!("{}: {} records", status.stream, status.received);
    }
}
