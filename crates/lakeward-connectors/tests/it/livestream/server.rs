//! A Livestream that does as it is told, byte by byte.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard};

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What a request for the stream gets.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    Status(u16, &'static str),
    Redirect(String),
    /// A body in these pieces, each an HTTP chunk, and how it ends.
    Stream(Vec<Vec<u8>>, End),
    /// Without `Content-Encoding`.
    Plain(Vec<Vec<u8>>),
    Close,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    InOrder,
    Cut,
    Silent,
    /// An empty record, packed, every few milliseconds.
    KeepsAlive,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// For the stream, the next first; what is behind the last is silent.
    pub(super) replies: VecDeque<Reply>,
    /// For the token, the next first; behind the last all are good.
    pub(super) token_replies: VecDeque<(u16, &'static str)>,
    pub(super) token_life: u64,
    /// Tokens given: `token-1`, `token-2`, …
    pub(super) tokens: u64,
    /// The heads of all requests for the stream.
    pub(super) asked: Vec<String>,
    /// The bodies of all requests for a token.
    pub(super) forms: Vec<String>,
}

pub(super) struct Server {
    pub(super) address: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let state = State { replies: replies.into(), token_life: 86_399, ..State::default() };
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
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}

async fn serve(socket: TcpStream, state: Arc<Mutex<State>>) {
    let mut socket = BufReader::new(socket);
    let Some((head, body)) = read(&mut socket).await else { return };
    let reply = {
        let mut state = state.lock().expect("not poisoned");
        if head.starts_with("POST ") {
            state.forms.push(body);
            let (status, text) = match state.token_replies.pop_front() {
                Some((status, text)) if status != 200 => (status, text.to_string()),
                _ => {
                    state.tokens += 1;
                    let (number, life) = (state.tokens, state.token_life);
                    let text = format!(
                        r#"{{"access_token":"token-{number}","token_type":"bearer","expires_in":{life}}}"#
                    );
                    (200, text)
                }
            };
            Err((status, text))
        } else {
            state.asked.push(head);
            Ok(state.replies.pop_front().unwrap_or(Reply::Stream(Vec::new(), End::Silent)))
        }
    };
    let said = |status: u16, text: &str| {
        format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}", text.len())
    };
    // A client that is gone is no failure of the test.
    let (pieces, end, encoding) = match reply {
        Err((status, text)) => return drop(socket.write_all(said(status, &text).as_bytes()).await),
        Ok(Reply::Status(status, text)) => {
            return drop(socket.write_all(said(status, text).as_bytes()).await);
        }
        Ok(Reply::Redirect(to)) => {
            let head = format!(
                "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            return drop(socket.write_all(head.as_bytes()).await);
        }
        Ok(Reply::Close) => return,
        Ok(Reply::Stream(pieces, end)) => (pieces, end, "content-encoding: gzip\r\n"),
        Ok(Reply::Plain(pieces)) => (pieces, End::InOrder, ""),
    };
    let _ = stream(&mut socket, pieces, end, encoding).await;
}

async fn stream(
    socket: &mut BufReader<TcpStream>,
    pieces: Vec<Vec<u8>>,
    end: End,
    encoding: &str,
) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\n{encoding}transfer-encoding: chunked\r\n\r\n");
    socket.write_all(head.as_bytes()).await?;
    for piece in pieces {
        chunk(socket, &piece).await?;
    }
    match end {
        End::InOrder => socket.write_all(b"0\r\n\r\n").await,
        End::Cut => Ok(()),
        End::Silent => std::future::pending().await,
        End::KeepsAlive => loop {
            chunk(socket, &gzip("\r\n")).await?;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        },
    }
}

async fn chunk(socket: &mut BufReader<TcpStream>, piece: &[u8]) -> std::io::Result<()> {
    socket.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
    socket.write_all(piece).await?;
    socket.write_all(b"\r\n").await?;
    socket.flush().await
}

async fn read(socket: &mut BufReader<TcpStream>) -> Option<(String, String)> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        socket.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
        if line.trim_end().is_empty() {
            break;
        }
        if let Some(("content-length", bytes)) = line.trim_end().split_once(": ") {
            length = bytes.parse().ok()?;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    Some((head, String::from_utf8(body).ok()?))
}
