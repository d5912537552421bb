//! A Kinesis that misbehaves as it is told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use super::dynamodb::Rows;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// An error with this status and name.
    Error(u16, &'static str),
    /// Half of the reply, then the end.
    Truncated,
    /// No reply, ever.
    Hang,
    /// The connection is closed.
    Close,
    /// A reply that is none.
    Garbage,
}

/// One shard: records are `(sequence number, data)`.
#[derive(Debug, Default)]
pub(super) struct Shard {
    pub(super) records: Vec<(u64, String)>,
    pub(super) parents: Vec<&'static str>,
    pub(super) closed: bool,
    /// Whether its last iterator says that there is no next one.
    pub(super) ends: bool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) shards: BTreeMap<&'static str, Shard>,
    /// By operation, the next first; `None` is a call that works.
    pub(super) faults: BTreeMap<&'static str, VecDeque<Option<Fault>>>,
    /// Operation and input of every call.
    pub(super) asked: Vec<(String, Value)>,
    /// Most records of a read.
    pub(super) page: usize,
    /// Shards that we are not allowed to read.
    pub(super) denied: Vec<&'static str>,
    /// The lease table.
    pub(super) leases: Rows,
}

pub(super) struct Server {
    pub(super) address: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(state: State) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, Arc::clone(&shared)));
            }
        });
        Self { address, state, task }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }

    /// The inputs of all calls of an operation.
    pub(super) fn asked(&self, operation: &str) -> Vec<Value> {
        let state = self.state();
        let of_it = state.asked.iter().filter(|(name, _)| name == operation);
        of_it.map(|(_, input)| input.clone()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: TcpStream, state: Arc<Mutex<State>>) {
    let mut socket = BufReader::new(socket);
    let Some((operation, input)) = read(&mut socket).await else { return };
    let (fault, (status, body)) = {
        let mut state = state.lock().expect("not poisoned");
        let fault = state.faults.get_mut(operation.as_str()).and_then(VecDeque::pop_front).flatten();
        let answer = state.answer(&operation, &input);
        state.asked.push((operation, input));
        (fault, answer)
    };
    let (status, body) = match fault {
        Some(Fault::Error(status, name)) => {
            (status, json!({ "__type": name, "message": "injected" }).to_string())
        }
        Some(Fault::Garbage) => (200, String::from("[1, 2")),
        Some(Fault::Hang) => return std::future::pending().await,
        Some(Fault::Close) => return,
        _ => (status, body),
    };
    let sent = if matches!(fault, Some(Fault::Truncated)) { body.len() / 2 } else { body.len() };
    let head =
        format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _ = socket.write_all(head.as_bytes()).await;
    let _ = socket.write_all(&body.as_bytes()[..sent]).await;
    let _ = socket.shutdown().await;
}

async fn read(socket: &mut BufReader<TcpStream>) -> Option<(String, Value)> {
    let (mut operation, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        socket.read_line(&mut line).await.ok()?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        match line.split_once(": ") {
            Some(("x-amz-target", target)) => operation = target.split_once('.')?.1.to_string(),
            Some(("content-length", bytes)) => length = bytes.parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    Some((operation, serde_json::from_slice(&body).ok()?))
}

impl State {
    fn answer(&mut self, operation: &str, input: &Value) -> (u16, String) {
        if let Some((status, reply)) = self.leases.answer(operation, input) {
            return (status, reply.to_string());
        }
        let missing = |id: &str| !self.shards.contains_key(id);
        let iterator = input["ShardIterator"].as_str().and_then(|iterator| iterator.split_once(':'));
        if input["ShardId"].as_str().or(iterator.map(|(id, _)| id)).is_some_and(missing) {
            return (400, json!({ "__type": "ResourceNotFoundException", "message": "gone" }).to_string());
        }
        if input["ShardId"].as_str().is_some_and(|id| self.denied.contains(&id)) {
            return (400, json!({ "__type": "AccessDeniedException", "message": "no" }).to_string());
        }
        let reply = match operation {
            "ListShards" => self.list(),
            "GetShardIterator" => self.iterator(input),
            "GetRecords" => self.records(input["ShardIterator"].as_str().expect("an iterator")),
            other => panic!("nobody should call {other}"),
        };
        (200, reply.to_string())
    }

    fn list(&self) -> Value {
        let shard = |(id, shard): (&&str, &Shard)| {
            let range = match shard.closed {
                true => json!({ "StartingSequenceNumber": "1", "EndingSequenceNumber": "1000" }),
                false => json!({ "StartingSequenceNumber": "1" }),
            };
            let mut listed = json!({ "ShardId": id, "SequenceNumberRange": range });
            for (name, parent) in ["ParentShardId", "AdjacentParentShardId"].iter().zip(&shard.parents) {
                listed[*name] = json!(parent);
            }
            listed
        };
        json!({ "Shards": self.shards.iter().map(shard).collect::<Vec<_>>() })
    }

    fn iterator(&self, input: &Value) -> Value {
        let id = input["ShardId"].as_str().expect("a shard");
        let from = match input["ShardIteratorType"].as_str() {
            Some("TRIM_HORIZON" | "AT_TIMESTAMP") => 0,
            Some("AT_SEQUENCE_NUMBER") => {
                input["StartingSequenceNumber"].as_str().and_then(|n| n.parse().ok()).expect("a number")
            }
            other => panic!("{other:?}"),
        };
        json!({ "ShardIterator": format!("{id}:{from}") })
    }

    /// An iterator is a shard and the first sequence number that is wanted.
    fn records(&self, iterator: &str) -> Value {
        let (id, from) = iterator.split_once(':').expect("one of ours");
        let from: u64 = from.parse().expect("a number");
        let shard = &self.shards[id];
        let rest: Vec<_> = shard.records.iter().filter(|(number, _)| *number >= from).collect();
        let page = &rest[..rest.len().min(self.page)];
        let record = |(number, data): &&(u64, String)| {
            let data = base64_simd::STANDARD.encode_to_string(data);
            json!({ "SequenceNumber": number.to_string(), "Data": data, "PartitionKey": "k" })
        };
        let next = page.last().map_or(from, |(number, _)| number + 1);
        let at_end = page.len() == rest.len();
        json!({
            "Records": page.iter().map(record).collect::<Vec<_>>(),
            "NextShardIterator": (!(at_end && shard.ends)).then(|| format!("{id}:{next}")),
            "MillisBehindLatest": if at_end { 0 } else { 1_000 },
        })
    }
}
