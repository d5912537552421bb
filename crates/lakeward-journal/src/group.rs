//! A group of appends that are written and made durable together.

use std::collections::HashMap;
use std::io::IoSlice;
use std::ops::Range;

use bytes::Bytes;
use lakeward_model::{Offset, Origin, Records, RequestKey, Timestamp};
use tokio::sync::oneshot;

use crate::error::AppendError;
use crate::frame::{self, ALIGN, Kind, Seed};
use crate::keys::Answer;
use crate::state::Frame;

/// What an append answers: where its records lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the first record.
    pub first: Offset,
    /// How many records there are.
    pub count: u32,
    /// Whether this is the answer that an earlier append with the same request
    /// key got; nothing was added then.
    pub replayed: bool,
}

impl Appended {
    /// The answer to a request whose key was seen before.
    pub(crate) fn replay(answer: Answer) -> Self {
        Self { first: answer.first, count: answer.count, replayed: true }
    }
}

/// Where the answer to an append goes.
pub(crate) type Reply = oneshot::Sender<Result<Appended, AppendError>>;

/// An append that waits for the disk.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) records: Records,
    pub(crate) origin: Origin,
    pub(crate) reply: Reply,
}

/// At most four buffers for a frame; the kernel takes 1,024 in one call.
pub(crate) const FRAMES_MAX: usize = 256;
/// A group with more bytes is written before it grows further.
pub(crate) const GROUP_BYTES_MAX: u64 = 16 << 20;

/// One frame of the group.
#[derive(Debug)]
struct Part {
    position: u64,
    frame: Frame,
    /// Header, origin and ends in the group's `lead`.
    lead: Range<usize>,
    data: Bytes,
    /// Empty if the records have none.
    keys: Bytes,
    padding: usize,
    origin: Origin,
    reply: Reply,
}

/// Appends that are encoded and wait to be written.
#[derive(Debug, Default)]
pub(crate) struct Group {
    lead: Vec<u8>,
    parts: Vec<Part>,
    /// Requests whose key came a second time within the group, with the part
    /// whose answer they get.
    followers: Vec<(usize, Reply)>,
    keys: HashMap<RequestKey, usize>,
    /// Bytes of all frames.
    pub(crate) bytes: u64,
}

/// Where the next frame of a group goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) seed: Seed,
    pub(crate) position: u64,
    pub(crate) synced: u64,
    pub(crate) first: u64,
    pub(crate) received_at: Timestamp,
}

impl Group {
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.parts.len() >= FRAMES_MAX || self.bytes >= GROUP_BYTES_MAX
    }

    /// The offset one past the group's records, or `end` if it has none.
    pub(crate) fn end(&self, end: u64) -> u64 {
        self.parts.last().map_or(end, |part| part.frame.end().0)
    }

    /// Lets a request wait for another one of the group with the same key; it
    /// comes back if there is none.
    pub(crate) fn follow(&mut self, request: Request) -> Option<Request> {
        let Origin::Push(Some(key)) = &request.origin else { return Some(request) };
        let Some(&leader) = self.keys.get(key) else { return Some(request) };
        self.followers.push((leader, request.reply));
        None
    }

    /// Encodes a request as the next frame.
    pub(crate) fn push(&mut self, place: Place, request: Request) {
        let Request { records: Records { data, ends, keys }, origin, reply } = request;
        let count = u32::try_from(ends.len()).expect("the length of a frame was checked");
        let content = frame::Frame {
            kind: if keys.is_some() { Kind::Keyed } else { Kind::Records },
            first: place.first,
            received_at: place.received_at,
            synced: place.synced,
            origin: &origin,
            count,
            ends: &ends,
            data: &data,
            keys: keys.as_ref(),
        };
        let start = self.lead.len();
        let padding = frame::encode(place.seed, place.position, &content, &mut self.lead);
        let lead = start..self.lead.len();
        let keys = keys.map(|keys| keys.data).unwrap_or_default();
        self.bytes += (lead.len() + data.len() + keys.len() + padding) as u64;
        if let Origin::Push(Some(key)) = &origin {
            self.keys.insert(key.clone(), self.parts.len());
        }
        let frame = Frame {
            first: Offset(place.first),
            records: count,
            bytes: (data.len() + keys.len()) as u64,
            received_at: place.received_at,
        };
        self.parts.push(Part { position: place.position, frame, lead, data, keys, padding, origin, reply });
    }

    /// The bytes to write, in order; the record data is not copied.
    pub(crate) fn buffers(&self) -> Vec<IoSlice<'_>> {
        const ZEROS: [u8; ALIGN as usize] = [0; ALIGN as usize];
        let parts = self.parts.iter().flat_map(|part| {
            [&self.lead[part.lead.clone()], &part.data[..], &part.keys[..], &ZEROS[..part.padding]]
        });
        parts.filter(|bytes| !bytes.is_empty()).map(IoSlice::new).collect()
    }

    /// The frames in order, with their positions and origins.
    pub(crate) fn frames(&self) -> impl Iterator<Item = (u64, Frame, &Origin)> {
        self.parts.iter().map(|part| (part.position, part.frame, &part.origin))
    }

    /// Answers all: the group is durable.
    pub(crate) fn acknowledge(&mut self) {
        // An answer that nobody waits for any more is no error.
        for (leader, reply) in self.followers.drain(..) {
            let frame = &self.parts[leader].frame;
            let _ = reply.send(Ok(Appended { first: frame.first, count: frame.records, replayed: true }));
        }
        for part in self.parts.drain(..) {
            let frame = part.frame;
            let _ =
                part.reply.send(Ok(Appended { first: frame.first, count: frame.records, replayed: false }));
        }
        self.clear();
    }

    /// Answers all: there is no room, and nothing was written.
    pub(crate) fn refuse(&mut self) {
        let replies = self.followers.drain(..).map(|(_, reply)| reply);
        for reply in replies.chain(self.parts.drain(..).map(|part| part.reply)) {
            let _ = reply.send(Err(AppendError::Full));
        }
        self.clear();
    }

    fn clear(&mut self) {
        self.lead.clear();
        self.keys.clear();
        self.bytes = 0;
    }
}
