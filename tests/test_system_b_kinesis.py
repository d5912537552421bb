"""Reference system B from end to end: its producer puts events into a Kinesis stream of four shards, which are split
meanwhile; SQL shapes them, repeated uuids are dropped, and hourly Parquet lies on S3 and in the Glue catalog.

The service and a producer are killed on the way.
"""

import collections
import os
import random
import subprocess
import sys
import threading
import time

import boto3
import botocore.config
import lake
import servers
import pytest
from service import ROOT, Service, config, pipeline, s3_destination
from test_catalog import catalog, columns_of, glue, partitions_of, table_of, wait_until_registered  # noqa: F401
from test_system_b import SQL

STREAM = "dev-demo-event-stream"
SECONDS = float(os.environ.get("LAKEWARD_TEST_SYSTEM_B_SECONDS", 30))
RATE = 1_000
WORKERS = 4


class Producer:
    """One worker of the producer, in a process of its own."""

    def __init__(self, url, seconds):
        environment = {
            **os.environ, "AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY": "test", "AWS_SECRET_KEY": "test",
            "KINESIS_ENDPOINT": url, "KINESIS_STREAM_NAME": STREAM,
        }
        command = [sys.executable, str(ROOT / "tests/system_b_producer.py"), str(RATE / WORKERS), str(seconds)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        self.sent = collections.Counter()
        self.acknowledged = collections.Counter()
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            if line.endswith("\n"):
                what, uuid = line.split()
                (self.sent if what == "sending" else self.acknowledged)[uuid] += 1

    def kill(self):
        self.process.kill()

    def finish(self, timeout):
        self.process.wait(timeout)
        self.reader.join(timeout)
        return self


def kinesis_client(url):
    retries = botocore.config.Config(retries={"total_max_attempts": 10, "mode": "standard"})
    return boto3.client("kinesis", "eu-west-1", endpoint_url=url, aws_access_key_id="test",
                        aws_secret_access_key="test", config=retries)


def every_record(client):
    """All records of all shards, parents and children, as any reader walks them."""
    uuids = collections.Counter()
    shards = client.list_shards(StreamName=STREAM)["Shards"]
    for shard in shards:
        iterator = client.get_shard_iterator(
            StreamName=STREAM, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        before = -1
        while iterator:
            page = client.get_records(ShardIterator=iterator, Limit=10_000)
            for record in page["Records"]:
                assert int(record["SequenceNumber"]) > before, "sequence numbers ascend in a shard"
                before = int(record["SequenceNumber"])
                uuids[record["PartitionKey"]] += 1
            iterator = page.get("NextShardIterator")
            if iterator and not page["Records"] and page["MillisBehindLatest"] == 0:
                break
    return uuids, shards


@pytest.mark.parametrize("killing", [False, True], ids=["in peace", "with kills"])
def test_system_b_over_kinesis(tmp_path, s3, glue, killing):
    database = f"dev_demo_{'kills' if killing else 'peace'}"
    prefix = f"system-b-{'kills' if killing else 'peace'}/"
    path = "event-streams/data/year=!{event:year}/month=!{event:month}/day=!{event:day}/hour=!{event:hour}/"
    made = {
        **pipeline("events", s3_destination(s3, prefix), {"age": "2s"}, path=path, error_path="event-streams/errors/"),
        "stream": STREAM,
        "sql": SQL,
        "dedup": {"key": ["event_uuid"], "window": "1h"},
        "catalog": catalog(glue, database),
    }
    # A port of its own, as a restarted service must be found again.
    port = servers.free_ports(1)[0]
    file = config(tmp_path, [made], listen=f"127.0.0.1:{port}", streams=[{"name": STREAM, "shards": 4}])
    chance = random.Random(11)
    seconds = SECONDS / 2 if killing else SECONDS
    with Service.run(file) as service:
        client = kinesis_client(service.url)
        shards = client.list_shards(StreamName=STREAM)["Shards"]
        assert len(shards) == 4
        producers = [Producer(service.url, seconds) for _ in range(WORKERS)]
        begin = time.monotonic()

        def at(part):
            time.sleep(max(0, begin + part * seconds - time.monotonic()))

        if killing:
            for round in range(5):
                at(0.1 + round * 0.08 + chance.random() * 0.02)
                service.kill()
                service.start()
        at(0.5)
        victim = shards[1]["HashKeyRange"]
        middle = (int(victim["StartingHashKey"]) + int(victim["EndingHashKey"])) // 2
        client.split_shard(StreamName=STREAM, ShardToSplit=shards[1]["ShardId"], NewStartingHashKey=str(middle))
        if killing:
            at(0.6)
            producers[0].kill()
            producers.append(Producer(service.url, seconds * 0.4))
            for round in range(3):
                at(0.65 + round * 0.08 + chance.random() * 0.02)
                service.kill()
                service.start()
        for producer in producers:
            producer.finish(seconds * 5 + 120)
        (status,) = service.wait_until_delivered(120)
        took = time.monotonic() - begin
        read, shards = every_record(client)
        service.audit()
        wait_until_registered(service)

    sent = sum((producer.sent for producer in producers), collections.Counter())
    acknowledged = sum((producer.acknowledged for producer in producers), collections.Counter())
    print(f"{sum(acknowledged.values())} acknowledged of {sum(sent.values())} sent in {took:.0f} s, {len(acknowledged)} distinct; {status}")
    # What was read from the shards is what the journal has.
    assert sum(read.values()) == status["received"]
    assert all(read[uuid] >= count for uuid, count in acknowledged.items()), "an acknowledged record cannot be read"
    assert all(count <= sent[uuid] * 3 for uuid, count in read.items())
    closed = [shard for shard in shards if "EndingSequenceNumber" in shard["SequenceNumberRange"]]
    assert (len(shards), len(closed)) == (6, 1)
    if not killing:
        assert sent == acknowledged == read, "nobody was killed"
        assert sum(sent.values()) == RATE * seconds
    # Each uuid is one row, however often it came.
    folder = lake.fetch(s3, f"{prefix}event-streams/data/", tmp_path / "lake")
    rows = lake.rows(folder, "SELECT event_uuid, count(*), any_value(event_type), any_value(event_name) FROM {lake} GROUP BY 1")
    assert all(count == 1 for _, count, _, _ in rows), "a repeated uuid was delivered twice"
    uuids = {uuid for uuid, *_ in rows}
    assert uuids == set(read)
    assert acknowledged.keys() <= uuids <= sent.keys()
    assert all(kind == name.split(":")[0] for _, _, kind, name in rows)
    assert status["duplicates"] == sum(read.values()) - len(read)
    assert status["duplicates"] >= sum(read.values()) * 0.03
    assert status["quarantined"] == status["filtered"] == 0
    # The catalog knows every partition that has a file, and no other.
    folders = {file.relative_to(folder).parent.as_posix() for file in lake.files(folder)}
    data = f"s3://{s3.bucket}/{prefix}event-streams/data"
    assert set(partitions_of(glue, database, "events").values()) == {f"{data}/{name}/" for name in folders}
    columns = columns_of(table_of(glue, database, "events"))
    assert {"event_uuid": "string", "created_at": "double", "event_type": "string"}.items() <= columns.items()
