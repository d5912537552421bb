"""Reference system A from end to end: the real LaunchDarkly SDK with our hook in an application of its own, Parquet on a
real S3 server, registered in Glue, and counted by DuckDB through what Glue says. Both sides are killed on the way.
"""

import collections
import json
import random
import subprocess
import sys
import threading
import time

import lake
import servers
from service import ENVIRONMENT, ROOT, Service, config, pipeline, s3_destination
from test_catalog import catalog, columns_of, glue, partitions_of, table_of, wait_until_registered  # noqa: F401
from test_launchdarkly import STREAM, flags  # noqa: F401

ROUNDS = 8


class Application:
    """The application, from user `first` on, until it has evaluated `count` or is killed."""

    def __init__(self, url, flags, first, count):
        command = [sys.executable, str(ROOT / "tests/system_a_app.py"), url, str(flags), str(first), str(count)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
        self.begun, self.delivered = first, {}
        self.errors = []
        self.readers = [threading.Thread(target=self.read), threading.Thread(target=lambda: self.errors.extend(self.process.stderr))]
        for reader in self.readers:
            reader.start()

    def read(self):
        for line in self.process.stdout:
            if line.endswith("\n"):
                what, *words = line.split()
                if what == "begun":
                    self.begun = int(words[0])
                else:
                    self.delivered[words[0]] = words[1]

    def wait_until(self, done, timeout=60):
        deadline = time.monotonic() + timeout
        while not done(self):
            assert self.process.poll() is None or done(self), "".join(self.errors)
            assert time.monotonic() < deadline, "".join(self.errors)
            time.sleep(0.01)

    def kill(self):
        self.process.kill()
        self.join()

    def join(self, timeout=120):
        status = self.process.wait(timeout)
        for reader in self.readers:
            reader.join(timeout)
        return status


def test_system_a_with_both_sides_killed(tmp_path, s3, glue, flags):  # noqa: F811
    path = "experiments/year=!{event:timestamp:yyyy}/month=!{event:timestamp:MM}/day=!{event:timestamp:dd}/hour=!{event:timestamp:HH}/"
    prefix = f"system-a-{time.time_ns()}/"
    made = {
        **pipeline("experiments", s3_destination(s3, prefix), path=path, error_path="errors/"),
        "stream": STREAM,
        "schema": {"columns": {"flag_value": "json", "timestamp": "timestamptz"}},
        "catalog": catalog(glue, "experiments"),
    }
    [port] = servers.free_ports(1)
    file = config(tmp_path, [made], listen=f"127.0.0.1:{port}")
    chance = random.Random(5)
    delivered, begun = {}, 0
    with Service.run(file) as service:
        for _ in range(ROUNDS):
            application = Application(service.url, flags, begun, 10_000)
            enough = chance.randint(30, 200)
            application.wait_until(lambda app: len(app.delivered) > enough)
            service.kill()
            service.start()
            application.wait_until(lambda app: len(app.delivered) > enough + 60)
            application.kill()
            delivered |= application.delivered
            begun = application.begun
        last = Application(service.url, flags, begun, 200)
        assert last.join() == 0, "".join(last.errors)
        delivered |= last.delivered
        wait_until_registered(service)
        service.audit()
        (status,) = service.pipelines()

    # What Glue says is where DuckDB looks.
    found = partitions_of(glue, "experiments", "experiments")
    for number, (values, location) in enumerate(found.items()):
        assert location == f"s3://{s3.bucket}/{prefix}experiments/year={values[0]}/month={values[1]}/day={values[2]}/hour={values[3]}/"
        lake.fetch(s3, location.removeprefix(f"s3://{s3.bucket}/"), tmp_path / "lake" / str(number))
    rows = lake.rows(tmp_path / "lake", "SELECT evaluation_context.key, flag_value, flag_key, reason_kind, metadata.source FROM {lake}")
    keys = collections.Counter(key for key, *_ in rows)
    assert max(keys.values()) == 1, "an evaluation was delivered twice"
    values = {key: json.loads(value) for key, value, *_ in rows}
    assert delivered.items() <= values.items(), "what the hook knew to be delivered is not there, or is something else"
    # Evaluations that were under way when the application died may be there.
    assert len(rows) - len(delivered) <= ROUNDS * 50
    assert {row[2:] for row in rows} == {("the-experiment", "FALLTHROUGH", "launchdarkly-python-hook")}
    assert status["delivered"] == len(rows) and status["quarantined"] == 0
    print(f"{len(delivered)} known to be delivered, {len(rows)} rows, {len(found)} partitions")
    columns = columns_of(table_of(glue, "experiments", "experiments"))
    assert columns["flag_key"] == "string" and columns["timestamp"] == "timestamp"
    assert columns["evaluation_context"].startswith("struct<") and "key:string" in columns["evaluation_context"]
