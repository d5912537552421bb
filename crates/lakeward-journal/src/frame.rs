//! The frame codec: one append is one frame. All numbers are little-endian.
//!
//! ```text
//!  0       4            8          12     13       14         16
//!  ┌───────┬────────────┬──────────┬──────┬────────┬──────────┐
//!  │ magic │ header crc │ body crc │ kind │ origin │ origin   │
//!  │ LWFR  │            │          │      │ kind   │ length   │
//!  ├───────┴────────────┼──────────┴──────┴────────┼──────────┴──────┐
//!  │ 16 first offset    │ 24 received at, µs       │ 32 synced       │
//!  ├────────────────────┼──────────────────────────┴─────────────────┤
//!  │ 40 record count    │ 44 data length                             │
//!  ├────────────────────┴────────────────────────────────────────────┤
//!  │ 48 origin: the request key or the cursor                        │
//!  ├──────────────────────┬──────────────────────┬───────────────────┤
//!  │ ends, 4 bytes each   │ data                 │ zeros up to 8     │
//!  └──────────────────────┴──────────────────────┴───────────────────┘
//! ```
//!
//! In a frame of records with keys the data are the records and behind them
//! the keys; behind the ends of the records come those of the keys, which
//! count on.
//!
//! The header crc is taken over the stream's incarnation, the segment's first
//! offset, the frame's position in the segment, and the header from byte 8 to
//! the end of the origin. A copy of a frame in another place, even inside the
//! data of a record, is therefore never taken for a frame. The body crc covers
//! ends, data and padding. Two checksums, because opening a journal reads
//! headers only. The whole format: `docs/formats/journal.md`.

use bytes::Bytes;
use lakeward_model::{Cursor, Keys, Origin, Records, RequestKey, Timestamp};
use uuid::Uuid;

/// Bytes of a frame's header without its origin.
pub(crate) const HEADER_BYTES: usize = 48;
/// Bytes of a synced marker.
pub(crate) const MARKER_BYTES: u64 = HEADER_BYTES as u64;
/// Frames start at multiples of this.
pub(crate) const ALIGN: u64 = 8;
/// The longest origin.
pub(crate) const ORIGIN_BYTES_MAX: usize = u16::MAX as usize;
/// The most records that one frame of lost records stands for.
pub(crate) const LOST_RECORDS_MAX: u32 = 1 << 20;
/// What every frame starts with.
pub(crate) const MAGIC: [u8; 4] = *b"LWFR";

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// One append.
    Records = 1,
    /// No records; says that everything before it is durable.
    Marker = 2,
    /// Written by a repair in place of records that were damaged.
    Lost = 3,
    /// One append of records that have keys.
    Keyed = 4,
}

/// The kinds of origin, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum OriginKind {
    None = 0,
    RequestKey = 1,
    Cursor = 2,
}

/// A frame's header, without its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    origin_kind: OriginKind,
    origin_length: u16,
    /// The offset of the first record.
    pub(crate) first: u64,
    /// When the journal took the append.
    pub(crate) received_at: Timestamp,
    /// The position in the segment below which all was durable when this
    /// frame was written.
    pub(crate) synced: u64,
    /// How many records there are.
    pub(crate) count: u32,
    /// Bytes of the records.
    pub(crate) data_length: u32,
    body_crc: u32,
}

/// Why there is no frame at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoFrame {
    /// Zeros: nothing was written here.
    Blank,
    /// More bytes are needed, this many in all.
    Short(usize),
    /// Something else lies here.
    Bad(&'static str),
}

impl Header {
    /// Where the body starts in the frame.
    pub(crate) fn body_at(&self) -> usize {
        HEADER_BYTES + usize::from(self.origin_length)
    }

    fn ends_bytes(&self) -> u64 {
        match self.kind {
            Kind::Records => u64::from(self.count) * 4,
            Kind::Keyed => u64::from(self.count) * 8,
            Kind::Marker | Kind::Lost => 0,
        }
    }

    /// Bytes of the whole frame, with padding.
    pub(crate) fn frame_bytes(&self) -> u64 {
        (self.body_at() as u64 + self.ends_bytes() + u64::from(self.data_length)).next_multiple_of(ALIGN)
    }

    /// The offset one past the last record.
    pub(crate) fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    /// The origin, given the bytes between header and body.
    pub(crate) fn origin(&self, frame: &[u8]) -> Origin {
        let bytes = frame.get(HEADER_BYTES..self.body_at()).unwrap_or_default();
        match self.origin_kind {
            OriginKind::None => Origin::Push(None),
            OriginKind::RequestKey => Origin::Push(RequestKey::new(Bytes::copy_from_slice(bytes))),
            OriginKind::Cursor => Origin::Pull(Cursor(Bytes::copy_from_slice(bytes))),
        }
    }
}

/// The checksums of one segment's frames start from this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    /// The seed of the segment that starts with record `first`.
    pub(crate) fn new(incarnation: Uuid, first: u64) -> Self {
        Self(crc32c::crc32c_append(crc32c::crc32c(incarnation.as_bytes()), &first.to_le_bytes()))
    }

    fn header_crc(self, position: u64, covered: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c_append(self.0, &position.to_le_bytes()), covered)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().copied().map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().copied().map_or(0, u64::from_le_bytes)
}

/// Reads the header of the frame at `position` of a segment; `bytes` starts
/// there.
///
/// # Errors
/// See [`NoFrame`].
pub(crate) fn decode(seed: Seed, position: u64, bytes: &[u8]) -> Result<Header, NoFrame> {
    let Some(fixed) = bytes.get(..HEADER_BYTES) else { return Err(NoFrame::Short(HEADER_BYTES)) };
    if fixed[..4] != MAGIC {
        let blank = fixed.iter().all(|&b| b == 0);
        return Err(if blank { NoFrame::Blank } else { NoFrame::Bad("no frame starts here") });
    }
    let origin_length = u16::from_le_bytes([fixed[14], fixed[15]]);
    let length = HEADER_BYTES + usize::from(origin_length);
    let Some(whole) = bytes.get(..length) else { return Err(NoFrame::Short(length)) };
    if u32_at(fixed, 4) != seed.header_crc(position, &whole[8..]) {
        return Err(NoFrame::Bad("the checksum of the frame's header is wrong"));
    }
    let header = Header {
        kind: match fixed[12] {
            1 => Kind::Records,
            2 => Kind::Marker,
            3 => Kind::Lost,
            4 => Kind::Keyed,
            _ => return Err(NoFrame::Bad("the frame is of a kind that this release does not know")),
        },
        origin_kind: match fixed[13] {
            0 => OriginKind::None,
            1 => OriginKind::RequestKey,
            2 => OriginKind::Cursor,
            _ => return Err(NoFrame::Bad("the frame's origin is of a kind that this release does not know")),
        },
        origin_length,
        first: u64_at(fixed, 16),
        received_at: Timestamp(u64_at(fixed, 24).cast_signed()),
        synced: u64_at(fixed, 32),
        count: u32_at(fixed, 40),
        data_length: u32_at(fixed, 44),
        body_crc: u32_at(fixed, 8),
    };
    let plausible = header.first.checked_add(u64::from(header.count)).is_some()
        && header.synced <= position
        && (header.kind != Kind::Lost || header.count <= LOST_RECORDS_MAX);
    if plausible { Ok(header) } else { Err(NoFrame::Bad("the frame's numbers cannot be right")) }
}

/// Checks the body of a frame without making records of it. `frame` is the
/// whole frame.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_body(header: &Header, frame: &[u8]) -> Result<(), &'static str> {
    if frame.len() as u64 != header.frame_bytes() {
        return Err("the frame is cut short");
    }
    let body = &frame[header.body_at()..];
    if crc32c::crc32c(body) != header.body_crc {
        return Err("the checksum of the frame's records is wrong");
    }
    let mut last = 0;
    for end in body[..header.ends_bytes() as usize].chunks_exact(4).map(|end| u32_at(end, 0)) {
        if end < last {
            return Err("the frame's record ends do not ascend");
        }
        last = end;
    }
    if last > header.data_length { Err("a record ends behind the frame's data") } else { Ok(()) }
}

/// The records of a frame, after checking them. `frame` is the whole frame,
/// and the records share its memory. Lost records come back empty.
///
/// # Errors
/// What is wrong with the frame.
pub(crate) fn records(header: &Header, frame: &Bytes) -> Result<Records, &'static str> {
    check_body(header, frame)?;
    if !matches!(header.kind, Kind::Records | Kind::Keyed) {
        return Ok(Records::new(Bytes::new(), vec![0; header.count as usize]));
    }
    let data_at = header.body_at() + header.ends_bytes() as usize;
    let mut ends: Vec<_> =
        frame[header.body_at()..data_at].chunks_exact(4).map(|end| u32_at(end, 0)).collect();
    let data = frame.slice(data_at..data_at + header.data_length as usize);
    if header.kind == Kind::Records {
        return Ok(Records::new(data, ends));
    }
    let mut of_keys = ends.split_off(header.count as usize);
    let keys_at = ends.last().copied().unwrap_or(0);
    of_keys.iter_mut().for_each(|end| *end -= keys_at);
    let keys = Keys { data: data.slice(keys_at as usize..), ends: of_keys };
    Ok(Records { data: data.slice(..keys_at as usize), ends, keys: Some(keys) })
}

/// What to write as a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    pub(crate) first: u64,
    pub(crate) received_at: Timestamp,
    pub(crate) synced: u64,
    pub(crate) origin: &'a Origin,
    pub(crate) count: u32,
    /// Where the records end; empty unless the frame is of records.
    pub(crate) ends: &'a [u32],
    pub(crate) data: &'a [u8],
    /// The records' keys, if the kind is [`Kind::Keyed`].
    pub(crate) keys: Option<&'a Keys>,
}

fn origin_parts(origin: &Origin) -> (OriginKind, &[u8]) {
    match origin {
        Origin::Push(None) => (OriginKind::None, &[]),
        Origin::Push(Some(key)) => (OriginKind::RequestKey, key.as_bytes()),
        Origin::Pull(cursor) => (OriginKind::Cursor, &cursor.0),
    }
}

/// Bytes that the append will take as a frame, with padding.
pub(crate) fn frame_bytes(records: &Records, origin: &Origin) -> u64 {
    let lead = HEADER_BYTES + origin_parts(origin).1.len();
    let keys = records.keys.as_ref().map_or(0, |keys| keys.ends.len() as u64 * 4 + keys.data.len() as u64);
    (lead as u64 + records.ends.len() as u64 * 4 + records.data.len() as u64 + keys).next_multiple_of(ALIGN)
}

/// Appends to `out` what comes before the frame's data and keys: header,
/// origin, ends. Answers how many zeros come after them.
pub(crate) fn encode(seed: Seed, position: u64, frame: &Frame<'_>, out: &mut Vec<u8>) -> usize {
    let (origin_kind, origin) = origin_parts(frame.origin);
    let origin_length = u16::try_from(origin.len()).expect("the length of an origin was checked");
    let keys: &[u8] = frame.keys.map_or(&[], |keys| &keys.data);
    let keys_at = u32::try_from(frame.data.len()).expect("the length of a frame was checked");
    let data_length =
        u32::try_from(frame.data.len() + keys.len()).expect("the length of a frame was checked");
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&[frame.kind as u8, origin_kind as u8]);
    out.extend_from_slice(&origin_length.to_le_bytes());
    out.extend_from_slice(&frame.first.to_le_bytes());
    out.extend_from_slice(&frame.received_at.0.to_le_bytes());
    out.extend_from_slice(&frame.synced.to_le_bytes());
    out.extend_from_slice(&frame.count.to_le_bytes());
    out.extend_from_slice(&data_length.to_le_bytes());
    out.extend_from_slice(origin);
    let ends_at = out.len();
    out.extend(frame.ends.iter().flat_map(|end| end.to_le_bytes()));
    let of_keys = frame.keys.into_iter().flat_map(|keys| &keys.ends);
    out.extend(of_keys.flat_map(|end| (keys_at + end).to_le_bytes()));
    let length = (out.len() - start) as u64 + u64::from(data_length);
    let padding = (length.next_multiple_of(ALIGN) - length) as usize;
    let body_crc = crc32c::crc32c_append(crc32c::crc32c(&out[ends_at..]), frame.data);
    let body_crc = crc32c::crc32c_append(body_crc, keys);
    let body_crc = crc32c::crc32c_append(body_crc, &[0; ALIGN as usize][..padding]);
    out[start + 8..start + 12].copy_from_slice(&body_crc.to_le_bytes());
    let header_crc = seed.header_crc(position, &out[start + 8..ends_at]);
    out[start + 4..start + 8].copy_from_slice(&header_crc.to_le_bytes());
    padding
}

/// A synced marker for `position`: all before it is durable, and `next` is
/// the offset of the next record.
pub(crate) fn marker(seed: Seed, position: u64, next: u64, received_at: Timestamp) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES);
    let frame = Frame {
        kind: Kind::Marker,
        first: next,
        received_at,
        synced: position,
        origin: &Origin::Push(None),
        count: 0,
        ends: &[],
        data: &[],
        keys: None,
    };
    encode(seed, position, &frame, &mut out);
    out
}

#[cfg(test)]
mod tests;
