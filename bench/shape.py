"""What SQL and dedup cost: CPU per record of a backlog that is drained with them and without."""

import argparse
import pathlib
import tempfile

import measure
import service

BATCH = {"size": "64MiB", "age": "5s"}
SQL = """
SELECT timestamp, flag_key, flag_value, variation_index, reason_kind, metadata, evaluation_context,
       evaluation_context['key'] AS context, evaluation_context['tier'] AS tier, split_part(flag_key, '-', 1) AS area
FROM input WHERE variation_index IS NOT NULL AND flag_key <> 'audio-player-v2'
"""


def drain(folder, records, **shaping):
    """CPU-seconds to deliver `records` from the journal, and what became of them."""
    folder.mkdir()
    pipeline = {
        **service.pipeline("events", {"type": "lake", "url": str(folder / "lake")}, BATCH,
                           path=measure.hourly("timestamp")),
        **shaping,
    }
    held = {**pipeline, "batch": {"size": "1GiB", "age": "1h", "records": 1_000_000_000}}
    with service.Service.run(service.config(folder, [held])) as server:
        measure.load("http", server.url, "evaluation", 600, records=records)
        server.kill()
    with service.Service.run(service.config(folder, [pipeline])) as server:
        measure.wait_until_delivered(server)
        cpu = measure.cpu_seconds(server.process.pid)
        (status,) = server.pipelines()
        server.audit()
    return cpu, status


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    kinds = {
        "nothing": {},
        "SQL": {"sql": SQL},
        "SQL and dedup": {"sql": SQL, "dedup": {"key": ["context", "flag_key", "timestamp"], "window": "7d"}},
    }
    best = {}
    with tempfile.TemporaryDirectory(prefix="lakeward-bench-") as folder:
        for turn in range(arguments.rounds):
            for name, shaping in kinds.items():
                cpu, status = drain(pathlib.Path(folder) / f"{name.replace(' ', '-')}-{turn}", arguments.records, **shaping)
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
