"""`lakeward simulate amplitude`, seen with plain HTTP and Python's own zipfile and gzip."""

import base64
import gzip
import hashlib
import http.client
import io
import json
import re
import socket
import subprocess
import textwrap
import time
import zipfile

import pytest

import service
from simulated import Amplitude

KEYS = "Basic " + base64.b64encode(b"demo:demo").decode()
MEMBER = re.compile(r"203138/203138_(\d{4}-\d\d-\d\d)_(\d{1,2})#(\d+)\.json\.gz")


class Answer:
    """An answer as it came over the wire, to its end or until it broke."""

    def __init__(self, simulated, start, end=None, authorization=KEYS, path=None, timeout=60):
        connection = http.client.HTTPConnection(simulated.url.removeprefix("http://"), timeout=timeout)
        path = path or f"/api/2/export?start={start}&end={end or start}"
        headers = {"Authorization": authorization} if authorization else {}
        self.body, self.broken, self.status = b"", None, None
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            self.status, self.headers = response.status, response.headers
            # A piece at a time: what came before a break is kept.
            while piece := response.read1(1 << 16):
                self.body += piece
            expected = self.headers.get("content-length")
            if expected is not None and len(self.body) < int(expected):
                self.broken = http.client.IncompleteRead(self.body, int(expected) - len(self.body))
        except (http.client.HTTPException, ConnectionError, ValueError) as error:
            self.broken = error
        finally:
            connection.close()


def hour(day, hour):
    return f"2026{day}T{hour:02}"


def events(archive):
    """An archive's events, by hour. Reads every byte and checks every checksum."""
    found = {}
    with zipfile.ZipFile(io.BytesIO(archive)) as members:
        names = members.namelist()
        assert len(names) == len(set(names))
        for member in members.infolist():
            if member.is_dir():
                assert member.filename == "203138/"
                continue
            date, of, _ = MEMBER.fullmatch(member.filename).groups()
            assert of == str(int(of)), "hours have no zero before them"
            lines = gzip.decompress(members.read(member)).splitlines()
            found.setdefault(f"{date}T{int(of):02}", []).extend(json.loads(line) for line in lines)
    return found


def agrees(found, truth):
    """Whether what was exported is what the oracle says, hour by hour."""
    expected = {entry["hour"]: entry for entry in truth if entry["events"]}
    assert found.keys() == expected.keys()
    for name, entry in expected.items():
        uuids = sorted(event["uuid"] for event in found[name])
        assert len(uuids) == entry["events"]
        assert hashlib.sha256("".join(f"{uuid}\n" for uuid in uuids).encode()).hexdigest() == entry["uuids_sha256"]
    return True


def script(tmp_path, *rules):
    path = tmp_path / "script.json"
    path.write_text(json.dumps(rules))
    return path


def test_every_hour_is_what_the_oracle_says():
    with Amplitude("--hours", 72, "--events-per-hour", "0..60") as simulated:
        truth = simulated.oracle(bytes="true")
        assert len(truth) == 72
        empty = [entry for entry in truth if entry["events"] == 0]
        assert empty, "some hours are empty"
        found, kinds = {}, set()
        for day in ["0301", "0302", "0303"]:
            answer = Answer(simulated, hour(day, 0), hour(day, 23))
            assert (answer.status, answer.broken) == (200, None)
            assert "content-length" not in answer.headers, "it is made while it is sent"
            found |= events(answer.body)
            with zipfile.ZipFile(io.BytesIO(answer.body)) as members:
                kinds |= {(member.compress_type, member.flag_bits & 8) for member in members.infolist()}
        assert agrees(found, truth)
        # Stored members say their size before, deflated ones behind.
        assert kinds == {(zipfile.ZIP_STORED, 0), (zipfile.ZIP_DEFLATED, 8)}
        for name, of_hour in found.items():
            entry = next(entry for entry in truth if entry["hour"] == name)
            for event in of_hour:
                assert len(event) == 55
                assert event["server_upload_time"].startswith(name.replace("T", " "))
        every = [event["uuid"] for of_hour in found.values() for event in of_hour]
        assert sorted(every) == sorted(simulated.uuids())
        assert any(part > 100 for entry in truth for part in entry["parts"]), "some parts have large numbers"
        requests = simulated.requests()
        assert [request["status"] for request in requests] == [200, 200, 200]
        assert all(request["finished"] for request in requests)
        assert sum(request["events"] for request in requests) == len(every)
        assert simulated.terminate() == 0


def test_an_hour_is_the_same_alone_or_with_others_and_at_every_start():
    arguments = ["--hours", 30, "--events-per-hour", "20..40"]
    bodies = []
    for _ in range(2):
        with Amplitude(*arguments) as simulated:
            bodies.append(Answer(simulated, "20260301T05").body)
            together = events(Answer(simulated, "20260301T04", "20260301T06").body)
            assert together["2026-03-01T05"] == events(bodies[-1])["2026-03-01T05"]
            assert list(together) == ["2026-03-01T04", "2026-03-01T05", "2026-03-01T06"], "both ends are included"
    assert bodies[0] == bodies[1]
    with Amplitude(*arguments, "--seed", 2) as simulated:
        assert Answer(simulated, "20260301T05").body != bodies[0]
    printed = service.lakeward("simulate", "amplitude", *arguments, "--oracle").stdout
    with Amplitude(*arguments) as simulated:
        assert [json.loads(line) for line in printed.splitlines()] == simulated.oracle()


def test_zip64_fields_do_not_change_what_is_there():
    with Amplitude("--hours", 5, "--events-per-hour", 30, "--zip64") as simulated:
        answer = Answer(simulated, "20260301T00", "20260301T04")
        assert b"PK\x06\x06" in answer.body
        assert agrees(events(answer.body), simulated.oracle())


def test_credentials_and_windows_are_checked():
    with Amplitude("--hours", 24, "--events-per-hour", 5, "--secret-key", "hush") as simulated:
        right = "Basic " + base64.b64encode(b"demo:hush").decode()
        assert Answer(simulated, "20260301T00", authorization=right).status == 200
        none = Answer(simulated, "20260301T00", authorization=None)
        assert none.status == 401 and none.headers["www-authenticate"].startswith("Basic")
        for wrong in [KEYS, "Basic !", "Basic " + base64.b64encode(b"demo").decode()]:
            answer = Answer(simulated, "20260301T00", authorization=wrong)
            assert (answer.status, answer.body) == (403, b"Invalid API Key")
        for query in [
            "", "start=20260301T00", "end=20260301T00", "start=2026-03-01T00&end=20260301T00",
            "start=20260301T24&end=20260302T00", "start=20260301&end=20260301", "start=20260301T01&end=20260301T00",
            "start=20250301T00&end=20260301T00",
        ]:
            answer = Answer(simulated, None, authorization=right, path=f"/api/2/export?{query}")
            assert answer.status == 400, query
        widest = Answer(simulated, "20250301T01", "20260301T00", authorization=right)
        assert widest.status == 200 and list(events(widest.body)) == ["2026-03-01T00"]
        empty = Answer(simulated, "20260401T00", "20260401T23", authorization=right)
        assert (empty.status, empty.body) == (404, b"Raw data files were not found.")


def test_an_hour_comes_when_its_delay_is_over():
    with Amplitude(
        "--hours", 24, "--events-per-hour", 100, "--now", "2026-03-01T05:59:59Z", "--clock-speed", 0
    ) as simulated:
        def status(now, start="20260301T05"):
            assert simulated.set_clock(now=now)["now"] == now
            return Answer(simulated, start).status

        assert status("2026-03-01T05:30:00Z") == 404
        assert status("2026-03-01T07:59:59Z") == 404
        assert status("2026-03-01T08:00:00Z") == 200
        # A window holds what is there, and does not say what is missing.
        some = events(Answer(simulated, "20260301T04", "20260301T06").body)
        assert list(some) == ["2026-03-01T04", "2026-03-01T05"]


def test_late_hours_grow_until_they_are_complete():
    with Amplitude(
        "--hours", 24, "--events-per-hour", 100, "--misbehave", "late", "--now", "2026-03-01T05:00:00Z",
        "--clock-speed", 0,
    ) as simulated:
        counts, before = [], []
        for now in ["06:30", "07:00", "07:30", "07:59", "08:00", "23:00"]:
            simulated.set_clock(now=f"2026-03-01T{now}:00Z")
            found = events(Answer(simulated, "20260301T05").body)["2026-03-01T05"]
            assert found[: len(before)] == before, "what was there stays"
            before = found
            counts.append(len(found))
        assert counts == [25, 50, 75, 99, 100, 100]


def test_hours_that_may_be_missing_or_late_are_both_until_the_delay_is_over():
    with Amplitude(
        "--hours", 24, "--events-per-hour", 100, "--misbehave", "late,not-found", "--now", "2026-03-01T07:00:00Z",
        "--clock-speed", 0,
    ) as simulated:
        assert {Answer(simulated, "20260301T05").status for _ in range(20)} == {200, 404}
        simulated.set_clock(now="2026-03-01T08:00:00Z")
        for _ in range(10):
            assert len(events(Answer(simulated, "20260301T05").body)["2026-03-01T05"]) == 100


def test_exports_that_are_too_large_are_refused():
    with Amplitude("--hours", 24, "--events-per-hour", 100, "--too-large-bytes", "100KB") as simulated:
        small = Answer(simulated, "20260301T00", "20260301T01")
        assert small.status == 200 and len(small.body) < 100_000
        large = Answer(simulated, "20260301T00", "20260301T02")
        assert large.status == 400 and b"4GB" in large.body


def test_too_many_at_a_time_are_told_to_wait(tmp_path):
    rules = script(tmp_path, {"what": "stall", "requests": 1, "seconds": 600})
    with Amplitude("--hours", 2, "--events-per-hour", 500, "--concurrent", 1, "--script", rules) as simulated:
        # Whoever hangs holds a place; the headers say that it has begun.
        with socket.create_connection(simulated.url.removeprefix("http://").split(":")) as hanging:
            query = "/api/2/export?start=20260301T00&end=20260301T00"
            hanging.sendall(f"GET {query} HTTP/1.1\r\nHost: x\r\nAuthorization: {KEYS}\r\n\r\n".encode())
            assert hanging.recv(12) == b"HTTP/1.1 200"
            second = Answer(simulated, "20260301T01")
            assert (second.status, second.headers["retry-after"]) == (429, "1")
        deadline = time.monotonic() + 30
        while (status := Answer(simulated, "20260301T01").status) != 200:
            assert status == 429 and time.monotonic() < deadline


@pytest.mark.parametrize(
    "what, status, header",
    [
        ("not-found", 404, None), ("too-large", 400, None), ("timeout", 504, None), ("rate-limited", 429, "1"),
        ("error", 500, None), ("unavailable", 503, None), ("unauthorized", 401, None), ("forbidden", 403, None),
    ],
)
def test_statuses_by_script(tmp_path, what, status, header):
    rules = script(tmp_path, {"hours": "2026-03-01T05", "requests": [1, 2], "what": what})
    with Amplitude("--hours", 24, "--events-per-hour", 5, "--script", rules) as simulated:
        assert Answer(simulated, "20260301T04").status == 200
        for start in ["20260301T05", "20260301T04"]:
            answer = Answer(simulated, start, "20260301T05")
            assert (answer.status, answer.headers["retry-after"]) == (status, header)
        assert Answer(simulated, "20260301T05").status == 200
        told = [(request["status"], request.get("misbehaviour")) for request in simulated.requests()]
        assert told == [(200, None), (status, what), (status, what), (200, None)]


def test_retry_after_as_scripted(tmp_path):
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    rules = script(
        tmp_path, {"what": "rate-limited", "requests": 1, "retry_after": date},
        {"what": "rate-limited", "requests": 2, "retry_after": ""},
        {"what": "unavailable", "requests": 3, "retry_after": "30"},
    )
    with Amplitude("--hours", 1, "--script", rules) as simulated:
        answers = [Answer(simulated, "20260301T00") for _ in range(3)]
        assert [answer.headers["retry-after"] for answer in answers] == [date, None, "30"]


def right_and_wrong(tmp_path, rule):
    """The right answer for an hour, and the one that a rule spoils."""
    rules = script(tmp_path, {"requests": 1, **rule})
    with Amplitude("--hours", 1, "--events-per-hour", 400, "--script", rules) as simulated:
        wrong = Answer(simulated, "20260301T00")
        request = simulated.requests()[0]
        right = Answer(simulated, "20260301T00")
        assert agrees(events(right.body), simulated.oracle())
        return right, wrong, request


def test_truncated_ends_well_but_early(tmp_path):
    right, wrong, request = right_and_wrong(tmp_path, {"what": "truncated", "at": 0.7})
    assert (wrong.status, wrong.broken) == (200, None)
    assert right.body.startswith(wrong.body) and len(wrong.body) == int(len(right.body) * 0.7)
    assert (request["bytes"], request["misbehaviour"]) == (len(wrong.body), "truncated")
    with pytest.raises(zipfile.BadZipFile):
        events(wrong.body)


def test_truncated_by_a_byte(tmp_path):
    right, wrong, _ = right_and_wrong(tmp_path, {"what": "truncated", "at": 1.0})
    assert wrong.broken is None and wrong.body == right.body[:-1]


def test_cut_says_how_much_there_was(tmp_path):
    right, wrong, _ = right_and_wrong(tmp_path, {"what": "cut", "at": 0.3})
    assert wrong.broken is not None
    assert int(wrong.headers["content-length"]) == len(right.body)
    assert right.body.startswith(wrong.body) and len(wrong.body) < len(right.body)


def test_hangup_says_nothing(tmp_path):
    _, wrong, request = right_and_wrong(tmp_path, {"what": "hangup"})
    assert wrong.status is None and wrong.broken is not None
    assert request["misbehaviour"] == "hangup"


def test_html_instead_of_an_archive(tmp_path):
    _, wrong, _ = right_and_wrong(tmp_path, {"what": "html"})
    assert (wrong.status, wrong.broken) == (200, None)
    assert wrong.headers["content-type"].startswith("text/html") and wrong.body.startswith(b"<!DOCTYPE html>")


def test_gzip_instead_of_an_archive(tmp_path):
    right, wrong, _ = right_and_wrong(tmp_path, {"what": "gzip"})
    assert (wrong.status, wrong.body[:2]) == (200, b"\x1f\x8b")
    lines = [json.loads(line) for line in gzip.decompress(wrong.body).splitlines()]
    assert lines == events(right.body)["2026-03-01T00"]


def test_wrong_magic_is_one_of_both(tmp_path):
    _, wrong, _ = right_and_wrong(tmp_path, {"what": "wrong-magic"})
    assert wrong.status == 200 and wrong.body[:2] in (b"<!", b"\x1f\x8b")


def test_corrupt_is_whole_but_for_a_member(tmp_path):
    right, wrong, _ = right_and_wrong(tmp_path, {"what": "corrupt"})
    assert (wrong.status, wrong.broken) == (200, None)
    with zipfile.ZipFile(io.BytesIO(wrong.body)) as members:
        assert members.testzip() is not None
        bad = 0
        for name in members.namelist():
            try:
                members.read(name)
            except zipfile.BadZipFile:
                bad += 1
        assert bad == 1
    with zipfile.ZipFile(io.BytesIO(right.body)) as members:
        assert members.testzip() is None


def test_slow_takes_its_time_and_is_right(tmp_path):
    begun = time.monotonic()
    right, wrong, _ = right_and_wrong(tmp_path, {"what": "slow", "seconds": 1.5})
    assert time.monotonic() - begun >= 1.5
    assert (wrong.status, wrong.broken, wrong.body) == (200, None, right.body)


def test_stall_stops_half_way_and_breaks(tmp_path):
    begun = time.monotonic()
    right, wrong, _ = right_and_wrong(tmp_path, {"what": "stall", "at": 0.5, "seconds": 1})
    assert time.monotonic() - begun >= 1
    assert wrong.broken is not None and len(wrong.body) == int(len(right.body) * 0.5)


def test_late_by_script_whatever_the_time(tmp_path):
    right, wrong, _ = right_and_wrong(tmp_path, {"what": "late", "share": 0.25})
    some, every = events(wrong.body)["2026-03-01T00"], events(right.body)["2026-03-01T00"]
    assert len(some) == 100 and some == every[:100]


def test_resplit_is_the_same_events_in_other_parts(tmp_path):
    right, wrong, _ = right_and_wrong(tmp_path, {"what": "resplit"})
    names = [zipfile.ZipFile(io.BytesIO(answer.body)).namelist() for answer in (right, wrong)]
    assert names[0] != names[1]
    uuids = [sorted(e["uuid"] for e in events(answer.body)["2026-03-01T00"]) for answer in (right, wrong)]
    assert uuids[0] == uuids[1]


def test_with_all_misbehaviours_a_patient_client_gets_everything():
    """Three days as a naive client takes them: day by day, hour by hour where a day does not come."""
    with Amplitude(
        "--hours", 72, "--events-per-hour", "0..40", "--misbehave", "all", "--concurrent", 2
    ) as simulated:
        def take(first, last):
            for _ in range(5):
                answer = Answer(simulated, first, last)
                if answer.status == 404:
                    return {}
                if answer.status == 200 and answer.broken is None:
                    try:
                        return events(answer.body)
                    except (zipfile.BadZipFile, zipfile.LargeZipFile):
                        pass
            return None

        found = {}
        for day in ["0301", "0302", "0303"]:
            taken = take(hour(day, 0), hour(day, 23))
            if taken is None:
                for of in range(24):
                    one = take(hour(day, of), hour(day, of))
                    assert one is not None, f"{day} {of}: an hour comes at its fourth try"
                    found |= one
            else:
                found |= taken
        assert agrees(found, simulated.oracle())
        seen = {request.get("misbehaviour") for request in simulated.requests()}
        assert len(seen) > 8, seen


def test_a_big_hour_is_streamed():
    size = 200_000_000
    with Amplitude("--hours", 2, "--big-hour", f"2026-03-01T01={size}") as simulated:
        read = subprocess.run(
            ["curl", "-sS", "-u", "demo:demo", "-o", "/dev/null", "-w", "%{http_code} %{size_download}",
             f"{simulated.endpoint}?start=20260301T01&end=20260301T01"],
            capture_output=True, text=True, check=True, timeout=300,
        ).stdout.split()
        assert read[0] == "200" and abs(int(read[1]) - size) < size * 0.05
        with open(f"/proc/{simulated.process.pid}/status") as status:
            peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        assert peak < 200_000, f"{peak} KiB for an archive of {size} bytes"
        truth = simulated.oracle(hour="2026-03-01T01")[0]
        assert truth["events"] > 100_000


def test_a_big_hour_holds_what_the_oracle_says():
    with Amplitude("--hours", 2, "--big-hour", "2026-03-01T01=20MB") as simulated:
        assert agrees(events(Answer(simulated, "20260301T01").body), simulated.oracle(hour="2026-03-01T01"))


def test_mistakes_are_told(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("- { what: nonsense }\n")
    for arguments, status, part in [
        (["--script", bad], 78, "nonsense"),
        (["--script", tmp_path / "none.yaml"], None, "none.yaml"),
        (["--misbehave", "nonsense"], 2, "no misbehaviour"),
        (["--misbehave", "forbidden"], 2, "script"),
        (["--from", "yesterday"], 2, "no hour"),
        (["--to", "2026-01-01"], 2, "no hour from"),
        (["--hours", "5", "--to", "2026-03-02"], 2, "cannot be used with"),
        (["--big-hour", "4GB"], 2, "HOUR=SIZE"),
        (["--big-hour", "2026-03-01=1TiB"], 2, "100GB"),
        (["--events-per-hour", "10000001"], 2, "at the most"),
        (["--listen", "0.0.0.0:0"], 2, "--api-key"),
    ]:
        done = service.lakeward("simulate", "amplitude", *arguments, check=False)
        assert part in done.stderr and done.returncode != 0, (arguments, done.stderr)
        assert status is None or done.returncode == status, (arguments, done.returncode)


def test_what_it_says_at_its_start_works(tmp_path):
    """The example commands are run as they are printed."""
    process = subprocess.Popen(
        [service.PROGRAM, "simulate", "amplitude", "--hours", "3", "--events-per-hour", "5"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=service.ENVIRONMENT,
    )
    try:
        lines = []
        while "requests" not in (line := process.stdout.readline()):
            assert line, "it ended"
            lines.append(line)
        command = next(line for line in lines if "curl -u" in line)
        subprocess.run(command, shell=True, check=True, cwd=tmp_path, timeout=60)
        assert len(events((tmp_path / "export.zip").read_bytes())["2026-03-01T00"]) == 5
        text = "".join(lines)
        config = textwrap.dedent(text[text.index("  sources:"):text.index("See what")])
        if '"amplitude"' not in service.lakeward("schema").stdout:
            # A build without the source: the rest must be right all the same.
            config = config[config.index("pipelines:"):]
        (tmp_path / "lakeward.yaml").write_text(config)
        service.lakeward("check", "-c", tmp_path / "lakeward.yaml", cwd=tmp_path)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
