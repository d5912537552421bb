"""What the tests of ClickHouse share: a server, a database of each test's own, a pipeline into it."""

import json
import time

import pytest

from clickhouse_server import ClickHouse
from service import Service, config, pipeline

WINDOW = "SETTINGS non_replicated_deduplication_window = 100"
LINEAGE = "_lakeward_batch LowCardinality(String), _lakeward_row Int64"


@pytest.fixture(scope="module")
def server():
    running = ClickHouse()
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def no_faults(server):
    server.forget()
    yield
    server.forget()


@pytest.fixture
def database(server, request):
    """A database of the test's own."""
    name = "".join(c if c.isalnum() else "_" for c in request.node.name)
    server.sql(f"CREATE DATABASE `{name}`")
    return name


def destination(server, of_test, **settings):
    return {
        "type": "clickhouse", "url": server.url, "user": server.user, "password": server.password,
        "database": of_test, "table": "events", "parts_per_minute": 6000, **settings,
    }


def start(folder, server, database, output=None, batch=None, schema=None, **settings):
    one = pipeline("events", destination(server, database, **settings), batch=batch, **(output or {}))
    if schema:
        one["schema"] = schema
    return Service.run(config(folder, [one]))


def lines(records):
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def send(running, records):
    status, answer = running.records("events", lines(records))
    assert status == 200, answer


def numbers(first, last):
    return [{"id": n, "name": f"n{n}", "at": f"2026-03-01T05:{n % 60:02}:00.123456Z"} for n in range(first, last)]


def ids(server, database, table="events"):
    with server.client() as client:
        rows = client.query(f"SELECT id FROM `{database}`.`{table}` ORDER BY id").result_rows
    return [row[0] for row in rows]


def create(server, database, columns="id UInt64, name String, at DateTime64(3)", settings=WINDOW, engine="MergeTree"):
    server.sql(
        f"CREATE TABLE `{database}`.events ({columns}, {LINEAGE}) ENGINE = {engine} ORDER BY id {settings}"
    )


def wait_until(condition, timeout=30, what=""):
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.02)
    return value


def state(running):
    [one] = running.pipelines()
    return one["state"]


def inserts(server):
    return [entry for entry in server.log("INSERT INTO") if "_lakeward_check" not in entry["query"]]


BAD = "2026-03-01T05:00:00Z"
