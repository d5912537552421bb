"""Java's own clients: the AWS SDK puts over CBOR and HTTP/2, and the Kinesis Client Library reads, by polling and by
enhanced fan-out, while a shard is split and two are merged.
"""

import collections
import time

import boto3
import pytest
from java_clients import Client
from test_catalog import glue  # noqa: F401 (moto speaks DynamoDB too)

STREAM = "from-java"
COUNT = 3_000


def wait(client, what, done, timeout=120):
    deadline = time.monotonic() + timeout
    while not done():
        assert client.process.poll() is None, "".join(client.errors[-60:])
        assert time.monotonic() < deadline, f"{what}: not after {timeout} s\n{''.join(client.errors[-60:])}"
        time.sleep(0.1)


@pytest.mark.parametrize("retrieval", ["polling", "fan-out"])
def test_the_kinesis_client_library_reads_what_the_sdk_puts(dev, glue, retrieval):  # noqa: F811
    with Client("Producer", dev.url, STREAM, 3, COUNT) as producer:
        producer.wait()
        put = {int(number): (shard, sequence) for number, shard, sequence in producer.said("put")}
        assert put.keys() == set(range(COUNT))
        assert producer.said("refused") == [["ResourceNotFoundException"]]
        assert {shard for shard, _ in put.values()} == {f"shardId-{n:012}" for n in range(3)}

    kinesis = boto3.client("kinesis", "us-east-1", endpoint_url=dev.url, aws_access_key_id="a", aws_secret_access_key="b")
    with Client("Consumer", dev.url, glue.endpoint, STREAM, f"application-{retrieval}", retrieval) as consumer:
        wait(consumer, "all records", lambda: len(consumer.said("record")) >= COUNT)
        # Records before and behind a split and a merge.
        shards = kinesis.list_shards(StreamName=STREAM)["Shards"]
        first = shards[0]["HashKeyRange"]
        middle = (int(first["StartingHashKey"]) + int(first["EndingHashKey"])) // 2
        kinesis.split_shard(StreamName=STREAM, ShardToSplit=shards[0]["ShardId"], NewStartingHashKey=str(middle))
        kinesis.merge_shards(StreamName=STREAM, ShardToMerge=shards[1]["ShardId"], AdjacentShardToMerge=shards[2]["ShardId"])
        for start in range(COUNT, COUNT + 600, 200):
            records = [
                {"Data": f'{{"number":{n}}}', "PartitionKey": f"key-{n}"} for n in range(start, start + 200)
            ]
            reply = kinesis.put_records(StreamName=STREAM, Records=records)
            for number, record in enumerate(reply["Records"], start):
                put[number] = (record["ShardId"], record["SequenceNumber"])
        wait(consumer, "records of the children", lambda: len(consumer.said("record")) >= COUNT + 600)
        wait(consumer, "the ends of the parents", lambda: len(consumer.said("ended")) == 3)
        consumer.stop()
    assert {shard for [shard] in consumer.said("ended")} == {shard["ShardId"] for shard in shards}
    read = collections.Counter()
    for shard, sequence, _, key, data in consumer.said("record"):
        number = int(key.removeprefix("key-"))
        assert (shard, sequence) == put[number]
        assert f'"number":{number}' in data
        read[number] += 1
    assert read == dict.fromkeys(put, 1), "every record once"
    for shard in {shard for shard, _ in put.values()}:
        sequences = [int(sequence) for of, sequence, *_ in consumer.said("record") if of == shard]
        assert sequences == sorted(sequences), "in order"
    children = {line[0] for line in consumer.said("open")} - {shard["ShardId"] for shard in shards}
    assert len(children) == 3
