"""Java's own clients: the AWS SDK puts over CBOR and HTTP/2, and the Kinesis Client Library reads, by polling and by
enhanced fan-out, while a shard is split and two are merged.
"""

import collections
import time

import boto3
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


def test_the_kinesis_client_library_reads_what_the_sdk_puts(dev, glue):  # noqa: F811
    """Two applications beside each other, one that polls and one with enhanced fan-out."""
    with Client("Producer", dev.url, STREAM, 3, COUNT) as producer:
        producer.wait()
        put = {int(number): (shard, sequence) for number, shard, sequence in producer.said("put")}
        assert put.keys() == set(range(COUNT))
        assert producer.said("refused") == [["ResourceNotFoundException"]]
        assert {shard for shard, _ in put.values()} == {f"shardId-{n:012}" for n in range(3)}

    def consumer(retrieval):
        return Client("Consumer", dev.url, glue.endpoint, STREAM, f"application-{retrieval}", retrieval)

    kinesis = boto3.client("kinesis", "us-east-1", endpoint_url=dev.url, aws_access_key_id="a", aws_secret_access_key="b")
    with consumer("polling") as polling, consumer("fan-out") as fan_out:
        consumers = polling, fan_out
        for each in consumers:
            wait(each, "all records", lambda: len(each.said("record")) >= COUNT)  # noqa: B023
        # Records before and behind a split and a merge.
        parents = kinesis.list_shards(StreamName=STREAM)["Shards"]
        first = parents[0]["HashKeyRange"]
        middle = (int(first["StartingHashKey"]) + int(first["EndingHashKey"])) // 2
        parents = [shard["ShardId"] for shard in parents]
        kinesis.split_shard(StreamName=STREAM, ShardToSplit=parents[0], NewStartingHashKey=str(middle))
        kinesis.merge_shards(StreamName=STREAM, ShardToMerge=parents[1], AdjacentShardToMerge=parents[2])
        for start in range(COUNT, COUNT + 600, 200):
            records = [
                {"Data": f'{{"number":{n}}}', "PartitionKey": f"key-{n}"} for n in range(start, start + 200)
            ]
            reply = kinesis.put_records(StreamName=STREAM, Records=records)
            for number, record in enumerate(reply["Records"], start):
                put[number] = (record["ShardId"], record["SequenceNumber"])
        for each in consumers:
            wait(each, "records of the children", lambda: len(each.said("record")) >= COUNT + 600)  # noqa: B023
            wait(each, "the ends of the parents", lambda: len(each.said("ended")) == 3)  # noqa: B023
        for each in consumers:
            each.stop()
    for each in consumers:
        check(each, put, parents)


def check(consumer, put, parents):
    """Every record that was put (number: shard and sequence number) is read once, in its shard's order."""
    assert {shard for [shard] in consumer.said("ended")} == set(parents)
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
    children = {line[0] for line in consumer.said("open")} - set(parents)
    assert len(children) == 3
