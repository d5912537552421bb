//! Bodies: made on a thread of their own while they are sent, never as a whole
//! in memory, and cut or slowed down where that is wished.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::stream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;

use super::log::Entry;

/// Bytes that are sent at a time, and how many of these wait at the most.
const PIECE_BYTES: usize = 64 << 10;
const PIECES_WAITING: usize = 8;

/// A slow body comes in this many drops, and the rest behind them.
const DROPS: u32 = 40;
const DROP_BYTES: usize = 256;

/// What is done to a body.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shape {
    /// Bytes after which it ends, however much there is.
    pub(super) cut_at: Option<u64>,
    /// It ends by a cut connection, after this time without a byte.
    pub(super) broken_after: Option<Duration>,
    /// It comes in drops over this time.
    pub(super) drops: Option<Duration>,
}

/// Takes what a thread writes and sends it on, with backpressure.
pub(super) struct Pipe {
    sender: mpsc::Sender<Bytes>,
    buffer: BytesMut,
    left: u64,
}

impl Write for Pipe {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let room = (PIECE_BYTES - self.buffer.len()).min(data.len());
        let taken = room.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if taken == 0 && !data.is_empty() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.buffer.extend_from_slice(&data[..taken]);
        self.left -= taken as u64;
        if self.buffer.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            let piece = self.buffer.split().freeze();
            self.sender.blocking_send(piece).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        Ok(())
    }
}

/// A body on its way.
struct Sending {
    pieces: mpsc::Receiver<Bytes>,
    writer: Option<JoinHandle<io::Result<()>>>,
    shape: Shape,
    drops: u32,
    rest: Bytes,
    entry: Option<Arc<Entry>>,
    _place: Option<OwnedSemaphorePermit>,
}

/// The body that `write` writes. `entry` hears how much of it was sent; `place`
/// is held until its end.
pub(super) fn body(
    shape: Shape,
    entry: Option<Arc<Entry>>,
    place: Option<OwnedSemaphorePermit>,
    write: impl FnOnce(&mut Pipe) -> io::Result<()> + Send + 'static,
) -> Body {
    let (sender, pieces) = mpsc::channel(PIECES_WAITING);
    let writer = tokio::task::spawn_blocking(move || {
        let buffer = BytesMut::with_capacity(PIECE_BYTES);
        let mut pipe = Pipe { sender, buffer, left: shape.cut_at.unwrap_or(u64::MAX) };
        match write(&mut pipe) {
            Err(error) if error.kind() != io::ErrorKind::WriteZero => Err(error),
            _ => pipe.flush(),
        }
    });
    let sending = Sending {
        pieces,
        writer: Some(writer),
        shape,
        drops: DROPS,
        rest: Bytes::new(),
        entry,
        _place: place,
    };
    Body::from_stream(stream::unfold(sending, |mut sending| async {
        sending.next().await.map(|piece| (piece, sending))
    }))
}

impl Sending {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.rest.is_empty() {
            match self.pieces.recv().await {
                Some(piece) => self.rest = piece,
                None => return self.end().await,
            }
        }
        let mut piece = std::mem::take(&mut self.rest);
        if let Some(over) = self.shape.drops
            && self.drops > 0
        {
            tokio::time::sleep(over / DROPS).await;
            self.drops -= 1;
            self.rest = piece.split_off(DROP_BYTES.min(piece.len()));
        }
        if let Some(entry) = &self.entry {
            entry.sent(piece.len() as u64);
        }
        Some(Ok(piece))
    }

    async fn end(&mut self) -> Option<io::Result<Bytes>> {
        let written = self.writer.take()?.await;
        if let Some(after) = self.shape.broken_after {
            tokio::time::sleep(after).await;
            return Some(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        match written {
            Ok(Ok(())) => {
                if let Some(entry) = &self.entry {
                    entry.finished();
                }
                None
            }
            Ok(Err(error)) => Some(Err(error)),
            Err(panicked) => Some(Err(io::Error::other(panicked))),
        }
    }
}
