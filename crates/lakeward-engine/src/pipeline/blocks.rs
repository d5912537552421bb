//! The records of a batch, a few MiB at a time.

use lakeward_journal::{Journal, ReadError};
use lakeward_model::{Offset, RecordBlock, Span, StreamName};

/// How much of the journal is read at a time while a batch is built.
const READ_BYTES: usize = 4 << 20;

/// The planned records, read a few MiB at a time.
pub(super) struct Blocks<'a> {
    journal: &'a Journal,
    stream: &'a StreamName,
    at: Offset,
    to: Offset,
    read: std::vec::IntoIter<RecordBlock>,
}

impl<'a> Blocks<'a> {
    /// The records of `span`.
    pub(super) fn of_stream(journal: &'a Journal, stream: &'a StreamName, span: Span) -> Self {
        Self { journal, stream, at: span.from, to: span.to, read: Vec::new().into_iter() }
    }

    /// Records that are at hand, those of `span`.
    pub(super) fn at_hand(
        journal: &'a Journal,
        stream: &'a StreamName,
        span: Span,
        blocks: Vec<RecordBlock>,
    ) -> Self {
        Self { read: blocks.into_iter(), ..Self::of_stream(journal, stream, span) }
    }
}

impl Iterator for Blocks<'_> {
    type Item = Result<RecordBlock, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = Span::new(self.at, self.to)?;
        if self.read.as_slice().is_empty() {
            match self.journal.read(self.stream, self.at, READ_BYTES) {
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
