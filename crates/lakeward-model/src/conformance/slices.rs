//! A sliced source in memory that does what its script says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    Announcement, Announcements, Chunk, Failure, FailureKind, Keys, Lineage, Records, Slice, SliceFailure,
    SliceId, SlicePage, SliceReader, SlicedSource, Wanted,
};

/// Slices in memory; clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemorySlices(Arc<Mutex<Script>>);

/// What a [`MemorySlices`] holds and does.
#[derive(Debug, Default)]
pub struct Script {
    /// The slices and their records, by name.
    pub slices: BTreeMap<String, (Slice, Vec<String>)>,
    /// Records in a chunk; 0 means 3.
    pub chunk: usize,
    /// Slices in a page of the list; 0 means 10.
    pub page: usize,
    /// What the next lists answer.
    pub list_failures: VecDeque<Failure>,
    /// What the next readings of a slice answer, at its opening or in the
    /// middle.
    pub read_failures: BTreeMap<String, VecDeque<SliceFailure>>,
    /// Every so many reads of a chunk fail; 0 means none.
    pub fail_every: u64,
    /// How often chunks were asked for.
    pub reads: u64,
    /// How often slices were opened.
    pub opened: u64,
    /// Pages listed.
    pub listed: u64,
    /// Behind which name each page was listed.
    pub behind: Vec<Option<String>>,
    /// Slices that are being read, and the most there were at a time.
    pub reading: (usize, usize),
    /// What is announced next.
    pub announcements: VecDeque<Announcement>,
    /// Announcements that are done with.
    pub done: Vec<u64>,
    /// Whether readings wait behind their first chunk, as long as it is set.
    pub hold: bool,
}

impl MemorySlices {
    /// Looks at the script or changes it.
    pub fn script<T>(&self, look: impl FnOnce(&mut Script) -> T) -> T {
        look(&mut self.lock())
    }

    /// Adds a slice, or replaces the one of this name.
    pub fn add(&self, slice: Slice, records: Vec<String>) {
        self.lock().slices.insert(slice.name.clone(), (slice, records));
    }

    fn lock(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slice of this name and nothing more.
#[must_use]
pub fn plain_slice(name: &str) -> Slice {
    Slice {
        name: name.into(),
        version: String::new(),
        date: None,
        bytes: None,
        ready_at: None,
        captured: Vec::new(),
    }
}

#[async_trait::async_trait]
impl SlicedSource for MemorySlices {
    fn dates(&self) -> &'static str {
        "the date that the test gave it"
    }

    async fn list(&self, wanted: &Wanted, after: Option<&str>) -> Result<SlicePage, Failure> {
        tokio::task::yield_now().await;
        let mut script = self.lock();
        script.listed += 1;
        script.behind.push(after.map(String::from));
        if let Some(failure) = script.list_failures.pop_front() {
            return Err(failure);
        }
        let size = if script.page == 0 { 10 } else { script.page };
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let mut behind = script.slices.range::<str, _>((from, std::ops::Bound::Unbounded));
        let seen: Vec<_> = behind.by_ref().take(size).map(|(_, (slice, _))| slice.clone()).collect();
        let next = behind.next().and(seen.last()).map(|slice| slice.name.clone());
        Ok(SlicePage { slices: seen.into_iter().filter(|slice| wanted.means(slice)).collect(), next })
    }

    async fn open(
        &self,
        slice: &Slice,
        id: SliceId,
        resume: Option<&[u8]>,
        _coming: &[Slice],
    ) -> Result<Box<dyn SliceReader>, SliceFailure> {
        tokio::task::yield_now().await;
        let mut script = self.lock();
        script.opened += 1;
        let place =
            resume.and_then(|place| std::str::from_utf8(place).ok()).and_then(|text| text.parse().ok());
        let records = match script.slices.get(&slice.name) {
            Some((there, records)) if there.version == slice.version => records.clone(),
            _ => return Err(SliceFailure::Gone("it is not there any more".into())),
        };
        script.reading.0 += 1;
        script.reading.1 = script.reading.1.max(script.reading.0);
        let source = self.clone();
        Ok(Box::new(Reader { source, name: slice.name.clone(), id, records, at: place.unwrap_or(0) }))
    }
}

#[derive(Debug)]
struct Reader {
    source: MemorySlices,
    name: String,
    id: SliceId,
    records: Vec<String>,
    at: usize,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.source.lock().reading.0 -= 1;
    }
}

#[async_trait::async_trait]
impl SliceReader for Reader {
    async fn next(&mut self) -> Result<Option<Chunk>, SliceFailure> {
        tokio::task::yield_now().await;
        let size = {
            let mut script = self.source.lock();
            script.reads += 1;
            if script.fail_every > 0 && script.reads.is_multiple_of(script.fail_every) {
                return Err(Failure::new(FailureKind::Unknown, "the connection was cut").into());
            }
            let failures = script.read_failures.get_mut(&self.name);
            if let Some(failure) = failures.and_then(VecDeque::pop_front) {
                return Err(failure);
            }
            if script.chunk == 0 { 3 } else { script.chunk }
        };
        while self.at > 0 && self.source.lock().hold {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        if self.at >= self.records.len() {
            return Ok(None);
        }
        let to = self.records.len().min(self.at + size);
        let (mut data, mut ends) = (Vec::new(), Vec::new());
        let (mut keys, mut key_ends) = (Vec::new(), Vec::new());
        let place = |buffer: &[u8]| u32::try_from(buffer.len()).expect("a test's chunk is small");
        for (line, record) in (1_u64..).zip(&self.records).skip(self.at).take(to - self.at) {
            data.extend_from_slice(record.as_bytes());
            ends.push(place(&data));
            Lineage { slice: self.id, file: &self.name, line, fields: "" }.write(&mut keys);
            key_ends.push(place(&keys));
        }
        self.at = to;
        let keys = Some(Keys { data: keys.into(), ends: key_ends });
        let records = Records { data: data.into(), ends, keys };
        Ok(Some(Chunk { records, resume: to.to_string().into_bytes(), trouble: None }))
    }
}

#[async_trait::async_trait]
impl Announcements for MemorySlices {
    async fn next(&mut self) -> Result<Vec<Announcement>, Failure> {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        Ok(self.lock().announcements.pop_front().into_iter().collect())
    }

    async fn done(&mut self, announcements: &[u64]) -> Result<(), Failure> {
        self.lock().done.extend(announcements);
        Ok(())
    }
}
