"""Into ClickHouse exactly once: the real engine behind faults, kills and time, read back by clickhouse-connect."""

import collections
import datetime
import decimal
import json
import threading
import time

import pytest

import service
from clickhouse_server import ClickHouse
from service import Service, config, lakeward, pipeline

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


@pytest.mark.parametrize("output", ["parquet", "ndjson", "gzip", "zstd"])
def test_values_come_through(tmp_path, server, database, output):
    record = {
        "id": 9007199254740993, "ratio": 0.1, "text": "ä\n\"x\"\\ \u0000 end", "flag": True, "none": None,
        "at": "2026-03-01T05:06:07.123456+02:00", "price": "12345678901234567890.123456789", "day": "2026-02-28",
        "tags": ["a", None, "c"], "user": {"id": 7, "deep": {"x": [1, 2]}}, "any": {"k": [1, "two"]},
        "items": [{"sku": "s1", "n": 1}, {"sku": "s2", "n": None}],
    }
    empty = {"id": -1}
    schema = {"columns": {"at": "timestamptz", "price": "decimal(38,9)", "day": "date", "any": "json"}}
    formats = {"parquet": {"format": "parquet"}, "ndjson": {"format": "ndjson"}}
    settings = formats.get(output) or {"format": "ndjson", "compression": output}
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


# Code, HTTP status or kind of fault; whether the rows are stored all the same.
PASSING = [
    *[("error", {"code": code}) for code in (
        3, 107, 159, 164, 201, 202, 203, 209, 210, 236, 241, 242, 252, 285, 286, 319, 394, 425, 439, 499, 735, 999,
    )],
    *[("error_after", {"code": code}) for code in (159, 209, 210, 241, 319, 999)],
    *[("status", {"status": status}) for status in (408, 429, 500, 502, 503, 504)],
    ("drop_before", {}), ("drop_after", {}), ("late", {"code": 241}), ("late", {"code": 241, "tag": 0}),
    ("late_header", {"code": 252}),
]


def test_everything_that_passes_is_tried_again(tmp_path, server, database):
    """Contract, section 3.3: every code, and what comes without one."""
    create(server, database)
    with start(tmp_path, server, database, batch={"age": "20ms"}) as running:
        for number, (kind, settings) in enumerate(PASSING):
            before = len(inserts(server))
            server.fault(kind, retry_after=0, **settings)
            send(running, numbers(number * 10, number * 10 + 10))
            wait_until(lambda: ids(server, database)[-1:] == [number * 10 + 9], what=f"{kind} {settings}")  # noqa: B023
            running.wait_until_delivered()
            tries = len(inserts(server)) - before
            # What is there already is not sent again.
            assert tries == (1 if kind.endswith("_after") else 2), (kind, settings)
        assert ids(server, database) == list(range(len(PASSING) * 10))
        assert running.audit()["balanced"]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (16, "NO_SUCH"), (60, "create the table"), (62, "Code: 62"), (81, "database"), (192, "check user"),
        (193, "check user"), (194, "check user"), (516, "check user"), (497, "grant"), (452, "Code: 452"),
    ],
)
def test_what_is_refused_halts_and_goes_on(tmp_path, server, database, code, says):
    create(server, database)
    with start(tmp_path, server, database) as running:
        server.fault("error", code=code, message="NO_SUCH", n=1)
        send(running, numbers(0, 10))
        said = wait_until(lambda: state(running) if state(running)["state"] == "halted" else None)
        assert said["code"] == "LW-2001" and says in said["error"], said
        assert server.password not in json.dumps(said)
        if code != 60:
            return
    # It is asked again every 15 s, and at a start.
    with start(tmp_path, server, database) as running:
        running.wait_until_delivered()
        assert ids(server, database) == list(range(10))


def test_a_lost_reply_a_kill_and_a_server_that_forgot(tmp_path, server, database):
    """The insert is applied, its reply lost, the process killed, and the server's memory of inserts has passed."""
    create(server, database, settings="SETTINGS non_replicated_deduplication_window = 1")
    server.sql(f"CREATE TABLE `{database}`.sums (d UInt8, n UInt64) ENGINE = SummingMergeTree ORDER BY d {WINDOW}")
    server.sql(
        f"CREATE MATERIALIZED VIEW `{database}`.mv TO `{database}`.sums AS "
        f"SELECT 0 AS d, count() AS n FROM `{database}`.events GROUP BY d"
    )
    running = start(tmp_path, server, database).start()
    try:
        for turn in range(3):
            server.forget()
            server.fault("hang", ms=60_000)
            send(running, numbers(turn * 100, turn * 100 + 100))
            # It is in the table, and nobody was told.
            wait_until(lambda: turn * 100 + 99 in ids(server, database))  # noqa: B023
            running.kill()
            for other in range(3):
                row = [[100_000 + turn * 10 + other, "other", datetime.datetime(2026, 1, 1)]]
                with server.client() as client:
                    client.insert(f"`{database}`.events", row, column_names=["id", "name", "at"])
            running.start()
            running.wait_until_delivered()
            assert len(inserts(server)) == 4, "the batch was not sent again"
        ours = [n for n in ids(server, database) if n < 100_000]
        assert ours == list(range(300))
        assert server.value(f"SELECT sum(n) FROM `{database}`.sums") == "309"
        assert running.audit()["balanced"]
    finally:
        running.kill()


def test_the_server_dies_too(tmp_path, server, database):
    create(server, database)
    with start(tmp_path, server, database, batch={"age": "20ms", "records": 200}) as running:
        for turn in range(4):
            send(running, numbers(turn * 1000, turn * 1000 + 1000))
            wait_until(lambda: len(ids(server, database)) > turn * 1000)  # noqa: B023
            server.kill()
            if turn % 2:
                running.kill()
                running.start()
            server.start()
        running.wait_until_delivered()
        assert ids(server, database) == list(range(4000))
        assert running.audit()["balanced"]


def test_an_earlier_try_that_still_runs_is_not_doubled(tmp_path, server, database):
    """The client gave up while the server had not stored anything: nothing is there to be found yet."""
    create(server, database, settings="")
    with start(tmp_path, server, database, timeout="1s") as running:
        server.fault("delay", ms=3_000)
        send(running, numbers(0, 50))
        running.wait_until_delivered()
        assert ids(server, database) == list(range(50))
        assert len(inserts(server)) > 1


def test_a_batch_of_which_a_part_is_there_is_completed(tmp_path, server, database):
    server.sql(
        f"CREATE TABLE `{database}`.events (id UInt64, name String, at DateTime64(3), {LINEAGE}) "
        f"ENGINE = MergeTree PARTITION BY intDiv(id, 10) ORDER BY id"
    )
    running = start(tmp_path, server, database).start()
    try:
        server.fault("hang", ms=60_000)
        send(running, numbers(0, 100))
        wait_until(lambda: len(ids(server, database)) == 100)
        running.kill()
        # As if the server had died between two partitions.
        server.sql(f"ALTER TABLE `{database}`.events DROP PARTITION 3")
        server.sql(f"ALTER TABLE `{database}`.events DROP PARTITION 7")
        running.start()
        running.wait_until_delivered()
        assert ids(server, database) == list(range(100))
        assert "NOT IN" in inserts(server)[-1]["query"]
        assert running.audit()["balanced"]
    finally:
        running.kill()


def test_without_lineage_the_table_has_to_remember(tmp_path, server, database):
    columns = "id UInt64, name String, at DateTime64(3)"
    server.sql(f"CREATE TABLE `{database}`.events ({columns}) ENGINE = MergeTree ORDER BY id")
    server.sql(f"CREATE TABLE `{database}`.sums (d UInt8, n UInt64) ENGINE = SummingMergeTree ORDER BY d")
    server.sql(
        f"CREATE MATERIALIZED VIEW `{database}`.mv TO `{database}`.sums AS "
        f"SELECT 0 AS d, count() AS n FROM `{database}`.events GROUP BY d"
    )
    running = start(tmp_path, server, database, lineage=False)
    checked = lakeward("check", "-c", tmp_path / "lakeward.yaml", "--connect", check=False)
    assert checked.returncode != 0
    running.start()
    try:
        send(running, numbers(0, 100))
        said = wait_until(lambda: state(running) if state(running)["state"] == "halted" else None)["error"]
        for table in ("events", "sums"):
            alter = f"ALTER TABLE `{database}`.`{table}` MODIFY SETTING non_replicated_deduplication_window = 10000"
            assert alter in said
            server.sql(alter)
        server.fault("drop_after", n=2)
        running.kill()
        running.start()
        running.wait_until_delivered()
        send(running, numbers(100, 200))
        running.wait_until_delivered()
        assert ids(server, database) == list(range(200))
        assert server.value(f"SELECT sum(n) FROM `{database}`.sums") == "200"
        assert len(inserts(server)) >= 4
    finally:
        running.kill()


BAD = "2026-03-01T05:00:00Z"


def test_rows_that_the_table_refuses_are_kept_and_come_back(tmp_path, server, database):
    create(server, database, "id UInt64, name String, at DateTime64(3), CONSTRAINT named CHECK name != 'nobody'")
    bad = [{"id": -5, "name": "below", "at": BAD}, {"id": 1_000_001, "name": "nobody", "at": BAD}]
    records = numbers(0, 700) + [bad[0]] + numbers(700, 900) + [bad[1]] + numbers(900, 1000)
    with start(tmp_path, server, database, batch={"age": "300ms"}) as running:
        send(running, records)
        [status] = running.wait_until_delivered()
        assert ids(server, database) == list(range(1000))
        assert (status["delivered"], status["quarantined"]) == (1000, 2)
        shown = lakeward("quarantine", "show", *running.where, "--json", "events").stdout.splitlines()
        kept = [json.loads(line) for line in shown]
        assert [json.loads(line["data"]) for line in kept] == bad
        assert all(line["reason"] == "destination.refused" for line in kept), kept
        assert "does not fit UInt64" in kept[0]["message"] and "Constraint" in kept[1]["message"], kept
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


def test_kills_while_bad_rows_are_sorted_out(tmp_path, server, database):
    create(server, database)
    running = start(tmp_path, server, database, batch={"age": "50ms", "records": 500}).start()
    try:
        for turn in range(6):
            records = numbers(turn * 500, turn * 500 + 500)
            for at in (3, 250, 251, 499):
                records[at] = {"id": -at, "name": "below", "at": BAD}
            server.fault("delay", ms=30, n=20, match="INSERT")
            send(running, records)
            time.sleep(0.1 + 0.07 * turn)  # a moment of its own each time
            running.kill()
            server.forget()
            running.start()
        [status] = running.wait_until_delivered()
        expected = [n for n in range(3000) if n % 500 not in (3, 250, 251, 499)]
        assert ids(server, database) == expected
        assert status["quarantined"] == 24
        assert running.audit()["balanced"]
    finally:
        running.kill()


def test_a_table_that_takes_no_row_halts(tmp_path, server, database):
    create(server, database, "id UUID, name String, at DateTime64(3)")
    with start(tmp_path, server, database) as running:
        send(running, [{"id": f"no-{n}", "name": "x", "at": BAD} for n in range(20)])
        said = wait_until(lambda: state(running) if state(running)["state"] == "halted" else None)
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


def test_a_missing_column_waits_for_its_alter(tmp_path, server, database):
    create(server, database)
    with start(tmp_path, server, database) as running:
        send(running, numbers(0, 10))
        running.wait_until_delivered()
        send(running, [{"id": 10, "name": "x", "at": BAD, "extra": 5}])
        said = wait_until(lambda: state(running) if state(running)["state"] == "halted" else None)["error"]
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
        wait_until(lambda: state(running)["state"] == "halted")


def test_not_more_parts_in_a_minute_than_configured(tmp_path, server, database):
    create(server, database)
    with start(tmp_path, server, database, batch={"age": "20ms"}, parts_per_minute=3) as running:
        for number in range(8):
            send(running, numbers(number * 10, number * 10 + 10))
            time.sleep(0.1)
        wait_until(lambda: len(inserts(server)) == 3)
        time.sleep(1)  # time in which a fourth would come
        assert len(inserts(server)) == 3
        assert running.pending() > 0


def test_a_faulty_server_under_load(tmp_path, server, database):
    create(server, database, settings="SETTINGS non_replicated_deduplication_window = 1")
    running = start(tmp_path, server, database, batch={"age": "20ms", "records": 300}).start()
    stop = threading.Event()

    def faults():
        kinds = [
            ("drop_after", {}), ("error", {"code": 252}), ("error_after", {"code": 319}), ("status", {"status": 502}),
            ("drop_before", {}), ("delay", {"ms": 50}), ("late", {"code": 241}),
        ]
        number = 0
        while not stop.wait(0.05):
            kind, settings = kinds[number % len(kinds)]
            server.fault(kind, retry_after=0, **settings)
            number += 1

    thread = threading.Thread(target=faults)
    thread.start()
    try:
        for turn in range(15):
            send(running, numbers(turn * 1000, turn * 1000 + 1000))
            if turn % 5 == 4:
                running.kill()
                running.start()
    finally:
        stop.set()
        thread.join()
    try:
        server.forget()
        running.wait_until_delivered()
        counted = collections.Counter(ids(server, database))
        assert sorted(counted) == list(range(15_000)) and set(counted.values()) == {1}
        assert running.audit()["balanced"]
    finally:
        running.kill()


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
