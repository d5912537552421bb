"""Servers that speak Kinesis and DynamoDB, on free loopback ports.

Each is somebody else's work: what two of them agree on is probably Kinesis.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import boto3
import botocore.config
import botocore.exceptions

from servers import free_ports

HERE = pathlib.Path(__file__).resolve().parent
REGION = "eu-west-1"
KEY, SECRET = "AKIATEST", "secret"


def client(service, endpoint):
    config = botocore.config.Config(connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 3})
    session = boto3.session.Session(KEY, SECRET, region_name=REGION)
    return session.client(service, endpoint_url=endpoint, config=config)


def node_folder():
    folder = os.environ.get("LAKEWARD_TEST_NODE")
    if folder is None:
        made = sorted(pathlib.Path("~/.cache/lakeward").expanduser().glob("node-*"))
        folder = made[-1] if made else None
    return folder and pathlib.Path(folder) / "node_modules"


class Server:
    """A process that answers on `endpoint`, ended by its own pid."""

    def __init__(self, service="kinesis"):
        self.service = service
        self.folder = tempfile.mkdtemp(prefix="lakeward-kinesis-")
        self.process = None
        try:
            (self.port,) = free_ports(1)
            self.endpoint = f"http://127.0.0.1:{self.port}"
            self.log = open(os.path.join(self.folder, "log"), "wb")
            environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
            command, settings = self.command()
            self.process = subprocess.Popen(
                command, cwd=self.folder, env={**environment, **settings}, stdin=subprocess.DEVNULL, stdout=self.log,
                stderr=self.log, start_new_session=True,
            )
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def client(self):
        return client(self.service, self.endpoint)

    def wait_until_ready(self):
        asks = self.client()
        deadline = time.monotonic() + 60
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"{type(self).__name__} ended with {self.process.returncode}:\n{self.log_tail()}")
            try:
                asks.list_streams() if self.service == "kinesis" else asks.list_tables()
                return
            except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def log_tail(self):
        with open(os.path.join(self.folder, "log"), errors="replace") as file:
            return file.read()[-4000:]

    def stop(self):
        if self.process is not None:
            if self.process.poll() is not None:
                print(f"{type(self).__name__} ended by itself:\n{self.log_tail()}")
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class KinesisLocal(Server):
    """kinesis-local (kinesis-mock): ends closed shards and names their children."""

    def command(self):
        (tls,) = free_ports(1)
        settings = {
            "KINESIS_MOCK_PLAIN_PORT": str(self.port), "KINESIS_MOCK_TLS_PORT": str(tls), "SHARD_LIMIT": "100",
            "CREATE_STREAM_DURATION": "20ms", "DELETE_STREAM_DURATION": "20ms", "SPLIT_SHARD_DURATION": "20ms",
            "MERGE_SHARDS_DURATION": "20ms", "LOG_LEVEL": "ERROR", "AWS_REGION": REGION,
        }
        package = node_folder() / "kinesis-local"
        # Its certificate, which it looks for where it is started.
        shutil.copy(package / "server.json", self.folder)
        program = package / "main.js"
        return ["node", "-r", str(HERE / "loopback.cjs"), str(program)], settings


class Kinesalite(Server):
    """kinesalite: the oldest of them, on LevelDB."""

    def command(self):
        program = node_folder() / "kinesalite" / "cli.js"
        delays = ["--createStreamMs", "20", "--deleteStreamMs", "20", "--updateStreamMs", "20", "--shardLimit", "100"]
        command = ["node", "-r", str(HERE / "loopback.cjs"), str(program), "--port", str(self.port), *delays]
        return command, {"AWS_REGION": REGION, "AWS_ACCOUNT_ID": "000000000000"}


class Roto(Server):
    """roto: Kinesis, and DynamoDB with conditional writes that are atomic."""

    def command(self):
        program = pathlib.Path(sys.executable).parent / "roto-server"
        return [str(program), "--port", str(self.port)], {}
