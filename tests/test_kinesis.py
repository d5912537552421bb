"""The Kinesis API with unmodified clients, reached by their endpoint setting alone."""

import collections
import json
import pathlib
import subprocess
import sys
import threading
import time
import uuid

import pytest

import lake
from kinesis_walk import events, kinesis_client, read_shard, shards, walk
from service import ENVIRONMENT, Service, config, pipeline, wait_until
from test_firehose import CREDENTIALS


@pytest.fixture
def kinesis(dev):
    return kinesis_client(dev.url)


def test_boto3_puts_and_reads(dev, kinesis, tmp_path):
    kinesis.create_stream(StreamName="events", ShardCount=4)
    kinesis.get_waiter("stream_exists").wait(StreamName="events")
    one = kinesis.put_record(StreamName="events", Data=b'{"n":0}', PartitionKey="user-123")
    assert one["ShardId"] == "shardId-000000000002"
    many = kinesis.put_records(
        StreamName="events", Records=[{"Data": b'{"n":%d}' % n, "PartitionKey": f"é-{n}"} for n in range(1, 500)]
    )
    assert many["FailedRecordCount"] == 0
    found = walk(kinesis, "events")
    assert sorted(event["n"] for records in found.values() for event in events(records)) == list(range(500))
    assert all(len(records) > 60 for records in found.values())
    by_sequence = {(shard, r["SequenceNumber"]): r for shard, records in found.items() for r in records}
    for n, entry in enumerate(many["Records"], 1):
        assert by_sequence[entry["ShardId"], entry["SequenceNumber"]]["PartitionKey"] == f"é-{n}"
    # What Kinesis clients put is delivered like everything else.
    dev.wait_until_delivered()
    assert sorted(n for (n,) in lake.rows(tmp_path / "lake", "SELECT n FROM {lake}")) == list(range(500))


def test_every_kind_of_iterator(kinesis):
    kinesis.create_stream(StreamName="events", ShardCount=1)
    shard = "shardId-000000000000"
    sequences, arrivals = [], []
    for n in range(3):
        sequences.append(
            kinesis.put_record(StreamName="events", Data=str(n).encode(), PartitionKey="k")["SequenceNumber"]
        )
    records = read_shard(kinesis, "events", shard)
    arrivals = [record["ApproximateArrivalTimestamp"] for record in records]

    def read(kind, **more):
        found = read_shard(kinesis, "events", shard, ShardIteratorType=kind, **more)
        return [record["SequenceNumber"] for record in found]

    assert read("TRIM_HORIZON") == sequences
    assert read("LATEST") == []
    assert read("AT_SEQUENCE_NUMBER", StartingSequenceNumber=sequences[1]) == sequences[1:]
    assert read("AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=sequences[1]) == sequences[2:]
    assert read("AT_TIMESTAMP", Timestamp=arrivals[0]) == sequences
    at = kinesis.get_shard_iterator(StreamName="events", ShardId=shard, ShardIteratorType="LATEST")["ShardIterator"]
    kinesis.put_record(StreamName="events", Data=b"new", PartitionKey="k")
    page = kinesis.get_records(ShardIterator=at)
    assert [record["Data"] for record in page["Records"]] == [b"new"]
    assert kinesis.get_records(ShardIterator=page["NextShardIterator"])["Records"] == []


def test_the_aws_cli_as_system_b_uses_it(dev):
    def aws(*arguments):
        command = [
            pathlib.Path(sys.executable).with_name("aws"), f"--endpoint-url={dev.url}", "--region", "eu-west-1", "kinesis",
            *arguments,
        ]
        done = subprocess.run(command, env={**ENVIRONMENT, **CREDENTIALS}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout else None

    aws("create-stream", "--stream-name", "events", "--shard-count", "4")
    assert aws("list-streams")["StreamNames"] == ["events"]
    put = aws("put-record", "--stream-name", "events", "--partition-key", "a", "--data", '{"a":1}')
    assert put["ShardId"] == "shardId-000000000000"
    at = aws(
        "get-shard-iterator", "--stream-name", "events", "--shard-id", put["ShardId"], "--shard-iterator-type",
        "TRIM_HORIZON",
    )["ShardIterator"]
    (record,) = aws("get-records", "--shard-iterator", at)["Records"]
    assert (record["Data"], record["SequenceNumber"]) == ("eyJhIjoxfQ==", put["SequenceNumber"])
    assert len(aws("list-shards", "--stream-name", "events")["Shards"]) == 4
    aws("delete-stream", "--stream-name", "events")
    assert aws("list-streams")["StreamNames"] == []


def test_system_b_s_producer(dev, tmp_path):
    """`event_producer.py`: one put_record for each event, PartitionKey = event_uuid, up to 3 tries."""
    program = """
import boto3, json, os, time, uuid
client = boto3.client("kinesis", endpoint_url=os.environ["KINESIS_ENDPOINT"], region_name="eu-west-1",
                      aws_access_key_id="test", aws_secret_access_key="test")
names = ["account:created", "lesson:started", "payment:order:completed"]
for n in range(60):
    event = {"event_uuid": str(uuid.uuid4()), "event_name": names[n % 3], "created_at": time.time()}
    for attempt in range(3):
        try:
            response = client.put_record(StreamName="dev-demo-event-stream", Data=json.dumps(event),
                                         PartitionKey=event["event_uuid"])
            assert response["ResponseMetadata"]["HTTPStatusCode"] == 200
            break
        except client.exceptions.ProvisionedThroughputExceededException:
            time.sleep(0.1)
"""
    settings = {**ENVIRONMENT, "KINESIS_ENDPOINT": dev.url, "AWS_EC2_METADATA_DISABLED": "true"}
    subprocess.run([sys.executable, "-c", program], check=True, env=settings)
    (records,) = walk(kinesis_client(dev.url), "dev-demo-event-stream").values()
    assert [record["PartitionKey"] for record in records] == [event["event_uuid"] for event in events(records)]
    dev.wait_until_delivered()
    ((count,),) = lake.rows(tmp_path / "lake", "SELECT count(DISTINCT event_uuid) FROM {lake}")
    assert count == 60


def test_resharding_and_listing(kinesis):
    kinesis.create_stream(StreamName="events", ShardCount=2)
    kinesis.split_shard(StreamName="events", ShardToSplit="shardId-000000000000", NewStartingHashKey=str(1 << 126))
    kinesis.merge_shards(
        StreamName="events", ShardToMerge="shardId-000000000002", AdjacentShardToMerge="shardId-000000000003"
    )
    scaled = kinesis.update_shard_count(StreamName="events", TargetShardCount=4, ScalingType="UNIFORM_SCALING")
    assert (scaled["CurrentShardCount"], scaled["TargetShardCount"]) == (2, 4)
    open_now = kinesis.list_shards(StreamName="events", ShardFilter={"Type": "AT_LATEST"})["Shards"]
    ranges = sorted((int(s["HashKeyRange"]["StartingHashKey"]), int(s["HashKeyRange"]["EndingHashKey"])) for s in open_now)
    assert ranges == [(i << 126, (i + 1 << 126) - 1) for i in range(4)]
    page = kinesis.list_shards(StreamName="events", MaxResults=2)
    paged = page["Shards"]
    while "NextToken" in page:
        page = kinesis.list_shards(NextToken=page["NextToken"], MaxResults=2)
        paged += page["Shards"]
    assert paged == shards(kinesis, "events")
    described = []
    for page in kinesis.get_paginator("describe_stream").paginate(StreamName="events", PaginationConfig={"PageSize": 3}):
        described += page["StreamDescription"]["Shards"]
    assert described == paged
    at = kinesis.get_shard_iterator(
        StreamName="events", ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    end = kinesis.get_records(ShardIterator=at)
    assert "NextShardIterator" not in end
    assert [child["ShardId"] for child in end["ChildShards"]] == ["shardId-000000000002", "shardId-000000000003"]


def test_streams_are_described_and_survive_kill_9(dev, kinesis):
    kinesis.create_stream(StreamName="events", ShardCount=2, Tags={"team": "data"})
    kinesis.add_tags_to_stream(StreamName="events", Tags={"stage": "test"})
    kinesis.remove_tags_from_stream(StreamName="events", TagKeys=["team"])
    kinesis.increase_stream_retention_period(StreamName="events", RetentionPeriodHours=48)
    kinesis.decrease_stream_retention_period(StreamName="events", RetentionPeriodHours=36)
    kinesis.start_stream_encryption(StreamName="events", EncryptionType="KMS", KeyId="alias/aws/kinesis")
    kinesis.enable_enhanced_monitoring(StreamName="events", ShardLevelMetrics=["IncomingBytes", "OutgoingBytes"])
    kinesis.disable_enhanced_monitoring(StreamName="events", ShardLevelMetrics=["OutgoingBytes"])
    arn = kinesis.describe_stream_summary(StreamName="events")["StreamDescriptionSummary"]["StreamARN"]
    consumer = kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="app")["Consumer"]
    kinesis.update_max_record_size(StreamARN=arn, MaxRecordSizeInKiB=2048)
    kinesis.tag_resource(ResourceARN=arn, Tags={"more": "1"})
    kinesis.untag_resource(ResourceARN=arn, TagKeys=["more"])
    dev.kill()
    dev.start()
    kinesis = kinesis_client(dev.url)
    summary = kinesis.describe_stream_summary(StreamARN=arn)["StreamDescriptionSummary"]
    assert (summary["RetentionPeriodHours"], summary["OpenShardCount"], summary["ConsumerCount"]) == (36, 2, 1)
    assert (summary["EncryptionType"], summary["KeyId"]) == ("KMS", "alias/aws/kinesis")
    assert summary["EnhancedMonitoring"] == [{"ShardLevelMetrics": ["IncomingBytes"]}]
    assert summary["MaxRecordSizeInKiB"] == 2048
    assert kinesis.list_tags_for_stream(StreamName="events")["Tags"] == [{"Key": "stage", "Value": "test"}]
    assert kinesis.list_tags_for_resource(ResourceARN=arn)["Tags"] == [{"Key": "stage", "Value": "test"}]
    described = kinesis.describe_stream_consumer(ConsumerARN=consumer["ConsumerARN"])["ConsumerDescription"]
    assert (described["ConsumerName"], described["StreamARN"]) == ("app", arn)
    assert [c["ConsumerName"] for c in kinesis.list_stream_consumers(StreamARN=arn)["Consumers"]] == ["app"]
    kinesis.stop_stream_encryption(StreamName="events", EncryptionType="KMS", KeyId="alias/aws/kinesis")
    kinesis.update_stream_mode(StreamARN=arn, StreamModeDetails={"StreamMode": "ON_DEMAND"})
    described = kinesis.describe_stream(StreamName="events")["StreamDescription"]
    assert (described["EncryptionType"], described["StreamModeDetails"]["StreamMode"]) == ("NONE", "ON_DEMAND")
    assert kinesis.describe_limits()["OnDemandStreamCount"] == 1
    assert kinesis.describe_account_settings()["MinimumThroughputBillingCommitment"]["Status"] == "DISABLED"
    with pytest.raises(kinesis.exceptions.ResourceInUseException):
        kinesis.delete_stream(StreamName="events")
    kinesis.deregister_stream_consumer(ConsumerARN=consumer["ConsumerARN"])
    kinesis.delete_stream(StreamName="events")
    with pytest.raises(kinesis.exceptions.ResourceNotFoundException):
        kinesis.describe_stream(StreamName="events")


def test_subscribe_to_shard(kinesis):
    """boto3 reads event streams over HTTP/1.1 too."""
    kinesis.create_stream(StreamName="events", ShardCount=1)
    arn = kinesis.describe_stream_summary(StreamName="events")["StreamDescriptionSummary"]["StreamARN"]
    consumer = kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="app")["Consumer"]["ConsumerARN"]
    for n in range(3):
        kinesis.put_record(StreamName="events", Data=b"%d" % n, PartitionKey="k")
    subscription = kinesis.subscribe_to_shard(
        ConsumerARN=consumer, ShardId="shardId-000000000000", StartingPosition={"Type": "TRIM_HORIZON"}
    )
    found = []
    for event in subscription["EventStream"]:
        event = event["SubscribeToShardEvent"]
        found += [record["Data"] for record in event["Records"]]
        if len(found) == 3:
            kinesis.put_record(StreamName="events", Data=b"3", PartitionKey="k")
        if len(found) == 4:
            assert event["MillisBehindLatest"] == 0
            assert event["ContinuationSequenceNumber"] == event["Records"][-1]["SequenceNumber"]
            break
    subscription["EventStream"].close()
    assert found == [b"0", b"1", b"2", b"3"]


def test_limits_and_refusals(tmp_path):
    path = config(tmp_path, [pipeline("known", {"type": "lake", "url": "./lake"})], streams=[{"name": "mine", "shards": 3}])
    with Service.run(path) as service:
        kinesis = kinesis_client(service.url)
        errors = kinesis.exceptions

        def refused(error, call, **arguments):
            with pytest.raises(error) as refusal:
                call(**arguments)
            return refusal.value.response["Error"]

        one = {"Data": b"x", "PartitionKey": "k"}
        gone = refused(errors.ResourceNotFoundException, kinesis.put_record, StreamName="gone", **one)
        assert gone["Message"] == "Stream gone under account 000000000000 not found."
        refused(errors.ClientError, kinesis.put_records, StreamName="mine", Records=[one] * 501)
        refused(errors.ClientError, kinesis.put_record, StreamName="mine", Data=b"x" * (1 << 20) + b"x", PartitionKey="k")
        refused(errors.InvalidArgumentException, kinesis.put_records, StreamName="mine",
                Records=[{"Data": b"x" * (1 << 20), "PartitionKey": "k"}] * 10)
        in_use = refused(errors.ResourceInUseException, kinesis.delete_stream, StreamName="known")
        assert "known" in in_use["Message"]
        refused(errors.ResourceInUseException, kinesis.delete_stream, StreamName="mine")
        invalid = refused(errors.ClientError, kinesis.get_shard_iterator, StreamName="mine", ShardId="shardId-000000000000",
                          ShardIteratorType="OLDEST")
        assert invalid["Code"] == "ValidationException"
        unsupported = refused(errors.ClientError, kinesis.get_resource_policy,
                              ResourceARN="arn:aws:kinesis:us-east-1:000000000000:stream/mine")
        assert unsupported["Code"] == "UnknownOperationException"
        assert len(shards(kinesis, "mine")) == 3, "as the configuration says"
        assert len(shards(kinesis, "known")) == 1
        assert kinesis.list_streams()["StreamNames"] == ["known", "mine"]


def test_signatures(tmp_path):
    keys = [{"access_key_id": "AKIATEST", "secret": "secret"}]
    path = config(tmp_path, [], streams=[{"name": "mine"}], auth={"sigv4_keys": keys})
    with Service.run(path) as service:
        kinesis = kinesis_client(service.url)
        kinesis.put_record(StreamName="mine", Data=b"x", PartitionKey="k")
        import boto3

        other = boto3.session.Session("AKIATEST", "wrong", region_name="us-east-1")
        client = other.client("kinesis", endpoint_url=service.url)
        with pytest.raises(client.exceptions.ClientError) as refusal:
            client.put_record(StreamName="mine", Data=b"x", PartitionKey="k")
        assert refusal.value.response["Error"]["Code"] == "InvalidSignatureException"


def test_kill_9_while_writers_readers_and_a_splitter_run(tmp_path):
    """Every acknowledged record is read exactly once over all shards, in the order of its writer, under the sequence
    number that it was acknowledged with."""
    path = config(tmp_path, [], streams=[{"name": "events", "shards": 2}])
    service = Service.run(path)
    service.start()
    port = service.url.rsplit(":", 1)[1]
    path.write_text(json.dumps({**json.loads(path.read_text()), "listen": f"127.0.0.1:{port}"}))
    stop = threading.Event()
    acknowledged, failures = {}, []

    def guarded(work):
        def run(*arguments):
            try:
                work(*arguments)
            except Exception as error:  # noqa: BLE001
                failures.append(error)

        return run

    @guarded
    def write(writer):
        # The SDK's own tries of one call land once; what it gives up on is sent again under a new name.
        kinesis = kinesis_client(service.url, attempts=8)
        turn = 0
        while not stop.is_set():
            keys = [f"{writer}:{uuid.uuid4()}" for _ in range(7)]
            records = [
                {"Data": json.dumps({"key": key, "writer": writer, "turn": turn, "n": n}), "PartitionKey": key}
                for n, key in enumerate(keys)
            ]
            try:
                answer = kinesis.put_records(StreamName="events", Records=records)
            except Exception:  # noqa: BLE001
                time.sleep(0.05)
                continue
            turn += 1
            for key, entry in zip(keys, answer["Records"]):
                if "SequenceNumber" in entry:
                    acknowledged[key] = (entry["ShardId"], entry["SequenceNumber"])

    @guarded
    def split():
        kinesis = kinesis_client(service.url, attempts=8)
        count = 2
        while not stop.is_set():
            count = {2: 4, 4: 3, 3: 2}[count]
            try:
                kinesis.update_shard_count(StreamName="events", TargetShardCount=count, ScalingType="UNIFORM_SCALING")
            except Exception:  # noqa: BLE001
                count = len(kinesis.list_shards(StreamName="events", ShardFilter={"Type": "AT_LATEST"})["Shards"])
            time.sleep(0.1)

    seen = collections.defaultdict(list)

    @guarded
    def follow():
        kinesis = kinesis_client(service.url, attempts=8)
        iterators = {}
        while not stop.is_set():
            try:
                for shard in shards(kinesis, "events"):
                    iterators.setdefault(shard["ShardId"], None)
                for shard_id, at in list(iterators.items()):
                    if at == "END":
                        continue
                    if at is None:
                        at = kinesis.get_shard_iterator(
                            StreamName="events", ShardId=shard_id, ShardIteratorType="TRIM_HORIZON"
                        )["ShardIterator"]
                    page = kinesis.get_records(ShardIterator=at)
                    seen[shard_id] += [record["SequenceNumber"] for record in page["Records"]]
                    iterators[shard_id] = page.get("NextShardIterator", "END")
            except kinesis.exceptions.ClientError as error:
                raise AssertionError(f"a reader was refused: {error}") from error
            except Exception:  # noqa: BLE001
                time.sleep(0.05)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    threads += [threading.Thread(target=split), threading.Thread(target=follow)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(8):
            before = len(acknowledged)
            wait_until(lambda: len(acknowledged) >= before + 300, lambda: failures)  # noqa: B023
            service.kill()
            service.start()
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    try:
        assert not failures, failures
        found = walk(kinesis_client(service.url), "events")
        met = collections.Counter()
        places = {}
        for shard_id, records in found.items():
            turns = collections.defaultdict(lambda: (-1, -1))
            for record in records:
                event = json.loads(record["Data"])
                met[event["key"]] += 1
                places[event["key"]] = (shard_id, record["SequenceNumber"])
                here = (event["turn"], event["n"])
                assert here > turns[event["writer"]] or record["PartitionKey"] not in acknowledged
                if record["PartitionKey"] in acknowledged:
                    turns[event["writer"]] = here
        assert all(met[key] == 1 for key in acknowledged), "each acknowledged record once"
        assert set(met.values()) == {1}
        assert {key: places[key] for key in acknowledged} == acknowledged
        numbers = {shard_id: [r["SequenceNumber"] for r in records] for shard_id, records in found.items()}
        for shard_id, sequence in seen.items():
            assert sequence == numbers[shard_id][: len(sequence)], "a reader met the same, in the same order"
        assert len(found) > 6, "shards were split and merged"
    finally:
        service.kill()
