//! Kinesis as a source, against a server that misbehaves. Servers that behave
//! are in `tests/test_kinesis_source.py`.

mod dynamodb;
mod leases;
mod server;

use std::time::Duration;

use lakeward_connectors::sources::kinesis::{KinesisConfig, KinesisSource, StartConfig};
use lakeward_model::{Cursor, Failure, FailureKind, Page, ShardKey, Source};

use crate::aws_at;
use server::{Fault, Server, Shard, State};

const ONE: &str = "shardId-000000000001";
const TWO: &str = "shardId-000000000002";
const THREE: &str = "shardId-000000000003";

fn numbered(numbers: impl IntoIterator<Item = u64>) -> Shard {
    let record = |number: u64| (number * 2, format!("record {number}"));
    Shard { records: numbers.into_iter().map(record).collect(), ..Shard::default() }
}

fn state(shards: impl IntoIterator<Item = (&'static str, Shard)>) -> State {
    State { shards: shards.into_iter().collect(), page: 10, ..State::default() }
}

fn config(server: &Server) -> KinesisConfig {
    KinesisConfig {
        name: "a".into(),
        stream: "s".into(),
        stream_name: Some("orders".into()),
        aws: aws_at(&server.address),
        idle: Duration::from_millis(10),
        discover: Duration::from_millis(20),
        timeout: Duration::from_secs(1),
        ..KinesisConfig::default()
    }
}

fn source(server: &Server) -> KinesisSource {
    KinesisSource::open(&config(server)).expect("it opens")
}

/// What a journal would hold.
#[derive(Debug, Default)]
struct Stored {
    cursor: Option<Cursor>,
    records: Vec<String>,
    troubles: Vec<String>,
}

impl Stored {
    fn append(&mut self, page: Page) {
        self.records
            .extend(page.records.iter().map(|record| String::from_utf8(record.to_vec()).expect("text")));
        self.troubles.extend(page.trouble);
        self.cursor = Some(page.next);
    }

    /// Polls until there are so many records; the failures on the way.
    async fn fill(&mut self, source: &mut KinesisSource, count: usize) -> Vec<Failure> {
        let mut failures = Vec::new();
        for _ in 0..500 {
            if self.records.len() >= count {
                return failures;
            }
            match source.poll(self.cursor.as_ref()).await {
                Ok(page) => self.append(page),
                Err(failure) => failures.push(failure),
            }
        }
        panic!("{} records, then nothing: {failures:?}", self.records.len());
    }
}

fn texts(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers.into_iter().map(|number| format!("record {number}")).collect()
}

#[tokio::test]
async fn every_record_comes_once_and_in_order_whatever_goes_wrong() {
    let mut state = state([(ONE, numbered(1..=200))]);
    let expired = Fault::Error(400, "ExpiredIteratorException");
    let throttled = Fault::Error(400, "ProvisionedThroughputExceededException");
    let internal = Fault::Error(500, "InternalFailure");
    let unavailable = Fault::Error(503, "");
    let reads = [
        expired,
        throttled,
        Fault::Truncated,
        internal,
        Fault::Close,
        Fault::Garbage,
        unavailable,
        Fault::Hang,
        expired,
    ];
    // Each twice in a row, then one that works.
    let reads = reads.iter().flat_map(|&fault| [Some(fault), Some(fault), None]);
    state.faults.insert("GetRecords", reads.collect());
    let limited = Fault::Error(400, "LimitExceededException");
    state.faults.insert("GetShardIterator", [Some(limited), None, Some(Fault::Close)].into());
    state.faults.insert("ListShards", [Some(internal), None, Some(Fault::Truncated)].into());
    let server = Server::start(state).await;
    let mut stored = Stored::default();
    let mut failures = Vec::new();
    // As by kill −9: a new source each time, from the cursor that is stored.
    for count in [1, 35, 36, 120, 200] {
        failures.extend(stored.fill(&mut source(&server), count).await);
    }
    assert_eq!(stored.records, texts(1..=200));
    assert_eq!(stored.troubles, Vec::<String>::new());
    assert!(failures.len() >= 5, "{failures:?}");
    let refused = failures.iter().filter(|failure| failure.kind == FailureKind::Refused);
    assert_eq!(refused.count(), 0, "{failures:?}");
    assert!(!format!("{failures:?}").contains("hush"));
    assert!(server.state().faults.values().all(|left| left.is_empty()));
}

#[tokio::test]
async fn a_page_that_was_not_stored_comes_again() {
    let server = Server::start(state([(ONE, numbered(1..=30))])).await;
    let mut source = source(&server);
    let mut stored = Stored::default();
    stored.fill(&mut source, 10).await;
    let before = stored.cursor.clone();
    let lost = source.poll(before.as_ref()).await.expect("a page");
    let again = source.poll(before.as_ref()).await.expect("a page");
    assert_eq!(lost.records.iter().next(), again.records.iter().next());
    assert!(!again.records.is_empty() && before != Some(again.next.clone()));
    stored.append(again);
    stored.fill(&mut source, 30).await;
    assert_eq!(stored.records, texts(1..=30));
}

#[tokio::test]
async fn records_that_kinesis_no_longer_has_are_missed_aloud() {
    let server = Server::start(state([(ONE, numbered(1..=40))])).await;
    let mut stored = Stored::default();
    stored.fill(&mut source(&server), 10).await;
    server.state().shards.get_mut(ONE).expect("it is there").records.retain(|(number, _)| *number > 50);
    stored.fill(&mut source(&server), 20).await;
    assert_eq!(stored.records, [texts(1..=10), texts(26..=35)].concat());
    assert_eq!(stored.troubles.len(), 1, "{:?}", stored.troubles);
    assert!(stored.troubles[0].contains("no longer in the stream"), "{:?}", stored.troubles);
    // A record that is still there is no gap, and does not come again.
    stored.fill(&mut source(&server), 25).await;
    assert_eq!((stored.records.len(), stored.troubles.len()), (25, 1));
}

#[tokio::test]
async fn a_shard_that_went_unread_is_missed_aloud() {
    let server = Server::start(state([(ONE, numbered(1..=20)), (TWO, numbered(100..=119))])).await;
    let mut stored = Stored::default();
    stored.fill(&mut source(&server), 15).await;
    server.state().shards.remove(ONE);
    let mut source = source(&server);
    for _ in 0..20 {
        stored.append(source.poll(stored.cursor.as_ref()).await.expect("a page"));
    }
    assert_eq!(stored.troubles.len(), 1, "{:?}", stored.troubles);
    assert!(stored.troubles[0].contains("was not read to its end"), "{:?}", stored.troubles);
}

#[tokio::test]
async fn a_stream_that_was_made_anew_is_read_from_its_start() {
    let old = Shard { closed: true, ends: true, ..numbered(1..=5) };
    let child = Shard { parents: vec![ONE], ..numbered(6..=10) };
    let server = Server::start(state([(ONE, old), (TWO, child)])).await;
    let mut stored = Stored::default();
    stored.fill(&mut source(&server), 10).await;
    // The same names, and numbers that go on, as with Kinesis.
    {
        let mut state = server.state();
        state.shards = [(ONE, numbered(1001..=1005)), (TWO, numbered(2001..=2005))].into();
    }
    let mut source = source(&server);
    stored.fill(&mut source, 20).await;
    let mut new = stored.records.split_off(10);
    new.sort();
    assert_eq!(new, [texts(1001..=1005), texts(2001..=2005)].concat());
    assert!(stored.troubles.iter().any(|said| said.contains("made anew")), "{:?}", stored.troubles);
    // Once.
    for _ in 0..4 {
        stored.append(source.poll(stored.cursor.as_ref()).await.expect("a page"));
    }
    assert_eq!(stored.records.len(), 10);
}

#[tokio::test]
async fn children_begin_when_their_parents_are_read() {
    for ends in [true, false] {
        let parent = || Shard { closed: true, ends, ..numbered(1..=25) };
        let other = Shard { closed: true, ends, ..numbered(101..=125) };
        let child = Shard { parents: vec![ONE, TWO], ..numbered(201..=230) };
        let server = Server::start(state([(ONE, parent()), (TWO, other), (THREE, child)])).await;
        let mut stored = Stored::default();
        for count in [5, 40, 60, 80] {
            stored.fill(&mut source(&server), count).await;
        }
        let (parents, children) = stored.records.split_at(50);
        assert_eq!(children, texts(201..=230), "ends: {ends}");
        let mut parents = parents.to_vec();
        parents.sort();
        let mut expect = [texts(1..=25), texts(101..=125)].concat();
        expect.sort();
        assert_eq!(parents, expect, "ends: {ends}");
        // What has ended is not asked for again.
        let asked = server.asked("GetRecords").len();
        let mut again = source(&server);
        for _ in 0..5 {
            stored.append(again.poll(stored.cursor.as_ref()).await.expect("a page"));
        }
        let after: Vec<_> = server.asked("GetRecords").split_off(asked);
        let of_child =
            |input: &serde_json::Value| input["ShardIterator"].as_str().is_some_and(|i| i.starts_with(THREE));
        assert!(!after.is_empty() && after.iter().all(of_child), "{after:?}");
        assert_eq!(stored.records.len(), 80);
    }
}

#[tokio::test]
async fn a_stream_made_anew_after_a_split_is_read_from_its_start() {
    let parent = Shard { closed: true, ends: true, ..numbered(1..=20) };
    let child = Shard { parents: vec![ONE], ..numbered(101..=110) };
    let server = Server::start(state([(ONE, parent), (TWO, child)])).await;
    let mut stored = Stored::default();
    stored.fill(&mut source(&server), 30).await;
    // Destroyed and made again while nobody looked: the first shard's name is
    // that of one that was read to its end.
    server.state().shards = [(ONE, numbered(1_001..=1_010))].into();
    stored.fill(&mut source(&server), 40).await;
    assert_eq!(stored.records[30..], texts(1_001..=1_010));
    let told = stored.troubles.iter().filter(|said| said.contains("was made anew"));
    assert_eq!(told.count(), 1, "{:?}", stored.troubles);
}

#[tokio::test]
async fn lists_that_cannot_be_used_are_refused() {
    let long: &'static str = "x".repeat(129).leak();
    let server = Server::start(state([(ONE, numbered(1..=3)), (long, numbered(4..=5))])).await;
    let mut source = source(&server);
    let first = source.poll(None).await.expect("a cursor");
    let failure = source.poll(Some(&first.next)).await.expect_err("no such shard can be");
    assert!(failure.message.contains("a shard id of 129 bytes"), "{failure}");
}

#[tokio::test]
async fn latest_is_an_instant_that_is_stored_before_anything_is_asked() {
    let server = Server::start(state([(ONE, numbered(1..=3))])).await;
    let latest = KinesisConfig { start: StartConfig::Latest, ..config(&server) };
    let first = KinesisSource::open(&latest).expect("it opens").poll(None).await.expect("a cursor");
    assert!(first.records.is_empty() && server.state().asked.is_empty());
    let mut instants = Vec::new();
    for _ in 0..2 {
        let mut source = KinesisSource::open(&latest).expect("it opens");
        let page = source.poll(Some(&first.next)).await.expect("a page");
        assert_eq!(page.records.len(), 3);
        let key =
            page.records.keys.as_ref().and_then(|keys| ShardKey::read(keys.get(0))).map(|k| k.shard.number);
        assert_eq!(key, Some(1));
        let asked = server.asked("GetShardIterator");
        let last = asked.last().expect("an iterator was asked for");
        assert_eq!(last["ShardIteratorType"], "AT_TIMESTAMP");
        instants.push(last["Timestamp"].as_f64().expect("a time"));
    }
    assert_eq!(instants[0], instants[1]);
}

#[tokio::test]
async fn a_quiet_stream_changes_no_cursor() {
    let server = Server::start(state([(ONE, numbered(1..=3))])).await;
    let mut source = source(&server);
    let mut stored = Stored::default();
    stored.fill(&mut source, 3).await;
    for _ in 0..3 {
        let page = source.poll(stored.cursor.as_ref()).await.expect("a page");
        assert_eq!((page.records.len(), Some(&page.next)), (0, stored.cursor.as_ref()));
        assert_eq!(page.behind, Some(Duration::ZERO));
    }
}

#[tokio::test]
async fn another_streams_cursor_is_refused() {
    let server = Server::start(state([(ONE, numbered(1..=3))])).await;
    let mut stored = Stored::default();
    stored.fill(&mut source(&server), 3).await;
    let other = KinesisConfig { stream_name: Some("payments".into()), ..config(&server) };
    let mut other = KinesisSource::open(&other).expect("it opens");
    for (cursor, says) in [
        (stored.cursor.clone(), "was fed from the Kinesis stream orders"),
        (Some(Cursor("whatever".into())), "none of a Kinesis source"),
    ] {
        let failure = other.poll(cursor.as_ref()).await.expect_err("refused");
        assert_eq!(failure.kind, FailureKind::Refused);
        assert!(failure.message.contains(says), "{failure}");
    }
}

#[tokio::test]
async fn a_shard_that_cannot_be_read_holds_up_no_other() {
    let mut state = state([(ONE, numbered(1..=20)), (TWO, numbered(100..=199))]);
    state.denied.push(ONE);
    let server = Server::start(state).await;
    let (mut source, mut stored) = (source(&server), Stored::default());
    assert!(stored.fill(&mut source, 100).await.is_empty(), "no poll failed");
    assert_eq!(stored.records, texts(100..=199));
    assert!(stored.troubles.iter().any(|said| said.contains(ONE)), "{:?}", stored.troubles);
    // What is known already is read on although the list cannot be had.
    let fault = Some(Fault::Error(400, "AccessDeniedException"));
    server.state().faults.insert("ListShards", (0..1_000).map(|_| fault).collect());
    server.state().shards.get_mut(TWO).expect("it is there").records.push((1_000, "record 200".into()));
    assert!(stored.fill(&mut source, 101).await.is_empty(), "no poll failed");
    // If none can be read, the poll fails.
    server.state().denied.push(TWO);
    server.state().faults.clear();
    let mut source = KinesisSource::open(&config(&server)).expect("it opens");
    let mut polls = 0;
    let failure = loop {
        match source.poll(stored.cursor.as_ref()).await {
            Ok(page) => stored.append(page),
            Err(failure) => break failure,
        }
        polls += 1;
        assert!(polls < 20);
    };
    assert_eq!(failure.kind, FailureKind::Refused);
}

#[tokio::test]
async fn a_cursor_that_is_full_loses_nothing() {
    // Long names: about 500 fit.
    let name = |number: u64| -> &'static str { format!("{}-{number:03}", "x".repeat(120)).leak() };
    let shards = (0..560).map(|number| (name(number), numbered([number])));
    let mut state = state(shards.clone());
    state.page = 1;
    let server = Server::start(state).await;
    let config = KinesisConfig { shards_at_once: 64, ..config(&server) };
    let mut source = KinesisSource::open(&config).expect("it opens");
    let mut stored = Stored::default();
    let failure = loop {
        match source.poll(stored.cursor.as_ref()).await {
            Ok(page) => stored.append(page),
            Err(failure) => break failure,
        }
    };
    assert!(failure.message.contains("more than a cursor has room for"), "{failure}");
    let before = stored.records.len();
    assert!((400..560).contains(&before), "{before}");
    // Kinesis forgets some of those that were read.
    for (id, _) in shards.take(560) {
        let text = server.state().shards[id].records[0].1.clone();
        if server.state().shards.len() > 400 && stored.records.contains(&text) {
            server.state().shards.remove(id);
        }
    }
    stored.fill(&mut source, 560).await;
    let mut expect = texts(0..560);
    expect.sort();
    stored.records.sort();
    assert_eq!(stored.records, expect);
}
