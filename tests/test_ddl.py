"""`lakeward ddl`: the statements make the lake a table. DuckDB's, ClickHouse's and Spark's are executed over the files in
those engines; the others are parsed in their dialect.
"""

import glob
import json
import os
import pathlib
import re
import subprocess

import duckdb
import pytest
import sqlglot
from chdb import session as clickhouse
from service import Service, config, lakeward, pipeline, s3_destination

import lake

DIALECTS = {
    "athena": "athena", "spark": "spark", "databricks": "databricks", "snowflake": "snowflake", "bigquery": "bigquery",
    "clickhouse": "clickhouse", "redshift-spectrum": "redshift", "duckdb": "duckdb",
}
PATH = "day=!{timestamp:yyyy-MM-dd}/area=!{event:area}/"
# Every kind of quote, and backslashes before one and at the end.
ODD = 'it\'s "odd" `name` \\` \\" \\\' \\'
FORMATS = {
    "parquet-events": {"format": "parquet"},
    "json-events": {"format": "ndjson", "compression": "gzip"},
    "csv-events": {"format": "csv", "delimiter": ";"},
}
ROWS = [
    {"id": "a", "area": "x/y", "n": 1, "price": "12.5000", "at": "2026-11-20T10:00:00.5Z", ODD: 1.5,
     "ctx": {"Tier": "free", "deep": {"k": [1, 2]}}, "tags": ["p", "q;\n\"r\""]},
    {"id": "b", "area": "z", "n": 2, "at": "2026-11-20T11:00:00Z", "order": True, "ctx": {"Tier": "pro"}},
    {"id": "c", "n": 3, "tags": []},
]
# What every engine must say: text, a folder's value, numbers, an exact number, an odd name.
EXPECTED = [("a", "x/y", 1, "12.5000", 1.5), ("b", "z", 2, None, None), ("c", None, 3, None, None)]


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    """A lake of three formats that a service has written, and its configuration."""
    folder = tmp_path_factory.mktemp("ddl")
    schema = {"columns": {"at": "timestamptz", "price": "decimal(18,4)", "area": "string"}}
    pipelines = [
        {**pipeline(name, {"type": "lake", "url": f"./lake/{name}"}, path=PATH, **output), "schema": schema}
        for name, output in FORMATS.items()
    ]
    path = config(folder, pipelines)
    with Service.run(path) as running:
        for name in FORMATS:
            # A file more, so that files differ in their columns.
            for rows in (ROWS[:1], ROWS[1:]):
                body = "".join(json.dumps(row) + "\n" for row in rows).encode()
                status, reply = running.records(name, body)
                assert status == 200, reply
                running.wait_until_delivered()
        assert running.terminate() == 0
    return path


def ddl(where, name, dialect, *arguments):
    return lakeward("ddl", name, "--dialect", dialect, "-c", where, *arguments).stdout


@pytest.mark.parametrize("name", FORMATS)
def test_duckdb(where, name):
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(ddl(where, name, "duckdb", "--table", "events"))
    odd = '"' + ODD.replace('"', '""') + '"'
    price = "CAST(price AS VARCHAR)"
    assert connection.execute(f"SELECT id, area, n, {price}, {odd} FROM events ORDER BY id").fetchall() == EXPECTED
    [(times, days)] = connection.execute('SELECT list(epoch_ms("at") ORDER BY id), count(DISTINCT day) FROM events').fetchall()
    assert times == [1_795_168_800_500, 1_795_172_400_000, None] and days in (1, 2)
    types = dict(connection.execute("SELECT column_name, column_type FROM (DESCRIBE events)").fetchall())
    assert types["price"] == "DECIMAL(18,4)" and types["n"] == "BIGINT" and types["day"] == "DATE", types
    if name != "csv-events":
        assert connection.execute("SELECT ctx.Tier FROM events ORDER BY id").fetchall() == [("free",), ("pro",), (None,)]


@pytest.mark.parametrize("name", FORMATS)
def test_clickhouse(where, tmp_path, name):
    with clickhouse.Session(str(tmp_path)) as session:
        session.query("CREATE DATABASE IF NOT EXISTS d ENGINE = Atomic")
        session.query(ddl(where, name, "clickhouse", "--table", "events", "--database", "d"))
        odd = "`" + ODD.replace("\\", "\\\\").replace("`", "\\`") + "`"
        query = f"SELECT id, area, n, toString(price), {odd} FROM d.events ORDER BY id"
        rows = [json.loads(line) for line in str(session.query(query, "JSONCompactEachRow")).splitlines()]
        # ClickHouse leaves zeros behind the point out of a decimal's text.
        expected = [tuple(float(v) if i == 3 and v else v for i, v in enumerate(row)) for row in EXPECTED]
        assert [tuple(float(v) if i == 3 and v else v for i, v in enumerate(row)) for row in rows] == expected
        times = session.query("SELECT toUnixTimestamp64Milli(at) FROM d.events ORDER BY id", "JSONCompactEachRow")
        told = [json.loads(line)[0] for line in str(times).splitlines()]
        assert [int(one) if one is not None else None for one in told] == [1_795_168_800_500, 1_795_172_400_000, None]
        days = session.query("SELECT toTypeName(day), uniq(day) FROM d.events GROUP BY 1", "JSONCompactEachRow")
        assert "Date32" in json.loads(str(days))[0]
        if name != "csv-events":
            tiers = session.query("SELECT ctx.Tier FROM d.events ORDER BY id", "JSONCompactEachRow")
            assert [json.loads(line)[0] for line in str(tiers).splitlines()] == ["free", "pro", None]


def test_clickhouse_reads_a_bucket(tmp_path, s3, monkeypatch):
    one = pipeline("events", s3_destination(s3, "ddl/"), path="p/area=!{event:area}/")
    path = config(tmp_path, [one])
    with Service.run(path) as running:
        running.records("events", b'{"area": "a/b", "n": 1}\n{"area": "c", "n": 2}\n')
        running.wait_until_delivered()
        statement = ddl(path, "events", "clickhouse", "--database", "d")
    assert s3.secret_key not in statement and s3.access_key not in statement
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    with clickhouse.Session(str(tmp_path / "chdb")) as session:
        session.query("CREATE DATABASE IF NOT EXISTS d ENGINE = Atomic")
        session.query(statement)
        rows = session.query("SELECT area, n FROM d.events ORDER BY n", "JSONCompactEachRow")
        assert [json.loads(line) for line in str(rows).splitlines()] == [["a/b", 1], ["c", 2]]
        one = session.query("SELECT n FROM d.events WHERE area = 'c'", "JSONCompactEachRow")
        assert json.loads(str(one)) == [2]


def test_a_column_that_a_folder_hides(tmp_path):
    """A folder invented for times has the name of a column: the others of CSV keep their places."""
    path = "day=!{timestamp:yyyy-MM-dd}/"
    headers = {"with-header": True, "without-header": False}
    pipelines = [
        pipeline(name, {"type": "lake", "url": f"./lake/{name}"}, path=path, format="csv", header=header)
        for name, header in headers.items()
    ] + [pipeline("json", {"type": "lake", "url": "./lake/json"}, path=path, format="ndjson")]
    where = config(tmp_path, pipelines)
    row = {"a": 1, "day": "own", "n": 2, "z": "last"}
    with Service.run(where) as running:
        for name in (*headers, "json"):
            status, reply = running.records(name, json.dumps(row).encode() + b"\n")
            assert status == 200, reply
        running.wait_until_delivered()
        assert running.terminate() == 0
    for name in (*headers, "json"):
        connection = duckdb.connect()
        connection.execute(ddl(where, name, "duckdb", "--table", "events"))
        [(a, n, z, day)] = connection.execute("SELECT a, n, z, day FROM events").fetchall()
        assert (a, n, z) == (1, 2, "last") and day.year >= 2026, name
        with clickhouse.Session(str(tmp_path / f"chdb-{name}")) as session:
            session.query("CREATE DATABASE IF NOT EXISTS d ENGINE = Atomic")
            session.query(ddl(where, name, "clickhouse", "--table", "events", "--database", "d"))
            answer = str(session.query("SELECT a, n, z, toYear(day) >= 2026 FROM d.events", "JSONCompactEachRow"))
            assert json.loads(answer) == [1, 2, "last", 1], name
    told = ddl(where, "with-header", "spark")
    assert "`a` BIGINT,\n  `column_2` STRING,\n  `n` BIGINT,\n  `z` STRING,\n  `day`" in told, told


def spark_python():
    """Spark's own environment: `cargo xtask test` makes it and says where it is."""
    given = os.environ.get("LAKEWARD_TEST_SPARK")
    cached = sorted(glob.glob(os.path.expanduser("~/.cache/lakeward/spark-*/bin/python")))
    if not given and not cached:
        pytest.fail("there is no environment with tests/spark-requirements.txt: run `cargo xtask test`, or set LAKEWARD_TEST_SPARK")
    return given or cached[-1]


def test_spark(where, tmp_path):
    odd = "`" + ODD.replace("`", "``") + "`"
    tables = {}
    for name in FORMATS:
        table = name.replace("-", "_")
        statements = split(ddl(where, name, "spark"))
        tables[name] = {
            "statements": statements,
            "query": f"SELECT id, area, n, price, {odd}, unix_millis(at), typeof(day) FROM {table} ORDER BY id",
        }
    asked = json.dumps({"warehouse": str(tmp_path / "warehouse"), "tables": tables})
    done = subprocess.run(
        [spark_python(), str(pathlib.Path(__file__).parent / "spark_sql.py")], input=asked, capture_output=True, text=True,
        timeout=180, cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    answers = json.loads(done.stdout.splitlines()[-1])
    for name in FORMATS:
        # Folders are read by their names: an absent value is a folder of that name.
        expected = [
            [None if value is None else str(value) for value in (*row, at, "date")]
            for row, at in zip(EXPECTED, (1_795_168_800_500, 1_795_172_400_000, None), strict=True)
        ]
        expected[2][1] = "__missing__"
        told = answers[name]
        if name == "csv-events":
            # By position: a file below `__missing__` has the key's column too, as the statement's comment says.
            told = [row for row in told if row[1] != "__missing__"]
            expected = expected[:2]
            assert "read by position" in ddl(where, name, "spark")
        assert told == expected, name


def split(text):
    """The statements of a text: no name or literal of these tests has a semicolon at a line's end."""
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return [one.strip() for one in ("\n".join(lines) + "\n").split(";\n") if one.strip()]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_statement_is_of_its_dialect(where, name, dialect):
    for arguments in ([], ["--projection"] if dialect == "athena" else ["--database", "my_db"]):
        text = ddl(where, name, dialect, *arguments)
        assert text.startswith(f"-- The lake of Lakeward's pipeline {name}, with the columns of version "), text
        # Clauses that sqlglot does not know.
        if dialect == "redshift-spectrum" and name != "parquet-events":
            text, count = re.subn(r"ROW FORMAT SERDE .*?\nSTORED AS TEXTFILE\n", "", text, flags=re.DOTALL)
            assert count == 1
        if dialect == "bigquery":
            text, count = re.subn(r"WITH PARTITION COLUMNS \(.*?\n\)\nWITH CONNECTION `[^`]*`\n", "", text, flags=re.DOTALL)
            assert count == 1
        found = sqlglot.parse(text, read=DIALECTS[dialect], error_level=sqlglot.ErrorLevel.RAISE)
        creates = [one for one in found if isinstance(one, sqlglot.exp.Create)]
        table = name.replace("-", "_")
        assert any(one.find(sqlglot.exp.Table).name.lower() == table for one in creates), text


def test_projection(where):
    text = ddl(where, "parquet-events", "athena", "--projection")
    assert "'projection.day.type' = 'date'" in text and "'projection.area.type' = 'injected'" in text
    assert "MSCK" not in text
    assert "MSCK REPAIR TABLE" in ddl(where, "parquet-events", "athena")


def test_before_there_are_columns(tmp_path):
    one = pipeline("events", {"type": "lake", "url": "s3://bucket/p/"})
    path = config(tmp_path, [one])
    refused = lakeward("ddl", "events", "--dialect", "duckdb", "-c", path, check=False)
    assert refused.returncode == 75 and "no columns yet" in refused.stderr, refused
    path = config(tmp_path, [{**one, "schema": {"columns": {"id": "string", "at": "timestamp"}}}])
    told = json.loads(lakeward("ddl", "events", "--dialect", "athena", "-c", path, "--json").stdout)
    assert "`at` timestamp" in told["statement"] and "declared" in told["notes"][0]
    assert "LOCATION 's3://bucket/p/'" in told["statement"]
    unknown = lakeward("ddl", "nope", "--dialect", "athena", "-c", path, check=False)
    assert unknown.returncode == 2 and "events" in unknown.stderr
    verbatim = config(tmp_path, [{**one, "output": {"format": "verbatim"}}])
    refused = lakeward("ddl", "events", "--dialect", "athena", "-c", verbatim, check=False)
    assert refused.returncode in (2, 75)


def test_beside_a_running_service(tmp_path):
    with Service.dev(tmp_path) as running:
        running.records("clicks", b'{"a": 1}\n')
        running.wait_until_delivered()
        connection = duckdb.connect()
        connection.execute(lakeward("ddl", "clicks", "--dialect", "duckdb", "--dir", tmp_path).stdout)
        assert connection.execute("SELECT a FROM clicks").fetchall() == [(1,)]
        assert len(lake.files(tmp_path / "lake")) == 1
