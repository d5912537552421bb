//! What the ledger keeps of pipelines and batches.

use lakeward_columnar::build::SliceCounts;
use lakeward_model::{BatchId, DeliveredFile, Offset, Span, StreamName, Timestamp};
use serde::{Deserialize, Serialize};

/// How far a pipeline is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The stream it delivers.
    pub stream: StreamName,
    /// Which incarnation of the stream the offsets below belong to.
    pub incarnation: uuid::Uuid,
    /// The first record it was ever responsible for.
    pub start: Offset,
    /// Everything before this is settled.
    pub delivered_to: Offset,
    /// What became of the records in `[start, delivered_to)`, and of those
    /// that left quarantine again.
    pub counts: Counts,
    /// The records that left quarantine again.
    #[serde(default)]
    pub replays: Replays,
    /// Counts changes of this value.
    #[serde(default)]
    pub revision: u64,
}

/// How far a pipeline is with the records that left quarantine again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Replays {
    /// How many replays were ever queued; each is a batch.
    pub queued: u64,
    /// How many of them are settled.
    pub settled: u64,
    /// Records in all that were queued.
    pub records_queued: u64,
    /// Records in those that are settled.
    pub records_settled: u64,
}

impl Progress {
    /// Tells those who watch, unless they know of something later.
    pub(crate) fn announce(self, watchers: &tokio::sync::watch::Sender<Self>) {
        watchers.send_if_modified(|known| {
            let is_newer = self.revision > known.revision;
            if is_newer {
                *known = self;
            }
            is_newer
        });
    }

    /// What became of records, where one that left quarantine again is not
    /// counted there any more.
    #[must_use]
    pub fn net_counts(&self) -> Counts {
        Counts { quarantined: self.counts.quarantined - self.replays.records_queued, ..self.counts }
    }
}

/// What became of records. The first four add up to the records settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Records whose rows lie at the destination.
    pub delivered: u64,
    /// Records that gave no row: left out by SQL, or blank.
    pub filtered: u64,
    /// Records dropped because their dedup key was known.
    pub duplicates: u64,
    /// Records kept in quarantine.
    pub quarantined: u64,
    /// Rows at the destination; differs from `delivered` where a record holds
    /// several documents.
    pub rows: u64,
    /// Values that lie in `_rescued` instead of a column.
    pub rescued: u64,
    /// Files at the destination.
    pub files: u64,
    /// Bytes of those files.
    pub bytes: u64,
    /// Bytes of the records as received.
    pub source_bytes: u64,
}

impl Counts {
    /// What became of the records and how many rows they are, without the rest.
    #[must_use]
    pub fn of_records(&self) -> SliceCounts {
        let Self { delivered, filtered, duplicates, quarantined, rows, .. } = *self;
        SliceCounts { delivered, filtered, duplicates, quarantined, rows }
    }

    /// Records that are settled, one way or another.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.of_records().records()
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(&self, more: &Self) -> Self {
        let SliceCounts { delivered, filtered, duplicates, quarantined, rows } =
            self.of_records().plus(&more.of_records());
        Self {
            delivered,
            filtered,
            duplicates,
            quarantined,
            rows,
            rescued: self.rescued + more.rescued,
            files: self.files + more.files,
            bytes: self.bytes + more.bytes,
            source_bytes: self.source_bytes + more.source_bytes,
        }
    }
}

/// A committed batch: what `lakeward audit` compares with the lake.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchRecord {
    /// The pipeline that delivered it.
    pub pipeline: String,
    /// The incarnation of the stream that `span` belongs to.
    pub incarnation: uuid::Uuid,
    /// Which batch.
    pub batch: BatchId,
    /// Where it lies: the destination's name.
    pub destination: String,
    /// The records it settled: of the stream, or of the replay.
    pub span: Span,
    /// The replay that it settled, if its records came from quarantine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<uuid::Uuid>,
    /// What became of them.
    pub counts: Counts,
    /// The files that hold it.
    pub files: Vec<DeliveredFile>,
    /// When it was committed.
    pub committed_at: Timestamp,
    /// The run that took its slices again: its files do not count any more, and
    /// are removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<uuid::Uuid>,
}

/// A batch's place among the committed ones: they are ordered by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchKey {
    /// The pipeline.
    pub pipeline: String,
    /// The incarnation of its stream, or its replay.
    pub source: uuid::Uuid,
    /// The first offset.
    pub from: Offset,
}

impl BatchRecord {
    /// Its place among the committed batches.
    #[must_use]
    pub fn key(&self) -> BatchKey {
        BatchKey { pipeline: self.pipeline.clone(), source: self.source(), from: self.span.from }
    }

    /// What its offsets belong to: the incarnation of the stream, or the
    /// replay.
    #[must_use]
    pub fn source(&self) -> uuid::Uuid {
        self.replay.unwrap_or(self.incarnation)
    }
}
