//! Taking one object: it is read, and each pipeline makes a batch of it and
//! delivers that.
//!
//! There is no journal, so nothing is remembered. What makes an object count
//! once is the destination, which knows a batch by its id, and the id, which
//! follows from the object's name and version, from the pipeline, and from the
//! records' places in the object. So a batch that comes again, because AWS
//! tried an event again or somebody backfilled it, is the same batch. For that
//! what is in a batch must not depend on what was taken before: the columns
//! are those that the pipeline declares or its SQL makes, duplicates are known
//! within a batch only, and the time of arrival is that of the object.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use lakeward_columnar::build::{self, BuildError, Built, Refused, Schemas};
use lakeward_columnar::dedup::{Key, Seen, SeenError};
use lakeward_columnar::transform::Transform;
use lakeward_connectors::sources::objects::{Notified, NotifiedError, ObjectsSource};
use lakeward_engine::PipelineSpec;
use lakeward_model::{
    Batch, BatchId, Destination, Failure, FailureKind, Offset, Receipt, RecordBlock, Slice, SliceFailure,
    SliceId, SlicedSource, Span, StreamName, Timestamp, UnfitRow,
};

use tokio::sync::Mutex;

use super::blocks::Held;
use super::lines;
use super::numbers::Numbers;
use super::until::Until;

/// Pauses between tries.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The most records of a batch that a destination may refuse.
const REFUSED_MAX: usize = 10_000;
/// The seed of the keys of duplicates, which are compared with those of the
/// same batch only.
const SEED: u64 = 0x6c61_6b65_7761_7264;

/// The objects of a source, and what becomes of their records.
pub(super) struct Objects {
    pub(super) source: ObjectsSource,
    pub(super) stream: StreamName,
    pub(super) pipelines: Vec<Pipeline>,
    /// How many objects are taken at the same time.
    pub(super) parallel: usize,
    /// The most bytes of records of a batch.
    pub(super) batch_bytes: u64,
    /// Whoever takes an object holds its lock: AWS tells of an object twice now
    /// and then, also in one event, and a table that looks for a batch before
    /// it inserts it should not look twice before the first insert.
    pub(super) locks: Locks,
}

/// Locks that objects share by their ids.
pub(super) struct Locks([Mutex<()>; 61]);

impl Default for Locks {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }
}

impl Locks {
    fn of(&self, id: SliceId) -> &Mutex<()> {
        &self.0[(id.0 % self.0.len() as u128) as usize]
    }
}

/// A pipeline of the source's stream.
pub(super) struct Pipeline {
    pub(super) spec: Arc<PipelineSpec>,
    pub(super) sql: Option<Arc<dyn Transform>>,
    pub(super) destination: Arc<dyn Destination>,
    /// Whether rows go into a table, which may replace rows by a key.
    pub(super) is_table: bool,
}

/// What became of an object.
#[derive(Debug)]
pub(super) enum Outcome {
    /// All of it is at the destinations.
    Taken(Taken),
    /// It is none of ours, or not there any more, as this says.
    Skipped(String),
    /// It is to be tried again.
    Failed(String),
    /// The same, since there was no time for it.
    OutOfTime,
}

/// An object whose records are at the destinations.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) bytes: u64,
    pub(super) numbers: Numbers,
    /// Whether any of it was not there before.
    pub(super) is_new: bool,
}

/// Why an object is not taken.
enum Stop {
    Gone(String),
    Failed(String),
}

impl From<SliceFailure> for Stop {
    fn from(failure: SliceFailure) -> Self {
        match failure {
            SliceFailure::Source(failure) => Self::Failed(failure.message),
            SliceFailure::Broken(why) => Self::Failed(why),
            SliceFailure::Gone(why) => Self::Gone(why),
        }
    }
}

impl Objects {
    /// The bucket, and what its keys begin with.
    pub(super) fn bucket(&self) -> (&str, &str) {
        self.source.bucket().unwrap_or_default()
    }

    /// The objects that a notification tells of.
    ///
    /// # Errors
    /// Why nobody knows.
    pub(super) async fn notified(&self, text: &str) -> Result<Vec<Notified>, NotifiedError> {
        self.source.notified(text).await
    }

    /// Whether objects may be stored once more: only where rows replace those
    /// with the same key.
    ///
    /// # Errors
    /// A pipeline whose rows would be there twice.
    pub(super) fn can_store_again(&self) -> Result<(), String> {
        match self.pipelines.iter().find(|pipeline| !pipeline.is_table) {
            None => Ok(()),
            Some(pipeline) => Err(format!(
                "force_reprocess: the files of {} would be there twice: use `lakeward backfill apply --replace`, \
                 or leave it out, since what is missing is stored in any case",
                pipeline.spec.name
            )),
        }
    }

    /// Takes an object. With a `salt` it is stored again even if it is stored,
    /// once for each salt.
    pub(super) async fn take(&self, slice: &Slice, salt: Option<&str>, until: Until) -> Outcome {
        match until.during(self.read(slice, salt)).await {
            None => Outcome::OutOfTime,
            Some(Ok(taken)) => Outcome::Taken(taken),
            Some(Err(Stop::Gone(why))) => Outcome::Skipped(why),
            Some(Err(Stop::Failed(why))) => {
                tracing::error!(object = slice.name, error = why, "an object could not be taken");
                Outcome::Failed(why)
            }
        }
    }

    async fn read(&self, slice: &Slice, salt: Option<&str>) -> Result<Taken, Stop> {
        let place = self.source.bucket().map_or(String::new(), |(bucket, below)| format!("{bucket}/{below}"));
        let salt = format!("{place}\n{}", salt.unwrap_or_default());
        let namespace = BatchId::derive(uuid::Uuid::nil(), &self.stream, &salt, first_record());
        let id = slice.id(namespace.0);
        let incarnation = uuid::Uuid::from_u128(id.0);
        let _alone = self.locks.of(id).lock().await;
        let mut held = Held::new(slice.date.unwrap_or_default(), self.limits());
        let mut taken = Taken { bytes: slice.bytes.unwrap_or(0), ..Taken::default() };
        let mut reader = self.source.open(slice, id, None, &[]).await?;
        while let Some(chunk) = reader.next().await? {
            held.push(chunk.records);
            while let Some(blocks) = held.full() {
                self.deliver(incarnation, blocks, &mut taken).await?;
            }
        }
        if let Some(blocks) = held.rest() {
            self.deliver(incarnation, blocks, &mut taken).await?;
        }
        Ok(taken)
    }

    /// Takes lines that came in an event; `key` stands for an object's.
    pub(super) async fn lines(&self, key: &str, body: &str, until: Until) -> Outcome {
        let bytes = body.len() as u64;
        // What they say is their version.
        let slice = Slice {
            name: key.into(),
            version: body.into(),
            date: None,
            bytes: None,
            ready_at: None,
            captured: Vec::new(),
        };
        let id = slice.id(BatchId::derive(uuid::Uuid::nil(), &self.stream, "lines", first_record()).0);
        let Some(records) = lines::records(key, id, body) else {
            return Outcome::Failed(String::from("there are too many lines"));
        };
        let incarnation = uuid::Uuid::from_u128(id.0);
        let mut held = Held::new(Timestamp::default(), self.limits());
        held.push(records);
        let work = async {
            let mut taken = Taken { bytes, ..Taken::default() };
            while let Some(blocks) = held.full().or_else(|| held.rest()) {
                self.deliver(incarnation, blocks, &mut taken).await?;
            }
            Ok::<_, Stop>(taken)
        };
        match until.during(work).await {
            None => Outcome::OutOfTime,
            Some(Ok(taken)) => Outcome::Taken(taken),
            Some(Err(Stop::Gone(why) | Stop::Failed(why))) => Outcome::Failed(why),
        }
    }

    /// The most bytes and records of a batch, of all pipelines.
    fn limits(&self) -> (u64, u64) {
        let least = |of: fn(&PipelineSpec) -> u64| self.pipelines.iter().map(|it| of(&it.spec)).min();
        let bytes = least(|spec| spec.batch.bytes).unwrap_or(u64::MAX).min(self.batch_bytes);
        (bytes, least(|spec| spec.batch.records).unwrap_or(u64::MAX))
    }

    /// Delivers some records of an object through all pipelines.
    async fn deliver(
        &self,
        incarnation: uuid::Uuid,
        blocks: Vec<RecordBlock>,
        taken: &mut Taken,
    ) -> Result<(), Stop> {
        let blocks: Arc<[RecordBlock]> = blocks.into();
        for pipeline in &self.pipelines {
            let receipt = pipeline.deliver(incarnation, &self.stream, &blocks, &mut taken.numbers).await?;
            taken.is_new |= receipt.files.iter().any(|file| !file.already_there);
        }
        Ok(())
    }
}

impl Pipeline {
    /// Builds a batch and delivers it, however often that takes; whoever calls
    /// stops it when there is no time left.
    async fn deliver(
        &self,
        incarnation: uuid::Uuid,
        stream: &StreamName,
        blocks: &Arc<[RecordBlock]>,
        numbers: &mut Numbers,
    ) -> Result<Receipt, Stop> {
        let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else {
            return Ok(Receipt::default());
        };
        let end = last.first.plus(last.records.len() as u64);
        let Some(span) = Span::new(first.first, end) else { return Ok(Receipt::default()) };
        let id = BatchId::derive(incarnation, stream, &self.spec.name, span);
        let mut refused: BTreeMap<Offset, String> = BTreeMap::new();
        loop {
            let built = self.build(id, blocks, &refused).await?;
            let batch = Batch { id, span, files: built.files, columns: built.columns.into() };
            if batch.files.is_empty() {
                numbers.count(&self.spec.name, &built.counts, &[]);
                return Ok(Receipt::default());
            }
            match self.store(&batch).await {
                Ok(receipt) => {
                    numbers.count(&self.spec.name, &built.counts, &batch.files);
                    return Ok(receipt);
                }
                Err(failure) if failure.unfit.is_empty() => return Err(Stop::Failed(failure.message)),
                Err(failure) => {
                    let known = refused.len();
                    for UnfitRow { file, row, message } in failure.unfit {
                        let Some(record) = built.origins.of(file, row) else { continue };
                        refused.entry(record).or_insert(message);
                    }
                    if refused.len() == known || refused.len() > REFUSED_MAX {
                        return Err(Stop::Failed(failure.message));
                    }
                }
            }
        }
    }

    async fn build(
        &self,
        batch: BatchId,
        blocks: &Arc<[RecordBlock]>,
        refused: &BTreeMap<Offset, String>,
    ) -> Result<Built, Stop> {
        let (spec, sql, blocks) = (Arc::clone(&self.spec), self.sql.clone(), Arc::clone(blocks));
        let refused =
            refused.iter().map(|(offset, message)| Refused { offset: *offset, message: message.clone() });
        let refused: Vec<Refused> = refused.collect();
        let built = tokio::task::spawn_blocking(move || {
            let bytes = blocks.iter().map(|block| block.records.data.len() as u64).sum();
            let input = build::Input {
                batch,
                stream: &spec.stream,
                pipeline: &spec.name,
                shape: &spec.shape,
                schemas: &Schemas::default(),
                planned_at: blocks.first().map_or_else(Timestamp::default, |block| block.received_at),
                expected_bytes: bytes,
                sql: sql.as_deref(),
                seen: spec.shape.dedup.as_ref().map(|_| (&InBatch as &dyn Seen, SEED)),
                refused: &refused,
            };
            let all = || blocks.iter().cloned().map(Ok::<_, std::convert::Infallible>);
            build::build(&input, all(), &mut std::iter::empty(), all)
        });
        let built = built.await.map_err(|error| Stop::Failed(error.to_string()))?;
        built.map_err(|error| match error {
            BuildError::Read(never) => match never {},
            BuildError::Seen(error) => Stop::Failed(error.to_string()),
            BuildError::Shape(error) => Stop::Failed(error.to_string()),
        })
    }

    /// Tries until it is stored, is refused, or nobody waits any more.
    async fn store(&self, batch: &Batch) -> Result<Receipt, Failure> {
        let mut pause = PAUSE_FIRST;
        loop {
            let failure = match self.destination.deliver(batch).await {
                Ok(receipt) => return Ok(receipt),
                Err(failure) if failure.kind == FailureKind::Refused => return Err(failure),
                Err(failure) => failure,
            };
            tracing::warn!(pipeline = self.spec.name, batch = %batch.id, error = %failure, "delivery failed; trying the same batch again");
            tokio::time::sleep(failure.retry_after.unwrap_or(pause).clamp(pause, PAUSE_MAX)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// Only what is in the same batch is known.
struct InBatch;

impl Seen for InBatch {
    fn duplicates(&self, keys: &[Key]) -> Result<Vec<bool>, SeenError> {
        let mut seen = HashSet::with_capacity(keys.len());
        Ok(keys.iter().map(|key| !seen.insert(key.fingerprint)).collect())
    }
}

/// A span for ids that are of no span.
fn first_record() -> Span {
    Span { from: Offset(0), to: Offset(1) }
}
