//! PutRecord and PutRecords: from a decoded put to durable records and the
//! answer.

use std::io::Write;
use std::sync::Arc;

use lakeward_engine::{AcceptError, Accepted, Intake, Streams};
use lakeward_model::clock::SharedClock;
use lakeward_model::{Offset, Origin, RequestKey, SequenceNumber, Shard, ShardKey};
use minicbor::Encoder;
use serde_json::json;

use super::cbor::infallible;
use super::live::Live;
use super::put::{Call, Put};
use super::sequence::Texts;
use super::shards::{Entry, Shards};
use super::{Api, Encoding, Names, THROTTLED};
use crate::aws::fault::Fault;
use crate::body::Reservation;

/// What became of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Durable(SequenceNumber),
    /// Its shard had enough for now.
    Throttled(Shard),
    /// There is no room in the journal.
    Full,
}

/// What a put needs, by value: it goes on if its client hangs up, and holds the
/// shards for as long as its records may still become durable.
struct Work {
    live: Arc<Live>,
    put: Put,
    call: Call,
    key: Option<RequestKey>,
    intake: Intake,
    clock: SharedClock,
    streams: Streams,
    throttles: bool,
    /// The memory of the put.
    _reservation: Arc<Reservation>,
}

enum Done {
    Outcomes(Vec<Outcome>, &'static str),
    /// The stream changed under the put, which has not been tried.
    Stale(Put),
}

impl Api {
    pub(super) async fn put(
        &self,
        call: Call,
        encoding: Encoding,
        mut put: Put,
        key: Option<RequestKey>,
        reservation: Reservation,
    ) -> Result<Vec<u8>, Fault> {
        // Both hold it: a put goes on if its client hangs up.
        let reservation = Arc::new(reservation);
        let target = self.target(put.stream.as_deref(), put.arn.as_deref())?;
        loop {
            let live = match self.lives.get_or_make(&target.name).await {
                Ok(live) => live,
                Err(error) => return Err(self.no_stream(&target, error)),
            };
            if let Some(given) = &put.ordering
                && SequenceNumber::parse(given).is_none()
            {
                return Err(Fault::invalid_argument(format!(
                    "ExclusiveMinimumSequenceNumber {given} used in PutRecord on stream {} under account {} is \
                     invalid.",
                    target.name, target.account
                )));
            }
            if put.dry_run {
                return Err(dry_run());
            }
            let work = Work {
                live,
                put,
                call,
                key: key.clone(),
                intake: self.intake.clone(),
                clock: Arc::clone(&self.clock),
                streams: self.lives.streams.clone(),
                throttles: self.throttles,
                _reservation: Arc::clone(&reservation),
            };
            let names = Names { stream: target.name.as_str(), account: &target.account };
            let done = tokio::spawn(work.run()).await.map_err(|_| Fault::internal())?;
            match done.map_err(|failed| failed.fault(&names))? {
                Done::Stale(back) => put = back,
                Done::Outcomes(outcomes, encryption) => {
                    return reply(call, encoding, &outcomes, encryption, &names);
                }
            }
        }
    }
}

/// *DryRunOperationException*: "The request was rejected because the DryRun
/// parameter was specified."
pub(super) fn dry_run() -> Fault {
    Fault::new(
        "DryRunOperationException",
        "The request was rejected because the DryRun parameter was specified.",
    )
}

/// Why nothing was put.
enum Failed {
    RecordTooLarge {
        number: usize,
        call: Call,
        limit: usize,
    },
    Accept(AcceptError),
    /// What the first try stored cannot be read.
    Read(String),
    /// The first try was throttled in part and went through while this retry was
    /// under way: the next retry finds its answer.
    Overtaken,
    /// Another stream has the name by now, and perhaps the records: a retry
    /// finds its answer there.
    Replaced,
}

impl Failed {
    fn fault(self, names: &Names<'_>) -> Fault {
        match self {
            Self::RecordTooLarge { number, call, limit } => {
                let at = match call {
                    Call::One => String::from("data"),
                    Call::Many => format!("records.{}.member.data", number + 1),
                };
                Fault::validation(format!(
                    "1 validation error detected: Value at '{at}' failed to satisfy constraint: Member must have \
                     length less than or equal to {limit}"
                ))
            }
            Self::Accept(AcceptError::UnknownStream(_)) => names.not_found(),
            Self::Accept(AcceptError::Draining) => Fault::slow_down(None),
            Self::Accept(AcceptError::Full { retry_after }) => {
                Fault { retry_after: Some(retry_after), ..names.throttled_stream() }
            }
            Self::Accept(AcceptError::TooLarge { limit }) => {
                Fault::invalid_argument(format!("Records size exceeds {limit} bytes limit"))
            }
            Self::Accept(AcceptError::Failed(cause)) | Self::Read(cause) => {
                tracing::error!(stream = names.stream, cause, "a put failed");
                Fault::internal()
            }
            Self::Overtaken | Self::Replaced => Fault::slow_down(None),
        }
    }
}

impl Work {
    async fn run(mut self) -> Result<Done, Failed> {
        let live = Arc::clone(&self.live);
        let state = live.state.read().await;
        if live.is_stale() || !self.is_same_stream() {
            return Ok(Done::Stale(self.put));
        }
        let limit = state.document.record_bytes_max();
        if let Some(number) = (0..self.put.len()).find(|number| self.put.sizes(*number).0 > limit) {
            return Err(Failed::RecordTooLarge { number, call: self.call, limit });
        }
        let encryption = state.document.encryption();
        let done = |outcomes| Ok(Done::Outcomes(outcomes, encryption));
        let routed: Vec<Shard> = self.put.hashes.iter().map(|hash| state.routes.of(*hash)).collect();
        let mut shards: Vec<_> = routed.iter().copied().map(Some).collect();
        if self.throttles {
            // A retry gets its first answer, whatever its shards can take now.
            let answered = self.key.as_ref().and_then(|key| self.intake.answered(&live.name, key));
            if let Some(accepted) = answered {
                return done(self.answered(accepted, &state.document.shards, &routed).await?);
            }
            self.throttle(&mut shards);
            if shards.iter().all(Option::is_none) {
                return done(routed.into_iter().map(Outcome::Throttled).collect());
            }
        }
        let hashes = std::mem::take(&mut self.put.hashes);
        let records = std::mem::take(&mut self.put).records(&shards);
        let expected = records.len();
        let accepted = self.intake.accept(&live.name, records, Origin::Push(self.key.take())).await;
        if accepted.is_ok() && !self.is_same_stream() {
            // Other doors remove streams too, and do not wait for puts.
            return Err(Failed::Replaced);
        }
        match accepted {
            Ok(accepted) if !accepted.replayed => done(fresh(accepted.first, &shards, &routed)),
            Ok(accepted) if accepted.count as usize == expected && expected == hashes.len() => {
                done(at_that_time(accepted.first, &hashes, &state.document.shards, &routed))
            }
            Ok(_) => Err(Failed::Overtaken),
            Err(AcceptError::Full { .. }) if self.call == Call::Many => {
                done(vec![Outcome::Full; hashes.len()])
            }
            Err(error) => Err(Failed::Accept(error)),
        }
    }

    /// Whether the name still stands for the stream whose shards we know.
    fn is_same_stream(&self) -> bool {
        self.streams.incarnation(&self.live.name) == Some(self.live.incarnation)
    }

    /// Takes what goes beyond the shards' limits out.
    fn throttle(&self, shards: &mut [Option<Shard>]) {
        let now = self.clock.now();
        for (number, shard) in shards.iter_mut().enumerate() {
            let (data, key) = self.put.sizes(number);
            if shard.is_some_and(|shard| !self.live.throttle.write(shard.number, data + key, now)) {
                *shard = None;
            }
        }
    }

    /// What a put was answered whose retry this is.
    async fn answered(
        &self,
        accepted: Accepted,
        shards: &Shards,
        routed: &[Shard],
    ) -> Result<Vec<Outcome>, Failed> {
        if accepted.count as usize == self.put.len() {
            return Ok(at_that_time(accepted.first, &self.put.hashes, shards, routed));
        }
        let (first, count) = (accepted.first, accepted.count as usize);
        let bytes_max = self.put.bytes().saturating_add(1 << 20);
        let blocks = self.streams.read(&self.live.name, first, bytes_max).await;
        let blocks = blocks.map_err(|error| Failed::Read(error.to_string()))?;
        // A put is one append, so it is one block.
        let block = blocks.first().filter(|block| block.first == first && block.records.len() >= count);
        let block = block.ok_or_else(|| Failed::Read(String::from("the first try's records are gone")))?;
        let keys = block.records.keys.as_ref();
        let mut stored = block.records.iter().take(count).enumerate().peekable();
        let outcomes = (0..self.put.len()).map(|number| {
            let (data, partition_key) = self.put.record(number);
            let same = |(at, found): &(usize, &[u8])| {
                let key = keys.and_then(|keys| ShardKey::read(keys.get(*at)));
                let key =
                    key.filter(|key| key.partition_key.as_bytes() == partition_key && *found == data)?;
                Some(key.shard.sequence(first.plus(*at as u64)))
            };
            match stored.peek().and_then(same) {
                Some(sequence) => {
                    stored.next();
                    Outcome::Durable(sequence)
                }
                None => Outcome::Throttled(routed[number]),
            }
        });
        Ok(outcomes.collect())
    }
}

/// The answer to records that were just appended.
fn fresh(first: Offset, shards: &[Option<Shard>], routed: &[Shard]) -> Vec<Outcome> {
    let mut next = first;
    let outcomes = shards.iter().zip(routed).map(|(shard, routed)| match shard {
        Some(shard) => {
            let sequence = shard.sequence(next);
            next = next.plus(1);
            Outcome::Durable(sequence)
        }
        None => Outcome::Throttled(*routed),
    });
    outcomes.collect()
}

/// The answer to records that were appended by an earlier try, perhaps to
/// shards that are closed by now.
fn at_that_time(first: Offset, hashes: &[u128], shards: &Shards, routed: &[Shard]) -> Vec<Outcome> {
    let outcomes = hashes.iter().zip(routed).zip(0..).map(|((hash, routed), number)| {
        let offset = first.plus(number);
        let shard = shards.at(*hash, offset).map_or(*routed, Entry::shard);
        Outcome::Durable(shard.sequence(offset))
    });
    outcomes.collect()
}

fn reply(
    call: Call,
    encoding: Encoding,
    outcomes: &[Outcome],
    encryption: &str,
    names: &Names<'_>,
) -> Result<Vec<u8>, Fault> {
    match (call, outcomes) {
        (Call::One, [Outcome::Durable(sequence)]) => Ok(one(encoding, *sequence, encryption)),
        (Call::One, [Outcome::Throttled(shard)]) => Err(names.throttled(*shard)),
        (Call::One, _) => Err(names.throttled_stream()),
        (Call::Many, _) => Ok(match encoding {
            Encoding::Json => many_json(outcomes, encryption, names),
            Encoding::Cbor => many_cbor(outcomes, encryption, names),
        }),
    }
}

fn one(encoding: Encoding, sequence: SequenceNumber, encryption: &str) -> Vec<u8> {
    let mut answer = json!({"ShardId": sequence.shard.to_string(), "SequenceNumber": sequence.to_string()});
    if encryption != "NONE" {
        answer["EncryptionType"] = encryption.into();
    }
    encoding.write(&answer)
}

/// Code and message of a record that was not taken.
fn refusal(outcome: &Outcome, names: &Names<'_>) -> (&'static str, String) {
    match outcome {
        Outcome::Throttled(shard) => (THROTTLED, names.throttled(*shard).message),
        _ => (THROTTLED, names.throttled_stream().message),
    }
}

fn failed_count(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|outcome| !matches!(outcome, Outcome::Durable(_))).count()
}

fn many_json(outcomes: &[Outcome], encryption: &str, names: &Names<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(80 + outcomes.len() * 128);
    // Writing to memory does not fail.
    let _ = write!(out, "{{\"FailedRecordCount\":{},\"Records\":[", failed_count(outcomes));
    let mut texts = Texts::default();
    for (number, outcome) in outcomes.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        match outcome {
            Outcome::Durable(sequence) => {
                let (sequence, shard) = texts.of(*sequence);
                out.extend_from_slice(b"{\"SequenceNumber\":\"");
                out.extend_from_slice(&sequence);
                out.extend_from_slice(b"\",\"ShardId\":\"");
                out.extend_from_slice(shard.as_bytes());
                out.extend_from_slice(b"\"}");
            }
            refused => {
                let (code, message) = refusal(refused, names);
                let _ = write!(out, "{{\"ErrorCode\":\"{code}\",\"ErrorMessage\":\"{message}\"}}");
            }
        }
    }
    out.push(b']');
    if encryption != "NONE" {
        let _ = write!(out, ",\"EncryptionType\":\"{encryption}\"");
    }
    out.push(b'}');
    out
}

fn many_cbor(outcomes: &[Outcome], encryption: &str, names: &Names<'_>) -> Vec<u8> {
    let mut out = Encoder::new(Vec::with_capacity(80 + outcomes.len() * 120));
    let is_encrypted = encryption != "NONE";
    infallible(infallible(out.map(2 + u64::from(is_encrypted))).str("FailedRecordCount"));
    infallible(out.u64(failed_count(outcomes) as u64));
    infallible(infallible(out.str("Records")).array(outcomes.len() as u64));
    let mut texts = Texts::default();
    for outcome in outcomes {
        infallible(out.map(2));
        match outcome {
            Outcome::Durable(sequence) => {
                let (sequence, shard) = texts.of(*sequence);
                let sequence = std::str::from_utf8(&sequence).expect("digits are text");
                infallible(infallible(out.str("SequenceNumber")).str(sequence));
                infallible(infallible(out.str("ShardId")).str(shard));
            }
            refused => {
                let (code, message) = refusal(refused, names);
                infallible(infallible(out.str("ErrorCode")).str(code));
                infallible(infallible(out.str("ErrorMessage")).str(&message));
            }
        }
    }
    if is_encrypted {
        infallible(infallible(out.str("EncryptionType")).str(encryption));
    }
    out.into_writer()
}
