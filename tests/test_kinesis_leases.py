"""Shards shared by leases in DynamoDB: the union of the lakes has every record once."""

import random
import signal
import time

import pytest

from faultproxy import FaultProxy
from kinesis_servers import Kinesalite, KinesisLocal, Roto
from service import http
from test_kinesis_source import (
    SEED, Producer, check, in_lakes, kill_at_random, make_stream, reshard, service_with, source, state, wait_until,
    wait_until_received,
)

TABLE = "lakeward-app"


@pytest.fixture(params=[KinesisLocal, Kinesalite])
def server(request):
    with request.param() as running:
        yield running


# Leases are DynamoDB's: which Kinesis is beside it matters where shards are split and merged.
with_one_kinesis = pytest.mark.parametrize("server", [Kinesalite], indirect=True)


@pytest.fixture
def dynamodb():
    with Roto("dynamodb") as running:
        yield running


def worker(folder, server, stream, dynamodb, journal=None, **settings):
    leases = {"table": TABLE, "failover": "1s", "endpoint": dynamodb.endpoint}
    return service_with(folder, [source(server, stream, leases=leases, **settings)], journal=journal or {})


def rows(dynamodb):
    found = dynamodb.client().scan(TableName=TABLE, ConsistentRead=True)["Items"]
    return {row["leaseKey"]["S"]: row for row in found}


def owners(dynamodb):
    return [row.get("leaseOwner", {}).get("S") for row in rows(dynamodb).values() if not is_finished(row)]


def is_finished(row):
    return row["checkpoint"]["S"] == "SHARD_END"


def wait_for_renewals(dynamodb, times=8):
    """Until each lease that is held was renewed so often: longer than others wait before they take it."""
    before = rows(dynamodb)

    def renewed(name):
        return int(rows(dynamodb)[name]["leaseCounter"]["N"]) - int(before[name]["leaseCounter"]["N"])

    held = [name for name, row in before.items() if not is_finished(row)]
    wait_until(lambda: all(renewed(name) >= times for name in held), lambda: rows(dynamodb))


def test_two_processes_share_and_are_killed(tmp_path, server, dynamodb):
    stream = make_stream(server.client(), 4)
    folders = [tmp_path / "a", tmp_path / "b"]
    services = [worker(folder, server, stream, dynamodb) for folder in folders]
    producer = Producer(server, stream)
    chance = random.Random(SEED)
    try:
        for service in services:
            service.start()
        producer.start()
        wait_until(lambda: sorted(map(str, owners(dynamodb))).count("None") == 0 and len(set(owners(dynamodb))) == 2,
                   lambda: rows(dynamodb))
        for _ in range(3):
            kill_at_random(services, 7, chance, 1.2)
            reshard(server, stream)
        wait_until(lambda: producer.sent >= 10_000 or producer.problem, lambda: f"{producer.sent} sent", 120)
        producer.finish()
        for service in services:
            service.kill()
            service.start()
        wait_until_received(services, producer.sent, 90)
        # Nothing comes twice a little later either.
        wait_for_renewals(dynamodb)
        counts = [sum(in_lakes(folder).values()) for folder in folders]
        print(f"seed {SEED}: {producer.sent} records, {counts} in the two lakes")
        check(producer.expected(), in_lakes(*folders))
        assert min(counts) > 500, f"one of the two did all the work: {counts}"
        for service in services:
            assert service.terminate() == 0
        assert set(owners(dynamodb)) == {None}, "a stop gives the leases back"
    finally:
        for service in services:
            service.kill()


@with_one_kinesis
def test_a_process_that_stands_still_reads_nothing_twice(tmp_path, server, dynamodb):
    """Who loses its leases while it is stopped, and takes them again, goes on where the other stopped."""
    stream = make_stream(server.client(), 4)
    folders = [tmp_path / "a", tmp_path / "b"]
    services = [worker(folder, server, stream, dynamodb) for folder in folders]
    producer = Producer(server, stream, at_once=20, pause=0.03)
    chance = random.Random(SEED)
    try:
        for service in services:
            service.start()
        producer.start()
        for _ in range(12):
            process = chance.choice(services).process
            process.send_signal(signal.SIGSTOP)
            time.sleep(chance.uniform(0.8, 2.6))
            process.send_signal(signal.SIGCONT)
            time.sleep(chance.uniform(0.3, 1.2))
        producer.finish()
        wait_until_received(services, producer.sent, 90)
        # Nothing comes twice a little later either.
        wait_for_renewals(dynamodb)
        print(f"seed {SEED}: {producer.sent} records")
        check(producer.expected(), in_lakes(*folders))
    finally:
        for service in services:
            service.kill()


def test_a_dynamodb_that_loses_replies(tmp_path, server, dynamodb):
    """An update whose outcome is unknown is cleared up, not guessed."""
    stream = make_stream(server.client(), 2)
    proxy = FaultProxy(dynamodb.endpoint, SEED, rate=0.15, stall_seconds=0.1)
    folders = [tmp_path / "a", tmp_path / "b"]
    services = [worker(folder, server, stream, proxy) for folder in folders]
    producer = Producer(server, stream, at_once=20)
    try:
        for service in services:
            service.start()
        producer.start()
        kill_at_random(services, 4, random.Random(SEED), 4)
        reshard(server, stream)

        def faults():
            return proxy.faults["lost_reply"] + proxy.faults["error_after_write"]

        wait_until(lambda: faults() > 8, lambda: f"{proxy.requests} requests, {proxy.faults}", 90)
        producer.finish()
        proxy.rate = 0
        wait_until_received(services, producer.sent, 90)
        check(producer.expected(), in_lakes(*folders))
        print(f"seed {SEED}: {producer.sent} records, {proxy.requests} requests, {proxy.faults}")
        assert faults() > 8, proxy.faults
    finally:
        for service in services:
            service.kill()
        proxy.stop()


@with_one_kinesis
def test_a_claim_outlives_its_process_and_its_lease(tmp_path, server, dynamodb):
    """Who dies between claim and append gets what it had claimed, although another goes on behind it."""
    stream = make_stream(server.client(), 1)
    first, second = tmp_path / "a", tmp_path / "b"
    producer = Producer(server, stream, padding=10_000)
    for _ in range(8):
        producer.put(50)
    # A full journal holds the page between the two: nothing leaves it, as a
    # file lies where the lake should be.
    first.mkdir()
    (first / "lake").write_text("in the way")
    small = {"disk_max": "2MiB", "segment": "1MiB"}
    service = worker(first, server, stream, dynamodb, journal=small, records_max=20)
    with service:
        wait_until(lambda: state(service) == "waiting", service.log_tail)
        (row,) = rows(dynamodb).values()
        (claim,) = [value["M"] for name, value in row.items() if name.startswith("lakewardClaim_")]
        assert (claim["to"], claim["records"]) == (row["checkpoint"], {"N": "20"})
        service.kill()
    with worker(second, server, stream, dynamodb) as other:
        wait_until(lambda: row["checkpoint"] != (*rows(dynamodb).values(),)[0]["checkpoint"], other.log_tail)
        (first / "lake").unlink()
        service = worker(first, server, stream, dynamodb)
        with service:
            wait_until_received([service, other], producer.sent)
            check(producer.expected(), in_lakes(first, second))
            fetched = [line for line in service.log if "fetched what was claimed" in line]
            assert len(fetched) == 1 and "records=20" in fetched[0], service.log_tail()
            # Once is enough.
            service.kill()
            service.start()
            wait_for_renewals(dynamodb)
            wait_until_received([service, other], producer.sent)
            check(producer.expected(), in_lakes(first, second))
            assert sum("fetched what was claimed" in line for line in service.log) == 1


def test_the_rows_are_those_of_kcl(tmp_path, server, dynamodb):
    stream = make_stream(server.client(), 2)
    with worker(tmp_path / "a", server, stream, dynamodb) as service:
        producer = Producer(server, stream)
        producer.put(200)
        wait_until_received([service], 200)
        reshard(server, stream)
        producer.put(200)
        wait_until_received([service], 400)
        wait_until(lambda: sum(map(is_finished, rows(dynamodb).values())) >= 2, lambda: rows(dynamodb))
        found = rows(dynamodb)
    shards = {shard["ShardId"]: shard for shard in server.client().list_shards(StreamName=stream)["Shards"]}
    assert found.keys() == shards.keys()
    for key, row in found.items():
        shard = shards[key]
        assert row["leaseCounter"].keys() == {"N"} and int(row["leaseCounter"]["N"]) > 0
        assert row["checkpointSubSequenceNumber"] == {"N": "0"}
        assert row["ownerSwitchesSinceCheckpoint"].keys() == {"N"}
        assert row["startingHashKey"] == {"S": shard["HashKeyRange"]["StartingHashKey"]}
        assert row["endingHashKey"] == {"S": shard["HashKeyRange"]["EndingHashKey"]}
        parents = {shard.get("ParentShardId"), shard.get("AdjacentParentShardId")} - {None}
        assert set(row.get("parentShardId", {}).get("SS", [])) == parents
        checkpoint = row["checkpoint"]["S"]
        assert checkpoint in ("SHARD_END", "TRIM_HORIZON") or checkpoint.isdigit()
        if is_finished(row):
            children = {child for child, one in shards.items() if key in (one.get("ParentShardId"), one.get("AdjacentParentShardId"))}
            assert set(row["childShardIds"]["SS"]) == children
        known = {
            "leaseKey", "leaseOwner", "leaseCounter", "ownerSwitchesSinceCheckpoint", "checkpoint", "childShardIds",
            "checkpointSubSequenceNumber", "parentShardId", "startingHashKey", "endingHashKey",
        }
        ours = {name for name in row if name.startswith("lakeward")}
        assert row.keys() - ours <= known, row.keys()


def test_it_goes_on_where_kcl_stopped_inside_an_aggregate(tmp_path, server, dynamodb):
    stream = make_stream(server.client(), 1)
    aggregate = bytes.fromhex(
        "f3899ac20a03706b310a03706b321a0b08001a077b2261223a317d1a0b08011a077b2261223a327d"
        "88226167d573f341c4179de0c89313b1"
    )
    kinesis = server.client()
    numbers = [
        kinesis.put_record(StreamName=stream, Data=data, PartitionKey="k")["SequenceNumber"]
        for data in (b'{"a":0}', aggregate, b'{"a":3}')
    ]
    table = dynamodb.client()
    table.create_table(
        TableName=TABLE, KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}], BillingMode="PAY_PER_REQUEST",
    )
    table.put_item(TableName=TABLE, Item={
        "leaseKey": {"S": "shardId-000000000000"}, "leaseOwner": {"S": "kcl-worker"}, "leaseCounter": {"N": "17"},
        "ownerSwitchesSinceCheckpoint": {"N": "0"}, "checkpoint": {"S": numbers[1]},
        "checkpointSubSequenceNumber": {"N": "0"}, "pendingCheckpoint": {"S": numbers[2]},
        "pendingCheckpointSubSequenceNumber": {"N": "0"},
    })
    with worker(tmp_path / "a", server, stream, dynamodb) as service:
        wait_until_received([service], 2)
        _, page = http("GET", f"{service.url}/v1/streams/events/records?from=0")
        assert [record["data"] for record in page] == ['{"a":2}', '{"a":3}']
        (row,) = rows(dynamodb).values()
        assert row["checkpoint"] == {"S": numbers[2]} and row["ownerSwitchesSinceCheckpoint"] == {"N": "0"}
        assert "pendingCheckpoint" not in row
