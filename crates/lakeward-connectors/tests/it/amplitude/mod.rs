//! Amplitude as a source, against a server that misbehaves. Every message here
//! is a row of the table in `docs/amplitude.md`.

mod archives;
mod server;
mod spool;
mod statuses;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lakeward_connectors::sources::amplitude::{AmplitudeConfig, AmplitudeSource};
use lakeward_model::conformance::TestClock;
use lakeward_model::{Chunk, Lineage, Secret, Slice, SliceFailure, SlicedSource, Timestamp, Wanted};
use tempfile::TempDir;

use server::{API_KEY, Fault, Part, SECRET_KEY, Server, World};

const DAY: &str = "2026-03-01";

fn instant(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().expect("an instant").as_microsecond())
}

/// A source, its server, its clock and its spool folder.
struct Setting {
    server: Server,
    clock: Arc<TestClock>,
    spool: TempDir,
    config: AmplitudeConfig,
    source: AmplitudeSource,
}

impl Setting {
    async fn start(world: World) -> Self {
        Self::with(world, |_| {}).await
    }

    async fn with(world: World, change: impl FnOnce(&mut AmplitudeConfig)) -> Self {
        let server = Server::start(world).await;
        let clock = TestClock::at(instant("2026-03-02T12:00:00Z"));
        let spool = tempfile::tempdir().expect("a folder");
        let mut config = config(&server.address);
        change(&mut config);
        let source = open(&config, spool.path(), &clock);
        Self { server, clock, spool, config, source }
    }

    /// For a world with this fault: silence is waited for, but not for long.
    async fn facing(fault: &Fault, world: World) -> Self {
        let silent = matches!(fault, Fault::Hang | Fault::Stall);
        Self::with(world, |config| {
            if silent {
                config.read_timeout = Duration::from_secs(1);
            }
        })
        .await
    }

    /// As after a restart of the process.
    fn restart(&mut self) {
        self.source = open(&self.config, self.spool.path(), &self.clock);
    }

    /// All slices of a day.
    async fn day(&self, day: &str) -> Vec<Slice> {
        let wanted = Wanted { prefix: day.into(), ..Wanted::default() };
        self.source.list(&wanted, None).await.expect("a list").slices
    }

    /// Takes slices one after another, as the engine does.
    async fn take_all(&self, slices: &[Slice]) -> Taken {
        let mut taken = Taken::default();
        for (number, slice) in slices.iter().enumerate() {
            taken.take(&self.source, slice, &slices[number + 1..]).await.expect("it is taken");
        }
        taken
    }

    /// The files of the spool folder that hold archives.
    fn archives(&self) -> usize {
        self.files().iter().filter(|name| name.ends_with(".zip")).count()
    }

    fn files(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.spool.path()).expect("a folder");
        files.map(|file| file.expect("a file").file_name().into_string().expect("text")).collect()
    }
}

fn config(address: &str) -> AmplitudeConfig {
    AmplitudeConfig {
        name: "a".into(),
        stream: "s".into(),
        endpoint: Some(address.into()),
        api_key: Secret::new(API_KEY),
        secret_key: Secret::new(SECRET_KEY),
        from: DAY.into(),
        ..AmplitudeConfig::default()
    }
}

fn open(config: &AmplitudeConfig, spool: &Path, clock: &Arc<TestClock>) -> AmplitudeSource {
    AmplitudeSource::open_at(config, spool, Arc::clone(clock) as _).expect("it opens")
}

/// What a journal would hold.
#[derive(Debug, Default)]
struct Taken {
    records: Vec<String>,
    /// File and line of each.
    places: Vec<(String, u64)>,
    troubles: Vec<String>,
    /// Behind the last chunk.
    resume: Option<Vec<u8>>,
    chunks: usize,
}

impl Taken {
    fn append(&mut self, slice: &Slice, chunk: Chunk) {
        let keys = chunk.records.keys.as_ref().expect("a lineage");
        assert_eq!(keys.ends.len(), chunk.records.len());
        assert!(!chunk.records.is_empty() && chunk.resume.len() < 400, "{chunk:?}");
        for (number, record) in chunk.records.iter().enumerate() {
            let lineage = Lineage::read(keys.get(number)).expect("a lineage");
            assert_eq!(lineage.slice, slice.id(uuid::Uuid::nil()));
            self.records.push(String::from_utf8(record.to_vec()).expect("text"));
            self.places.push((lineage.file.into(), lineage.line));
        }
        self.troubles.extend(chunk.trouble);
        self.resume = Some(chunk.resume);
        self.chunks += 1;
    }

    /// Takes a slice to its end, from its start.
    async fn take(
        &mut self,
        source: &AmplitudeSource,
        slice: &Slice,
        coming: &[Slice],
    ) -> Result<(), SliceFailure> {
        self.resume = None;
        self.go_on(source, slice, coming, usize::MAX).await
    }

    /// Takes so many chunks more, from where it stood.
    async fn go_on(
        &mut self,
        source: &AmplitudeSource,
        slice: &Slice,
        coming: &[Slice],
        chunks: usize,
    ) -> Result<(), SliceFailure> {
        let resume = self.resume.clone();
        let mut reader = source.open(slice, slice.id(uuid::Uuid::nil()), resume.as_deref(), coming).await?;
        for _ in 0..chunks {
            match reader.next().await? {
                Some(chunk) => self.append(slice, chunk),
                None => break,
            }
        }
        Ok(())
    }
}

/// A message says this, and so does the table of the documentation.
fn says(message: &str, text: &str) {
    assert!(message.contains(text), "{message:?} does not say {text:?}");
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/amplitude.md");
    let docs = std::fs::read_to_string(docs).expect("the documentation");
    assert!(docs.contains(text), "docs/amplitude.md has no row {text:?}");
    for key in [API_KEY, SECRET_KEY] {
        assert!(!message.contains(key), "{message:?} shows a key");
    }
}

/// What a slice was set aside for.
fn broken(result: Result<(), SliceFailure>) -> String {
    match result {
        Err(SliceFailure::Broken(why)) => why,
        other => panic!("it should be set aside: {other:?}"),
    }
}

fn failed(result: Result<(), SliceFailure>) -> lakeward_model::Failure {
    match result {
        Err(SliceFailure::Source(failure)) => failure,
        other => panic!("it should fail for now: {other:?}"),
    }
}

/// `{"uuid": "<hour>/<part>/<line>"}`.
fn lines(hour: &str, part: usize, count: usize) -> Vec<String> {
    (1..=count).map(|line| format!(r#"{{"uuid": "{hour}/{part}/{line}"}}"#)).collect()
}

/// A member as Amplitude names it: `1/1_2026-03-01_5#0.json.gz`.
fn part(hour: &str, part: usize, lines: Vec<String>) -> Part {
    let (date, hour) = hour.split_once('T').expect("an hour");
    let hour = hour.strip_prefix('0').unwrap_or(hour);
    (format!("1/1_{date}_{hour}#{part}.json.gz"), lines)
}

fn hour_of(day: &str, hour: usize) -> String {
    format!("{day}T{hour:02}")
}

/// Two parts of three and two events in every hour of these days, but for every
/// fifth hour, which is empty.
fn days(days: &[&str]) -> World {
    let mut world = World::default();
    for day in days {
        for hour in (0..24).filter(|hour| hour % 5 != 4).map(|hour| hour_of(day, hour)) {
            let parts = vec![part(&hour, 2, lines(&hour, 2, 3)), part(&hour, 10, lines(&hour, 10, 2))];
            world.hours.insert(hour, parts);
        }
    }
    world
}

/// All records of a day of [`days`], in order.
fn expected(day: &str) -> Vec<String> {
    let hours = (0..24).filter(|hour| hour % 5 != 4).map(|hour| hour_of(day, hour));
    hours.flat_map(|hour| [lines(&hour, 2, 3), lines(&hour, 10, 2)].concat()).collect()
}

fn window(start: &str, end: &str) -> (String, String) {
    (start.into(), end.into())
}

/// System C asked from `T00` to `T00` of the next day, and so had that hour
/// twice; its days were those of the machine's time zone.
#[tokio::test]
async fn a_day_is_its_24_hours_in_utc_in_one_request() {
    let setting = Setting::start(days(&[DAY, "2026-03-02"])).await;
    let slices = setting.day(DAY).await;
    assert_eq!(slices.len(), 24);
    let taken = setting.take_all(&slices).await;
    assert_eq!(taken.records, expected(DAY));
    assert_eq!(setting.server.asked(), [window("20260301T00", "20260301T23")]);
    assert_eq!(taken.places[0], ("1_2026-03-01_0#2.json.gz".into(), 1));
    assert_eq!(taken.places[4], ("1_2026-03-01_0#10.json.gz".into(), 2));
    assert!(taken.troubles.is_empty());
    // The next day starts behind it.
    let next = setting.day("2026-03-02").await;
    setting.take_all(&next[..2]).await;
    assert_eq!(setting.server.asked()[1], window("20260302T00", "20260302T01"));
}

#[tokio::test]
async fn slices_are_computed_and_nobody_is_asked() {
    let setting = Setting::start(World::default()).await;
    let list = |wanted: Wanted, after: Option<&'static str>| {
        let source = &setting.source;
        async move { source.list(&wanted, after).await.expect("a list") }
    };
    let names = |page: &lakeward_model::SlicePage| -> Vec<String> {
        page.slices.iter().map(|slice| slice.name.clone()).collect()
    };
    let all = list(Wanted::default(), None).await;
    // It is 12:00: that hour is listed too, though it is not ready.
    assert_eq!((all.slices.len(), all.next.as_deref()), (37, None));
    let last = all.slices.last().expect("a slice");
    assert_eq!(last.name, "2026-03-02T12");
    assert_eq!(last.date, Some(instant("2026-03-02T12:00:00Z")));
    assert_eq!(last.ready_at, Some(instant("2026-03-02T15:00:00Z")));
    let sorted: Vec<String> = {
        let mut names = names(&all);
        names.sort();
        names
    };
    assert_eq!(names(&all), sorted);

    let behind = list(Wanted::default(), Some("2026-03-02T10")).await;
    assert_eq!(names(&behind), ["2026-03-02T11", "2026-03-02T12"]);
    let range = Wanted {
        from: Some(instant("2025-12-31T22:30:00Z")),
        to: Some(instant("2026-01-01T01:00:00Z")),
        ..Wanted::default()
    };
    // A run may want hours before the first one of the configuration.
    assert_eq!(names(&list(range, None).await), ["2025-12-31T23", "2026-01-01T00"]);

    setting.clock.set(instant("2026-12-31T00:00:00Z"));
    let (mut count, mut after) = (0, None);
    loop {
        let page = setting.source.list(&Wanted::default(), after.as_deref()).await.expect("a list");
        assert!(page.slices.len() <= 1_000);
        count += page.slices.len();
        let Some(next) = page.next else { break };
        after = Some(next);
    }
    assert_eq!(count, 305 * 24 + 1);
    let ever = Wanted { from: Some(Timestamp(i64::MIN)), to: Some(Timestamp(i64::MAX)), ..Wanted::default() };
    assert_eq!(setting.source.list(&ever, None).await.expect("a list").slices[0].name, "2012-01-02T00");
    assert!(setting.server.asked().is_empty());
}

#[tokio::test]
async fn an_hour_is_not_asked_for_before_its_time() {
    let setting = Setting::start(days(&[DAY, "2026-03-02"])).await;
    let slices = setting.day("2026-03-02").await;
    // "data sent between 8 and 9 PM … is available at 11 PM"
    let hour = &slices[10];
    setting.clock.set(instant("2026-03-02T12:59:00Z"));
    let mut taken = Taken::default();
    let early = failed(taken.take(&setting.source, hour, &[]).await);
    says(&early.message, "does not have all of hour");
    assert_eq!(early.retry_after, Some(Duration::from_secs(60)));
    assert!(setting.server.asked().is_empty());
    // Nor as one that comes along.
    taken.take(&setting.source, &slices[9], &slices[10..]).await.expect("it is ready");
    assert!(taken.records.is_empty(), "hour 9 has no events");
    assert_eq!(setting.server.asked(), [window("20260302T09", "20260302T09")]);
    setting.clock.set(instant("2026-03-02T13:00:00Z"));
    taken.take(&setting.source, hour, &slices[11..]).await.expect("it is ready");
    assert_eq!(taken.records.len(), 5);
    assert_eq!(setting.server.asked()[1], window("20260302T10", "20260302T10"));
}

#[tokio::test]
async fn hours_without_events_are_empty_and_asked_for_once() {
    let mut setting = Setting::start(World::default()).await;
    let slices = setting.day(DAY).await;
    let taken = setting.take_all(&slices[..10]).await;
    setting.restart();
    let rest = setting.take_all(&slices[10..]).await;
    assert!(taken.records.is_empty() && rest.records.is_empty());
    assert_eq!(setting.server.asked()[0], window("20260301T00", "20260301T09"));
    assert_eq!(setting.server.asked().len(), 2);
}

#[tokio::test]
async fn slices_that_are_opened_together_share_a_request() {
    let setting = Setting::with(days(&[DAY]), |config| config.parallel = 4).await;
    let slices = setting.day(DAY).await;
    let take = |number: usize| {
        let (source, slices) = (&setting.source, &slices);
        async move {
            let mut taken = Taken::default();
            taken.take(source, &slices[number], &slices[4..]).await.expect("it is taken");
            taken.records
        }
    };
    let (a, b, c, d) = tokio::join!(take(0), take(1), take(2), take(3));
    assert_eq!([a, b, c, d].concat(), expected(DAY)[..20]);
    assert_eq!(setting.server.asked(), [window("20260301T00", "20260301T23")]);
}

#[tokio::test]
async fn a_project_is_probed_without_a_trace() {
    let setting = Setting::start(days(&[DAY])).await;
    let found = AmplitudeSource::probe(&setting.config).await.expect("the keys are good");
    assert!(found.starts_with("the keys are good"), "{found}");
    assert_eq!(setting.server.asked().len(), 1);
    let bad = AmplitudeConfig { secret_key: Secret::new("wrong"), ..setting.config.clone() };
    says(
        &AmplitudeSource::probe(&bad).await.expect_err("refused").message,
        "check that api_key and secret_key",
    );
    assert!(setting.files().is_empty());
}
