"""NDJSON to hourly hive-partitioned zstd Parquet, one thread: us beside the peers.

CPU-seconds (user + system) come from the operating system: ours from wait4 of
the whole process, the peers' from getrusage inside the process, after their
imports, which favours them. The best of several runs counts. All of it on one
machine in one run. Our files are then read back by DuckDB and pyarrow and
compared, column by column, with DuckDB's own reading of the NDJSON.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import peers

ROOT = pathlib.Path(__file__).resolve().parent.parent
RELEASE = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"


def cpu_seconds(command):
    """Runs a command; its CPU-seconds and what it printed."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if process.returncode != 0:
        raise SystemExit(f"{command} ended with {process.returncode}:\n{text[-4000:]}")
    return usage.ru_utime + usage.ru_stime, text


def our_run(kind, file, out):
    column = peers.TIME_COLUMNS[kind]
    pattern = {"year": "yyyy", "month": "MM", "day": "dd", "hour": "HH"}
    path = "".join(f"{part}=!{{event:{column}:{letters}}}/" for part, letters in pattern.items())
    seconds, _ = cpu_seconds([
        RELEASE / "lakeward", "convert", file, "--out", out, "--path", path, "--format", "parquet",
        "--compression", "zstd", "--threads", "1", "--json",
    ])
    return seconds


def peer_run(peer, kind, variant, file, out):
    command = [sys.executable, ROOT / "bench/peers.py", peer, kind, variant, file, out]
    _, text = cpu_seconds(command)
    return float(text.strip().splitlines()[-1])


def best_of(runs, out, run):
    """The best CPU-seconds of `runs` runs; the files of the last one stay."""
    best = float("inf")
    for _ in range(runs):
        shutil.rmtree(out, ignore_errors=True)
        best = min(best, run())
    return best


def parquet_files(folder):
    return [str(path) for path in sorted(folder.rglob("*.parquet"))]


def leaves(schema, prefix=()):
    for name, of in schema.items():
        if isinstance(of, dict):
            yield from leaves(of, prefix + (name,))
        else:
            yield prefix + (name,), of


def has_column(relation, path):
    """Whether a struct column or a column of this dotted path is there."""
    types = dict(zip(relation.columns, relation.types))
    if path[0] not in types:
        return False
    of = types[path[0]]
    for name in path[1:]:
        children = dict(of.children) if of.id == "struct" else {}
        if name not in children:
            return False
        of = children[name]
    return True


def checksums(relation, kind):
    """Rows, the sum of their hashes, and for each leaf column its values' count and sum of hashes: in no order."""
    columns, values = [], []
    for path, of in leaves(peers.SCHEMAS[kind]):
        # A column that never had a value need not be there: it is all null.
        name = ".".join(f'"{part}"' for part in path) if has_column(relation, path) else "NULL"
        value = f"CAST({name} AS {peers.DUCK_TYPES[of]})"
        values.append(value)
        columns += [f"count({value})", f"coalesce(sum(hash({value})) FILTER ({value} IS NOT NULL), 0)"]
    return relation.aggregate(", ".join(["count(*)", f"sum(hash({', '.join(values)}))", *columns])).fetchall()[0]


def verify(kind, file, out):
    """Reads our files with DuckDB and with pyarrow; both must give what the NDJSON holds."""
    import duckdb
    import pyarrow
    import pyarrow.parquet

    connection = duckdb.connect()
    text = {name: peers.TEXT if of == peers.TIME else of for name, of in peers.SCHEMAS[kind].items()}
    columns = peers.duck_columns(text)
    source = connection.sql(f"FROM read_json('{file}', format = 'newline_delimited', columns = {columns})")
    expected = checksums(source, kind)
    files = parquet_files(out)
    by_duckdb = checksums(connection.sql(f"FROM read_parquet({files!r}, union_by_name = true)"), kind)
    table = pyarrow.concat_tables(
        [pyarrow.parquet.ParquetFile(path).read() for path in files], promote_options="permissive"
    )
    by_pyarrow = checksums(connection.from_arrow(table), kind)
    for reader, found in (("DuckDB", by_duckdb), ("pyarrow", by_pyarrow)):
        if found != expected:
            names = ["rows", "checksum of whole rows"] + [f"{'.'.join(path)} {what}" for path, _ in leaves(peers.SCHEMAS[kind])
                                for what in ("values", "checksum")]
            wrong = [f"{name}: {f} instead of {e}" for name, f, e in zip(names, found, expected) if f != e]
            raise SystemExit(f"{kind}: {reader} reads our files differently from the NDJSON:\n" + "\n".join(wrong))
    return expected[0]


def measure(kind, arguments, folder):
    file = folder / f"{kind}.ndjson"
    size = arguments.mb * 1_000_000
    generate = [RELEASE / "loadgen", "generate", "--kind", kind, "--bytes", str(size), "--out", file]
    events = json.loads(subprocess.run(generate, check=True, capture_output=True, text=True).stdout)["events"]
    size = file.stat().st_size
    results = []

    def record(name, seconds, out):
        files = parquet_files(out)
        mb = sum(os.path.getsize(path) for path in files) / 1e6
        results.append({"name": name, "cpu_seconds": seconds, "mb_per_cpu_second": size / 1e6 / seconds,
                        "file_mb": mb, "files": len(files)})

    out = folder / "lakeward"
    record("Lakeward", best_of(arguments.runs, out, lambda: our_run(kind, file, out)), out)
    rows = verify(kind, file, out)
    if rows != events:
        raise SystemExit(f"{kind}: {rows} rows of {events} events")
    shutil.rmtree(out)
    for peer in peers.PEERS:
        tried = []
        for variant in peers.variants(kind):
            out = folder / f"{peer}-{variant}"
            seconds = best_of(arguments.runs, out, lambda: peer_run(peer, kind, variant, file, out))
            tried.append((seconds, variant, out))
        seconds, variant, out = min(tried)
        record(f"{peer} ({variant})", seconds, out)
        for _, _, out in tried:
            shutil.rmtree(out)
    file_rows = f"{events:,} events, {size / 1e6:.0f} MB, {size / events:.0f} B each"
    print_table(kind, file_rows, results)
    return {"kind": kind, "events": events, "bytes": size, "results": results}


def print_table(kind, about, results):
    best = max(result["mb_per_cpu_second"] for result in results[1:])
    print(f"\n{kind}: {about}")
    print(f"  {'':24}{'MB/s per CPU-second':>20}{'CPU s':>9}{'Parquet MB':>12}{'files':>7}{'best peer × ':>13}")
    for result in results:
        print(
            f"  {result['name']:24}{result['mb_per_cpu_second']:20.0f}{result['cpu_seconds']:9.3f}"
            f"{result['file_mb']:12.1f}{result['files']:7}{result['mb_per_cpu_second'] / best:12.2f}"
        )
    print("  read back equal by DuckDB and pyarrow: every row, every column", flush=True)


def decode_alone(files):
    """Decoding without encoding, beside simd-json's tokeniser: a program of the columnar crate prints it."""
    command = ["cargo", "run", "--quiet", "--release", "-p", "lakeward-columnar", "--example", "decode", "--"]
    print("\ndecode alone (NDJSON to Arrow) of the same files, one thread", flush=True)
    subprocess.run([*command, *map(str, files)], cwd=ROOT, check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mb", type=int, default=256, help="size of each NDJSON file")
    parser.add_argument("--runs", type=int, default=3, help="the best of so many runs counts")
    parser.add_argument("--kind", choices=list(peers.SCHEMAS), action="append", help="only this kind")
    parser.add_argument("--json", type=pathlib.Path, help="also write the numbers to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lakeward-bench-") as folder:
        folder = pathlib.Path(folder)
        kinds = arguments.kind or list(peers.SCHEMAS)
        results = [measure(kind, arguments, folder) for kind in kinds]
        decode_alone(folder / f"{kind}.ndjson" for kind in kinds)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
