//! What the tests share: short ways to append and read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use lakeward_journal::{AppendError, Appended, Journal, OpenError, Options};
use lakeward_model::clock::SharedClock;
use lakeward_model::conformance::TestClock;
use lakeward_model::{Offset, Origin, Records, RequestKey, StreamName, Timestamp};

pub(crate) fn stream() -> StreamName {
    StreamName::new("events").expect("a good name")
}

pub(crate) fn small() -> Options {
    Options { segment_bytes: 8 << 10, ..Options::default() }
}

pub(crate) fn open(dir: &Path, options: Options) -> Result<Journal, OpenError> {
    open_at(dir, options, &TestClock::at(Timestamp(1_000_000)))
}

pub(crate) fn open_at(dir: &Path, options: Options, clock: &Arc<TestClock>) -> Result<Journal, OpenError> {
    let clock: SharedClock = Arc::<TestClock>::clone(clock);
    let journal = Journal::open(dir, options, clock)?;
    journal.create(&stream()).expect("created");
    Ok(journal)
}

pub(crate) fn records<T: AsRef<[u8]>>(texts: &[T]) -> Records {
    let mut data = Vec::new();
    let mut ends = Vec::new();
    for text in texts {
        data.extend_from_slice(text.as_ref());
        ends.push(u32::try_from(data.len()).expect("small"));
    }
    Records::new(Bytes::from(data), ends)
}

pub(crate) fn key(text: &str) -> Origin {
    Origin::Push(RequestKey::new(text.as_bytes().to_vec()))
}

/// Runs a future on a runtime of its own.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

pub(crate) fn append<T: AsRef<[u8]>>(
    journal: &Journal,
    texts: &[T],
    origin: Origin,
) -> Result<Appended, AppendError> {
    wait(journal.append(&stream(), records(texts), origin))
}

/// Every record of the stream from `from` on, after checking that offsets and
/// times have no gap and never go back.
pub(crate) fn all(journal: &Journal, from: u64, bytes_max: usize) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut next = Offset(from);
    let mut last = Timestamp(i64::MIN);
    loop {
        let blocks = journal.read(&stream(), next, bytes_max).expect("readable");
        if blocks.is_empty() {
            assert_eq!(next, journal.tail(&stream()).expect("a stream").end);
            return out;
        }
        for block in blocks {
            assert_eq!(block.first, next);
            assert!(block.received_at >= last);
            last = block.received_at;
            next = next.plus(block.records.len() as u64);
            out.extend(block.records.iter().map(<[u8]>::to_vec));
        }
    }
}

/// The segment files of the stream, oldest first.
pub(crate) fn segments(dir: &Path) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(dir.join(stream().as_str())).expect("a stream");
    let mut files: Vec<_> = folder
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "seg"))
        .collect();
    files.sort();
    files
}

/// A folder in memory if the machine has one: for tests that open a journal a
/// thousand times and need no real disk.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

/// Copies a journal as a crash would leave it.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}
