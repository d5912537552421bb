//! The last segment cut at every byte, and with every byte changed.

use std::path::Path;

use bytes::Bytes;
use lakeward_journal::{Journal, OpenError, Options};
use lakeward_model::{Cursor, Origin};

use crate::support::{all, append, copy, key, open, scratch, segments};

fn tiny() -> Options {
    Options { segment_bytes: 1 << 10, ..Options::default() }
}

/// A journal as a crash leaves it: two segments, several appends of several
/// kinds in the last one, the last of them acknowledged. Answers the records,
/// and where the marker behind them starts.
fn journal(dir: &Path) -> (Vec<Vec<u8>>, u64) {
    let live = scratch();
    let journal = open(live.path(), tiny()).expect("opens");
    let mut texts = Vec::new();
    let mut put = |text: String, origin| {
        append(&journal, &[text.as_bytes(), b""], origin).expect("appended");
        texts.push(text.into_bytes());
        texts.push(Vec::new());
    };
    while segments(live.path()).len() < 2 {
        put("first segment ".repeat(20), Origin::Push(None));
    }
    put("plain".into(), Origin::Push(None));
    put("with a key".into(), key("k"));
    put("with a cursor, and longer".into(), Origin::Pull(Cursor(Bytes::from_static(b"page"))));
    put(String::new(), Origin::Push(None));
    put("the last".into(), Origin::Push(None));
    // The marker behind the last append is written after the answer.
    let last = segments(live.path()).pop().expect("a segment");
    let marker = loop {
        let bytes = std::fs::read(&last).expect("readable");
        let frame = bytes.windows(4).rposition(|word| word == b"LWFR").expect("not empty");
        if bytes[frame + 12] == 2 {
            break frame as u64;
        }
        std::thread::yield_now();
    };
    copy(live.path(), dir);
    (texts, marker)
}

const MARKER_BYTES: u64 = 48;

fn reopened(dir: &Path) -> Result<Vec<Vec<u8>>, OpenError> {
    open(dir, tiny()).map(|journal| all(&journal, 0, 1 << 20))
}

#[test]
fn cut_at_every_byte() {
    let original = scratch();
    let (texts, marker) = journal(original.path());
    let mut whole_frames = 0;
    for cut in 0..marker + MARKER_BYTES {
        let dir = scratch();
        copy(original.path(), dir.path());
        let last = segments(dir.path()).pop().expect("a segment");
        std::fs::OpenOptions::new().write(true).open(&last).and_then(|f| f.set_len(cut)).expect("cut");
        match reopened(dir.path()) {
            Ok(read) => {
                assert_eq!(read, texts[..read.len()], "cut at {cut}: nothing but a prefix appears");
                assert!(read.len() >= whole_frames, "cut at {cut}: a longer file has no fewer records");
                whole_frames = read.len();
                if cut % 5 == 0 {
                    go_on(dir.path(), &read);
                }
            }
            Err(OpenError::Damaged { path, position: 0, .. }) => {
                assert_eq!(path, last, "cut at {cut}");
                assert_eq!(whole_frames, 0, "cut at {cut}: only the segment's header is always there");
            }
            Err(error) => panic!("cut at {cut}: {error}"),
        }
    }
    assert_eq!(whole_frames, texts.len(), "everything but the last marker was there");
}

/// What was cut stays cut: later appends never bring it back.
fn go_on(dir: &Path, before: &[Vec<u8>]) {
    let journal: Journal = open(dir, tiny()).expect("opens");
    append(&journal, &["later"], Origin::Push(None)).expect("appended");
    drop(journal);
    let read = reopened(dir).expect("opens");
    assert_eq!(read[..before.len()], *before);
    assert_eq!(read[before.len()..], [b"later"]);
}

#[test]
fn every_byte_changed() {
    let original = scratch();
    let (texts, marker) = journal(original.path());
    for at in 0..marker + MARKER_BYTES {
        let dir = scratch();
        copy(original.path(), dir.path());
        let last = segments(dir.path()).pop().expect("a segment");
        let mut bytes = std::fs::read(&last).expect("readable");
        bytes[at as usize] ^= 0x10;
        std::fs::write(&last, bytes).expect("written");
        match reopened(dir.path()) {
            Ok(read) => {
                assert!(at >= marker, "byte {at}: acknowledged bytes were changed");
                assert_eq!(read, texts, "byte {at}: all acknowledged records and nothing else");
            }
            Err(OpenError::Damaged { path, position, what }) => {
                assert_eq!(path, last, "byte {at}");
                assert!(
                    at < marker && position <= at && at - position < 500,
                    "byte {at}: {what} at {position}"
                );
            }
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
}

#[test]
fn a_sealed_segment_is_checked_when_it_is_opened_and_when_it_is_read() {
    let original = scratch();
    let (_, _) = journal(original.path());
    let check = |change: &dyn Fn(&mut Vec<u8>), opens: bool| {
        let dir = scratch();
        copy(original.path(), dir.path());
        let first = segments(dir.path()).remove(0);
        let mut bytes = std::fs::read(&first).expect("readable");
        change(&mut bytes);
        std::fs::write(&first, bytes).expect("written");
        match open(dir.path(), tiny()) {
            Ok(journal) => {
                assert!(opens);
                let error = journal
                    .read(&crate::support::stream(), lakeward_model::Offset(0), 1 << 20)
                    .expect_err("damaged records are not given out");
                assert!(error.to_string().contains(&*first.to_string_lossy()), "{error}");
            }
            Err(error) => {
                assert!(!opens, "{error}");
                assert!(error.to_string().contains(&*first.to_string_lossy()), "{error}");
            }
        }
    };
    check(&|bytes| bytes[3] ^= 1, false);
    check(&|bytes| bytes[70] ^= 1, false);
    check(&|bytes| bytes[200] ^= 1, true);
    check(&|bytes| bytes.truncate(bytes.len() - 8), false);
    check(&|bytes| bytes.truncate(500), false);
}
