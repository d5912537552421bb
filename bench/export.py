"""A day-by-day export of Amplitude: `lakeward pull` beside curl + unzip + gunzip + upload, on the same archives.

The archives come from `lakeward simulate amplitude` once, before anything is
timed, and are served from files by a small web server, so that neither side
waits for a generator. Both sides load the same days into the same S3 server.
"""

import argparse
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import measure
import servers
import service
from simulated import Amplitude

# Times faster than the shell's way, into Parquet.
TARGET = 3

SHELL = """
set -eu
for day in $DAYS; do
  rm -rf data data.zip; mkdir data
  curl -sSf -u demo:demo -o data.zip "$URL/api/2/export?start=${day}T00&end=${day}T23"
  unzip -q data.zip -d data
  find data -name '*.gz' -exec gunzip {} +
  find data -type f -printf '%f\\n' | sed 's/#/%23/' > names
  find data -type f > files
  paste files names | while read -r file name; do
    printf 'upload-file = "%s"\\nurl = "%s/python-import/%s"\\noutput = /dev/null\\n' "$file" "$BUCKET" "$name"
  done > uploads
  curl -sSf --no-progress-meter --parallel --parallel-max 8 --aws-sigv4 aws:amz:us-east-1:s3 --user "$KEY" -K uploads
done
"""


class Archives(http.server.BaseHTTPRequestHandler):
    """Serves the archives of whole days from files."""

    protocol_version = "HTTP/1.1"
    folder = None

    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        day, until = query["start"][0][:8], query["end"][0]
        archive = self.folder / f"{day}.zip"
        if query["start"][0] != f"{day}T00" or until != f"{day}T23" or not archive.exists():
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("content-length", str(archive.stat().st_size))
        self.end_headers()
        with archive.open("rb") as content:
            shutil.copyfileobj(content, self.wfile, 1 << 20)

    def log_message(self, *_):
        pass


def fetch(folder, days, events):
    """The archives, one for each day; answers how many bytes of JSON they hold."""
    arguments = ["--from", "2026-03-01", "--hours", 24 * days, "--events-per-hour", events]
    with Amplitude(*arguments) as simulator:
        login = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        login.add_password(None, simulator.url, "demo", "demo")
        opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(login))
        names = [f"202603{day:02}" for day in range(1, days + 1)]
        for name in names:
            url = f"{simulator.url}/api/2/export?start={name}T00&end={name}T23"
            with opener.open(url) as reply, (folder / f"{name}.zip").open("wb") as out:
                shutil.copyfileobj(reply, out, 1 << 20)
    return names


def timed(run):
    before, clock = os.times(), time.monotonic()
    run()
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.monotonic() - clock, cpu


def shell(folder, url, s3, names):
    bucket = f"{s3.endpoint}/{s3.bucket}"
    environment = {**service.ENVIRONMENT, "DAYS": " ".join(names), "URL": url, "BUCKET": bucket,
                   "KEY": f"{s3.access_key}:{s3.secret_key}"}
    return timed(lambda: subprocess.run(["bash", "-c", SHELL], cwd=folder, env=environment, check=True))


def pull(folder, url, s3, names, output):
    source = {"type": "amplitude", "name": "amplitude", "stream": "amplitude", "endpoint": url, "api_key": "demo",
              "secret_key": "demo", "from": "2026-03-01", "window": 24, "parallel": 2}
    destination = service.s3_destination(s3, f"{folder.name}/")
    flow = service.pipeline("amplitude", destination, {"size": "128MiB", "age": "10s"}, **output)
    path = service.config(folder, [flow], sources=[source])
    last = f"{names[-1][:4]}-{names[-1][4:6]}-{names[-1][6:]}"
    arguments = ["pull", "-c", path, "--quiet", "amplitude", "--start", "2026-03-01T00", "--end", f"{last}T23"]
    seconds = timed(lambda: service.lakeward(*arguments, timeout=1200))
    service.lakeward("audit", "-c", path)
    return seconds


OUTPUTS = {
    "NDJSON, member names kept": {"format": "verbatim", "path": "python-import/!{source:stem}/"},
    "Parquet by event date": {"format": "parquet", "compression": "zstd",
                              "path": "events/day=!{event:event_time:yyyy-MM-dd}/"},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--days", type=int, default=4)
    parser.add_argument("--events-per-hour", type=int, default=8_000)
    parser.add_argument("--json", type=pathlib.Path, help="also write the numbers to this file")
    arguments = parser.parse_args()
    s3, results = servers.SeaweedFS(), {}
    with tempfile.TemporaryDirectory(prefix="lakeward-bench-") as folder:
        folder = pathlib.Path(folder)
        names = fetch(folder, arguments.days, arguments.events_per_hour)
        Archives.folder = folder
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Archives)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        packed = sum((folder / f"{name}.zip").stat().st_size for name in names)
        print(f"  {arguments.days} days, {arguments.days * 24 * arguments.events_per_hour:,} events, "
              f"{packed >> 20:,} MiB of archives\n  {'':34}{'seconds':>10}{'CPU-seconds':>13}{'times faster':>14}")
        try:
            (folder / "shell").mkdir()
            results["curl + unzip + gunzip + curl"] = shell(folder / "shell", url, s3, names)
            for number, (name, output) in enumerate(OUTPUTS.items()):
                (folder / f"pull-{number}").mkdir()
                results[f"lakeward, {name}"] = pull(folder / f"pull-{number}", url, s3, names, output)
        finally:
            server.shutdown()
            s3.stop()
    base = next(iter(results.values()))[0]
    for name, (seconds, cpu) in results.items():
        print(f"  {name:34}{seconds:10.2f}{cpu:13.2f}{base / seconds:14.2f}")
    faster = base / results["lakeward, Parquet by event date"][0]
    print(f"  {faster:.1f} times faster into Parquet, at least {TARGET}: {measure.verdict(faster, TARGET, True)}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"days": arguments.days, "packed_bytes": packed, "runs": results}))


if __name__ == "__main__":
    main()
