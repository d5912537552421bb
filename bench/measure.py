"""What the measurements share: a server process under load, seen from /proc."""

import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import service  # noqa: E402

LOADGEN = service.PROGRAM.with_name("loadgen")
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """User and system time so far."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_resident_mib(pid):
    """The most memory that the process ever held, as the operating system kept it."""
    with open(f"/proc/{pid}/status") as status:
        (line,) = (line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def load(door, url, kind, seconds, rate="max", connections=16, batch=500, records=None, check=True):
    """Runs the load generator; what it saw."""
    command = [
        LOADGEN, door, "--url", url, "--stream", "events", "--kind", kind, "--connections", str(connections),
        "--batch", str(batch), "--rate", str(rate), "--seconds", str(seconds),
    ]
    if records:
        command += ["--records", str(records)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0 and check:
        raise SystemExit(f"loadgen ended with {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


def hourly(column):
    pattern = {"year": "yyyy", "month": "MM", "day": "dd", "hour": "HH"}
    return "".join(f"{part}=!{{event:{column}:{letters}}}/" for part, letters in pattern.items())


def events_service(folder, destination, column, batch, **settings):
    """`lakeward run` with one pipeline: stream `events` to hourly zstd Parquet."""
    folder.mkdir(parents=True)
    pipeline = service.pipeline("events", destination, batch, format="parquet", compression="zstd", path=hourly(column))
    return service.Service.run(service.config(folder, [pipeline], **settings))


def wait_until_delivered(server, received=0, timeout=600):
    """Until that many records are received and none is pending; without asking more often than needed, as asking costs
    the server too."""
    deadline = time.monotonic() + timeout
    while any(flow["pending"] or flow["received"] < received for flow in server.pipelines()):
        if time.monotonic() > deadline:
            raise SystemExit(f"not delivered after {timeout} s:\n{server.log_tail()}")
        time.sleep(0.2)


def verdict(value, limit, at_least):
    met = value >= limit if at_least else value <= limit
    return "met" if met else "MISSED"
