"""The client against a control API that fails as networks and services do."""

import datetime
import fcntl
import json
import os
import stat
import threading

import pytest

import lakeward
from control_api import ControlApi, piece, refused
from lakeward.finding import state_of
from lakeward.when import instant

SLICES = [
    piece("section/145/a.jsonl", "taken", date="2026-01-01T00:00:00Z", records=10, captured={"section_id": 145},
          taken_at="2026-02-01T00:00:00Z",
          pipelines={"events": {"delivered": 7, "filtered": 1, "duplicates": 1, "quarantined": 1, "rows": 7}}),
    piece("section/145/b.jsonl", "new", date="2026-01-02T00:00:00Z", captured={"section_id": 145}),
    piece("section/145/c.jsonl", "changed", date="2026-01-03T00:00:00Z", captured={"section_id": 145}, records=3),
    piece("section/9/d.jsonl", "not_ready", date="2026-01-04T00:00:00Z", captured={"section_id": 9}),
    piece("section/9/e.jsonl", "set_aside", date="2026-01-05T00:00:00Z", captured={"section_id": 9}, reason="no JSON"),
]


@pytest.fixture
def api():
    made = ControlApi(SLICES)
    yield made
    made.stop()


@pytest.fixture
def lake(api):
    return lakeward.Client(api.url, timeout=10, patience=5)


def posts(api):
    return [asked for method, _, asked in api.requests if method == "POST"]


# What is meant


@pytest.mark.parametrize("given, expect", [
    ("2026-03-01", "2026-03-01T00:00:00Z"),
    ("2026-03-01T05", "2026-03-01T05:00:00Z"),
    ("20260301T05", "2026-03-01T05:00:00Z"),
    ("20260301", "2026-03-01T00:00:00Z"),
    ("2026-03-01T05:30:00Z", "2026-03-01T05:30:00Z"),
    ("2026-03-01T05:30:00+02:00", "2026-03-01T03:30:00Z"),
    ("2026-03-01T05:30:00.25Z", "2026-03-01T05:30:00.250000Z"),
    ("2026-03-01T05:30:00.123456789Z", "2026-03-01T05:30:00.123456Z"),
    (datetime.date(2026, 3, 1), "2026-03-01T00:00:00Z"),
    (datetime.datetime(2026, 3, 1, 5), "2026-03-01T05:00:00Z"),
    (datetime.datetime(2026, 3, 1, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=-5))), "2026-03-01T10:00:00Z"),
    (None, None),
])
def test_instants(given, expect):
    if given == "2026-03-01T05:30:00.25Z" and not hasattr(datetime, "UTC"):
        pytest.skip("older releases of Python read three or six digits")
    assert instant(given) == expect


@pytest.mark.parametrize("given", ["yesterday", "2026-13-01", "", "2026-03-01T25"])
def test_what_is_no_date_is_refused(given):
    with pytest.raises(ValueError):
        instant(given)


def test_a_range_that_is_empty_is_refused(lake):
    with pytest.raises(ValueError, match="exclusive"):
        lake.plan("events", from_="2026-02-01", to="2026-02-01")


# Plans


def test_a_plan_says_what_there_is_to_do(lake, api):
    plan = lake.plan("events")
    assert (plan.source, plan.pipeline, len(plan)) == ("lessons", "events", 5)
    assert plan.counts == {"new": 1, "not_ready": 1, "open": 0, "taken": 1, "changed": 1, "set_aside": 1}
    assert [found.name[-7:] for found in plan.to_take] == ["b.jsonl", "c.jsonl", "e.jsonl"]
    assert (plan.bytes, plan.records_taken, plan.estimated_records) == (300, 10, 30)
    assert plan.slices[0].settled("events") == 10
    assert {name: len(found) for name, found in plan.by("section_id").items()} == {"145": 3, "9": 2}
    for text in (str(plan), plan._repr_html_()):
        assert "3 slices to take" in text and "set aside" in text and "about 30 records" in text
    # Three pages of two.
    asked = [path for method, path, _ in api.requests if "/slices" in path]
    assert len(asked) == 3 and "after=section%2F145%2Fb.jsonl" in asked[1]


def test_a_plan_is_of_what_is_meant(lake, api):
    plan = lake.plan("lessons", from_="2026-01-02", to="2026-01-05", where={"section_id": 145}, prefix="section/")
    assert (plan.pipeline, [found.name for found in plan.slices]) == (None, ["section/145/b.jsonl", "section/145/c.jsonl"])
    assert "the hour of upload" in str(plan)
    lake.apply(plan, progress=False)
    assert posts(api)[-1] == {"kind": "take", "wanted": {
        "from": "2026-01-02T00:00:00Z", "to": "2026-01-05T00:00:00Z", "prefix": "section/", "where": {"section_id": "145"},
    }}
    with pytest.raises(TypeError, match="says already"):
        lake.apply(plan, from_="2026-01-01")


def test_a_plan_becomes_a_data_frame(lake):
    pytest.importorskip("pandas")
    frame = lake.plan("events").to_pandas()
    assert list(frame["section_id"]) == [145, 145, 145, 9, 9] and frame["records"].sum() == 13
    assert str(frame["date"].dt.tz) == "UTC" and frame["taken_at"].notna().sum() == 1


def test_slices_come_one_by_one(lake, api):
    slices = lake.slices("events", where={"section_id": 9})
    assert next(slices).name == "section/9/d.jsonl" and next(slices).reason == "no JSON"


def test_an_unknown_name_says_which_there_are(lake, api):
    with pytest.raises(lakeward.Refused, match="named nothing; there are: events, lessons"):
        lake.plan("nothing")
    api.status["sources"].append({"source": "second", "stream": "events", "kind": "amplitude"})
    with pytest.raises(lakeward.Refused, match="lessons, second; say which"):
        lake.plan("events")
    assert lake.plan("lessons").source == "lessons"
    api.status["sources"].clear()
    with pytest.raises(lakeward.Refused, match="no source feeds it"):
        lake.plan("events")


# Runs


def test_apply_waits_until_all_is_delivered(lake, api, capsys):
    seen = []
    run = lake.apply("events", progress=lambda run: seen.append((run.state, run.delivered)))
    assert (run.state, run.delivered, run.records) == ("done", True, 14)
    assert seen == [("taking", False), ("done", False), ("done", True)]
    assert "2 slices taken, 14 records, 140 B, all delivered" in str(run) and "14" in run._repr_html_()
    assert lake.apply("events", wait=False).state == "waiting"
    assert [known.id for known in lake.runs()] == ["run-0", "run-1"] and lake.run("run-0").state == "done"
    assert capsys.readouterr().err == ""


def test_again_and_replace(lake, api):
    lake.apply("events", again=True, replace=True, wait=False)
    lake.apply("lessons", replace="events", wait=False)
    assert posts(api) == [
        {"kind": "take", "wanted": {}, "again": True, "replace": "events"},
        {"kind": "take", "wanted": {}, "replace": "events"},
    ]


def test_a_run_that_fails_says_why(lake, api):
    run = lake.apply("events", wait=False)
    api.runs[run.id].update(state="failed", error={"kind": "refused", "message": "403: check key and region"})
    with pytest.raises(lakeward.RunFailed, match="403: check key and region") as raised:
        run.wait(progress=False)
    assert raised.value.run is run
    other = lake.apply("events", wait=False)
    assert other.cancel().state == "cancelled"
    with pytest.raises(lakeward.RunFailed, match="cancelled"):
        other.wait(progress=False)


def test_waiting_ends_in_time_and_the_run_goes_on(lake, api):
    api.looks = 10**9
    with pytest.raises(lakeward.Unavailable, match="still taking"):
        lake.apply("events", timeout=0.2, progress=False)
    assert lake.runs()[0].state == "taking"


def test_progress_for_a_file_is_a_line_now_and_then(lake, capsys):
    from lakeward.progress import Progress

    run = lake.apply("events", wait=False)
    shows = Progress(True, every=0.0)
    for _ in range(3):
        shows.show(run.refresh())
    shows.end()
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["taking: 1 of 2 slices, 7 records, 70 B", "done: 2 of 2 slices, 14 records, 140 B"]


# Exactly once over a bad network


@pytest.mark.parametrize("fault", ["cut", (503, *refused(503, "draining")[1:]), (429, {}, {"Retry-After": "0.2"}), "half"])
def test_what_passes_is_tried_again(lake, api, fault):
    api.faults = [fault, fault]
    assert lake.status().ready and len(lake.plan("events")) == 5


def test_a_lost_answer_begins_no_second_run(lake, api):
    # The status, the runs before, then the request whose answer is lost.
    api.faults = [None, None, "lost"]
    run = lake.apply("events", again=True, wait=False)
    assert list(api.runs) == [run.id] and len(posts(api)) == 1
    # A request that never came is sent again.
    api.faults = [None, None, "cut"]
    assert lake.apply("events", again=True, wait=False).id == "run-1"
    assert list(api.runs) == ["run-0", "run-1"]


@pytest.mark.parametrize("theirs", [
    {}, {"from": "2026-01-01T00:00:00Z"}, {"from": "2026-01-01T00:00:00Z", "to": "2026-03-01T00:00:00Z"},
    {"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z", "prefix": "section/9/"},
    {"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z", "where": {"section_id": "9"}},
])
def test_a_run_of_somebody_else_is_not_taken_for_ones_own(lake, api, theirs):
    """Theirs begins just when our request is lost."""
    api.faults = [None, None, lambda: api.begin({"kind": "take", "wanted": theirs})]
    run = lake.apply("events", "2026-01-01", "2026-02-01", {"section_id": 145}, wait=False)
    assert run.id == "run-1" and list(api.runs) == ["run-0", "run-1"]
    assert api.runs["run-1"]["wanted"] == {
        "from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z", "where": {"section_id": "145"},
    }


@pytest.mark.parametrize("told", [
    {"from": "2026-01-01T00:00:00.5Z", "to": None, "prefix": "", "where": {}},
    {"from": "2026-01-01T00:00:00.500000000Z", "to": None},
    {"from": "2026-01-01T02:00:00.500+02:00", "prefix": None, "where": None},
])
def test_a_run_is_known_by_what_it_means_not_by_its_spelling(lake, api, told):
    api.faults = [None, None, "lost"]
    begin = api.begin
    api.begin = lambda asked: begin({**asked, "wanted": told})
    run = lake.apply("events", "2026-01-01T00:00:00.5Z", wait=False)
    assert (run.id, list(api.runs), len(posts(api))) == ("run-0", ["run-0"], 1)


def test_patience_ends(api):
    lake = lakeward.Client(api.url, timeout=5, patience=0.5)
    api.faults = ["cut"] * 100
    with pytest.raises(lakeward.Unavailable, match="does not answer"):
        lake.status()
    api.stop()
    with pytest.raises(lakeward.Unavailable, match="does not answer"):
        lake.status()


@pytest.mark.parametrize("status, code, kind", [
    (400, "query", lakeward.Refused), (404, "not_found", lakeward.Refused), (422, "query_data", lakeward.DataError),
    (422, "query_memory", lakeward.Refused), (500, "internal", lakeward.Unavailable),
])
def test_a_refusal_carries_what_the_service_said(lake, api, status, code, kind):
    api.answers["POST", "/v1/query"] = refused(status, code, "there is no table evnts; did you mean events?")
    with pytest.raises(kind, match="did you mean events"):
        lake.query("SELECT 1")
    assert len(posts(api)) == 1


def test_a_token_is_sent_and_never_shown():
    api = ControlApi(SLICES, token="hush-hush")
    try:
        assert lakeward.Client(api.url, "hush-hush").status().ready
        with pytest.raises(lakeward.Refused, match="bearer_tokens") as raised:
            lakeward.Client(api.url, "wrong-one").status()
        assert raised.value.status == 401 and "wrong-one" not in str(raised.value)
        assert "hush" not in repr(lakeward.Client(api.url, "hush-hush"))
    finally:
        api.stop()


# Verifying


def counted(*counts):
    return [{"name": name, "id": name, "state": state, "records": records, "reason": reason}
            for name, state, records, reason in counts]


def test_verify_names_what_differs(lake, api):
    api.slices = [
        piece("a", "taken", records=10, pipelines={"events": {"delivered": 9, "filtered": 1}}),
        piece("b", "taken", records=10, pipelines={"events": {"delivered": 10}}),
        piece("c", "taken", records=10, pipelines={"events": {"delivered": 8}}),
        piece("d", "new"), piece("e", "changed", records=1), piece("f", "set_aside", reason="no JSON"),
        piece("h", "not_ready"), piece("i", "taken", records=1, pipelines={"events": {"delivered": 1}}),
        piece("k", "taken", records=0), piece("l", "new"),
        piece("m", "taken", records=9, pipelines={"events": {"delivered": 9}}),
        piece("n", "taken", records=1, pipelines={"events": {"delivered": 2}}),
    ]
    api.counted = counted(
        ("a", "counted", 10, None), ("b", "counted", 11, None), ("c", "counted", 10, None), ("d", "counted", 5, None),
        ("e", "counted", 2, None), ("f", "failed", None, "line 3 is no JSON"), ("g", "counted", 4, None),
        ("h", "not_ready", None, None), ("k", "empty", 0, None), ("l", "empty", 0, None), ("m", "counted", 8, None),
        ("n", "counted", 1, None),
    )
    report = lake.verify("events", progress=False)
    assert {found.name: found.why for found in report.differences} == {
        "b": LATER,
        "c": "events has not settled all of it yet",
        "d": "it is not taken (new)",
        "e": "it changed at the source after it was taken",
        "f": "line 3 is no JSON",
        "g": "it is not at the source any more",
        "i": "it was not counted; it appeared meanwhile",
        "m": "the source has fewer records than were taken",
        "n": "events has settled more than was taken",
    }
    assert not report.ok and not report and "9 differences" in str(report) and "came later" in report._repr_html_()
    assert posts(api)[-1] == {"kind": "count", "wanted": {}}


def reading(records, duplicates=0):
    """A slice's last reading, by a run with `again`."""
    counts = {"delivered": records - duplicates, "duplicates": duplicates}
    return {"id": "r", "records": records, "taken_at": "2026-03-01T05:00:00Z", "pipelines": {"events": counts}}


LATER = "1 record came later; `apply(..., again=True)` takes them"
BESIDES = "events has 5 records of its other versions or earlier readings, too"


@pytest.mark.parametrize("at_source, more, expect", [
    # A run took it once more; what was there was dropped, what came later was added.
    (7, {"again": reading(7, 5), "others": {"events": {"delivered": 5}}}, None),
    (7, {"again": reading(7, 5), "others": {"events": {"delivered": 3, "filtered": 2}}}, None),
    (8, {"again": reading(7, 5), "others": {"events": {"delivered": 5}}}, LATER),
    # Nothing was dropped: all is there twice.
    (7, {"again": reading(7), "others": {"events": {"delivered": 5}}}, BESIDES),
    # It was rewritten, and the rows of the version before are there, too; or another pipeline's are.
    (5, {"others": {"events": {"delivered": 5}}}, BESIDES),
    (5, {"others": {"elsewhere": {"delivered": 5}}}, None),
    (5, {"others": {"events": {"filtered": 3, "quarantined": 2}}}, None),
])
def test_verify_knows_every_reading_of_a_slice(lake, api, at_source, more, expect):
    api.slices = [piece("a", "taken", records=5, pipelines={"events": {"delivered": 5}}, **more)]
    api.counted = counted(("a", "counted", at_source, None))
    report = lake.verify("events", progress=False)
    assert [found.why for found in report.differences] == ([expect] if expect else [])
    assert report.rows[0]["taken"] == more.get("again", {"records": 5})["records"]


def test_what_would_double_rows_is_refused_and_said(lake, api):
    says = "pipeline events has no dedup: its rows would be there twice"
    api.answers["POST", "/v1/sources/lessons/runs"] = refused(400, "bad_request", says)
    with pytest.raises(lakeward.Refused, match=says):
        lake.apply("events", again=True)
    assert not api.runs and len(posts(api)) == 1


def test_verify_of_what_is_whole(lake, api):
    api.slices = [piece("a", "taken", records=10, pipelines={"events": {"delivered": 10}})]
    api.counted = counted(("a", "counted", 10, None))
    report = lake.verify("lessons", progress=False)
    assert report.ok and report.records == 10 and "no difference" in str(report)
    assert report.rows == [{"name": "a", "state": "taken", "at_source": 10, "taken": 10, "events": 10}]


# Queries


def test_rows_without_any_library(lake, api):
    api.answers["POST", "/v1/query"] = (200, b'{"n":1,"t":"a"}\n{"n":2,"t":null}\n')
    found = lake.query("SELECT 1", format="ndjson")
    assert list(found) == [{"n": 1, "t": "a"}, {"n": 2, "t": None}] and len(found) == 2
    assert "<td" in found._repr_html_()
    api.answers["POST", "/v1/query"] = (200, b'{"n":7}\n')
    assert lake.query("SELECT 1", format="ndjson").scalar() == 7
    assert posts(api)[-1] == {"sql": "SELECT 1", "format": "ndjson"}
    with pytest.raises(ValueError, match="ndjson"):
        lake.query("SELECT 1", format="csv")


def test_arrow_becomes_what_is_wanted(lake, api):
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"n": [1, 2], "t": ["a", None]})
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    api.answers["POST", "/v1/query"] = (200, sink.getvalue().to_pybytes())
    found = lake.query("SELECT 1")
    assert posts(api)[-1]["format"] == "arrow"
    assert found.to_arrow() == table and found.rows() == table.to_pylist() and len(found) == 2
    if pytest.importorskip("pandas"):
        assert list(found.to_pandas()["n"]) == [1, 2]


def test_an_answer_that_breaks_off_is_no_answer(api):
    lake = lakeward.Client(api.url, patience=0.3)
    api.answers["POST", "/v1/query"] = (200, b'{"n":1}\n{"n":2}\n')
    api.faults = ["half"] * 50
    with pytest.raises(lakeward.InterruptedAnswer):
        lake.query("SELECT 1", format="ndjson")


# Finding the service


def lock_file(folder, holder):
    folder.mkdir(exist_ok=True)
    (folder / "lock").write_text(json.dumps(holder))
    return open(folder / "lock")


def test_the_service_is_found_by_its_lock(api, tmp_path):
    config = tmp_path / "lakeward.yaml"
    config.write_text("# mine\nstate: \"./kept\"  # here\npipelines: []\n")
    lake = lakeward.Client(config=config, patience=0.2)
    with pytest.raises(lakeward.NotRunning, match="ever ran"):
        lake.status()
    held = lock_file(tmp_path / "kept", {"pid": 1, "control": api.url, "token": "t"})
    with pytest.raises(lakeward.NotRunning, match="no service runs"):
        lake.status()
    fcntl.flock(held, fcntl.LOCK_EX)
    assert lake.status().ready and lake.url == api.url
    held.close()


def test_a_service_that_starts_again_is_found_again(api, tmp_path):
    held = lock_file(tmp_path / "state", {"pid": 1, "control": "http://127.0.0.1:9", "token": None})
    fcntl.flock(held, fcntl.LOCK_EX)
    lake = lakeward.Client(state=tmp_path / "state", patience=20)
    moved = threading.Timer(0.5, lambda: (tmp_path / "state/lock").write_text(json.dumps({"pid": 2, "control": api.url})))
    moved.start()
    assert lake.status().ready
    held.close()


@pytest.mark.parametrize("text, expect", [
    ("state: ./s\n", "s"), ("state: 's x'\n", "s x"), ('state: "s"\n', "s"), ("listen: x\n", "state"),
    ('{"state": "j"}', "j"), ("a:\n  state: no\n", "state"), ("state: ${LW_DIR}/s\n", "given/s"),
    ("state: ${LW_NO:-other}\n", "other"),
])
@pytest.mark.parametrize("with_yaml", [True, False])
def test_the_state_directory_is_the_configurations(tmp_path, monkeypatch, text, expect, with_yaml):
    if with_yaml:
        pytest.importorskip("yaml")
    else:
        monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    monkeypatch.setenv("LW_DIR", "given")
    config = tmp_path / "lakeward.yaml"
    config.write_text(text)
    assert state_of(config) == tmp_path / expect


def program(folder, text):
    path = folder / "lakeward"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_service_that_does_not_start_says_why(tmp_path):
    binary = program(tmp_path, "echo 'lakeward.yaml: pipelines[0]: no destination' >&2; exit 78")
    with pytest.raises(lakeward.NotRunning, match="no destination"):
        lakeward.Client.start(tmp_path / "lakeward.yaml", binary=binary)
    with pytest.raises(lakeward.NotRunning, match="LAKEWARD_BIN"):
        lakeward.Client.start(tmp_path / "lakeward.yaml", binary=tmp_path / "nothing")


def test_a_service_is_started_and_stopped(tmp_path):
    stopped = tmp_path / "stopped"
    binary = program(tmp_path, f"trap 'touch {stopped}; exit 0' TERM; "
                     "echo '{\"listening\": \"http://127.0.0.1:1\", \"pid\": 1}'; while :; do sleep 0.05; done")
    (tmp_path / "lakeward.yaml").write_text("state: ./state\n")
    with lakeward.Client(config=tmp_path / "lakeward.yaml", binary=binary):
        assert not stopped.exists()
    assert stopped.exists()


def test_where_nothing_is_said_the_environment_says_it(api, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAKEWARD_URL", raising=False)
    with pytest.raises(lakeward.NotRunning, match="lakeward.yaml"):
        lakeward.Client(patience=0.1).status()
    monkeypatch.setenv("LAKEWARD_URL", api.url)
    assert lakeward.Client().status().ready
    assert os.environ["LAKEWARD_URL"] not in ("", None)


def test_status_and_tables_are_shown(lake, api):
    status = lake.status()
    assert "events" in str(status) and "lessons" in status._repr_html_() and lake.sources()[0]["source"] == "lessons"
    table = {"name": "events", "rows": 5, "files": 1, "bytes": 2048, "columns": [{"name": "verb", "type": "text"}]}
    api.answers["GET", "/v1/tables"] = (200, {"tables": [table]})
    assert lake.tables()["events"].rows == 5 and "2.0 KiB" in lake.tables()["events"]._repr_html_()
    assert lake.wait_until_delivered().ready
