"""`lakeward query`: SQL over what was delivered."""

import csv
import io
import json
import os
import pathlib
import pty
import shlex
import signal
import subprocess
import time

import pytest

import lake
from service import ENVIRONMENT, PROGRAM, Service, config, lakeward, pipeline, s3_destination

DOCS = pathlib.Path(__file__).resolve().parent.parent / "docs/query.md"
BY_DAY = "events/year=!{event:at:yyyy}/day=!{event:at:dd}/"
BATCHES = (
    b'{"at":"2023-11-15T10:00:00Z","n":1,"who":"a","deep":{"x":"one"}}\n{"at":"2023-11-16T00:00:00Z","n":2}\n',
    b'{"at":"2023-11-16T10:00:00Z","n":2.5,"new":true,"deep":{"y":[1,2]}}\n{"n":4,"deep":"text"}\n',
)
ROWS = [
    {"n": 1.0, "who": "a", "new": None, "x": "one", "year": 2023, "day": 15, "_rescued": None},
    {"n": 2.0, "who": None, "new": None, "x": None, "year": 2023, "day": 16, "_rescued": None},
    {"n": 2.5, "who": None, "new": True, "x": None, "year": 2023, "day": 16, "_rescued": None},
    {"n": 4.0, "who": None, "new": None, "x": None, "year": None, "day": None, "_rescued": {"deep": "text"}},
]
SELECT = "SELECT n, who, new, deep['x'] AS x, year, day, _rescued FROM events ORDER BY n"


def query(where, *arguments, check=True, **settings):
    return lakeward("query", *where, *arguments, check=check, **settings)


def rows(where, sql):
    return [json.loads(line) for line in query(where, sql).stdout.splitlines()]


def refused(where, sql, code, *arguments):
    done = query(where, sql, *arguments, check=False)
    assert (done.returncode, done.stdout) == (code, ""), done
    return done.stderr.strip()


def destination(kind, s3, tmp_path):
    if kind == "s3":
        return s3_destination(s3, f"query/{tmp_path.name}")
    return {"type": "lake", "url": "./lake"}


@pytest.mark.parametrize("kind", ["folder", "s3"])
@pytest.mark.parametrize("output", [{"format": "parquet"}, {"format": "ndjson", "compression": "zstd"}])
def test_running_and_stopped_answer_the_same(s3, tmp_path, kind, output):
    pipelines = [pipeline("events", destination(kind, s3, tmp_path), path=BY_DAY, **output)]
    with Service.run(config(tmp_path, pipelines)) as service:
        for batch in BATCHES:
            assert service.records("events", batch)[0] == 200
            service.wait_until_delivered()
        assert rows(service.where, SELECT) == ROWS
        # The only pipeline goes by another name too.
        assert rows(service.where, "SELECT count(*) AS n FROM lake WHERE day = 16") == [{"n": 2}]
        service.terminate()
        assert rows(service.where, SELECT) == ROWS
    where = ["-c", tmp_path / "lakeward.yaml"]
    listed = json.loads(query(where, "--tables", "--json").stdout)["tables"]
    assert [(table["name"], table["rows"]) for table in listed] == [("events", 4)]
    types = {column["name"]: column["type"] for column in listed[0]["columns"]}
    assert types["n"] == "float" and types["year"] == "integer" and types["_rescued"] == "json"


def test_only_what_was_committed_counts(dev, tmp_path):
    assert dev.records("my-events", b'{"n":1}\nnot json\n{"n":2}\n')[0] == 200
    dev.wait_until_delivered()
    (delivered,) = lake.files(tmp_path / "lake")
    stray = delivered.with_name("stray.parquet")
    stray.write_bytes(delivered.read_bytes())
    for name in ("my_events", '"my-events"', "lake"):
        assert rows(dev.where, f"SELECT count(*) AS c, sum(n) AS s FROM {name}") == [{"c": 2, "s": 3}]
    stray.unlink()
    delivered.unlink()
    assert "lakeward audit" in refused(dev.where, "SELECT sum(n) FROM lake", 69)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    lakeward("demo", "--dir", folder / "lakeward-demo", "--events", "20000", timeout=300)
    return folder


def test_the_documentation_is_true(demo):
    lines = [line for line in DOCS.read_text().splitlines() if line.startswith("lakeward query ")]
    assert len(lines) >= 5
    for line in lines:
        done = lakeward(*shlex.split(line)[1:], cwd=demo)
        assert len(done.stdout.splitlines()) > 1, (line, done)


def test_it_counts_as_duckdb_does(demo):
    where = ["--dir", demo / "lakeward-demo"]
    for table in ("flag_evaluations", "lessons_and_payments", "product_analytics"):
        folder = demo / "lakeward-demo/lake" / table.replace("_", "-")
        ours = rows(where, f"SELECT hour, count(*) AS n FROM {table} GROUP BY hour ORDER BY hour")
        theirs = lake.rows(folder, "SELECT hour::VARCHAR, count(*) FROM {lake} GROUP BY hour ORDER BY hour::VARCHAR")
        assert [(f"{int(row['hour']):02}", row["n"]) for row in ours] == sorted(
            (f"{int(hour):02}", n) for hour, n in theirs
        )


def test_csv(demo):
    sql = "SELECT flag_key, evaluation_context FROM flag_evaluations LIMIT 3"
    text = query(["--dir", demo / "lakeward-demo"], sql, "--csv").stdout
    header, *lines = csv.reader(io.StringIO(text))
    assert header == ["flag_key", "evaluation_context"] and len(lines) == 3
    assert json.loads(lines[0][1])["kind"] == "user"


def test_mistakes_are_explained(demo):
    where = ["--dir", demo / "lakeward-demo"]
    assert refused(where, "SELECT flag FROM flag_evaluations", 2).startswith("lakeward: there is no column flag")
    expect = "lakeward: there is no table flag_evaluation; did you mean flag_evaluations?"
    assert refused(where, "SELECT 1 FROM flag_evaluation", 2) == expect
    assert "only reads" in refused(where, "DROP TABLE flag_evaluations", 2)
    assert "SQL syntax" in refused(where, "SELEC 1", 2)
    assert "zero" in refused(where, "SELECT 1 / 0 FROM flag_evaluations", 65)
    sort = "SELECT * FROM product_analytics ORDER BY uuid"
    assert "--memory" in refused(where, sort, 2, "--memory", "1MiB")
    done = query(where, "SELECT nope FROM flag_evaluations", "--json", check=False)
    assert done.returncode == 2 and json.loads(done.stdout)["ok"] is False


def on_a_terminal(*arguments, columns=100):
    """What a person sees."""
    parent, child = pty.openpty()
    import fcntl, struct, termios  # noqa: E401
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        [PROGRAM, *map(str, arguments)], stdin=child, stdout=child, stderr=child, env=ENVIRONMENT, close_fds=True
    )
    os.close(child)
    seen = b""
    while True:
        try:
            more = os.read(parent, 65536)
        except OSError:
            break
        if not more:
            break
        seen += more
    os.close(parent)
    assert process.wait(60) == 0, seen
    return seen.decode().replace("\r\n", "\n")


def test_a_person_sees_a_table(demo):
    where = ["--dir", demo / "lakeward-demo"]
    seen = on_a_terminal("query", *where, "SELECT * FROM product_analytics")
    assert "the first 100 rows" in seen and "more columns not shown" in seen and "│" in seen
    assert max(map(len, seen.splitlines()[:50])) <= 100
    seen = on_a_terminal("query", *where, "SELECT count(*) AS n FROM flag_evaluations")
    assert "10000" in seen and "1 row  (" in seen
    seen = on_a_terminal("query", *where, "EXPLAIN SELECT count(*) FROM flag_evaluations")
    assert "AggregateExec" in seen and "…" not in seen


def test_a_reader_may_have_enough(demo):
    sql = "SELECT a.* FROM product_analytics a, product_analytics b"
    command = [PROGRAM, "query", "--dir", str(demo / "lakeward-demo"), sql]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
    assert process.stdout.readline().startswith(b"{")
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


def test_ctrl_c_ends_it(demo):
    sql = "SELECT count(*) FROM product_analytics a, product_analytics b, product_analytics c WHERE a.uuid > b.uuid"
    command = [PROGRAM, "query", "--dir", str(demo / "lakeward-demo"), sql]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    process.wait(10)
    assert time.monotonic() - began < 5
    process.communicate()


def test_a_long_query_does_not_keep_the_service_from_starting(tmp_path):
    with Service.dev(tmp_path) as service:
        assert service.records("events", b"".join(b'{"n":%d}\n' % n for n in range(5000)))[0] == 200
        service.wait_until_delivered()
        service.terminate()
    sql = "SELECT count(*) FROM events a, events b, events c WHERE a.n + b.n > c.n"
    process = subprocess.Popen([PROGRAM, "query", "--dir", str(tmp_path), sql], env=ENVIRONMENT)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3)
        with Service.dev(tmp_path) as service:
            assert service.records("events", b'{"n":1}\n')[0] == 200
    finally:
        process.kill()
        process.wait()
