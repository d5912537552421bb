//! Against a real S3 server: set `LAKEWARD_TEST_S3` to its endpoint,
//! `LAKEWARD_TEST_S3_ACCESS_KEY`, `LAKEWARD_TEST_S3_SECRET_KEY`, and
//! `LAKEWARD_TEST_S3_BUCKET` to a bucket that exists.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use lakeward_connectors::destinations::lake::{Lake, LakeConfig};
use lakeward_model::conformance::{Fault, Faulty, Lookup, Subject, destination_suite, sample_batch};
use lakeward_model::{Destination, FailureKind, LakePath, Secret, ids};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// The server's bucket, if there is one to test against.
fn server() -> Option<LakeConfig> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let Some(endpoint) = variable("LAKEWARD_TEST_S3") else {
        assert!(
            variable("LAKEWARD_REQUIRE_SERVERS").is_none(),
            "LAKEWARD_REQUIRE_SERVERS is set and LAKEWARD_TEST_S3 is not"
        );
        println!("skipped: LAKEWARD_TEST_S3 is not set");
        return None;
    };
    let bucket = variable("LAKEWARD_TEST_S3_BUCKET").expect("LAKEWARD_TEST_S3_BUCKET is set");
    Some(LakeConfig {
        endpoint: Some(endpoint),
        region: Some("us-east-1".into()),
        access_key_id: variable("LAKEWARD_TEST_S3_ACCESS_KEY"),
        secret_access_key: variable("LAKEWARD_TEST_S3_SECRET_KEY").map(Secret::new),
        ..LakeConfig::at(format!("s3://{bucket}/"))
    })
}

/// The same under a prefix that nobody has used.
fn fresh(config: &LakeConfig) -> LakeConfig {
    LakeConfig { url: format!("{}it/{}/", config.url, ids::fresh()), ..config.clone() }
}

struct Bucket(Lake);

#[async_trait::async_trait]
impl Lookup for Bucket {
    async fn paths(&self) -> Vec<LakePath> {
        self.0.list("").map_ok(|object| object.path).try_collect().await.expect("listed")
    }

    async fn bytes(&self, path: &LakePath) -> Option<Bytes> {
        self.0.get(path, None).await.ok()
    }
}

fn open(config: &LakeConfig) -> Lake {
    Lake::open(config).expect("it opens")
}

#[tokio::test]
async fn a_bucket_passes_the_suite() {
    let Some(server) = server() else { return };
    destination_suite(async || {
        let config = fresh(&server);
        Subject {
            destination: Arc::new(open(&config)),
            lookup: Arc::new(Bucket(open(&config))),
            faulty: false,
        }
    })
    .await;
}

#[tokio::test]
async fn a_faulty_bucket_passes_the_suite() {
    let Some(server) = server() else { return };
    let faults =
        [Fault::FailAfterWrite, Fault::Reject(FailureKind::Unknown), Fault::Slow(Duration::from_millis(5))];
    destination_suite(async || {
        let config = fresh(&server);
        let faulty = Faulty::new(open(&config), faults);
        Subject { destination: Arc::new(faulty), lookup: Arc::new(Bucket(open(&config))), faulty: true }
    })
    .await;
}

#[tokio::test]
async fn listing_reading_and_probing_a_bucket() {
    let Some(server) = server() else { return };
    let config = fresh(&server);
    let lake = open(&config);
    let batch = sample_batch(1, 30, 100);
    lake.deliver(&batch).await.expect("delivered");
    assert_eq!(lake.to_string(), config.url);
    let mut expected: Vec<String> = batch.files.iter().map(|f| f.path.to_string()).collect();
    expected.sort();
    assert_eq!(super::local::list(&lake, "").await, expected);
    assert_eq!(super::local::list(&lake, "stream=suite/hour=00").await.len(), 2);
    assert!(super::local::list(&lake, "nope").await.is_empty());
    let file = &batch.files[3];
    assert_eq!(lake.get(&file.path, Some(10..20)).await.expect("there"), file.body.slice(10..20));
    let results = lake.probe().await;
    assert!(results.len() == 5 && results.iter().all(|r| r.ok), "{results:?}");
    assert_eq!(super::local::list(&lake, "").await.len(), 30, "the probe left nothing");
}

#[tokio::test]
async fn a_servers_refusals_say_what_to_check() {
    let Some(server) = server() else { return };
    let check = async |config: LakeConfig, expect: &str| {
        let failure = open(&config).deliver(&sample_batch(1, 2, 10)).await.expect_err("refused");
        assert_eq!(failure.kind, FailureKind::Refused, "{failure:?}");
        assert!(failure.message.contains(expect), "{failure}");
        assert!(!format!("{failure:?}").contains("wrong-secret"), "no secret is shown");
    };
    check(LakeConfig { secret_access_key: Some(Secret::new("wrong-secret")), ..server.clone() }, "secret")
        .await;
    check(LakeConfig { access_key_id: Some("nobody".into()), ..server.clone() }, "access key").await;
}

/// A server that gives one answer to every request.
async fn answering(answer: &'static str) -> LakeConfig {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.windows(4).any(|w| w == b"\r\n\r\n") {
                    if socket.read_buf(&mut head).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let _ = socket.write_all(answer.as_bytes()).await;
            });
        }
    });
    LakeConfig {
        endpoint: Some(format!("http://{address}")),
        access_key_id: Some("a".into()),
        secret_access_key: Some(Secret::new("b")),
        put_timeout: Duration::from_secs(1),
        ..LakeConfig::at("s3://bucket/prefix/")
    }
}

#[tokio::test]
async fn bad_answers_become_failures() {
    let check = async |answer: &'static str, kind: FailureKind, wait: Option<u64>, text: &str| {
        let config = answering(answer).await;
        let failure = open(&config).deliver(&sample_batch(1, 1, 10)).await.expect_err(answer);
        assert_eq!((failure.kind, failure.retry_after), (kind, wait.map(Duration::from_secs)), "{failure:?}");
        assert!(failure.message.contains(text), "{failure}");
    };
    use FailureKind::{NotDone, Refused, Unknown};
    const DENIED: &str = "HTTP/1.1 403 Forbidden\r\ncontent-length: 73\r\nconnection: close\r\n\r\n\
        <Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>\n";
    check(DENIED, Refused, None, "403 AccessDenied: Access Denied (the credentials need s3:PutObject").await;
    const NO_BUCKET: &str = "HTTP/1.1 404 Not Found\r\ncontent-length: 69\r\nconnection: close\r\n\r\n\
        <Error><Code>NoSuchBucket</Code><Message>No bucket</Message></Error>\n";
    check(NO_BUCKET, Refused, None, "404 NoSuchBucket: No bucket (check the bucket's name").await;
    let slow = "HTTP/1.1 503 Slow Down\r\nretry-after: 7\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    check(slow, NotDone, Some(7), "503").await;
    let many =
        "HTTP/1.1 429 Too Many\r\nretry-after: 999999\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    check(many, NotDone, Some(300), "429").await;
    check("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", Unknown, None, "500").await;
    check("HTTP/1.1 301 Moved\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", Refused, None, "region")
        .await;
    // The answer is lost: the connection ends, or nothing ever comes.
    check("HTTP/1.1 20", Unknown, None, "s3://bucket/prefix/").await;
    let stalls = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n";
    check(stalls, Unknown, None, "").await;
}

#[tokio::test]
async fn a_server_that_is_not_there_has_done_nothing() {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", free.local_addr().expect("an address"));
    drop(free);
    let config = LakeConfig { endpoint: Some(endpoint), ..answering("").await };
    let failure = open(&config).deliver(&sample_batch(1, 1, 10)).await.expect_err("nobody listens");
    assert_eq!(failure.kind, FailureKind::NotDone, "{failure:?}");
}

#[tokio::test]
async fn missing_credentials_are_refused() {
    let config = LakeConfig {
        access_key_id: None,
        secret_access_key: None,
        profile: Some("lakeward-has-no-such-profile".into()),
        ..answering("").await
    };
    let failure = open(&config).deliver(&sample_batch(1, 1, 10)).await.expect_err("no credentials");
    assert_eq!(failure.kind, FailureKind::Refused, "{failure:?}");
    assert!(failure.message.contains("no usable AWS credentials"), "{failure}");
}
