"""Adobe Livestream on one core: hits a second from the socket through source and journal into Parquet.

The hits are those of `lakeward simulate adobe-livestream`, fetched and packed
once before anything is timed, and sent by a small server on another core as
fast as they are taken. Lakeward itself may use one core only. Two pipelines:
every field as it comes, and the whole mapping of `lakeward init
adobe-livestream`; both with dedup.
"""

import argparse
import gzip
import http.server
import json
import multiprocessing
import os
import pathlib
import tempfile
import time

import yaml

import measure  # puts tests/ on the path

import lake
import service
from simulated import Livestream

PIECE = 256 << 10
# Hits a second on one core.
TARGET = 20_000


class Adobe(http.server.BaseHTTPRequestHandler):
    """A token, and the packed hits; then silence."""

    protocol_version = "HTTP/1.1"
    packed = None

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"access_token": "token", "token_type": "bearer", "expires_in": 86_399}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-encoding", "gzip")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for start in range(0, len(self.packed), PIECE):
            piece = self.packed[start : start + PIECE]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        time.sleep(3600)

    def log_message(self, *_):
        pass


def serve(packed, told):
    Adobe.packed = packed
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Adobe)
    told.put(server.server_address[1])
    server.serve_forever()


def packed_hits(count):
    """The packed hits, and how many bytes they are unpacked."""
    with Livestream("--rate", 0, "--hits", count) as upstream:
        parts = []
        for start in range(0, count, 50_000):
            parts.append("".join(f"{hit}\r\n" for hit in upstream.hits(start, min(start + 50_000, count))))
    text = "".join(parts).encode()
    return gzip.compress(text, 6), len(text)


def configuration(folder, port, mapped):
    file = folder / "lakeward.yaml"
    service.lakeward("init", "adobe-livestream", file, "--livestream", "bench")
    config = yaml.safe_load(file.read_text())
    config["listen"] = "127.0.0.1:0"
    address = f"http://127.0.0.1:{port}"
    config["sources"][0].update(
        endpoint=address, token_url=f"{address}/token", client_id="id", client_secret="s", scopes="openid",
        read_timeout="1h",
    )
    (pipeline,) = config["pipelines"]
    pipeline["batch"] = {"size": "64MiB", "age": "5s"}
    if not mapped:
        ids = {name: "decimal(20,0)" for name in ("hitIdHigh", "hitIdLow")}
        pipeline.update(dedup={"key": ["hitIdHigh", "hitIdLow"], "window": "1d"}, schema={"columns": ids})
        pipeline["output"]["path"] = "hits/"
        del pipeline["sql"]
    file.write_text(yaml.safe_dump(config))
    return file


def run(folder, port, hits, mapped, core):
    folder.mkdir()
    running = service.Service.run(configuration(folder, port, mapped))
    before = os.sched_getaffinity(0)
    began = time.monotonic()
    os.sched_setaffinity(0, {core})
    try:
        running.spawn()
    finally:
        os.sched_setaffinity(0, before)
    try:
        running.ready.wait(60)
        measure.wait_until_delivered(running, hits)
        seconds = time.monotonic() - began
        cpu = measure.cpu_seconds(running.process.pid)
        memory = measure.peak_resident_mib(running.process.pid)
    finally:
        running.kill()
    ((rows,),) = lake.rows(folder / "lake", "SELECT count(*) FROM {lake}")
    assert rows == hits, f"{rows} rows of {hits} hits"
    name = "the mapping of `init`" if mapped else "every field as it comes"
    rate = hits / seconds
    print(f"  {name:26}{rate:10,.0f}{hits / cpu:18,.0f}{memory:10.0f}   at least {TARGET:,} hits/s: "
          f"{measure.verdict(rate, TARGET, True)}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hits", type=int, default=400_000)
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    packed, size = packed_hits(arguments.hits)
    print(f"  {arguments.hits:,} hits, {size >> 20:,} MiB, {len(packed) >> 20:,} MiB packed\n"
          f"  {'':26}{'hits/s':>10}{'per CPU-second':>18}{'RSS MiB':>10}", flush=True)
    told = multiprocessing.Queue()
    server = multiprocessing.Process(target=serve, args=(packed, told), daemon=True)
    server.start()
    try:
        port = told.get(timeout=30)
        others = os.sched_getaffinity(0) - {arguments.core}
        os.sched_setaffinity(server.pid, others or {arguments.core})
        with tempfile.TemporaryDirectory(prefix="lakeward-bench-") as folder:
            for mapped in (False, True):
                run(pathlib.Path(folder) / str(mapped), port, arguments.hits, mapped, arguments.core)
    finally:
        server.terminate()


if __name__ == "__main__":
    main()
