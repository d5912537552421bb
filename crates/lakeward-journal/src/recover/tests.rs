//! A group of appends of which a crash left some pages and not others.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use lakeward_model::clock::SystemClock;
use lakeward_model::{Records, StreamName, Timestamp};

use super::*;
use crate::frame;
use crate::{Journal, Options, meta};

fn stream() -> StreamName {
    StreamName::new("events").expect("a good name")
}

fn all(journal: &Journal) -> Vec<String> {
    let blocks = journal.read(&stream(), Offset(0), 1 << 20).expect("readable");
    let records = blocks.iter().flat_map(|block| block.records.iter());
    records.map(|record| String::from_utf8_lossy(record).into_owned()).collect()
}

fn open(dir: &Path) -> Result<Journal, OpenError> {
    Journal::open(dir, Options::default(), Arc::new(SystemClock))
}

/// Writes a segment of groups, each of them synced before the next one was
/// written, with zeros in place of frame `zeroed`.
fn write(dir: &Path, groups: &[&[&str]], zeroed: &str) -> u64 {
    let incarnation = Uuid::from_u128(5);
    let folder = dir.join("events");
    std::fs::create_dir(&folder).expect("a folder");
    meta::write(&folder, incarnation).expect("written");
    let header = SegmentHeader { incarnation, first: 0, received_at: Timestamp(0), cursor: None };
    let mut bytes = header.encode();
    let (mut first, mut position_of_zeros) = (0, 0);
    for group in groups {
        let synced = bytes.len() as u64;
        for text in *group {
            let content = frame::Frame {
                kind: Kind::Records,
                first,
                received_at: Timestamp(1),
                synced,
                origin: &Origin::Push(None),
                count: 1,
                ends: &[text.len() as u32],
                data: text.as_bytes(),
                keys: None,
            };
            let start = bytes.len();
            let padding = frame::encode(Seed::new(incarnation, 0), start as u64, &content, &mut bytes);
            bytes.extend_from_slice(text.as_bytes());
            bytes.resize(bytes.len() + padding, 0);
            if *text == zeroed {
                bytes[start..].fill(0);
                position_of_zeros = start as u64;
            }
            first += 1;
        }
    }
    bytes.resize(bytes.len() + 4096, 0);
    let mut file = File::create(segment::path(&folder, 0)).expect("a file");
    file.write_all(&bytes).expect("written");
    position_of_zeros
}

#[test]
fn a_hole_in_the_last_group_is_torn_and_what_follows_it_never_comes_back() {
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), &[&["acked"], &["one", "two", "three"]], "two");
    let journal = open(dir.path()).expect("a torn tail is cut");
    assert_eq!(all(&journal), ["acked", "one"]);
    // As long as the lost one: what was behind that would fit on again.
    let name = stream();
    let again = journal.append(&name, Records::one(Bytes::from_static(b"TWO")), Origin::Push(None));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    assert_eq!(runtime.block_on(again).expect("appended").first, Offset(2));
    drop(journal);
    assert_eq!(all(&open(dir.path()).expect("opens")), ["acked", "one", "TWO"]);
}

#[test]
fn a_hole_below_an_acknowledged_group_is_damage() {
    let dir = tempfile::tempdir().expect("a folder");
    let hole = write(dir.path(), &[&["one", "two", "three"], &["next"]], "two");
    let error = open(dir.path()).expect_err("damaged");
    assert!(matches!(error, OpenError::Damaged { position, .. } if position == hole), "{error}");
}
