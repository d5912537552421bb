//! Against a real S3 server: set `LAKEWARD_TEST_S3` to its endpoint,
//! `LAKEWARD_TEST_S3_ACCESS_KEY`, `LAKEWARD_TEST_S3_SECRET_KEY`, and
//! `LAKEWARD_TEST_S3_BUCKET` to a bucket that exists.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use lakeward_connectors::AwsAccess;
use lakeward_connectors::destinations::lake::{Lake, LakeConfig, ServerSideEncryption};
use lakeward_model::conformance::{Fault, Faulty, Lookup, Subject, destination_suite, sample_batch};
use lakeward_model::{Destination, FailureKind, LakePath, Secret, ids};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::aws_at;

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
        aws: AwsAccess {
            endpoint: Some(endpoint),
            region: Some("us-east-1".into()),
            access_key_id: variable("LAKEWARD_TEST_S3_ACCESS_KEY"),
            secret_access_key: variable("LAKEWARD_TEST_S3_SECRET_KEY").map(Secret::new),
            ..AwsAccess::default()
        },
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
    let check = async |aws: AwsAccess, expect: &str| {
        let config = LakeConfig { aws, ..server.clone() };
        let failure = open(&config).deliver(&sample_batch(1, 2, 10)).await.expect_err("refused");
        assert_eq!(failure.kind, FailureKind::Refused, "{failure:?}");
        assert!(failure.message.contains(expect), "{failure}");
        assert!(!format!("{failure:?}").contains("wrong-secret"), "no secret is shown");
    };
    let known = server.aws.clone();
    check(AwsAccess { secret_access_key: Some(Secret::new("wrong-secret")), ..known.clone() }, "secret")
        .await;
    check(AwsAccess { access_key_id: Some("nobody".into()), ..known }, "access key").await;
}

/// A server that gives these answers, the last of them for ever, and what it
/// was asked: `PUT /key` and the headers.
async fn script(answers: &'static [&'static str]) -> (LakeConfig, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked = Arc::new(Mutex::new(Vec::new()));
    tokio::spawn({
        let asked = Arc::clone(&asked);
        async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let Some(head) = read_request(&mut socket).await else { continue };
                let turn = {
                    let mut asked = asked.lock().expect("no panic");
                    asked.push(head);
                    asked.len() - 1
                };
                let answer = answers[turn.min(answers.len() - 1)];
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        }
    });
    let config = LakeConfig {
        aws: aws_at(&format!("http://{address}")),
        put_timeout: Duration::from_secs(1),
        ..LakeConfig::at("s3://bucket/prefix/")
    };
    (config, asked)
}

/// The request's head in lower case; its body is read and forgotten.
async fn read_request(socket: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let body = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..body]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    while bytes.len() < body + length.unwrap_or(0) {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

async fn answering(answer: &'static [&'static str]) -> LakeConfig {
    script(answer).await.0
}

const OK: &str = "HTTP/1.1 200 OK\r\netag: \"e\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const FOUND: &str = "HTTP/1.1 200 OK\r\netag: \"e\"\r\nlast-modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n\
    content-length: 77\r\nconnection: close\r\n\r\n";

/// The first words of each request's head.
fn verbs(asked: &Mutex<Vec<String>>) -> Vec<String> {
    let first = |head: &String| head.split(' ').next().unwrap_or_default().to_string();
    asked.lock().expect("no panic").iter().map(first).collect()
}

#[tokio::test]
async fn what_a_put_says() {
    let (config, asked) = script(&[OK]).await;
    let kms = ServerSideEncryption::Kms { key_id: "the-key".into() };
    let encryptions = [ServerSideEncryption::None, ServerSideEncryption::Aes256, kms];
    for server_side_encryption in encryptions {
        let lake = open(&LakeConfig { server_side_encryption, ..config.clone() });
        lake.deliver(&sample_batch(0, 1, 10)).await.expect("delivered");
    }
    let asked = asked.lock().expect("no panic").clone();
    let said = |head: &str, line: &str| head.lines().any(|l| l == line);
    for head in &asked {
        assert!(head.starts_with("put /bucket/prefix/stream%3dsuite/hour%3d00/"), "{head}");
        assert!(said(head, "if-none-match: *") && said(head, "content-encoding: gzip"), "{head}");
        assert!(said(head, "content-type: application/octet-stream"), "{head}");
    }
    assert!(!asked[0].contains("server-side-encryption"), "{}", asked[0]);
    assert!(said(&asked[1], "x-amz-server-side-encryption: aes256"), "{}", asked[1]);
    assert!(said(&asked[2], "x-amz-server-side-encryption: aws:kms"), "{}", asked[2]);
    assert!(said(&asked[2], "x-amz-server-side-encryption-aws-kms-key-id: the-key"), "{}", asked[2]);
}

#[tokio::test]
async fn a_store_without_conditional_puts_is_asked_first() {
    const UNKNOWN: &str = "HTTP/1.1 501 Not Implemented\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let (config, asked) = script(&[UNKNOWN, NOT_FOUND, OK, NOT_FOUND, OK, FOUND]).await;
    let lake = open(&config);
    for already_there in [false, false, true] {
        let receipt = lake.deliver(&sample_batch(1, 1, 10)).await.expect("delivered");
        assert_eq!(receipt.files[0].already_there, already_there);
    }
    assert_eq!(verbs(&asked), ["put", "head", "put", "head", "put", "head"]);
    assert!(!asked.lock().expect("no panic")[2].contains("if-none-match"));
}

#[tokio::test]
async fn a_conflict_is_success_only_if_something_is_there() {
    const CONFLICT: &str = "HTTP/1.1 409 Conflict\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    const TAKEN: &str = "HTTP/1.1 412 Precondition Failed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    const FORBIDDEN: &str = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let check = async |answers: &'static [&'static str], expect: Result<u64, FailureKind>| {
        let (config, asked) = script(answers).await;
        let found = open(&config).deliver(&sample_batch(1, 1, 10)).await;
        let found =
            found.map(|r| (r.files[0].already_there, r.files[0].bytes)).map_err(|failure| failure.kind);
        assert_eq!(found, expect.map(|bytes| (true, bytes)), "{answers:?}");
        assert_eq!(verbs(&asked), ["put", "head"]);
    };
    check(&[CONFLICT, NOT_FOUND], Err(FailureKind::NotDone)).await;
    check(&[CONFLICT, FOUND], Ok(77)).await;
    check(&[CONFLICT, FORBIDDEN], Err(FailureKind::Refused)).await;
    check(&[TAKEN, FOUND], Ok(77)).await;
    // Allowed to write and not to look: 412 alone says that it is there.
    check(&[TAKEN, FORBIDDEN], Ok(10)).await;
}

#[tokio::test]
async fn a_failed_upload_in_parts_is_given_up() {
    const BEGUN: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n\
        <InitiateMultipartUploadResult><UploadId>the-id</UploadId></InitiateMultipartUploadResult>";
    const BROKEN: &str = "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let (config, asked) = script(&[NOT_FOUND, BEGUN, BROKEN, OK]).await;
    let lake = open(&LakeConfig { multipart_size: 5 << 20, put_timeout: Duration::from_secs(20), ..config });
    let failure = lake.deliver(&sample_batch(1, 1, 6 << 20)).await.expect_err("a part fails");
    assert_eq!(failure.kind, FailureKind::Unknown, "{failure:?}");
    assert_eq!(verbs(&asked), ["head", "post", "put", "delete"]);
}

#[tokio::test]
async fn bad_answers_become_failures() {
    let check = async |answer: &'static [&'static str], kind: FailureKind, wait: Option<u64>, text: &str| {
        let config = answering(answer).await;
        let failure = open(&config).deliver(&sample_batch(1, 1, 10)).await.expect_err(answer[0]);
        assert_eq!((failure.kind, failure.retry_after), (kind, wait.map(Duration::from_secs)), "{failure:?}");
        assert!(failure.message.contains(text), "{failure}");
    };
    use FailureKind::{NotDone, Refused, Unknown};
    const DENIED: &str = "HTTP/1.1 403 Forbidden\r\ncontent-length: 73\r\nconnection: close\r\n\r\n\
        <Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>\n";
    check(&[DENIED], Refused, None, "403 AccessDenied: Access Denied (the credentials need s3:PutObject")
        .await;
    const NO_BUCKET: &str = "HTTP/1.1 404 Not Found\r\ncontent-length: 69\r\nconnection: close\r\n\r\n\
        <Error><Code>NoSuchBucket</Code><Message>No bucket</Message></Error>\n";
    check(&[NO_BUCKET], Refused, None, "404 NoSuchBucket: No bucket (check the bucket's name").await;
    const SLOW: &str =
        "HTTP/1.1 503 Slow Down\r\nretry-after: 7\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    check(&[SLOW], NotDone, Some(7), "503").await;
    const MANY: &str =
        "HTTP/1.1 429 Too Many\r\nretry-after: 999999\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    check(&[MANY], NotDone, Some(300), "429").await;
    check(&["HTTP/1.1 500 Oops\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"], Unknown, None, "500")
        .await;
    check(&["HTTP/1.1 301 Moved\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"], Refused, None, "region")
        .await;
    // The answer is lost: the connection ends, or nothing ever comes.
    check(&["HTTP/1.1 20"], Unknown, None, "s3://bucket/prefix/").await;
    const STALLS: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n";
    check(&[STALLS], Unknown, None, "").await;
}

#[tokio::test]
async fn a_server_that_is_not_there_has_done_nothing() {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", free.local_addr().expect("an address"));
    drop(free);
    let config = LakeConfig { aws: aws_at(&endpoint), ..answering(&[""]).await };
    let failure = open(&config).deliver(&sample_batch(1, 1, 10)).await.expect_err("nobody listens");
    assert_eq!(failure.kind, FailureKind::NotDone, "{failure:?}");
}

#[tokio::test]
async fn missing_credentials_are_refused() {
    let mut config = answering(&[""]).await;
    let profile = Some(String::from("lakeward-has-no-such-profile"));
    config.aws = AwsAccess { profile, access_key_id: None, secret_access_key: None, ..config.aws };
    let failure = open(&config).deliver(&sample_batch(1, 1, 10)).await.expect_err("no credentials");
    assert_eq!(failure.kind, FailureKind::Refused, "{failure:?}");
    assert!(failure.message.contains("no usable AWS credentials"), "{failure}");
}
