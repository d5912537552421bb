"""What SQL and dedup cost: CPU per record of a backlog that is drained with them and without."""

import argparse
import itertools
import pathlib
import subprocess
import tempfile

import measure
import service

BATCH = {"size": "64MiB", "age": "5s"}
SQL = """
SELECT *, split_part(event_name, ':', 1) AS event_type, to_timestamp_seconds(created_at) AS created
FROM input WHERE event_name <> 'account:removed'
"""


def generate(file, mib):
    """Events; `send` repeats one request in twenty."""
    subprocess.run([measure.LOADGEN, "generate", "--kind", "lesson", "--bytes", str(mib << 20), "--out", file],
                   check=True, stdout=subprocess.DEVNULL)


def send(server, file):
    with open(file, "rb") as lines:
        for turn in itertools.count():
            body = b"".join(itertools.islice(lines, 5_000))
            if not body:
                return
            for _ in range(2 if turn % 20 == 0 else 1):
                status, answer = server.records("events", body)
                if status != 200:
                    raise SystemExit(f"{status}: {answer}")


def drain(folder, file, **shaping):
    """CPU-seconds to deliver the events of `file` from the journal, and what became of them."""
    folder.mkdir()
    pipeline = {
        **service.pipeline("events", {"type": "lake", "url": str(folder / "lake")}, BATCH,
                           path=measure.hourly("created_at")),
        **shaping,
    }
    held = {**pipeline, "batch": {"size": "1GiB", "age": "1h", "records": 1_000_000_000}}
    with service.Service.run(service.config(folder, [held])) as server:
        send(server, file)
        server.kill()
    with service.Service.run(service.config(folder, [pipeline])) as server:
        measure.wait_until_delivered(server)
        cpu = measure.cpu_seconds(server.process.pid)
        (status,) = server.pipelines()
        server.audit()
    return cpu, status


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    kinds = {
        "nothing": {},
        "SQL": {"sql": SQL},
        "SQL and dedup": {"sql": SQL, "dedup": {"key": ["event_uuid"], "window": "7d"}},
    }
    best = {}
    with tempfile.TemporaryDirectory(prefix="lakeward-bench-") as folder:
        file = pathlib.Path(folder) / "events.ndjson"
        generate(file, arguments.mib)
        for turn in range(arguments.rounds):
            for name, shaping in kinds.items():
                cpu, status = drain(pathlib.Path(folder) / f"{name.replace(' ', '-')}-{turn}", file, **shaping)
                if name not in best or cpu < best[name][0]:
                    best[name] = cpu, status
    base = best["nothing"][0]
    for name, (cpu, status) in best.items():
        more = (cpu / base - 1) * 100
        note = f"{status['received'] / cpu:,.0f} records per CPU-second, {status['rows']:,} rows, {status['duplicates']:,} duplicates"
        print(f"  {name:16}{cpu:7.2f} CPU-s  {more:+5.0f} %   {note}")
    more = (best["SQL and dedup"][0] / base - 1) * 100
    print(f"  SQL and dedup cost {more:.0f} % more than nothing, at most 35: {measure.verdict(more, 35, False)}")


if __name__ == "__main__":
    main()
