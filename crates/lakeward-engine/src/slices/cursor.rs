//! What of the slices is under way: the cursor in every frame of the journal.
//!
//! It is the whole state: every slice of which something is in the journal and
//! that the ledger may not have yet. `docs/formats/slices.md` describes it.

use std::collections::BTreeMap;

use lakeward_model::{Cursor, Slice, SliceId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Most bytes of a cursor that slices are opened for; a frame takes 65,535.
pub(super) const CURSOR_BYTES_MAX: usize = 56 << 10;
/// Most bytes of a slice's own description.
pub(super) const SLICE_BYTES_MAX: usize = 16 << 10;
/// Most bytes of a place in a slice.
pub(super) const RESUME_BYTES_MAX: usize = 1_024;
/// What an entry takes beside the slice and the place.
const ENTRY_BYTES: usize = 320;

/// A slice of which something may be in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) slice: Slice,
    pub(super) progress: Progress,
    /// Bytes of the slice's description.
    described: usize,
    /// What became of it, once that is known.
    pub(super) outcome: Option<Outcome>,
    /// Whether its last chunk is on its way: it will not come into a cursor
    /// with a place any more.
    pub(super) is_last: bool,
    /// Which reading of it counts; what an earlier one says does not.
    pub(super) reading: u64,
}

/// How far a slice is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Progress {
    /// Its chunks in the journal.
    pub(super) chunks: u64,
    /// Their records.
    pub(super) records: u64,
    /// Bytes of those.
    pub(super) bytes: u64,
    /// Where the next chunk starts.
    pub(super) resume: Option<Vec<u8>>,
}

/// What became of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is in the journal as a whole.
    Taken,
    /// It cannot be read on.
    SetAside(String),
    /// It is gone, and nothing of it was taken.
    Gone(String),
}

impl Open {
    pub(super) fn new(slice: Slice, progress: Progress) -> Self {
        let described = described(&slice);
        Self { slice, progress, described, outcome: None, is_last: false, reading: 0 }
    }

    /// What it takes of a cursor, at most.
    pub(super) fn weight(&self) -> usize {
        let ends = self.is_last || matches!(self.outcome, Some(Outcome::Taken));
        let place = if ends { 0 } else { RESUME_BYTES_MAX.div_ceil(3) * 4 };
        self.described + ENTRY_BYTES + place
    }
}

/// Bytes of a slice's description.
pub(super) fn described(slice: &Slice) -> usize {
    serde_json::to_vec(slice).map_or(usize::MAX, |text| text.len())
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    /// The version of this format.
    slices: u32,
    open: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    id: SliceId,
    slice: Slice,
    chunks: u64,
    records: u64,
    bytes: u64,
    /// Base64; absent if the slice ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resume: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ended: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<Uuid>,
}

/// A slice as a cursor has it.
#[derive(Debug)]
pub(super) struct Resumed {
    pub(super) id: SliceId,
    pub(super) open: Open,
    pub(super) run: Option<Uuid>,
}

/// The cursor of these slices; `run_of` tells which run each is of.
pub(super) fn write(open: &BTreeMap<SliceId, Open>, run_of: impl Fn(SliceId) -> Option<Uuid>) -> Cursor {
    let entry = |(id, open): (&SliceId, &Open)| {
        let ended = open.outcome == Some(Outcome::Taken);
        let resume = open.progress.resume.as_ref().filter(|_| !ended);
        Entry {
            id: *id,
            slice: open.slice.clone(),
            chunks: open.progress.chunks,
            records: open.progress.records,
            bytes: open.progress.bytes,
            resume: resume.map(|place| base64_simd::STANDARD.encode_to_string(place)),
            ended,
            run: run_of(*id),
        }
    };
    let begun = open.iter().filter(|(_, open)| open.progress.chunks > 0);
    let stored = Stored { slices: 1, open: begun.map(entry).collect() };
    Cursor(serde_json::to_vec(&stored).expect("it writes").into())
}

/// Reads a cursor.
///
/// # Errors
/// What is wrong with it: the stream was fed by something else.
pub(super) fn read(cursor: &Cursor) -> Result<Vec<Resumed>, String> {
    let stored: Stored = serde_json::from_slice(&cursor.0)
        .ok()
        .filter(|stored: &Stored| stored.slices == 1)
        .ok_or("the stream was fed by a source of another kind until now; give this one another `stream`")?;
    let resumed = |entry: Entry| {
        let resume = entry.resume.map(|place| base64_simd::STANDARD.decode_to_vec(place)).transpose();
        let resume =
            resume.map_err(|_| "the stream's cursor holds a place that cannot be read".to_string())?;
        let Entry { id, slice, chunks, records, bytes, run, ended, .. } = entry;
        let mut open = Open::new(slice, Progress { chunks, records, bytes, resume });
        open.outcome = ended.then_some(Outcome::Taken);
        Ok(Resumed { id, open, run })
    };
    stored.open.into_iter().map(resumed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(name: &str) -> Slice {
        Slice {
            name: name.into(),
            version: "v\"1".into(),
            date: Some(lakeward_model::Timestamp(5)),
            bytes: Some(7),
            ready_at: None,
            captured: vec![lakeward_model::Captured::new("section_id", "145", true)],
        }
    }

    #[test]
    fn what_is_under_way_comes_back() {
        let run = Uuid::from_u128(9);
        let mut open = BTreeMap::new();
        let mut add = |name: &str, chunks, resume: Option<&[u8]>, outcome: Option<Outcome>| {
            let progress = Progress { chunks, records: 3, bytes: 10, resume: resume.map(<[u8]>::to_vec) };
            let mut it = Open::new(slice(name), progress);
            it.outcome = outcome;
            open.insert(slice(name).id(Uuid::nil()), it);
        };
        add("a", 1, Some(b"\0\xff"), None);
        add("b", 2, Some(b"x"), Some(Outcome::Taken));
        add("c", 1, Some(b"y"), Some(Outcome::SetAside("no".into())));
        add("new", 0, None, None);
        let of_run = slice("b").id(Uuid::nil());
        let cursor = write(&open, |id| (id == of_run).then_some(run));
        let mut back = read(&cursor).expect("it reads");
        back.sort_by(|a, b| a.open.slice.name.cmp(&b.open.slice.name));
        let seen: Vec<_> = back
            .iter()
            .map(|it| {
                let open = &it.open;
                (&*open.slice.name, open.progress.resume.as_deref(), open.outcome.clone(), it.run)
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("a", Some(&b"\0\xff"[..]), None, None),
                ("b", None, Some(Outcome::Taken), Some(run)),
                ("c", Some(b"y"), None, None)
            ]
        );
        assert!(back.iter().all(|it| it.open.slice == slice(&it.open.slice.name)));
        assert!(read(&Cursor(b"42".to_vec().into())).expect_err("another's").contains("another `stream`"));
    }

    #[test]
    fn a_cursor_takes_what_its_slices_weigh_at_most() {
        for name in ["a".to_string(), "\"\u{1}ä".repeat(250)] {
            let progress = Progress {
                chunks: u64::MAX,
                records: u64::MAX,
                bytes: u64::MAX,
                resume: Some(vec![7; RESUME_BYTES_MAX]),
            };
            let one = Open::new(slice(&name), progress);
            let weight = one.weight();
            let open = BTreeMap::from([(SliceId(u128::MAX), one)]);
            let stored = write(&open, |_| Some(Uuid::max())).0.len();
            assert!(stored <= weight, "{stored} of {weight}");
        }
    }
}
