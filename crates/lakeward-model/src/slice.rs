//! Sources whose records come in slices: the hours of an export, the objects of
//! a bucket. What is taken, what is left and how far one got is known slice by
//! slice, so any range can be planned, pulled, pulled again and verified.

mod lineage;

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::{Failure, Records, Timestamp};

pub use lineage::{Captured, CapturedValue, Lineage};

/// A piece of a source that is taken as a whole, exactly once: an hour of an
/// export, an object. What it holds never changes: two readings of the same
/// slice yield the same records in the same order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// Its name, unique in the source: `2026-03-01T05`, an object's key. 1 to
    /// 1024 bytes; a source lists its slices in the order of these bytes.
    pub name: String,
    /// What tells two contents under the same name apart: an object's version
    /// or etag. Empty where a name has one content for ever.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The instant that date filters mean; [`SlicedSource::dates`] says which
    /// one that is. Unknown if the name tells none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<Timestamp>,
    /// Its bytes at the source, if they are known without reading it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// It cannot be had before this instant, if that lies in the future: an
    /// hour that the other side is still loading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Timestamp>,
    /// What its name says, by the source's pattern: `section_id` is `145`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub captured: Vec<Captured>,
}

/// What stands for a slice in the journal and in the ledger: a 128-bit hash of
/// name and version, salted where a slice is taken once more on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SliceId(pub u128);

impl Slice {
    /// Its id. `again` is nil, except in a run that takes slices again.
    #[must_use]
    pub fn id(&self, again: uuid::Uuid) -> SliceId {
        let mut hash = Xxh3::new();
        // Lengths first, so that no two pairs of texts give the same bytes.
        hash.update(&(self.name.len() as u64).to_le_bytes());
        hash.update(self.name.as_bytes());
        hash.update(&(self.version.len() as u64).to_le_bytes());
        hash.update(self.version.as_bytes());
        hash.update(again.as_bytes());
        SliceId(hash.digest128())
    }

    /// What its name says, and its version as `_etag`, for
    /// [`Lineage::fields`].
    #[must_use]
    pub fn fields(&self) -> String {
        let mut fields = Captured::fields(&self.captured);
        if !self.version.is_empty() {
            let comma = if fields.is_empty() { "" } else { "," };
            let version = serde_json::Value::from(self.version.as_str());
            fields = format!("{fields}{comma}\"_etag\":{version}");
        }
        fields
    }
}

impl fmt::Display for SliceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for SliceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<SliceId> for String {
    fn from(id: SliceId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for SliceId {
    type Error = std::num::ParseIntError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        u128::from_str_radix(&text, 16).map(Self)
    }
}

/// Which slices are meant. An empty one means all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wanted {
    /// Those whose date is at or behind this instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Those whose date is before this instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// Those whose name starts so.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// Those whose name says so: each part, by name, has this value.
    #[serde(rename = "where", skip_serializing_if = "Vec::is_empty")]
    pub captured: Vec<(String, String)>,
}

impl Wanted {
    /// Whether it means this slice. A slice without a date is in no range of
    /// dates.
    #[must_use]
    pub fn means(&self, slice: &Slice) -> bool {
        let dated = |fits: &dyn Fn(Timestamp) -> bool| slice.date.is_some_and(fits);
        self.from.is_none_or(|from| dated(&|date| date >= from))
            && self.to.is_none_or(|to| dated(&|date| date < to))
            && slice.name.starts_with(&self.prefix)
            && self.captured.iter().all(|(name, value)| {
                slice.captured.iter().any(|part| part.name == *name && part.value.text() == value)
            })
    }
}

/// A part of the list of a source's slices.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SlicePage {
    /// The slices, in the order of their names.
    pub slices: Vec<Slice>,
    /// The name behind which the list goes on; `None` at its end. A page may
    /// be empty and the list go on.
    pub next: Option<String>,
}

/// A part of a slice's records.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// The records, at most about 4 MiB, each with a [`Lineage`] as its key.
    pub records: Records,
    /// Where the slice's next chunk starts: opaque, a few hundred bytes at most.
    pub resume: Vec<u8>,
    /// Something that a person should know although it goes on.
    pub trouble: Option<String>,
}

/// Where slices come from. It keeps nothing between calls but caches: what is
/// taken and how far is known by the engine.
#[async_trait::async_trait]
pub trait SlicedSource: Send + Sync + fmt::Debug {
    /// Which date of a slice filters mean, in a few words for people: `the hour
    /// of upload, in UTC`.
    fn dates(&self) -> &'static str;

    /// How many of the slices that follow [`open`](Self::open) is told, at most.
    fn looks_ahead(&self) -> usize {
        31
    }

    /// Lists the slices that there are, also those that are not ready yet, in
    /// the order of their names: those that `wanted` means and whose name lies
    /// behind `after`. Bounded memory however many there are.
    ///
    /// # Errors
    /// A [`Failure`]; the caller asks for the same page again.
    async fn list(&self, wanted: &Wanted, after: Option<&str>) -> Result<SlicePage, Failure>;

    /// Opens a slice where a chunk's `resume` said, or at its start; `id` is for
    /// the lineage of its records. `coming` are the slices that will be opened next if all goes well, in that order:
    /// a source may fetch some of them in one go.
    ///
    /// # Errors
    /// See [`SliceFailure`].
    async fn open(
        &self,
        slice: &Slice,
        id: SliceId,
        resume: Option<&[u8]>,
        coming: &[Slice],
    ) -> Result<Box<dyn SliceReader>, SliceFailure>;
}

/// Why a slice, or the rest of it, could not be read.
#[derive(Debug)]
pub enum SliceFailure {
    /// The source as a whole fails: the caller opens the slice again later,
    /// behind the last chunk that it made durable.
    Source(Failure),
    /// This slice cannot be read, however often it is tried, others may be: it
    /// is corrupt, or larger than the other side gives out. The caller sets it
    /// aside with this reason, which also says what to do.
    Broken(String),
    /// It is not there any more under this name and version. The caller forgets
    /// it unless records of it were taken; then it is set aside.
    Gone(String),
}

impl From<Failure> for SliceFailure {
    fn from(failure: Failure) -> Self {
        Self::Source(failure)
    }
}

/// An open slice.
#[async_trait::async_trait]
pub trait SliceReader: Send + fmt::Debug {
    /// The next records; `None` at the end of the slice, which was then read
    /// completely and found whole.
    ///
    /// # Errors
    /// See [`SliceFailure`].
    async fn next(&mut self) -> Result<Option<Chunk>, SliceFailure>;
}

/// Tells of new slices as they appear, at least once each, in any order: a
/// queue of notifications.
#[async_trait::async_trait]
pub trait Announcements: Send + fmt::Debug {
    /// What was announced; waits a few seconds if there is nothing. Keeps what
    /// it handed out from being announced to others until it is done. Dropping
    /// the future loses nothing for good.
    ///
    /// # Errors
    /// A [`Failure`]; the caller asks again after a pause.
    async fn next(&mut self) -> Result<Vec<Announcement>, Failure>;

    /// All slices of these are taken: they need not be announced again.
    ///
    /// # Errors
    /// A [`Failure`]; they may be announced again, which changes nothing.
    async fn done(&mut self, announcements: &[u64]) -> Result<(), Failure>;
}

/// Something that was announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Its number, unique in the process.
    pub number: u64,
    /// The slices that it tells of; none if it tells of nothing that is ours.
    pub slices: Vec<Slice>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(name: &str, version: &str) -> Slice {
        let captured = vec![Captured::new("section_id", "145", false)];
        Slice {
            name: name.into(),
            version: version.into(),
            date: Some(Timestamp(100)),
            bytes: None,
            ready_at: None,
            captured,
        }
    }

    #[test]
    fn an_id_is_of_name_version_and_run() {
        let nil = uuid::Uuid::nil();
        let ids = [slice("a", "b"), slice("ab", ""), slice("a", ""), slice("", "ab")];
        let mut ids: Vec<SliceId> = ids.iter().map(|slice| slice.id(nil)).collect();
        ids.push(slice("a", "b").id(uuid::Uuid::from_u128(1)));
        let mut distinct = ids.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), ids.len());
        // Stored in ledgers, so it never changes.
        assert_eq!(slice("a", "b").id(nil).to_string(), "73f735f9e1e49b2ccc87c869e60b4271");
        assert_eq!(SliceId::try_from(ids[0].to_string()), Ok(ids[0]));
    }

    #[test]
    fn what_is_wanted_is_meant() {
        let all = Wanted::default();
        let undated = Slice { date: None, ..slice("a/1", "") };
        let check = |wanted: Wanted, slice: &Slice, expect: bool| assert_eq!(wanted.means(slice), expect);
        check(all.clone(), &undated, true);
        check(Wanted { from: Some(Timestamp(0)), ..all.clone() }, &undated, false);
        let dated = slice("a/1", "");
        check(Wanted { from: Some(Timestamp(100)), ..all.clone() }, &dated, true);
        check(Wanted { to: Some(Timestamp(100)), ..all.clone() }, &dated, false);
        check(Wanted { prefix: "a/".into(), ..all.clone() }, &dated, true);
        check(Wanted { prefix: "b/".into(), ..all.clone() }, &dated, false);
        let of = |value: &str| vec![("section_id".to_string(), value.to_string())];
        check(Wanted { captured: of("145"), ..all.clone() }, &dated, true);
        check(Wanted { captured: of("14"), ..all.clone() }, &dated, false);
        check(Wanted { captured: vec![("x".into(), "145".into())], ..all }, &dated, false);
    }
}
