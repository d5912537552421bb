//! The records of a batch, a few MiB at a time.

use lakeward_journal::{Journal, ReadError};
use lakeward_model::{Offset, RecordBlock, Span, StreamName};
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How much of the journal is read at a time while a batch is built.
const READ_BYTES: usize = 4 << 20;

/// The planned records, read a few MiB at a time.
pub(super) struct Blocks {
    journal: Journal,
    stream: StreamName,
    at: Offset,
    to: Offset,
    read: std::vec::IntoIter<RecordBlock>,
    /// The pipeline's task waits for whoever reads.
    _token: TaskTrackerToken,
}

impl Blocks {
    /// The records of `span` of a stream, or `at_hand` if they are not of one.
    pub(super) fn new(
        journal: &Journal,
        stream: &StreamName,
        span: Span,
        at_hand: Option<Vec<RecordBlock>>,
        token: TaskTrackerToken,
    ) -> Self {
        let read = at_hand.unwrap_or_default().into_iter();
        let (journal, stream) = (journal.clone(), stream.clone());
        Self { journal, stream, at: span.from, to: span.to, read, _token: token }
    }
}

impl Iterator for Blocks {
    type Item = Result<RecordBlock, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = Span::new(self.at, self.to)?;
        if self.read.as_slice().is_empty() {
            match self.journal.read(&self.stream, self.at, READ_BYTES) {
                Ok(blocks) => self.read = blocks.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
        let block = self.read.next().and_then(|block| block.within(rest));
        let block = block.expect("the journal holds every record of a plan");
        assert_eq!(block.first, self.at, "the journal is gap-free");
        self.at = block.first.plus(block.records.len() as u64);
        Some(Ok(block))
    }
}
