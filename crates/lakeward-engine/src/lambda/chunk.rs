//! Cutting the pieces of a batch into calls. Pure, and the same every time.

use std::ops::Range;

use bytes::Bytes;
use lakeward_model::{FUNCTION_BYTES_MAX, Offset, Records, ShardKey, Timestamp};

use super::Arrived;

/// Room for everything in an event that is not a record.
const EVENT_OVERHEAD: usize = 4_096;
/// Room for everything in a record of an event that is not its data: 57 bytes
/// of names and punctuation, an id (29) and an instant (20).
pub(super) const RECORD_OVERHEAD: usize = 108;
/// And of what is said of a record from Kinesis, beside its partition key: 156
/// bytes of names and punctuation, a sequence number (56), a shard (20), a
/// sub-sequence number (10) and an instant (20).
const KINESIS_OVERHEAD: usize = 262;
/// A byte of a text takes so many at most as JSON.
const ESCAPED_MAX: usize = 6;

/// One piece of a record, or a whole one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) data: Bytes,
    pub(super) arrived: Timestamp,
    /// Where it lay in Kinesis, if it came from there.
    pub(super) kinesis: Option<Place>,
}

/// The place of a piece in a Kinesis stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The stored form of its [`ShardKey`].
    pub(super) key: Bytes,
    /// Its record's place in the stream.
    pub(super) offset: Offset,
    /// Its number among the pieces of its record, if there are several.
    pub(super) number: Option<u32>,
}

impl Place {
    /// Shard and partition key.
    pub(super) fn shard_key(&self) -> Option<ShardKey<'_>> {
        ShardKey::read(&self.key)
    }
}

impl Arrived {
    /// Where the piece at `index` lay in Kinesis, if it came from there.
    /// `number` is its number among the pieces of its record.
    fn place(&self, index: usize, number: u32) -> Option<Place> {
        let keys = self.records.keys.as_ref()?;
        let start = index.checked_sub(1).map_or(0, |before| keys.ends[before]);
        let key = keys.data.slice(start as usize..keys.ends[index] as usize);
        let record = self.of.as_ref().map_or(index as u64, |of| u64::from(of[index]));
        let is_one_of_several = number > 0 || self.is_followed(index);
        let number = is_one_of_several.then_some(number);
        Some(Place { key, offset: self.first.plus(record), number })
    }

    /// Whether the piece behind the one at `index` is of the same record.
    fn is_followed(&self, index: usize) -> bool {
        self.of.as_ref().is_some_and(|of| of.get(index + 1) == Some(&of[index]))
    }
}

/// The pieces of one call. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    /// The number of the first of them in the batch.
    pub(super) first: u64,
    pub(super) pieces: Vec<Piece>,
}

impl Chunk {
    /// The numbers of its pieces.
    pub(super) fn range(&self) -> Range<u64> {
        self.first..self.first + self.pieces.len() as u64
    }

    /// The pieces with these numbers.
    pub(super) fn part(&self, range: &Range<u64>) -> &[Piece] {
        let at = |number: u64| usize::try_from(number - self.first).expect("it is inside the chunk");
        &self.pieces[at(range.start)..at(range.end)]
    }
}

/// Bytes of a piece in an event.
fn in_event(piece: &Piece) -> usize {
    let place = piece.kinesis.as_ref().map_or(0, |place| KINESIS_OVERHEAD + place.key.len() * ESCAPED_MAX);
    piece.data.len().div_ceil(3) * 4 + RECORD_OVERHEAD + place
}

/// Whether a piece is too large for any event.
pub(super) fn is_too_large(piece: &Piece) -> bool {
    in_event(piece) > FUNCTION_BYTES_MAX - EVENT_OVERHEAD
}

/// Cuts `arrived`, in its order, at `bytes` of data, at `records` pieces, and
/// where the event would be too large. A piece that is larger than a limit is
/// a call of its own.
#[derive(Debug)]
pub(super) struct Chunks<I> {
    arrived: I,
    bytes: u64,
    records: usize,
    /// The number of the next piece in the batch.
    next: u64,
    block: Arrived,
    /// The index of the next piece in the block, and where it starts.
    index: usize,
    start: usize,
    /// Its number among the pieces of its record.
    number: u32,
}

impl<I> Chunks<I> {
    pub(super) fn new(arrived: I, bytes: u64, records: usize) -> Self {
        let block = Arrived { records: Records::default(), at: Timestamp(0), first: Offset(0), of: None };
        Self { arrived, bytes, records: records.max(1), next: 0, block, index: 0, start: 0, number: 0 }
    }
}

impl<I, E> Chunks<I>
where
    I: Iterator<Item = Result<Arrived, E>>,
{
    /// The next piece, which stays where it is.
    fn peek(&mut self) -> Result<Option<Piece>, E> {
        while self.index == self.block.records.len() {
            let Some(arrived) = self.arrived.next() else { return Ok(None) };
            self.block = arrived?;
            (self.index, self.start, self.number) = (0, 0, 0);
        }
        let end = self.block.records.ends[self.index] as usize;
        let data = self.block.records.data.slice(self.start..end);
        Ok(Some(Piece { data, arrived: self.block.at, kinesis: self.block.place(self.index, self.number) }))
    }

    fn cut(&mut self) -> Result<Option<Chunk>, E> {
        let mut chunk = Chunk { first: self.next, pieces: Vec::new() };
        let mut bytes = 0_u64;
        let mut event = EVENT_OVERHEAD;
        while let Some(piece) = self.peek()? {
            bytes += piece.data.len() as u64;
            event += in_event(&piece);
            let full = bytes > self.bytes || event > FUNCTION_BYTES_MAX || chunk.pieces.len() == self.records;
            if full && !chunk.pieces.is_empty() {
                break;
            }
            self.number = if self.block.is_followed(self.index) { self.number + 1 } else { 0 };
            self.index += 1;
            self.start += piece.data.len();
            chunk.pieces.push(piece);
        }
        self.next = chunk.range().end;
        Ok((!chunk.pieces.is_empty()).then_some(chunk))
    }
}

impl<I, E> Iterator for Chunks<I>
where
    I: Iterator<Item = Result<Arrived, E>>,
{
    type Item = Result<Chunk, E>;

    fn next(&mut self) -> Option<Self::Item> {
        self.cut().transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use lakeward_model::BatchId;
    use proptest::prelude::*;

    use super::*;
    use crate::lambda::{Settings, event};

    fn block(sizes: &[usize], at: i64) -> Result<Arrived, Infallible> {
        let mut data = Vec::new();
        let mut ends = Vec::new();
        for size in sizes {
            data.extend((0..*size).map(|i| (i % 251) as u8));
            ends.push(u32::try_from(data.len()).unwrap());
        }
        Ok(Arrived {
            records: Records::new(data.into(), ends),
            at: Timestamp(at),
            first: Offset(0),
            of: None,
        })
    }

    fn chunks(blocks: &[Vec<usize>], bytes: u64, records: usize) -> Vec<Chunk> {
        let blocks = blocks.iter().enumerate().map(|(i, sizes)| block(sizes, i64::try_from(i).unwrap()));
        Chunks::new(blocks, bytes, records).map(|chunk| chunk.unwrap()).collect()
    }

    #[test]
    fn where_it_cuts() {
        let check = |blocks: &[Vec<usize>], bytes, records, expect: &[usize]| {
            let got: Vec<usize> = chunks(blocks, bytes, records).iter().map(|c| c.pieces.len()).collect();
            assert_eq!(got, expect);
        };
        check(&[], 10, 10, &[]);
        check(&[vec![], vec![]], 10, 10, &[]);
        check(&[vec![5, 5], vec![5]], 10, 10, &[2, 1]);
        check(&[vec![5, 5], vec![5]], 15, 10, &[3]);
        check(&[vec![5, 5], vec![], vec![5]], 100, 1, &[1, 1, 1]);
        check(&[vec![0, 0, 0]], 1, 2, &[2, 1]);
        check(&[vec![1, 100, 1]], 10, 10, &[1, 1, 1]);
        // The event's own limit: 4.5 MiB of small records do not fit.
        let small = vec![100; 48_000];
        let cut = chunks(&[small], u64::MAX, usize::MAX);
        assert!(cut.len() > 1 && cut[0].pieces.len() > 20_000);
        check(&[vec![1, 4_715_520, 1]], u64::MAX, 10, &[1, 1, 1]);
    }

    #[test]
    fn a_piece_that_fits_nowhere_is_told() {
        let piece = |bytes| Piece { data: vec![0; bytes].into(), arrived: Timestamp(0), kinesis: None };
        assert!(!is_too_large(&piece(4_715_000)));
        assert!(is_too_large(&piece(4_716_000)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn chunks_tile_the_pieces_and_keep_the_limits(
            blocks in proptest::collection::vec(proptest::collection::vec(0_usize..300, 0..30), 0..12),
            bytes in 1_u64..2_000,
            records in 1_usize..40,
        ) {
            let cut = chunks(&blocks, bytes, records);
            let mut pieces = Vec::new();
            for chunk in &cut {
                prop_assert_eq!(chunk.first, pieces.len() as u64);
                prop_assert!(!chunk.pieces.is_empty() && chunk.pieces.len() <= records);
                let sum: u64 = chunk.pieces.iter().map(|p| p.data.len() as u64).sum();
                prop_assert!(sum <= bytes || chunk.pieces.len() == 1);
                pieces.extend(chunk.pieces.iter().cloned());
            }
            let mut expect = Vec::new();
            for (i, sizes) in blocks.iter().enumerate() {
                let Ok(Arrived { records, at, .. }) = block(sizes, i64::try_from(i).unwrap());
                expect.extend(records.iter().map(|r| Piece { data: Bytes::copy_from_slice(r), arrived: at, kinesis: None }));
            }
            prop_assert_eq!(pieces, expect);
            prop_assert_eq!(&chunks(&blocks, bytes, records), &cut);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn events_stay_below_the_limit(size in 0_usize..40_000, at in any::<i64>(), first in any::<u32>()) {
            let pieces = FUNCTION_BYTES_MAX / (size.max(60) * 4 / 3) + 10;
            let settings = Settings {
                pipeline: "p".into(), stream_arn: "a".repeat(512), kinesis_arns: ["a".repeat(512), "b".repeat(512)], region: "r".repeat(64), bytes: u64::MAX, records: usize::MAX,
                retries: 0, concurrency: 1, wait: true,
            };
            let blocks = [block(&vec![size; pieces], at)];
            let mut chunk = Chunks::new(blocks.into_iter(), u64::MAX, usize::MAX).next().unwrap().unwrap();
            chunk.first = u64::from(first) << 32;
            let batch = BatchId(uuid::Uuid::from_u128(7));
            let event = event::render(&settings, batch, &chunk, &chunk.range());
            prop_assert!(event.len() <= FUNCTION_BYTES_MAX);
            prop_assert!(event.len() * 10 > FUNCTION_BYTES_MAX * 4, "{} pieces make {} bytes", chunk.pieces.len(), event.len());
        }
    }
}
