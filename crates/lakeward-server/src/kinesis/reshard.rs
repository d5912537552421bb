//! Shards as clients see and change them: ListShards, SplitShard, MergeShards,
//! UpdateShardCount.

use lakeward_model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::document::{Mode, State};
use super::iterator::{self, LIFETIME_MS, instant};
use super::shards::{Entry, ReshardError, SHARDS_MAX, Shards};
use super::{Api, Names, streams, text};
use crate::aws::fault::Fault;

/// *ListShards*: "The default value is 1000".
const LIST_DEFAULT: usize = 1_000;

/// Shard of the API.
pub(super) fn describe(entry: &Entry) -> Value {
    let mut range = json!({"StartingSequenceNumber": entry.shard().sequence(entry.start).to_string()});
    if let Some(closed) = entry.closed {
        range["EndingSequenceNumber"] = entry.shard().sequence(closed.end).to_string().into();
    }
    let mut shard = json!({
        "ShardId": entry.shard().to_string(),
        "HashKeyRange": hash_range(entry),
        "SequenceNumberRange": range,
    });
    for (member, parent) in ["ParentShardId", "AdjacentParentShardId"].iter().zip(&entry.parents) {
        shard[member] = shard_id(*parent).into();
    }
    shard
}

fn hash_range(entry: &Entry) -> Value {
    json!({"StartingHashKey": entry.low.to_string(), "EndingHashKey": entry.high.to_string()})
}

pub(super) fn shard_id(number: u32) -> String {
    lakeward_model::Shard { number, created: 0 }.to_string()
}

/// The shards that a reader goes on with.
pub(super) fn child_shards(shards: &Shards, entry: &Entry) -> Value {
    let children = shards.children(entry.shard().number).map(|child| {
        let parents: Vec<_> = child.parents.iter().map(|parent| shard_id(*parent)).collect();
        json!({
            "ShardId": child.shard().to_string(), "ParentShards": parents, "HashKeyRange": hash_range(child),
        })
    });
    children.collect()
}

/// Which shards ListShards shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Filter {
    All,
    After(u32),
    OpenAt(Timestamp),
    OpenSince(Timestamp),
    OpenNow,
}

impl Filter {
    fn of(input: &Value, state: &State, now: Timestamp, names: &Names<'_>) -> Result<Self, Fault> {
        let filter = &input["ShardFilter"];
        let (id, at) = (filter["ShardId"].as_str(), instant(&filter["Timestamp"]));
        let kind = filter["Type"].as_str();
        let missing = |member: &str, kind: &str| {
            Err(Fault::invalid_argument(format!("ShardFilter of type {kind} needs a {member}.")))
        };
        match (kind, id, at) {
            (None, ..) => Ok(Self::All),
            (Some("AFTER_SHARD_ID"), Some(id), _) => {
                Ok(Self::After(iterator::find(state, id, now, names)?.shard().number))
            }
            (Some(kind @ "AFTER_SHARD_ID"), None, _) => missing("ShardId", kind),
            (Some("AT_LATEST"), ..) => Ok(Self::OpenNow),
            (Some("AT_TRIM_HORIZON"), ..) => Ok(Self::OpenAt(state.horizon(now))),
            (Some("FROM_TRIM_HORIZON"), ..) => Ok(Self::OpenSince(state.horizon(now))),
            (Some("AT_TIMESTAMP"), _, Some(at)) => Ok(Self::OpenAt(at.max(state.horizon(now)).min(now))),
            (Some("FROM_TIMESTAMP"), _, Some(at)) => Ok(Self::OpenSince(at.max(state.horizon(now)))),
            (Some(kind), ..) => missing("Timestamp", kind),
        }
    }

    fn shows(&self, entry: &Entry) -> bool {
        match self {
            Self::All => true,
            Self::After(number) => entry.shard().number > *number,
            Self::OpenNow => entry.is_open(),
            Self::OpenAt(at) => entry.was_open(*at),
            Self::OpenSince(at) => entry.closed.is_none_or(|closed| closed.at >= *at),
        }
    }
}

/// Where a listing goes on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListToken {
    stream: String,
    incarnation: Uuid,
    filter: Filter,
    after: u32,
    created: i64,
}

impl Api {
    pub(super) async fn list_shards(&self, input: &Value) -> Result<Value, Fault> {
        let now = self.clock.now();
        let token = input["NextToken"].as_str().map(|token| open_list(token, now)).transpose()?;
        let named =
            ["StreamName", "StreamARN", "ExclusiveStartShardId", "ShardFilter", "StreamCreationTimestamp"];
        if token.is_some() && named.iter().any(|member| !input[member].is_null()) {
            return Err(Fault::invalid_argument("NextToken and StreamName cannot be provided together."));
        }
        let target = match &token {
            Some(token) => self.target(Some(&token.stream), None)?,
            None => self.target_of(input)?,
        };
        let names = target.names();
        let live = self.live(&target).await?;
        let state = live.state.read().await;
        streams::check_creation(input, &state.document, &names)?;
        let (filter, after) = match token {
            Some(token) if token.incarnation != live.incarnation => return Err(names.not_found()),
            Some(token) => (token.filter, Some(token.after)),
            None => {
                let after = input["ExclusiveStartShardId"].as_str();
                let after = after.map(|id| iterator::find(&state, id, now, &names)).transpose()?;
                let filter = Filter::of(input, &state, now, &names)?;
                (filter, after.map(|entry| entry.shard().number))
            }
        };
        let limit = input["MaxResults"].as_u64().and_then(|limit| usize::try_from(limit).ok());
        let horizon = state.horizon(now);
        let mut shards = state.document.shards.entries().iter().filter(|entry| {
            let number = entry.shard().number;
            after.is_none_or(|after| number > after) && !entry.is_expired(horizon) && filter.shows(entry)
        });
        let page: Vec<_> = shards.by_ref().take(limit.unwrap_or(LIST_DEFAULT)).collect();
        let mut answer = json!({"Shards": page.iter().map(|entry| describe(entry)).collect::<Value>()});
        if let (Some(last), Some(_)) = (page.last(), shards.next()) {
            let token = ListToken {
                stream: live.name.to_string(),
                incarnation: live.incarnation,
                after: last.shard().number,
                filter,
                created: now.millis(),
            };
            answer["NextToken"] = iterator::seal(&token).into();
        }
        Ok(answer)
    }

    pub(super) async fn split_shard(&self, input: &Value) -> Result<Value, Fault> {
        let target = self.target_of(input)?;
        let live = self.live(&target).await?;
        let (id, key) =
            (text(input, "ShardToSplit").to_owned(), text(input, "NewStartingHashKey").to_owned());
        self.lives
            .change(live, move |change| {
                let names = target.names();
                check_mode(change.state, &names)?;
                let entry = find_open(change.state, &id, change.now, &names)?;
                let (low, high) = (entry.low, entry.high);
                // AWS wants more than one hash key in each of the two.
                let at = key.parse::<u128>().ok().filter(|at| *at > low.saturating_add(1) && *at < high);
                let number = entry.shard().number;
                let at = at.ok_or_else(|| {
                    Fault::invalid_argument(format!(
                        "NewStartingHashKey {key} used in SplitShard() on shard {} in stream {} under account {} is not \
                         both greater than one plus the shard's StartingHashKey {low} and less than the shard's \
                         EndingHashKey {high}.",
                        entry.shard(), names.stream, names.account
                    ))
                })?;
                check_count(change.state.document.shards.open_count() + 1, &names)?;
                let shards = &mut change.state.document.shards;
                shards.split(number, at, change.end, change.now).map_err(|error| refusal(error, &names))?;
                Ok(json!({}))
            })
            .await
    }

    pub(super) async fn merge_shards(&self, input: &Value) -> Result<Value, Fault> {
        let target = self.target_of(input)?;
        let live = self.live(&target).await?;
        let ids = ["ShardToMerge", "AdjacentShardToMerge"].map(|member| text(input, member).to_owned());
        self.lives
            .change(live, move |change| {
                let names = target.names();
                check_mode(change.state, &names)?;
                let [first, second] = ids.each_ref().map(|id| find_open(change.state, id, change.now, &names));
                let (mut first, mut second) = (first?, second?);
                if second.low < first.low {
                    (first, second) = (second, first);
                }
                let (first, second) = (first.shard().number, second.shard().number);
                let shards = &mut change.state.document.shards;
                shards.merge(first, second, change.end, change.now).map_err(|error| match error {
                    ReshardError::NotAdjacent => Fault::invalid_argument(format!(
                        "Shards {} and {} in stream {} under account {} are not an adjacent pair of shards eligible \
                         for merging",
                        ids[0], ids[1], names.stream, names.account
                    )),
                    other => refusal(other, &names),
                })?;
                Ok(json!({}))
            })
            .await
    }

    pub(super) async fn update_shard_count(&self, input: &Value) -> Result<Value, Fault> {
        let target = self.target_of(input)?;
        let live = self.live(&target).await?;
        let wanted = input["TargetShardCount"].as_u64().unwrap_or_default();
        let arn = self.arn(&target.name);
        self.lives
            .change(live, move |change| {
                let names = target.names();
                check_mode(change.state, &names)?;
                let current = change.state.document.shards.open_count() as u64;
                let counts = format!(
                    "Current open shard count: {current} Target shard count: {wanted}"
                );
                if wanted > current * 2 {
                    return Err(Fault::invalid_argument(format!(
                        "UpdateShardCount cannot scale up over double your current open shard count. {counts}"
                    )));
                }
                if wanted * 2 < current {
                    return Err(Fault::invalid_argument(format!(
                        "UpdateShardCount cannot scale down below half your current open shard count. {counts}"
                    )));
                }
                check_count(usize::try_from(wanted).unwrap_or(usize::MAX), &names)?;
                let count = u32::try_from(wanted).unwrap_or(SHARDS_MAX);
                change.state.document.shards.resize(count, change.end, change.now);
                Ok(json!({
                    "StreamName": target.name.as_str(), "StreamARN": arn, "CurrentShardCount": current,
                    "TargetShardCount": wanted,
                }))
            })
            .await
    }
}

fn open_list(token: &str, now: Timestamp) -> Result<ListToken, Fault> {
    let open: Option<ListToken> = iterator::open(token);
    let token = open.ok_or_else(|| Fault::invalid_argument("NextToken is invalid."))?;
    if now.millis().saturating_sub(token.created) > LIFETIME_MS {
        let message = "NextToken has expired: it is valid for 300 seconds.";
        return Err(Fault::new("ExpiredNextTokenException", message));
    }
    Ok(token)
}

fn find_open<'a>(state: &'a State, id: &str, now: Timestamp, names: &Names<'_>) -> Result<&'a Entry, Fault> {
    let entry = iterator::find(state, id, now, names).map_err(|_| names.shard_not_found(id))?;
    if entry.is_open() { Ok(entry) } else { Err(closed(entry.shard().number, names)) }
}

fn closed(number: u32, names: &Names<'_>) -> Fault {
    Fault::in_use(format!(
        "Shard {} in stream {} under account {} is CLOSED and cannot be split or merged.",
        shard_id(number),
        names.stream,
        names.account
    ))
}

fn refusal(error: ReshardError, names: &Names<'_>) -> Fault {
    match error {
        ReshardError::NotOpen(number) => closed(number, names),
        ReshardError::Outside | ReshardError::NotAdjacent => {
            Fault::invalid_argument("The hash keys do not fit the shards.")
        }
    }
}

fn check_mode(state: &State, names: &Names<'_>) -> Result<(), Fault> {
    match state.document.mode {
        Mode::Provisioned => Ok(()),
        Mode::OnDemand => Err(Fault::validation(format!(
            "Request is invalid. Stream {} under account {} is in On-Demand mode.",
            names.stream, names.account
        ))),
    }
}

/// # Errors
/// So many open shards are too many.
pub(super) fn check_count(count: usize, names: &Names<'_>) -> Result<(), Fault> {
    if count <= SHARDS_MAX as usize {
        return Ok(());
    }
    Err(Fault::limit_exceeded(format!(
        "This request would exceed the shard limit for the account {}. Limit: {SHARDS_MAX} open shards in a stream. \
         Shards that would have resulted from this request: {count}.",
        names.account
    )))
}
