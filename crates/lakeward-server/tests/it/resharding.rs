//! Splitting and merging while records come: nothing is lost, nothing doubled.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::{Setup, ask, refused, start};
use crate::kinesis::{create, read_shard};

async fn shards(addr: SocketAddr, filter: Value) -> Vec<Value> {
    let input = json!({"StreamName": "s", "ShardFilter": filter});
    ask(addr, "ListShards", &input).await["Shards"].as_array().unwrap().clone()
}

fn ids(shards: &[Value]) -> Vec<u32> {
    let number = |shard: &Value| shard["ShardId"].as_str().unwrap()[8..].parse().unwrap();
    shards.iter().map(number).collect()
}

#[tokio::test]
async fn every_acknowledged_record_is_met_once_while_shards_change() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let addr = server.addr;
    create(addr, "s", 2).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for turn in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let text = |n: u32| format!("{writer}-{turn}-{n}");
                    let records: Vec<_> = (0..9)
                        .map(|n| json!({
                            "Data": base64_simd::STANDARD.encode_to_string(text(n)), "PartitionKey": text(n),
                        }))
                        .collect();
                    let answer =
                        ask(addr, "PutRecords", &json!({"StreamName": "s", "Records": records})).await;
                    for (n, record) in answer["Records"].as_array().unwrap().iter().enumerate() {
                        let at = (record["ShardId"].clone(), record["SequenceNumber"].clone());
                        acknowledged.push((text(n as u32), at));
                    }
                }
                acknowledged
            })
        })
        .collect();
    for target in [3, 5, 3, 2, 4, 2, 1, 2] {
        let input = json!({"StreamName": "s", "TargetShardCount": target, "ScalingType": "UNIFORM_SCALING"});
        ask(addr, "UpdateShardCount", &input).await;
    }
    let open = shards(addr, json!({"Type": "AT_LATEST"})).await;
    let split = json!({"StreamName": "s", "ShardToSplit": open[0]["ShardId"], "NewStartingHashKey": "12345"});
    ask(addr, "SplitShard", &split).await;
    let open = shards(addr, json!({"Type": "AT_LATEST"})).await;
    let by_start: BTreeMap<u128, Value> = open
        .iter()
        .map(|s| {
            (s["HashKeyRange"]["StartingHashKey"].as_str().unwrap().parse().unwrap(), s["ShardId"].clone())
        })
        .collect();
    let mut lowest = by_start.values();
    let merge = json!({
        "StreamName": "s", "ShardToMerge": lowest.next().unwrap(), "AdjacentShardToMerge": lowest.next().unwrap(),
    });
    ask(addr, "MergeShards", &merge).await;
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = HashMap::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    // Also after a restart.
    server.stop().await;
    let server = start(dir.path(), Setup::default()).await;
    let mut met = HashMap::new();
    for shard in shards(server.addr, json!({"Type": "FROM_TRIM_HORIZON"})).await {
        let range = &shard["SequenceNumberRange"];
        let number = |of: &Value| of.as_str().map(|text| (text.len(), text.to_owned()));
        let mut last = number(&range["StartingSequenceNumber"]).unwrap();
        let id = shard["ShardId"].as_str().unwrap();
        for (at, record) in read_shard(server.addr, "s", id).await.into_iter().enumerate() {
            let here = number(&record["SequenceNumber"]).unwrap();
            assert!(here > last || at == 0 && here == last, "sequence numbers ascend");
            last = here;
            let key = record["PartitionKey"].as_str().unwrap().to_owned();
            let place = (shard["ShardId"].clone(), record["SequenceNumber"].clone());
            assert_eq!(met.insert(key, place), None, "met once");
        }
        if let Some(end) = number(&range["EndingSequenceNumber"]) {
            assert!(last <= end, "no record lies behind the end of its shard");
        }
    }
    assert!(acknowledged.len() > 50);
    assert_eq!(met, acknowledged, "each where it was acknowledged");
    server.stop().await;
}

#[tokio::test]
async fn parents_children_and_filters() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let addr = server.addr;
    create(addr, "s", 2).await;
    let quarter = (1_u128 << 126).to_string();
    ask(
        addr,
        "SplitShard",
        &json!({"StreamName": "s", "ShardToSplit": "shardId-000000000000", "NewStartingHashKey": quarter}),
    )
    .await;
    ask(addr, "MergeShards", &json!({
        "StreamName": "s", "ShardToMerge": "shardId-000000000003", "AdjacentShardToMerge": "shardId-000000000001",
    }))
    .await;
    let all = shards(addr, Value::Null).await;
    assert_eq!(ids(&all), [0, 1, 2, 3, 4]);
    assert_eq!(all[2]["ParentShardId"], "shardId-000000000000");
    assert_eq!(all[2]["AdjacentParentShardId"], Value::Null);
    assert_eq!(all[4]["ParentShardId"], "shardId-000000000003");
    assert_eq!(all[4]["AdjacentParentShardId"], "shardId-000000000001");
    assert_eq!(all[4]["HashKeyRange"]["StartingHashKey"], json!(quarter));
    assert!(all[3]["SequenceNumberRange"]["EndingSequenceNumber"].is_string());
    assert_eq!(ids(&shards(addr, json!({"Type": "AT_LATEST"})).await), [2, 4]);
    assert_eq!(ids(&shards(addr, json!({"Type": "AT_TRIM_HORIZON"})).await), [0, 1]);
    assert_eq!(ids(&shards(addr, json!({"Type": "FROM_TRIM_HORIZON"})).await), [0, 1, 2, 3, 4]);
    let after = json!({"Type": "AFTER_SHARD_ID", "ShardId": "shardId-000000000002"});
    assert_eq!(ids(&shards(addr, after).await), [3, 4]);
    assert_eq!(ids(&shards(addr, json!({"Type": "AT_TIMESTAMP", "Timestamp": 4e9})).await), [2, 4]);
    assert_eq!(ids(&shards(addr, json!({"Type": "FROM_TIMESTAMP", "Timestamp": 4e9})).await), [2, 4]);

    let first = ask(addr, "ListShards", &json!({"StreamName": "s", "MaxResults": 3})).await;
    let rest = ask(addr, "ListShards", &json!({"NextToken": first["NextToken"], "MaxResults": 3})).await;
    assert_eq!(ids(rest["Shards"].as_array().unwrap()), [3, 4]);
    assert_eq!(rest["NextToken"], Value::Null);
    let both = json!({"NextToken": first["NextToken"], "StreamName": "s"});
    assert_eq!(refused(addr, "ListShards", &both).await.0, "InvalidArgumentException");

    let check = async |operation: &str, input: Value, kind: &str, part: &str| {
        let (got, message) = refused(addr, operation, &input).await;
        assert_eq!(got, kind, "{input}: {message}");
        assert!(message.contains(part), "{input}: {message}");
    };
    let split =
        |shard: &str, at: &str| json!({"StreamName": "s", "ShardToSplit": shard, "NewStartingHashKey": at});
    check("SplitShard", split("shardId-000000000002", "1"), "InvalidArgumentException",
        "NewStartingHashKey 1 used in SplitShard() on shard shardId-000000000002 in stream s under account 000000000000 \
         is not both greater than one plus the shard's StartingHashKey 0").await;
    check("SplitShard", split("shardId-000000000000", "5"), "ResourceInUseException", "CLOSED").await;
    check(
        "SplitShard",
        split("shardId-000000000077", "5"),
        "ResourceNotFoundException",
        "Could not find shard shardId-000000000077 in stream s",
    )
    .await;
    let merge = json!({"StreamName": "s", "ShardToMerge": "shardId-000000000002", "AdjacentShardToMerge": "shardId-000000000002"});
    check(
        "MergeShards",
        merge,
        "InvalidArgumentException",
        "not an adjacent pair of shards eligible for merging",
    )
    .await;
    let count = |n: u32| json!({"StreamName": "s", "TargetShardCount": n, "ScalingType": "UNIFORM_SCALING"});
    check("UpdateShardCount", count(5), "InvalidArgumentException", "cannot scale up over double").await;
    server.stop().await;
}
