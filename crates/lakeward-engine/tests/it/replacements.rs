//! Runs that replace what is delivered: the new content once, wherever the
//! process dies; and what they refuse.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lakeward_columnar::shape::{Dedup, DedupKey};
use lakeward_engine::{
    Asked, Engine, EngineOptions, Run, RunErrorKind, RunRequest, RunState, SliceStatus, SlicedSpec,
};
use lakeward_model::conformance::{Fault, MemorySlices};
use lakeward_model::{Origin, RequestKey, SliceFailure, StreamName};

use crate::bench::{Lakes, options, pipeline, record, wait_for};
use crate::slices::{filled, open, spec, until};
use crate::slices_runs::{ended, take};

fn replace(prefix: &str) -> RunRequest {
    let wanted = Asked { prefix: prefix.into(), ..Asked::default() };
    RunRequest { wanted, replace: Some("p".into()), ..take() }
}

async fn done(engine: &Engine, asked: RunRequest) -> Run {
    let run = engine.control().begin_run("slices", asked).await.expect("it begins");
    ended(engine, run.id).await
}

/// The source says something else from now on: each number is `more` larger.
fn changes(source: &MemorySlices, more: u64) {
    source.script(|script| {
        for (_, records) in script.slices.values_mut() {
            for text in records {
                let row: serde_json::Value = serde_json::from_str(text).expect("JSON");
                *text = format!("{{\"n\":{}}}", row["n"].as_u64().expect("a number") + more);
            }
        }
    });
}

/// Every slice's records are settled, each once; which slices share batches.
async fn shared(engine: &Engine) -> Vec<BTreeSet<String>> {
    let (mut all, mut after) = (Vec::new(), None::<String>);
    loop {
        let list = engine
            .control()
            .slices("slices", &Asked::default(), after.as_deref(), 1_000)
            .await
            .expect("a list");
        all.extend(list.slices);
        after = list.next;
        if after.is_none() {
            break;
        }
    }
    for slice in &all {
        // What was taken last is what counts.
        let (records, pipelines) = match &slice.again {
            Some(again) => (again.records, &again.pipelines),
            None => (slice.records.unwrap_or(0), &slice.pipelines),
        };
        let counts = pipelines.get("p").copied().unwrap_or_default();
        assert_eq!(records, counts.records(), "{slice:?}");
        assert_eq!(slice.others.get("p").map_or(0, |others| others.records()), 0, "{slice:?}");
    }
    let mut sets = Vec::new();
    for batch in engine.control().batches(None, 10_000).await.expect("batches") {
        let ids = engine.control().slices_of_batch(batch.key()).await.expect("its slices");
        let is_again =
            |slice: &&SliceStatus| slice.again.as_ref().is_some_and(|again| ids.contains(&again.id));
        let names = all.iter().filter(|slice| ids.contains(&slice.id) || is_again(slice));
        sets.push(names.map(|slice| slice.name.clone()).collect());
    }
    sets
}

/// Everything that hangs together with these slices.
fn widened(mut names: BTreeSet<String>, sets: &[BTreeSet<String>]) -> BTreeSet<String> {
    loop {
        let before = names.len();
        for set in sets.iter().filter(|set| !set.is_disjoint(&names)).cloned().collect::<Vec<_>>() {
            names.extend(set);
        }
        if names.len() == before {
            return names;
        }
    }
}

fn quiet(source: &MemorySlices) -> SlicedSpec {
    SlicedSpec { looks: false, ..spec(source) }
}

/// What lies in the lake when the slices of these names say something new.
fn expected(counts: &[u64], is_new: impl Fn(&str) -> bool, more: u64) -> Vec<u64> {
    let (mut all, mut n) = (Vec::new(), 0);
    for (i, count) in counts.iter().enumerate() {
        let more = if is_new(&format!("s{i:03}")) { more } else { 0 };
        all.extend((n..n + count).map(|n| n + more));
        n += count;
    }
    all.sort_unstable();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hangs_together_is_replaced_and_nothing_else() {
    let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    let counts = [4, 9, 0, 4, 20, 3, 3, 3, 7, 11, 2, 5];
    let source = filled(&counts.map(|n| n as usize));
    let engine = open(state.path(), &lakes, quiet(&source)).await;
    // In parts, so that not everything hangs together.
    for prefix in ["s000", "s001", "s002", "s003", "s004", "s005", "s006", "s007", "s008", "s009", "s010"] {
        let wanted = Asked { prefix: prefix.into(), ..Asked::default() };
        assert_eq!(done(&engine, RunRequest { wanted, ..take() }).await.state, RunState::Done);
        if prefix > "s004" {
            continue;
        }
        wait_for(&engine, "p", |s| s.pending == 0).await;
    }
    until(&engine, |_, slices| slices.taken == 11).await;
    wait_for(&engine, "p", |s| s.pending == 0 && s.counts.delivered == 66).await;
    let sets = shared(&engine).await;
    changes(&source, 1_000);
    lakes.2.store(2, Ordering::SeqCst);
    let run = done(&engine, replace("s006")).await;
    assert_eq!(run.state, RunState::Done, "{run:?}");
    let new = widened(["s006".to_string()].into(), &sets);
    let is_new = |name: &str| new.contains(name);
    let known = &counts[..11];
    let slices = engine.control().run_slices(run.id, None, 100).await.expect("its slices");
    let names: std::collections::BTreeSet<_> = slices.iter().map(|slice| slice.name.clone()).collect();
    assert_eq!((run.slices, &names), (new.len() as u64, &new), "{sets:?}");
    assert!(new.len() < 11, "{new:?}");
    assert_eq!(lakes.numbers("lake"), expected(known, is_new, 1_000));
    shared(&engine).await;
    let batches = engine.control().batches(None, 10_000).await.expect("batches");
    let replaced = batches.iter().filter(|batch| batch.replaced_by.is_some()).count();
    assert_eq!(replaced, sets.iter().filter(|set| !set.is_disjoint(&new)).count());

    // A second time, all of it, with a slice that is new.
    changes(&source, 1_000);
    let run = done(&engine, replace("")).await;
    assert_eq!((run.state, run.slices), (RunState::Done, 12), "{run:?}");
    let all = expected(&counts, |_| true, 2_000);
    assert_eq!(lakes.numbers("lake"), all);
    shared(&engine).await;
    assert_eq!(done(&engine, take()).await.slices_already, 12);
    assert!(engine.drain(Duration::from_secs(10)).await);
    assert_eq!(lakes.numbers("lake"), all);
}

#[test]
fn the_new_content_is_there_once_wherever_the_process_dies() {
    let seeds = std::env::var("LAKEWARD_TEST_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    let (mut removing, mut taking) = (0, 0);
    for seed in 0..seeds {
        let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
        let counts: Vec<u64> = (0..14).map(|n| (n * 7 + seed) % 11).collect();
        let source = filled(&counts.iter().map(|n| *n as usize).collect::<Vec<_>>());
        source.script(|script| script.fail_every = [0, 7][(seed % 2) as usize]);
        let live = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        live().expect("a runtime").block_on(async {
            let engine = open(state.path(), &lakes, quiet(&source)).await;
            assert_eq!(done(&engine, take()).await.state, RunState::Done);
            assert!(engine.drain(Duration::from_secs(10)).await);
        });
        assert_eq!(lakes.numbers("lake"), expected(&counts, |_| false, 0));
        changes(&source, 1_000);
        lakes.2.store(3, Ordering::SeqCst);
        let mut id = None;
        for life in 0..12_u64 {
            let waits = (life * 13 + seed * 29) % 47;
            let life = live().expect("a runtime");
            let engine = life.block_on(async {
                let engine = open(state.path(), &lakes, quiet(&source)).await;
                if id.is_none() {
                    let run = engine.control().begin_run("slices", replace("")).await.expect("it begins");
                    id = Some(run.id);
                }
                tokio::time::sleep(Duration::from_millis(waits)).await;
                let batches = engine.control().batches(None, 1_000).await.expect("batches");
                let run = engine.control().run(id.expect("it began")).await.expect("it is known");
                let is_marked = batches.iter().any(|batch| batch.replaced_by.is_some());
                removing += usize::from(is_marked && !run.state.is_ended());
                taking += usize::from(!is_marked);
                engine
            });
            drop(life);
            drop(engine);
        }
        live().expect("a runtime").block_on(async {
            let engine = open(state.path(), &lakes, quiet(&source)).await;
            let run = ended(&engine, id.expect("it began")).await;
            assert_eq!((run.state, run.slices), (RunState::Done, 14), "seed {seed}: {run:?}");
            assert_eq!(run.records, counts.iter().sum::<u64>(), "seed {seed}: {run:?}");
            shared(&engine).await;
            assert!(engine.drain(Duration::from_secs(10)).await);
        });
        assert_eq!(lakes.numbers("lake"), expected(&counts, |_| true, 1_000), "seed {seed}");
    }
    println!("died {taking} times before the old files were marked, {removing} times before they were gone");
    assert!(taking > 0 && removing > 0, "{taking} {removing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_fails_removes_nothing_and_the_next_replaces_it_too() {
    let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    let counts = [4, 5, 6];
    let source = filled(&[4, 5, 6]);
    let engine = open(state.path(), &lakes, quiet(&source)).await;
    assert_eq!(done(&engine, take()).await.state, RunState::Done);
    wait_for(&engine, "p", |s| s.pending == 0).await;
    changes(&source, 1_000);
    source.script(|script| {
        script.read_failures.insert("s001".into(), [SliceFailure::Broken("cut".into())].into());
    });
    let failed = done(&engine, replace("")).await;
    let error = failed.error.expect("an error");
    assert_eq!((failed.state, error.kind), (RunState::Failed, RunErrorKind::Data));
    assert_eq!(error.message, "s001 could not be taken: cut. Nothing was removed");
    wait_for(&engine, "p", |s| s.pending == 0).await;
    let numbers = lakes.numbers("lake");
    assert!(expected(&counts, |_| false, 0).iter().all(|n| numbers.contains(n)));
    // One that is cancelled, too.
    source.script(|script| script.hold = true);
    let held = engine.control().begin_run("slices", replace("s000")).await.expect("it begins");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while engine.control().run(held.id).await.expect("known").state == RunState::Waiting {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    engine.control().cancel_run(held.id).await.expect("it is cancelled");
    source.script(|script| script.hold = false);
    assert!(!engine.drain(Duration::ZERO).await || lakes.numbers("lake").len() >= numbers.len());

    let engine = open(state.path(), &lakes, quiet(&source)).await;
    changes(&source, 1_000);
    let run = done(&engine, replace("")).await;
    assert_eq!(run.state, RunState::Done, "{run:?}");
    assert!(engine.drain(Duration::from_secs(10)).await);
    assert_eq!(lakes.numbers("lake"), expected(&counts, |_| true, 2_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_lose_or_double_rows_is_refused() {
    let lakes = Lakes::new(&["lake", "write-only"]);
    let state = tempfile::tempdir().expect("a folder");
    let source = filled(&[3, 3, 3]);
    let engine = open(state.path(), &lakes, quiet(&source)).await;
    // Live records share a batch with the slices: all wait for the first one.
    lakes.faults("lake", [Fault::Hold]);
    let stream = StreamName::new("events").expect("a name");
    let send = async |n: u64| {
        let key = RequestKey::new(n.to_string());
        let sent = record(&format!("{{\"n\":{n}}}"));
        engine.intake().accept(&stream, sent, Origin::Push(key)).await.expect("it is accepted");
    };
    send(100).await;
    lakes.held("lake", 1).await;
    send(101).await;
    let wanted = Asked { prefix: "s000".into(), ..Asked::default() };
    assert_eq!(done(&engine, RunRequest { wanted, ..take() }).await.state, RunState::Done);
    send(102).await;
    lakes.lake("lake").release();
    wait_for(&engine, "p", |s| s.pending == 0).await;
    assert_eq!(done(&engine, take()).await.state, RunState::Done);
    wait_for(&engine, "p", |s| s.pending == 0).await;
    let fails = async |engine: &Engine, prefix: &str, words: &str| {
        let before = lakes.numbers("lake");
        let run = done(engine, replace(prefix)).await;
        let error = run.error.expect("an error");
        assert_eq!((run.state, error.kind), (RunState::Failed, RunErrorKind::Data));
        assert!(error.message.contains(words) && error.message.ends_with("Nothing was removed"), "{error:?}");
        assert_eq!(lakes.numbers("lake"), before, "{words}");
    };
    fails(&engine, "s000", "records that did not come in slices").await;
    source.script(|script| script.slices.remove("s002"));
    fails(&engine, "s001", "also hold s002, which is not at the source any more").await;
    assert!(engine.drain(Duration::from_secs(10)).await);

    let refused = async |specs: Vec<lakeward_engine::PipelineSpec>, words: &str| {
        let engine = reopen(state.path(), &lakes, &source, specs).await;
        let refused = engine.control().begin_run("slices", replace("")).await.expect_err("it is refused");
        assert!(refused.to_string().contains(words), "{refused}");
        drop(engine);
    };
    let mut deduped = pipeline("p", "events", "lake");
    let key = DedupKey::Columns(vec!["n".into()]);
    deduped.shape.dedup = Some(Dedup { key, window: Duration::from_secs(60), time: None });
    refused(vec![deduped], "`lakeward pull --force` adds what is missing").await;
    let two = vec![pipeline("p", "events", "lake"), pipeline("q", "events", "lake")];
    refused(two, "the pipeline q delivers the stream events, too").await;
    refused(vec![pipeline("q", "events", "lake")], "no pipeline named p delivers the stream events").await;
    refused(vec![pipeline("p", "events", "write-only")], "cannot remove files").await;
}

/// As [`open`], with other pipelines.
async fn reopen(
    state: &Path,
    lakes: &Lakes,
    source: &MemorySlices,
    specs: Vec<lakeward_engine::PipelineSpec>,
) -> Engine {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let options = EngineOptions { sliced: vec![quiet(source)], ..options(state, lakes) };
        match Engine::open(options, specs.clone()).await {
            Ok(engine) => return engine,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
