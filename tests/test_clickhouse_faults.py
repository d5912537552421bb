"""Into ClickHouse exactly once: the real engine behind faults, kills and time."""

import collections
import datetime
import json
import threading
import time

import pytest

from clickhouse_events import (  # noqa: F401
    BAD, LINEAGE, WINDOW, create, database, ids, inserts, numbers, server, start,
)
from service import lakeward, send, wait_until


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
        said = running.wait_until_halted()
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


def test_a_server_that_takes_lost_rows_for_known_is_noticed(tmp_path, server, database):
    """The insert's token is remembered, its rows are gone: a repeat is answered with success and does nothing."""
    create(server, database)
    running = start(tmp_path, server, database).start()
    try:
        server.fault("hang", ms=60_000)
        send(running, numbers(0, 50))
        wait_until(lambda: len(ids(server, database)) == 50)
        running.kill()
        server.sql(f"ALTER TABLE `{database}`.events DELETE WHERE 1", mutations_sync=2)
        assert ids(server, database) == []
        running.start()
        running.wait_until_delivered()
        assert ids(server, database) == list(range(50))
        assert len(inserts(server)) == 3
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
        said = running.wait_until_halted()["error"]
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
