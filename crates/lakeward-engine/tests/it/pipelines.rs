//! Making, changing and removing pipelines while the engine runs.

use std::sync::Arc;
use std::time::Duration;

use lakeward_engine::{AcceptError, ControlError};
use lakeward_model::conformance::Fault;
use lakeward_model::{Origin, StreamName};

use crate::bench::{Lakes, open, pipeline, record, send, try_open, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn a_created_pipeline_survives_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let engine = open(state.path(), &lakes, vec![]).await;
    let stream = StreamName::new("events").unwrap();
    let refused = engine.intake().accept(&stream, record("{}"), Origin::Push(None)).await;
    assert_eq!(refused, Err(AcceptError::UnknownStream(stream)));
    let mut spec = pipeline("p", "events", "lake");
    spec.owner = Some(serde_json::json!({ "kept": "as it is" }));
    engine.control().create(spec.clone()).await.unwrap();
    assert_eq!(engine.control().create(spec.clone()).await, Err(ControlError::Exists("p".into())));
    send(&engine, "events", 0..5).await;
    assert!(engine.drain(Duration::from_secs(10)).await);

    let engine = open(state.path(), &lakes, vec![]).await;
    assert_eq!(engine.control().get("p"), Some(spec));
    send(&engine, "events", 5..10).await;
    wait_for(&engine, "p", |s| s.counts.delivered == 10).await;
    assert_eq!(lakes.numbers("lake"), (0..10).collect::<Vec<_>>());
    engine.drain(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_loses_and_doubles_nothing() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let engine = open(state.path(), &lakes, vec![]).await;
    engine.control().create(pipeline("p", "events", "lake")).await.unwrap();
    for round in 0..20 {
        send(&engine, "events", round * 10..round * 10 + 10).await;
        let mut spec = pipeline("p", "events", "lake");
        spec.shape.path = format!("round-{round}/!{{timestamp:yyyy}}/");
        engine.control().update(spec).await.unwrap();
    }
    wait_for(&engine, "p", |s| s.counts.delivered == 200).await;
    assert_eq!(lakes.numbers("lake"), (0..200).collect::<Vec<_>>());
    assert!(engine.drain(Duration::from_secs(10)).await);
}

/// Firehose's UpdateDestination with another bucket, while a batch is under
/// way to the former one.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_under_way_is_finished_where_it_was_begun() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["old", "new"]);
    let engine = open(state.path(), &lakes, vec![]).await;
    lakes.faults("old", [Fault::HoldAfterWrite]);
    engine.control().create(pipeline("p", "events", "old")).await.unwrap();
    send(&engine, "events", 0..10).await;
    lakes.held("old", 1).await;
    send(&engine, "events", 10..30).await;
    engine.control().update(pipeline("p", "events", "new")).await.unwrap();
    wait_for(&engine, "p", |s| s.counts.delivered == 30).await;
    let (old, new) = (lakes.numbers("old"), lakes.numbers("new"));
    assert!(!old.is_empty() && !new.is_empty());
    assert_eq!([old, new].concat(), (0..30).collect::<Vec<_>>());
    assert!(engine.drain(Duration::from_secs(10)).await);
}

/// Offsets of a stream that is made anew start at 0 again; its batches must
/// not be taken for those of the former one.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_made_anew_is_another_stream() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let engine = open(state.path(), &lakes, vec![]).await;
    for round in 0..2 {
        engine.control().create(pipeline("p", "events", "lake")).await.unwrap();
        let stream = StreamName::new("events").unwrap();
        for n in 0..10 {
            let text = format!("{{\"n\":{}}}", round * 10 + n);
            engine.intake().accept(&stream, record(&text), Origin::Push(None)).await.unwrap();
        }
        wait_for(&engine, "p", |s| s.counts.delivered == 10).await;
        engine.control().delete("p").await.unwrap();
    }
    assert_eq!(lakes.numbers("lake"), (0..20).collect::<Vec<_>>());
    assert_eq!(engine.control().delete("p").await, Err(ControlError::NotFound("p".into())));
    let committed = engine.control().batches(None, 100).await.unwrap();
    assert!(committed.len() >= 2, "batches of removed pipelines stay for the audit");
    engine.drain(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_pipeline_is_changed_in_its_file_only() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let spec = pipeline("p", "events", "lake");
    let engine = open(state.path(), &lakes, vec![spec.clone()]).await;
    assert_eq!(engine.control().update(spec).await, Err(ControlError::Configured("p".into())));
    assert_eq!(engine.control().delete("p").await, Err(ControlError::Configured("p".into())));
    let mut wrong = pipeline("q", "events", "nowhere");
    assert!(matches!(engine.control().create(wrong.clone()).await, Err(ControlError::Invalid(_))));
    wrong.destination = serde_json::json!("lake");
    wrong.shape.path = "!{nonsense".to_string();
    assert!(matches!(engine.control().create(wrong).await, Err(ControlError::Invalid(_))));
    engine.drain(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_development_a_stream_exists_as_soon_as_it_is_named() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let auto: lakeward_engine::AutoPipeline =
        Arc::new(|stream: &StreamName| pipeline(stream.as_str(), stream.as_str(), "lake"));
    let engine = try_open(state.path(), &lakes, vec![], Some(auto)).await.unwrap();
    let sends = (0..8).map(|n| {
        let intake = engine.intake();
        tokio::spawn(async move {
            let stream = StreamName::new("new-stream").unwrap();
            intake.accept(&stream, record(&format!("{{\"n\":{n}}}")), Origin::Push(None)).await
        })
    });
    for sent in sends.collect::<Vec<_>>() {
        sent.await.unwrap().unwrap();
    }
    wait_for(&engine, "new-stream", |s| s.counts.delivered == 8).await;
    assert_eq!(lakes.numbers("lake"), (0..8).collect::<Vec<_>>());
    assert!(engine.drain(Duration::from_secs(10)).await);
}
