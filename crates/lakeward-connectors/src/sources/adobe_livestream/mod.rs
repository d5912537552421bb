//! Adobe Analytics Livestream as a source: the hits of a report suite as they
//! are processed, from one endless HTTP reply.
//!
//! Livestream cannot be asked for a place: after a cut shorter than some
//! minutes it goes on from where it was cut, as far as it knows, and repeats
//! itself a little. So:
//!
//! - What arrives is in the journal before more is read ([`lines`]); the cursor
//!   only counts, and tells the first connection from all later ones
//!   ([`cursor`]).
//! - A cut connection is made anew at once and without `reset`, which would
//!   skip what Adobe kept for us.
//! - A page that could not be stored is kept and handed out again.
//! - What comes twice has the same `hitIdHigh` and `hitIdLow`: the pipeline's
//!   `dedup` drops it.
//!
//! Facts of the protocol are from Adobe's Livestream documentation, as
//! collected in the project's contracts, §4.

mod config;
mod connect;
mod cursor;
mod decode;
mod failures;
mod lines;
mod reply;
mod token;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lakeward_model::clock::{Clock, SystemClock};
use lakeward_model::{Cursor, Failure, Page, Source};
use tracing::info;

pub use config::{AdobeLivestreamConfig, AdobeLivestreamConfigError, Reset};
use connect::Connector;
use cursor::Progress;
use lines::Lines;

/// The field that says when Adobe received a hit, in seconds since 1970.
const RECEIVED: &[u8] = b"\"receivedTimeGMT\":";

/// A Livestream that is read.
#[derive(Debug)]
pub struct AdobeLivestreamSource {
    config: AdobeLivestreamConfig,
    connector: Arc<Connector>,
    lines: Option<Lines>,
    progress: Option<Progress>,
    /// The page that was handed out last, until it is known to be stored, and
    /// the cursor before it.
    handed: Option<(Option<Cursor>, Page)>,
}

impl AdobeLivestreamSource {
    /// Asks nobody yet: the first poll does. `folder` is the source's own
    /// folder in the state.
    ///
    /// # Errors
    /// The configuration cannot be used; nothing but a change of it helps.
    pub fn open(config: &AdobeLivestreamConfig, folder: &Path) -> Result<Self, AdobeLivestreamConfigError> {
        config.check()?;
        let connector = Arc::new(Connector::open(config, folder)?);
        Ok(Self { config: config.clone(), connector, lines: None, progress: None, handed: None })
    }

    /// Asks for a new token, and for nothing else: a connection would take a
    /// place from those that read. What it found, for a person.
    ///
    /// # Errors
    /// No token can be had; the message says why.
    pub async fn probe(&self) -> Result<String, Failure> {
        self.connector.tokens.renew().await?;
        Ok(format!("a token for {}", self.config.stream_name()))
    }
}

/// What a stored cursor says, or the beginning.
fn resume(config: &AdobeLivestreamConfig, cursor: Option<&Cursor>) -> Result<Progress, Failure> {
    let name = config.stream_name();
    let Some(cursor) = cursor else { return Ok(Progress::new(name)) };
    let progress = Progress::read(cursor).ok_or_else(|| {
        failures::refused(
            "the stored cursor is none of an Adobe Livestream, or of a later release: give this source a stream \
             of its own, or update Lakeward",
        )
    })?;
    if progress.stream != name {
        info!(before = progress.stream, now = name, "another Livestream from now on");
        return Ok(Progress { records: progress.records, ..Progress::new(name) });
    }
    Ok(progress)
}

#[async_trait::async_trait]
impl Source for AdobeLivestreamSource {
    async fn poll(&mut self, cursor: Option<&Cursor>) -> Result<Page, Failure> {
        if let Some((before, page)) = &self.handed {
            if before.as_ref() == cursor && cursor != Some(&page.next) {
                // It was not stored, and nobody else has these records.
                return Ok(page.clone());
            }
            if cursor != Some(&page.next) {
                self.progress = None;
            }
            self.handed = None;
        }
        // Both stay in their places, so that a poll that is dropped loses nothing.
        let progress = match &mut self.progress {
            Some(progress) => progress,
            none => none.insert(resume(&self.config, cursor)?),
        };
        let (config, connector) = (&self.config, &self.connector);
        let lines = self.lines.get_or_insert_with(|| Lines::new(config, Arc::clone(connector)));
        let trouble = lines.gather(progress).await?;
        let behind = lines.gathered.last().and_then(behind);
        let records = lines.gathered.take();
        progress.records += records.len() as u64;
        let is_stored = |cursor: &&Cursor| {
            // That a connection was made is alone no reason to write.
            records.is_empty()
                && Progress::read(cursor).is_some_and(|stored| stored.resets == progress.resets)
        };
        let next = cursor.filter(is_stored).cloned().unwrap_or_else(|| progress.cursor());
        let page = Page { records, next, behind, trouble };
        self.handed = Some((cursor.cloned(), page.clone()));
        Ok(page)
    }

    async fn close(&mut self) {
        // Every connection is closed: Adobe's backlog begins here.
        self.lines = None;
    }
}

/// How long ago Adobe received this hit.
fn behind(record: &[u8]) -> Option<Duration> {
    let at = memchr::memmem::rfind(record, RECEIVED)? + RECEIVED.len();
    let digits: String = record[at..]
        .iter()
        .map(|b| char::from(*b))
        .skip_while(|c| *c == ' ' || *c == '"')
        .take_while(char::is_ascii_digit)
        .take(18)
        .collect();
    let received = digits.parse::<i64>().ok()?.checked_mul(1_000_000)?;
    let micros = SystemClock.now().micros().saturating_sub(received);
    Some(Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_late_a_hit_is() {
        let now = SystemClock.now().micros() / 1_000_000;
        let check = |record: String, expect: Option<u64>| {
            let found = behind(record.as_bytes()).map(|behind| behind.as_secs());
            assert!(found == expect || found == expect.map(|s| s + 1), "{record}: {found:?}");
        };
        check(format!(r#"{{"receivedTimeGMT":{},"x":1}}"#, now - 90), Some(90));
        check(format!(r#"{{"receivedTimeGMT": "{}"}}"#, now - 90), Some(90));
        check(format!(r#"{{"receivedTimeGMT":{}}}"#, now + 90), Some(0));
        check(r#"{"receivedTimeGMT":null}"#.into(), None);
        check(r#"{"receivedTimeGMT":99999999999999999999999"#.into(), None);
        check("{}".into(), None);
    }
}
