//! Whole batches against functions that do what the test says, on real files.

use std::convert::Infallible;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use lakeward_columnar::process::Outcome;
use lakeward_model::InvokeFailureKind::{FunctionError, Refused, TooLarge, Unavailable};
use lakeward_model::{BatchId, Function, InvokeFailure, InvokeFailureKind, Offset, Records, Timestamp};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::replies::{Part, START};
use super::*;

const BATCH: BatchId = BatchId(uuid::Uuid::from_u128(0x1234_5678_9abc_def0_1234_5678_9abc_def0));
const PLANNED: Timestamp = Timestamp(1_700_000_000_000_000);

/// The numbers of the pieces in a call.
type Call = Vec<u64>;
type Answer = Result<Bytes, InvokeFailure>;

/// A function whose answer to a call, and how often it was called, is the
/// test's.
struct Told<F> {
    answer: F,
    calls: Mutex<Vec<Call>>,
    /// A call for this piece never comes back.
    hangs: Option<u64>,
    hung: Notify,
}

impl<F> fmt::Debug for Told<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told")
    }
}

impl<F: Fn(&[u64], usize) -> Answer + Send + Sync + 'static> Told<F> {
    fn new(answer: F) -> Arc<Self> {
        Arc::new(Self { answer, calls: Mutex::default(), hangs: None, hung: Notify::new() })
    }

    fn hanging(piece: u64, answer: F) -> Arc<Self> {
        Arc::new(Self { answer, calls: Mutex::default(), hangs: Some(piece), hung: Notify::new() })
    }

    fn calls(&self) -> Vec<Call> {
        let mut calls = self.calls.lock().unwrap().clone();
        calls.sort();
        calls
    }
}

#[async_trait::async_trait]
impl<F: Fn(&[u64], usize) -> Answer + Send + Sync + 'static> Function for Told<F> {
    async fn invoke(&self, event: Bytes) -> Answer {
        let event: Value = serde_json::from_slice(&event).expect("an event is JSON");
        let call: Call =
            event["records"].as_array().unwrap().iter().map(|r| number(&r["recordId"])).collect();
        let earlier = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(call.clone());
            calls.len() - 1
        };
        if self.hangs.is_some_and(|piece| call.contains(&piece)) {
            self.hung.notify_one();
            std::future::pending::<()>().await;
        }
        (self.answer)(&call, earlier)
    }
}

fn number(id: &Value) -> u64 {
    id.as_str().and_then(|id| id.split_once('-')).expect("an id").1.parse().expect("a number")
}

/// A reply that gives every piece `<number>!<word>`, out of order.
fn reply(call: &[u64], word: &str) -> Answer {
    let records: Vec<Value> = call.iter().rev().map(|n| {
        let data = base64_simd::STANDARD.encode_to_string(format!("{n}!{word}"));
        json!({ "recordId": format!("12345678-{n}"), "result": "Ok", "data": data, "metadata": { "partitionKeys": { "k": n } } })
    }).collect();
    Ok(Bytes::from(json!({ "records": records }).to_string()))
}

fn failure(kind: InvokeFailureKind) -> Answer {
    Err(InvokeFailure::new(kind, "Lambda.Test", "as told"))
}

fn settings() -> Settings {
    Settings {
        pipeline: "p".into(),
        stream_arn: "arn".into(),
        kinesis_arns: [String::new(), String::new()],
        region: "r".into(),
        bytes: 1 << 20,
        records: 4,
        retries: 3,
        concurrency: 3,
        wait: true,
    }
}

/// So many pieces in blocks of seven.
fn pieces(count: u64) -> impl Iterator<Item = Result<Arrived, Infallible>> + Send + 'static {
    (0..count).step_by(7).map(move |from| {
        let mut data = Vec::new();
        let mut ends = Vec::new();
        for number in from..count.min(from + 7) {
            data.extend(number.to_string().into_bytes());
            ends.push(u32::try_from(data.len()).unwrap());
        }
        Ok(Arrived {
            records: Records::new(data.into(), ends),
            at: Timestamp(1_000_000),
            first: Offset(0),
            of: None,
        })
    })
}

fn nobody() -> Listener {
    Arc::new(|_| {})
}

fn open(dir: &Path) -> Replies {
    Replies::open(dir, BATCH, PLANNED).expect("it opens")
}

/// Data, `dropped`, or code and attempts, of every piece.
fn told(replies: &Replies) -> Vec<String> {
    let tell = |outcome| match outcome {
        Outcome::Ok { data, keys } => {
            assert_eq!(keys.len(), 1);
            String::from_utf8(data.into()).unwrap()
        }
        Outcome::Dropped => "dropped".to_string(),
        Outcome::Failed(reason) => format!("{}×{}", reason.code, reason.attempts),
    };
    replies.outcomes().map(tell).collect()
}

async fn run(settings: Settings, function: Arc<dyn Function>, count: u64) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let mut replies = open(dir.path());
    invoke_all(function, settings, pieces(count), &mut replies, nobody()).await.expect("it is asked");
    let first = told(&replies);
    drop(replies);
    assert_eq!(told(&open(dir.path())), first, "it is the same after a restart");
    first
}

fn all(count: u64, word: &str) -> Vec<String> {
    (0..count).map(|n| format!("{n}!{word}")).collect()
}

#[tokio::test]
async fn outcomes_come_in_the_order_of_the_pieces() {
    for count in [0, 1, 4, 5, 30] {
        let function = Told::new(|call, _| reply(call, "a"));
        assert_eq!(run(settings(), Arc::clone(&function) as _, count).await, all(count, "a"));
        assert_eq!(function.calls().concat(), (0..count).collect::<Vec<_>>(), "each is asked once");
    }
}

#[tokio::test]
async fn what_is_too_large_is_taken_apart() {
    let function = Told::new(|call, _| match call {
        [5] => failure(TooLarge),
        [_] | [_, _] if !call.contains(&5) => reply(call, "a"),
        _ => failure(TooLarge),
    });
    let mut expect = all(9, "a");
    expect[5] = "Lambda.Test×1".to_string();
    assert_eq!(run(Settings { records: 9, ..settings() }, Arc::clone(&function) as _, 9).await, expect);
    let halves =
        [vec![0, 1, 2, 3], vec![4, 5, 6, 7, 8], vec![4, 5], vec![4], vec![5], vec![6, 7, 8], vec![6]];
    for half in halves {
        assert!(function.calls().contains(&half), "{half:?} in {:?}", function.calls());
    }
    // A reply over the limit is the same, should a function let it through.
    let long = Told::new(|call, _| match call.len() {
        1 => reply(call, "a"),
        _ => Ok(Bytes::from(vec![b' '; lakeward_model::FUNCTION_BYTES_MAX + 1])),
    });
    assert_eq!(run(settings(), long, 4).await, all(4, "a"));
}

#[tokio::test]
async fn a_record_that_fits_into_no_call_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut replies = open(dir.path());
    let large = vec![b'x'; 5 << 20];
    let data = [b"0".as_slice(), large.as_slice(), b"2"].concat();
    let end = u32::try_from(data.len()).unwrap();
    let records = Records::new(data.into(), vec![1, end - 1, end]);
    let arrived = [Ok::<_, Infallible>(Arrived { records, at: PLANNED, first: Offset(0), of: None })];
    let function = Told::new(|call, _| reply(call, "a"));
    invoke_all(Arc::clone(&function) as _, settings(), arrived.into_iter(), &mut replies, nobody())
        .await
        .unwrap();
    assert_eq!(told(&replies), ["0!a", "Lambda.RecordTooLarge×0", "2!a"]);
    assert_eq!(function.calls(), [[0], [2]]);
}

#[tokio::test(start_paused = true)]
async fn one_bad_record_fails_alone_after_four_calls_for_all() {
    let function =
        Told::new(|call, _| if call.contains(&6) { failure(FunctionError) } else { reply(call, "a") });
    let mut expect = all(10, "a");
    // Four calls for 4 to 7, then one for 6 and 7, then one for 6.
    expect[6] = "Lambda.Test×6".to_string();
    assert_eq!(run(settings(), Arc::clone(&function) as _, 10).await, expect);
    assert_eq!(function.calls().iter().filter(|call| call.contains(&6)).count(), 6);
    // A function that always fails is not asked about every record.
    let function = Told::new(|_, _| failure(FunctionError));
    let all_at_once = Settings { records: 10_000, ..settings() };
    let codes = run(all_at_once, Arc::clone(&function) as _, 10_000).await;
    assert!(codes.iter().all(|code| code.starts_with("Lambda.Test×")), "{codes:?}");
    assert!(function.calls().len() < 100, "{} calls", function.calls().len());
    // A malformed reply is final.
    let function = Told::new(|_, _| Ok(Bytes::from_static(b"<html>")));
    let codes = run(settings(), Arc::clone(&function) as _, 4).await;
    assert_eq!(codes, vec!["Lambda.JsonProcessingException×1"; 4]);
    assert_eq!(function.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_function_that_cannot_be_reached_is_waited_for() {
    for kind in [Unavailable, Refused] {
        let dir = tempfile::tempdir().unwrap();
        let mut replies = open(dir.path());
        // An hour and more; then it fails of its own twice, which costs none of
        // the tries before.
        let function = Told::new(move |call, earlier| match earlier {
            0 => Err(InvokeFailure {
                retry_after: Some(Duration::from_secs(200)),
                ..failure(kind).unwrap_err()
            }),
            1..300 => failure(kind),
            300 | 301 => failure(FunctionError),
            _ => reply(call, "a"),
        });
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listener: Listener = {
            let heard = Arc::clone(&heard);
            Arc::new(move |h: &Heard| heard.lock().unwrap().push(h.clone()))
        };
        let clock = tokio::time::Instant::now();
        invoke_all(Arc::clone(&function) as _, settings(), pieces(4), &mut replies, listener).await.unwrap();
        assert_eq!(told(&replies), all(4, "a"));
        assert!(clock.elapsed() > Duration::from_secs(3_600), "{:?}", clock.elapsed());
        let heard = heard.lock().unwrap().clone();
        assert_eq!(heard.len(), 303);
        assert!(matches!(&heard[0], Heard::Failed { pause, .. } if *pause == Duration::from_secs(200)));
        assert_eq!((heard[302].clone(), heard[302].state()), (Heard::Answered, None));
        match heard[299].state() {
            Some(PipelineState::Retrying { attempts: 300, .. }) => assert_eq!(kind, Unavailable),
            Some(PipelineState::Halted { .. }) => assert_eq!(kind, Refused),
            other => panic!("{other:?}"),
        }
        // As Firehose: into quarantine.
        let function = Told::new(move |_, _| failure(kind));
        let codes = run(Settings { wait: false, ..settings() }, function, 4).await;
        assert_eq!(codes, vec!["Lambda.Test×4"; 4]);
    }
}

#[tokio::test]
async fn a_batch_that_is_abandoned_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    // One call hangs; all others are stored (four frames of at least 132 bytes),
    // and the batch is dropped.
    let function = Told::hanging(9, |call: &[u64], _| reply(call, "first"));
    let mut replies = open(dir.path());
    {
        let asked = invoke_all(Arc::clone(&function) as _, settings(), pieces(20), &mut replies, nobody());
        tokio::pin!(asked);
        loop {
            tokio::select! {
                _ = &mut asked => panic!("a call hangs"),
                () = tokio::task::yield_now() => {}
            }
            let stored = std::fs::metadata(dir.path().join(format!("{BATCH}.replies"))).unwrap().len();
            if stored > START + 500 {
                break;
            }
        }
    }
    drop(replies);
    let second = Told::new(|call, _| reply(call, "second"));
    let mut replies = open(dir.path());
    assert_eq!(replies.missing(0..20).first(), Some(&(8..12)), "all but the one that hangs");
    assert!(!replies.is_whole());
    // Another cut of the pieces does not matter either.
    let coarse = Settings { records: 10, ..settings() };
    invoke_all(Arc::clone(&second) as _, coarse, pieces(20), &mut replies, nobody()).await.unwrap();
    assert_eq!(second.calls(), [vec![8, 9], vec![10, 11]]);
    let mut expect = all(20, "first");
    expect[8..12].clone_from_slice(&all(20, "second")[8..12]);
    assert_eq!(told(&replies), expect);
    drop(replies);
    let third = Told::new(|call, _| reply(call, "third"));
    let mut replies = open(dir.path());
    assert!(replies.is_whole());
    invoke_all(Arc::clone(&third) as _, settings(), pieces(20), &mut replies, nobody()).await.unwrap();
    assert!(third.calls().is_empty());
    assert_eq!(told(&replies), expect);
}

/// What a crash may leave: any start of the file, or a byte of it another.
#[tokio::test]
async fn a_damaged_file_gives_what_is_whole_and_the_rest_is_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let first = Told::new(|call, _| reply(call, "first"));
    let mut replies = open(dir.path());
    let few = Settings { concurrency: 1, ..settings() };
    invoke_all(first, few.clone(), pieces(10), &mut replies, nobody()).await.unwrap();
    drop(replies);
    let path = dir.path().join(format!("{BATCH}.replies"));
    let whole = std::fs::read(&path).unwrap();
    let mut kept_before = 0;
    for damage in 0..whole.len() * 2 {
        let at = damage % whole.len();
        let torn = damage < whole.len();
        if !torn && at > 64 && !at.is_multiple_of(3) {
            // Every third byte says as much, in less time.
            continue;
        }
        let mut bytes = whole.clone();
        if torn {
            bytes.truncate(at)
        } else {
            bytes[at] ^= 0x41
        }
        std::fs::write(&path, bytes).unwrap();
        let opened = Replies::open(dir.path(), BATCH, PLANNED);
        if !torn && (8..12).contains(&at) {
            assert!(matches!(opened, Err(RepliesError::Version { .. })), "byte {at}");
            continue;
        }
        let mut replies = opened.expect("it opens");
        assert!(!replies.is_whole(), "byte {at}");
        let kept = 10 - replies.missing(0..10).iter().map(|r| r.end - r.start).sum::<u64>();
        if torn {
            assert!(kept >= kept_before, "more of the file, more of the replies");
            kept_before = kept;
        }
        let second = Told::new(|call, _| reply(call, "second"));
        invoke_all(Arc::clone(&second) as _, few.clone(), pieces(10), &mut replies, nobody()).await.unwrap();
        let asked = second.calls().concat();
        assert_eq!(asked, (kept..10).collect::<Vec<_>>(), "byte {at}");
        let mut expect = all(10, "first");
        for number in asked {
            expect[usize::try_from(number).unwrap()] = format!("{number}!second");
        }
        assert_eq!(told(&replies), expect, "byte {at}");
    }
    assert_eq!(kept_before, 10);
}

#[tokio::test]
async fn another_plan_or_batch_has_replies_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("lambda/p");
    let function = Told::new(|call, _| reply(call, "a"));
    let mut replies = open(&below);
    invoke_all(function, settings(), pieces(4), &mut replies, nobody()).await.unwrap();
    let file = std::fs::read(below.join(format!("{BATCH}.replies"))).unwrap();
    drop(replies);
    // The same frames under another name are not this batch's.
    let other = BatchId(uuid::Uuid::from_u128(9));
    std::fs::write(below.join(format!("{other}.replies")), &file).unwrap();
    assert!(!Replies::open(&below, other, PLANNED).unwrap().is_whole());
    Replies::remove_others(&below, &[BATCH]).unwrap();
    assert_eq!(std::fs::read_dir(&below).unwrap().count(), 1);
    assert!(open(&below).is_whole());
    assert!(!Replies::open(&below, BATCH, Timestamp(1)).unwrap().is_whole());
    Replies::remove_others(&below, &[]).unwrap();
    assert_eq!(std::fs::read_dir(&below).unwrap().count(), 0);
    Replies::remove_others(&below.join("nowhere"), &[]).unwrap();
}

#[tokio::test]
async fn pieces_that_cannot_be_read_do_not_end_the_batch() {
    let dir = tempfile::tempdir().unwrap();
    let mut replies = open(dir.path());
    let function = Told::new(|call, _| reply(call, "a"));
    let broken = || pieces(8).map(|p| p.map_err(|_| "")).chain([Err("the journal is gone")]);
    let error = invoke_all(Arc::clone(&function) as _, settings(), broken(), &mut replies, nobody()).await;
    assert!(matches!(error, Err(InvokeAllError::Pieces("the journal is gone"))));
    assert!(!replies.is_whole());
    let panics = pieces(8).chain(std::iter::from_fn(|| panic!("as told")));
    let folder = dir.path().to_path_buf();
    let call = async move {
        let mut replies = Replies::open(&folder, BatchId(uuid::Uuid::from_u128(1)), PLANNED).unwrap();
        invoke_all(function, settings(), panics, &mut replies, nobody()).await
    };
    let dead = tokio::spawn(call).await;
    assert!(dead.is_err_and(|error| error.is_panic()));
    let replies = Replies::open(dir.path(), BatchId(uuid::Uuid::from_u128(1)), PLANNED).unwrap();
    assert!(!replies.is_whole(), "nobody said that these are all");
}

/// A write of an abandoned batch may still be under way when it is begun anew.
#[tokio::test]
async fn the_file_is_held_until_the_last_write_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut replies = open(dir.path());
    let folder = dir.path().to_path_buf();
    let again = tokio::task::spawn_blocking(move || open(&folder).missing(0..2));
    let outcomes = vec![Outcome::Dropped, Outcome::Dropped];
    replies.store(vec![Part { first: 0, outcomes }], None).await.unwrap();
    assert!(!again.is_finished());
    drop(replies);
    assert_eq!(again.await.unwrap(), []);
}
