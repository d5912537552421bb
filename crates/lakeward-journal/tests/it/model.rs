//! Random actions on a journal and on a simple model of it.

use std::collections::HashMap;

use lakeward_journal::{Journal, Options, ReadError};
use lakeward_model::conformance::TestClock;
use lakeward_model::{Offset, Origin, Timestamp};
use proptest::prelude::*;

use crate::support::{append, key, open_at, stream};

#[derive(Debug, Clone)]
enum Action {
    Append { sizes: Vec<u16>, key: Option<u8> },
    Read { from: u16, bytes_max: u32 },
    Trim { before: u16, keep_after: u16 },
    Reopen { clean: bool },
}

fn action() -> impl Strategy<Value = Action> {
    let append = (prop::collection::vec(0..600_u16, 0..12), prop::option::weighted(0.3, 0..20_u8))
        .prop_map(|(sizes, key)| Action::Append { sizes, key });
    prop_oneof![
        6 => append,
        3 => (any::<u16>(), 1..20_000_u32).prop_map(|(from, bytes_max)| Action::Read { from, bytes_max }),
        1 => (any::<u16>(), any::<u16>()).prop_map(|(before, keep_after)| Action::Trim { before, keep_after }),
        1 => any::<bool>().prop_map(|clean| Action::Reopen { clean }),
    ]
}

/// What the journal should hold.
#[derive(Debug, Default)]
struct Model {
    records: Vec<(Vec<u8>, i64)>,
    keys: HashMap<u8, (u64, u32)>,
    start: u64,
}

struct Pair {
    dir: tempfile::TempDir,
    clock: std::sync::Arc<TestClock>,
    journal: Journal,
    model: Model,
}

fn options() -> Options {
    Options { segment_bytes: 6000, ..Options::default() }
}

impl Pair {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let clock = TestClock::at(Timestamp(0));
        let journal = open_at(dir.path(), options(), &clock).expect("opens");
        Self { dir, clock, journal, model: Model::default() }
    }

    fn run(&mut self, step: usize, action: Action) {
        self.clock.set(Timestamp(step as i64));
        let count = self.model.records.len() as u64;
        match action {
            Action::Append { sizes, key } => self.append(step, &sizes, key),
            Action::Read { from, bytes_max } => self.read(u64::from(from) % (count + 2), bytes_max as usize),
            Action::Trim { before, keep_after } => {
                let before = u64::from(before) % (count + 1);
                self.trim(before, i64::from(keep_after) % (step as i64 + 2));
            }
            Action::Reopen { clean } => {
                if clean {
                    self.journal.close();
                }
                let crashed = tempfile::tempdir().expect("a folder");
                crate::support::copy(self.dir.path(), crashed.path());
                self.journal = open_at(crashed.path(), options(), &self.clock).expect("opens");
                self.dir = crashed;
            }
        }
        let tail = self.journal.tail(&stream()).expect("a stream");
        assert_eq!(tail.end.0, self.model.records.len() as u64);
        assert_eq!(tail.start.0, self.model.start);
    }

    fn append(&mut self, step: usize, sizes: &[u16], request: Option<u8>) {
        let texts: Vec<_> = sizes.iter().map(|&size| vec![step as u8; usize::from(size)]).collect();
        let origin = request.map_or(Origin::Push(None), |number| key(&number.to_string()));
        let appended = append(&self.journal, &texts, origin).expect("appended");
        if let Some(known) = request.and_then(|number| self.model.keys.get(&number)) {
            assert_eq!((appended.first.0, appended.count, appended.replayed), (known.0, known.1, true));
            return;
        }
        assert_eq!(appended.first.0, self.model.records.len() as u64);
        assert_eq!((appended.count as usize, appended.replayed), (texts.len(), false));
        if let Some(number) = request {
            self.model.keys.insert(number, (appended.first.0, appended.count));
        }
        self.model.records.extend(texts.into_iter().map(|text| (text, step as i64)));
    }

    fn read(&self, from: u64, bytes_max: usize) {
        let read = self.journal.read(&stream(), Offset(from), bytes_max);
        if from < self.model.start {
            assert!(matches!(read, Err(ReadError::Trimmed { start }) if start.0 == self.model.start));
            return;
        }
        let blocks = read.expect("readable");
        let expect = self.model.records.get(from as usize..).unwrap_or_default();
        assert_eq!(blocks.is_empty(), expect.is_empty());
        let read: Vec<_> = blocks
            .iter()
            .flat_map(|block| block.records.iter().map(|record| (record.to_vec(), block.received_at.0)))
            .collect();
        assert_eq!(read, expect[..read.len()]);
        let rest: usize = blocks.iter().skip(1).map(|block| block.records.data.len()).sum();
        assert!(rest <= bytes_max);
    }

    /// The model does not know of segments, so it takes the new start from the
    /// journal and checks that the rules allow it.
    fn trim(&mut self, before: u64, keep_after: i64) {
        self.journal.trim(&stream(), Offset(before), Timestamp(keep_after)).expect("trimmed");
        let start = self.journal.tail(&stream()).expect("a stream").start.0;
        assert!(start >= self.model.start);
        let removed = &self.model.records[self.model.start as usize..start as usize];
        assert!(start <= before.max(self.model.start), "only what is below the offset goes");
        assert!(removed.iter().all(|(_, at)| *at < keep_after), "only what is old goes");
        self.model.start = start;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_journal_is_like_its_model(actions in prop::collection::vec(action(), 1..60)) {
        let mut pair = Pair::new();
        for (step, action) in actions.into_iter().enumerate() {
            pair.run(step, action);
        }
        pair.read(pair.model.start, usize::MAX);
    }
}
