"""The Python client against the real service: planned, taken, verified, asked;
with a kill in the middle."""

import json
import pathlib
import random
import sys
import threading

import pytest

import service
from service import ROOT, Service, config, http, pipeline

sys.path.insert(0, str(ROOT / "sdk/python/src"))

import lakeward  # noqa: E402

EVENTS = b'{"n":1,"who":"a","at":"2026-01-01T00:00:00Z"}\n{"n":2,"who":null,"deep":{"x":[1,2]}}\n{"n":3,"who":"c"}\n'


@pytest.fixture
def running(tmp_path):
    lake = {"type": "lake", "url": str(tmp_path / "lake")}
    file = config(tmp_path, [pipeline("events", lake), pipeline("my-others", lake)])
    with Service.run(file) as started:
        assert started.records("events", EVENTS)[0] == 200
        started.wait_until_delivered()
        yield started


# Queries


def test_rows_come_as_what_is_wanted(running, tmp_path):
    import polars
    import pyarrow

    lake = lakeward.Client(config=tmp_path / "lakeward.yaml")
    found = lake.query("SELECT n, who, to_timestamp(\"at\") AS at, deep['x'] AS x FROM events ORDER BY n")
    frame = found.to_pandas()
    assert list(frame["n"]) == [1, 2, 3] and list(frame["who"].fillna("?")) == ["a", "?", "c"]
    table = found.to_arrow()
    assert pyarrow.types.is_timestamp(table.schema.field("at").type), table.schema
    assert table.column("x").to_pylist() == [None, [1, 2], None]
    assert found.to_polars().equals(polars.from_arrow(table)) and len(found) == 3
    assert [row["n"] for row in lake.query("SELECT n FROM events ORDER BY n", format="ndjson")] == [1, 2, 3]
    assert lake.query("SELECT count(*) AS n FROM events").scalar() == 3
    # No rows have columns, too.
    empty = lake.query("SELECT n, who FROM events WHERE n > 9")
    assert len(empty) == 0 and list(empty.to_pandas().columns) == ["n", "who"]
    tables = lake.tables()
    assert set(tables) == {"events", "my-others"} and tables["events"].rows == 3
    assert {column["name"] for column in tables["events"].columns} >= {"n", "who", "at", "deep"}


def test_json_and_times_are_what_python_knows(running, tmp_path):
    for line in (b'{"n":1}\n', b'{"n":"x"}\n'):
        assert running.records("my-others", line)[0] == 200
        running.wait_until_delivered()
    found = lakeward.Client(config=tmp_path / "lakeward.yaml").query("SELECT _rescued FROM my_others ORDER BY n")
    assert [json.loads(value) for value in found.to_pandas()["_rescued"].dropna()] == [{"n": "x"}]
    assert [row["_rescued"] and json.loads(row["_rescued"]) for row in found] == [None, {"n": "x"}]


def test_large_answers_come_whole(running, tmp_path):
    lake = lakeward.Client(config=tmp_path / "lakeward.yaml")
    lines = "".join(json.dumps({"n": n, "text": f"{n:032}"}) + "\n" for n in range(200_000))
    assert running.records("my-others", lines.encode())[0] == 200
    running.wait_until_delivered()
    for format in ("arrow", "ndjson"):
        table = lake.query("SELECT n, text FROM my_others", format=format).to_arrow()
        assert table.num_rows == 200_000 and sum(table.column("n").to_pylist()) == 199_999 * 100_000


@pytest.mark.parametrize("sql, kind, says", [
    ("SELECT nn FROM events", lakeward.Refused, "did you mean"),
    ("SELECT * FROM nothing", lakeward.Refused, "there is no table nothing"),
    ("DELETE FROM events", lakeward.Refused, "only reads"),
    ("SELEC 1", lakeward.Refused, "SQL syntax"),
    ("SELECT 1; SELECT 2", lakeward.Refused, "one statement"),
    ("SELECT CAST(who AS INT) FROM events", lakeward.DataError, "'a'"),
])
def test_a_query_that_cannot_be_says_why(running, tmp_path, sql, kind, says):
    with pytest.raises(kind, match=says):
        lakeward.Client(config=tmp_path / "lakeward.yaml").query(sql)


def test_many_ask_at_once(running, tmp_path):
    """More than there are places: the rest waits or comes again."""
    answers = []

    def ask(seed):
        lake = lakeward.Client(config=tmp_path / "lakeward.yaml", patience=60)
        answers.append((seed, lake.query(f"SELECT {seed} + sum(n) AS n FROM events").scalar()))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(answers) == [(seed, seed + 6) for seed in range(12)]


def test_a_token_is_needed_where_tokens_are_configured(tmp_path):
    lake = {"type": "lake", "url": str(tmp_path / "lake")}
    file = config(tmp_path, [pipeline("events", lake)], auth={"bearer_tokens": ["let-me-in"]})
    with Service.run(file) as started:
        for path in ("/v1/query", "/v1/tables"):
            body = b'{"sql":"SELECT 1"}' if path == "/v1/query" else None
            assert http("POST" if body else "GET", started.url + path, body)[0] == 401
        with pytest.raises(lakeward.Refused, match="bearer_tokens"):
            lakeward.Client(started.url).query("SELECT 1")
        assert lakeward.Client(started.url, "let-me-in").query("SELECT 1 AS one").scalar() == 1
        # On the service's own machine the lock file has a token.
        assert lakeward.Client(config=file).query("SELECT 1 AS one").scalar() == 1


def test_a_service_is_started_and_stopped(tmp_path):
    file = config(tmp_path, [pipeline("events", {"type": "lake", "url": str(tmp_path / "lake")})])
    with lakeward.Client(config=file, binary=service.PROGRAM) as lake:
        assert lake.status().ready and lake.query("SELECT 1 AS one").scalar() == 1
        url = lake.url
    with pytest.raises(lakeward.Unavailable):
        lakeward.Client(url, patience=0.2).status()
    (tmp_path / "lakeward.yaml").write_text('{"pipelines": [{"name": "events"}]}')
    with pytest.raises(lakeward.NotRunning, match="pipelines"):
        lakeward.Client.start(file, binary=service.PROGRAM)


# Slices


def bucket(folder, sections=(145, 9), days=5, seed=1):
    """Objects as Torus names them; how many records each section has."""
    chance, counts = random.Random(seed), dict.fromkeys(sections, 0)
    for section in sections:
        for day in range(1, days + 1):
            records = chance.randrange(1, 40)
            counts[section] += records
            put(folder, section, f"2026-01-{day:02}T12-00-00.123456Z", records)
    return counts


def put(folder, section, when, records, name="A1"):
    path = pathlib.Path(folder) / f"section/{section}/video/{when}_{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps({"key": f"{section}-{when}-{name}-{n}", "n": n}) for n in range(records)))
    return path


def objects_config(tmp_path, **settings):
    source = {
        "name": "torus", "type": "objects", "stream": "xapi", "url": str(tmp_path / "bucket"), "settle": "0s",
        "pattern": "section/{section_id:int}/{category}/{timestamp:time}_{bundle_id}.jsonl",
        "schedule": {"cron": "0 0 1 1 *", "catch_up": False}, **settings,
    }
    lake = {"type": "lake", "url": str(tmp_path / "lake")}
    return config(tmp_path, [{**pipeline("xapi", lake), "stream": "xapi"}], sources=[source])


def test_plan_apply_verify_and_ask(tmp_path):
    counts = bucket(tmp_path / "bucket")
    with lakeward.Client.start(objects_config(tmp_path), binary=service.PROGRAM) as lake:
        plan = lake.plan("xapi", from_="2026-01-02", to="2026-01-04", where={"section_id": 145})
        assert plan.counts["new"] == 2 and len(plan) == 2 and plan.source == "torus"
        run = lake.apply(plan, progress=False)
        assert (run.slices_done, run.delivered) == (2, True)
        assert lake.query("SELECT count(*) AS n FROM xapi").scalar() == run.records
        # One section that was loaded does not hide its later files.
        put(tmp_path / "bucket", 145, "2026-01-03T13-00-00.000000Z", 7, "B2")
        late = lake.plan("xapi", from_="2026-01-02", to="2026-01-04", where={"section_id": 145})
        assert [len(late.to_take), late.counts["taken"]] == [1, 2]
        assert lake.apply(late, progress=False).records == 7
        run = lake.apply("torus", progress=False)
        rows = lake.query("SELECT section_id, count(*) AS n FROM xapi GROUP BY section_id ORDER BY n").rows()
        assert {int(row["section_id"]): row["n"] for row in rows} == {145: counts[145] + 7, 9: counts[9]}
        report = lake.verify("xapi", progress=False)
        assert report.ok and report.records == sum(counts.values()) + 7, str(report)
        assert lake.apply("xapi", progress=False).records == 0
        assert {known.kind for known in lake.runs("torus")} == {"take", "count"}


def test_what_differs_is_named(tmp_path):
    bucket(tmp_path / "bucket", sections=(1,), days=2)
    broken = put(tmp_path / "bucket", 1, "2026-01-09T00-00-00.000000Z", 3)
    # A compressed file that was cut.
    broken.write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x01")
    with lakeward.Client.start(objects_config(tmp_path), binary=service.PROGRAM) as lake:
        run = lake.apply("xapi", progress=False)
        assert run.slices_set_aside == 1
        report = lake.verify("xapi", progress=False)
        assert [difference.name for difference in report.differences] == [str(broken.relative_to(tmp_path / "bucket"))]
        assert lake.plan("xapi").counts["set_aside"] == 1
        rewritten = put(tmp_path / "bucket", 1, "2026-01-01T12-00-00.123456Z", 50)
        found = {difference.name: difference.why for difference in lake.verify("xapi", progress=False).differences}
        assert "changed" in found[str(rewritten.relative_to(tmp_path / "bucket"))]


def dedup(file, **settings):
    """The configuration, with a pipeline that drops what it knows."""
    made = json.loads(file.read_text())
    made["pipelines"][0]["dedup"] = {"key": ["key"], "window": "30d", **settings}
    file.write_text(json.dumps(made))
    return file


def test_taking_again_what_nobody_remembers_is_refused(tmp_path):
    bucket(tmp_path / "bucket", sections=(1,), days=2)
    file = objects_config(tmp_path)
    with lakeward.Client.start(file, binary=service.PROGRAM) as lake:
        taken = lake.apply("xapi", progress=False).records
        with pytest.raises(lakeward.Refused, match="dedup"):
            lake.apply("xapi", again=True, progress=False)
        assert len(lake.runs("torus")) == 1
    # Dedup from now on does not know what was delivered before.
    with lakeward.Client.start(dedup(file), binary=service.PROGRAM) as lake:
        with pytest.raises(lakeward.Refused):
            lake.apply("xapi", again=True, progress=False)
        assert lake.query("SELECT count(*) AS n FROM xapi").scalar() == taken
        assert lake.verify("xapi", progress=False).ok


def test_taking_again_what_is_remembered_doubles_nothing(tmp_path):
    bucket(tmp_path / "bucket", sections=(1,), days=2)
    with lakeward.Client.start(dedup(objects_config(tmp_path)), binary=service.PROGRAM) as lake:
        taken = lake.apply("xapi", progress=False).records
        again = lake.apply("xapi", again=True, progress=False)
        assert again.records == taken and again.delivered
        assert lake.query("SELECT count(*) AS n FROM xapi").scalar() == taken
        report = lake.verify("xapi", progress=False)
        assert report.ok and report.records == taken, str(report)


def test_rows_of_an_earlier_version_are_named(tmp_path):
    bucket(tmp_path / "bucket", sections=(1,), days=2)
    with lakeward.Client.start(objects_config(tmp_path), binary=service.PROGRAM) as lake:
        lake.apply("xapi", progress=False)
        before = lake.plan("xapi").slices[0]
        rewritten = put(tmp_path / "bucket", 1, "2026-01-01T12-00-00.123456Z", 50)
        assert lake.apply("xapi", progress=False).records == 50
        (found,) = lake.verify("xapi", progress=False).differences
        assert found.name == before.name == str(rewritten.relative_to(tmp_path / "bucket"))
        assert found.why == f"xapi has {before.records} records of its other versions or earlier readings, too"


def test_a_run_survives_a_kill(tmp_path):
    counts = bucket(tmp_path / "bucket", sections=range(40), days=5)
    file = objects_config(tmp_path)
    started = Service.run(file).start()
    try:
        lake = lakeward.Client(config=file, patience=60)
        run = lake.apply("xapi", wait=False)
        killed = []

        def kill(seen):
            if not killed and seen.slices_done > 10:
                killed.append(seen.slices_done)
                started.kill()
                started.start()

        run.wait(progress=kill, timeout=120)
        assert run.delivered
        rows = lake.query("SELECT count(*) AS n, count(DISTINCT key) AS keys FROM xapi").rows()
        assert rows == [{"n": sum(counts.values()), "keys": sum(counts.values())}]
        assert lake.verify("xapi", progress=False).ok
    finally:
        started.kill()
