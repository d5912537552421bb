//! The Livestream source against a server that does as it is told.

mod server;

use std::time::Duration;

use lakeward_connectors::sources::adobe_livestream::{AdobeLivestreamConfig, AdobeLivestreamSource, Reset};
use lakeward_model::{Cursor, Failure, FailureKind, Page, Secret, Source};

use server::{End, Reply, Server, gzip};

const SECRET: &str = "s3cr3t";

fn config(server: &Server) -> AdobeLivestreamConfig {
    AdobeLivestreamConfig {
        livestream: "acme".into(),
        endpoint: Some(server.address.clone()),
        token_url: Some(format!("{}/ims/token/v3", server.address)),
        client_id: "id".into(),
        client_secret: Secret::new(SECRET),
        scopes: "openid, AdobeID".into(),
        read_timeout: Duration::from_secs(20),
        ..AdobeLivestreamConfig::default()
    }
}

/// A source and what is stored of it, as the engine has them.
struct Puller {
    source: AdobeLivestreamSource,
    cursor: Option<Cursor>,
    records: Vec<String>,
    troubles: String,
    _folder: tempfile::TempDir,
}

impl Puller {
    fn new(config: &AdobeLivestreamConfig) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let source = AdobeLivestreamSource::open(config, folder.path()).expect("a source");
        Self { source, cursor: None, records: Vec::new(), troubles: String::new(), _folder: folder }
    }

    /// One poll, and its page stored.
    async fn poll(&mut self) -> Result<Page, Failure> {
        let page = self.source.poll(self.cursor.as_ref()).await?;
        self.cursor = Some(page.next.clone());
        self.records.extend(page.records.iter().map(|record| String::from_utf8_lossy(record).into_owned()));
        self.troubles += page.trouble.as_deref().unwrap_or_default();
        Ok(page)
    }

    /// Polls, as the engine does also after failures, until `done`.
    async fn until(&mut self, done: impl Fn(&Self) -> bool) -> Vec<Failure> {
        let mut failures = Vec::new();
        let polling = async {
            while !done(self) {
                if let Err(failure) = self.poll().await {
                    let pause = failure.retry_after.unwrap_or(Duration::from_millis(10));
                    failures.push(failure);
                    tokio::time::sleep(pause).await;
                }
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(60), polling).await;
        assert!(ended.is_ok(), "still not there: {:?} {:?} {failures:?}", self.records, self.troubles);
        failures
    }

    /// The failure of the next poll that fails.
    async fn failure(&mut self) -> Failure {
        for _ in 0..20 {
            if let Err(failure) = self.poll().await {
                return failure;
            }
        }
        panic!("no poll failed");
    }

    fn progress(&self) -> serde_json::Value {
        serde_json::from_slice(&self.cursor.as_ref().expect("a cursor").0).expect("JSON")
    }
}

fn hits(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!(r#"{{"hitIdHigh":{number},"hitIdLow":18446744073709551615}}"#)).collect()
}

fn text(numbers: std::ops::Range<u32>) -> String {
    hits(numbers).iter().map(|hit| format!("{hit}\r\n")).collect()
}

fn streamed(text: &str, end: End) -> Reply {
    Reply::Stream(vec![gzip(text)], end)
}

#[tokio::test]
async fn a_request_is_as_adobe_asks_for_and_records_come_without_keep_alives() {
    let server = Server::start(vec![streamed("\r\n{\"a\":1}\r\n\r\n\r\n{\"a\":2}\r\n", End::Silent)]).await;
    let mut puller = Puller::new(&config(&server));
    puller.until(|p| p.records.len() == 2).await;
    assert_eq!(puller.records, [r#"{"a":1}"#, r#"{"a":2}"#]);
    let state = server.state();
    let asked = state.asked[0].to_ascii_lowercase();
    assert!(
        asked.starts_with("get /api/1/stream/adobe-livestream-acme?maxconnections=1 http/1.1"),
        "{asked}"
    );
    for line in ["authorization: bearer token-1", "x-api-key: id", "accept-encoding: gzip"] {
        assert!(asked.lines().any(|have| have == line), "{line} in {asked}");
    }
    let form = "grant_type=client_credentials&client_id=id&client_secret=s3cr3t&scope=openid%2CAdobeID";
    assert_eq!(state.forms, [form]);
}

#[tokio::test]
async fn records_may_be_cut_anywhere() {
    let packed = gzip(&text(0..50));
    for size in [1, 2, 7, 100, packed.len()] {
        let pieces = packed.chunks(size).map(<[u8]>::to_vec).collect();
        let server = Server::start(vec![Reply::Stream(pieces, End::InOrder)]).await;
        let mut puller = Puller::new(&config(&server));
        puller.until(|p| p.records.len() >= 50).await;
        assert_eq!(puller.records, hits(0..50), "pieces of {size}");
    }
}

#[tokio::test]
async fn a_proxy_that_unpacks_is_forgiven() {
    let server = Server::start(vec![Reply::Plain(vec![text(0..3).into_bytes()])]).await;
    let mut puller = Puller::new(&config(&server));
    puller.until(|p| p.records.len() >= 3).await;
    assert_eq!(puller.records, hits(0..3));
}

#[tokio::test]
async fn every_status_says_what_to_do() {
    use FailureKind::{NotDone, Refused, Unknown};
    let cases: [(u16, FailureKind, &str); 12] = [
        (400, Refused, "max_connections"),
        (403, Refused, "Customer Care"),
        (404, Refused, "livestream"),
        (405, Refused, "proxy"),
        (406, Refused, "Accept-Encoding"),
        (409, NotDone, "max_connections"),
        (424, Refused, "version: 1"),
        (429, NotDone, "later"),
        (500, Unknown, "later"),
        (502, Unknown, "later"),
        (503, NotDone, "reset"),
        (505, Refused, "HTTP/1.1"),
    ];
    let mut tasks = tokio::task::JoinSet::new();
    for (status, kind, words) in cases {
        tasks.spawn(async move {
            let body = r#"{"error":"no","error_description":"said by Adobe of token-1 and s3cr3t"}"#;
            let server = Server::start(vec![Reply::Status(status, body)]).await;
            let failure = Puller::new(&config(&server)).failure().await;
            let said = failure.message;
            assert_eq!(failure.kind, kind, "{status}: {said}");
            assert!(said.contains(words) && said.contains(&status.to_string()), "{status}: {said}");
            assert!(said.contains("said by Adobe"), "{said}");
            assert!(!said.contains(SECRET) && !said.contains("token-1"), "{said}");
            assert!(failure.retry_after.is_some_and(|wait| wait > Duration::ZERO), "{status}");
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("a case");
    }
}

#[tokio::test]
async fn after_a_failure_it_goes_on_by_itself() {
    let replies = vec![
        Reply::Status(503, ""),
        Reply::Close,
        Reply::Status(500, ""),
        streamed(&text(0..2), End::Silent),
    ];
    let server = Server::start(replies).await;
    let mut puller = Puller::new(&config(&server));
    let failures = puller.until(|p| p.records.len() == 2).await;
    assert_eq!(failures.len(), 3, "{failures:?}");
    // Each pause is longer, and none is nothing.
    assert!(failures.iter().all(|f| f.retry_after.is_some_and(|wait| wait >= Duration::from_millis(200))));
}

#[tokio::test]
async fn a_redirection_to_another_host_keeps_authorization_and_encoding() {
    let other = Server::start(vec![streamed(&text(0..2), End::Silent)]).await;
    let to = format!("{}/elsewhere?x=1", other.address);
    let server = Server::start(vec![Reply::Redirect("/again".into()), Reply::Redirect(to)]).await;
    let mut puller = Puller::new(&config(&server));
    puller.until(|p| p.records.len() == 2).await;
    let asked = other.state().asked[0].to_ascii_lowercase();
    assert!(asked.starts_with("get /elsewhere?x=1 "), "{asked}");
    assert!(
        asked.contains("authorization: bearer token-1") && asked.contains("accept-encoding: gzip"),
        "{asked}"
    );
    assert!(server.state().asked[1].starts_with("GET /again "));
}

#[tokio::test]
async fn redirections_end_and_never_show_the_token() {
    let server = Server::start(vec![Reply::Redirect("/round".into()); 20]).await;
    let failure = Puller::new(&config(&server)).failure().await;
    assert!(failure.message.contains("more than 5 times"), "{failure}");
    assert_eq!(server.state().asked.len(), 6);
    let server = Server::start(vec![Reply::Redirect("http://adobe.example/x?key=1".into())]).await;
    let failure = Puller::new(&config(&server)).failure().await;
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(failure.message.contains("adobe.example") && !failure.message.contains("key"), "{failure}");
    assert!(failure.message.contains("TLS"), "{failure}");
}

#[tokio::test]
async fn reset_is_asked_for_once_and_never_on_a_reconnect() {
    for (reset, word) in [(Reset::Largest, "reset=largest"), (Reset::Smallest, "reset=smallest")] {
        let replies = vec![
            streamed(&text(0..1), End::Cut),
            streamed(&text(1..2), End::InOrder),
            streamed(&text(2..3), End::Silent),
        ];
        let server = Server::start(replies).await;
        let config = AdobeLivestreamConfig { reset: Some(reset), ..config(&server) };
        let mut puller = Puller::new(&config);
        puller.until(|p| p.records.len() == 2).await;
        // A restart is a reconnect.
        let mut again = Puller { cursor: puller.cursor.take(), ..Puller::new(&config) };
        drop(puller);
        again.until(|p| !p.records.is_empty()).await;
        let asked = server.state().asked.clone();
        let with: Vec<bool> = asked.iter().map(|head| head.contains(word)).collect();
        assert!(with[0] && with.len() >= 2 && !with[1..].contains(&true), "{asked:?}");
        assert!(asked[1..].iter().all(|head| !head.contains("reset")), "{asked:?}");
    }
}

#[tokio::test]
async fn the_oldest_are_asked_for_until_some_came_and_the_newest_only_once() {
    for (reset, twice) in [(Reset::Smallest, true), (Reset::Largest, false)] {
        let server =
            Server::start(vec![streamed("\r\n", End::Cut), streamed(&text(0..1), End::Silent)]).await;
        let mut puller = Puller::new(&AdobeLivestreamConfig { reset: Some(reset), ..config(&server) });
        puller.until(|p| !p.records.is_empty()).await;
        let asked = server.state().asked.clone();
        assert!(asked[0].contains("reset="), "{asked:?}");
        assert_eq!(asked[1].contains("reset="), twice, "{asked:?}");
    }
}

#[tokio::test]
async fn a_page_that_was_not_stored_is_handed_out_again() {
    let server = Server::start(vec![streamed(&text(0..3), End::Silent)]).await;
    let mut puller = Puller::new(&config(&server));
    let lost = loop {
        let page = puller.source.poll(puller.cursor.as_ref()).await.expect("a page");
        if !page.records.is_empty() {
            break page;
        }
        puller.cursor = Some(page.next);
    };
    let again = puller.poll().await.expect("the same page");
    assert_eq!((again.records.len(), &again.next), (3, &lost.next));
    assert_eq!(puller.records, hits(0..3));
    // Stored now: it is not handed out a third time.
    assert!(puller.poll().await.expect("a page").records.is_empty());
    assert_eq!(puller.progress()["records"], 3);
}

#[tokio::test]
async fn a_poll_that_is_dropped_loses_nothing() {
    let server = Server::start(vec![streamed(&text(0..40), End::KeepsAlive)]).await;
    let mut puller = Puller::new(&config(&server));
    for _ in 0..40 {
        let cursor = puller.cursor.clone();
        // Whatever it is in the middle of.
        let _ = tokio::time::timeout(Duration::from_millis(3), puller.source.poll(cursor.as_ref())).await;
    }
    puller.until(|p| p.records.len() >= 40).await;
    assert_eq!(puller.records, hits(0..40));
}

#[tokio::test]
async fn an_old_token_is_renewed_and_so_is_one_that_is_refused() {
    let replies = vec![
        Reply::Status(401, "not authorized"),
        streamed(&text(0..1), End::Cut),
        streamed(&text(1..2), End::KeepsAlive),
    ];
    let server = Server::start(replies).await;
    server.state().token_life = 3;
    let mut puller = Puller::new(&config(&server));
    let failures = puller.until(|p| p.records.len() == 2).await;
    assert!(failures.is_empty(), "{failures:?}");
    {
        let state = server.state();
        assert!(
            state.asked[0].contains("token-1") && state.asked[1].contains("token-2"),
            "{:?}",
            state.asked
        );
    }
    // The connection stands, and the token is renewed beside it.
    puller.until(|_| server.state().tokens >= 4).await;
    assert_eq!(server.state().asked.len(), 3);
}

#[tokio::test]
async fn a_token_that_stays_refused_is_said() {
    let server = Server::start(vec![Reply::Status(401, "not authorized"); 2]).await;
    let failure = Puller::new(&config(&server)).failure().await;
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(failure.message.contains("not authorized") && failure.message.contains("client_id"), "{failure}");
    assert_eq!(server.state().tokens, 2);
}

#[tokio::test]
async fn wrong_credentials_are_said_without_them() {
    let check = |reply: (u16, &'static str), kind, words: &'static str| async move {
        let server = Server::start(Vec::new()).await;
        server.state().token_replies.push_back(reply);
        let failure = Puller::new(&config(&server)).failure().await;
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(failure.message.contains(words) && !failure.message.contains(SECRET), "{failure}");
        assert!(server.state().asked.is_empty());
    };
    let invalid = r#"{"error":"invalid_client","error_description":"invalid s3cr3t parameter"}"#;
    check((400, invalid), FailureKind::Refused, "invalid_client").await;
    check((401, ""), FailureKind::Refused, "client_secret").await;
    check((429, ""), FailureKind::NotDone, "later").await;
    check((500, ""), FailureKind::Unknown, "later").await;
    check((404, ""), FailureKind::Refused, "token_url").await;
}

#[tokio::test]
async fn instances_share_one_token_through_its_file() {
    let server = Server::start(Vec::new()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let shared =
        AdobeLivestreamConfig { token_file: Some(folder.path().join("shared/token")), ..config(&server) };
    let mut pullers: Vec<Puller> = (0..8).map(|_| Puller::new(&shared)).collect();
    // All at once: one asks, the others find what it got.
    futures::future::join_all(
        pullers.iter_mut().map(|p| p.until(|p| server.state().asked.len() > 7 && p.cursor.is_some())),
    )
    .await;
    assert_eq!(server.state().tokens, 1);
    // Another credential does not take it.
    let other = AdobeLivestreamConfig { client_id: "other".into(), ..shared.clone() };
    Puller::new(&other).until(|_| server.state().asked.len() > 8).await;
    assert_eq!(server.state().tokens, 2);
    // And rubbish in the file is no token.
    std::fs::write(folder.path().join("shared/token"), b"\0rubbish").expect("written");
    Puller::new(&shared).until(|_| server.state().asked.len() > 9).await;
    assert_eq!(server.state().tokens, 3);
}

#[tokio::test]
async fn a_probe_asks_for_a_new_token_and_takes_no_connection() {
    let server = Server::start(Vec::new()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let source = AdobeLivestreamSource::open(&config(&server), folder.path()).expect("a source");
    for tokens in 1..3 {
        assert!(source.probe().await.expect("a token").contains("adobe-livestream-acme"));
        assert_eq!(server.state().tokens, tokens);
    }
    assert!(server.state().asked.is_empty());
}

#[tokio::test]
async fn silence_is_noticed_and_keep_alives_are_not_silence() {
    let server = Server::start(vec![
        streamed(&text(0..1), End::Silent),
        Reply::Stream(vec![gzip(&text(1..2))], End::KeepsAlive),
    ])
    .await;
    let mut puller =
        Puller::new(&AdobeLivestreamConfig { read_timeout: Duration::from_millis(600), ..config(&server) });
    puller.until(|p| p.records.len() == 2).await;
    assert!(puller.troubles.contains("not even an empty record"), "{}", puller.troubles);
    for _ in 0..3 {
        puller.poll().await.expect("it lives");
    }
    assert_eq!(server.state().asked.len(), 2);
}

#[tokio::test]
async fn time_in_which_nobody_polls_is_no_silence() {
    let server = Server::start(vec![streamed(&text(0..1), End::Silent)]).await;
    let mut puller =
        Puller::new(&AdobeLivestreamConfig { read_timeout: Duration::from_secs(3), ..config(&server) });
    puller.until(|p| p.records.len() == 1).await;
    // The journal was full for longer than that.
    tokio::time::sleep(Duration::from_millis(3_200)).await;
    puller.poll().await.expect("it lives");
    assert_eq!(server.state().asked.len(), 1);
}

#[tokio::test]
async fn garbage_ends_the_connection_and_nothing_else() {
    let mut bytes = gzip(&text(0..2));
    bytes.extend_from_slice(b"no gzip, this");
    let server =
        Server::start(vec![Reply::Stream(vec![bytes], End::Silent), streamed(&text(2..3), End::Silent)])
            .await;
    let mut puller = Puller::new(&config(&server));
    puller.until(|p| p.records.len() == 3).await;
    assert_eq!(puller.records, hits(0..3));
    assert!(puller.troubles.contains("no gzip"), "{}", puller.troubles);
}

#[tokio::test]
async fn half_a_record_at_a_cut_is_none() {
    let server = Server::start(vec![
        streamed(&format!("{}{{\"hitIdHigh\":1,\"hit", text(0..1)), End::InOrder),
        streamed(&text(1..2), End::Silent),
    ])
    .await;
    let mut puller = Puller::new(&config(&server));
    puller.until(|p| p.records.len() >= 2).await;
    assert_eq!(puller.records, hits(0..2));
}

#[tokio::test]
async fn an_endpoint_that_closes_at_once_is_not_asked_in_a_tight_loop() {
    let server = Server::start(vec![Reply::Stream(Vec::new(), End::InOrder); 100]).await;
    let mut puller = Puller::new(&config(&server));
    let began = tokio::time::Instant::now();
    let mut failed = 0;
    while began.elapsed() < Duration::from_secs(3) {
        if let Err(failure) = puller.poll().await {
            failed += 1;
            tokio::time::sleep(failure.retry_after.unwrap_or_default()).await;
        }
    }
    let asked = server.state().asked.len();
    assert!((2..=6).contains(&asked), "{asked}");
    assert!(failed >= 1);
}

#[tokio::test]
async fn several_connections_are_read_side_by_side_and_one_that_fails_stops_none() {
    let replies = vec![
        streamed(&text(0..10), End::KeepsAlive),
        streamed(&text(10..20), End::KeepsAlive),
        Reply::Status(409, r#"{"error_description":"too many clients"}"#),
        streamed(&text(20..30), End::KeepsAlive),
    ];
    let server = Server::start(replies).await;
    let config = AdobeLivestreamConfig { max_connections: 4, connections: 3, ..config(&server) };
    let mut puller = Puller::new(&config);
    puller.until(|p| p.records.len() >= 30).await;
    puller.records.sort();
    let mut expect = hits(0..30);
    expect.sort();
    assert_eq!(puller.records, expect);
    assert!(puller.troubles.contains("too many clients"), "{}", puller.troubles);
    assert!(server.state().asked.iter().all(|head| head.contains("maxConnections=4")));
}

#[tokio::test]
async fn more_than_a_page_comes_in_several() {
    let line = format!("{{\"a\":\"{}\"}}\r\n", "x".repeat(4_000));
    let server = Server::start(vec![streamed(&line.repeat(4_000), End::Silent)]).await;
    let mut puller = Puller::new(&config(&server));
    let (mut pages, mut largest) = (0, 0);
    while puller.records.len() < 4_000 {
        let page = puller.poll().await.expect("a page");
        pages += usize::from(!page.records.is_empty());
        largest = largest.max(page.records.data.len());
    }
    assert!(pages >= 4 && largest < (4 << 20) + (64 << 10), "{pages} {largest}");
}

#[tokio::test]
async fn a_foreign_cursor_is_refused() {
    let server = Server::start(Vec::new()).await;
    let mut puller = Puller::new(&config(&server));
    puller.cursor = Some(Cursor(bytes::Bytes::from_static(b"{\"shards\":{}}")));
    let failure = puller.failure().await;
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(failure.message.contains("a stream of its own"), "{failure}");
}
