"""System C replaced: a month of Amplitude's hourly exports into the lake, each event once.

The upstream is `lakeward simulate amplitude`, which misbehaves as Amplitude's
documentation and its users say, and knows every event that it ever made up.
"""

import collections
import datetime
import json
import os
import random
import time

import lake
from service import Service, config, lakeward, pipeline, wait_until
from simulated import Amplitude

SEED = int(os.environ.get("LAKEWARD_TEST_SEED", time.time_ns() % 1_000_000))
MONTH = 31 * 24
KILLS = 100
# An hour can be had three hours after it began.
READY = datetime.timedelta(hours=3)


def hour(instant):
    return instant.strftime("%Y-%m-%dT%H")


def source(amplitude, **settings):
    return {"type": "amplitude", "name": "amplitude", "stream": "amplitude", "endpoint": amplitude.url,
            "api_key": "demo", "secret_key": "demo", "from": "2026-03-01", **settings}


def parquet(folder, **settings):
    path = "events/day=!{event:event_time:yyyy-MM-dd}/"
    made = pipeline("amplitude", {"type": "lake", "url": str(folder / "lake")}, format="parquet", path=path)
    return {**made, "batch": {"age": "200ms", "size": "512KiB"},
            "schema": {"columns": {"event_time": "timestamptz"}}, **settings}


def taken(served):
    (one,) = json.loads(lakeward("status", *served.where, "--json").stdout)["sources"]
    return one["taken"], one["set_aside"]


def test_a_month_with_every_misbehaviour_and_a_hundred_kills(tmp_path):
    """Every simulated event lies in the lake exactly once."""
    dice = random.Random(SEED)
    print(f"seed {SEED}")
    now = datetime.datetime.now(datetime.timezone.utc).replace(minute=0, second=0, microsecond=0)
    first, ready = now - datetime.timedelta(hours=MONTH), now - READY
    upstream = Amplitude("--from", hour(first), "--to", hour(now), "--events-per-hour", "10..60", "--seed", str(SEED),
                         "--misbehave", "all")
    with upstream as amplitude:
        # Small windows: many requests, so that kills meet everything that can go wrong.
        settings = source(amplitude, window=2, parallel=4, **{"from": hour(first)})
        served = Service.run(config(tmp_path, [parquet(tmp_path)], sources=[settings]))
        for _ in range(KILLS):
            served.start()
            time.sleep(dice.uniform(0.0, 0.4))
            served.kill()
        before = len(amplitude.requests())
        with served:

            def ended():
                """How many hours can be had: one more when the clock strikes meanwhile."""
                return (datetime.datetime.now(datetime.timezone.utc) - READY - first) // datetime.timedelta(hours=1) + 1

            wait_until(lambda: taken(served)[0] >= ended(), served.log_tail, 900)
            assert taken(served)[1] == 0, "nothing is set aside"
            (numbers,) = served.wait_until_delivered()
            served.audit()
        requests = amplitude.requests()
        assert len(requests) > before + 20, "the kills came while there was still much to do"
        events = amplitude.uuids(**{"from": hour(first), "to": hour(ready + datetime.timedelta(hours=1))})
        # An hour that became ready meanwhile may be there, too.
        later = amplitude.uuids(**{"from": hour(ready + datetime.timedelta(hours=1)), "to": hour(now)})
    found = collections.Counter(uuid for (uuid,) in lake.rows(tmp_path / "lake", "SELECT uuid::VARCHAR FROM {lake}"))
    assert len(events) > 10_000 and len(set(events)) == len(events)
    doubled = [uuid for uuid, times in found.items() if times > 1]
    assert not doubled, f"{len(doubled)} doubled, seed {SEED}"
    missing = set(events) - set(found)
    assert not missing, f"{len(missing)} missing, seed {SEED}"
    assert set(found) - set(events) <= set(later)
    assert numbers["delivered"] == numbers["received"] == len(found)
    print(f"{len(found)} events, {len(requests)} requests, {before} of them before the last kill",
          collections.Counter(request["status"] for request in requests))


def test_nothing_grows_with_the_archive(tmp_path):
    """An archive of 1 GB: what is resident stays within 64 MiB of what it was after a small one."""
    size = os.environ.get("LAKEWARD_TEST_ARCHIVE", "1GB")
    hours = ("--from", "2026-03-01", "--hours", "2", "--big-hour", f"2026-03-01T01={size}")
    with Amplitude(*hours) as amplitude:
        path = config(tmp_path, [], sources=[source(amplitude, schedule={"cron": "0 0 1 1 *"})])
        with Service.run(path) as served:
            pull(path, "2026-03-01T00")
            idle = resident_mib(served.process.pid)
            summary = pull(path, "2026-03-01T01")
            peak = resident_mib(served.process.pid, "VmHWM")
    assert summary["events"] > 500_000
    print(f"{idle} MiB before, {peak} MiB at most")
    assert peak - idle <= 64


def pull(path, hour):
    done = lakeward("pull", "-c", path, "amplitude", "--start", hour, "--end", hour, timeout=600)
    return json.loads(done.stdout.splitlines()[-1])


def resident_mib(pid, what="VmRSS"):
    with open(f"/proc/{pid}/status") as status:
        (line,) = (line for line in status if line.startswith(f"{what}:"))
    return int(line.split()[1]) // 1024


def test_output_like_system_c(tmp_path):
    """Uncompressed NDJSON below one prefix, named after Amplitude's members, byte for byte what was in them."""
    with Amplitude("--from", "2026-03-01", "--hours", "6", "--events-per-hour", "20..40") as amplitude:
        output = {"format": "verbatim", "newline": "ensure", "path": "python-import/!{source:stem}-"}
        made = {**pipeline("amplitude", {"type": "lake", "url": str(tmp_path / "lake")}, **output)}
        path = config(tmp_path, [made], sources=[source(amplitude)])
        lakeward("pull", "-c", path, "amplitude", "--start", "2026-03-01T00", "--end", "2026-03-01T05", timeout=300)
        listed = [json.loads(line) for line in lakeward("ls", "-c", path, "--json", "--long").stdout.splitlines()]
        names = {entry["path"] for entry in listed if "path" in entry}
        found = collections.Counter()
        for name in names:
            assert name.startswith("python-import/") and "_2026-03-01_" in name and "%23" in name, name
            for line in (tmp_path / "lake" / name).read_text().splitlines():
                found[json.loads(line)["uuid"]] += 1
        events = amplitude.uuids(**{"from": "2026-03-01T00", "to": "2026-03-01T06"})
    assert found == collections.Counter(events)
