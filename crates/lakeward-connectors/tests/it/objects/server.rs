//! A small S3 and SQS in memory, which misbehaves when it is told to.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use lakeward_connectors::sources::objects::ObjectsConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::aws_at;

/// What the server has and was asked.
#[derive(Default)]
pub(super) struct State {
    pub(super) objects: BTreeMap<String, Bytes>,
    /// `GET key` and `LIST prefix`, with what stands behind.
    pub(super) asked: Vec<String>,
    /// So many answers to a GET of an object break off in their middle.
    pub(super) cut: usize,
    /// Each of these is the answer to the next request instead of the right one.
    pub(super) instead: VecDeque<(u16, &'static str)>,
    /// Objects that nobody may look at, and whether messages cannot be deleted.
    pub(super) forbidden: Vec<String>,
    pub(super) undeletable: bool,
    pub(super) queue: Vec<Message>,
    pub(super) deleted: Vec<String>,
    pub(super) hidden: Vec<(String, u64)>,
}

pub(super) struct Message {
    pub(super) receipt: String,
    pub(super) body: String,
    pub(super) visible: bool,
}

#[derive(Clone)]
pub(super) struct Server {
    pub(super) address: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let server = Self { address, state: Arc::default() };
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let server = accepting.clone();
                tokio::spawn(async move { server.serve(socket).await });
            }
        });
        server
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    pub(super) fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        self.state().objects.insert(key.into(), bytes.into());
    }

    pub(super) fn send(&self, body: &Value) {
        let mut state = self.state();
        let receipt = format!("r{}", state.queue.len());
        state.queue.push(Message { receipt, body: body.to_string(), visible: true });
    }

    /// A source of all objects of the bucket `b`.
    pub(super) fn config(&self) -> ObjectsConfig {
        ObjectsConfig { url: "s3://b/".into(), aws: aws_at(&self.address), ..ObjectsConfig::default() }
    }

    async fn serve(&self, mut socket: TcpStream) {
        let mut bytes = Vec::new();
        while let Some((head, body)) = request(&mut socket, &mut bytes).await {
            let (answer, whole) = self.answer(&head, &body);
            if socket.write_all(&answer).await.is_err() || !whole {
                return;
            }
        }
    }

    /// The answer, and whether it is all of it.
    fn answer(&self, head: &str, body: &[u8]) -> (Vec<u8>, bool) {
        let mut state = self.state();
        if let Some((status, text)) = state.instead.pop_front() {
            return (reply(status, "", text.as_bytes()), true);
        }
        let mut first = head.split(' ');
        let (method, path) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        if method == "POST" {
            return (state.queue(head, body), true);
        }
        let key = decoded(path.trim_start_matches("/b").trim_start_matches('/'));
        if key.is_empty() {
            return (state.list(query), true);
        }
        state.object(method, &key, head)
    }
}

impl State {
    fn list(&mut self, query: &str) -> Vec<u8> {
        let parameter = |name: &str| {
            let found = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
            found.map(decoded).unwrap_or_default()
        };
        let (prefix, after) =
            (parameter("prefix"), parameter("start-after").max(parameter("continuation-token")));
        let count: usize = parameter("max-keys").parse().unwrap_or(1_000);
        self.asked.push(format!("LIST {prefix} {after} {count}"));
        let mut found = self.objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > after);
        let mut text = String::from("<ListBucketResult>");
        let mut last = String::new();
        for (key, bytes) in found.by_ref().take(count) {
            let _ = write!(
                text,
                "<Contents><Key>{key}</Key><Size>{}</Size><LastModified>2026-03-01T05:00:00.000Z</LastModified>\
                 <ETag>&quot;{}&quot;</ETag></Contents>",
                bytes.len(),
                etag(bytes)
            );
            last.clone_from(key);
        }
        if found.next().is_some() {
            let _ = write!(text, "<NextContinuationToken>{last}</NextContinuationToken>");
        }
        text.push_str("</ListBucketResult>");
        reply(200, "", text.as_bytes())
    }

    fn object(&mut self, method: &str, key: &str, head: &str) -> (Vec<u8>, bool) {
        let header = |name: &str| {
            let line = |line: &&str| line.to_lowercase().starts_with(&format!("{name}: "));
            head.lines().find(line).and_then(|line| line.split_once(": ")).map(|(_, value)| value.to_string())
        };
        if self.forbidden.iter().any(|forbidden| forbidden == key) {
            return (reply(403, "", b""), true);
        }
        let range = header("range");
        self.asked.push(format!("{method} {key} {}", range.clone().unwrap_or_default()).trim_end().into());
        let Some(bytes) = self.objects.get(key).cloned() else {
            return (reply(404, "", b"<Error><Code>NoSuchKey</Code><Message>gone</Message></Error>"), true);
        };
        let etag = format!("\"{}\"", etag(&bytes));
        if header("if-match").is_some_and(|wanted| wanted != etag) {
            return (reply(412, "", b"<Error><Code>PreconditionFailed</Code></Error>"), true);
        }
        let about = format!("etag: {etag}\r\nlast-modified: Sun, 01 Mar 2026 05:00:00 GMT\r\n");
        if method == "HEAD" {
            let head = format!("HTTP/1.1 200 OK\r\n{about}content-length: {}\r\n\r\n", bytes.len());
            return (head.into_bytes(), true);
        }
        let answer = match range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) {
            Some((from, to)) => {
                let (from, to): (usize, usize) =
                    (from.parse().expect("a number"), to.parse().expect("a number"));
                let part = bytes.slice(from..(to + 1).min(bytes.len()));
                let about = format!(
                    "{about}content-range: bytes {from}-{}/{}\r\n",
                    from + part.len() - 1,
                    bytes.len()
                );
                reply(206, &about, &part)
            }
            None => reply(200, &about, &bytes),
        };
        if self.cut > 0 {
            self.cut -= 1;
            return (answer[..answer.len() - 1].to_vec(), false);
        }
        (answer, true)
    }

    fn queue(&mut self, head: &str, body: &[u8]) -> Vec<u8> {
        let body: Value = serde_json::from_slice(body).expect("JSON");
        let entries = body["Entries"].as_array().cloned().unwrap_or_default();
        let said = if head.contains("AmazonSQS.ReceiveMessage") {
            assert_eq!(body["MaxNumberOfMessages"], 10);
            let mut messages = Vec::new();
            for message in self.queue.iter_mut().filter(|message| message.visible).take(10) {
                message.visible = false;
                messages.push(json!({"MessageId": message.receipt, "ReceiptHandle": message.receipt, "Body": message.body}));
            }
            if messages.is_empty() { json!({}) } else { json!({ "Messages": messages }) }
        } else if head.contains("AmazonSQS.DeleteMessageBatch") && self.undeletable {
            return reply(403, "", br#"{"__type": "AccessDeniedException", "Message": "no"}"#);
        } else if head.contains("AmazonSQS.DeleteMessageBatch") {
            self.deleted.extend(entries.iter().map(|entry| text(&entry["ReceiptHandle"])));
            let (deleted, queue) = (self.deleted.clone(), &mut self.queue);
            queue.retain(|message| !deleted.contains(&message.receipt));
            json!({"Successful": [], "Failed": []})
        } else {
            let hidden = |entry: &Value| {
                (text(&entry["ReceiptHandle"]), entry["VisibilityTimeout"].as_u64().unwrap_or(0))
            };
            self.hidden.extend(entries.iter().map(hidden));
            json!({"Successful": [], "Failed": []})
        };
        reply(200, "content-type: application/x-amz-json-1.0\r\n", said.to_string().as_bytes())
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().into()
}

/// An etag that S3 could have given: it follows from the bytes.
pub(super) fn etag(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn reply(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut answer =
        format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}

fn decoded(text: &str) -> String {
    let bytes = text.replace('+', " ").into_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).expect("text")
}

async fn request(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    let start = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        if socket.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..start]).to_string();
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let length: usize = length.unwrap_or(0);
    while bytes.len() < start + length {
        if socket.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = bytes[start..start + length].to_vec();
    bytes.drain(..start + length);
    Some((head, body))
}
