//! Partitions of a table: adding them, and giving them a column's new type.

use std::collections::{HashMap, HashSet};

use lakeward_model::{Failure, FailureKind, Partition};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::hive::HiveColumn;
use super::merge::{is_one_place, retype, text};
use super::table::address;
use super::{Glue, failure};

/// The most partitions in a call of `BatchCreatePartition` and
/// `BatchUpdatePartition` (Glue API).
const BATCH: usize = 100;
/// The most partitions in a call of `BatchGetPartition`, which takes ten times
/// as many: each names all columns, and the reply has a limit too.
const GET: usize = 100;
/// About the most bytes of a call: each partition names all columns.
const BATCH_BYTES: usize = 512 << 10;

/// What stands for null in a partition's values, for every engine that reads a
/// Hive catalog.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// What became of new partitions.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// They are there; some of them elsewhere, and where.
    All { elsewhere: Vec<(Partition, String)> },
    /// The table is gone.
    NoTable,
}

#[derive(Debug, Default, Deserialize)]
struct BatchReply {
    #[serde(default, rename = "Errors")]
    errors: Option<Vec<PartitionError>>,
}

#[derive(Debug, Deserialize)]
struct PartitionError {
    // `PartitionValueList` of an update.
    #[serde(default, rename = "PartitionValues", alias = "PartitionValueList")]
    values: Vec<String>,
    #[serde(default, rename = "ErrorDetail")]
    detail: ErrorDetail,
}

#[derive(Debug, Deserialize)]
struct GetReply {
    #[serde(default, rename = "Partitions")]
    partitions: Vec<Value>,
    #[serde(default, rename = "UnprocessedKeys")]
    unprocessed: Option<Vec<Value>>,
}

#[derive(Debug, Default, Deserialize)]
struct ErrorDetail {
    #[serde(default, rename = "ErrorCode")]
    code: String,
    #[serde(default, rename = "ErrorMessage")]
    message: String,
}

#[derive(Debug, Deserialize)]
struct PartitionsReply {
    #[serde(default, rename = "Partitions")]
    partitions: Vec<Value>,
    #[serde(default, rename = "NextToken")]
    next: Option<String>,
}

impl Glue {
    /// Adds partitions; those that are there stay as they are, and are looked at:
    /// what is there may be another folder.
    pub(super) async fn create_partitions(
        &self,
        partitions: &[Partition],
        storage: impl Fn(&str) -> Value,
    ) -> Result<Added, Failure> {
        let mut known: HashSet<Vec<String>> = HashSet::new();
        let mut seen: HashSet<Vec<String>> = HashSet::new();
        // Of two folders for the same values the first counts.
        let first = |partition: &&Partition| {
            let is_new = seen.insert(values(partition));
            if !is_new {
                known.insert(values(partition));
            }
            is_new
        };
        let first: Vec<&Partition> = partitions.iter().filter(first).collect();
        let inputs = first.into_iter().map(|partition| {
            json!({ "Values": values(partition), "StorageDescriptor": storage(&address(&partition.location)) })
        });
        for batch in batches(inputs) {
            let count = batch.len();
            let input = json!({ "TableName": self.table, "PartitionInputList": batch.clone() });
            match self.call::<BatchReply>("BatchCreatePartition", input).await {
                Ok(reply) => known.extend(self.judge(reply)?),
                Err(error) if error.code() == "EntityNotFoundException" => return Ok(Added::NoTable),
                // The model has it for the whole call too: then each on its own.
                Err(error) if error.code() == "AlreadyExistsException" => {
                    known.extend(self.create_one_by_one(batch).await?);
                }
                Err(error) => return Err(failure(error)),
            }
            tracing::debug!(table = self.name(), count, "partitions are registered");
        }
        let known: Vec<&Partition> = partitions.iter().filter(|one| known.contains(&values(one))).collect();
        let mut elsewhere = Vec::new();
        for some in known.chunks(GET) {
            elsewhere.extend(self.elsewhere(some).await?);
        }
        Ok(Added::All { elsewhere })
    }

    /// The values of those that are there already.
    async fn create_one_by_one(&self, batch: Vec<Value>) -> Result<Vec<Vec<String>>, Failure> {
        let mut known = Vec::new();
        for partition in batch {
            let values = listed(&partition);
            let input = json!({ "TableName": self.table, "PartitionInputList": [partition] });
            match self.call::<BatchReply>("BatchCreatePartition", input).await {
                Ok(reply) => known.extend(self.judge(reply)?),
                Err(error) if error.code() == "AlreadyExistsException" => known.push(values),
                Err(error) => return Err(failure(error)),
            }
        }
        Ok(known)
    }

    /// Those that are another folder in the catalog. One that is gone meanwhile
    /// is as one that somebody removes later.
    async fn elsewhere(&self, partitions: &[&Partition]) -> Result<Vec<(Partition, String)>, Failure> {
        let asked: Vec<Value> = partitions.iter().map(|one| json!({ "Values": values(one) })).collect();
        let input = json!({ "TableName": self.table, "PartitionsToGet": asked });
        let reply: GetReply = self.call("BatchGetPartition", input).await.map_err(failure)?;
        if reply.unprocessed.is_some_and(|keys| !keys.is_empty()) {
            let message = format!("some partitions of {} were not told", self.name());
            return Err(Failure::new(FailureKind::NotDone, message));
        }
        let there: HashMap<Vec<String>, &str> = reply
            .partitions
            .iter()
            .map(|one| (listed(one), one.get("StorageDescriptor").map_or("", |all| text(all, "Location"))))
            .collect();
        let differs = |one: &&Partition| {
            let location = *there.get(&values(one))?;
            let is_here = is_one_place(location, &address(&one.location));
            (!is_here).then(|| ((*one).clone(), location.to_string()))
        };
        Ok(partitions.iter().filter_map(differs).collect())
    }

    /// What the errors of single partitions mean: one that is there already is
    /// none, and its values are told; the first other one counts.
    fn judge(&self, reply: BatchReply) -> Result<Vec<Vec<String>>, Failure> {
        let errors = reply.errors.unwrap_or_default();
        let Some(first) = errors.iter().find(|error| error.detail.code != "AlreadyExistsException") else {
            return Ok(errors.into_iter().map(|error| error.values).collect());
        };
        let kind = match first.detail.code.as_str() {
            "InvalidInputException"
            | "ResourceNumberLimitExceededException"
            | "AccessDeniedException"
            | "GlueEncryptionException" => FailureKind::Refused,
            // A fault of the service, or somebody in the way: again.
            _ => FailureKind::Unknown,
        };
        let ErrorDetail { code, message } = &first.detail;
        let said: String = message.chars().filter(|c| !c.is_control()).take(500).collect();
        let values = first.values.join("/");
        Err(Failure::new(kind, format!("the partition {values} of {}: {code}: {said}", self.name())))
    }

    /// Gives the partitions that are there a column's new type.
    pub(super) async fn retype_partitions(&self, retyped: &[HiveColumn]) -> Result<(), Failure> {
        let mut next: Option<String> = None;
        loop {
            let mut input = json!({ "TableName": self.table, "MaxResults": 500 });
            if let Some(token) = next.take() {
                input["NextToken"] = Value::from(token);
            }
            let page: PartitionsReply = self.call("GetPartitions", input).await.map_err(failure)?;
            let entries = page.partitions.iter().filter_map(|partition| {
                let descriptor = retype(partition, retyped)?;
                let values = partition.get("Values")?.clone();
                let mut input = json!({ "Values": values, "StorageDescriptor": descriptor });
                for kept in ["Parameters", "LastAccessTime", "LastAnalyzedTime"] {
                    if let Some(value) = partition.get(kept).filter(|value| !value.is_null()) {
                        input[kept] = value.clone();
                    }
                }
                Some(json!({ "PartitionValueList": values, "PartitionInput": input }))
            });
            for batch in batches(entries) {
                let input = json!({ "TableName": self.table, "Entries": batch });
                let reply: BatchReply = self.call("BatchUpdatePartition", input).await.map_err(failure)?;
                let gone = |error: &PartitionError| error.detail.code == "EntityNotFoundException";
                let errors =
                    reply.errors.unwrap_or_default().into_iter().filter(|error| !gone(error)).collect();
                self.judge(BatchReply { errors: Some(errors) })?;
            }
            next = page.next.filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok(());
            }
        }
    }
}

/// A partition's values as Glue has them.
fn values(partition: &Partition) -> Vec<String> {
    partition.values.iter().map(|value| value.clone().unwrap_or_else(|| NULL.into())).collect()
}

/// The values that Glue tells of a partition.
fn listed(partition: &Value) -> Vec<String> {
    let values = partition.get("Values").and_then(Value::as_array);
    values.into_iter().flatten().filter_map(Value::as_str).map(String::from).collect()
}

/// As many as a call takes.
fn batches(inputs: impl Iterator<Item = Value>) -> Vec<Vec<Value>> {
    let mut batches: Vec<Vec<Value>> = Vec::new();
    let mut bytes = BATCH_BYTES;
    for input in inputs {
        let size = input.to_string().len();
        match batches.last_mut() {
            Some(batch) if batch.len() < BATCH && bytes + size <= BATCH_BYTES => {
                batch.push(input);
                bytes += size;
            }
            _ => {
                batches.push(vec![input]);
                bytes = size;
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_keep_to_the_limits() {
        let sizes = |inputs: Vec<Value>| batches(inputs.into_iter()).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(vec![json!(1); 250]), [100, 100, 50]);
        assert_eq!(sizes(vec![]), [0; 0]);
        let large = json!("x".repeat(BATCH_BYTES / 3));
        assert_eq!(sizes(vec![large; 5]), [2, 2, 1]);
    }
}
