"""`lakeward pull`: takes what a source has, each event once, and says what came of it as schedulers read it."""

import json
import os
import random
import signal
import socket
import subprocess
import threading
import time

import pytest

import lake
from service import ENVIRONMENT, PROGRAM, Service, config, lakeward, pipeline, wait_until
from simulated import Amplitude

SEED = int(os.environ.get("LAKEWARD_TEST_SEED", time.time_ns() % 1_000_000))
DAY = ("--date", "2026-03-01")
# It fits no data: the pipeline stops before it delivers anything.
UNFIT = "SELECT uuid, date_trunc('hour', is_attribution_event) AS hour FROM input"


@pytest.fixture
def amplitude():
    with Amplitude("--from", "2026-03-01", "--hours", "48", "--events-per-hour", "20..60") as running:
        yield running


def write(folder, amplitude, source=None, **more):
    """A configuration with one source and one pipeline."""
    of_pipeline = {"dedup": {"key": ["uuid"], "window": "400d"}, **more}
    made = {**pipeline("amp", {"type": "lake", "url": "./lake"}, format="parquet", path="amp/"), **of_pipeline}
    settings = {
        "name": "amp", "type": "amplitude", "stream": "amp", "endpoint": amplitude.url, "api_key": "demo",
        "secret_key": "demo", "from": "2026-03-01", **(source or {}),
    }
    return config(folder, [made], sources=[{key: value for key, value in settings.items() if value is not None}])


def pull(path, *arguments, source="amp", check=0):
    """Runs `lakeward pull` as a scheduler does; gives the summary."""
    done = lakeward("pull", "-c", path, source, *arguments, check=False, timeout=300)
    assert done.returncode == check, f"it ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return json.loads(done.stdout.splitlines()[-1])


def uuids(folder):
    return sorted(str(row[0]) for row in lake.rows(folder / "lake", "SELECT uuid FROM {lake}"))


def audited(path):
    done = lakeward("audit", "-c", path, "--json", check=False)
    assert done.returncode == 0, done.stdout


def expected(amplitude, first, last):
    return sorted(amplitude.uuids(**{"from": first, "to": last}))


def test_a_day_is_taken_once_and_only_missing_hours_are_asked_for(tmp_path, amplitude):
    path = write(tmp_path, amplitude)
    summary = pull(path, *DAY)
    events = expected(amplitude, "2026-03-01T00", "2026-03-02T00")
    assert uuids(tmp_path) == events
    assert summary["status"] == "done" and summary["exit_code"] == 0 and summary["delivered"]
    assert summary["window"]["start"] == "2026-03-01T00" and summary["window"]["end"] == "2026-03-01T23"
    assert [hour["h"] for hour in summary["hours"]] == [f"2026-03-01T{hour:02}" for hour in range(24)]
    assert sum(hour["events"] for hour in summary["hours"]) == summary["events"] == len(events)
    assert summary["rows"] == len(events) and summary["duplicates_dropped"] == 0
    found = {str(file.relative_to(tmp_path / "lake")) for file in lake.files(tmp_path / "lake")}
    assert {file["key"] for file in summary["objects"]} == found
    audited(path)

    asked = len(amplitude.requests())
    again = pull(path, *DAY)
    assert again["status"] == "nothing_new" and again["events"] == 0 and again["slices_already"] == 24
    assert len(amplitude.requests()) == asked, "what is there already is not asked for"

    # Both ends are part of it, as in Amplitude's API; 23 o'clock is there already.
    more = pull(path, "--start", "20260301T23", "--end", "20260302T01")
    assert [hour["h"] for hour in more["hours"] if hour["status"] == "exported"] == ["2026-03-02T00", "2026-03-02T01"]
    assert uuids(tmp_path) == expected(amplitude, "2026-03-01T00", "2026-03-02T02")

    # Without a range: all that is new.
    assert pull(path)["events"] == len(expected(amplitude, "2026-03-02T02", "2026-03-03T00"))
    assert uuids(tmp_path) == expected(amplitude, "2026-03-01T00", "2026-03-03T00")
    audited(path)


def test_force_adds_only_what_is_missing(tmp_path, amplitude):
    path = write(tmp_path, amplitude)
    events = pull(path, *DAY)["events"]
    forced = pull(path, *DAY, "--force")
    assert forced["events"] == events and forced["duplicates_dropped"] == events and forced["rows"] == 0
    assert uuids(tmp_path) == expected(amplitude, "2026-03-01T00", "2026-03-02T00")
    audited(path)
    refused = lakeward("pull", "-c", path, "amp", "--force", check=False)
    assert refused.returncode == 2 and "say which" in refused.stderr


def test_force_is_refused_where_it_would_double(tmp_path, amplitude):
    path = write(tmp_path, amplitude, dedup=None)
    path.write_text(path.read_text().replace('"dedup": null, ', "").replace(', "dedup": null', ""))
    pull(path, *DAY)
    before = uuids(tmp_path)
    refused = lakeward("pull", "-c", path, "amp", *DAY, "--force", check=False)
    assert refused.returncode == 2, refused.stderr
    assert "dedup: { key: [uuid]" in refused.stderr and "--replace" in refused.stderr
    assert uuids(tmp_path) == before


def test_force_is_refused_for_what_came_before_dedup(tmp_path, amplitude):
    made = pipeline("amp", {"type": "lake", "url": "./lake"}, format="parquet", path="amp/")
    path = write(tmp_path, amplitude)
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "pipelines": [made]}))
    pull(path, *DAY)
    before = uuids(tmp_path)
    # The advice of the refusal is followed: dedup is added.
    path.write_text(json.dumps(settings))
    refused = lakeward("pull", "-c", path, "amp", *DAY, "--force", check=False)
    assert refused.returncode == 2 and "only since" in refused.stderr, refused.stderr
    assert uuids(tmp_path) == before
    # What is delivered from then on is known.
    later = ("--date", "2026-03-02")
    events = pull(path, *later)["events"]
    assert pull(path, *later, "--force")["duplicates_dropped"] == events
    assert uuids(tmp_path) == expected(amplitude, "2026-03-01T00", "2026-03-03T00")


def test_a_pipeline_that_stands_still_is_told(tmp_path, amplitude):
    path = write(tmp_path, amplitude, sql=UNFIT)
    began = time.monotonic()
    summary = pull(path, *DAY, check=69)
    assert time.monotonic() - began < 60, "nothing is waited for that does not come"
    assert summary["status"] == "undelivered" and not summary["delivered"] and uuids(tmp_path) == []
    told = lakeward("pull", "-c", path, "amp", *DAY, check=False)
    assert told.returncode == 69, "it is taken, but it is still not there"
    assert "LW-1006" in told.stdout + told.stderr, told.stdout
    path = write(tmp_path, amplitude)
    summary = pull(path, *DAY)
    assert summary["status"] == "nothing_new" and summary["delivered"]
    assert uuids(tmp_path) == expected(amplitude, "2026-03-01T00", "2026-03-02T00")


def test_a_dead_destination_of_others_holds_nothing_up(tmp_path, amplitude):
    path = write(tmp_path, amplitude, source={"schedule": {"cron": "0 0 1 1 *"}})
    settings = json.loads(path.read_text())
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{listening.getsockname()[1]}"
        lake_ = {
            "type": "lake", "url": "s3://bucket/other/", "endpoint": dead, "region": "us-east-1",
            "access_key_id": "demo", "secret_access_key": "demo",
        }
        settings["pipelines"].append(pipeline("other", lake_, format="parquet", path="other/"))
        path.write_text(json.dumps(settings))
        with Service.run(path) as service:
            assert service.records("other", b'{"n": 1}\n')[0] == 200
            service.kill()
        summary = pull(path, *DAY)
    assert summary["status"] == "done" and summary["delivered"]
    assert uuids(tmp_path) == expected(amplitude, "2026-03-01T00", "2026-03-02T00")


def test_a_dry_run_changes_nothing(tmp_path, amplitude):
    path = write(tmp_path, amplitude)
    done = lakeward("pull", "-c", path, "amp", *DAY, "--dry-run")
    assert "24 slices" in done.stdout and "24 new" in done.stdout, done.stdout
    assert amplitude.requests() == [] and uuids(tmp_path) == []
    # Nor does it go on with what another left.
    pull(write(tmp_path, amplitude, sql=UNFIT), *DAY, check=69)
    path, asked = write(tmp_path, amplitude), len(amplitude.requests())
    left = lakeward("pull", "-c", path, "amp", *DAY, "--dry-run")
    assert "24 taken and not yet delivered" in left.stdout, left.stdout
    assert uuids(tmp_path) == [] and len(amplitude.requests()) == asked


def test_the_running_service_is_asked(tmp_path, amplitude):
    path = write(tmp_path, amplitude, source={"schedule": {"cron": "0 0 1 1 *"}})
    with Service.run(path) as service:
        summary = pull(path, *DAY)
        assert summary["status"] == "done" and summary["delivered"]
        runs = json.loads(lakeward("backfill", "status", "amp", "-c", path, "--json").stdout.splitlines()[0])
        assert runs["id"] == summary["run_id"]
        assert uuids(tmp_path) == expected(amplitude, "2026-03-01T00", "2026-03-02T00")
        assert service.running
        [source] = service.command("status")["sources"]
        assert source["taken"] == 24 and source["set_aside"] == 0 and source["next_look"]
        assert "24 taken" in lakeward("status", "-c", path).stdout


def test_two_pulls_share_one_process(tmp_path):
    with Amplitude("--from", "2026-03-01", "--hours", "48", "--events-per-hour", "400") as amplitude:
        path = write(tmp_path, amplitude, source={"window": 1})
        summaries = {}

        def day(date):
            summaries[date] = pull(path, "--date", date)

        threads = [threading.Thread(target=day, args=(date,)) for date in ("2026-03-01", "2026-03-02")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(summaries) == ["2026-03-01", "2026-03-02"], "one of them failed"
        assert all(summary["delivered"] for summary in summaries.values())
        assert uuids(tmp_path) == expected(amplitude, "2026-03-01T00", "2026-03-03T00")
        audited(path)


def test_killed_anywhere_the_next_pull_goes_on(tmp_path):
    draw = random.Random(SEED)
    with Amplitude("--from", "2026-03-01", "--hours", "48", "--events-per-hour", "100..300", "--seed", SEED) as amplitude:
        path = write(tmp_path, amplitude, source={"window": 4})
        command = [PROGRAM, "pull", "-c", path, "amp", "--from", "2026-03-01", "--to", "2026-03-03"]
        for attempt in range(12):
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env=ENVIRONMENT, start_new_session=True,
            )
            try:
                process.wait(draw.uniform(0.05, 1.5))
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        summary = pull(path, "--from", "2026-03-01", "--to", "2026-03-03")
        assert summary["exit_code"] == 0, f"seed {SEED}, attempt {attempt}: {summary}"
        assert uuids(tmp_path) == expected(amplitude, "2026-03-01T00", "2026-03-03T00"), f"seed {SEED}"
        audited(path)


@pytest.mark.parametrize(("what", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_it_at_a_clean_place(tmp_path, what, code):
    script = tmp_path / "script.json"
    script.write_text(json.dumps([{"hours": "2026-03-01T12", "requests": 1, "what": "stall", "seconds": 60}]))
    with Amplitude("--from", "2026-03-01", "--hours", "24", "--events-per-hour", "50", "--script", script) as amplitude:
        path = write(tmp_path, amplitude, source={"window": 1})
        file = tmp_path / "summary.json"
        process = subprocess.Popen(
            [PROGRAM, "pull", "-c", path, "amp", *DAY, "--summary-file", file], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True,
        )
        asked = lambda: any("T12" in json.dumps(request) for request in amplitude.requests())
        wait_until(lambda: process.poll() is not None or asked(), lambda: amplitude.requests())
        assert process.poll() is None
        process.send_signal(what)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, out + err
        assert json.loads(out.splitlines()[-1])["status"] == "interrupted"
        assert json.loads(file.read_text())["status"] == "interrupted"
        done = pull(path, *DAY)
        assert done["exit_code"] == 0
        assert uuids(tmp_path) == expected(amplitude, "2026-03-01T00", "2026-03-02T00")
        audited(path)


def test_exit_codes_say_what_to_do(tmp_path, amplitude):
    def folder(name):
        made = tmp_path / name
        made.mkdir()
        return made

    wrong = write(folder("keys"), amplitude, source={"secret_key": "wrong"})
    summary = pull(wrong, *DAY, check=77)
    assert summary["status"] == "failed" and "key" in summary["error"], summary

    with Amplitude("--hours", "1") as gone:
        path = write(folder("gone"), gone)
    file = tmp_path / "gone/xcom/return.json"
    summary = pull(path, *DAY, "--give-up-after", "2s", "--summary-file", file, check=69)
    assert summary["status"] == "gave_up" and json.loads(file.read_text()) == summary

    path = write(folder("future"), amplitude)
    late = ("--start", "2026-03-01T00", "--end", "2099-01-01T00")
    assert pull(path, *late, check=75)["status"] == "not_ready"
    assert pull(path, *late, "--skip-exit-code", check=99)["status"] == "not_ready"

    file = tmp_path / "failed.json"
    assert pull(path, "--summary-file", file, source="nobody", check=2)["status"] == "failed"
    assert "there are: amp" in json.loads(file.read_text())["error"]
    unsound = folder("unsound") / "lakeward.yaml"
    unsound.write_text("pipelnes: []")
    assert pull(unsound, "--summary-file", file, check=78)["exit_code"] == 78
    assert json.loads(file.read_text())["exit_code"] == 78


def test_an_hour_that_cannot_be_read_is_set_aside_and_tried_again(tmp_path):
    script = tmp_path / "script.json"
    script.write_text(json.dumps([{"hours": "2026-03-01T03", "requests": "1-12", "what": "corrupt"}]))
    with Amplitude("--from", "2026-03-01", "--hours", "6", "--events-per-hour", "30", "--script", script) as amplitude:
        path = write(tmp_path, amplitude, source={"window": 1})
        range_ = ("--start", "2026-03-01T00", "--end", "2026-03-01T05")
        summary = pull(path, *range_, check=65)
        [failed] = [hour for hour in summary["hours"] if hour["status"] == "failed"]
        assert failed["h"] == "2026-03-01T03" and failed["reason"]
        assert summary["slices_exported"] == 5, "it does not hold up the others"
        for _ in range(12):
            done = lakeward("pull", "-c", path, "amp", *range_, check=False)
            if done.returncode == 0:
                break
        assert done.returncode == 0, done.stdout
        assert uuids(tmp_path) == expected(amplitude, "2026-03-01T00", "2026-03-01T06")
        audited(path)


def test_output_is_as_schedulers_want_it(tmp_path, amplitude):
    path = write(tmp_path, amplitude)
    done = lakeward("pull", "-c", path, "amp", *DAY, "--kestra", "--log-to", "stdout")
    lines = done.stdout.splitlines()
    [outputs] = [line for line in lines if line.startswith("::")]
    assert json.loads(outputs.strip(":"))["outputs"]["events"] == json.loads(lines[-1])["events"] > 0
    assert done.stderr == ""
    quiet = lakeward("pull", "-c", path, "amp", *DAY, "--quiet")
    assert (quiet.stdout, quiet.stderr) == ("", ""), "cron sends mail for every line"
    json_only = lakeward("pull", "-c", path, "amp", *DAY, "--json")
    assert json.loads(json_only.stdout)["status"] == "nothing_new"
