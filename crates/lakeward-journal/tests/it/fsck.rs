//! Damage that is explained, and repaired or given up.

use std::path::Path;

use lakeward_journal::{Options, fsck};
use lakeward_model::conformance::TestClock;
use lakeward_model::{Cursor, Origin, Timestamp};

use crate::support::{all, append, key, open, segments, stream};

fn tiny() -> Options {
    Options { segment_bytes: 2 << 10, ..Options::default() }
}

/// Thirty records of 200 bytes, ten of them in frames of two.
fn journal(dir: &Path) -> Vec<Vec<u8>> {
    let journal = open(dir, tiny()).expect("opens");
    let mut texts = Vec::new();
    for i in 0..10_u8 {
        let pair = [vec![b'a' + i; 200], vec![b'A' + i; 200]];
        append(&journal, &pair, key(&i.to_string())).expect("appended");
        texts.extend(pair);
        append(&journal, &[vec![b'0' + i; 200]], Origin::Pull(Cursor(vec![i].into()))).expect("appended");
        texts.push(vec![b'0' + i; 200]);
    }
    texts
}

fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(file).expect("readable");
    change(&mut bytes);
    std::fs::write(file, bytes).expect("written");
}

fn find(file: &Path, text: &[u8]) -> Option<usize> {
    std::fs::read(file).expect("readable").windows(text.len()).position(|window| window == text)
}

#[test]
fn a_sound_journal() {
    let dir = tempfile::tempdir().expect("a folder");
    let texts = journal(dir.path());
    let report = fsck::check(dir.path()).expect("checked");
    assert!(report.is_sound());
    assert_eq!(report, fsck::repair(dir.path(), true).expect("nothing to do"));
    let [stream] = &report.streams[..] else { panic!("one stream") };
    assert_eq!(stream.stream, "events");
    assert!(stream.segments.len() > 2 && stream.segments.iter().all(|segment| segment.finding() == "sound"));
    assert_eq!(stream.segments.iter().map(|segment| segment.records).sum::<u64>(), 30);
    assert_eq!(stream.segments.iter().map(|segment| segment.frames).sum::<u64>(), 20);
    assert_eq!(stream.segments.iter().map(|segment| segment.bytes).sum::<u64>(), 6000);
    assert!(stream.segments.windows(2).all(|pair| pair[0].end == pair[1].first));
    assert_eq!(all(&open(dir.path(), tiny()).expect("opens"), 0, 1000), texts);
}

#[test]
fn a_torn_end_is_cut() {
    let dir = tempfile::tempdir().expect("a folder");
    let texts = journal(dir.path());
    let last = segments(dir.path()).pop().expect("a segment");
    let end = std::fs::read(&last).expect("readable").iter().rposition(|&b| b != 0).expect("written") + 1;
    change(&last, |bytes| bytes[end.next_multiple_of(8)..][..5].copy_from_slice(b"LWFRx"));
    let check = |repaired| {
        let report = if repaired { fsck::repair(dir.path(), false) } else { fsck::check(dir.path()) };
        let report = report.expect("checked");
        let segment = report.streams[0].segments.last().expect("a segment").clone();
        assert!(report.is_sound());
        assert!(segment.torn_bytes >= 5 && segment.repaired == repaired, "{segment:?}");
    };
    check(false);
    check(true);
    assert_eq!(
        fsck::check(dir.path()).expect("checked").streams[0].segments.last().expect("one").torn_bytes,
        0
    );
    assert_eq!(all(&open(dir.path(), tiny()).expect("opens"), 0, 1000), texts);
}

/// Damages a segment; fsck must name exactly `lost`, and go on without them.
fn check(damage: impl FnOnce(&Path), lost: &[std::ops::Range<u64>]) {
    check_in(|dir| {
        damage(dir);
        lost.to_vec()
    });
}

/// The same, for damage that must look where the segments begin: that depends
/// on how many markers lie between the appends.
fn check_in(damage: impl FnOnce(&Path) -> Vec<std::ops::Range<u64>>) {
    let dir = tempfile::tempdir().expect("a folder");
    let mut texts = journal(dir.path());
    let lost = damage(dir.path());
    let found = fsck::check(dir.path()).expect("checked");
    assert!(!found.is_sound());
    let damage = found.streams[0].segments.iter().flat_map(|segment| &segment.damage);
    let mut named: Vec<std::ops::Range<u64>> = Vec::new();
    for (from, to) in damage.filter_map(|damage| damage.lost) {
        // Two damaged frames in a row are one place or two, by whether a
        // marker lies between them.
        match named.last_mut().filter(|last| last.end == from) {
            Some(last) => last.end = to,
            None => named.push(from..to),
        }
    }
    assert_eq!(named, lost);
    assert!(!fsck::repair(dir.path(), false).expect("repaired").is_sound(), "not without being told");
    assert!(fsck::repair(dir.path(), true).expect("repaired").is_sound());
    let after = fsck::check(dir.path()).expect("checked");
    assert!(after.is_sound(), "{after:?}");
    let given_up: u64 = after.streams[0].segments.iter().map(|segment| segment.given_up).sum();
    assert_eq!(given_up, lost.iter().map(|range| range.end - range.start).sum::<u64>());
    for offset in lost.iter().cloned().flatten() {
        texts[offset as usize].clear();
    }
    for _ in 0..2 {
        let journal = open(dir.path(), tiny()).expect("opens");
        assert_eq!(all(&journal, 0, 1000), texts);
        // Without its last page, the stream goes on from the page before.
        let cursor = if lost.iter().any(|range| range.contains(&29)) { 8 } else { 9 };
        assert_eq!(journal.last_cursor(&stream()), Some(Cursor(vec![cursor].into())));
    }
    let journal = open(dir.path(), tiny()).expect("opens");
    assert_eq!(append(&journal, &["more"], Origin::Push(None)).expect("appended").first.0, 30);
    let kept = std::fs::read_dir(dir.path().join("events/damaged")).expect("kept").count();
    assert!(kept > 0 || lost.is_empty());
}

fn flip(dir: &Path, text: &[u8]) {
    let file = segments(dir).into_iter().find(|file| find(file, text).is_some()).expect("it is there");
    let at = find(&file, text).expect("it is there");
    change(&file, |bytes| bytes[at] ^= 1);
}

#[test]
fn damaged_records() {
    check(|dir| flip(dir, b"AAAA"), std::slice::from_ref(&(0..2)));
    check(
        |dir| {
            flip(dir, b"cccc");
            flip(dir, b"2222");
            flip(dir, b"7777");
        },
        &[6..9, 23..24],
    );
}

#[test]
fn damage_in_the_last_segment_below_its_end() {
    check(
        |dir| {
            let last = segments(dir).pop().expect("a segment");
            assert!(find(&last, b"9999").is_some());
            flip(dir, b"9999");
        },
        std::slice::from_ref(&(29..30)),
    );
}

/// The records of the second segment.
fn second(dir: &Path) -> std::ops::Range<u64> {
    let report = fsck::check(dir).expect("checked");
    let segment = &report.streams[0].segments[1];
    segment.first..segment.end
}

#[test]
fn a_missing_segment_and_a_wiped_one() {
    check_in(|dir| {
        let lost = second(dir);
        std::fs::remove_file(&segments(dir)[1]).expect("removed");
        vec![lost]
    });
    check_in(|dir| {
        let lost = second(dir);
        change(&segments(dir)[1], |bytes| bytes.fill(0xEE));
        vec![lost]
    });
    check(|dir| change(&segments(dir)[1], |bytes| bytes[..40].fill(0)), &[]);
}

#[test]
fn lost_metadata_is_told_by_the_segments() {
    let dir = tempfile::tempdir().expect("a folder");
    let texts = journal(dir.path());
    change(&dir.path().join("events/stream"), |bytes| bytes[20] ^= 1);
    assert!(lakeward_journal::Journal::open(dir.path(), tiny(), TestClock::at(Timestamp(0))).is_err());
    assert!(!fsck::check(dir.path()).expect("checked").is_sound());
    assert!(fsck::repair(dir.path(), false).expect("repaired").is_sound());
    assert_eq!(all(&open(dir.path(), tiny()).expect("opens"), 0, 1000), texts);
}
