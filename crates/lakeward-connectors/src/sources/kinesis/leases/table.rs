//! The lease table, laid out as KCL lays it out (awslabs/amazon-kinesis-client
//! 2.x, `DynamoDBLeaseSerializer`), with attributes of our own, which KCL leaves
//! alone:
//!
//! - `lakewardClaim_<worker>`: what that worker took last and may not have
//!   appended yet; see the module above. It goes with the next renewal.
//! - `lakewardStream`: whose shard it is. A shard's name is the same in every
//!   stream.
//! - `lakewardTimestamp` (N, microseconds since 1970): the instant that a
//!   checkpoint of `LATEST` or `AT_TIMESTAMP` means; beside `TRIM_HORIZON`, the
//!   same of the shard's parents.

use std::time::Duration;

use lakeward_model::Timestamp;
use serde_json::{Map, Value, json};

use super::super::config::{KinesisConfig, KinesisConfigError, LeasesConfig};
use super::super::cursor::{Position, ShardId, Start};
use super::super::listing::Listed;
use super::super::sequence::Sequence;
use crate::aws_json::{AwsError, AwsJson, AwsProblem, AwsService};

const SERVICE: AwsService =
    AwsService { name: "dynamodb", target: "DynamoDB_20120810", content_type: "application/x-amz-json-1.0" };

/// What KCL writes when a shard is read to its end.
pub(super) const SHARD_END: &str = "SHARD_END";

/// What our claims' names begin with.
const CLAIM: &str = "lakewardClaim_";

/// Most rows that are read of a table; one with more is refused.
const ROWS_MAX: usize = 20_000;

/// How far a shard is processed, in KCL's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// A sequence number, `TRIM_HORIZON`, `LATEST`, `AT_TIMESTAMP` or
    /// `SHARD_END`.
    pub(super) at: String,
    /// The last part of that record, if it is an aggregate; else 0.
    pub(super) part: u64,
}

impl Checkpoint {
    /// Where reading goes on; `start` is what a time without an instant means.
    pub(super) fn position(&self, instant: Option<Timestamp>, start: Start) -> Option<Position> {
        match self.at.as_str() {
            "TRIM_HORIZON" => Some(Position::At(instant.map_or(Start::TrimHorizon, Start::At))),
            "LATEST" | "AT_TIMESTAMP" => Some(Position::At(instant.map_or(start, Start::At))),
            SHARD_END => Some(Position::Finished),
            number => Some(Position::Inside(Sequence::new(number)?, self.part)),
        }
    }
}

/// Records that a worker has taken: those behind `from`, up to `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) from: Checkpoint,
    pub(super) to: Checkpoint,
    /// How many records they are.
    pub(super) records: u64,
}

/// A row of the table: a lease.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) shard: ShardId,
    pub(super) owner: Option<String>,
    /// Grows with every change by an owner.
    pub(super) counter: u64,
    pub(super) checkpoint: Checkpoint,
    pub(super) switches: u64,
    pub(super) instant: Option<Timestamp>,
    /// The stream, unless KCL made the lease.
    pub(super) stream: Option<String>,
    /// This worker's own.
    pub(super) claim: Option<Claim>,
    /// Whether other workers have claims here.
    pub(super) others_claim: bool,
}

/// A condition and what is changed if it holds.
struct Change<'a> {
    condition: &'a str,
    set: String,
    values: Value,
}

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    client: AwsJson,
    pub(super) name: String,
    /// The name of the stream whose shards are leased.
    pub(super) stream: String,
    /// Who we are, as `leaseOwner`.
    pub(super) me: String,
    /// The name of our claims.
    claim: String,
}

impl Table {
    /// Asks nobody yet.
    pub(super) fn open(
        config: &KinesisConfig,
        leases: &LeasesConfig,
        worker: uuid::Uuid,
    ) -> Result<Self, KinesisConfigError> {
        // A call that takes longer is of no use: the lease would be gone.
        let timeout = config.timeout.min(leases.failover / 2).max(Duration::from_secs(1));
        let client = AwsJson::open(SERVICE, &config.dynamodb(leases), timeout)
            .map_err(|error| KinesisConfigError { setting: "leases", problem: error.to_string() })?;
        let name = leases.table.clone();
        let stream = config.name().to_string();
        let (me, claim) = (format!("lakeward-{worker}"), format!("{CLAIM}{worker}"));
        Ok(Self { client, name, stream, me, claim })
    }

    /// Makes the table, if it is not there. Whether it can be used already.
    pub(super) async fn ensure(&self) -> Result<bool, AwsError> {
        let described = self.call("DescribeTable", &json!({ "TableName": self.name })).await;
        match described {
            Ok(table) => Ok(table["Table"]["TableStatus"] == "ACTIVE"),
            Err(error) if error.code() == "ResourceNotFoundException" => {
                let table = json!({
                    "TableName": self.name,
                    "KeySchema": [{ "AttributeName": "leaseKey", "KeyType": "HASH" }],
                    "AttributeDefinitions": [{ "AttributeName": "leaseKey", "AttributeType": "S" }],
                    "BillingMode": "PAY_PER_REQUEST",
                });
                match self.call("CreateTable", &table).await {
                    Err(error) if error.code() != "ResourceInUseException" => Err(error),
                    _ => Ok(false),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// One call; in a box, because its future is large.
    async fn call(&self, operation: &str, input: &Value) -> Result<Value, AwsError> {
        Box::pin(self.client.call(operation, input)).await
    }

    /// All leases, as they are now.
    pub(super) async fn rows(&self) -> Result<Vec<Row>, AwsError> {
        let mut input = json!({ "TableName": self.name, "ConsistentRead": true });
        let mut rows = Vec::new();
        loop {
            let reply: Value = self.call("Scan", &input).await?;
            let items = reply["Items"].as_array().map(Vec::as_slice).unwrap_or_default();
            rows.extend(items.iter().filter_map(|item| self.row(item)));
            if rows.len() > ROWS_MAX {
                return Err(AwsError::Answered(AwsProblem {
                    call: "dynamodb Scan".into(),
                    status: None,
                    code: String::new(),
                    message: format!("the table {} has more than {ROWS_MAX} leases", self.name),
                    retry_after: None,
                }));
            }
            match reply.get("LastEvaluatedKey").filter(|key| key.is_object()) {
                Some(key) => input["ExclusiveStartKey"] = key.clone(),
                None => return Ok(rows),
            }
        }
    }

    /// One lease as it is now, if it is there.
    pub(super) async fn get(&self, shard: &str) -> Result<Option<Row>, AwsError> {
        let input = json!({ "TableName": self.name, "ConsistentRead": true, "Key": key(shard) });
        let reply: Value = self.call("GetItem", &input).await?;
        Ok(reply.get("Item").and_then(|item| self.row(item)))
    }

    /// Makes a lease that nobody holds, unless there is one.
    pub(super) async fn create(
        &self,
        shard: &str,
        listed: &Listed,
        checkpoint: &str,
        instant: Option<Timestamp>,
    ) -> Result<(), AwsError> {
        let mut item = json!({
            "leaseKey": { "S": shard },
            "leaseCounter": { "N": "0" },
            "ownerSwitchesSinceCheckpoint": { "N": "0" },
            "checkpoint": { "S": checkpoint },
            "checkpointSubSequenceNumber": { "N": "0" },
            "lakewardStream": { "S": self.stream },
        });
        if !listed.hashes.0.is_empty() && !listed.hashes.1.is_empty() {
            item["startingHashKey"] = json!({ "S": listed.hashes.0 });
            item["endingHashKey"] = json!({ "S": listed.hashes.1 });
        }
        if !listed.parents.is_empty() {
            item["parentShardId"] = json!({ "SS": listed.parents });
        }
        if let Some(instant) = instant {
            item["lakewardTimestamp"] = json!({ "N": instant.micros().to_string() });
        }
        let input = json!({
            "TableName": self.name,
            "Item": item,
            "ConditionExpression": "attribute_not_exists(leaseKey)",
        });
        match self.call("PutItem", &input).await {
            Err(error) if !is_condition(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes a lease that looks like `row`. `None` if it no longer does.
    pub(super) async fn take(&self, row: &Row, now: Timestamp) -> Result<Option<Row>, AwsError> {
        let switches = row.switches.saturating_add(u64::from(row.owner.as_ref() != Some(&self.me)));
        let mut change = Change {
            condition: "leaseCounter = :counter AND attribute_not_exists(leaseOwner)",
            set: "SET leaseOwner = :me, leaseCounter = :next, ownerSwitchesSinceCheckpoint = :switches, \
                  lakewardStream = :stream"
                .into(),
            values: json!({
                ":switches": { "N": switches.to_string() },
                ":stream": { "S": self.stream },
            }),
        };
        if let Some(owner) = &row.owner {
            change.condition = "leaseCounter = :counter AND leaseOwner = :owner";
            change.values[":owner"] = json!({ "S": owner });
        }
        if matches!(row.checkpoint.at.as_str(), "LATEST" | "AT_TIMESTAMP") {
            change.set.push_str(", lakewardTimestamp = if_not_exists(lakewardTimestamp, :now)");
            change.values[":now"] = json!({ "N": row.instant.unwrap_or(now).micros().to_string() });
        }
        // KCL 3 leaves it behind when a worker dies that hands a lease over.
        change.set.push_str(" REMOVE checkpointOwner");
        self.update(&row.shard, row.counter, change).await
    }

    /// Says that we live, and with `stored` that all we ever claimed is
    /// appended. `None` if the lease is not as `row`, or not ours.
    pub(super) async fn renew(&self, row: &Row, stored: bool) -> Result<Option<Row>, AwsError> {
        let forget = if stored && row.claim.is_some() { " REMOVE #claim" } else { "" };
        let set = format!("SET leaseCounter = :next{forget}");
        let change = Change { condition: MINE, set, values: json!({}) };
        self.update(&row.shard, row.counter, change).await
    }

    /// Moves the checkpoint and writes the claim, in one. `None` if the lease
    /// is not as `row`, or not ours.
    pub(super) async fn claim(&self, row: &Row, claim: &Claim) -> Result<Option<Row>, AwsError> {
        let written = json!({ "M": {
            "from": { "S": claim.from.at }, "fromPart": { "N": claim.from.part.to_string() },
            "to": { "S": claim.to.at }, "toPart": { "N": claim.to.part.to_string() },
            "records": { "N": claim.records.to_string() },
        }});
        let change = Change {
            condition: MINE_AND_THERE,
            set: format!("SET #claim = :claim, {MOVE}"),
            values: json!({
                ":claim": written,
                ":from": { "S": claim.from.at }, ":fromPart": { "N": claim.from.part.to_string() },
                ":to": { "S": claim.to.at }, ":toPart": { "N": claim.to.part.to_string() },
                ":zero": { "N": "0" },
            }),
        };
        self.update(&row.shard, row.counter, change).await
    }

    /// Says that the shard is read to its end and all of it appended. `None` as
    /// for [`claim`](Self::claim).
    pub(super) async fn finish(&self, row: &Row, children: &[ShardId]) -> Result<Option<Row>, AwsError> {
        let mut change = Change {
            condition: MINE_AND_THERE,
            set: format!("SET {MOVE}, #claim"),
            values: json!({
                ":from": { "S": row.checkpoint.at }, ":fromPart": { "N": row.checkpoint.part.to_string() },
                ":to": { "S": SHARD_END }, ":toPart": { "N": "0" },
                ":zero": { "N": "0" },
            }),
        };
        if !children.is_empty() {
            change.set = format!("SET childShardIds = :children, {MOVE}, #claim");
            change.values[":children"] = json!({ "SS": children });
        }
        self.update(&row.shard, row.counter, change).await
    }

    /// Gives the lease back. `false` if it is not as `row`, or not ours.
    pub(super) async fn release(&self, row: &Row) -> Result<bool, AwsError> {
        let set = String::from("SET leaseCounter = :next REMOVE leaseOwner");
        let change = Change { condition: MINE, set, values: json!({}) };
        self.update(&row.shard, row.counter, change).await.map(|released| released.is_some())
    }

    /// Removes a finished lease.
    pub(super) async fn remove(&self, shard: &str) -> Result<(), AwsError> {
        let input = json!({
            "TableName": self.name,
            "Key": key(shard),
            "ConditionExpression": "checkpoint = :end",
            "ExpressionAttributeValues": { ":end": { "S": SHARD_END } },
        });
        match self.call("DeleteItem", &input).await {
            Err(error) if !is_condition(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes our claim, which is appended, from a lease that may be another's.
    pub(super) async fn forget(&self, shard: &str) -> Result<(), AwsError> {
        let input = json!({
            "TableName": self.name,
            "Key": key(shard),
            "ConditionExpression": "checkpoint = :end",
            "UpdateExpression": "REMOVE #claim",
            "ExpressionAttributeNames": { "#claim": self.claim },
            "ExpressionAttributeValues": { ":end": { "S": SHARD_END } },
        });
        match self.call("UpdateItem", &input).await {
            Err(error) if !is_condition(&error) => Err(error),
            _ => Ok(()),
        }
    }

    async fn update(&self, shard: &str, counter: u64, change: Change<'_>) -> Result<Option<Row>, AwsError> {
        let mut values = change.values;
        let next = counter.saturating_add(1);
        values[":counter"] = json!({ "N": counter.to_string() });
        values[":next"] = json!({ "N": next.to_string() });
        // DynamoDB refuses a value that no expression names.
        if change.condition.contains(":me") || change.set.contains(":me") {
            values[":me"] = json!({ "S": self.me });
        }
        let mut input = json!({
            "TableName": self.name,
            "Key": key(shard),
            "ConditionExpression": change.condition,
            "UpdateExpression": change.set,
            "ExpressionAttributeValues": values,
            "ReturnValues": "ALL_NEW",
        });
        if change.set.contains("#claim") {
            input["ExpressionAttributeNames"] = json!({ "#claim": self.claim });
        }
        match self.call("UpdateItem", &input).await {
            Ok(reply) => match self.row(&reply["Attributes"]) {
                Some(row) => Ok(Some(row)),
                // Done, but the reply says nothing of use: the row does.
                None => self.get(shard).await,
            },
            Err(error) if is_condition(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A row; `None` for what is none, such as the entries that KCL 3 keeps
    /// beside its leases.
    fn row(&self, item: &Value) -> Option<Row> {
        let text = |name: &str| item[name]["S"].as_str();
        let number = |name: &str| item[name]["N"].as_str().and_then(|number| number.parse::<u64>().ok());
        let checkpoint = Checkpoint {
            at: text("checkpoint")?.to_string(),
            part: number("checkpointSubSequenceNumber").unwrap_or(0),
        };
        let instant = item["lakewardTimestamp"]["N"].as_str().and_then(|number| number.parse().ok());
        Some(Row {
            shard: text("leaseKey")?.into(),
            owner: text("leaseOwner").filter(|owner| !owner.is_empty()).map(String::from),
            counter: number("leaseCounter")?,
            checkpoint,
            switches: number("ownerSwitchesSinceCheckpoint").unwrap_or(0),
            instant: instant.map(Timestamp),
            stream: text("lakewardStream").map(String::from),
            claim: item[&self.claim]["M"].as_object().and_then(claim),
            others_claim: item.as_object()?.keys().any(|name| name.starts_with(CLAIM) && *name != self.claim),
        })
    }
}

const MINE: &str = "leaseCounter = :counter AND leaseOwner = :me";
const MINE_AND_THERE: &str = "leaseCounter = :counter AND leaseOwner = :me AND checkpoint = :from \
                              AND checkpointSubSequenceNumber = :fromPart";
/// As KCL moves a checkpoint.
const MOVE: &str = "checkpoint = :to, checkpointSubSequenceNumber = :toPart, leaseCounter = :next, \
                    ownerSwitchesSinceCheckpoint = :zero \
                    REMOVE pendingCheckpoint, pendingCheckpointSubSequenceNumber, pendingCheckpointState";

fn key(shard: &str) -> Value {
    json!({ "leaseKey": { "S": shard } })
}

fn claim(item: &Map<String, Value>) -> Option<Claim> {
    let text = |name: &str| item.get(name)?.get("S")?.as_str().map(String::from);
    let number = |name: &str| item.get(name)?.get("N")?.as_str()?.parse().ok();
    Some(Claim {
        from: Checkpoint { at: text("from")?, part: number("fromPart")? },
        to: Checkpoint { at: text("to")?, part: number("toPart")? },
        records: number("records")?,
    })
}

fn is_condition(error: &AwsError) -> bool {
    error.code() == "ConditionalCheckFailedException"
}
