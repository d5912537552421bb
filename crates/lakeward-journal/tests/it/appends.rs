//! Appends, request keys, cursors, limits, trimming.

use std::time::Duration;

use bytes::Bytes;
use lakeward_journal::{AppendError, Journal, Options, ReadError};
use lakeward_model::conformance::TestClock;
use lakeward_model::{Cursor, Keys, Offset, Origin, Records, RequestKey, StreamName, Timestamp};

use crate::support::{all, append, key, open, open_at, records, segments, small, stream, wait};

const PUSH: Origin = Origin::Push(None);

#[test]
fn what_is_appended_is_read_before_and_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut expect = Vec::new();
    for round in 0..4 {
        let journal = open(dir.path(), small()).expect("opens");
        assert_eq!(all(&journal, 0, 1 << 20), expect);
        for append_number in 0..30 {
            let texts: Vec<_> = (0..append_number).map(|i| format!("{round}/{append_number}/{i}")).collect();
            let appended = append(&journal, &texts, PUSH).expect("appended");
            assert_eq!((appended.first.0, appended.count as usize), (expect.len() as u64, texts.len()));
            expect.extend(texts.into_iter().map(String::into_bytes));
            assert_eq!(*journal.watch(&stream()).expect("a stream").borrow(), Offset(expect.len() as u64));
        }
        assert_eq!(all(&journal, 0, 1 << 20), expect);
    }
    assert!(segments(dir.path()).len() > 1, "several segments were written");
    let journal = open(dir.path(), small()).expect("opens");
    for from in (0..expect.len()).step_by(7) {
        assert_eq!(all(&journal, from as u64, 1), expect[from..], "one frame at a time from {from}");
        assert_eq!(all(&journal, from as u64, 300), expect[from..], "a few frames at a time from {from}");
    }
}

#[test]
fn a_read_is_bounded_by_bytes_but_gives_a_frame() {
    let dir = tempfile::tempdir().expect("a folder");
    let journal = open(dir.path(), Options::default()).expect("opens");
    for _ in 0..10 {
        append(&journal, &[vec![7; 100_000]], PUSH).expect("appended");
    }
    let blocks = |from, bytes| journal.read(&stream(), Offset(from), bytes).expect("readable").len();
    assert_eq!(blocks(0, 1), 1);
    assert_eq!(blocks(0, 199_999), 1);
    assert_eq!(blocks(0, 200_000), 2);
    assert_eq!(blocks(3, usize::MAX), 7);
    assert_eq!(blocks(10, usize::MAX), 0);
    assert_eq!(blocks(11, usize::MAX), 0);
}

#[test]
fn tail_frames_and_times() {
    let dir = tempfile::tempdir().expect("a folder");
    let clock = TestClock::at(Timestamp(500));
    let journal = open_at(dir.path(), small(), &clock).expect("opens");
    for i in 0..2000_u32 {
        clock.set(Timestamp(500 + i64::from(i)));
        append(&journal, &["abcd", "efghij"], PUSH).expect("appended");
    }
    // The clock of the machine is set back.
    clock.set(Timestamp(3));
    append(&journal, &["last"], PUSH).expect("appended");
    for reopened in [false, true] {
        let journal = if reopened {
            journal.close();
            open_at(dir.path(), small(), &clock).expect("opens")
        } else {
            journal.clone()
        };
        let tail = journal.tail(&stream()).expect("a stream");
        assert_eq!((tail.start, tail.end), (Offset(0), Offset(4001)));
        assert_eq!(tail.bytes(Offset(0)), 20_004);
        assert_eq!(tail.bytes(Offset(4001)), 0);
        assert!(tail.bytes(Offset(2000)).abs_diff(10_004) < 500, "{}", tail.bytes(Offset(2000)));
        for offset in [0, 1, 2, 999, 2000, 3999] {
            assert_eq!(
                tail.oldest(Offset(offset)),
                Some(Timestamp(500 + offset.cast_signed() / 2)),
                "{offset}"
            );
        }
        assert_eq!(tail.oldest(Offset(4000)), Some(Timestamp(2499)), "time never goes back");
        assert_eq!(tail.oldest(Offset(4001)), None);
        for from in [0, 3, 1500, 3998] {
            let frames = journal.frames(&stream(), Offset(from), 5).expect("readable");
            assert_eq!(frames[0].first.0, from & !1);
            assert!(frames.iter().all(|f| f.end() == Offset(4001) || (f.records, f.bytes) == (2, 10)));
            assert!(frames.windows(2).all(|pair| pair[0].end() == pair[1].first));
        }
    }
}

#[test]
fn a_request_key_gets_the_first_answer_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let clock = TestClock::at(Timestamp(0));
    let options = Options { request_key_window: Duration::from_secs(10), ..small() };
    let reopen = || open_at(dir.path(), options.clone(), &clock).expect("opens");
    let journal = reopen();
    append(&journal, &["x"], PUSH).expect("appended");
    let first = append(&journal, &["a", "b"], key("k")).expect("appended");
    assert_eq!((first.first, first.count, first.replayed), (Offset(1), 2, false));
    journal.close();
    for journal in [reopen(), reopen()] {
        clock.set(Timestamp(10_000_000));
        let known = journal.answered(&stream(), &RequestKey::new("k").expect("a key")).expect("answered");
        assert_eq!((known.first, known.count, known.replayed), (Offset(1), 2, true));
        assert_eq!(journal.answered(&stream(), &RequestKey::new("other").expect("a key")), None);
        let again = append(&journal, &["other", "records", "this time"], key("k")).expect("answered");
        assert_eq!((again.first, again.count, again.replayed), (Offset(1), 2, true));
        assert_eq!(journal.tail(&stream()).expect("a stream").end, Offset(3));
        journal.close();
    }
    clock.set(Timestamp(10_000_001));
    let late = append(&reopen(), &["a", "b"], key("k")).expect("appended");
    assert_eq!((late.first, late.count, late.replayed), (Offset(3), 2, false));
}

#[test]
fn request_keys_outlive_the_segments_they_came_in() {
    let dir = tempfile::tempdir().expect("a folder");
    let journal = open(dir.path(), small()).expect("opens");
    append(&journal, &["a"], key("early")).expect("appended");
    for _ in 0..100 {
        append(&journal, &[[b'.'; 1000]], PUSH).expect("appended");
    }
    append(&journal, &["b"], key("late")).expect("appended");
    journal.trim(&stream(), Offset(102), Timestamp(i64::MAX)).expect("trimmed");
    assert!(journal.tail(&stream()).expect("a stream").start > Offset(0));
    for reopened in [false, true] {
        let journal = if reopened {
            journal.close();
            open(dir.path(), small()).expect("opens")
        } else {
            journal.clone()
        };
        for (text, first) in [("early", 0), ("late", 101)] {
            let again = append(&journal, &["c"], key(text)).expect("answered");
            assert_eq!((again.first, again.replayed), (Offset(first), true), "{text}");
        }
    }
}

#[test]
fn concurrent_appends_are_gap_free_and_each_key_counts_once() {
    const TASKS: u64 = 200;
    let dir = tempfile::tempdir().expect("a folder");
    let journal = open(dir.path(), small()).expect("opens");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let answers = runtime.block_on(async {
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let journal = journal.clone();
                tokio::spawn(async move {
                    // Two tasks share each key, and come at the same time.
                    let texts = [format!("{}-0", task / 2), format!("{}-1", task / 2)];
                    let origin = key(&(task / 2).to_string());
                    (task / 2, journal.append(&stream(), records(&texts), origin).await.expect("appended"))
                })
            })
            .collect();
        let mut answers = Vec::new();
        for task in tasks {
            answers.push(task.await.expect("no panic"));
        }
        answers
    });
    let stored = all(&journal, 0, 4096);
    assert_eq!(stored.len() as u64, TASKS);
    assert_eq!(answers.iter().filter(|(_, answer)| answer.replayed).count() as u64, TASKS / 2);
    for (pair, answer) in answers {
        let at = answer.first.0 as usize;
        assert_eq!(stored[at], format!("{pair}-0").as_bytes());
        assert_eq!(stored[at + 1], format!("{pair}-1").as_bytes());
    }
}

#[test]
fn the_last_cursor_survives_restart_and_trim() {
    let dir = tempfile::tempdir().expect("a folder");
    let cursor = |text: &'static str| Origin::Pull(Cursor(Bytes::from_static(text.as_bytes())));
    let journal = open(dir.path(), small()).expect("opens");
    assert_eq!(journal.last_cursor(&stream()), None);
    append(&journal, &["a"], cursor("page 2")).expect("appended");
    append(&journal, &[""; 0], cursor("page 3")).expect("a page without records");
    for _ in 0..100 {
        append(&journal, &[[b'.'; 1000]], PUSH).expect("appended");
    }
    journal.trim(&stream(), Offset(101), Timestamp(i64::MAX)).expect("trimmed");
    for _ in 0..2 {
        let journal = open(dir.path(), small()).expect("opens");
        assert_eq!(journal.last_cursor(&stream()), Some(Cursor(Bytes::from_static(b"page 3"))));
    }
    let long = append(&journal, &["a"], Origin::Pull(Cursor(Bytes::from(vec![0; 65_536]))));
    assert!(matches!(long, Err(AppendError::TooLarge { limit: 65_535 })), "{long:?}");
}

#[test]
fn trim_keeps_what_is_pending_and_what_is_young() {
    let dir = tempfile::tempdir().expect("a folder");
    let clock = TestClock::at(Timestamp(0));
    let journal = open_at(dir.path(), small(), &clock).expect("opens");
    for second in 0..100 {
        clock.set(Timestamp(second));
        append(&journal, &[[b'.'; 1000]], PUSH).expect("appended");
    }
    let start = || journal.tail(&stream()).expect("a stream").start.0;
    let trim = |before, keep_after| {
        journal.trim(&stream(), Offset(before), Timestamp(keep_after)).expect("trimmed");
        start()
    };
    let taken = journal.disk_bytes();
    assert_eq!(trim(0, i64::MAX), 0, "nothing is delivered");
    assert_eq!(trim(100, 0), 0, "nothing is old");
    let by_offset = trim(50, i64::MAX);
    assert!((40..=50).contains(&by_offset), "{by_offset}");
    let by_age = trim(100, 80);
    assert!((70..=80).contains(&by_age), "{by_age}");
    assert!(journal.disk_bytes() < taken / 2);
    assert!(matches!(
        journal.read(&stream(), Offset(by_age - 1), 1),
        Err(ReadError::Trimmed { start }) if start.0 == by_age
    ));
    assert_eq!(all(&journal, by_age, 1).len() as u64, 100 - by_age);
}

#[test]
fn offsets_go_on_after_everything_was_trimmed() {
    let dir = tempfile::tempdir().expect("a folder");
    let journal = open(dir.path(), small()).expect("opens");
    append(&journal, &["a", "b", "c"], PUSH).expect("appended");
    let ends = |journal: &Journal| {
        let tail = journal.tail(&stream()).expect("a stream");
        (tail.start.0, tail.end.0)
    };
    // The idle last segment is closed first, and goes once another follows it.
    while ends(&journal).0 < 3 {
        journal.trim(&stream(), Offset(3), Timestamp(i64::MAX)).expect("trimmed");
        std::thread::yield_now();
    }
    assert_eq!(segments(dir.path()).len(), 1);
    assert_eq!(ends(&journal), (3, 3));
    journal.close();
    let journal = open(dir.path(), small()).expect("opens");
    assert_eq!(ends(&journal), (3, 3));
    assert_eq!(append(&journal, &["d"], PUSH).expect("appended").first, Offset(3));
    assert_eq!(all(&journal, 3, 1), [b"d"]);
}

#[test]
fn the_disk_limit_refuses_until_something_is_trimmed() {
    let dir = tempfile::tempdir().expect("a folder");
    let options = Options { disk_bytes_max: 40_000, ..small() };
    let journal = open(dir.path(), options).expect("opens");
    let mut appended = 0;
    let refused = loop {
        match append(&journal, &[[b'.'; 1000]], PUSH) {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AppendError::Full), "{refused}");
    assert!((30..40).contains(&appended), "{appended}");
    assert!(journal.disk_bytes() <= 40_000 && journal.is_full());
    let on_disk: u64 = segments(dir.path()).iter().map(|s| s.metadata().expect("a file").len()).sum();
    assert_eq!(journal.disk_bytes(), on_disk);
    assert_eq!(all(&journal, 0, 1).len(), appended);
    journal.trim(&stream(), Offset(20), Timestamp(i64::MAX)).expect("trimmed");
    assert!(!journal.is_full());
    append(&journal, &[[b'.'; 1000]], PUSH).expect("there is room again");
}

#[test]
fn large_appends_get_a_segment_of_their_size_up_to_the_limit() {
    let dir = tempfile::tempdir().expect("a folder");
    let options = Options { frame_bytes_max: 100_000, ..small() };
    let journal = open(dir.path(), options.clone()).expect("opens");
    append(&journal, &[vec![1; 100_000]], PUSH).expect("appended");
    append(&journal, &["small"], PUSH).expect("appended");
    append(&journal, &[vec![2; 100_000]], PUSH).expect("appended");
    let refused = append(&journal, &[vec![1; 100_001]], PUSH);
    assert!(matches!(refused, Err(AppendError::TooLarge { limit: 100_000 })), "{refused:?}");
    journal.close();
    assert!(matches!(append(&journal, &["x"], PUSH), Err(AppendError::Closed)));
    let lengths = |journal: &Journal| all(journal, 0, 1).iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(lengths(&open(dir.path(), options).expect("opens")), [100_000, 5, 100_000]);
}

#[test]
fn streams_come_and_go() {
    let dir = tempfile::tempdir().expect("a folder");
    let journal = open(dir.path(), small()).expect("opens");
    let other = StreamName::new("a.b-c").expect("a good name");
    let created = journal.create(&other).expect("created");
    assert_eq!(journal.create(&other).expect("there"), created, "creating is idempotent");
    assert_eq!(journal.streams(), [other.clone(), stream()]);
    append(&journal, &["x"], PUSH).expect("appended");
    let before = journal.incarnation(&stream());
    let mut ends = journal.watch(&stream()).expect("a stream");
    assert!(journal.remove(&stream()).expect("removed"));
    assert!(!journal.remove(&stream()).expect("was removed"));
    assert!(wait(ends.changed()).is_err(), "the watch ends with the stream");
    assert!(matches!(append(&journal, &["x"], PUSH), Err(AppendError::UnknownStream)));
    assert!(matches!(journal.read(&stream(), Offset(0), 1), Err(ReadError::UnknownStream)));
    assert_eq!(journal.disk_bytes(), 0);
    journal.create(&stream()).expect("created");
    assert_ne!(journal.incarnation(&stream()), before);
    assert_eq!(append(&journal, &["y"], PUSH).expect("appended").first, Offset(0));
    drop(journal);
    std::fs::create_dir(dir.path().join("~new-unfinished")).expect("a folder");
    let journal = open(dir.path(), small()).expect("opens");
    assert_eq!(journal.streams(), [other, stream()]);
    assert_eq!(all(&journal, 0, 1), [b"y"]);
    assert!(!dir.path().join("~new-unfinished").exists());
}

#[test]
fn many_streams_fit_under_a_small_limit() {
    let dir = tempfile::tempdir().expect("a folder");
    let options = Options { disk_bytes_max: 64 << 20, ..Options::default() };
    let journal = open(dir.path(), options).expect("opens");
    for i in 0..40 {
        let name = StreamName::new(&format!("s{i}")).expect("a good name");
        journal.create(&name).expect("created");
        wait(journal.append(&name, records(&["x"]), PUSH)).expect("appended");
    }
}

#[test]
fn keys_come_back_with_their_records() {
    let dir = tempfile::tempdir().expect("a folder");
    let keyed = |texts: &[&str], keys: &[&str]| {
        let Records { data, ends, .. } = records(keys);
        Records { keys: Some(Keys { data, ends }), ..records(texts) }
    };
    let journal = open(dir.path(), small()).expect("opens");
    let append = |records| wait(journal.append(&stream(), records, PUSH)).expect("appended");
    append(keyed(&["one", "", "three"], &["a", "bb", ""]));
    append(records(&["four"]));
    append(keyed(&["five", "six"], &["c", "dddd"]));
    journal.close();
    drop(journal);

    let journal = open(dir.path(), small()).expect("opens again");
    let pairs = |from| {
        let blocks = journal.read(&stream(), Offset(from), usize::MAX).expect("readable");
        let mut pairs = Vec::new();
        for block in &blocks {
            for (number, text) in block.records.iter().enumerate() {
                let key = block.records.keys.as_ref().map(|keys| keys.get(number).escape_ascii().to_string());
                pairs.push((text.escape_ascii().to_string(), key));
            }
        }
        pairs
    };
    let expect = [
        ("one", Some("a")),
        ("", Some("bb")),
        ("three", Some("")),
        ("four", None),
        ("five", Some("c")),
        ("six", Some("dddd")),
    ]
    .map(|(text, key)| (text.to_string(), key.map(str::to_string)));
    for from in 0..6 {
        assert_eq!(pairs(from), expect[from as usize..], "from {from}");
    }
}
