"""`lakeward backfill`: any range of a source is planned, applied and verified, and the numbers are those of a count by hand."""

import collections
import json
import os
import random
import subprocess
import time

import pytest

import lake
from service import ENVIRONMENT, PROGRAM, Service, config, lakeward, pipeline

SEED = int(os.environ.get("LAKEWARD_TEST_SEED", time.time_ns() % 1_000_000))
PATTERN = "section/{section_id:int}/{category}/{timestamp:time}_{bundle_id}.jsonl"
CATEGORIES = ("video", "page_viewed")
JANUARY = ("--from", "2026-01-01", "--to", "2026-02-01")


class Bucket:
    """A folder as system D's bucket has it: section/<id>/<category>/<time>_<bundle>.jsonl."""

    def __init__(self, folder, seed=SEED):
        self.folder = folder
        self.draw = random.Random(seed)
        # (section, day) of each record, by its id.
        self.records = {}
        self.bundles = 0

    def add(self, section, category, day, hour, records=None):
        lines = []
        for _ in range(self.draw.randint(1, 30) if records is None else records):
            name = f"r{len(self.records)}"
            self.records[name] = (section, day)
            lines.append(json.dumps({"id": name, "verb": category, "n": len(self.records)}))
        self.bundles += 1
        path = self.folder / f"section/{section}/{category}/{day}T{hour:02}-15-00.123456Z_b{self.bundles}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    def count(self, section=None, first="0", before="9"):
        """By hand."""
        return sum(
            1 for of, day in self.records.values() if section in (None, of) and first <= day < before
        )


@pytest.fixture
def bucket(tmp_path):
    made = Bucket(tmp_path / "bucket")
    for day in ("2025-12-31", "2026-01-01", "2026-01-15", "2026-01-31", "2026-02-01"):
        for section in (14, 145, 7):
            for category in CATEGORIES:
                for hour in (0, 23):
                    made.add(section, category, day, hour)
    return made


def write(folder, **more):
    source = {
        "name": "xapi", "type": "objects", "stream": "xapi", "url": "./bucket", "pattern": PATTERN, "settle": "0s",
        "schedule": {"cron": "0 0 1 1 *"},
    }
    made = {**pipeline("xapi", {"type": "lake", "url": "./lake"}, format="parquet", path="xapi/"), **more}
    return config(folder, [made], sources=[source])


def backfill(path, what, *arguments, check=0):
    done = lakeward("backfill", what, "xapi", "-c", path, "--json", *arguments, check=False, timeout=300)
    assert done.returncode == check, f"it ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return [json.loads(line) for line in done.stdout.splitlines()]


def total(path, *arguments):
    return backfill(path, "plan", *arguments)[-1]["total"]


def ids(folder):
    return collections.Counter(row[0] for row in lake.rows(folder / "lake", "SELECT id FROM {lake}"))


def test_a_month_is_planned_applied_and_verified(tmp_path, bucket):
    path = write(tmp_path)
    *slices, end = backfill(path, "plan", *JANUARY)
    assert end["total"]["slices"] == end["total"]["new"] == len(slices) == 3 * 3 * 2 * 2
    assert all("2026-01-" in line["name"] and line["state"] == "new" for line in slices)
    assert "date" in end["dates"] or "time" in end["dates"], "it says which date is meant"
    assert not (tmp_path / "lake").exists() or not lake.files(tmp_path / "lake"), "a plan changes nothing"

    applied = backfill(path, "apply", *JANUARY)[-1]
    january = bucket.count(first="2026-01-01", before="2026-02-01")
    assert applied["status"] == "done" and applied["events"] == applied["rows"] == january
    found = ids(tmp_path)
    assert sum(found.values()) == january and max(found.values()) == 1
    assert all("2026-01" in bucket.records[name][1] for name in found)

    verified = backfill(path, "verify", *JANUARY)[-1]
    assert verified["verified"] and verified["sum"]["source_records"] == january
    assert verified["sum"]["settled_records"] == verified["sum"]["rows"] == january

    again = backfill(path, "apply", *JANUARY)[-1]
    assert again["status"] == "nothing_new" and again["slices_already"] == len(slices)
    assert ids(tmp_path) == found

    human = lakeward("backfill", "plan", "xapi", "-c", path)
    assert "36 delivered" in human.stdout and "24 new" in human.stdout, human.stdout
    assert "2026-01-15" in human.stdout and "a run would take 24 slices" in human.stdout


def test_a_section_is_loaded_and_its_later_files_are_not_hidden(tmp_path, bucket):
    path = write(tmp_path)
    only = ("--where", "section_id=145")
    assert total(path, *only)["slices"] == 5 * 2 * 2, "14 and 7 are others"
    applied = backfill(path, "apply", *only)[-1]
    assert applied["events"] == bucket.count(section=145)
    bucket.add(145, "video", "2026-01-15", 12, records=5)
    assert total(path, *only)["new"] == 1
    assert backfill(path, "apply", *only)[-1]["events"] == 5
    assert sum(ids(tmp_path).values()) == bucket.count(section=145)
    assert total(path, "--prefix", "section/7/", *JANUARY)["new"] == 3 * 2 * 2
    assert backfill(path, "verify", *only)[-1]["verified"]


def test_verify_names_what_differs(tmp_path, bucket):
    path = write(tmp_path)
    backfill(path, "apply", *JANUARY)
    *differences, end = backfill(path, "verify", check=65)
    assert not end["verified"] and end["sum"]["differences"] == len(differences) == 24
    assert {difference["name"].split("/")[3][:10] for difference in differences} == {"2025-12-31", "2026-02-01"}

    # One that has other content now, and a file that somebody removed.
    changed = next(tmp_path.glob("bucket/section/14/video/2026-01-15T00*"))
    before = changed.stat().st_mtime_ns
    changed.write_text(changed.read_text() + '{"id":"late"}\n')
    # Whatever the clock of the file system is: it changed later.
    os.utime(changed, ns=(before + 1_000_000_000,) * 2)
    assert total(path, *JANUARY)["changed"] == 1
    *differences, end = backfill(path, "verify", *JANUARY, check=65)
    [difference] = differences
    assert difference["name"] == str(changed.relative_to(tmp_path / "bucket"))
    assert "other content" in difference["problem"]
    # The new content is taken; the rows of the old one are there still.
    backfill(path, "apply", *JANUARY)
    *differences, end = backfill(path, "verify", *JANUARY, check=65)
    [difference] = differences
    assert "other versions" in difference["problem"], difference
    doubled = sum(ids(tmp_path).values()) - len(ids(tmp_path))
    assert difference["problem"].startswith(f"{doubled} record"), difference
    lake.files(tmp_path / "lake")[0].unlink()
    end = backfill(path, "verify", "--from", "2026-01-01", "--to", "2026-01-02", check=65)[-1]
    assert not end["lake_balanced"] and any("missing" in finding["problem"] for finding in end["findings"])


def test_the_service_is_asked_and_keeps_its_runs(tmp_path, bucket):
    path = write(tmp_path)
    with Service.run(path) as service:
        applied = backfill(path, "apply", *JANUARY)[-1]
        assert applied["delivered"] and applied["events"] == bucket.count(first="2026-01-01", before="2026-02-01")
        *runs, _ = backfill(path, "status")
        assert [run["id"] for run in runs] == [applied["run_id"]] and runs[0]["state"] == "done"
        assert backfill(path, "verify", *JANUARY)[-1]["verified"]
        assert {run["kind"] for run in backfill(path, "status")[:-1]} == {"take", "count"}
        assert service.running
    table = lakeward("backfill", "status", "xapi", "-c", path).stdout
    assert "from 2026-01-01 00:00 to before 2026-02-01 00:00" in table


def killed_after(seconds, path, *arguments):
    """An apply that is killed, unless it ends before."""
    process = subprocess.Popen(
        [PROGRAM, "backfill", "apply", "xapi", "-c", path, *arguments], stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT, start_new_session=True,
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def test_killed_anywhere_apply_goes_on(tmp_path):
    draw = random.Random(SEED)
    bucket = Bucket(tmp_path / "bucket")
    for day in range(1, 29):
        for section in range(20):
            bucket.add(section, "video", f"2026-01-{day:02}", section)
    path = write(tmp_path)
    for _ in range(10):
        killed_after(draw.uniform(0.1, 1.5), path, *JANUARY)
    backfill(path, "apply", *JANUARY)
    found = ids(tmp_path)
    assert sum(found.values()) == len(found) == len(bucket.records), f"seed {SEED}"
    assert backfill(path, "verify", *JANUARY)[-1]["verified"], f"seed {SEED}"


def test_what_was_shaped_wrongly_is_replaced(tmp_path):
    draw = random.Random(SEED)
    bucket = Bucket(tmp_path / "bucket")
    for day in range(1, 32):
        for section in range(4):
            bucket.add(section, "video", f"2026-01-{day:02}", section)
    bucket.add(1, "video", "2026-02-01", 1)
    path = write(tmp_path, sql="SELECT id, n + 1000 AS n FROM input")
    everything = bucket.count()
    assert backfill(path, "apply")[-1]["events"] == everything
    old = set(lake.files(tmp_path / "lake"))
    assert all(n > 1000 for n, in lake.rows(tmp_path / "lake", "SELECT n FROM {lake}"))

    path = write(tmp_path, sql="SELECT id, n, verb FROM input")
    for _ in range(8):
        killed_after(draw.uniform(0.3, 2.0), path, "--replace", "--yes")
    replaced = backfill(path, "apply", "--replace", "--yes")[-1]
    assert replaced["status"] == "done", f"seed {SEED}: {replaced}"
    assert not old & set(lake.files(tmp_path / "lake")), f"seed {SEED}"
    rows = lake.rows(tmp_path / "lake", "SELECT id, n, verb FROM {lake}")
    expected = sorted((name, n) for n, name in enumerate(bucket.records, 1))
    assert sorted((name, n) for name, n, _ in rows) == expected, f"seed {SEED}"
    assert {verb for *_, verb in rows} == {"video"}
    verified = backfill(path, "verify")[-1]
    assert verified["verified"] and verified["sum"]["rows"] == everything, f"seed {SEED}: {verified}"
    audited = json.loads(lakeward("audit", "-c", path, "--json").stdout)["pipelines"][0]
    assert audited["balanced"] and audited["rows_replaced"] >= everything
    assert audited["rows_found"] == everything

    # A leftover is named for what it is.
    runs = [run for run in backfill(path, "status")[:-1] if run.get("replace") == "xapi"]
    assert runs[0]["state"] == "done"
    sorted(old)[0].write_bytes(b"PAR1")
    done = lakeward("audit", "-c", path, "--json", check=False)
    findings = json.loads(done.stdout)["pipelines"][0]["findings"]
    assert done.returncode == 65 and "a run replaced this file" in findings[0]["problem"]


def test_wrong_questions_get_an_answer(tmp_path, bucket):
    path = write(tmp_path)

    def check(arguments, words, code=2):
        done = lakeward("backfill", *arguments, "-c", path, check=False)
        assert done.returncode == code and words in done.stderr, f"{arguments}: {done.returncode} {done.stderr}"

    check(["plan", "nobody"], "there are: xapi")
    check(["plan", "xapi", "--from", "soon"], "2026-03-01T05")
    check(["plan", "xapi", "--from", "2026-02-01", "--to", "2026-01-01"], "not behind its start")
    check(["plan", "xapi", "--where", "145"], "PART=VALUE")
    check(["apply", "xapi", "--replace"], "--yes")
    pushed = pipeline("pushed", {"type": "lake", "url": "./lake"})
    config(tmp_path, [pushed])
    check(["plan", "pushed"], "no source feeds the stream pushed")
