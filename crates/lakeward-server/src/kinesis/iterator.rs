//! Where a reader is: shard iterators and other tokens, and GetShardIterator.

use jiff::tz::TimeZone;
use lakeward_model::{Offset, SequenceNumber, Shard, StreamName, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::document::State;
use super::live::Live;
use super::shards::Entry;
use super::write::dry_run;
use super::{Api, Names, text};
use crate::aws::fault::Fault;

/// *GetShardIterator*: "A shard iterator expires 5 minutes after it is returned
/// to the requester."
pub(super) const LIFETIME_MS: i64 = 300_000;
/// Before the check, so that no token looks like an option of a command line.
const VERSION: u8 = 0;
const CHECK_BYTES: usize = 8;

/// A place in a shard. All that there is of it is in the token that the client
/// holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShardIterator {
    #[serde(rename = "s")]
    pub(super) stream: StreamName,
    #[serde(rename = "i")]
    pub(super) incarnation: Uuid,
    /// The shard's number.
    #[serde(rename = "n")]
    pub(super) shard: u32,
    /// The next record to look at, of whatever shard.
    #[serde(rename = "o")]
    pub(super) offset: Offset,
    /// When it was given, in milliseconds since 1970.
    #[serde(rename = "t")]
    pub(super) created: i64,
}

impl ShardIterator {
    /// The place behind this one, given at `now`.
    pub(super) fn moved(&self, offset: Offset, now: Timestamp) -> Self {
        Self { offset, created: now.millis(), ..self.clone() }
    }

    pub(super) fn token(&self) -> String {
        seal(self)
    }

    /// Reads a token.
    ///
    /// # Errors
    /// It is none of ours, or too old.
    pub(super) fn open(token: &str, now: Timestamp) -> Result<Self, Fault> {
        let iterator: Self = open(token).ok_or_else(|| Fault::invalid_argument("Invalid ShardIterator."))?;
        if now.millis().saturating_sub(iterator.created) > LIFETIME_MS {
            return Err(Fault::new(
                "ExpiredIteratorException",
                format!(
                    "Iterator expired. The iterator was created at time {} while right now it is {} which is further \
                     in the future than the tolerated delay of {LIFETIME_MS} milliseconds.",
                    java_date(iterator.created),
                    java_date(now.millis())
                ),
            ));
        }
        Ok(iterator)
    }
}

/// What is in a token, as text. The first bytes tell a token of ours from what
/// only looks like one; they keep no secret.
pub(super) fn seal<T: Serialize>(content: &T) -> String {
    let json = serde_json::to_vec(content).expect("a token is plain data");
    let check = xxhash_rust::xxh3::xxh3_64(&json).to_le_bytes();
    base64_simd::STANDARD.encode_to_string([&[VERSION], &check[..], &json].concat())
}

/// What is in a token; `None` if it is none of this kind.
pub(super) fn open<T: DeserializeOwned>(token: &str) -> Option<T> {
    let bytes = base64_simd::STANDARD.decode_to_vec(token).ok()?;
    let (check, json) = bytes.strip_prefix(&[VERSION])?.split_at_checked(CHECK_BYTES)?;
    if xxhash_rust::xxh3::xxh3_64(json).to_le_bytes() != check {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// `Thu Jan 22 01:22:02 UTC 2015`, as Java prints a date.
fn java_date(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis).map_or_else(
        |_| millis.to_string(),
        |at| at.to_zoned(TimeZone::UTC).strftime("%a %b %d %H:%M:%S UTC %Y").to_string(),
    )
}

/// Seconds since the epoch, as JSON has them.
pub(super) fn instant(seconds: &Value) -> Option<Timestamp> {
    let millis = (seconds.as_f64()? * 1_000.0).round();
    // Far beyond what any record could carry.
    (millis.abs() < 1e15).then(|| Timestamp(millis as i64 * 1_000))
}

/// How GetShardIterator and SubscribeToShard name a place.
pub(super) struct Position<'a> {
    pub(super) kind: &'a str,
    pub(super) sequence: Option<&'a str>,
    pub(super) timestamp: Option<Timestamp>,
}

impl Api {
    pub(super) async fn get_shard_iterator(&self, input: &Value) -> Result<Value, Fault> {
        let target = self.target_of(input)?;
        let names = target.names();
        let position = Position {
            kind: text(input, "ShardIteratorType"),
            sequence: input["StartingSequenceNumber"].as_str(),
            timestamp: instant(&input["Timestamp"]),
        };
        let live = self.live(&target).await?;
        let iterator = self.begin(&live, text(input, "ShardId"), &position, &names).await?;
        if input["DryRun"].as_bool() == Some(true) {
            return Err(dry_run());
        }
        Ok(json!({"ShardIterator": iterator.token()}))
    }

    /// The place in a shard that a client asks for.
    pub(super) async fn begin(
        &self,
        live: &Live,
        shard_id: &str,
        position: &Position<'_>,
        names: &Names<'_>,
    ) -> Result<ShardIterator, Fault> {
        let now = self.clock.now();
        let (entry, readable_from) = {
            let state = live.state.read().await;
            (find(&state, shard_id, now, names)?.clone(), state.readable_from(now))
        };
        let shard = entry.shard();
        let offset = match (position.kind, position.sequence, position.timestamp) {
            ("TRIM_HORIZON", None, None) => {
                let from = self.received_from(live, readable_from).await?;
                from.max(entry.start)
            }
            ("LATEST", None, None) => self.end(live)?,
            ("AT_TIMESTAMP", None, Some(at)) if at > now => {
                return Err(Fault::invalid_argument(format!(
                    "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. \
                     timestampInMillis: {}, currentTimestampInMillis: {}",
                    at.millis(),
                    now.millis()
                )));
            }
            ("AT_TIMESTAMP", None, Some(at)) => {
                let from = self.received_from(live, at.max(readable_from)).await?;
                from.max(entry.start)
            }
            ("AT_SEQUENCE_NUMBER" | "AFTER_SEQUENCE_NUMBER", Some("0"), None) => entry.start,
            (kind @ ("AT_SEQUENCE_NUMBER" | "AFTER_SEQUENCE_NUMBER"), Some(sequence), None) => {
                let at = sequence_of(sequence, shard, names)?;
                let after = u64::from(kind == "AFTER_SEQUENCE_NUMBER");
                Offset(at.0.saturating_add(after)).max(entry.start).min(self.end(live)?)
            }
            (kind, sequence, timestamp) => return Err(contradiction(kind, sequence, timestamp)),
        };
        Ok(ShardIterator {
            stream: live.name.clone(),
            incarnation: live.incarnation,
            shard: shard.number,
            offset,
            created: now.millis(),
        })
    }

    /// The first record that came at `at` or later.
    pub(super) async fn received_from(&self, live: &Live, at: Timestamp) -> Result<Offset, Fault> {
        if at.0 <= 0 {
            return Ok(Offset(0));
        }
        self.lives.streams.received_from(&live.name, at).await.map_err(|error| {
            tracing::error!(stream = %live.name, %error, "a stream cannot be read");
            Fault::internal()
        })
    }

    fn end(&self, live: &Live) -> Result<Offset, Fault> {
        let ends = self.lives.streams.ends(&live.name);
        ends.map(|(_, end)| end).ok_or_else(|| self.names(&live.name).not_found())
    }
}

/// The shard of this name. AWS takes any text that ends in the number.
pub(super) fn find<'a>(
    state: &'a State,
    shard_id: &str,
    now: Timestamp,
    names: &Names<'_>,
) -> Result<&'a Entry, Fault> {
    let digits = shard_id.split_once('-').map_or(shard_id, |(_, digits)| digits);
    let number = digits.parse::<u32>().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()));
    let Some(number) = number else { return Err(names.shard_not_found(shard_id)) };
    let horizon = state.horizon(now);
    let entry = state.document.shards.get(number).filter(|entry| !entry.is_expired(horizon));
    entry.ok_or_else(|| names.no_shard(number))
}

fn sequence_of(text: &str, shard: Shard, names: &Names<'_>) -> Result<Offset, Fault> {
    let invalid = |why: &str| {
        Fault::invalid_argument(format!(
            "StartingSequenceNumber {text} used in GetShardIterator on shard {shard} in stream {} under account {} is \
             invalid{why}.",
            names.stream, names.account
        ))
    };
    let sequence = SequenceNumber::parse(text).ok_or_else(|| invalid(""))?;
    if sequence.shard.number != shard.number {
        return Err(Fault::invalid_argument(format!(
            "Invalid StartingSequenceNumber. It encodes {}, while it was used in a call to a shard with {shard}",
            sequence.shard
        )));
    }
    if sequence.shard != shard {
        return Err(invalid(" because it did not come from this stream"));
    }
    Ok(sequence.offset)
}

fn contradiction(kind: &str, sequence: Option<&str>, timestamp: Option<Timestamp>) -> Fault {
    if kind == "AT_TIMESTAMP" && timestamp.is_none() {
        return Fault::invalid_argument(
            "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no timestamp parameter.",
        );
    }
    if kind != "AT_TIMESTAMP" && timestamp.is_some() {
        return Fault::invalid_argument(format!(
            "Cannot specify timestampInMillis parameter for iterator of type {kind}"
        ));
    }
    let given = if sequence.is_some() { "also a" } else { "no" };
    Fault::invalid_argument(format!(
        "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) \
         TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified {kind} and {given} \
         StartingSequenceNumber."
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn iterator(created: i64) -> ShardIterator {
        ShardIterator {
            stream: StreamName::new(&"s".repeat(128)).unwrap(),
            incarnation: Uuid::from_u128(7),
            shard: u32::MAX,
            offset: Offset(u64::MAX),
            created,
        }
    }

    #[test]
    fn a_token_lives_five_minutes() {
        let created = 1_421_889_722_000;
        let token = iterator(created).token();
        assert!(token.starts_with('A'), "an option of a command line starts with a dash");
        assert!(token.len() <= 512, "the API's limit: {}", token.len());
        let at = |millis: i64| Timestamp((created + millis) * 1_000);
        assert_eq!(ShardIterator::open(&token, at(300_000)).unwrap(), iterator(created));
        let expired = ShardIterator::open(&token, at(300_001)).unwrap_err();
        assert_eq!(expired.kind, "ExpiredIteratorException");
        assert_eq!(
            expired.message,
            "Iterator expired. The iterator was created at time Thu Jan 22 01:22:02 UTC 2015 while right now it is \
             Thu Jan 22 01:27:02 UTC 2015 which is further in the future than the tolerated delay of 300000 \
             milliseconds.",
        );
    }

    proptest! {
        #[test]
        fn what_is_not_ours_is_refused(text in ".{0,300}", at in 0..250_usize, with in "[a-zA-Z0-9+/=]") {
            let now = Timestamp(0);
            prop_assert_eq!(ShardIterator::open(&text, now).unwrap_err().message, "Invalid ShardIterator.");
            let token = iterator(0).token();
            let mut changed = token.clone();
            changed.replace_range(at..=at, &with);
            if changed != token {
                prop_assert!(ShardIterator::open(&changed, now).is_err());
            }
        }
    }
}
