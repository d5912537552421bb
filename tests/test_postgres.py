"""PostgreSQL as a destination, against a real server: once each, whatever is killed or lost; any content; rows that
do not fit; messages that say what to do."""

import decimal

import pytest

from postgres_server import LosingProxy, Postgres, programs
from service import config, events_into, lakeward, pipeline, send, send_while_killed, wait_until

pytestmark = pytest.mark.skipif(programs() is None, reason="there is no PostgreSQL on this machine")


def test_any_content_comes_back_row_by_row(pg, tmp_path, table):
    texts = [
        "", " ", "\\N", "\\.", "a\n\\.\nb", "~", "a~b", "\"", "\"\"", "'", "a,b", "line\nbreak", "\r\n", "\ttab", "\\",
        "@NULL@", "NULL", "null", "🦀", "é", "\u2028", "x" * 100_000, "{\"a\": 1}", "--", ";", "$1", "\x01\x7f",
    ]
    events = [
        {
            "n": n, "text": text, "maybe": None if n % 3 else text, "float": n / 7, "big": 2**62 + n, "yes": n % 2 == 0,
            "nested": {"k": text, "list": [1, None, text]}, "at": "2026-01-02T03:04:05.123456Z",
        }
        for n, text in enumerate(texts)
    ]
    schema = {"columns": {"at": "timestamptz", "price": "decimal(38,10)", "day": "date"}}
    for n, event in enumerate(events):
        event["price"] = f"{n}.1234567890"
        event["day"] = "2024-02-29"
    with events_into(tmp_path, pg.destination(table), schema=schema) as running:
        send(running, events)
        running.wait_until_delivered()
        running.audit()
    rows = pg.rows(
        f"SELECT n, text, maybe, \"float\", big, yes, nested, at AT TIME ZONE 'UTC', price, day FROM {table} ORDER BY n"
    )
    assert len(rows) == len(events)
    for event, row in zip(events, rows):
        n, text, maybe, number, big, yes, nested, at, price, day = row
        assert (n, text, maybe, number, big, yes) == (
            event["n"], event["text"], event["maybe"], event["float"], event["big"], event["yes"],
        )
        assert nested == event["nested"]
        assert at.isoformat() == "2026-01-02T03:04:05.123456"
        assert price == decimal.Decimal(event["price"]) and day.isoformat() == "2024-02-29"


def test_a_column_of_nulls_and_ends_of_copy(pg, tmp_path, table):
    events = [{"v": v} for v in ("\\.", "", "\\N", "x")] + [{"v": None}, {}]
    with events_into(tmp_path, pg.destination(table)) as running:
        send(running, events)
        running.wait_until_delivered()
    found = [row[0] for row in pg.rows(f"SELECT v FROM {table}")]
    assert sorted(found, key=str) == sorted(["\\.", "", "\\N", "x", None, None], key=str)


def test_kills_at_random_moments_leave_each_row_once(pg, tmp_path, table):
    running = events_into(tmp_path, pg.destination(table), {"age": "40ms", "records": 100})
    acknowledged = send_while_killed(running, kills=12, seed=7, enough=200)
    running.wait_until_delivered()
    audit = running.audit()
    running.kill()
    found = [row[0] for row in pg.rows(f"SELECT n FROM {table}")]
    assert len(found) == len(set(found)), "a row is there twice"
    assert acknowledged <= set(found), "an acknowledged row is missing"
    ledger = pg.rows(f"SELECT sum(rows), count(*) FROM lakeward_loads WHERE target LIKE '%{table}%'")[0]
    assert ledger[0] == len(found) and ledger[1] > 1, audit


@pytest.mark.parametrize("kill", [False, True])
def test_a_commit_whose_answer_is_lost_is_not_done_again(pg, tmp_path, table, kill):
    proxy = LosingProxy(pg.port)
    try:
        with events_into(tmp_path, pg.destination(table, port=proxy.port)) as running:
            send(running, [{"n": 1}])
            running.wait_until_delivered()
            proxy.armed = True
            send(running, [{"n": n} for n in range(2, 50)])
            wait_until(lambda: proxy.lost == 1)
            # The server did it, and nobody here knows.
            assert pg.rows(f"SELECT count(*) FROM {table}")[0][0] == 49
            if kill:
                running.kill()
                proxy.refusing = False
                running.start()
            proxy.refusing = False
            running.wait_until_delivered()
            running.audit()
        assert sorted(row[0] for row in pg.rows(f"SELECT n FROM {table}")) == list(range(1, 50))
    finally:
        proxy.stop()


def test_rows_that_do_not_fit_go_to_quarantine_and_come_back_once(pg, tmp_path, table):
    pg.run(
        f"CREATE TABLE {table} (n bigint PRIMARY KEY, small varchar(3) NOT NULL, _rescued jsonb)",
        f"GRANT ALL ON {table} TO loader",
    )
    events = [{"n": n, "small": "ok"} for n in range(5000)]
    events[17]["small"] = "too long\nwith a line"
    events[18]["small"] = "nul\x00"
    events[4000]["small"] = None
    events[4999]["n"] = 0
    with events_into(tmp_path, pg.destination(table), {"age": "1s", "records": 10_000}) as running:
        send(running, events)
        running.wait_until_delivered()
        running.audit()
        assert pg.rows(f"SELECT count(*) FROM {table}")[0][0] == 4996
        lake = tmp_path / "quarantine"
        files = [path.read_text() for path in lake.rglob("*") if path.is_file()]
        text = "\n".join(files)
        for reason in ("22001", "22021", "23502", "23505"):
            assert reason in text, (reason, text[:2000])
        assert "destination.refused" in text
        # What is mended comes in once; the rest is refused again.
        pg.run(f"ALTER TABLE {table} ALTER small TYPE text, ALTER small DROP NOT NULL")
        for _ in range(2):
            lakeward("quarantine", "replay", *running.where, "--yes", "--json", "events")
            running.wait_until_delivered()
        running.audit()
    assert pg.rows(f"SELECT count(*), count(DISTINCT n) FROM {table}")[0] == (4998, 4998)
    mended = pg.rows(f"SELECT small FROM {table} WHERE n IN (17, 4000) ORDER BY n")
    assert mended == [("too long\nwith a line",), (None,)]


def test_a_table_that_takes_no_row_halts_and_says_why(pg, tmp_path, table):
    pg.run(f"CREATE TABLE {table} (n date, _rescued jsonb)", f"GRANT ALL ON {table} TO loader")
    with events_into(tmp_path, pg.destination(table)) as running:
        send(running, [{"n": f"secret {n}"} for n in range(20)])
        wait_until(lambda: "not one of 20 rows fits" in running.log_tail())
        assert "secret" not in running.log_tail()
        pg.run(f"ALTER TABLE {table} ALTER n TYPE text")


def test_rows_with_the_same_key_replace_each_other(pg, tmp_path, table):
    destination = pg.destination(table, merge={"key": ["id"]})
    with events_into(tmp_path, destination, {"age": "100ms", "records": 1000}) as running:
        send(running, [{"id": i, "v": 1} for i in range(100)] + [{"id": 5, "v": 2}, {"id": None, "v": 7}])
        running.wait_until_delivered()
        send(running, [{"id": 5, "v": 3}, {"id": 100, "v": 1}, {"id": 5, "v": 4}, {"id": None, "v": 7}])
        running.wait_until_delivered()
        running.audit()
    rows = pg.rows(f"SELECT id, v FROM {table} ORDER BY id, v")
    assert rows == [*((i, 4 if i == 5 else 1) for i in range(101)), (None, 7), (None, 7)]


def test_new_columns_and_fractions_change_the_table(pg, tmp_path, table):
    with events_into(tmp_path, pg.destination(table)) as running:
        send(running, [{"n": 1}])
        running.wait_until_delivered()
        send(running, [{"n": 1.5, "Added": "x"}])
        running.wait_until_delivered()
    assert pg.rows(f'SELECT n, "Added" FROM {table} ORDER BY n') == [(1.0, None), (1.5, "x")]


def check_messages(tmp_path, destination):
    path = config(tmp_path, [pipeline("events", destination)])
    done = lakeward("check", "-c", path, "--connect", check=False)
    return done.returncode, done.stdout + done.stderr


def test_check_says_what_to_do(pg, tmp_path, table):
    code, text = check_messages(tmp_path, pg.destination(table))
    assert code == 0, text
    code, text = check_messages(tmp_path, pg.destination(table) | {"password": "wrong"})
    assert code != 0 and "password" in text and "28P01" in text and "wrong" not in text
    code, text = check_messages(tmp_path, pg.destination(table) | {"database": "nowhere"})
    assert code != 0 and "nowhere" in text
    code, text = check_messages(tmp_path, pg.destination(table, auto_create=False))
    assert code != 0 and "auto_create" in text
    code, text = check_messages(tmp_path, pg.destination(f"elsewhere.{table}"))
    assert code != 0 and "CREATE SCHEMA" in text
    pg.run(f"CREATE TABLE {table} (n bigint)")
    code, text = check_messages(tmp_path, pg.destination(table))
    assert code != 0 and f'GRANT INSERT ON "public"."{table}" TO "loader"' in text.replace("\n", " ")


def test_what_is_refused_goes_on_once_it_is_mended(pg, tmp_path, table):
    pg.run(f"CREATE TABLE {table} (n bigint)")
    with events_into(tmp_path, pg.destination(table, auto_evolve=False)) as running:
        send(running, [{"n": 1, "x": 2}])
        wait_until(lambda: 'ADD COLUMN "x" bigint' in running.log_tail())
        pg.run(f"ALTER TABLE {table} ADD x bigint, ADD _rescued jsonb")
        # It is tried again at a start, and every 15 s.
        running.kill()
        running.start()
        wait_until(lambda: "GRANT SELECT, INSERT, DELETE" in running.log_tail())
        pg.run(f"GRANT ALL ON {table} TO loader")
        running.wait_until_delivered(90)
    assert pg.rows(f"SELECT n, x FROM {table}") == [(1, 2)]


def test_tls_is_checked(tmp_path, table):
    server = Postgres(tls=True)
    try:
        def tried(**settings):
            return check_messages(tmp_path, server.destination(table) | settings)

        assert tried(tls="require")[0] == 0
        assert tried(host="localhost", tls="verify-full", ca_file=server.certificate)[0] == 0
        code, text = tried(host="localhost", tls="verify-full")
        assert code != 0 and "ca_file" in text
        code, text = tried(tls="verify-full", ca_file=server.certificate)
        assert code != 0 and "tls" in text, "the certificate is for another name"
    finally:
        server.stop()


def test_a_server_that_restarts_is_waited_for(pg, tmp_path, table):
    with events_into(tmp_path, pg.destination(table)) as running:
        send(running, [{"n": 1}])
        running.wait_until_delivered()
        pg.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'lakeward'")
        send(running, [{"n": 2}])
        running.wait_until_delivered()
        running.audit()
    assert sorted(row[0] for row in pg.rows(f"SELECT n FROM {table}")) == [1, 2]
