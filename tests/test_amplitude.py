"""System C replaced: Amplitude's hourly exports into the lake, each event once.

The upstream is `lakeward simulate amplitude`, which misbehaves as Amplitude's
documentation and its users say; it knows every event that it ever made up.
"""

import collections
import json
import os
import pathlib
import random
import time

import pytest

import lake
from service import Service, config, lakeward, pipeline
from simulator import Simulator

SEED = int(os.environ.get("LAKEWARD_TEST_SEED", time.time_ns() % 1_000_000))
KEYS = {"api_key": "demo", "secret_key": "demo"}
MONTH = 31 * 24


def amplitude(url, **settings):
    return {"type": "amplitude", "name": "amplitude", "stream": "amplitude", "endpoint": url, **KEYS,
            "from": "2026-03-01", **settings}


def parquet(folder, **output):
    destination = {"type": "lake", "url": str(folder / "lake")}
    path = "events/day=!{event:event_time:yyyy-MM-dd}/"
    return pipeline("amplitude", destination, {"age": "200ms", "size": "1MiB"},
                    **{"format": "parquet", "path": path, **output})


def summary_of(done):
    """The last line of a command's output: one JSON document."""
    return json.loads(done.stdout.strip().splitlines()[-1])


def oracle(simulator, hours):
    """Every event that the simulator made up, by its hour of upload."""
    of = {}
    for line in simulator.documents(f"/_simulate/oracle?from=2026-03-01T00&to={hours}"):
        of[line["hour"]] = simulator.lines(f"/_simulate/uuids?hour={line['hour']}")
    return of


def taken(served):
    """How many slices the ledger has."""
    status = served.command("status")
    (source,) = status["sources"]
    return source["taken"]


def uuids_in(folder):
    return collections.Counter(uuid for (uuid,) in lake.rows(folder, "SELECT uuid FROM {lake}"))


def test_a_month_with_every_misbehaviour_and_a_hundred_kills(tmp_path):
    """Every simulated event lies in the lake exactly once."""
    dice = random.Random(SEED)
    print(f"seed {SEED}")
    # Small windows: many requests, so that kills meet all of them.
    with Simulator("amplitude", "--from", "2026-03-01", "--hours", MONTH, "--events-per-hour", "10..60",
                   "--seed", SEED, "--misbehave", "all", "--too-large-bytes", "60KiB") as simulator:
        source = amplitude(simulator.url, window=6, parallel=2, every="1s", to="2026-04-01")
        path = config(tmp_path, [parquet(tmp_path)], sources=[source])
        kills_before_the_end = 0
        served = Service.run(path)
        for _ in range(100):
            served.spawn()
            served.ready.wait(30)
            time.sleep(dice.uniform(0.0, 0.5))
            served.kill()
        with served:
            deadline = time.monotonic() + 600
            while taken(served) < MONTH:
                assert time.monotonic() < deadline, served.log_tail()
                time.sleep(0.2)
            (numbers,) = served.wait_until_delivered()
            served.audit()
        expected = oracle(simulator, "2026-03-31T23")
        events = [uuid for uuids in expected.values() for uuid in uuids]
        found = uuids_in(tmp_path / "lake")
        assert len(events) > 5_000 and len(set(events)) == len(events)
        assert found == collections.Counter(events), f"seed {SEED}"
        assert numbers["delivered"] == len(events) and numbers["quarantined"] == 0
        seen = collections.Counter(line["misbehaviour"] for line in simulator.documents("/_simulate/requests"))
        print(seen, kills_before_the_end)
