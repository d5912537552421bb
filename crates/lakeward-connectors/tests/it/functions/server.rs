//! An HTTP server that gives the answers it is told and keeps what it is asked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use lakeward_model::FUNCTION_BYTES_MAX;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// One answer.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// A status, headers (each with its line end) and a body.
    Reply(u16, &'static str, String),
    /// So many bytes, without a declared length.
    Endless(usize),
    /// None, ever.
    Hang,
    /// The connection is closed.
    Close,
}

pub(crate) fn reply(status: u16, headers: &'static str, body: &str) -> Answer {
    Answer::Reply(status, headers, body.into())
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Server {
    pub(crate) address: String,
    requests: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Gives these answers, one for each request, then closes connections.
    pub(crate) async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(answers.into_iter().collect::<VecDeque<_>>()));
        let kept = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, Arc::clone(&script), Arc::clone(&kept)));
            }
        });
        Self { address, requests, task }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("not poisoned").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: TcpStream, script: Arc<Mutex<VecDeque<Answer>>>, kept: Arc<Mutex<Vec<Request>>>) {
    let mut socket = BufReader::new(socket);
    let Some(request) = read(&mut socket).await else { return };
    kept.lock().expect("not poisoned").push(request);
    let answer = script.lock().expect("not poisoned").pop_front().unwrap_or(Answer::Close);
    match answer {
        Answer::Reply(status, headers, body) => {
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status} Said\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
            );
            let _ = socket.write_all(head.as_bytes()).await;
            let _ = socket.write_all(body.as_bytes()).await;
        }
        Answer::Endless(bytes) => {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await;
            for _ in 0..bytes.div_ceil(1 << 16) {
                if socket.write_all(&[b' '; 1 << 16]).await.is_err() {
                    break;
                }
            }
        }
        Answer::Hang => std::future::pending().await,
        Answer::Close => {}
    }
    let _ = socket.shutdown().await;
}

async fn read(socket: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    socket.read_line(&mut line).await.ok()?;
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        socket.read_line(&mut header).await.ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_string());
    }
    let length: usize = headers.get("content-length")?.parse().ok()?;
    assert!(length <= FUNCTION_BYTES_MAX);
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    Some(Request { line: line.trim_end().into(), headers, body })
}
