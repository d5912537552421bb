"""What the tests of ClickHouse share: a server, a database of each test's own, a pipeline into it."""

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


@pytest.fixture
def database(server, request):
    """A database of the test's own, on a server without faults."""
    server.forget()
    name = "".join(c if c.isalnum() else "_" for c in request.node.name)
    server.sql(f"CREATE DATABASE `{name}`")
    yield name
    server.forget()


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


def inserts(server):
    return [entry for entry in server.log("INSERT INTO") if "_lakeward_check" not in entry["query"]]


BAD = "2026-03-01T05:00:00Z"
