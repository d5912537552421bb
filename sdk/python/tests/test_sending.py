"""The queue, the thread and the two ways out."""

import gzip
import json
import os
import pathlib
import subprocess
import sys
import time

import pytest
from conftest import until
from ldclient.context import Context
from ldclient.evaluation import EvaluationDetail
from ldclient.hook import EvaluationSeriesContext

from lakeward_launchdarkly import FirehoseSender, HttpSender, LakewardHook, Outcome, Sender
from lakeward_launchdarkly import outbox

REASON = {"kind": "FALLTHROUGH", "inExperiment": True}
SRC = pathlib.Path(__file__).parent.parent / "src"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(outbox, "_PAUSE_MIN", 0.02)
    monkeypatch.setattr(outbox, "_PAUSE_MAX", 0.1)


def record(hook, *values):
    for value in values:
        series = EvaluationSeriesContext(key="flag", context=Context.create("u"), default_value=None, method="variation")
        hook.after_evaluation(series, {}, EvaluationDetail(value, 0, REASON))


def balanced(hook):
    counters = hook.counters
    parts = (counters.dropped_full, counters.dropped_rejected, counters.dropped_closed, counters.dropped_invalid)
    assert sum(parts) == counters.dropped == hook.dropped
    assert counters.recorded == counters.sent + counters.dropped + counters.pending
    return counters


def values(server):
    return sorted(event["flag_value"] for event in server.events())


def test_the_real_client_sends_what_is_in_the_experiment(server, ld):
    there = server()
    hook = LakewardHook(HttpSender(there.url + "/prefix/", token="t0ken"))
    client = ld(hook)
    expected = {}
    for n in range(200):
        context = Context.builder(f"user-{n}").set("n", n).build()
        detail = client.variation_detail("the-experiment", context, "default")
        client.variation("plain", context, False)
        if detail.reason.get("inExperiment"):
            expected[f"user-{n}"] = detail.value
    assert 100 < len(expected) < 200
    assert hook.flush(20)
    got = {event["evaluation_context"]["key"]: event["flag_value"] for event in there.events()}
    assert got == expected
    path, headers, _ = there.requests[0]
    assert path == "/prefix/v1/streams/launchdarkly-experiments-stream/records"
    assert headers["Authorization"] == "Bearer t0ken"
    assert balanced(hook).sent == len(expected)
    hook.close()


def test_all_evaluations(server, ld):
    there = server()
    hook = LakewardHook(HttpSender(there.url), in_experiment_only=False)
    client = ld(hook)
    client.variation("plain", Context.create("u"), False)
    client.variation("missing", Context.create("u"), "default")
    client.variation("numbers", Context.create_multi(Context.create("u"), Context.create("o", "org")), None)
    assert hook.close(20)
    assert [(event["flag_key"], event["flag_value"], event["in_experiment"]) for event in there.events()] == [
        ("plain", True, False), ("missing", "default", False), ("numbers", {"a": [1, 2.5]}, False),
    ]


def test_the_async_client():
    import lakeward_launchdarkly as lakeward

    if not hasattr(lakeward, "AsyncLakewardHook"):
        pytest.skip("this SDK has no asynchronous client yet")
    import asyncio

    sent = []

    class Kept(Sender):
        def send(self, lines, key):
            sent.extend(lines)
            return Outcome()

    hook = lakeward.AsyncLakewardHook(Kept())
    series = EvaluationSeriesContext(key="flag", context=Context.create("u"), default_value=None, method="variation")

    async def evaluate():
        data = await hook.before_evaluation(series, {})
        await hook.after_evaluation(series, data, EvaluationDetail("x", 0, REASON))

    asyncio.run(evaluate())
    assert hook.close(10)
    assert json.loads(sent[0])["flag_value"] == "x"


def test_a_batch_keeps_its_key_over_all_attempts(server):
    there = server(503, 500, 429, 408, "cut", "cut", 200)
    hook = LakewardHook(HttpSender(there.url), flush_interval=0.05)
    record(hook, "a", "b")
    assert hook.flush(20)
    assert len(there.requests) == 7
    assert len(set(there.keys())) == 1 and len({body for _, _, body in there.requests}) == 1
    assert values(there) == ["a", "b"]
    record(hook, "c")
    assert hook.close(20)
    assert len(set(there.keys())) == 2
    counters = balanced(hook)
    assert (counters.sent, counters.dropped) == (3, 0)


def test_a_server_that_asks_for_time_gets_it(server):
    there = server((429, {"Retry-After": "1"}), 200)
    hook = LakewardHook(HttpSender(there.url), flush_interval=0.01)
    start = time.monotonic()
    record(hook, "a")
    assert hook.flush(20)
    assert time.monotonic() - start >= 1.0
    hook.close()


def test_a_refusal_for_good_drops_its_batch_alone(server, caplog):
    there = server(401, 404, 200)
    hook = LakewardHook(HttpSender(there.url), batch_records=2)
    record(hook, *range(6))
    assert hook.flush(20)
    assert len(there.requests) == 3
    counters = balanced(hook)
    assert (counters.sent, counters.dropped_rejected, hook.dropped) == (2, 4, 4)
    assert len([r for r in caplog.records if "refused for good" in r.getMessage()]) == 1, "said once"
    hook.close()


def test_one_connection_and_batches_within_the_limits(server):
    there = server()
    hook = LakewardHook(HttpSender(there.url, compress=True), batch_records=10_000, batch_bytes=100_000)
    record(hook, *(f"{n:04}" + "x" * 1000 for n in range(700)))
    assert hook.flush(20)
    bodies = [gzip.decompress(body) for _, headers, body in there.requests if headers["Content-Encoding"] == "gzip"]
    assert all(len(body) <= 100_000 and body.count(b"\n") <= 500 for body in bodies)
    assert b"".join(bodies).count(b"\n") == 700
    assert there.connections == 1
    hook.close()


def test_a_kept_connection_that_died_costs_nothing(server):
    there = server()
    sender = HttpSender(there.url)
    assert sender.send([b"1\n"], "k") == Outcome()
    sender._connection.sock.shutdown(2)
    assert sender.send([b"2\n"], "k2") == Outcome()


def test_nobody_waits_for_a_server_that_hangs(server):
    there = server()
    there.gate.clear()
    hook = LakewardHook(HttpSender(there.url), capacity=1000, flush_interval=0.01)
    slowest = 0.0
    for n in range(20_000):
        start = time.perf_counter()
        record(hook, n)
        slowest = max(slowest, time.perf_counter() - start)
    counters = balanced(hook)
    assert counters.recorded == 20_000
    assert counters.dropped_full >= 20_000 - 1000 - 500
    assert slowest < 1.0, "a call waited"
    assert not hook.flush(0.05)
    there.gate.set()
    assert hook.flush(20)
    assert len(values(there)) == balanced(hook).sent == 20_000 - hook.dropped
    hook.close()


def test_the_end_has_an_end(server):
    there = server()
    there.gate.clear()
    hook = LakewardHook(HttpSender(there.url), batch_records=10)
    record(hook, *range(100))
    start = time.monotonic()
    assert hook.close(0.5) is False
    assert time.monotonic() - start < 5
    record(hook, "late")
    counters = balanced(hook)
    assert (counters.pending, counters.sent, counters.dropped_closed) == (0, 0, 101)


def test_a_server_that_is_down_loses_nothing_until_the_queue_is_full():
    hook = LakewardHook(HttpSender("http://127.0.0.1:9"), capacity=50, flush_interval=0.01, batch_records=10)
    record(hook, *range(10))
    until(lambda: hook.counters.retries > 2)
    record(hook, *range(200))
    counters = balanced(hook)
    assert (counters.sent, counters.pending, counters.dropped_full) == (0, 60, 150)
    assert hook.close(0.1) is False


def test_a_bad_event_harms_no_neighbour(monkeypatch):
    sent = []

    class Kept(Sender):
        def send(self, lines, key):
            sent.extend(lines)
            return Outcome()

    class Odd:
        def __str__(self):
            raise RuntimeError("no text")

    hook = LakewardHook(Kept())
    record(hook, 1, Odd(), 2)
    assert hook.close(10)
    assert [json.loads(line)["flag_value"] for line in sent] == [1, 2]
    assert balanced(hook).dropped_invalid == 1


class Kept(Sender):
    """Keeps what it is sent."""

    def __init__(self):
        self.lines = []

    def send(self, lines, key):
        self.lines.extend(lines)
        return Outcome()


class NoThreads:
    """A machine that has no thread to give, until it has."""

    def __init__(self, monkeypatch):
        self.refused = 0
        start = outbox.threading.Thread.start

        def refuse(thread):
            if thread.name != "lakeward-launchdarkly":
                return start(thread)
            self.refused += 1
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(outbox.threading.Thread, "start", refuse)
        self.end = lambda: monkeypatch.setattr(outbox.threading.Thread, "start", start)


def test_a_machine_without_threads_is_asked_again(monkeypatch, caplog):
    machine, sender = NoThreads(monkeypatch), Kept()
    hook = LakewardHook(sender)
    record(hook, 1, 2, 3)
    assert machine.refused == 3
    assert hook.flush() is False, "it does not wait for what nobody sends"
    counters = balanced(hook)
    assert (counters.recorded, counters.pending, counters.dropped) == (3, 3, 0)
    assert len([one for one in caplog.records if "no thread" in one.getMessage()]) == 1, "said once"
    machine.end()
    record(hook, 4)
    assert hook.flush(20)
    assert [json.loads(line)["flag_value"] for line in sender.lines] == [1, 2, 3, 4]
    assert hook.close(20) and balanced(hook).sent == 4


@pytest.mark.parametrize("later", [True, False])
def test_the_end_of_a_machine_without_threads(monkeypatch, later):
    machine, sender = NoThreads(monkeypatch), Kept()
    hook = LakewardHook(sender)
    record(hook, 1, 2)
    if later:
        machine.end()
    start = time.monotonic()
    assert hook.close(20) is later
    assert time.monotonic() - start < 10
    counters = balanced(hook)
    assert (counters.sent, counters.dropped_closed, counters.pending) == ((2, 0, 0) if later else (0, 2, 0))
    assert hook.close(20) and hook.flush(), "again is nothing more"


def test_large_values_fill_the_queue_by_their_bytes(server):
    there = server()
    there.gate.clear()
    hook = LakewardHook(HttpSender(there.url), capacity_bytes=1_000_000, batch_bytes=200_000, flush_interval=0.01)
    record(hook, "x" * 2_000_000)
    assert balanced(hook).dropped_full == 1, "it alone is too much"
    value = {"k": ["x" * 1000] * 100}
    record(hook, *(value for _ in range(50)))
    counters = balanced(hook)
    # Ten wait, and a batch is on its way.
    assert 9 <= counters.pending <= 11 and counters.dropped_full == 51 - counters.pending
    record(hook, 1)
    assert balanced(hook).pending == counters.pending + 1, "a small one has room"
    there.gate.set()
    assert hook.flush(20)
    record(hook, *(value for _ in range(9)))
    assert hook.close(20)
    assert len(there.events()) == balanced(hook).sent == counters.pending + 10
    assert all(len(body) <= 200_000 for _, _, body in there.requests)


def test_what_the_caller_changes_later_changes_no_event():
    sender = Kept()
    hook = LakewardHook(sender, flush_interval=60)
    value = {"a": [1]}
    record(hook, value)
    value["a"].append(2)
    assert hook.close(20)
    assert json.loads(sender.lines[0])["flag_value"] == {"a": [1]}


def test_a_sender_that_says_nothing_is_asked_again():
    class Silent(Kept):
        def send(self, lines, key):
            outcome = super().send(lines, key)
            return outcome if len(self.lines) > 1 else None

    sender = Silent()
    hook = LakewardHook(sender)
    record(hook, 1)
    assert hook.close(20)
    assert len(sender.lines) == 2 and balanced(hook).retries == 1


class Firehose:
    """Fails the entries and requests that it is told to."""

    def __init__(self, *plan):
        self.plan = list(plan)
        self.calls = []
        self.taken = []

    def put_record_batch(self, DeliveryStreamName, Records):
        self.calls.append(len(Records))
        step = self.plan.pop(0) if self.plan else set()
        if isinstance(step, Exception):
            raise step
        replies = []
        for index, entry in enumerate(Records):
            if index in step:
                replies.append({"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "Slow down."})
            else:
                self.taken.append(json.loads(entry["Data"])["flag_value"])
                replies.append({"RecordId": "r"})
        return {"FailedPutCount": len(step), "RequestResponses": replies}


def client_error(code, status):
    botocore = pytest.importorskip("botocore.exceptions")
    reply = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return botocore.ClientError(reply, "PutRecordBatch")


def test_firehose_gets_again_only_what_failed():
    there = Firehose({1, 3}, {0, 1}, {1})
    hook = LakewardHook(FirehoseSender("stream", client=there), batch_records=5)
    record(hook, *range(5))
    assert hook.flush(20)
    assert there.calls == [5, 2, 2, 1]
    assert sorted(there.taken) == [0, 1, 2, 3, 4]
    counters = balanced(hook)
    assert (counters.sent, counters.dropped, counters.retries) == (5, 0, 3)
    hook.close()


def test_firehose_errors():
    there = Firehose(
        client_error("ServiceUnavailableException", 503), client_error("ThrottlingException", 400),
        ConnectionError("gone"), set(), client_error("ResourceNotFoundException", 400),
    )
    hook = LakewardHook(FirehoseSender("stream", client=there), batch_records=2)
    record(hook, 1, 2)
    assert hook.flush(20)
    record(hook, 3, 4)
    assert hook.flush(20)
    assert (there.taken, balanced(hook).dropped_rejected) == ([1, 2], 2)
    record(hook, "x" * 1_100_000, 5)
    assert hook.close(20)
    assert (there.taken, balanced(hook).dropped_rejected) == ([1, 2, 5], 3)


PROGRAM = """
import os, sys, time
from ldclient.context import Context
from ldclient.evaluation import EvaluationDetail
from ldclient.hook import EvaluationSeriesContext
from lakeward_launchdarkly import HttpSender, LakewardHook

hook = LakewardHook(HttpSender(sys.argv[1]), flush_interval=60)

def record(value):
    series = EvaluationSeriesContext(key="flag", context=Context.create("u"), default_value=None, method="variation")
    hook.after_evaluation(series, {}, EvaluationDetail(value, 0, {"kind": "FALLTHROUGH", "inExperiment": True}))
"""


def run(program, url):
    environment = {**os.environ, "PYTHONPATH": str(SRC), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + program, url], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_process_that_ends_sends_what_it_has(server):
    there = server()
    run("for n in range(50): record(n)", there.url)
    assert values(there) == list(range(50))


def test_a_process_that_ends_waits_for_nobody_for_ever(server):
    there = server()
    there.gate.clear()
    start = time.monotonic()
    run("hook._outbox._exit_timeout = 0.3; record(1)", there.url)
    assert time.monotonic() - start < 20


FORKS = """
record("parent before")
pid = os.fork()
if pid == 0:
    assert hook.counters.recorded == 0
    record("child")
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
record("parent after")
assert hook.flush(20)
# With a thread and a connection that the child must not share.
pid = os.fork()
if pid == 0:
    record("second child")
    assert hook.flush(20)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
record("parent at last")
import multiprocessing
process = multiprocessing.get_context("fork").Process(target=record, args=("worker",))
process.start()
process.join()
assert process.exitcode == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_forked_children_send_their_own(server):
    there = server()
    run(FORKS, there.url)
    everyone = ["child", "parent after", "parent at last", "parent before", "second child", "worker"]
    assert sorted(e["flag_value"] for _, _, body in there.requests for e in map(json.loads, body.splitlines())) == everyone
