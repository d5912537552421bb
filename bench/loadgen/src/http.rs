//! A small HTTP/1.1 client: one keep-alive connection, one request at a time,
//! whole requests prepared beforehand. It costs little, so that a measurement
//! on the same machine measures the server.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The longest head or body of an answer that is read, in bytes.
const ANSWER_MAX: usize = 4 << 20;

/// A connection to a server.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The seconds of a `Retry-After`.
    pub retry_after: Option<u64>,
    /// The body.
    pub body: Vec<u8>,
}

impl Connection {
    /// Connects to `address` (`host:port`). A reply that takes longer than
    /// `timeout` fails the request.
    ///
    /// # Errors
    /// The address does not answer.
    pub fn open(address: &str, timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self { stream, buffer: Vec::with_capacity(64 << 10) })
    }

    /// Sends one whole request and reads its answer.
    ///
    /// # Errors
    /// The connection broke or the answer is not HTTP; the connection must
    /// not be used again, and whether the request was carried out is unknown.
    pub fn send(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request)?;
        self.buffer.clear();
        let head_end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            self.more()?;
        };
        let head = Head::parse(&self.buffer[..head_end])?;
        let end = head_end + head.length;
        while self.buffer.len() < end {
            self.more()?;
        }
        let body = self.buffer[head_end..end].to_vec();
        Ok(Answer { status: head.status, retry_after: head.retry_after, body })
    }

    fn more(&mut self) -> io::Result<()> {
        let mut chunk = [0_u8; 16 << 10];
        let read = self.stream.read(&mut chunk)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.buffer.len() + read > ANSWER_MAX {
            return Err(bad("the answer is too long"));
        }
        self.buffer.extend_from_slice(&chunk[..read]);
        Ok(())
    }
}

/// Prepares a request, head and body in one piece.
#[must_use]
pub fn post(host: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut request = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        request.push_str(name);
        request.push_str(": ");
        request.push_str(value);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    let mut request = request.into_bytes();
    request.extend_from_slice(body);
    request
}

/// The parts of an answer's head that matter here.
struct Head {
    status: u16,
    length: usize,
    retry_after: Option<u64>,
}

impl Head {
    fn parse(head: &[u8]) -> io::Result<Self> {
        let text = std::str::from_utf8(head).map_err(|_| bad("the answer's head is not text"))?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| bad("the answer has no status line"))?;
        let mut parsed = Self { status, length: 0, retry_after: None };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                parsed.length = value.parse().map_err(|_| bad("the answer's length is no number"))?;
            } else if name.eq_ignore_ascii_case("retry-after") {
                parsed.retry_after = value.parse().ok();
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(bad("the answer is chunked, which this client does not read"));
            }
        }
        if parsed.length > ANSWER_MAX {
            return Err(bad("the answer is too long"));
        }
        Ok(parsed)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn answer_to(reply: &'static [u8]) -> io::Result<Answer> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0_u8; 4];
            stream.read_exact(&mut request).unwrap();
            // Byte by byte, so that the client sees every split.
            for byte in reply {
                stream.write_all(&[*byte]).unwrap();
            }
        });
        let answer = Connection::open(&address, Duration::from_secs(10))?.send(b"abcd");
        server.join().unwrap();
        answer
    }

    #[test]
    fn an_answer_is_read_whole() {
        let answer =
            answer_to(b"HTTP/1.1 503 Slow\r\nRetry-After: 2\r\nContent-Length: 4\r\n\r\nslow").unwrap();
        assert_eq!(answer, Answer { status: 503, retry_after: Some(2), body: b"slow".to_vec() });
    }

    #[test]
    fn a_cut_or_foreign_answer_is_an_error() {
        for reply in [
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort".as_slice(),
            b"HTTP/1.1 200 OK\r\nContent-Le",
            b"nonsense\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
        ] {
            assert!(answer_to(reply).is_err(), "{}", reply.escape_ascii());
        }
    }
}
