"""Resident memory at the limits: a stalled destination, a backlog, many partitions."""

import argparse
import os
import pathlib
import random
import subprocess
import tempfile
import time

import measure
import servers
import service
from faultproxy import FaultProxy

BATCH = {"size": "64MiB", "age": "5s"}
# The bytes of an evaluation, with its newline.
EVENT_BYTES = 329


def stalled(folder, s3, proxy, gib):
    """The destination answers nothing while the journal fills up to its limit; then it answers again."""
    proxy.hold = True
    destination = service.s3_destination(s3, "stalled/", endpoint=proxy.endpoint)
    journal = {"disk_max": f"{gib}GiB"}
    with measure.events_service(folder, destination, "timestamp", BATCH, journal=journal) as server:
        seen = measure.load("http", server.url, "evaluation", 600, records=int((gib << 30) * 0.9 / EVENT_BYTES))
        # What comes beyond the limit is refused, not lost and not kept in memory.
        beyond = measure.load("http", server.url, "evaluation", 5)
        peak = measure.peak_resident_mib(server.process.pid)
        if not beyond["refused"]:
            raise SystemExit(f"the journal took more than {gib} GiB: {beyond}")
        proxy.hold = False
        measure.wait_until_delivered(server)
        server.audit()
    note = f"{seen['records'] + beyond['records']:,} records taken, then {beyond['refused']:,} refused"
    report("stalled destination", peak, 256, note)


def backlog(folder, s3, proxy, gib):
    """A backlog gathers behind a stalled destination; a restarted process drains it."""
    proxy.hold = True
    destination = service.s3_destination(s3, "backlog/", endpoint=proxy.endpoint)
    with measure.events_service(folder, destination, "timestamp", BATCH) as server:
        measure.load("http", server.url, "evaluation", 600, records=(gib << 30) // EVENT_BYTES)
        pending = server.pending()
        server.kill()
        proxy.hold = False
        server.start()
        began = time.monotonic()
        measure.wait_until_delivered(server)
        seconds = time.monotonic() - began
        peak = measure.peak_resident_mib(server.process.pid)
        server.audit()
    report(f"drain of {gib} GiB", peak, 512, f"{pending:,} records in {seconds:.0f} s")


def partitions(folder, count):
    """One batch that has rows for `count` folders."""
    folder.mkdir()
    chance = random.Random(1)
    file = folder / "events.ndjson"
    with open(file, "w") as out:
        for n in range(400_000):
            out.write(f'{{"n":{n},"part":"p{chance.randrange(count)}","text":"{chance.randbytes(100).hex()}"}}\n')
    command = [service.PROGRAM, "convert", file, "--out", folder / "out", "--path", "part=!{event:part}/",
               "--threads", "1", "--batch-mib", "256"]
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    files = len(list((folder / "out").rglob("*.parquet")))
    if process.returncode or files != count:
        raise SystemExit(f"convert ended with {process.returncode} and {files} files")
    report(f"{count:,} open partitions", usage.ru_maxrss / 1024, 1024, f"{file.stat().st_size / 1e6:.0f} MB in one batch")


def report(name, peak, limit, note):
    print(f"  {name:26}{peak:8.0f} MiB at most, limit {limit}: {measure.verdict(peak, limit, False)} ({note})", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=["stalled", "backlog", "partitions"])
    parser.add_argument("--gib", type=int, default=2, help="size of the backlog")
    arguments = parser.parse_args()

    def wants(name):
        return arguments.only in (None, name)

    with tempfile.TemporaryDirectory(prefix="lakeward-bench-") as folder:
        folder = pathlib.Path(folder)
        if wants("partitions"):
            partitions(folder / "partitions", 5_000)
        if wants("stalled") or wants("backlog"):
            s3 = servers.SeaweedFS()
            proxy = FaultProxy(s3.endpoint, seed=1, rate=0)
            try:
                if wants("stalled"):
                    stalled(folder / "stalled", s3, proxy, 1)
                if wants("backlog"):
                    backlog(folder / "backlog", s3, proxy, arguments.gib)
            finally:
                proxy.stop()
                s3.stop()


if __name__ == "__main__":
    main()
