//! Disks that are full, that write little at a time, and that fail.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use lakeward_model::clock::SystemClock;
use lakeward_model::{Offset, Origin, Records, RequestKey, StreamName};

use crate::disk::{Disk, OsDisk};
use crate::{AppendError, Appended, Journal, Options};

/// A disk with faults to switch on.
#[derive(Debug)]
struct Faulty {
    /// Bytes that can still be written; negative is without limit.
    room: AtomicI64,
    /// The most bytes that one call writes.
    at_once: AtomicU64,
    fail: Mutex<Option<&'static str>>,
}

impl Faulty {
    fn new() -> Arc<Self> {
        Arc::new(Self { room: AtomicI64::new(-1), at_once: AtomicU64::new(u64::MAX), fail: Mutex::new(None) })
    }

    fn fails(&self, call: &str) -> io::Result<()> {
        let fails = self.fail.lock().expect("not poisoned").is_some_and(|name| name == call);
        if fails { Err(io::Error::other("the disk is broken")) } else { Ok(()) }
    }
}

impl Disk for Faulty {
    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        // A file system without preallocation: a full disk shows at the write.
        file.set_len(bytes)
    }

    fn write_at(&self, file: &File, buffers: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        self.fails("write")?;
        let room = self.room.load(Ordering::SeqCst);
        let wanted: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let allowed = (self.at_once.load(Ordering::SeqCst)).min(u64::try_from(room).unwrap_or(u64::MAX));
        if allowed == 0 && wanted > 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let all: Vec<u8> = buffers.iter().flat_map(|buffer| buffer.iter().copied()).collect();
        let part = &all[..wanted.min(usize::try_from(allowed).unwrap_or(usize::MAX))];
        let written = OsDisk.write_at(file, &[IoSlice::new(part)], position)?;
        if room >= 0 {
            self.room.fetch_sub(written as i64, Ordering::SeqCst);
        }
        Ok(written)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.fails("fsync")?;
        OsDisk.sync(file)
    }
}

fn stream() -> StreamName {
    StreamName::new("events").expect("a good name")
}

fn open(disk: &Arc<Faulty>, dir: &Path) -> Journal {
    let options = Options { segment_bytes: 8 << 10, ..Options::default() };
    let disk: Arc<dyn Disk> = Arc::<Faulty>::clone(disk);
    let journal = Journal::open_on(disk, dir, options, Arc::new(SystemClock)).expect("opens");
    journal.create(&stream()).expect("created");
    journal
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

fn append(journal: &Journal, text: &str, key: &str) -> Result<Appended, AppendError> {
    let origin = Origin::Push(RequestKey::new(key.as_bytes().to_vec()));
    wait(journal.append(&stream(), Records::one(Bytes::from(text.to_owned())), origin))
}

fn all(journal: &Journal) -> Vec<String> {
    let mut out = Vec::new();
    loop {
        let blocks = journal.read(&stream(), Offset(out.len() as u64), 1 << 20).expect("readable");
        if blocks.is_empty() {
            return out;
        }
        for record in blocks.iter().flat_map(|block| block.records.iter()) {
            out.push(String::from_utf8(record.to_vec()).expect("text"));
        }
    }
}

#[test]
fn a_disk_that_is_full_at_any_byte_refuses_and_goes_on_later() {
    for room in (0..3000).step_by(53) {
        let (disk, dir) = (Faulty::new(), tempfile::tempdir().expect("a folder"));
        let journal = open(&disk, dir.path());
        let mut acked = Vec::new();
        let mut put = |journal: &Journal, text: String| {
            let result = append(journal, &text, "");
            if result.is_ok() {
                acked.push(text);
            }
            (result, acked.clone())
        };
        for i in 0..3 {
            put(&journal, format!("before {i}")).0.expect("appended");
        }
        disk.room.store(room, Ordering::SeqCst);
        for i in 0..10 {
            let (result, _) = put(&journal, format!("meanwhile {i} {}", "x".repeat(500)));
            assert!(matches!(result, Ok(_) | Err(AppendError::Full)), "{result:?}");
        }
        assert!(journal.is_full());
        disk.room.store(-1, Ordering::SeqCst);
        let (result, acked) = put(&journal, "after".into());
        result.expect("there is room again");
        assert_eq!(all(&journal), acked, "room for {room}");
        drop(journal);
        assert_eq!(all(&open(&Faulty::new(), dir.path())), acked, "room for {room}, reopened");
    }
}

#[test]
fn nothing_of_a_refused_append_is_there_after_a_crash() {
    let (disk, dir) = (Faulty::new(), tempfile::tempdir().expect("a folder"));
    let journal = open(&disk, dir.path());
    append(&journal, "acked", "").expect("appended");
    disk.room.store(300, Ordering::SeqCst);
    let refused = append(&journal, &"x".repeat(1000), "key");
    assert!(matches!(refused, Err(AppendError::Full)), "{refused:?}");
    disk.room.store(-1, Ordering::SeqCst);
    // The files as they are now, without a clean close.
    let crashed = tempfile::tempdir().expect("a folder");
    let folder = crashed.path().join("events");
    std::fs::create_dir(&folder).expect("a folder");
    for entry in std::fs::read_dir(dir.path().join("events")).expect("a folder") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), folder.join(entry.file_name())).expect("copied");
    }
    let reopened = open(&Faulty::new(), crashed.path());
    assert_eq!(all(&reopened), ["acked"]);
    let again = append(&reopened, "again", "key").expect("appended");
    assert_eq!((again.first, again.replayed), (Offset(1), false), "the key of a refused append is free");
}

#[test]
fn short_writes_are_completed() {
    for at_once in [1, 7, 100] {
        let (disk, dir) = (Faulty::new(), tempfile::tempdir().expect("a folder"));
        disk.at_once.store(at_once, Ordering::SeqCst);
        let journal = open(&disk, dir.path());
        let texts: Vec<_> = (0..20).map(|i| format!("{i} {}", "y".repeat(i * 10))).collect();
        for text in &texts {
            append(&journal, text, text).expect("appended");
        }
        drop(journal);
        assert_eq!(all(&open(&disk, dir.path())), texts);
    }
}

const CHILD: &str = "LAKEWARD_JOURNAL_FATAL_CHILD";

/// Not a test by itself: fails a call of the disk, if it is the child.
#[test]
fn fatal_child() {
    let (Some(dir), Ok(call)) = (std::env::var_os("LAKEWARD_JOURNAL_FATAL_DIR"), std::env::var(CHILD)) else {
        return;
    };
    let disk = Faulty::new();
    let journal = open(&disk, Path::new(&dir));
    append(&journal, "acked", "").expect("appended");
    *disk.fail.lock().expect("not poisoned") = Some(if call == "write" { "write" } else { "fsync" });
    let answer = append(&journal, "never acknowledged", "");
    panic!("the process went on after a failed {call}: {answer:?}");
}

#[test]
fn a_failed_write_or_fsync_ends_the_process_and_names_the_file() {
    for call in ["write", "fsync"] {
        let dir = tempfile::tempdir().expect("a folder");
        let output = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "writer::tests::fatal_child", "--nocapture", "--test-threads=1"])
            .env(CHILD, call)
            .env("LAKEWARD_JOURNAL_FATAL_DIR", dir.path())
            .output()
            .expect("a child");
        let said = String::from_utf8_lossy(&output.stderr);
        let file = dir.path().join("events/00000000000000000000.seg");
        assert!(!output.status.success());
        assert!(said.contains(&format!("{call} of {} failed: the disk is broken", file.display())), "{said}");
        assert!(!said.contains("went on"), "{said}");
        let left = all(&open(&Faulty::new(), dir.path()));
        assert_eq!(left[0], "acked");
        // A write that reached the page cache may be there: it was never answered.
        assert!(left.len() == 1 || left[1..] == ["never acknowledged"], "{left:?}");
    }
}
