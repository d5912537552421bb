//! The dedup keys against a model: crashes at every step, merges, disorder and
//! damage.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use lakeward_columnar::dedup::{Key, Seen, SeenError};
use lakeward_engine::dedup::{DedupError, DedupState, FILTER_BYTES, KeyStore, Pending, Session};
use lakeward_model::{BatchId, Timestamp};
use proptest::prelude::*;

const SECOND: i64 = 1_000_000;

fn batch(number: usize) -> BatchId {
    BatchId(uuid::Uuid::from_u128(number as u128 + 1))
}

fn key(n: u64, at: i64) -> Key {
    // Some share their first half.
    Key { fingerprint: u128::from(n % 7) << 120 | u128::from(n), at: Timestamp(at) }
}

fn fresh(keys: &[Key], duplicates: &[bool]) -> Vec<Key> {
    keys.iter().zip(duplicates).filter(|(_, d)| !**d).map(|(key, _)| *key).collect()
}

fn files(dir: &Path) -> BTreeSet<String> {
    std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

fn named(state: &DedupState) -> BTreeSet<String> {
    state.runs.iter().map(|run| run.file.clone()).collect()
}

fn open(dir: &Path, state: &DedupState) -> KeyStore {
    KeyStore::open(dir, state, FILTER_BYTES).unwrap()
}

fn wait_for_merge(store: &KeyStore) {
    while store.is_merging() {
        std::thread::yield_now();
    }
}

/// Builds and commits a batch; answers which keys were duplicates.
fn deliver(store: &KeyStore, number: usize, window: Duration, keys: &[Key]) -> Vec<bool> {
    let session = store.session(batch(number), window, None);
    let duplicates = session.duplicates(keys).unwrap();
    let pending = session.write(&fresh(keys, &duplicates)).unwrap();
    store.committed(store.next(&pending)).unwrap();
    duplicates
}

/// What is delivered and remembered, as the documentation says it.
#[derive(Debug, Clone, Default)]
struct Model {
    delivered: Vec<(u128, i64)>,
    watermark: Option<i64>,
    horizon: Option<i64>,
}

impl Model {
    /// Which of `keys` are duplicates, and the model after the batch.
    fn deliver(&self, keys: &[Key], window: i64) -> (Vec<bool>, Self) {
        let reach = (window + SECOND - 1) / SECOND;
        let mut after = self.clone();
        let from = self.horizon.max(self.watermark.map(|w| w - reach)).unwrap_or(i64::MIN);
        after.delivered.retain(|(_, at)| *at >= from);
        let mut duplicates = Vec::new();
        for key in keys {
            let at = key.at.0.div_euclid(SECOND);
            let near = |(other, time): &(u128, i64)| *other == key.fingerprint && (at - time).abs() <= reach;
            let duplicate = after.delivered.iter().any(near);
            if !duplicate {
                after.delivered.push((key.fingerprint, at));
            }
            duplicates.push(duplicate);
            after.watermark = after.watermark.max(Some(at));
        }
        after.horizon = self.horizon.max(after.watermark.map(|w| w - reach));
        after.delivered.retain(|(_, at)| Some(*at) >= after.horizon);
        (duplicates, after)
    }
}

/// Where the process dies while a batch is on its way.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Lives,
    DiesBeforeTheFile,
    DiesBeforeTheCommit,
    DiesWithTheNextStateMade,
    DiesAfterTheCommit,
}

#[derive(Debug, Clone)]
struct Step {
    /// Microseconds since the batch before.
    later: i64,
    /// Which key, and how much before now.
    keys: Vec<(u64, i64)>,
    window: i64,
    fate: Fate,
    /// Whether it is built while the one before is in flight.
    early: bool,
    /// Whether a merge that was begun has ended when it is committed.
    merged: bool,
}

fn step() -> impl Strategy<Value = Step> {
    use Fate as F;
    let fate = prop_oneof![
        8 => Just(F::Lives),
        1 => Just(F::DiesBeforeTheFile),
        1 => Just(F::DiesBeforeTheCommit),
        1 => Just(F::DiesWithTheNextStateMade),
        1 => Just(F::DiesAfterTheCommit),
    ];
    let window = prop_oneof![6 => Just(100 * SECOND), 1 => Just(40 * SECOND), 1 => Just(170_500_000)];
    let late = prop_oneof![4 => 0..5 * SECOND, 1 => 0..250 * SECOND];
    let keys = prop::collection::vec((0_u64..60, late), 0..12);
    let flags = (any::<bool>(), any::<bool>());
    (0..30 * SECOND, keys, window, fate, flags).prop_map(|(later, keys, window, fate, (early, merged))| {
        Step { later, keys, window, fate, early, merged }
    })
}

/// A pipeline as far as its keys are concerned: the ledger, and what lives in
/// the process.
struct Run<'a> {
    dir: &'a Path,
    ledger: DedupState,
    store: Option<KeyStore>,
    filter_bytes: u64,
}

impl Run<'_> {
    fn store(&mut self) -> &KeyStore {
        let (dir, ledger, bytes) = (self.dir, &self.ledger, self.filter_bytes);
        self.store.get_or_insert_with(|| {
            let store = KeyStore::open(dir, ledger, bytes).unwrap();
            assert_eq!(files(dir), named(ledger), "what nobody names is gone");
            store
        })
    }

    /// kill -9: the files stay as they are.
    fn die(&mut self) {
        self.store = None;
    }

    fn build(
        &mut self,
        number: usize,
        step: &Step,
        keys: &[Key],
        before: Option<&Pending>,
    ) -> (Vec<bool>, Session) {
        let window = Duration::from_micros(step.window as u64);
        let session = self.store().session(batch(number), window, before);
        (session.duplicates(keys).unwrap(), session)
    }

    fn commit(&mut self, pending: &Pending, cleans: bool) {
        let store = self.store();
        let next = store.next(pending);
        let state = next.state().clone();
        if cleans {
            store.committed(next).unwrap();
        }
        self.ledger = state;
    }
}

/// Builds `step`'s batch, perhaps again after a death. Its file is the same
/// each time.
fn built(
    run: &mut Run<'_>,
    number: usize,
    step: &Step,
    keys: &[Key],
    before: Option<&Pending>,
) -> (Vec<bool>, Pending) {
    let (duplicates, session) = run.build(number, step, keys, before);
    let pending = session.write(&fresh(keys, &duplicates)).unwrap();
    (duplicates, pending)
}

fn play(steps: &[Step], filter_bytes: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Run { dir: dir.path(), ledger: DedupState::fresh(), store: None, filter_bytes };
    let mut model = Model::default();
    let mut now = 1_783_944_000 * SECOND;
    let mut early: Option<(Vec<bool>, Pending)> = None;
    for (number, step) in steps.iter().enumerate() {
        let keys_of =
            |step: &Step, now: i64| step.keys.iter().map(|(n, late)| key(*n, now - late)).collect::<Vec<_>>();
        now += step.later;
        let keys = keys_of(step, now);
        let (expect, after) = model.deliver(&keys, step.window);
        let (mut duplicates, mut pending) = match early.take() {
            Some(built) => built,
            None => built(&mut run, number, step, &keys, None),
        };
        assert_eq!(duplicates, expect, "batch {number}");
        let path = dir.path().join(format!("{}.run", batch(number)));
        let first = std::fs::read(&path).ok();
        if matches!(
            step.fate,
            Fate::DiesBeforeTheFile | Fate::DiesBeforeTheCommit | Fate::DiesWithTheNextStateMade
        ) {
            if step.fate == Fate::DiesWithTheNextStateMade {
                drop(run.store().next(&pending));
            }
            run.die();
            if step.fate == Fate::DiesBeforeTheFile {
                let _ = std::fs::remove_file(&path);
                std::fs::write(path.with_extension("run.tmp"), b"half").unwrap();
            }
            (duplicates, pending) = built(&mut run, number, step, &keys, None);
            assert_eq!(duplicates, expect, "batch {number}, built again");
            assert_eq!(std::fs::read(&path).ok(), first, "batch {number}, built again");
        }
        // The next batch is built before this one is committed.
        if let Some(next) = steps.get(number + 1).filter(|next| next.early && step.fate == Fate::Lives) {
            let keys = keys_of(next, now + next.later);
            early = Some(built(&mut run, number + 1, next, &keys, Some(&pending)));
        }
        if step.merged {
            wait_for_merge(run.store());
        }
        run.commit(&pending, step.fate != Fate::DiesAfterTheCommit);
        if step.fate == Fate::DiesAfterTheCommit {
            run.die();
        }
        model = after;
        assert_eq!((run.ledger.watermark, run.ledger.horizon), (model.watermark, model.horizon));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn keys_are_what_the_model_says(steps in prop::collection::vec(step(), 1..60), filters in any::<bool>()) {
        play(&steps, if filters { FILTER_BYTES } else { 300 });
    }

    /// By arrival: no duplicate within the window is missed, none is found a
    /// second after it.
    #[test]
    fn the_window_is_exact_to_the_second(
        arrivals in prop::collection::vec((0_u64..4, 0..4 * SECOND), 1..80),
        window in 1..9 * SECOND,
        size in 1_usize..9,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), &DedupState::fresh());
        let mut now = 0;
        let keys: Vec<Key> = arrivals.iter().map(|(n, later)| { now += later; key(*n, now) }).collect();
        let mut last = std::collections::HashMap::new();
        for (number, keys) in keys.chunks(size).enumerate() {
            let duplicates = deliver(&store, number, Duration::from_micros(window as u64), keys);
            for (key, duplicate) in keys.iter().zip(duplicates) {
                if let Some(delivered) = last.get(&key.fingerprint) {
                    let apart: i64 = key.at.0 - delivered;
                    prop_assert!(duplicate || apart >= window, "missed after {apart} of {window}");
                    prop_assert!(!duplicate || apart < window + 2 * SECOND, "found after {apart} of {window}");
                }
                if !duplicate {
                    last.insert(key.fingerprint, key.at.0);
                }
            }
        }
    }
}

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn small_files_are_merged_and_the_old_ones_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), &DedupState::fresh());
    let keys =
        |number: u64| (0..50).map(|n| key(number * 50 + n, number as i64 * SECOND)).collect::<Vec<_>>();
    for number in 0..200 {
        assert!(!deliver(&store, number, DAY, &keys(number as u64)).contains(&true), "{number}");
        wait_for_merge(&store);
    }
    deliver(&store, 200, DAY, &[]);
    let state = store.state();
    assert!(state.runs.len() < 30, "{} files", state.runs.len());
    assert_eq!(state.keys(), 10_000);
    wait_for_merge(&store);
    drop(store);
    let store = open(dir.path(), &state);
    assert_eq!(files(dir.path()), named(&state));
    for number in 0..200 {
        assert!(!deliver(&store, 300 + number, DAY, &keys(number as u64)).contains(&false), "{number}");
    }
}

/// The horizon is a second that is still remembered, by a merge too.
#[test]
fn a_merge_keeps_what_is_just_inside_the_window() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), &DedupState::fresh());
    let (minute, now) = (Duration::from_secs(60), 1_000 * SECOND);
    let keys = |n: u64| [key(2 * n, now), key(2 * n + 1, now - 60 * SECOND)];
    for number in 0..20 {
        assert_eq!(deliver(&store, number, minute, &keys(number as u64)), [false, false]);
        wait_for_merge(&store);
    }
    deliver(&store, 20, minute, &[]);
    let state = store.state();
    assert!(state.runs.iter().any(|run| run.file.starts_with("merged-")), "{state:?}");
    assert_eq!((state.keys(), state.horizon), (40, Some(940)));
    for number in 0..20 {
        assert_eq!(deliver(&store, 30 + number, minute, &keys(number as u64)), [true, true]);
    }
    // A second later the older ones are forgotten, and no merge brings them back.
    deliver(&store, 60, minute, &[key(999, now + SECOND)]);
    assert_eq!(deliver(&store, 61, minute, &keys(3)), [true, false]);
}

#[test]
fn what_the_window_has_left_behind_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), &DedupState::fresh());
    let minute = Duration::from_secs(60);
    for number in 0..30 {
        let keys: Vec<Key> = (0..50).map(|n| key(n, number * 30 * SECOND)).collect();
        let duplicates = deliver(&store, number as usize, minute, &keys);
        // Delivered at 0, then again once a minute and a second have passed.
        assert_eq!(duplicates, vec![number % 3 != 0; 50], "{number}");
    }
    deliver(&store, 30, minute, &[key(1_000, 10_000 * SECOND)]);
    assert_eq!(store.state().keys(), 1);
    assert_eq!(files(dir.path()), named(&store.state()));
    // Too late to be checked, so it counts as new and is not remembered.
    for number in 31..33 {
        assert_eq!(deliver(&store, number, minute, &[key(2_000, 0), key(2_000, 0)]), [false, true]);
    }
    assert_eq!(store.state().keys(), 1);
}

/// Every key of a store of three files is asked for.
fn ask_for_all(dir: &Path, state: &DedupState, filter_bytes: u64) -> Result<Vec<bool>, String> {
    let store = KeyStore::open(dir, state, filter_bytes).map_err(|error| error.to_string())?;
    let keys: Vec<Key> = (0..1_600).map(|n| key(n, 5 * SECOND)).collect();
    store.session(batch(99), DAY, None).duplicates(&keys).map_err(|error: SeenError| error.to_string())
}

#[test]
fn damage_is_named_and_never_believed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), &DedupState::fresh());
    for number in 0..3 {
        let keys: Vec<Key> = (0..500).map(|n| key(number * 500 + n, number as i64 * SECOND)).collect();
        deliver(&store, number as usize, DAY, &keys);
    }
    let state = store.state();
    drop(store);
    let right: Vec<bool> = (0..1_600).map(|n| n < 1_500).collect();
    assert_eq!(ask_for_all(dir.path(), &state, FILTER_BYTES), Ok(right.clone()));
    assert_eq!(ask_for_all(dir.path(), &state, 0), Ok(right.clone()));
    let name = &state.runs[1].file;
    let path = dir.path().join(name);
    let good = std::fs::read(&path).unwrap();
    for at in (0..64).chain((64..good.len()).step_by(61)).chain(good.len() - 12..good.len()) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        std::fs::write(&path, &bad).unwrap();
        let error = ask_for_all(dir.path(), &state, FILTER_BYTES).expect_err("damage is noticed");
        assert!(error.contains(name.as_str()) && error.contains("damaged"), "byte {at}: {error}");
        match ask_for_all(dir.path(), &state, 0) {
            Ok(answers) => assert_eq!(answers, right, "byte {at} is of no use without filters"),
            Err(error) => assert!(error.contains(name.as_str()), "byte {at}: {error}"),
        }
    }
    for length in [0, 63, 64, 4_000, good.len() - 1] {
        std::fs::write(&path, &good[..length]).unwrap();
        let error = ask_for_all(dir.path(), &state, 0).expect_err("a cut is noticed");
        assert!(error.contains(name.as_str()), "{length}: {error}");
    }
    std::fs::copy(dir.path().join(&state.runs[0].file), &path).unwrap();
    assert!(ask_for_all(dir.path(), &state, 0).unwrap_err().contains("not the file that the ledger knows"));
    std::fs::remove_file(&path).unwrap();
    let missing = KeyStore::open(dir.path(), &state, 0).unwrap_err();
    assert!(matches!(missing, DedupError::Missing { keys: 500, .. }), "{missing}");
    assert_eq!(files(dir.path()).len(), 2, "nothing is removed when the keys cannot be opened");
    std::fs::write(&path, &good).unwrap();
    assert_eq!(ask_for_all(dir.path(), &state, FILTER_BYTES), Ok(right));
}

/// A merge never carries damage on.
#[test]
fn a_damaged_file_is_not_merged() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), &DedupState::fresh());
    for number in 0..7 {
        deliver(&store, number, DAY, &(0..50).map(|n| key(number as u64 * 50 + n, 0)).collect::<Vec<_>>());
    }
    let path = dir.path().join(&store.state().runs[0].file);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    for number in 7..12 {
        let keys: Vec<Key> = (0..50).map(|n| key(number as u64 * 50 + n, 0)).collect();
        let pending = store.session(batch(number), DAY, None).write(&keys).unwrap();
        wait_for_merge(&store);
        store.committed(store.next(&pending)).unwrap();
    }
    assert_eq!(store.state().runs.len(), 12);
    let error = store.session(batch(99), DAY, None).duplicates(&[key(0, 0)]).unwrap_err().to_string();
    assert!(error.contains(path.file_name().unwrap().to_str().unwrap()), "{error}");
}

#[test]
fn what_nobody_names_is_removed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("dedup").join("events");
    let store = open(&folder, &DedupState::fresh());
    deliver(&store, 0, DAY, &[key(1, 0)]);
    let session = store.session(batch(1), DAY, None);
    drop(session.write(&[key(2, 0)]).unwrap());
    let state = store.state();
    drop(store);
    for name in ["merged-1.run", "merged-2.run.tmp", "x.run.tmp", "notes.txt"] {
        std::fs::write(folder.join(name), b"?").unwrap();
    }
    drop(open(&folder, &state));
    let mut left = named(&state);
    left.insert("notes.txt".into());
    assert_eq!(files(&folder), left);
}
