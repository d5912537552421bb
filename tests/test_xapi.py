"""xAPI statements: the door for learning software, the bucket of Torus, and the rows that come of both."""

import base64
import concurrent.futures
import datetime
import json
import urllib.error
import urllib.parse
import urllib.request
import uuid

import pytest
import tincan
from service import Service, config, http, lakeward, pipeline, wait_until
from xapi_data import (
    EXPECTED, RAW_COLUMNS, STATEMENTS, assert_all_tables, event_hash, init, table,
)

VERSION = {"X-Experience-API-Version": "1.0.3"}
JSON = {"Content-Type": "application/json", **VERSION}


def in_folder(tmp_path, *arguments):
    """The template's configuration on a folder instead of Torus' bucket."""
    (tmp_path / "bucket").mkdir(exist_ok=True)
    path = init(tmp_path, "--url", "./bucket", *arguments)
    path.write_text(path.read_text().replace("    type: objects\n", "    type: objects\n    settle: 0s\n    every: 1s\n"))
    return path


def put_in_bucket(tmp_path, lines, section=145, category="video", at="2025-05-21T13-50-00.123456Z", bundle="4C1F"):
    path = tmp_path / "bucket/section" / str(section) / category / f"{at}_{bundle}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    partial.write_bytes(b"\n".join(lines))
    partial.rename(path)
    return str(path.relative_to(tmp_path / "bucket"))


def post(service, body, path="/xAPI/statements", **headers):
    return service.post(path, body, {**JSON, **headers})


# The rows


def test_every_kind_sent_directly(tmp_path):
    """One by one, and in arrays: the tables are what the specification of the mapping says, row by row."""
    with Service.run(in_folder(tmp_path)) as service:
        for line in STATEMENTS[:3]:
            status, ids = post(service, line)
            assert (status, len(ids)) == (200, 1), ids
        status, ids = post(service, b"[" + b", ".join(STATEMENTS[3:]) + b"]")
        assert (status, len(ids)) == (200, len(STATEMENTS) - 3), ids
        assert ids[-1] == json.loads(STATEMENTS[-1])["id"]
        service.wait_until_delivered()
        service.audit()
    assert_all_tables(tmp_path / "lake")


def test_every_kind_from_the_bucket_live_and_backfilled_once(tmp_path):
    """The same tables as by the door; and what came live, from the bucket and by a backfill is there once."""
    name = put_in_bucket(tmp_path, STATEMENTS)
    with Service.run(in_folder(tmp_path)) as service:
        lake = tmp_path / "lake"
        wait_until(lambda: len(table(lake, "raw_events", ["event_hash"])) == len(STATEMENTS))
        service.wait_until_delivered()
        assert_all_tables(lake)
        origins = table(lake, "raw_events", ["event_hash", "source_file", "source_line", "source_etag"])
        etags = {row.pop("source_etag") for row in origins}
        assert len(etags) == 1 and None not in etags, etags
        places = {row["event_hash"]: (row["source_file"], row["source_line"]) for row in origins}
        assert places == {event_hash(line): (name, n) for n, line in enumerate(STATEMENTS, 1)}
        # Directly, the same again.
        assert post(service, b"[" + b",".join(STATEMENTS) + b"]")[0] == 200
        # The same lines in another bundle, and the whole range once more.
        put_in_bucket(tmp_path, STATEMENTS[::-1], bundle="5D20")
        lakeward("pull", "torus", "--force", "--where", "section_id=145", "--from", "2025-05-21", "--to", "2025-05-22",
                 "-c", tmp_path / "lakeward.yaml", cwd=tmp_path)
        service.wait_until_delivered()
        raw = next(p for p in service.pipelines() if p["pipeline"] == "raw_events")
        assert raw["duplicates"] >= 3 * len(STATEMENTS), raw
        service.audit()
    assert_all_tables(tmp_path / "lake")


def test_live_statements_are_where_their_backfill_finds_them(tmp_path):
    """kill -9 in between; a section and a range of days; a dry run counts and takes nothing."""
    for section, day in [(145, "20"), (145, "21"), (145, "22"), (146, "21")]:
        line = STATEMENTS[0].replace(b'"2025-05-21T13:41:06Z"', f'"2025-05-{day}T00:00:0{section - 140}Z"'.encode())
        put_in_bucket(tmp_path, [line], section=section, at=f"2025-05-{day}T12-00-00.123456Z")
    path = in_folder(tmp_path, "--tables", "unified")
    ask = ["torus", "--where", "section_id=145", "--from", "2025-05-21", "--to", "2025-05-23", "-c", path]
    dry = lakeward("pull", *ask, "--dry-run", "--json", cwd=tmp_path).stdout.splitlines()
    assert len(dry) == 3 and '"slices":2' in dry[-1] and '"taken":0' in dry[-1], dry
    assert not (tmp_path / "lake").exists()
    lakeward("pull", *ask, cwd=tmp_path)
    found = table(tmp_path / "lake", "raw_events", ["timestamp", "source_file"])
    assert sorted(row["timestamp"] for row in found) == ["2025-05-21T00:00:05Z", "2025-05-22T00:00:05Z"]
    with Service.run(path) as service:
        wait_until(lambda: len(table(tmp_path / "lake", "raw_events", ["event_hash"])) >= 3)
        service.kill()
        service.start()
        wait_until(lambda: len(table(tmp_path / "lake", "raw_events", ["event_hash"])) == 4)
        service.wait_until_delivered()
        service.audit()


def test_a_statement_without_a_time_has_that_of_its_arrival(tmp_path):
    with Service.run(in_folder(tmp_path, "--tables", "unified")) as service:
        sent = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
        assert post(service, text(timestamp=None))[0] == 200
        assert post(service, text(timestamp=None, stored="2026-03-01T05:06:07Z"))[0] == 200
        service.wait_until_delivered()
    stored, arrived = sorted(row["timestamp"] for row in table(tmp_path / "lake", "raw_events", ["timestamp"]))
    assert stored == "2026-03-01T05:06:07Z" and sent <= arrived, (stored, arrived)


def test_only_the_tables_that_are_asked_for(tmp_path):
    path = in_folder(tmp_path, "--tables", "kinds")
    assert "raw_events" not in path.read_text()
    with Service.run(path) as service:
        assert post(service, b"[" + b",".join(STATEMENTS) + b"]")[0] == 200
        service.wait_until_delivered()
    assert not (tmp_path / "lake/raw_events").exists()
    assert len(table(tmp_path / "lake", "video_events", ["event_hash"])) == 6


def test_the_summary_has_the_numbers_of_all_kinds(tmp_path):
    put_in_bucket(tmp_path, STATEMENTS)
    done = lakeward("pull", "torus", "-c", in_folder(tmp_path), "--json", cwd=tmp_path)
    pipelines = json.loads(done.stdout.splitlines()[-1])["pipelines"]
    assert {name: numbers["rows"] for name, numbers in pipelines.items()} == {
        "raw_events": 14, "video_events": 6, "activity_attempt_events": 1, "page_attempt_events": 1,
        "page_viewed_events": 2, "part_attempt_events": 2,
    }


# What the system that this replaces does wrong (contract, sections 2.2 to 2.4)


def raw_by_statement(lake):
    found = {row["event_hash"]: row for row in table(lake, "raw_events", RAW_COLUMNS)}
    return {expected["statement"]: found[event_hash(line)] for line, expected in zip(STATEMENTS, EXPECTED, strict=True)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The rows of all examples, processed twice."""
    folder = tmp_path_factory.mktemp("made")
    with Service.run(in_folder(folder, "--tables", "unified")) as service:
        for _ in range(2):
            assert post(service, b"[" + b",".join(STATEMENTS) + b"]")[0] == 200
        put_in_bucket(folder, STATEMENTS)
        wait_until(lambda: service.pipelines()[0]["received"] == 2 * len(STATEMENTS), timeout=60)
        service.wait_until_delivered()
    return raw_by_statement(folder / "lake")


def test_defect_no_id_meant_a_new_row_at_every_processing(made):
    """Sent twice (known by the id that follows from the bytes), and from the bucket (known by the hash): one row each."""
    assert len(made) == len(STATEMENTS)


def test_defect_videos_had_no_page(made):
    assert [made[name]["page_id"] for name in ["played", "paused", "seeked", "video completed"]] == [81181] * 4


def test_defect_attempts_of_videos_were_empty(made):
    assert (made["played"]["page_attempt_guid"], made["played"]["page_attempt_number"]) == ("48e1a1b2", 1)


def test_defect_integer_names_and_users_by_account_or_address(made):
    assert made["played"]["user_id"] == "15474"
    assert made["a user by address"]["user_id"] == "jane.o'neil@example.edu"


def test_defect_answers_that_are_objects_and_lists_of_hints(made):
    assert json.loads(made["part attempt"]["response"]) == {"input": ".138"}
    assert made["part attempt"]["hints_requested"] == 0
    assert made["part attempt, https, hints"]["hints_requested"] == 2


def test_defect_success_is_always_true(made):
    """Torus says so whatever was answered; the score tells."""
    assert made["part attempt"]["success"] is True and made["part attempt"]["score"] == 0.0


def test_defect_other_kinds_were_dropped(made):
    assert [made[name]["event_type"] for name in ["tutor message", "experiment condition"]] == ["unknown"] * 2


def test_defect_text_was_put_into_sql_with_half_an_escape(made):
    assert made["part attempt, https, hints"]["response"] == "it's \"\\frac{1}{2}\"\nand more"


def test_defect_the_date_in_the_name_was_never_read(tmp_path):
    """`T12-00-00` is a time; the filter goes by it, not by when the object was written."""
    put_in_bucket(tmp_path, STATEMENTS[:1], at="2024-01-01T12-00-00.123456Z")
    put_in_bucket(tmp_path, STATEMENTS[1:2], at="2024-01-02T12-00-00.123456Z")
    path = in_folder(tmp_path, "--tables", "unified")
    lakeward("pull", "torus", "--date", "2024-01-02", "-c", path, cwd=tmp_path)
    assert [row["event_hash"] for row in table(tmp_path / "lake", "raw_events", ["event_hash"])] == [event_hash(STATEMENTS[1])]
    # And what a section has already is no reason to skip the rest of it.
    lakeward("pull", "torus", "--where", "section_id=145", "-c", path, cwd=tmp_path)
    assert len(table(tmp_path / "lake", "raw_events", ["event_hash"])) == 2


def test_defect_a_bad_line_was_only_counted(tmp_path):
    """It lies in quarantine with its bytes; the other lines of its object are rows."""
    put_in_bucket(tmp_path, [STATEMENTS[0], b'{"actor": ', STATEMENTS[1]])
    path = in_folder(tmp_path, "--tables", "unified")
    pulled = lakeward("pull", "torus", "-c", path, "--json", cwd=tmp_path)
    numbers = json.loads(pulled.stdout.splitlines()[-1])["pipelines"]["raw_events"]
    assert (numbers["rows"], numbers["quarantined"]) == (2, 1), numbers
    assert len(table(tmp_path / "lake", "raw_events", ["event_hash"])) == 2
    listed = json.loads(lakeward("quarantine", "ls", "-c", path, "--json", cwd=tmp_path).stdout.splitlines()[-1])
    assert "json.syntax" in json.dumps(listed), listed


# The door


def statement(**parts):
    made = {
        "actor": {"mbox": "mailto:a@example.com"}, "verb": {"id": "http://example.com/v"},
        "object": {"id": "http://example.com/o"}, "timestamp": "2026-03-01T05:06:07.123Z", **parts,
    }
    return {name: part for name, part in made.items() if part is not None}


def text(**parts):
    return json.dumps(statement(**parts)).encode()


@pytest.fixture
def door(tmp_path):
    lake = {**pipeline("xapi", {"type": "lake", "url": "./lake"}, path="rows/"), "raw": True,
            "sql": "SELECT _raw AS line FROM input"}
    with Service.run(config(tmp_path, [lake])) as service:
        yield service


def lines(service, folder):
    service.wait_until_delivered()
    return sorted(row["line"] for row in table(folder / "lake", "rows", ["line"]))


def test_a_real_client_sends(door, tmp_path):
    lrs = tincan.RemoteLRS(endpoint=f"{door.url}/xAPI/", version="1.0.1", username="u", password="p")
    about = lrs.about()
    assert about.success and "1.0.3" in about.content.version
    sent = tincan.Statement(
        actor=tincan.Agent(mbox="mailto:a@example.com"), verb=tincan.Verb(id="http://example.com/v"),
        object=tincan.Activity(id="http://example.com/o"),
    )
    saved = lrs.save_statement(sent)
    assert saved.success and uuid.UUID(str(saved.content.id))
    named = tincan.Statement(
        id=str(uuid.uuid4()), actor=tincan.Agent(mbox="mailto:b@example.com"), verb=tincan.Verb(id="http://example.com/v"),
        object=tincan.Activity(id="http://example.com/o"),
    )
    assert lrs.save_statement(named).success
    assert lrs.save_statement(named).success, "the same again is no error"
    found = lrs.retrieve_statement(str(named.id))
    assert found.success and found.content.actor.mbox == "mailto:b@example.com"
    several = lrs.save_statements([sent, tincan.Statement(
        actor=tincan.Agent(mbox="mailto:c@example.com"), verb=tincan.Verb(id="http://example.com/v"),
        object=tincan.Activity(id="http://example.com/o"), timestamp="2026-03-01T00:00:00Z",
    )])
    assert several.success and len(several.content) == 2
    other = tincan.Statement(
        id=str(named.id), actor=tincan.Agent(mbox="mailto:d@example.com"), verb=tincan.Verb(id="http://example.com/v"),
        object=tincan.Activity(id="http://example.com/o"),
    )
    assert lrs.save_statement(other).response.status == 409
    # The first, the one with an id, the first under its id, the last.
    assert len(lines(door, tmp_path)) == 4


def test_bytes_stay_as_they_are(door, tmp_path):
    spelt = b'{ "actor" : {"account":{"name":15474,"homePage":"x"}},"verb":{"id":"v\\u0031"},\n "object":{"id":"o}"},"timestamp":"2026-03-01T00:00:00Z","n":1.50}'
    assert post(door, b"\xef\xbb\xbf " + spelt + b" \r\n")[0] == 200
    assert post(door, b"[ " + spelt.replace(b"1.50", b"2") + b" ,\n " + spelt.replace(b"1.50", b"3") + b" ]")[0] == 200
    assert lines(door, tmp_path) == sorted(spelt.replace(b"1.50", n).decode() for n in [b"1.50", b"2", b"3"])


def test_ids(door, tmp_path):
    one, two = str(uuid.uuid4()), str(uuid.uuid4())
    put = lambda id, body: http("PUT", f"{door.url}/xAPI/statements?statementId={id}", body, JSON)
    assert put(one, text(id=one)) == (204, "")
    assert put(one, text(id=one)) == (204, "")
    # The same statement, spelt otherwise, and with what another LRS wrote into it.
    assert put(one.upper(), json.dumps({"stored": "x", **statement(id=one.upper())}, indent=1).encode())[0] == 204
    assert post(door, text(id=one)) == (200, [one])
    status, refusal = put(one, text(id=one, timestamp="2026-03-01T05:06:08Z"))
    assert status == 409 and one in refusal["error"]["message"], refusal
    assert post(door, text(id=one, result={"success": True}))[0] == 409
    # A conflict stores nothing of its request.
    status, _ = post(door, b"[" + text(id=two) + b"," + text(id=one, result={"success": True}) + b"]")
    assert status == 409
    # An id that only the address says.
    assert put(two, text())[0] == 204
    assert http("GET", f"{door.url}/xAPI/statements?statementId={two}", None, VERSION)[1]["id"] == two
    # Without an id: what has a time is the same statement when it comes again, what has none is a new one.
    timed = [post(door, text(result={"success": True}))[1] for _ in range(2)]
    assert timed[0] == timed[1]
    untimed = [post(door, text(timestamp=None))[1] for _ in range(2)]
    assert untimed[0] != untimed[1]
    assert all(uuid.UUID(id) for ids in timed + untimed for id in ids)
    assert len(lines(door, tmp_path)) == 5
    # The memory of ids is as durable as the records.
    door.kill()
    door.start()
    assert put(one, text(id=one))[0] == 204
    assert post(door, text(result={"success": True}))[1] == timed[0]
    assert len(lines(door, tmp_path)) == 5
    door.audit()


def test_two_at_once_with_one_id(door, tmp_path):
    """Of many that say different things one is stored, and the others hear of it; those that say the same are one."""
    id = str(uuid.uuid4())

    def at_once(bodies):
        with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
            put = lambda body: http("PUT", f"{door.url}/xAPI/statements?statementId={id}", body, JSON)[0]
            return sorted(pool.map(put, bodies))

    assert at_once([text(id=id, result={"response": str(n)}) for n in range(16)]) == [204] + [409] * 15
    id = str(uuid.uuid4())
    assert at_once([text(id=id)] * 16) == [204] * 16
    assert len(lines(door, tmp_path)) == 2


def test_what_is_refused(door, tmp_path):
    def refused(status, body, words, path="/xAPI/statements", method="POST", **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        got, refusal = http(method, door.url + path, body, {**JSON, **headers})
        assert got == status, (got, refusal)
        assert words in refusal["error"]["message"], refusal

    refused(400, b"hello", "it is no JSON")
    refused(400, b"", "it is no JSON")
    refused(400, b"[" + text() + b",", "cut short")
    refused(400, text(actor=None), "actor: it is required")
    refused(400, text(verb={"id": 7}), "verb.id")
    refused(400, text(object={"definition": {}}), "object.id")
    refused(400, text(id="7"), "id: it is a UUID")
    refused(400, b"[" + text() + b"," + text(actor="me") + b"]", "statement 2: actor")
    same = str(uuid.uuid4())
    refused(400, b"[" + text(id=same) + b"," + text(id=same, verb={"id": "x"}) + b"]", "comes twice")
    refused(400, text(), "X-Experience-API-Version", X_Experience_API_Version="0.95")
    refused(400, text(), "statementId is required", method="PUT")
    refused(400, text(), "statementId: it is a UUID", "/xAPI/statements?statementId=7", "PUT")
    refused(400, text(id=str(uuid.uuid4())), "not the one of statementId", f"/xAPI/statements?statementId={same}", "PUT")
    refused(400, b"[" + text() + b"]", "a PUT has one statement", f"/xAPI/statements?statementId={same}", "PUT")
    refused(400, text(), "a POST has no parameters", f"/xAPI/statements?statementId={same}")
    refused(415, b"--x", "attachments", Content_Type="multipart/mixed; boundary=x")
    refused(404, None, "no such statement", f"/xAPI/statements?statementId={same}", "GET")
    refused(501, None, "ask the lake", "/xAPI/statements?verb=x", "GET")
    refused(405, None, "", "/xAPI/statements", "DELETE")
    assert door.pipelines()[0]["received"] == 0
    # Both versions are answered in their own words; one of 1.0 would not know the other.
    about = lambda version: http("GET", door.url + "/xAPI/about", None, {"X-Experience-API-Version": version})[1]
    assert "2.0.0" in about("2.0.0")["version"] and "2.0.0" not in about("1.0.3")["version"]
    request = urllib.request.Request(door.url + "/xAPI/statements", text(), {**JSON, "X-Experience-API-Version": "2.0.0"})
    with urllib.request.urlopen(request) as reply:
        assert reply.headers["X-Experience-API-Version"] == "2.0.0"
        assert reply.headers["Access-Control-Allow-Origin"] == "*"


def test_who_may_send(tmp_path):
    lake = pipeline("xapi", {"type": "lake", "url": "./lake"})
    credentials = [{"user": "torus", "password": "pa:ss"}]
    path = config(tmp_path, [lake], xapi={"credentials": credentials, "strict": True, "stamp": True})
    with Service.run(path) as service:
        sent = lambda pair, **more: post(service, text(), Authorization="Basic " + base64.b64encode(pair).decode(), **more)
        assert post(service, text())[0] == 401
        assert [sent(pair)[0] for pair in [b"torus:pass", b"torus:", b"torus", b"other:pa:ss", b""]] == [401] * 5
        assert post(service, text(), Authorization="Bearer pa:ss")[0] == 401
        request = urllib.request.Request(service.url + "/xAPI/statements", text(), JSON)
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(request)
        assert refusal.value.headers["WWW-Authenticate"] == 'Basic realm="xAPI"'
        assert http("GET", service.url + "/xAPI/about")[0] == 200, "for everybody"
        assert service.post("/v1/streams/xapi/records", b"{}")[0] == 401, "it opens no other door, and closes them"
        status, [id] = sent(b"torus:pa:ss")
        assert status == 200
        # The specification's rules, since `strict` says so.
        status, refusal = post(service, STATEMENTS[0], Authorization="Basic " + base64.b64encode(b"torus:pa:ss").decode())
        assert status == 400 and "actor.account.homePage" in refusal["error"]["message"], refusal
        service.wait_until_delivered()
    found = table(tmp_path, "lake", ["id", "stored", "version", "authority"])
    assert found[0]["id"] == id and found[0]["version"] == "1.0.0"
    assert found[0]["stored"] and "torus" in json.dumps(found[0]["authority"])


def test_the_alternate_request_syntax(door, tmp_path):
    id = str(uuid.uuid4())
    form = urllib.parse.urlencode({
        "statementId": id, "content": text(id=id, result={"response": "a&b=ü"}), "X-Experience-API-Version": "1.0.3",
        "Content-Type": "application/json", "Authorization": "Basic eDp5",
    }).encode()
    plain = {"Content-Type": "application/x-www-form-urlencoded"}
    assert door.post("/xAPI/statements?method=PUT", form, plain) == (204, "")
    get = urllib.parse.urlencode({"statementId": id, "X-Experience-API-Version": "1.0.3"}).encode()
    assert door.post("/xAPI/statements?method=GET", get, plain)[1]["result"] == {"response": "a&b=ü"}
    assert door.post("/xAPI/statements?method=DELETE", get, plain)[0] == 400
    assert len(lines(door, tmp_path)) == 1


def test_pages_may_send(door):
    request = urllib.request.Request(door.url + "/xAPI/statements", method="OPTIONS")
    with urllib.request.urlopen(request) as reply:
        assert reply.status == 204
        assert "PUT" in reply.headers["Access-Control-Allow-Methods"]
        assert "X-Experience-API-Version" in reply.headers["Access-Control-Allow-Headers"]


def test_nobody_delivers_yet(tmp_path):
    with Service.run(config(tmp_path, [pipeline("other", {"type": "lake", "url": "./lake"})])) as service:
        status, refusal = post(service, text())
        assert status == 503 and "xapi" in refusal["error"]["message"], refusal


def test_a_lost_reply_and_kills(door, tmp_path):
    """A client that never hears anything, and sends again until it does: each statement is there once."""
    sent = [text(id=str(uuid.uuid4()), result={"response": str(n)}) for n in range(150)]
    sent += [text(result={"response": str(n)}) for n in range(150)]
    for start in range(0, len(sent), 30):
        body = b"[" + b",".join(sent[start:start + 30]) + b"]"
        door.process.poll()
        for attempt in range(3):
            status, _ = post(door, body)
            assert status == 200
            if attempt == 0:
                door.kill()
                door.start()
    assert lines(door, tmp_path) == sorted(line.decode() for line in sent)
    door.audit()
