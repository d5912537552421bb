"""`lakeward test` and `lakeward tail --sql`: what a pipeline would make of records, without delivering anything."""

import json
import time

import pytest
from service import Service, config, lakeward, pipeline

SQL = "SELECT event_uuid, split_part(event_name, ':', 1) AS kind, n FROM input WHERE n > 0"
CASES = """
tests:
  - name: kinds are taken from names
    pipeline: events
    records:
      - { event_uuid: a, event_name: "payment:order:created", n: 1 }
      - { event_uuid: a, event_name: "payment:order:created", n: 1 }
      - { event_uuid: b, event_name: login, n: 0 }
      - "not JSON"
    expect:
      rows:
        - { event_uuid: a, kind: payment, n: 1 }
      filtered: 1
      duplicates: 1
      quarantined: [{ record: 3, reason: json.syntax }]
      folders: ["kind=payment/"]
  - name: this one is wrong
    pipeline: events
    records: [{ event_uuid: c, event_name: login, n: 2 }]
    expect: { rows: [{ event_uuid: c, kind: logout, n: 2 }] }
"""


@pytest.fixture
def folder(tmp_path):
    events = {**pipeline("events", {"type": "lake", "url": "./lake"}, path="kind=!{event:kind}/"), "sql": SQL,
              "dedup": {"key": ["event_uuid"], "window": "1d"}}
    config(tmp_path, [events])
    (tmp_path / "events.test.yaml").write_text(CASES)
    return tmp_path


def test_cases_pass_and_fail_with_what_differs(folder):
    began = time.monotonic()
    done = lakeward("test", cwd=folder, check=False)
    assert time.monotonic() - began < 5, "a file of cases takes a fraction of a second"
    assert done.returncode == 65
    assert "ok     kinds are taken from names (events)" in done.stdout, done.stdout
    assert 'row 0, kind: "logout" expected, "login" came' in done.stdout
    assert "1 passed, 1 failed" in done.stdout
    assert lakeward("test", "--only", "kinds", cwd=folder).returncode == 0
    lines = [json.loads(line) for line in lakeward("test", "--json", cwd=folder, check=False).stdout.splitlines()]
    assert [line["ok"] for line in lines] == [True, False, False] and lines[-1]["failed"] == 1
    assert not (folder / "lake").exists() and not (folder / "state").exists()


def test_mistakes_in_cases_are_explained(folder):
    for text, words in [("tests: [{name: a, pipeline: nope, records: [1]}]", "there are: events"),
                        ("tests: [{name: a, pipeline: events, records: [], expct: {}}]", "expct"),
                        ("tests: [{name: a, pipeline: events, records: []}]", "no records")]:
        (folder / "bad.yaml").write_text(text)
        done = lakeward("test", "bad.yaml", cwd=folder, check=False)
        assert done.returncode == 2 and words in done.stderr, (done.returncode, done.stderr)


def test_tail_previews_sql_on_live_data(folder):
    with Service.run(folder / "lakeward.yaml") as service:
        lines = "".join(json.dumps({"event_uuid": str(n), "event_name": "a:b", "n": n}) + "\n" for n in range(3))
        assert service.records("events", (lines + "broken\n").encode())[0] == 200
        where = [*service.where, "--no-follow"]
        done = lakeward("tail", "events", "--sql", "SELECT n, n * 2 AS twice FROM input WHERE n <> 1", *where)
        assert [json.loads(line) for line in done.stdout.splitlines()] == [{"n": 0, "twice": 0}, {"n": 2, "twice": 4}]
        assert "record 3 would go to quarantine" in done.stderr
        own = lakeward("tail", "events", "--rows", *where).stdout.splitlines()
        assert [json.loads(line)["kind"] for line in own] == ["a", "a"]
        wrong = lakeward("tail", "events", "--sql", "SELECT count(*) FROM input", *where, check=False)
        assert wrong.returncode == 2 and "line 1, column 8" in wrong.stderr, wrong.stderr
        service.wait_until_delivered()
        assert service.pipelines()[0]["delivered"] == 2


@pytest.mark.parametrize(("change", "words"), [
    ({"sql": "SELEC n FROM input"}, "line 1, column 1"),
    ({"sql": "SELECT n FROM events"}, "`input`"),
    ({"sql": "SELECT a.n FROM input a JOIN input b ON a.n = b.n"}, "join"),
    ({"sql": "SELECT unnest(a), unnest(b) FROM input"}, "unnest"),
    ({"sql": "SELECT splitpart(n, 'x', 1) AS p FROM input"}, "split_part"),
    ({"sql": "SELECT nn FROM input", "schema": {"contract": "freeze", "columns": {"n": "int64"}}}, "did you mean `n`"),
    ({"sql": "SELECT date_trunc('hour', n) AS h FROM input", "schema": {"columns": {"n": "bool"}}}, "line 1"),
    ({"sql": {"file": "missing.sql"}}, "missing.sql"),
    ({"dedup": {"key": [], "window": "1d"}}, "at least one column"),
    ({"dedup": {"key": "contents", "window": "1d"}}, "key"),
    ({"schema": {"columns": {"n": "integer"}}}, "int64, float64, string, json, timestamp"),
    ({"lambda": {"url": "http://127.0.0.1:1/", "command": ["x"]}}, "lambda"),
    ({"lambda": {"url": "http://127.0.0.1:1/", "size": "7MiB"}}, "size"),
])
def test_check_names_pipeline_place_and_remedy(tmp_path, change, words):
    made = {**pipeline("events", {"type": "lake", "url": "./lake"}, path="d/"), **change}
    config(tmp_path, [made])
    done = lakeward("check", cwd=tmp_path, check=False)
    assert done.returncode == 78 and "pipelines[0]" in done.stderr, (done.returncode, done.stderr)
    assert words.lower() in done.stderr.lower(), done.stderr


def test_sql_that_the_data_do_not_fit_stops_the_pipeline_and_keeps_the_records(tmp_path):
    made = {**pipeline("events", {"type": "lake", "url": "./lake"}, path="d/"),
            "sql": "SELECT n,\n  date_trunc('hour', n) AS hour FROM input"}
    path = config(tmp_path, [made])
    with Service.run(path) as service:
        assert service.records("events", b'{"n": true}\n')[0] == 200
        said = service.wait_until_halted()
        assert said["code"] == "LW-1006" and "line 2, column" in said["error"], said
        assert service.pending() == 1
    made["sql"] = "SELECT n FROM input"
    config(tmp_path, [made])
    with Service.run(path) as service:
        assert service.wait_until_delivered()[0]["delivered"] == 1
        service.audit()
