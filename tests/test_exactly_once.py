"""kill −9 at random moments: every acknowledged record lies in the lake exactly once.

Numbered records go in through boto3 (its retries off, so that a put without an
answer counts as "maybe once") and over HTTP (retried with the same
Idempotency-Key until it is acknowledged, through any number of kills). The
batches are so small that some batch is always being planned, built, uploaded
or committed, so a random moment hits every phase.
"""

import collections
import gzip
import itertools
import json
import os
import random
import threading
import time
import urllib.error

import botocore.exceptions
import pytest

import lake
from conftest import firehose_client
from faultproxy import FaultProxy
from servers import free_ports
from service import Service, config, http, pipeline, s3_destination

BATCH = {"age": "60ms", "records": 200, "size": "64KiB"}
PATH = "sender=!{event:sender}/hour=!{event:ts:yyyy-MM-dd-HH}/"
RESUMED = "finishing the batch that was begun before the restart"
# More kills than these have to hit a batch between its plan and its commit.
RESUMED_MIN = 5
SEED = int(os.environ.get("LAKEWARD_TEST_SEED", time.time_ns() % 1_000_000))


class Sender(threading.Thread):
    """Sends numbered records until it is told to stop."""

    def __init__(self, name, url):
        super().__init__(name=name, daemon=True)
        self.url = url
        self.next = 0
        self.acknowledged = set()
        self.maybe = set()
        self.stopping = threading.Event()
        self.problem = None

    def take(self, count):
        numbers = [*range(self.next, self.next + count), *self.repeated()]
        self.next += count
        return numbers, [json.dumps(self.event(n)) + "\n" for n in numbers]

    def event(self, n):
        return {"n": n, "sender": self.name, "ts": time.time()}

    def repeated(self):
        """Numbers that are sent once more."""
        return []

    def run(self):
        try:
            turn = 0
            while not self.stopping.is_set():
                self.send(turn)
                turn += 1
                # Enough that there is a batch under way for the kills to meet.
                time.sleep(0.004)
        except Exception as problem:  # Shown by the test; a thread's own traceback would be lost.
            self.problem = problem

    def finish(self):
        self.stopping.set()
        self.join(60)
        assert not self.is_alive(), f"{self.name} does not end"
        if self.problem:
            raise self.problem


class Boto3Sender(Sender):
    """PutRecord and PutRecordBatch in turn."""

    def __init__(self, name, url):
        super().__init__(name, url)
        self.client = firehose_client(url)

    def send(self, turn):
        numbers, lines = self.take(1 if turn % 5 == 0 else 20)
        records = [{"Data": line.encode()} for line in lines]
        try:
            if len(records) == 1:
                self.client.put_record(DeliveryStreamName="numbers", Record=records[0])
                self.acknowledged.update(numbers)
                return
            reply = self.client.put_record_batch(DeliveryStreamName="numbers", Records=records)
            for number, entry in zip(numbers, reply["RequestResponses"], strict=True):
                (self.acknowledged if "RecordId" in entry else self.maybe).add(number)
        except (botocore.exceptions.HTTPClientError, botocore.exceptions.ConnectionError):
            self.maybe.update(numbers)
            time.sleep(0.02)
        except botocore.exceptions.ClientError as refusal:
            if refusal.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
                raise
            self.maybe.update(numbers)


class HttpSender(Sender):
    """NDJSON, retried under the same key until it is acknowledged."""

    def send(self, turn):
        numbers, lines = self.take(25)
        headers = {"content-type": "application/x-ndjson", "idempotency-key": f"{self.name}-{turn}"}
        body = "".join(lines).encode()
        if turn % 3 == 0:
            body = gzip.compress(body)
            headers["content-encoding"] = "gzip"
        self.maybe.update(numbers)
        while True:
            try:
                status, answer = http("POST", f"{self.url}/v1/streams/numbers/records", body, headers, timeout=10)
            except (OSError, urllib.error.URLError, ConnectionError, EOFError, ValueError) as lost:
                status, answer = 0, lost
            except Exception as lost:  # http.client's own: the reply was cut.
                if type(lost).__module__ != "http.client":
                    raise
                status, answer = 0, lost
            if status == 200:
                self.maybe.difference_update(numbers)
                self.acknowledged.update(numbers)
                return
            if 400 <= status < 500 and status != 429:
                raise AssertionError(f"{status}: {answer}")
            if self.stopping.is_set():
                return
            time.sleep(0.02)


def resumed(service):
    """How many batches were begun before a kill and finished after it."""
    return sum(RESUMED in line for line in service.log)


def kill_at_random(service, kills, chance, longest):
    """Starts and kills the service `kills` times, also while it starts; more often where batches are under way so
    briefly that few of the kills hit one."""
    for kill in itertools.count():
        if kill >= kills and (resumed(service) > RESUMED_MIN or kill >= 5 * kills):
            return
        service.spawn()
        if chance.random() < 0.15:
            time.sleep(chance.uniform(0, 0.12))
        else:
            assert service.ready.wait(30) and service.url, f"it does not come up again:\n{service.log_tail()}"
            time.sleep(chance.uniform(0, longest))
        assert service.running, f"it ended by itself:\n{service.log_tail()}"
        service.kill()


def check(senders, counted, where):
    """`counted`: how often each (sender, number) lies in the lake."""
    print(f"{where}: " + ", ".join(
        f"{len(sender.acknowledged)} acknowledged and {len(sender.maybe)} unanswered by {sender.name}" for sender in senders
    ))
    for sender in senders:
        assert len(sender.acknowledged) > 500, f"{sender.name} got only {len(sender.acknowledged)} through"
        mine = {n: count for (name, n), count in counted.items() if name == sender.name}
        lost = sorted(n for n in sender.acknowledged if n not in mine)
        doubled = sorted(n for n, count in mine.items() if count > 1)
        foreign = sorted(set(mine) - sender.acknowledged - sender.maybe)
        assert not (lost or doubled or foreign), (
            f"seed {SEED}, {where}, {sender.name}: of {len(sender.acknowledged)} acknowledged and {len(sender.maybe)} "
            f"unanswered, {len(lost)} lost {lost[:10]}, {len(doubled)} doubled {doubled[:10]}, "
            f"{len(foreign)} never sent {foreign[:10]}"
        )
    names = {sender.name for sender in senders}
    assert {name for name, _ in counted} == names


def parquet_counts(folder):
    return {(s, n): count for s, n, count in lake.rows(folder, "SELECT sender, n, count(*) FROM {lake} GROUP BY ALL")}


def verbatim_counts(folder):
    counted = collections.Counter()
    for path in lake.files(folder, ".gz"):
        for line in gzip.decompress(path.read_bytes()).splitlines():
            record = json.loads(line)
            counted[record["sender"], record["n"]] += 1
    return counted


def settle(service, senders, timeout):
    """The last start: everything goes out, and the books balance."""
    # The kills did hit batches between their plan and their commit.
    hit = resumed(service)
    print(f"seed {SEED}: {hit} batches were begun before a kill and finished after it")
    assert hit > RESUMED_MIN, f"seed {SEED}: only {hit} kills hit a batch under way"
    service.start()
    for sender in senders:
        sender.finish()
    pipelines = service.wait_until_delivered(timeout)
    assert service.audit()["balanced"] is True
    assert service.terminate() == 0, service.log_tail()
    return pipelines


def numbers_service(folder, pipelines, kinds=(Boto3Sender, Boto3Sender, HttpSender)):
    port = free_ports(1)[0]
    settings = {"listen": f"127.0.0.1:{port}", "journal": {"segment": "1MiB"}}
    service = Service.run(config(folder, pipelines, **settings))
    url = f"http://127.0.0.1:{port}"
    senders = [kind(f"sender-{index}", url) for index, kind in enumerate(kinds)]
    for sender in senders:
        sender.start()
    return service, senders


@pytest.mark.parametrize(
    ("change", "word"), [({5: 0}, "1 lost"), ({5: 2}, "1 doubled"), ({9_999: 1}, "1 never sent"), ({600: 2}, "1 doubled")]
)
def test_the_check_itself_finds_each_fault(change, word):
    sender = Sender("a", "")
    sender.acknowledged = set(range(600))
    sender.maybe = {600}
    counted = {("a", n): 1 for n in range(600)}
    check([sender], counted, "unchanged")
    for n, count in change.items():
        counted["a", n] = count
        if count == 0:
            del counted["a", n]
    with pytest.raises(AssertionError, match=word):
        check([sender], counted, "changed")


def test_kill_9_with_two_pipelines_into_a_local_lake(tmp_path):
    columns = pipeline("numbers", {"type": "lake", "url": str(tmp_path / "lake/columns")}, BATCH, path=PATH)
    verbatim = pipeline("verbatim", {"type": "lake", "url": str(tmp_path / "lake/verbatim")}, BATCH,
                        format="verbatim", compression="gzip", path="v/!{timestamp:yyyy/MM/dd/HH}/")
    verbatim["stream"] = "numbers"
    service, senders = numbers_service(tmp_path, [columns, verbatim])
    try:
        kill_at_random(service, 60, random.Random(SEED), longest=0.6)
        settle(service, senders, 60)
    finally:
        service.kill()
    check(senders, parquet_counts(tmp_path / "lake/columns"), "columns")
    check(senders, verbatim_counts(tmp_path / "lake/verbatim"), "verbatim")


def test_kill_9_into_s3_behind_a_proxy_that_loses_replies_fails_and_stalls(tmp_path, s3):
    proxy = FaultProxy(s3.endpoint, SEED)
    prefix = f"kill-{SEED}-{tmp_path.name}/"
    destination = s3_destination(s3, prefix, endpoint=proxy.endpoint)
    service, senders = numbers_service(tmp_path, [pipeline("numbers", destination, BATCH, path=PATH)])
    try:
        kill_at_random(service, 50, random.Random(SEED + 1), longest=1.1)
        proxy.rate = 0
        settle(service, senders, 120)
    finally:
        service.kill()
        proxy.stop()
    unseen = [kind for kind, count in proxy.faults.items() if count == 0]
    assert not unseen, f"seed {SEED}: the proxy never did {unseen} in {proxy.requests} requests"
    check(senders, parquet_counts(lake.fetch(s3, prefix, tmp_path / "fetched")), "s3")
