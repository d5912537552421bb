"""kill −9 with everything on that happens between the journal and the files.

Every record goes through a Lambda function (a local Python process), SQL that
leaves some out and makes three rows of each other one, and dedup; senders
repeat what was acknowledged. What a record becomes follows from its number:

    n % 10 == 3   left out by the SQL
    n % 10 == 4   dropped by the function
    n % 10 == 5   refused by the function: quarantine
    else          three rows, once, however often it was sent
"""

import collections
import json
import pathlib
import random
import sys
import time

import lake
from faultproxy import FaultProxy
from service import ROOT, lakeward, pipeline, s3_destination
from test_exactly_once import SEED, Boto3Sender, HttpSender, kill_at_random, numbers_service, settle

BATCH = {"age": "60ms", "records": 300, "size": "128KiB"}
SQL = """
SELECT sender, n, ts, tag, item['i'] AS i, CAST(n % 20 AS VARCHAR) AS slot
FROM (SELECT sender, n, ts, tag, unnest(items) AS item FROM input WHERE n % 10 <> 3)
"""
FUNCTION = '''
import base64, json

def lambda_handler(event, context):
    records = []
    for record in event["records"]:
        data = json.loads(base64.b64decode(record["data"]))
        reply = {"recordId": record["recordId"], "result": "Ok"}
        if data["n"] % 10 == 4:
            reply["result"] = "Dropped"
        elif data["n"] % 10 == 5:
            reply["result"] = "ProcessingFailed"
            reply["data"] = record["data"]
        else:
            data["tag"] = f"{data['sender']}/{data['n']}"
            reply["data"] = base64.b64encode((json.dumps(data) + "\\n").encode()).decode()
        records.append(reply)
    return {"records": records}
'''


class Repeating:
    """Sends records of three items, and some of them again."""

    def event(self, n):
        return {"n": n, "sender": self.name, "ts": time.time(), "items": [{"i": i} for i in range(3)]}

    def repeated(self):
        known = list(self.acknowledged)[-2_000:]
        return random.sample(known, min(len(known), 3)) if random.random() < 0.3 else []


class RepeatingBoto3(Repeating, Boto3Sender):
    pass


class RepeatingHttp(Repeating, HttpSender):
    pass


SENDERS = (RepeatingBoto3, RepeatingBoto3, RepeatingHttp)


def shaped(folder, destination):
    # Many small files: a batch is under way long enough for kills to hit it.
    function = pathlib.Path(folder) / "lambda_function.py"
    function.write_text(FUNCTION)
    runner = ROOT / "examples/lambda/run_lambda.py"
    return {
        **pipeline("numbers", destination, BATCH, path="data/sender=!{event:sender}/slot=!{event:slot}/", error_path="errors/!{firehose:error-output-type}/"),
        "lambda": {"command": [sys.executable, str(runner), str(function)], "keep_running": True},
        "sql": SQL,
        "dedup": {"key": ["sender", "n", "i"], "window": "1h"},
    }


def check(senders, folder, where):
    rows = collections.Counter()
    for sender, n, i, tag in lake.rows(folder / "data", "SELECT sender, n, i, tag FROM {lake}"):
        assert tag == f"{sender}/{n}"
        rows[sender, n, i] += 1
    refused = collections.Counter()
    for path in lake.files(folder / "errors", ".ndjson"):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            assert record["reason"] == "Lambda.ProcessingFailedStatus"
            data = json.loads(record["data"])
            refused[data["sender"], data["n"]] += 1
    assert rows and max(rows.values()) == 1, f"seed {SEED}, {where}: doubled {[k for k, c in rows.items() if c > 1][:10]}"
    for sender in senders:
        assert len(sender.acknowledged) > 300, f"{sender.name} got only {len(sender.acknowledged)} through"
        for n in range(sender.next):
            came = [(sender.name, n, i) in rows for i in range(3)]
            if n % 10 in (3, 4, 5):
                assert not any(came), f"seed {SEED}: {sender.name}/{n} should not be there"
            elif n in sender.acknowledged:
                assert all(came), f"seed {SEED}, {where}: {sender.name}/{n} is lost: {came}"
            else:
                assert all(came) or not any(came), f"seed {SEED}: a part of {sender.name}/{n}: {came}"
            if n in sender.acknowledged and n % 10 == 5:
                assert refused[sender.name, n] >= 1, f"seed {SEED}: {sender.name}/{n} is lost"


def counts(pipelines):
    (status,) = pipelines
    total = status["delivered"] + status["filtered"] + status["duplicates"] + status["quarantined"]
    assert status["received"] == total, status
    print({name: status[name] for name in ("received", "delivered", "filtered", "duplicates", "quarantined", "rows")})
    assert min(status["delivered"], status["filtered"], status["duplicates"], status["quarantined"]) > 50, status
    assert status["rows"] == 3 * status["delivered"], status
    return status


def test_kill_9_with_a_function_sql_unnest_and_dedup(tmp_path):
    destination = {"type": "lake", "url": str(tmp_path / "lake")}
    service, senders = numbers_service(tmp_path, [shaped(tmp_path, destination)], SENDERS)
    try:
        kill_at_random(service, 40, random.Random(SEED), longest=0.9)
        status = counts(settle(service, senders, 120))
    finally:
        service.kill()
    check(senders, tmp_path / "lake", "local")
    # What is in quarantine is exactly what the books say.
    lines = sum(len(path.read_text().splitlines()) for path in lake.files(tmp_path / "lake/errors", ".ndjson"))
    assert lines == status["quarantined"]
    again = lakeward("audit", *service.where, "--json")
    assert json.loads(again.stdout)["balanced"] is True


def test_kill_9_shaped_into_s3_behind_a_proxy(tmp_path, s3):
    proxy = FaultProxy(s3.endpoint, SEED)
    prefix = f"shaped-{SEED}-{tmp_path.name}/"
    destination = s3_destination(s3, prefix, endpoint=proxy.endpoint)
    service, senders = numbers_service(tmp_path, [shaped(tmp_path, destination)], SENDERS)
    try:
        kill_at_random(service, 25, random.Random(SEED + 1), longest=1.3)
        proxy.rate = 0
        counts(settle(service, senders, 120))
    finally:
        service.kill()
        proxy.stop()
    check(senders, lake.fetch(s3, prefix, tmp_path / "fetched"), "s3")


def test_kill_9_with_dedup_by_content(tmp_path):
    """A second pipeline on one stream keeps its own keys."""
    batch = {"age": "60ms", "records": 200, "size": "64KiB"}
    whole = {
        **pipeline("numbers", {"type": "lake", "url": str(tmp_path / "lake/whole")}, batch, format="ndjson",
                   path="slot=!{event:slot}/"),
        "dedup": {"key": "content", "window": "1h"},
    }
    plain = pipeline("plain", {"type": "lake", "url": str(tmp_path / "lake/plain")}, batch, format="verbatim", path="v/")
    plain["stream"] = "numbers"
    service, senders = numbers_service(tmp_path, [whole, plain], (SteadyHttp, SteadyHttp))
    try:
        kill_at_random(service, 25, random.Random(SEED + 2), longest=0.6)
        pipelines = settle(service, senders, 60)
    finally:
        service.kill()
    once = collections.Counter(line for path in lake.files(tmp_path / "lake/whole", ".ndjson") for line in path.read_text().splitlines())
    assert max(once.values()) == 1
    seen = {(r["sender"], r["n"]) for r in map(json.loads, once)}
    for sender in senders:
        assert {(sender.name, n) for n in sender.acknowledged} <= seen
    by_name = {status["pipeline"]: status for status in pipelines}
    assert by_name["numbers"]["duplicates"] > 50
    assert by_name["plain"]["duplicates"] == 0
    assert by_name["plain"]["delivered"] == by_name["numbers"]["delivered"] + by_name["numbers"]["duplicates"]


class SteadyHttp(RepeatingHttp):
    """A record that is sent again is the same bytes."""

    def event(self, n):
        return {"n": n, "sender": self.name, "slot": n % 20}
