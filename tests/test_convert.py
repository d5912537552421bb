"""`lakeward convert`: files that DuckDB and pyarrow read back equal."""

import json
import random

import duckdb
import pyarrow
import pyarrow.parquet
import pytest

import lake
from service import lakeward

HOURLY = "year=!{event:at:yyyy}/month=!{event:at:MM}/day=!{event:at:dd}/hour=!{event:at:HH}/"


def events(count, seed=1):
    chance = random.Random(seed)
    for n in range(count):
        second = chance.randrange(24 * 3600)
        yield {
            "n": n,
            "at": f"2026-03-29T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.{chance.randrange(10**6):06}Z",
            "text": chance.choice(["plain", "ünïcödé ☂ 𝄞", 'quote " and \\ and \n', "", "x" * 300]),
            "number": chance.choice([0.5, -1e300, 3.0, 1 / 3]),
            "flag": chance.choice([True, False, None]),
            "nested": {"key": str(n % 7), "deep": {"list": list(range(n % 4))}},
            **({"rare": n} if n % 100 == 0 else {}),
        }


@pytest.fixture(params=["zstd", "snappy", "gzip", "none"])
def converted(request, tmp_path):
    rows = list(events(20_000))
    source = tmp_path / "events.ndjson"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    lakeward("convert", source, "--out", out, "--path", HOURLY, "--compression", request.param, "--batch-mib", 1)
    return rows, out


def plain(row):
    """Absent and null are the same; hive keys are not of the event."""
    if isinstance(row, dict):
        kept = {name: plain(value) for name, value in row.items() if value is not None}
        return {name: value for name, value in kept.items() if name not in ("year", "month", "day", "hour")}
    return [plain(value) for value in row] if isinstance(row, list) else row


def by_number(rows):
    return sorted((plain(row) for row in rows), key=lambda row: row["n"])


def test_both_readers_give_every_value_back(converted):
    rows, out = converted
    expected = by_number(rows)
    files = [str(path) for path in lake.files(out)]
    assert len(files) >= 24

    relation = duckdb.connect().execute(f"SELECT * FROM read_parquet({files!r}, union_by_name = true)")
    names = [column[0] for column in relation.description]
    assert by_number(dict(zip(names, row)) for row in relation.fetchall()) == expected

    tables = [pyarrow.parquet.ParquetFile(path).read() for path in files]
    table = pyarrow.concat_tables(tables, promote_options="permissive")
    assert by_number(table.to_pylist()) == expected


def test_each_row_lies_in_the_hour_of_its_event(converted):
    _, out = converted
    for path in lake.files(out):
        hours = {at[:13] for at in pyarrow.parquet.ParquetFile(path).read().column("at").to_pylist()}
        parts = dict(part.split("=") for part in path.relative_to(out).parts[:-1])
        assert hours == {f"{parts['year']}-{parts['month']}-{parts['day']}T{parts['hour']}"}


def test_ndjson_and_csv(tmp_path):
    source = tmp_path / "events.ndjson"
    source.write_text('{"a":1,"b":"x,y"}\n{"a":2}\n')
    for format in ("ndjson", "csv"):
        lakeward("convert", source, "--out", tmp_path / format, "--path", "d/", "--format", format)
    (ndjson,) = [path for path in (tmp_path / "ndjson").rglob("*") if path.is_file()]
    assert [json.loads(line) for line in ndjson.read_text().splitlines()][0] == {"a": 1, "b": "x,y"}
    (csv,) = [path for path in (tmp_path / "csv").rglob("*") if path.is_file()]
    assert csv.read_text() == 'a,b\n1,"x,y"\n2,\n'


def test_converting_again_adds_nothing(tmp_path):
    source = tmp_path / "events.ndjson"
    source.write_text("".join(json.dumps(row) + "\n" for row in events(1000)))
    for _ in range(2):
        lakeward("convert", source, "--out", tmp_path / "out", "--path", HOURLY)
    assert lake.rows(tmp_path / "out", "SELECT count(*), count(DISTINCT n) FROM {lake}") == [(1000, 1000)]
