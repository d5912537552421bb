//! The connections of a source, and the records that they bring.
//!
//! Nothing is read ahead: a connection is only read from within a poll, so what
//! was read is in the journal before more is, and a journal that is full makes
//! Adobe wait. (The operating system's and the HTTP client's buffers still hold
//! what is under way; if the process dies, Adobe's backlog brings it again.)

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use lakeward_model::clock::{Clock, SystemClock};
use lakeward_model::{Failure, FailureKind, innermost};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::config::{AdobeLivestreamConfig, Reset};
use super::connect::{Connector, Opened};
use super::cursor::Progress;
use super::decode::{Decoder, Gathered};
use super::failures;

/// The longest that a poll takes.
const POLL: Duration = Duration::from_secs(1);
/// How long records wait for others, so that each has not an fsync of its own.
const GATHER: Duration = Duration::from_millis(250);
/// A connection that lived for so long, or brought a record, was a good one.
const GOOD: Duration = Duration::from_secs(10);
/// Whether the token is old is asked this often.
const TOKEN_EVERY: Duration = Duration::from_secs(1);
/// Troubles that are told with one page; more are only in the log.
const TROUBLES_MAX: usize = 3;

/// All connections of a source.
pub(super) struct Lines {
    connector: Arc<Connector>,
    reset: Option<Reset>,
    read_timeout: Duration,
    record_max: usize,
    lines: Vec<Line>,
    /// Connections and tokens that are being made.
    jobs: JoinSet<Done>,
    /// Which line is looked at first.
    turn: usize,
    token_due: Instant,
    refreshing: bool,
    /// When the last poll ended: until the next one nobody listens.
    left: Option<Instant>,
    troubles: Vec<String>,
    /// The records of the next page.
    pub(super) gathered: Gathered,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lines({})", self.lines.len())
    }
}

struct Line {
    state: State,
    /// In a row.
    failures: u32,
    failed: Option<(FailureKind, String)>,
}

enum State {
    Due(Instant),
    Connecting,
    Open(Box<Stream>),
}

struct Stream {
    opened: Opened,
    decoder: Decoder,
    since: Instant,
    heard: Instant,
    records: u64,
}

/// What a job brought.
enum Done {
    Connected(usize, Result<Opened, Failure>),
    Refreshed(Result<(), Failure>),
    Nothing,
}

enum Event {
    Job(Done),
    /// What a connection brought; nothing if it ended in order.
    Read(usize, Result<Option<Bytes>, reqwest::Error>),
}

impl Lines {
    pub(super) fn new(config: &AdobeLivestreamConfig, connector: Arc<Connector>) -> Self {
        let now = Instant::now();
        let line = |_| Line { state: State::Due(now), failures: 0, failed: None };
        Self {
            connector,
            reset: config.reset,
            read_timeout: config.read_timeout,
            record_max: usize::try_from(config.record_max).unwrap_or(usize::MAX - 1),
            lines: (0..config.connections).map(line).collect(),
            jobs: JoinSet::new(),
            turn: 0,
            token_due: now + TOKEN_EVERY,
            refreshing: false,
            left: None,
            troubles: Vec::new(),
            gathered: Gathered::default(),
        }
    }

    /// Reads until there are records and nothing more for a moment, or the page
    /// is full, or it has taken long enough: what a person should know of. What
    /// was gathered stays if it is dropped.
    pub(super) async fn gather(&mut self, progress: &mut Progress) -> Result<Option<String>, Failure> {
        let began = Instant::now();
        if let Some(left) = self.left.take() {
            // Nobody listened: that is not silence.
            self.streams().for_each(|stream| stream.heard += began - left);
        }
        let mut until = began + POLL;
        let gathered = loop {
            self.decode(progress);
            self.start_jobs(progress);
            let now = Instant::now();
            if !self.gathered.is_empty() {
                until = until.min(now.max(began) + GATHER).min(began + POLL);
            }
            if self.gathered.is_full() || now >= until {
                break Ok(());
            }
            if self.gathered.is_empty()
                && let Some(failure) = self.all_failed(now)
            {
                break Err(failure);
            }
            let wake = self.wake(until);
            tokio::select! {
                event = std::future::poll_fn(|cx| self.poll_event(cx)) => self.happened(event, progress),
                () = sleep_until(wake) => self.watch(),
            }
        };
        self.left = Some(Instant::now());
        gathered?;
        let trouble = (!self.troubles.is_empty()).then(|| self.troubles.join("; "));
        self.troubles.clear();
        Ok(trouble)
    }

    fn streams(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.lines.iter_mut().filter_map(|line| match &mut line.state {
            State::Open(stream) => Some(&mut **stream),
            _ => None,
        })
    }

    /// Starts what is due.
    fn start_jobs(&mut self, progress: &Progress) {
        let now = Instant::now();
        for (index, line) in self.lines.iter_mut().enumerate() {
            if !matches!(line.state, State::Due(due) if due <= now) {
                continue;
            }
            line.state = State::Connecting;
            let (connector, reset) = (Arc::clone(&self.connector), progress.reset_of(index, self.reset));
            self.jobs.spawn(async move { Done::Connected(index, connector.connect(reset).await) });
        }
        if now >= self.token_due && !self.refreshing {
            self.refreshing = true;
            let connector = Arc::clone(&self.connector);
            self.jobs.spawn(async move {
                match connector.tokens.is_old().await {
                    true => Done::Refreshed(connector.tokens.get(None).await.map(drop)),
                    false => Done::Nothing,
                }
            });
        }
    }

    /// The failure, if no connection stands and none is being made.
    fn all_failed(&self, now: Instant) -> Option<Failure> {
        let due = |line: &Line| match (&line.state, &line.failed) {
            (State::Due(due), Some(failed)) if *due > now => Some((*due, failed.clone())),
            _ => None,
        };
        let mut all = self.lines.iter().map(due).collect::<Option<Vec<_>>>()?;
        all.sort_by_key(|(due, _)| *due);
        let (due, (kind, said)) = all.into_iter().next()?;
        Some(Failure { retry_after: Some(due - now), ..Failure::new(kind, said) })
    }

    /// When there is something to do although nothing comes.
    fn wake(&self, until: Instant) -> Instant {
        let mut wake = until;
        if !self.refreshing {
            wake = wake.min(self.token_due);
        }
        for line in &self.lines {
            match &line.state {
                State::Due(due) => wake = wake.min(*due),
                State::Open(stream) => wake = wake.min(stream.heard + self.read_timeout),
                State::Connecting => {}
            }
        }
        wake
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Poll::Ready(Some(done)) = self.jobs.poll_join_next(cx) {
            // A task of ours does not panic, and nobody aborts it.
            return Poll::Ready(Event::Job(done.unwrap_or(Done::Nothing)));
        }
        let count = self.lines.len();
        for index in (self.turn..self.turn + count).map(|index| index % count) {
            let State::Open(stream) = &mut self.lines[index].state else { continue };
            // Nothing is lost if this future goes: a piece that is there is
            // given out at once.
            let read = pin!(stream.opened.response.chunk());
            if let Poll::Ready(read) = read.poll(cx) {
                self.turn = index + 1;
                return Poll::Ready(Event::Read(index, read));
            }
        }
        Poll::Pending
    }

    fn happened(&mut self, event: Event, progress: &mut Progress) {
        match event {
            Event::Job(Done::Connected(index, Ok(opened))) => self.connected(index, opened, progress),
            Event::Job(Done::Connected(index, Err(failure))) => self.failed(index, failure),
            Event::Job(Done::Refreshed(done)) => {
                self.refreshing = false;
                self.token_due = Instant::now() + TOKEN_EVERY;
                if let Err(failure) = done {
                    self.token_due += failures::pause(6, failure.kind);
                    self.trouble(failure.message);
                }
            }
            Event::Job(Done::Nothing) => {
                self.refreshing = false;
                self.token_due = Instant::now() + TOKEN_EVERY;
            }
            Event::Read(index, Ok(Some(bytes))) => {
                let State::Open(stream) = &mut self.lines[index].state else { return };
                stream.heard = Instant::now();
                stream.decoder.feed(bytes);
            }
            Event::Read(index, Ok(None)) => {
                if let State::Open(stream) = &mut self.lines[index].state {
                    let before = self.gathered.len();
                    let half = stream.decoder.end(&mut self.gathered);
                    stream.records += (self.gathered.len() - before) as u64;
                    if half > 0 {
                        debug!(bytes = half, "the stream ended within a record, which Adobe sends again");
                    }
                }
                self.ended(index, "Livestream closed the connection");
            }
            Event::Read(index, Err(error)) => {
                self.ended(index, &format!("the connection broke: {}", innermost(&error)));
            }
        }
    }

    fn connected(&mut self, index: usize, opened: Opened, progress: &mut Progress) {
        progress.connected(SystemClock.now());
        if let Some(reset @ Reset::Largest) = opened.reset {
            // To ask for the newest twice would skip what came in between.
            progress.was_reset(index, reset);
        }
        let host = opened.response.url().host_str().unwrap_or_default().to_string();
        info!(line = index, host, reset = ?opened.reset, connects = progress.connects, "connected to Livestream");
        let now = Instant::now();
        let decoder = Decoder::new(opened.is_gzip, self.record_max);
        let line = &mut self.lines[index];
        line.state = State::Open(Box::new(Stream { opened, decoder, since: now, heard: now, records: 0 }));
    }

    /// Makes records of what came, as far as the page has room.
    fn decode(&mut self, progress: &mut Progress) {
        for index in 0..self.lines.len() {
            let line = &mut self.lines[index];
            let State::Open(stream) = &mut line.state else { continue };
            if !stream.decoder.is_waiting() {
                continue;
            }
            let before = self.gathered.len();
            let decoded = stream.decoder.decode(&mut self.gathered);
            let (new, overlong) = ((self.gathered.len() - before) as u64, stream.decoder.overlong());
            stream.records += new;
            if new > 0 {
                (line.failures, line.failed) = (0, None);
                if let Some(reset) = stream.opened.reset {
                    // From the oldest again until something of it is durable.
                    progress.was_reset(index, reset);
                }
            }
            if overlong > 0 {
                self.trouble(format!(
                    "{overlong} records are longer than record_max: their beginnings go to quarantine"
                ));
            }
            if let Err(error) = decoded {
                self.trouble(format!("what Livestream sent is no gzip ({error}): connecting anew"));
                self.ended(index, "it sent no gzip");
            }
        }
    }

    /// Ends connections that are silent for too long.
    fn watch(&mut self) {
        let now = Instant::now();
        for index in 0..self.lines.len() {
            if matches!(&self.lines[index].state, State::Open(s) if s.heard + self.read_timeout <= now) {
                let limit = self.read_timeout.as_secs_f32();
                let said = format!("not even an empty record came for {limit}s: connecting anew");
                self.trouble(said.clone());
                self.ended(index, &said);
            }
        }
    }

    /// A connection that stood is gone, as is to be expected now and then: it
    /// is made anew at once, but not in a tight loop.
    fn ended(&mut self, index: usize, why: &str) {
        let line = &mut self.lines[index];
        let State::Open(stream) = &line.state else { return };
        let (lived, records) = (stream.since.elapsed(), stream.records);
        info!(line = index, why, lived = ?lived, records, "the connection to Livestream ended");
        if lived >= GOOD || records > 0 {
            (line.failures, line.failed) = (0, None);
        } else {
            line.failures = line.failures.saturating_add(1);
            line.failed = Some((FailureKind::NotDone, format!("{why} before a record came")));
        }
        line.state = State::Due(Instant::now() + failures::pause(line.failures, FailureKind::NotDone));
    }

    /// A connection could not be made.
    fn failed(&mut self, index: usize, failure: Failure) {
        let others = self.lines.iter().any(|line| matches!(line.state, State::Open(_)));
        let line = &mut self.lines[index];
        line.failures = line.failures.saturating_add(1);
        let pause = failures::pause(line.failures, failure.kind).max(failure.retry_after.unwrap_or_default());
        line.state = State::Due(Instant::now() + pause);
        line.failed = Some((failure.kind, failure.message.clone()));
        if others {
            self.trouble(failure.message);
        }
    }

    fn trouble(&mut self, said: String) {
        warn!("{said}");
        if self.troubles.len() < TROUBLES_MAX {
            self.troubles.push(said);
        }
    }
}
