"""Fixtures. `cargo xtask test` sets the environment; pytest alone works too."""

import os
import pathlib
import signal
import sys
import uuid

import boto3
import botocore.config
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import postgres_server  # noqa: E402
import redshift_server  # noqa: E402
import servers  # noqa: E402
import service  # noqa: E402


def pytest_sessionstart(session):
    # As Ctrl-C does, it ends the servers too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not service.PROGRAM.exists():
        pytest.exit(f"{service.PROGRAM} is missing: cargo build --release", returncode=2)


def pytest_collection_modifyitems(items):
    """The file that takes longest goes first: of several workers none works long after the others."""
    items.sort(key=lambda item: item.path.name != "test_system_b_kinesis.py")


class GivenS3(servers.SeaweedFS):
    """The server that `cargo xtask test` started."""

    def __init__(self):
        self.endpoint = os.environ["LAKEWARD_TEST_S3"]
        self.bucket = os.environ["LAKEWARD_TEST_S3_BUCKET"]
        self.access_key = os.environ["LAKEWARD_TEST_S3_ACCESS_KEY"]
        self.secret_key = os.environ["LAKEWARD_TEST_S3_SECRET_KEY"]

    def stop(self):
        pass


@pytest.fixture(scope="session")
def s3():
    server = GivenS3() if "LAKEWARD_TEST_S3" in os.environ else servers.SeaweedFS()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def pg():
    server = postgres_server.Postgres()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redshift(s3):
    server = redshift_server.Redshift(s3)
    yield server
    server.stop()


@pytest.fixture
def table():
    """The name of a table of the test's own."""
    return f"t_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def dev(tmp_path):
    """`lakeward dev` on a free port in an empty folder."""
    with service.Service.dev(tmp_path) as running:
        yield running


def firehose_client(url, attempts=1, **settings):
    """An unmodified boto3 client; only the endpoint is ours."""
    config = botocore.config.Config(
        retries={"total_max_attempts": attempts}, connect_timeout=5, read_timeout=30, **settings
    )
    session = boto3.session.Session("AKIATEST", "secret", region_name="us-east-1")
    return session.client("firehose", endpoint_url=url, config=config)


@pytest.fixture
def firehose(dev):
    return firehose_client(dev.url)
