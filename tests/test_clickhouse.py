"""Into ClickHouse: values, columns, bad rows, parts; read back by clickhouse-connect."""

import datetime
import decimal
import json
import time

import pytest

import service
from clickhouse_events import (  # noqa: F401
    BAD, LINEAGE, create, database, destination, ids, inserts, numbers, server, start,
)
from service import config, lakeward, pipeline, send, wait_until


def test_every_insert_says_what_exactly_once_rests_on(tmp_path, server, database):
    create(server, database)
    with start(tmp_path, server, database, settings={"insert_quorum": "0"}) as running:
        send(running, numbers(0, 500))
        running.wait_until_delivered()
        assert ids(server, database) == list(range(500))
        [insert] = inserts(server)
        settings = insert["settings"]
        expected = {
            "async_insert": "0", "wait_end_of_query": "1", "insert_deduplicate": "1",
            "deduplicate_blocks_in_dependent_materialized_views": "1", "date_time_input_format": "best_effort",
            "input_format_skip_unknown_fields": "0", "input_format_allow_errors_num": "0",
            "max_insert_block_size": "500", "min_insert_block_size_rows": "500", "min_insert_block_size_bytes": "0",
            "insert_quorum": "0",
        }
        assert {name: settings.get(name) for name in expected} == expected
        token = settings["insert_deduplication_token"]
        batch = server.value(f"SELECT any(_lakeward_batch) FROM `{database}`.events")
        assert token.startswith(f"{batch}-0-") and settings["query_id"] == f"lakeward-{token}"
        assert running.audit()["balanced"]


@pytest.mark.parametrize("output", ["parquet", "ndjson", "gzip", "zstd", "row_binary"])
def test_values_come_through(tmp_path, server, database, output):
    record = {
        "id": 9007199254740993, "ratio": 0.1, "text": "ä\n\"x\"\\ \u0000 end", "flag": True, "none": None,
        "at": "2026-03-01T05:06:07.123456+02:00", "price": "12345678901234567890.123456789", "day": "2026-02-28",
        "tags": ["a", None, "c"], "user": {"id": 7, "deep": {"x": [1, 2]}}, "any": {"k": [1, "two"]},
        "items": [{"sku": "s1", "n": 1}, {"sku": "s2", "n": None}],
    }
    empty = {"id": -1}
    schema = {"columns": {"at": "timestamptz", "price": "decimal(38,9)", "day": "date", "any": "json"}}
    is_packed = output in ("gzip", "zstd")
    settings = {"format": "ndjson", "compression": output} if is_packed else {"format": output}
    with start(tmp_path, server, database, output=settings, schema=schema, auto_create={}) as running:
        send(running, [record, empty])
        running.wait_until_delivered()
    with server.client() as client:
        result = client.query(f"SELECT * FROM `{database}`.events ORDER BY id DESC")
        one, two = (dict(zip(result.column_names, row, strict=True)) for row in result.result_rows)
        types = dict(zip(result.column_names, (t.name for t in result.column_types), strict=True))
    assert types["at"] == "Nullable(DateTime64(6, 'UTC'))" and types["price"] == "Nullable(Decimal(38, 9))"
    at = datetime.datetime(2026, 3, 1, 3, 6, 7, 123456, tzinfo=datetime.UTC)
    assert one["at"].replace(tzinfo=datetime.UTC) == at
    assert (one["id"], one["ratio"], one["text"], one["flag"]) == (
        record["id"], record["ratio"], record["text"], True,
    )
    assert one["price"] == decimal.Decimal(record["price"]) and one["day"] == datetime.date(2026, 2, 28)
    assert list(one["tags"]) == record["tags"] and json.loads(one["any"]) == record["any"]
    assert one["user"] == {"id": 7, "deep": {"x": [1, 2]}} and list(one["items"]) == record["items"]
    assert two["id"] == -1 and two["at"] is None and two["price"] is None and list(two["tags"]) == []
    assert (one["_lakeward_row"], two["_lakeward_row"]) == (0, 1)


@pytest.mark.parametrize("output", ["parquet", "ndjson", "row_binary"])
def test_rows_that_the_table_refuses_are_kept_and_come_back(tmp_path, server, database, output):
    create(server, database, "id UInt64, name String, at DateTime64(3), CONSTRAINT named CHECK name != 'nobody'")
    bad = [{"id": -5, "name": "below", "at": BAD}, {"id": 1_000_001, "name": "nobody", "at": BAD}]
    records = numbers(0, 700) + [bad[0]] + numbers(700, 900) + [bad[1]] + numbers(900, 1000)
    with start(tmp_path, server, database, output={"format": output}, batch={"age": "300ms"}) as running:
        send(running, records)
        [status] = running.wait_until_delivered()
        assert ids(server, database) == list(range(1000))
        assert (status["delivered"], status["quarantined"]) == (1000, 2)
        shown = lakeward("quarantine", "show", *running.where, "--json", "events").stdout.splitlines()
        kept = [json.loads(line) for line in shown]
        assert [json.loads(line["data"]) for line in kept] == bad
        assert all(line["reason"] == "destination.refused" for line in kept), kept
        assert ("does not fit UInt64" in kept[0]["message"] or output == "ndjson") and "Constraint" in kept[1]["message"], kept
        # A batch of nothing but bad rows is no reason to stop.
        send(running, [{"id": -6, "name": "below", "at": BAD}])
        [status] = running.wait_until_delivered()
        assert status["quarantined"] == 3
        server.sql(f"ALTER TABLE `{database}`.events DROP CONSTRAINT named")
        lakeward("quarantine", "replay", *running.where, "--json", "--yes", "events")
        wait_until(lambda: ids(server, database)[-1] == 1_000_001)
        running.wait_until_delivered()
        assert ids(server, database) == [*range(1000), 1_000_001]
        assert running.audit()["balanced"]


def test_a_table_that_takes_no_row_halts(tmp_path, server, database):
    create(server, database, "id UUID, name String, at DateTime64(3)")
    with start(tmp_path, server, database) as running:
        send(running, [{"id": f"no-{n}", "name": "x", "at": BAD} for n in range(20)])
        said = running.wait_until_halted()
        assert "rather the table's columns are wrong" in said["error"], said
        assert "does not fit UUID" in said["error"]
        assert running.pending() == 20


def test_columns_come_and_grow(tmp_path, server, database):
    create_as = {
        "engine": "replacing_merge_tree", "order_by": ["id"], "partition_by": {"column": "at", "by": "month"},
        "ttl": {"column": "at", "months": 120},
    }
    schema = {"columns": {"at": "timestamptz"}}
    with start(tmp_path, server, database, schema=schema, auto_create=create_as, auto_evolve=True) as running:
        send(running, [{"id": 1, "at": BAD, "n": 1, "user": {"a": 1}}])
        running.wait_until_delivered()
        send(running, [{"id": 2, "at": BAD, "n": 1.5, "user": {"a": 2, "b": "x"}, "new": [True]}])
        running.wait_until_delivered()
    with server.client() as client:
        rows = client.query(f"SELECT id, n, user, new FROM `{database}`.events ORDER BY id").result_rows
    assert [(row[0], row[1], row[2], list(row[3])) for row in rows] == [
        (1, 1.0, {"a": 1, "b": None}, []), (2, 1.5, {"a": 2, "b": "x"}, [True]),
    ]
    [[engine, key, partition]] = server.sql(
        f"SELECT engine, sorting_key, partition_key FROM system.tables WHERE database = '{database}'"
    )
    assert (engine, key.strip("()"), partition) == ("ReplacingMergeTree", "id", "toYYYYMM(at)")


def test_a_table_of_others_gets_lineage(tmp_path, server, database):
    server.sql(f"CREATE TABLE `{database}`.events (id UInt64) ENGINE = MergeTree ORDER BY id")
    server.sql(f"INSERT INTO `{database}`.events VALUES (1000)")
    with start(tmp_path, server, database, auto_evolve=True) as running:
        send(running, [{"id": n} for n in range(10)])
        running.wait_until_delivered()
        assert ids(server, database) == [*range(10), 1000]
        assert running.audit()["balanced"]
    indexes = f"SELECT name FROM system.data_skipping_indices WHERE database = '{database}'"
    assert server.sql(indexes) == [["_lakeward_batch"]]


def test_a_missing_column_waits_for_its_alter(tmp_path, server, database):
    create(server, database)
    with start(tmp_path, server, database) as running:
        send(running, numbers(0, 10))
        running.wait_until_delivered()
        send(running, [{"id": 10, "name": "x", "at": BAD, "extra": 5}])
        said = running.wait_until_halted()["error"]
        alter = f"ALTER TABLE `{database}`.`events` ADD COLUMN IF NOT EXISTS `extra` Nullable(Int64)"
        assert alter in said
        server.sql(alter)
        # It would ask again within 15 s.
        running.kill()
        running.start()
        running.wait_until_delivered()
        assert server.value(f"SELECT sum(extra) FROM `{database}`.events") == "5"


def test_many_partitions_go_in_at_once_or_in_groups(tmp_path, server, database):
    server.sql(
        f"CREATE TABLE `{database}`.events (id UInt64, day Date32, {LINEAGE}) "
        f"ENGINE = MergeTree PARTITION BY toYYYYMMDD(day) ORDER BY id"
    )
    days = [str(datetime.date(2026, 1, 1) + datetime.timedelta(days=n)) for n in range(250)]
    records = [{"id": n, "day": day} for n, day in enumerate(days)]
    schema = {"columns": {"day": "date"}}
    with start(tmp_path, server, database, schema=schema) as running:
        send(running, records)
        running.wait_until_delivered()
        assert ids(server, database) == list(range(250))
        assert len(inserts(server)) == 1
    server.forget()
    # A server that does not let the limit be raised.
    limit = {"max_partitions_per_insert_block": "100"}
    with start(tmp_path, server, database, schema=schema, settings=limit) as running:
        send(running, [{**record, "id": record["id"] + 250} for record in records])
        running.wait_until_delivered()
        assert ids(server, database) == list(range(500))
        assert len(inserts(server)) > 3
        assert running.audit()["balanced"]


def test_settings_that_a_server_does_not_know(tmp_path, server, database):
    create(server, database)
    unknown = "Unknown setting 'deduplicate_blocks_in_dependent_materialized_views'"
    with start(tmp_path, server, database) as running:
        server.fault("error", code=115, message=unknown)
        send(running, numbers(0, 10))
        running.wait_until_delivered()
        last = inserts(server)[-1]["settings"]
        assert "deduplicate_blocks_in_dependent_materialized_views" not in last
        assert "insert_deduplication_token" in last
        server.fault("error", code=115, message="Unknown setting 'insert_deduplication_token'")
        send(running, numbers(10, 20))
        running.wait_until_halted()


def test_not_more_parts_in_a_minute_than_configured(tmp_path, server, database):
    """Beside a pipeline of the same stream that nothing holds back."""
    def flow(name, limit):
        into = destination(server, database, table=name, auto_create={}, parts_per_minute=limit)
        return {**pipeline(name, into, {"age": "20ms"}), "stream": "events"}

    def inserted(name):
        return sum(f"`{name}`" in entry["query"] for entry in inserts(server))

    with service.Service.run(config(tmp_path, [flow("slow", 3), flow("free", 6000)])) as running:
        for number in range(8):
            send(running, numbers(number * 10, number * 10 + 10))
            wait_until(lambda: inserted("free") == number + 1)  # noqa: B023
        wait_until(lambda: inserted("slow") >= 3)
        assert inserted("slow") == 3
        assert running.pending() > 0


def test_the_check_names_what_is_wrong(tmp_path, server, database):
    def check(**settings):
        one = pipeline("events", destination(server, database, **settings))
        done = lakeward("check", "-c", config(tmp_path, [one]), "--connect", check=False)
        return done.returncode, done.stdout + done.stderr

    def says(expected, **settings):
        code, text = check(**settings)
        flat = " ".join(text.replace("│", " ").replace("┆", " ").split())
        assert code != 0 and expected in flat, text

    says("create it, or set auto_create")
    assert check(auto_create={})[0] == 0
    says("check user and password", password="wrong")
    says("CREATE DATABASE `absent`", database="absent")
    create(server, database)
    assert check()[0] == 0
    says("can only read", user=server.read_only_user)
    server.sql(f"CREATE TABLE `{database}`.log (id UInt64) ENGINE = Log")
    says("is a Log", table="log")
    server.sql(f"CREATE TABLE `{database}`.plain (id UInt64) ENGINE = MergeTree ORDER BY id")
    says("ADD COLUMN IF NOT EXISTS `_lakeward_batch`", table="plain")
    says("non_replicated_deduplication_window = 10000", table="plain", lineage=False)
    one = pipeline("events", destination(server, database, url="http://127.0.0.1:9000"))
    done = lakeward("check", "-c", config(tmp_path, [one]), check=False)
    assert done.returncode == 78 and "native protocol" in done.stdout + done.stderr
    assert service.http("GET", server.url + "/ping")[0] == 200
