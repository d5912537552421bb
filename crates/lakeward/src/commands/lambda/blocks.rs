//! Records of an object, cut into batches always in the same places.

use std::collections::VecDeque;

use lakeward_model::{Offset, RecordBlock, Records, Span, Timestamp};

/// Records that wait for their batch to be full.
#[derive(Debug)]
pub(super) struct Held {
    blocks: VecDeque<RecordBlock>,
    next: Offset,
    received_at: Timestamp,
    bytes_max: u64,
    records_max: u64,
}

impl Held {
    /// `limits` are the most bytes and the most records of a batch.
    pub(super) fn new(received_at: Timestamp, (bytes_max, records_max): (u64, u64)) -> Self {
        Self { blocks: VecDeque::new(), next: Offset(0), received_at, bytes_max, records_max }
    }

    /// Takes the next records.
    pub(super) fn push(&mut self, records: Records) {
        let first = self.next;
        self.next = first.plus(records.len() as u64);
        if !records.is_empty() {
            self.blocks.push_back(RecordBlock { records, first, received_at: self.received_at });
        }
    }

    /// The records of a batch that is full: up to the one that reaches a limit,
    /// however they came.
    pub(super) fn full(&mut self) -> Option<Vec<RecordBlock>> {
        let (mut bytes, mut records) = (0, 0);
        for block in &self.blocks {
            let mut start = 0;
            for (index, &end) in (0..).zip(&block.records.ends) {
                bytes += u64::from(end - start);
                records += 1;
                start = end;
                if bytes >= self.bytes_max || records >= self.records_max {
                    return Some(self.until(block.first.plus(index + 1)));
                }
            }
        }
        None
    }

    /// What is left, if anything is.
    pub(super) fn rest(&mut self) -> Option<Vec<RecordBlock>> {
        (!self.blocks.is_empty()).then(|| self.blocks.drain(..).collect())
    }

    /// Takes out the records before `end`.
    fn until(&mut self, end: Offset) -> Vec<RecordBlock> {
        let mut out = Vec::new();
        while let Some(block) = self.blocks.pop_front() {
            let before = Span::new(block.first, end).and_then(|span| block.within(span));
            let behind = Span::new(end, Offset(u64::MAX)).and_then(|span| block.within(span));
            out.extend(before);
            if let Some(behind) = behind {
                self.blocks.push_front(behind);
                break;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records(texts: &[String]) -> Records {
        let (mut data, mut ends) = (Vec::new(), Vec::new());
        for text in texts {
            data.extend_from_slice(text.as_bytes());
            ends.push(u32::try_from(data.len()).unwrap());
        }
        Records::new(data.into(), ends)
    }

    fn batches(chunks: &[&[String]], limits: (u64, u64)) -> Vec<(u64, Vec<Vec<u8>>)> {
        let mut held = Held::new(Timestamp(7), limits);
        let mut out = Vec::new();
        let mut take = |blocks: Vec<RecordBlock>| {
            let all = blocks.iter().flat_map(|block| block.records.iter().map(<[u8]>::to_vec)).collect();
            out.push((blocks[0].first.0, all));
        };
        for chunk in chunks {
            held.push(records(chunk));
            while let Some(blocks) = held.full() {
                take(blocks);
            }
        }
        while let Some(blocks) = held.rest() {
            take(blocks);
        }
        out
    }

    proptest! {
        /// However an object comes in pieces, its batches are the same.
        #[test]
        fn batches_do_not_depend_on_pieces(
            texts in prop::collection::vec("[a-z]{0,9}", 0..40),
            cut in 1_usize..9,
            bytes in 1_u64..30,
            count in 1_u64..9,
        ) {
            let whole = batches(&[&texts], (bytes, count));
            let pieces: Vec<&[String]> = texts.chunks(cut).collect();
            prop_assert_eq!(&whole, &batches(&pieces, (bytes, count)));
            let all: Vec<Vec<u8>> = whole.iter().flat_map(|(_, records)| records.clone()).collect();
            prop_assert_eq!(all, texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>());
            prop_assert!(whole.iter().all(|(_, records)| records.len() as u64 <= count));
        }
    }
}
