"""Kinesis as a source, against servers that others wrote.

A producer (boto3) writes numbered records under some dozens of partition keys,
while shards are split and merged, and Lakeward is killed again and again. Each
record must lie in the lake once, and the journal must have every key's records
in their order: over a reshard that holds only if no child is read before its
parents are read to the end.

With leases two processes share one stream through DynamoDB, and the union of
their lakes must have every record once, whoever is killed when.
"""

import collections
import json
import os
import random
import threading
import time
import uuid

import pytest

import lake
from faultproxy import FaultProxy
from kinesis_servers import KEY, REGION, SECRET, KinesisLocal, Kinesalite, Roto, client
from service import Service, config, http, lakeward, pipeline, wait_until

SEED = int(os.environ.get("LAKEWARD_TEST_SEED", time.time_ns() % 1_000_000))
SERVERS = {"kinesis-local": KinesisLocal, "kinesalite": Kinesalite, "roto": Roto}
BATCH = {"age": "100ms", "records": 2_000}
KEYS = 40
# LAKEWARD_TEST_KINESIS names another endpoint to run against.
GIVEN = os.environ.get("LAKEWARD_TEST_KINESIS")


class Given:
    """A server that somebody else started."""

    endpoint = GIVEN

    def client(self):
        return client("kinesis", GIVEN)

    def stop(self):
        pass


@pytest.fixture(params=["given"] if GIVEN else list(SERVERS))
def server(request):
    running = Given() if request.param == "given" else SERVERS[request.param]()
    yield running
    running.stop()


@pytest.fixture
def stream(server):
    """A stream of four shards, by name."""
    return make_stream(server.client(), 4)


def make_stream(kinesis, shards):
    name = f"events-{uuid.uuid4().hex[:12]}"
    kinesis.create_stream(StreamName=name, ShardCount=shards)
    wait_until_active(kinesis, name)
    return name


def wait_until_active(kinesis, name):
    def status():
        return kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamStatus"]

    wait_until(lambda: status() == "ACTIVE", status, timeout=30)


def source(server, stream, endpoint=None, **settings):
    return {
        "type": "kinesis", "name": "events", "stream": "events", "stream_name": stream, "region": REGION,
        "endpoint": endpoint or server.endpoint, "access_key_id": KEY, "secret_access_key": SECRET,
        "idle": "100ms", "discover": "500ms", **settings,
    }


def service_with(folder, sources, **settings):
    folder.mkdir(parents=True, exist_ok=True)
    out = pipeline("events", {"type": "lake", "url": str(folder / "lake")}, BATCH)
    return Service.run(config(folder, [out], sources=sources, **settings))


class Producer(threading.Thread):
    """Numbered records under KEYS keys, each key's in order."""

    def __init__(self, server, stream, at_once=50, pause=0.01, limit=None, padding=0):
        super().__init__(daemon=True)
        self.kinesis = server.client()
        self.stream = stream
        self.at_once, self.pause, self.limit = at_once, pause, limit
        self.padding = "x" * padding
        self.next = collections.Counter()
        self.sent = 0
        self.stopping = threading.Event()
        self.problem = None

    def run(self):
        try:
            while not self.stopping.is_set() and (self.limit is None or self.sent < self.limit):
                self.put(self.at_once)
                time.sleep(self.pause)
        except Exception as problem:
            self.problem = problem

    def put(self, count):
        records = []
        for _ in range(count):
            key = f"key-{(self.sent + len(records)) % KEYS}"
            event = {"key": key, "n": self.next[key], "padding": self.padding}
            records.append({"Data": json.dumps(event).encode(), "PartitionKey": key})
            self.next[key] += 1
        while records:
            reply = self.kinesis.put_records(StreamName=self.stream, Records=records)
            self.sent += len(records) - reply["FailedRecordCount"]
            failed = [record for record, entry in zip(records, reply["Records"]) if "ErrorCode" in entry]
            records = failed

    def finish(self):
        self.stopping.set()
        self.join(60)
        assert not self.is_alive()
        if self.problem:
            raise self.problem
        return self

    def expected(self):
        return {(key, n) for key, count in self.next.items() for n in range(count)}


def in_lakes(*folders):
    counted = collections.Counter()
    for folder in folders:
        rows = lake.rows(folder / "lake", "SELECT key, n, count(*) FROM {lake} GROUP BY ALL")
        counted.update({(key, n): count for key, n, count in rows})
    return counted


def check(expected, counted):
    lost = sorted(expected - set(counted))
    doubled = sorted(one for one, count in counted.items() if count > 1)
    foreign = sorted(set(counted) - expected)
    assert not (lost or doubled or foreign), (
        f"seed {SEED}: of {len(expected)} sent {len(lost)} lost {lost[:10]}, {len(doubled)} doubled {doubled[:10]}, "
        f"{len(foreign)} foreign {foreign[:10]}"
    )


def records_of(service):
    """Everything in the journal of `events`, in its order."""
    found, at = [], 0
    while True:
        status, page = http("GET", f"{service.url}/v1/streams/events/records?from={at}")
        assert status == 200, page
        if not page:
            return [json.loads(record["data"]) for record in found]
        found += page
        at = page[-1]["offset"] + 1


def state(service):
    (told,) = service.command("status")["sources"]
    return told["state"]


def received(service):
    return sum(one["received"] for one in service.pipelines())


def wait_until_received(services, count, timeout=60):
    def tell():
        return f"{[received(one) for one in services]} of {count}\n" + "\n".join(one.log_tail(15) for one in services)

    wait_until(lambda: sum(received(one) for one in services) >= count, tell, timeout)
    for one in services:
        one.wait_until_delivered(timeout)


def in_order(records):
    at = collections.Counter()
    for record in records:
        assert record["n"] == at[record["key"]], f"seed {SEED}: {record} came where {at[record['key']]} is next"
        at[record["key"]] += 1


def reshard(server, stream):
    """Splits the first open shard, then merges two neighbours."""
    kinesis = server.client()
    first = open_shards(kinesis, stream)[0]
    low, high = (int(first["HashKeyRange"][name]) for name in ("StartingHashKey", "EndingHashKey"))
    middle = str((low + high) // 2)
    kinesis.split_shard(StreamName=stream, ShardToSplit=first["ShardId"], NewStartingHashKey=middle)
    wait_until_active(kinesis, stream)
    left, right = open_shards(kinesis, stream)[-2:]
    kinesis.merge_shards(StreamName=stream, ShardToMerge=left["ShardId"], AdjacentShardToMerge=right["ShardId"])
    wait_until_active(kinesis, stream)


def open_shards(kinesis, stream):
    shards = kinesis.list_shards(StreamName=stream)["Shards"]
    shards = [one for one in shards if not one["SequenceNumberRange"].get("EndingSequenceNumber")]
    return sorted(shards, key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))


def kill_at_random(services, kills, chance, longest):
    """Kills one of the services, also while it starts, and starts it again."""
    for _ in range(kills):
        service = chance.choice(services)
        time.sleep(chance.uniform(0, longest))
        assert service.running, f"it ended by itself:\n{service.log_tail()}"
        service.kill()
        service.spawn()
        if chance.random() < 0.7:
            assert service.ready.wait(30) and service.url, f"it does not come up again:\n{service.log_tail()}"


def test_kill_9_while_shards_split_and_merge(tmp_path, server, stream):
    service = service_with(tmp_path, [source(server, stream)])
    producer = Producer(server, stream)
    chance = random.Random(SEED)
    try:
        service.start()
        producer.start()
        for _ in range(3):
            kill_at_random([service], 8, chance, 0.8)
            reshard(server, stream)
        wait_until(lambda: producer.sent >= 10_000 or producer.problem, lambda: f"{producer.sent} sent", 120)
        producer.finish()
        service.kill()
        service.start()
        wait_until_received([service], producer.sent)
        wait_until(lambda: state(service) in ("idle", "reading"), service.log_tail)
        (told,) = service.command("status")["sources"]
        print(f"seed {SEED}: {producer.sent} records, {told}")
        check(producer.expected(), in_lakes(tmp_path))
        in_order(records_of(service))
        assert service.audit()["balanced"] is True
        assert (told["source"], told["kind"], told["stream"]) == ("events", "kinesis", "events")
        assert service.terminate() == 0
    finally:
        service.kill()


def test_a_proxy_that_throttles_fails_and_loses_replies(tmp_path, server, stream):
    if isinstance(server, Kinesalite):
        pytest.skip("kinesalite dies of a request that is cut off")
    proxy = FaultProxy(server.endpoint, SEED, rate=0.3)
    service = service_with(tmp_path, [source(server, stream, proxy.endpoint, timeout="2s")])
    producer = Producer(server, stream, limit=3_000)
    try:
        with service:
            producer.start()
            wait_until(lambda: producer.sent > 0, lambda: "nothing sent")
            reshard(server, stream)
            wait_until(lambda: not producer.is_alive(), lambda: f"{producer.sent} sent", 60)
            producer.finish()
            wait_until(lambda: proxy.requests > 60, lambda: f"{proxy.requests} requests")
            proxy.rate = 0
            wait_until_received([service], producer.sent)
            check(producer.expected(), in_lakes(tmp_path))
            in_order(records_of(service))
    finally:
        proxy.stop()


def test_latest_is_pinned_before_the_first_record(tmp_path, server, stream):
    before = Producer(server, stream)
    before.put(100)
    # Some servers keep whole seconds: what comes now must be of another one.
    put = int(time.time())
    wait_until(lambda: int(time.time()) > put)
    service = service_with(tmp_path, [source(server, stream, start="latest")])
    service.start()
    wait_until(lambda: state(service) == "idle", service.log_tail)
    service.kill()
    # Nobody reads while these come.
    after = Producer(server, stream)
    after.next = before.next.copy()
    after.put(200)
    with service:
        wait_until_received([service], 200)
        check(after.expected() - before.expected(), in_lakes(tmp_path))


def test_an_idle_source_says_that_it_is_there(tmp_path, server, stream):
    Producer(server, stream).put(10)
    with service_with(tmp_path, [source(server, stream)]) as service:
        wait_until_received([service], 10)
        wait_until(lambda: state(service) == "idle", service.log_tail)
        told = service.command("status")["sources"][0]
        assert (told["records"], told["behind_ms"], told["last_error"]) == (10, 0, None)
        status, metrics = http("GET", f"{service.url}/metrics")
        assert status == 200 and 'lakeward_source_records_total{source="events"} 10' in metrics


def test_a_check_lists_the_shards(tmp_path, server, stream):
    path = service_with(tmp_path, [source(server, stream)]).arguments[-1]
    done = lakeward("check", "--connect", "-c", path, "--json")
    assert {"source": "events", "probe": "shards", "ok": True, "message": "4 shards, 4 of them open"} in json.loads(done.stdout)["probes"]
    path = service_with(tmp_path, [source(server, "nowhere")]).arguments[-1]
    done = lakeward("check", "--connect", "-c", path, check=False)
    assert done.returncode == 69 and "nowhere" in done.stdout, done.stdout + done.stderr


def test_sources_that_cannot_be_are_refused(tmp_path):
    one = {"type": "kinesis", "name": "a", "stream": "s", "stream_name": "x", "region": REGION}
    service = service_with(tmp_path, [one, {**one, "name": "b"}, {**one, "stream": "t", "stream_name": None}])
    service.spawn()
    service.process.wait(30)
    service.follower.join(10)
    said = service.log_tail()
    assert service.process.returncode == 78, said
    assert "sources[1].stream: the source `a` feeds this stream already" in said
    assert "sources[2].name: another source is named `a` too" in said
