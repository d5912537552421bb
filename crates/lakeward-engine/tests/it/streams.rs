//! Streams without pipelines, and how long their records stay.

use std::time::Duration;

use lakeward_engine::{AcceptError, ControlError, Engine, EngineOptions, StreamSpec};
use lakeward_model::{Offset, Origin, StreamName, Timestamp};

use crate::bench::{Lakes, open, options, pipeline, record, send, wait_for};

fn name(text: &str) -> StreamName {
    StreamName::new(text).expect("a stream name")
}

async fn texts(engine: &Engine, stream: &str, from: u64) -> Vec<String> {
    let blocks = engine.streams().read(&name(stream), Offset(from), 1 << 20).await.expect("it is read");
    let records = blocks.iter().flat_map(|block| block.records.iter());
    records.map(|record| String::from_utf8_lossy(record).into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_lives_without_a_pipeline() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let engine = open(state.path(), &lakes, vec![]).await;
    let made =
        StreamSpec { owner: Some(serde_json::json!({"shards": 4})), ..StreamSpec::new(name("events")) };
    engine.streams().create(made.clone()).await.unwrap();
    assert_eq!(engine.streams().create(made.clone()).await, Err(ControlError::Exists("events".into())));
    send(&engine, "events", 0..3).await;
    let incarnation = engine.streams().incarnation(&name("events"));
    assert!(engine.drain(Duration::from_secs(10)).await);

    let engine = open(state.path(), &lakes, vec![]).await;
    let kept = engine.streams().get(&name("events")).await.unwrap();
    assert_eq!(kept, StreamSpec { made: true, ..made });
    assert_eq!(texts(&engine, "events", 1).await, ["{\"n\":1}", "{\"n\":2}"]);
    // A pipeline that comes later delivers what is there, and leaves the stream when it goes.
    engine.control().create(pipeline("p", "events", "lake")).await.unwrap();
    wait_for(&engine, "p", |s| s.counts.delivered == 3).await;
    let refused = engine.streams().remove(&name("events")).await;
    assert_eq!(refused, Err(ControlError::Invalid("pipeline p delivers the stream events".into())));
    engine.control().delete("p").await.unwrap();
    assert_eq!(engine.streams().incarnation(&name("events")), incarnation);
    send(&engine, "events", 3..4).await;

    engine.streams().remove(&name("events")).await.unwrap();
    let gone = engine.intake().accept(&name("events"), record("{}"), Origin::Push(None)).await;
    assert_eq!(gone, Err(AcceptError::UnknownStream(name("events"))));
    assert_eq!(
        engine.streams().get(&name("events")).await,
        Err(ControlError::NotFound("events".into())),
        "nothing is kept of it"
    );
    engine.streams().create(StreamSpec::new(name("events"))).await.unwrap();
    assert_ne!(engine.streams().incarnation(&name("events")), incarnation);
    assert!(texts(&engine, "events", 0).await.is_empty());
    assert!(engine.drain(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_front_door_keeps_goes_with_the_pipelines_stream() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let engine = open(state.path(), &lakes, vec![]).await;
    engine.control().create(pipeline("p", "events", "lake")).await.unwrap();
    let kept = StreamSpec { owner: Some(serde_json::json!(1)), ..StreamSpec::new(name("events")) };
    engine.streams().update(kept.clone()).await.unwrap();
    assert_eq!(engine.streams().get(&name("events")).await.unwrap(), kept);
    engine.control().delete("p").await.unwrap();
    engine.control().create(pipeline("p", "events", "lake")).await.unwrap();
    assert_eq!(engine.streams().get(&name("events")).await.unwrap(), StreamSpec::new(name("events")));
    assert!(engine.drain(Duration::from_secs(10)).await);
}

/// Updates do not wait for changes of pipelines, and yet bring nothing back that
/// a removal took away.
#[tokio::test(flavor = "multi_thread")]
async fn updates_while_a_stream_is_removed() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let engine = open(state.path(), &lakes, vec![]).await;
    for _ in 0..10 {
        engine.control().create(pipeline("p", "events", "lake")).await.unwrap();
        let streams = engine.streams();
        let (begun, first) = tokio::sync::oneshot::channel();
        let updates = tokio::spawn(async move {
            let kept = StreamSpec { owner: Some(serde_json::json!(1)), ..StreamSpec::new(name("events")) };
            streams.update(kept.clone()).await.unwrap();
            begun.send(()).unwrap();
            loop {
                if let Err(error) = streams.update(kept.clone()).await {
                    return error;
                }
            }
        });
        first.await.unwrap();
        engine.control().delete("p").await.unwrap();
        assert_eq!(updates.await.unwrap(), ControlError::NotFound("events".into()));
        engine.control().create(pipeline("p", "events", "lake")).await.unwrap();
        assert_eq!(engine.streams().get(&name("events")).await.unwrap(), StreamSpec::new(name("events")));
        engine.control().delete("p").await.unwrap();
    }
    assert!(engine.drain(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_stream_is_not_removed() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let streams = vec![StreamSpec::new(name("events"))];
    let engine =
        Engine::open(EngineOptions { streams, ..options(state.path(), &lakes) }, vec![]).await.unwrap();
    send(&engine, "events", 0..2).await;
    assert!(matches!(engine.streams().remove(&name("events")).await, Err(ControlError::Invalid(_))));
    assert_eq!(texts(&engine, "events", 0).await.len(), 2);
    assert!(engine.drain(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_found_by_their_time() {
    let state = tempfile::tempdir().unwrap();
    let engine = open(state.path(), &Lakes::new(&[]), vec![]).await;
    let (streams, events) = (engine.streams(), name("events"));
    streams.create(StreamSpec::new(events.clone())).await.unwrap();
    send(&engine, "events", 0..20).await;
    let blocks = streams.read(&events, Offset(0), 1 << 20).await.unwrap();
    for block in &blocks {
        let found = streams.received_from(&events, block.received_at).await.unwrap();
        let first = blocks.iter().find(|other| other.received_at == block.received_at).unwrap();
        assert_eq!(found, first.first);
    }
    let last = blocks.last().unwrap().received_at;
    assert_eq!(streams.received_from(&events, Timestamp(0)).await, Ok(Offset(0)));
    assert_eq!(streams.received_from(&events, Timestamp(last.0 + 1)).await, Ok(Offset(20)));
    assert!(engine.drain(Duration::from_secs(10)).await);
}

/// A day's retention must not fill the journal with what was delivered.
#[tokio::test(flavor = "multi_thread")]
async fn settled_records_make_room() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let mut roomy = options(state.path(), &lakes);
    roomy.retention = Duration::from_secs(24 * 3600);
    roomy.journal.disk_bytes_max = 8 << 20;
    let engine = Engine::open(roomy, vec![pipeline("p", "events", "lake")]).await.unwrap();
    let filler = "x".repeat(256 << 10);
    for n in 0..128_u64 {
        let text = format!("{{\"n\":{n},\"filler\":\"{filler}\"}}");
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while let Err(error) =
            engine.intake().accept(&name("events"), record(&text), Origin::Push(None)).await
        {
            assert!(matches!(error, AcceptError::Full { .. }), "{error}");
            assert!(tokio::time::Instant::now() < deadline, "32 MiB never fit through a journal of 8 MiB");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    wait_for(&engine, "p", |s| s.counts.delivered == 128).await;
    assert_eq!(lakes.numbers("lake"), (0..128).collect::<Vec<_>>());
    assert!(engine.drain(Duration::from_secs(10)).await);
}

/// What readers were promised stays, and the journal says that it is full.
#[tokio::test(flavor = "multi_thread")]
async fn promised_records_stay() {
    let state = tempfile::tempdir().unwrap();
    let mut roomy = options(state.path(), &Lakes::new(&[]));
    roomy.journal.disk_bytes_max = 4 << 20;
    let engine = Engine::open(roomy, vec![]).await.unwrap();
    let promised =
        StreamSpec { retention: Some(Duration::from_secs(24 * 3600)), ..StreamSpec::new(name("events")) };
    engine.streams().create(promised).await.unwrap();
    let text = "x".repeat(256 << 10);
    let mut taken = 0;
    let refused = loop {
        match engine.intake().accept(&name("events"), record(&text), Origin::Push(None)).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 100, "the journal has a limit");
    };
    assert!(matches!(refused, AcceptError::Full { .. }));
    assert_eq!(engine.streams().ends(&name("events")), Some((Offset(0), Offset(taken))));
    assert!(engine.drain(Duration::from_secs(10)).await);
}
