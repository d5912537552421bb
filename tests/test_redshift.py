"""Redshift as a destination, against the stand-in: files staged in a real S3 server, COPY from a manifest. What
adobe-livestream-redshift-daemon (system E) did wrong has a test with the right behaviour."""

import json
import re
import time

import pytest

from postgres_server import LosingProxy, programs
from redshift_server import Redshift
from service import config, events_into, lakeward, pipeline, send, send_while_killed, wait_until

pytestmark = pytest.mark.skipif(programs() is None, reason="there is no PostgreSQL on this machine")


def keys(s3, prefix):
    pages = s3.client().get_paginator("list_objects_v2").paginate(Bucket=s3.bucket, Prefix=prefix)
    return sorted(each["Key"] for page in pages for each in page.get("Contents", []))


TEXTS = [
    "", " ", "\\N", "\\.", "~", "a~b", "\"", "\"\"", "'", "a,b", "|", "line\nbreak", "\r\n", "\t", "\\", "NULL", "🦀",
    "é\u2028", "x" * 5000, "{\"a\": 1}", ";--",
]


@pytest.mark.parametrize("copy", [{}, {"delimiter": "~", "gzip": False}, {"delimiter": "|"}, {"format": "parquet"}])
def test_any_content_comes_back_row_by_row(redshift, s3, tmp_path, table, copy):
    events = [
        {
            "n": n, "Text": text, "maybe": None if n % 3 else text, "f": n / 8, "yes": n % 2 == 0,
            "at": "2026-01-02T03:04:05.123456Z",
        }
        for n, text in enumerate(TEXTS)
    ]
    schema = {"columns": {"at": "timestamptz"}}
    with events_into(tmp_path, redshift.destination(table, table, copy=copy), schema=schema) as running:
        send(running, events)
        running.wait_until_delivered()
        running.audit()
    time_of = "to_char(at AT TIME ZONE 'UTC', 'HH24:MI:SS.US')"
    rows = redshift.rows(f"SELECT n, text, maybe, f, yes, {time_of} FROM {table} ORDER BY n")
    if copy.get("format") == "parquet":
        rows = [(*row[:5], "03:04:05.123456") for row in rows]
    assert rows == [(e["n"], e["Text"], e["maybe"], e["f"], e["yes"], "03:04:05.123456") for e in events]
    assert keys(s3, f"{table}/") == [], "what is loaded is removed"


def test_emptyasnull_is_an_option(redshift, tmp_path, table):
    with events_into(tmp_path, redshift.destination(table, table, copy={"empty_as_null": True})) as running:
        send(running, [{"n": 1, "t": ""}, {"n": 2, "t": None}, {"n": 3, "t": "x"}])
        running.wait_until_delivered()
    assert redshift.rows(f"SELECT n, t FROM {table} ORDER BY n") == [(1, None), (2, None), (3, "x")]


def test_files_are_named_as_system_e_names_them(redshift, s3, tmp_path, table):
    """N files of M records for each COPY, from a manifest and not from a prefix, which would match too much."""
    staging = {"url": f"s3://{s3.bucket}/{table}/ToIngest/", "layout": "ingest", "keep": True}
    copy = {"delimiter": "~", "gzip": False, "rows_per_file": 10}
    destination = redshift.destination(table, table, staging=staging, copy=copy)
    # Something that a prefix would match.
    day = time.strftime("%Y%m%d", time.gmtime())
    with events_into(tmp_path, destination, {"age": "10s", "records": 35}) as running:
        send(running, [{"n": n} for n in range(35)])
        running.wait_until_delivered()
    found = keys(s3, f"{table}/")
    pattern = re.compile(rf"{table}/ToIngest/{day}/([0-9a-f-]{{36}})/([0-3])\.csv")
    files = [match for key in found if (match := pattern.fullmatch(key))]
    assert [match.group(2) for match in files] == ["0", "1", "2", "3"], found
    [batch] = {match.group(1) for match in files}
    manifest = json.loads(
        s3.client().get_object(Bucket=s3.bucket, Key=f"{table}/ToIngest/{day}/manifest-{batch}.json")["Body"].read()
    )
    assert len(found) == 5 and "ToIngest/ToIngest" not in "".join(found)
    assert all(entry["mandatory"] and entry["meta"]["content_length"] > 0 for entry in manifest["entries"])
    url, read, count = next(copied for copied in reversed(redshift.copies) if table in copied[0])
    assert count == 35 and len(read) == 4 and url.endswith(".json")
    assert redshift.rows(f"SELECT count(*), count(DISTINCT n) FROM {table}") == [(35, 35)]


def test_a_quiet_site_is_not_held_back(redshift, tmp_path, table):
    """System E waited for 10 files of 1,000 records; a batch goes also when it is old."""
    destination = redshift.destination(table, table, copy={"rows_per_file": 1000})
    with events_into(tmp_path, destination, {"age": "300ms", "records": 10_000}) as running:
        send(running, [{"n": 1}])
        wait_until(lambda: any(table in copied[0] for copied in redshift.copies), timeout=20)
        running.wait_until_delivered()
    assert redshift.rows(f"SELECT n FROM {table}") == [(1,)]


def test_a_failed_copy_is_not_ignored(redshift, tmp_path, table):
    """System E ignored the exit status of its COPY and left the files."""
    with events_into(tmp_path, redshift.destination(table, table)) as running:
        redshift.fail_copies = 2
        send(running, [{"n": n} for n in range(10)])
        running.wait_until_delivered()
        running.audit()
    assert redshift.rows(f"SELECT count(*) FROM {table}") == [(10,)]


def test_serialization_conflicts_are_tried_again(redshift, tmp_path, table):
    with events_into(tmp_path, redshift.destination(table, table)) as running:
        redshift.conflicts = 2
        send(running, [{"n": n} for n in range(10)])
        running.wait_until_delivered()
        running.audit()
    assert redshift.conflicts == 0
    assert redshift.rows(f"SELECT count(*) FROM {table}") == [(10,)]


@pytest.mark.parametrize("layout", ["lakeward", "ingest"])
def test_a_commit_whose_answer_is_lost_is_not_copied_again(redshift, s3, tmp_path, table, layout):
    """System E loaded a batch again when it died between COPY and the write of its state, and put what it recovered
    below ToIngest/ToIngest/, where no COPY found it."""
    proxy = LosingProxy(redshift.port)
    staging = {"url": f"s3://{s3.bucket}/{table}/ToIngest/", "layout": layout}
    try:
        with events_into(tmp_path, redshift.destination(table, table, port=proxy.port, staging=staging)) as running:
            send(running, [{"n": 0}])
            running.wait_until_delivered()
            proxy.armed = True
            send(running, [{"n": n} for n in range(1, 50)])
            wait_until(lambda: proxy.lost == 1)
            running.kill()
            assert redshift.rows(f"SELECT count(*) FROM {table}") == [(50,)]
            proxy.refusing = False
            running.start()
            running.wait_until_delivered()
            running.audit()
        assert redshift.rows(f"SELECT count(*), count(DISTINCT n) FROM {table}") == [(50, 50)]
        assert keys(s3, f"{table}/") == [], "also what the killed process had staged is removed"
    finally:
        proxy.stop()


def test_kills_at_random_moments_leave_each_row_once(redshift, tmp_path, table):
    running = events_into(tmp_path, redshift.destination(table, table), {"age": "40ms", "records": 60})
    acknowledged = send_while_killed(running, kills=6, seed=11, enough=100)
    running.wait_until_delivered(120)
    running.audit()
    running.kill()
    found = [row[0] for row in redshift.rows(f"SELECT n FROM {table}")]
    assert len(found) == len(set(found)), "a row is there twice"
    assert acknowledged <= set(found), "an acknowledged row is missing"


@pytest.mark.parametrize("form", [{}, {"format": "parquet"}])
def test_rows_that_do_not_fit_go_to_quarantine(redshift, tmp_path, table, form):
    redshift.postgres.run(
        f"CREATE TABLE {table} (n bigint, small varchar(6), _rescued varchar(100))", f"GRANT ALL ON {table} TO loader"
    )
    # Of Parquet no row is named: each costs COPYs.
    count = 60 if form else 300
    events = [{"n": n, "small": "a\nb" if n % 5 else "ok"} for n in range(count)]
    bad = [7, 8, count - 1]
    for n in bad:
        events[n]["small"] = "é\nlong!"
    destination = redshift.destination(table, table, copy={"rows_per_file": count // 3} | form)
    with events_into(tmp_path, destination, {"age": "5s", "records": count}) as running:
        send(running, events)
        running.wait_until_delivered()
        running.audit()
    found = {row[0] for row in redshift.rows(f"SELECT n FROM {table}")}
    assert found == set(range(count)) - set(bad)
    aside = "\n".join(path.read_text() for path in (tmp_path / "quarantine").rglob("*") if path.is_file())
    assert aside.count("destination.refused") == len(bad)
    assert "small" in aside and ("1204" in aside or form)


def test_serverless_tells_its_errors_elsewhere(s3, tmp_path, table):
    server = Redshift(s3, serverless=True)
    try:
        server.postgres.run(f"CREATE TABLE {table} (n int, _rescued varchar(9))", f"GRANT ALL ON {table} TO loader")
        with events_into(tmp_path, server.destination(table, table)) as running:
            send(running, [{"n": n if n != 3 else 2**40} for n in range(10)])
            running.wait_until_delivered()
        assert server.rows(f"SELECT count(*) FROM {table}") == [(9,)]
    finally:
        server.stop()


def test_rows_with_the_same_key_replace_each_other(redshift, tmp_path, table):
    destination = redshift.destination(table, table, merge={"key": ["id"]}, lineage=True, copy={"rows_per_file": 40})
    with events_into(tmp_path, destination, {"age": "100ms", "records": 1000}) as running:
        send(running, [{"id": i, "v": 1} for i in range(100)] + [{"id": 5, "v": 2}, {"id": None, "v": 7}])
        running.wait_until_delivered()
        send(running, [{"id": 5, "v": 3}, {"id": 100, "v": 1}, {"id": 5, "v": 4}, {"id": None, "v": 7}])
        running.wait_until_delivered()
        running.audit()
    rows = redshift.rows(f"SELECT id, v FROM {table} ORDER BY id, v")
    assert rows == [*((i, 4 if i == 5 else 1) for i in range(101)), (None, 7), (None, 7)]


def test_check_says_what_to_do(redshift, tmp_path, table):
    def tried(**settings):
        path = config(tmp_path, [pipeline("events", redshift.destination(table, table) | settings)])
        done = lakeward("check", "-c", path, "--connect", check=False)
        return done.returncode, done.stdout + done.stderr

    code, text = tried()
    assert code == 0, text
    code, text = tried(password="wrong")
    assert code != 0 and "28P01" in text
    code, text = tried(tls="verify-full")
    assert code != 0 and "tls" in text
    code, text = tried(staging={"url": "./folder"})
    assert code != 0 and "staging.url" in text


def test_a_role_that_may_not_read_halts_and_says_so(redshift, tmp_path, table):
    destination = redshift.destination(table, table, iam_role="arn:aws:iam::123456789012:role/forbidden")
    with events_into(tmp_path, destination) as running:
        send(running, [{"n": 1}])
        wait_until(lambda: "s3:GetObject" in running.log_tail())
        assert redshift.rows(f"SELECT to_regclass('{table}')") == [(None,)]


def test_output_is_for_the_destination_to_say(redshift, tmp_path, table):
    spec = pipeline("events", redshift.destination(table, table), delimiter="~", format="csv")
    done = lakeward("check", "-c", config(tmp_path, [spec]), check=False)
    assert done.returncode == 78 and "output.delimiter" in done.stdout + done.stderr


def test_fractions_change_a_column_of_integers(redshift, tmp_path, table):
    with events_into(tmp_path, redshift.destination(table, table)) as running:
        send(running, [{"n": 1}])
        running.wait_until_delivered()
        send(running, [{"n": 1.5, "Added": "x"}])
        running.wait_until_delivered()
    assert redshift.rows(f"SELECT n, added FROM {table} ORDER BY n") == [(1.0, None), (1.5, "x")]
