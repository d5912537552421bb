"""Rows into ClickHouse: `lakeward run` beside clickhouse-connect, the same NDJSON into the same table of one server.

Ours starts with the first byte sent to its door and ends when the last row is delivered, so it pays for HTTP, for a
journal that is synced to the disk, and for knowing every row again. The peers read the file from the page cache and
insert; their imports are paid for before the clock starts. The server is the tests' own: the real engine (chdb) behind
a small HTTP front, the same for all.
"""

import argparse
import datetime
import json
import os
import pathlib
import random
import resource
import subprocess
import sys
import tempfile
import time

import measure
import service
from clickhouse_server import ClickHouse
from measure import cpu_seconds

# Times the rows a second of clickhouse-connect's `insert`.
TARGET = 3

COLUMNS = {
    "event_id": "String", "timestamp": "DateTime64(3)", "user_id": "String", "section_id": "Int64",
    "page_id": "Nullable(Int64)", "content_element_id": "Nullable(String)", "video_url": "Nullable(String)",
    "video_title": "Nullable(String)", "verb": "LowCardinality(String)", "video_time": "Nullable(Float64)",
    "video_length": "Nullable(Float64)", "video_progress": "Nullable(Float64)",
    "video_played_segments": "Nullable(String)",
}
LINEAGE = {"_lakeward_batch": "LowCardinality(String)", "_lakeward_row": "Int64"}
NAMES = list(COLUMNS)


def write_events(path, count):
    """Video events as system D has them, one JSON object per line."""
    draw = random.Random(7)
    start = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
    with open(path, "w") as out:
        for number in range(count):
            length = draw.randrange(60, 1800)
            at = round(draw.random() * length, 3)
            element = draw.randrange(500)
            event = {
                "event_id": f"{draw.getrandbits(128):032x}",
                "timestamp": (start + datetime.timedelta(milliseconds=37 * number)).isoformat(timespec="milliseconds"),
                "user_id": str(int(draw.paretovariate(0.7)) % 100_000), "section_id": 4_000 + element % 40,
                "page_id": 90_000 + element % 300, "content_element_id": f"element-{element}",
                "video_url": f"https://www.youtube.com/watch?v={element:011x}", "video_title": f"Lesson {element}",
                "verb": draw.choice(["played", "paused", "seeked", "completed"]), "video_time": at,
                "video_length": float(length), "video_progress": round(at / length, 4),
                "video_played_segments": f"0[.]{at}" if element % 3 else None,
            }
            out.write(json.dumps(event) + "\n")


def make_table(server, name, columns):
    definitions = ", ".join(f"{column} {ty}" for column, ty in columns.items())
    server.sql(
        f"CREATE OR REPLACE TABLE {name} ({definitions}) ENGINE = MergeTree ORDER BY (section_id, timestamp) "
        "SETTINGS non_replicated_deduplication_window = 1000"
    )


def check(server, name, expected):
    seen = server.sql(f"SELECT count(), uniqExact(event_id), sum(section_id), max(timestamp) FROM {name}")
    assert expected is None or seen == [expected], (seen, expected)
    return seen[0]


def peer(kind, url, path, rows_per_insert):
    """One peer, in a process of its own; prints seconds and CPU-seconds."""
    import clickhouse_connect
    import pyarrow
    import pyarrow.json

    host, port = url.removeprefix("http://").split(":")
    client = clickhouse_connect.get_client(
        host=host, port=int(port), username=ClickHouse.user, password=ClickHouse.password
    )
    before, clock = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    if kind == "rows":
        def flush(rows):
            client.insert("peer", rows, column_names=NAMES)

        rows = []
        with open(path, "rb") as lines:
            for line in lines:
                event = json.loads(line)
                event["timestamp"] = datetime.datetime.fromisoformat(event["timestamp"])
                rows.append([event.get(name) for name in NAMES])
                if len(rows) == rows_per_insert:
                    flush(rows)
                    rows = []
        if rows:
            flush(rows)
    else:
        types = {"String": pyarrow.string(), "Int64": pyarrow.int64(), "Float64": pyarrow.float64()}
        bare = {name: ty.removeprefix("Nullable(").removeprefix("LowCardinality(").rstrip(")")
                for name, ty in COLUMNS.items()}
        schema = pyarrow.schema([
            (name, pyarrow.timestamp("ms", "UTC") if ty.startswith("DateTime64") else types[ty])
            for name, ty in bare.items()
        ])
        options = pyarrow.json.ParseOptions(explicit_schema=schema)
        table = pyarrow.json.read_json(path, parse_options=options)
        for start in range(0, table.num_rows, rows_per_insert):
            client.insert_arrow("peer", table.slice(start, rows_per_insert))
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"seconds": time.monotonic() - clock, "cpu": cpu}))


def ours(folder, server, path, format_name):
    destination = {
        "type": "clickhouse", "url": server.url, "user": server.user, "password": server.password, "table": "ours",
        "parts_per_minute": 6000,
    }
    schema = {"columns": {"timestamp": "timestamptz"}}
    pipeline = service.pipeline("events", destination, {"age": "1s", "size": "256MiB"}, format=format_name)
    config = service.config(folder, [{**pipeline, "schema": schema}])
    with open(path, "rb") as file:
        body = file.read()
    cuts = [0]
    while cuts[-1] < len(body):
        end = min(cuts[-1] + (8 << 20), len(body))
        cuts.append(body.index(b"\n", end - 1) + 1 if end < len(body) else len(body))
    with service.Service.run(config) as running:
        pid = running.process.pid
        before, clock = cpu_seconds(pid), time.monotonic()
        for start, end in zip(cuts, cuts[1:], strict=False):
            status, answer = running.records("events", body[start:end])
            assert status == 200, answer
        rows = str(body.count(b"\n"))
        service.wait_until(lambda: server.value("SELECT count() FROM ours") == rows, running.log_tail, 600)
        seconds, cpu = time.monotonic() - clock, cpu_seconds(pid) - before
        running.wait_until_delivered()
    return {"seconds": seconds, "cpu": cpu}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rows-per-insert", type=int, default=50_000)
    parser.add_argument("--peer", nargs=3, metavar=("KIND", "URL", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        return peer(*arguments.peer, arguments.rows_per_insert)
    results = {}
    server = ClickHouse()
    try:
        with tempfile.TemporaryDirectory(prefix="lakeward-bench-") as folder:
            path = os.path.join(folder, "events.ndjson")
            write_events(path, arguments.rows)
            print(f"  {arguments.rows:,} events, {os.path.getsize(path) / 1e6:.0f} MB of NDJSON")
            expected = None
            for run in range(arguments.runs):
                for name, kind in (("clickhouse-connect insert", "rows"), ("clickhouse-connect insert_arrow", "arrow")):
                    make_table(server, "peer", COLUMNS)
                    command = [sys.executable, __file__, "--rows-per-insert", str(arguments.rows_per_insert), "--peer"]
                    before = cpu_seconds(server.process.pid)
                    done = subprocess.run([*command, kind, server.url, path], capture_output=True, text=True)
                    assert done.returncode == 0, done.stderr
                    result = json.loads(done.stdout)
                    result["server"] = cpu_seconds(server.process.pid) - before
                    results.setdefault(name, []).append(result)
                    expected = check(server, "peer", expected)
                for format_name in ("parquet", "ndjson"):
                    make_table(server, "ours", {**COLUMNS, **LINEAGE})
                    where = pathlib.Path(folder) / f"{format_name}-{run}"
                    where.mkdir()
                    before = cpu_seconds(server.process.pid)
                    result = ours(where, server, path, format_name)
                    result["server"] = cpu_seconds(server.process.pid) - before
                    results.setdefault(f"lakeward, {format_name}", []).append(result)
                    check(server, "ours", expected)
    finally:
        server.stop()
    print(f"  {'':32} {'rows/s':>10} {'rows per CPU-second':>20} {'CPU-seconds':>12} {'of the server':>14}")
    for name, runs in results.items():
        best = min(runs, key=lambda run: run["seconds"])
        rate, per_cpu = arguments.rows / best["seconds"], arguments.rows / best["cpu"]
        print(f"  {name:32} {rate:>10,.0f} {per_cpu:>20,.0f} {best['cpu']:>12.2f} {best['server']:>14.2f}")
    natural = min(run["seconds"] for run in results["clickhouse-connect insert"])
    mine = min(run["seconds"] for run in results["lakeward, parquet"])
    verdict = measure.verdict(natural / mine, TARGET, True)
    print(f"  {natural / mine:.1f} times the rows/s of clickhouse-connect, at least {TARGET}: {verdict}")


if __name__ == "__main__":
    main()
