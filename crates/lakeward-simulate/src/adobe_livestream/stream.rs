//! The body of a connection: gzip of records and keep-alives, made while it is
//! sent, cut into pieces that know nothing of records.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream;
use lakeward_model::Timestamp;

use super::log::Entry;
use super::script::{Fate, What};
use super::{Simulator, hit};
use crate::random::Random;

/// How often it is looked whether there is something to send.
const TICK: Duration = Duration::from_millis(20);
/// Hits that are packed together at the most.
const HITS_MAX: usize = 400;
/// "No byte comes any more": until the client goes.
const FOR_EVER: Duration = Duration::from_secs(86_400);

/// A connection that is served.
pub(super) struct Sending {
    simulator: Arc<Simulator>,
    client: u64,
    fate: Fate,
    encoder: Option<GzEncoder<Vec<u8>>>,
    pieces: VecDeque<Bytes>,
    text: String,
    records: u64,
    heard: Timestamp,
    random: Random,
    entry: Arc<Entry>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Sending,
    /// The pieces are the last ones, and then this.
    Last(What),
}

impl Drop for Sending {
    fn drop(&mut self) {
        let now = self.simulator.clock.now();
        self.simulator.state().feed.leave(self.client, now);
        tracing::info!(client = self.client, records = self.records, "the connection ended");
    }
}

/// The body of connection `client`.
pub(super) fn body(simulator: Arc<Simulator>, client: u64, fate: Fate, entry: Arc<Entry>) -> Body {
    let heard = simulator.clock.now();
    let random = Random::of(&[simulator.options.seed, 11, client]);
    let sending = Sending {
        simulator,
        client,
        fate,
        encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())),
        pieces: VecDeque::new(),
        text: String::new(),
        records: 0,
        heard,
        random,
        entry,
        state: State::Sending,
    };
    Body::from_stream(stream::unfold(sending, |mut sending| async {
        sending.next().await.map(|piece| (piece, sending))
    }))
}

impl Sending {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Some(Ok(piece));
            }
            match self.state {
                State::Last(What::Cut) => return Some(Err(io::ErrorKind::ConnectionAborted.into())),
                State::Last(What::Silence | What::Garbage) => tokio::time::sleep(FOR_EVER).await,
                State::Last(_) => return None,
                State::Sending => match self.fill() {
                    Ok(true) => {}
                    Ok(false) => tokio::time::sleep(TICK).await,
                    Err(error) => return Some(Err(error)),
                },
            }
        }
    }

    /// Packs what there is; whether there was something.
    fn fill(&mut self) -> io::Result<bool> {
        let now = self.simulator.clock.now();
        let mut most = HITS_MAX;
        let is_due = self.fate.what.is_later() && self.records >= self.fate.after;
        if self.fate.what.is_later() && !is_due {
            most = most.min(usize::try_from(self.fate.after - self.records).unwrap_or(usize::MAX));
        }
        let taken = {
            let mut state = self.simulator.state();
            if let Some(what) = state.told.remove(&self.client) {
                drop(state);
                return self.end(what).map(|()| true);
            }
            if is_due {
                drop(state);
                return self.end(self.fate.what).map(|()| true);
            }
            state.feed.take(self.client, most, now)
        };
        if taken.is_empty() {
            let keep_alive = self.simulator.options.keep_alive;
            let micros = i64::try_from(keep_alive.as_micros()).unwrap_or(i64::MAX);
            if now.micros().saturating_sub(self.heard.micros()) < micros {
                return Ok(false);
            }
            self.text.push_str("\r\n");
        }
        for number in &taken {
            let received = self.simulator.production.received(*number);
            hit::write(self.simulator.options.seed, *number, received, &mut self.text);
            self.text.push_str("\r\n");
        }
        self.records += taken.len() as u64;
        self.entry.sent(taken.len() as u64);
        self.heard = now;
        let Some(encoder) = &mut self.encoder else { return Ok(false) };
        encoder.write_all(self.text.as_bytes())?;
        self.text.clear();
        // The first one may stop half-way, where its buffer was nearly full
        // (flate2 1.1: the rest is asked for without the flush).
        encoder.flush()?;
        encoder.flush()?;
        let packed = std::mem::take(encoder.get_mut());
        self.cut(packed);
        Ok(true)
    }

    /// What it ends with.
    fn end(&mut self, what: What) -> io::Result<()> {
        self.state = State::Last(what);
        tracing::info!(client = self.client, records = self.records, ?what, "misbehaving");
        match what {
            What::Garbage => {
                let garbage: Vec<u8> = (0..200).map(|_| self.random.below(256) as u8).collect();
                self.pieces.push_back(Bytes::from(garbage));
            }
            What::Disconnect => {
                // Half a record, and then a proper end of everything.
                if let Some(mut encoder) = self.encoder.take() {
                    encoder.write_all(b"{\"bot\":\"<Not a bo")?;
                    let last = encoder.finish()?;
                    self.cut(last);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Pieces of any size: a few bytes, and then the rest.
    fn cut(&mut self, packed: Vec<u8>) {
        let mut packed = Bytes::from(packed);
        if packed.len() > 2 {
            let at = self.random.between(1, (packed.len() - 1).min(64) as u64) as usize;
            self.pieces.push_back(packed.split_to(at));
            let at = self.random.between(1, packed.len() as u64) as usize;
            self.pieces.push_back(packed.split_to(at));
        }
        if !packed.is_empty() {
            self.pieces.push_back(packed);
        }
    }
}
