//! A Kinesis stream as a source: all its shards, into one stream of ours, each
//! record once.
//!
//! The cursor says how far every shard is read ([`cursor`]). It is stored in
//! the frame of the records that it stands behind, so a crash anywhere means
//! that reading goes on behind the last record that is durable. A page is of
//! one shard, its records in the shard's order, as they were received: an
//! aggregate of the KPL is one record, which pipelines take apart. Each record
//! keeps its shard's number and its partition key ([`ShardKey`]).
//!
//! - Children begin when all their parents are read to the end, so the records
//!   of a partition key stay in order over splits and merges.
//! - A shard's end is what Kinesis says (no next iterator). Some servers never
//!   say it; for them a closed shard without anything new is at its end.
//! - An iterator holds for five minutes. It is renewed from the position.
//! - `latest` is pinned to an instant, stored before anything is read.
//! - Kinesis does not say when a position is older than what it keeps; it goes
//!   on with the oldest record. So whenever an iterator is made from a position
//!   the record *of* the position is asked for: if it does not come, records
//!   may be lost, and that is said ([`Page::trouble`](lakeward_model::Page)).
//!
//! [`ShardKey`]: lakeward_model::ShardKey

mod api;
mod config;
mod cursor;
mod failures;
mod leases;
mod listing;
mod read;
mod reader;
mod recover;
mod sequence;

use std::sync::Arc;

use lakeward_model::clock::{Clock, SystemClock};
use lakeward_model::{Cursor, Failure, Page, Records, Source, ids};
use tracing::info;

use api::Stream;
pub use config::{KinesisConfig, KinesisConfigError, LeasesConfig, StartConfig};
use cursor::{Progress, Start};
use reader::Reader;

/// A Kinesis stream that is pulled.
#[derive(Debug)]
pub struct KinesisSource {
    config: KinesisConfig,
    stream: Arc<Stream>,
    /// What is known beyond the cursor; may be lost at any time.
    reader: Option<Reader>,
}

impl KinesisSource {
    /// Asks nobody yet: the first poll does.
    ///
    /// # Errors
    /// The configuration cannot be used; nothing but a change of it helps.
    pub fn open(config: &KinesisConfig) -> Result<Self, KinesisConfigError> {
        config.check()?;
        Ok(Self { config: config.clone(), stream: Arc::new(Stream::open(config)?), reader: None })
    }

    /// Asks which shards there are; what it found, for a person.
    ///
    /// # Errors
    /// The stream cannot be reached; the message says why.
    pub async fn probe(&self) -> Result<String, Failure> {
        let shards = self.stream.shards().await.map_err(failures::of_call)?;
        let all = listing::Listing::new(shards);
        let open = all.iter().filter(|(_, listed)| !listed.closed).count();
        Ok(format!("{} shards, {open} of them open", all.iter().count()))
    }

    /// The cursor of a source that never ran: where it starts is said before
    /// anything is read, so that it stays the same whatever happens next.
    fn first(&self) -> Result<Page, Failure> {
        let start = self.config.start().flatten().unwrap_or_else(|| Start::At(SystemClock.now()));
        let worker = self.config.leases.as_ref().map(|_| ids::fresh());
        let progress =
            Progress { stream: self.config.name().to_string(), start, worker, shards: Default::default() };
        info!(stream = progress.stream, ?start, "the source starts for the first time");
        let next =
            progress.cursor().map_err(|_| failures::refused("the stream's name is too long".into()))?;
        Ok(Page { records: Records::default(), next, behind: None, trouble: None })
    }

    /// What a stored cursor says, if it is one of this stream.
    fn resume(&self, cursor: &Cursor) -> Result<Progress, Failure> {
        let mut progress = Progress::read(cursor).ok_or_else(|| {
            failures::refused(
                "the stored cursor is none of a Kinesis source, or of a later release: \
                 give this source a stream of its own, or update Lakeward"
                    .into(),
            )
        })?;
        if progress.stream != self.config.name() {
            return Err(failures::refused(format!(
                "the stream was fed from the Kinesis stream {} until now; give {} another stream, \
                 so that nothing is delivered twice",
                progress.stream,
                self.config.name()
            )));
        }
        match (&self.config.leases, progress.worker) {
            (Some(_), None) | (None, Some(_)) => Err(failures::refused(
                "the source was run with leases until now and is without, or the other way round: \
                 the positions are kept elsewhere; give it another stream and say where to start"
                    .into(),
            )),
            _ => {
                if progress.worker.is_some() {
                    progress.shards.retain(|_, position| position.sequence().is_some());
                }
                Ok(progress)
            }
        }
    }
}

#[async_trait::async_trait]
impl Source for KinesisSource {
    async fn poll(&mut self, cursor: Option<&Cursor>) -> Result<Page, Failure> {
        let Some(stored) = cursor else { return self.first() };
        // Taken out, so that a poll that is dropped leaves nothing half done.
        let mut reader = match self.reader.take().filter(|reader| reader.is_at(cursor)) {
            Some(reader) => reader,
            None => {
                let progress = self.resume(stored)?;
                Reader::open(&self.config, Arc::clone(&self.stream), progress, cursor.cloned()).await?
            }
        };
        let page = reader.next().await;
        self.reader = Some(reader);
        page
    }

    async fn close(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.close().await;
        }
    }
}
