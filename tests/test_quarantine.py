"""Records that cannot be processed: kept once with their bytes, looked at, and let out exactly once."""

import base64
import collections
import gzip
import json
import os
import random
import subprocess
import time

import lake
from conftest import firehose_client
from service import ENVIRONMENT, PROGRAM, Service, config, lakeward, pipeline
from test_firehose import create

SEED = int(os.environ.get("LAKEWARD_TEST_SEED", time.time_ns() % 1_000_000))
LAKE = {"type": "lake", "url": "./lake"}
BAD = [b'{"n":1', b'{"n": 01}', b"\xff\xfe no text \x00 at all", b'["no object"]', '{"n":"ä€'.encode()]


def quarantine(service, command, *arguments, check=True):
    return lakeward("quarantine", command, *service.where, "--json", *arguments, check=check)


def listed(service, *arguments):
    return json.loads(quarantine(service, "ls", *arguments).stdout)


def shown(service, *arguments):
    return [json.loads(line) for line in quarantine(service, "show", *arguments).stdout.splitlines()]


def bytes_of(line):
    """The record without the line end that it came with."""
    data = line["data"].encode() if "data" in line else base64.b64decode(line["data_base64"])
    return data.removesuffix(b"\n")


def replay(service, *arguments, check=True):
    done = quarantine(service, "replay", *arguments, check=check)
    return json.loads(done.stdout.splitlines()[-1]) if check else done


def raw(service, *arguments):
    command = [PROGRAM, "quarantine", "show", *service.where, *arguments, "--raw"]
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, env=ENVIRONMENT,
                          cwd=service.cwd).stdout


def columns(folder, **more):
    return config(folder, [pipeline("numbers", LAKE, path="columns/", **more)])


def verbatim(folder):
    return config(folder, [pipeline("numbers", LAKE, format="verbatim", compression="gzip", path="columns/")])


def verbatim_records(folder):
    counted = collections.Counter()
    for path in lake.files(folder / "lake", ".gz"):
        counted.update(gzip.decompress(path.read_bytes()).splitlines())
    return counted


def balanced(service):
    """The equation, with every number of the pipeline."""
    audit = service.audit()
    assert audit["balanced"] is True
    (numbers,) = audit["pipelines"]
    settled = sum(numbers[name] for name in ("delivered", "filtered", "duplicates", "quarantined"))
    assert numbers["received"] == settled + numbers["pending"]
    return numbers


def send_bad(service, good=3):
    lines = [json.dumps({"n": 100 + n}).encode() for n in range(good)]
    body = b"\n".join(BAD + lines)
    assert service.records("numbers", body)[0] == 200
    service.wait_until_delivered()


def test_what_is_broken_is_kept_once_with_its_bytes(tmp_path):
    with Service.run(columns(tmp_path)) as service:
        send_bad(service)
        numbers = balanced(service)
        assert (numbers["delivered"], numbers["quarantined"]) == (3, len(BAD))
        found = listed(service)
        assert (found["records"], found["replayed"]) == (len(BAD), 0)
        assert sum(group["records"] for group in found["groups"]) == len(BAD)
        assert {group["pipeline"] for group in found["groups"]} == {"numbers"}
        assert {"json.syntax", "json.utf8"} <= {group["reason"] for group in found["groups"]}
        assert sorted(bytes_of(line) for line in shown(service, "numbers", "--limit", "0")) == sorted(BAD)
        assert len(shown(service, "numbers", "--limit", "2")) == 2
        (one,) = shown(service, "numbers", "--reason", "json.utf8")
        assert bytes_of(one) == BAD[2]
        assert raw(service, "numbers", "--reason", "json.utf8") == BAD[2] + b"\n"
        assert sorted(raw(service, "numbers").splitlines()) == sorted(BAD)
        # What people see: every reason, and a sample that is safe for a terminal.
        table = lakeward("quarantine", "ls", *service.where).stdout
        assert "json.syntax" in table and "\\xff" in table and "\x00" not in table
        assert lakeward("quarantine", "ls", *service.where, "nobody", check=False).returncode == 2


def test_a_replay_of_what_is_still_broken_brings_it_back_once(tmp_path):
    with Service.run(columns(tmp_path)) as service:
        send_bad(service)
        before = replay(service, "numbers", "--dry-run")
        assert (before["would_queue"], len(before["samples"])) == (len(BAD), len(BAD))
        assert balanced(service)["replayed"] == 0
        answer = replay(service, "numbers")
        assert (answer["queued"], answer["ended"]["quarantined"], answer["ended"]["delivered"]) == (len(BAD), len(BAD), 0)
        numbers = balanced(service)
        assert (numbers["quarantined"], numbers["replayed"], numbers["pending"]) == (len(BAD), len(BAD), 0)
        found = listed(service)
        assert (found["records"], found["replayed"]) == (len(BAD), len(BAD))
        assert sorted(bytes_of(line) for line in shown(service, "numbers")) == sorted(BAD)


def test_what_is_replayed_is_delivered_once_and_a_second_replay_adds_nothing(tmp_path):
    with Service.run(columns(tmp_path)) as service:
        send_bad(service)
        assert service.terminate() == 0, service.log_tail()
    with Service.run(verbatim(tmp_path)) as service:
        one = replay(service, "numbers", "--reason", "json.utf8")
        assert (one["queued"], one["ended"]["delivered"]) == (1, 1)
        assert balanced(service)["quarantined"] == len(BAD) - 1
        assert replay(service, "numbers", "--until", "2020-01-01")["queued"] == 0
        assert replay(service, "numbers", "--since", "2100-01-01")["queued"] == 0
        rest = replay(service, "numbers", "--since", "2020-01-01", "--at-once", "2")
        assert (rest["queued"], rest["ended"]["delivered"]) == (len(BAD) - 1, len(BAD) - 1)
        again = replay(service, "numbers")
        assert (again["queued"], again["already"]) == (0, 0)
        numbers = balanced(service)
        assert (numbers["delivered"], numbers["quarantined"]) == (3 + len(BAD), 0)
        assert listed(service)["records"] == 0 and shown(service, "numbers") == []
        assert verbatim_records(tmp_path) == collections.Counter(BAD)


def test_a_replay_without_the_service_is_delivered_at_its_next_start(tmp_path):
    with Service.run(columns(tmp_path)) as service:
        send_bad(service)
        assert service.terminate() == 0, service.log_tail()
    service = Service.run(verbatim(tmp_path))
    assert replay(service, "numbers")["queued"] == len(BAD)
    assert replay(service, "numbers")["queued"] == 0
    numbers = balanced(service)
    assert (numbers["pending"], numbers["quarantined"]) == (len(BAD), 0)
    with service:
        service.wait_until_delivered()
        assert balanced(service)["delivered"] == 3 + len(BAD)
    assert verbatim_records(tmp_path) == collections.Counter(BAD)


def test_a_quarantine_file_that_lost_a_line_does_not_pass_the_audit(tmp_path):
    with Service.run(columns(tmp_path)) as service:
        send_bad(service)
        balanced(service)
        file = next(path for path in lake.files(tmp_path / "lake", ".ndjson"))
        body = file.read_bytes()
        lines = body.splitlines(keepends=True)
        # The same size, a record less.
        file.write_bytes(b"".join(lines[:-2]) + lines[-2].rstrip(b"\n") + b" " + lines[-1])
        assert file.stat().st_size == len(body)
        audit = lakeward("audit", *service.where, "--json", check=False)
        assert audit.returncode == 65 and file.name in audit.stdout, audit


def test_a_fix_in_sql(tmp_path):
    fix = tmp_path / "fix.sql"
    fix.write_text("""SELECT data || '}' AS data FROM input WHERE reason = 'json.syntax' AND data LIKE '{"n":1%'\n""")
    with Service.run(columns(tmp_path)) as service:
        send_bad(service)
        dry = replay(service, "numbers", "--sql", fix, "--dry-run")
        assert dry["samples"] == [{"offset": 0, "before": '{"n":1', "after": '{"n":1\\n}'}]
        assert (dry["would_queue"], dry["found"]["left_out"]) == (1, len(BAD) - 1)
        assert balanced(service)["replayed"] == 0
        answer = replay(service, "numbers", "--sql", fix)
        assert (answer["queued"], answer["ended"]["delivered"]) == (1, 1)
        assert replay(service, "numbers", "--sql", fix)["queued"] == 0
        numbers = balanced(service)
        assert (numbers["delivered"], numbers["quarantined"]) == (4, len(BAD) - 1)
        assert sorted(n for (n,) in lake.rows(tmp_path / "lake", "SELECT n FROM {lake}")) == [1, 100, 101, 102]
        fix.write_text("SELECT reason FROM input")
        refused = replay(service, "numbers", "--sql", fix, check=False)
        assert refused.returncode == 65 and "no column `data`" in refused.stdout, refused
        fix.write_text("SELEKT 1")
        refused = replay(service, "numbers", "--sql", fix, check=False)
        assert refused.returncode == 2 and str(fix) in refused.stdout, refused
        assert balanced(service)["quarantined"] == len(BAD) - 1


def test_firehose_error_objects_can_be_replayed(dev):
    firehose = firehose_client(dev.url)
    conversion = {
        "Enabled": True,
        "InputFormatConfiguration": {"Deserializer": {"OpenXJsonSerDe": {}}},
        "OutputFormatConfiguration": {"Serializer": {"ParquetSerDe": {}}},
        "SchemaConfiguration": {"RoleARN": "arn:aws:iam::123456789012:role/firehose", "DatabaseName": "d",
                                "TableName": "t", "Region": "us-east-1"},
    }
    create(firehose, CompressionFormat="UNCOMPRESSED", DataFormatConversionConfiguration=conversion,
           ErrorOutputPrefix="errors/!{firehose:error-output-type}/",
           BufferingHints={"SizeInMBs": 64, "IntervalInSeconds": 0})
    firehose.put_record(DeliveryStreamName="experiments-stream", Record={"Data": b"{broken"})
    dev.wait_until_delivered()
    (group,) = listed(dev)["groups"]
    assert (group["records"], group["sample"]) == (1, "{broken")
    (line,) = shown(dev, "experiments-stream")
    assert line["offset"] == 0, "the error object says which record it is (`lakewardOffset`)"
    answer = replay(dev, "experiments-stream")
    assert (answer["queued"], answer["ended"]["quarantined"]) == (1, 1)
    assert dev.audit()["balanced"] is True


def test_schemas_of_a_pipeline(tmp_path):
    with Service.run(columns(tmp_path)) as service:
        for record in ({"n": 1, "s": {"x": [1]}}, {"n": 1.5, "new": "text"}):
            assert service.records("numbers", json.dumps(record).encode())[0] == 200
            service.wait_until_delivered()
        assert "s.x" in lakeward("schema", "show", "numbers", *service.where).stdout
        first = json.loads(lakeward("schema", "show", "numbers", "--version", "1", "--json", *service.where).stdout)
        assert [column["name"] for column in first["columns"]] == ["n", "s"]
        changes = lakeward("schema", "diff", "numbers", *service.where).stdout
        assert "+ new string" in changes and "~ n int64 → float64" in changes, changes
        assert lakeward("schema", "show", "numbers", "--version", "9", *service.where, check=False).returncode == 2
        assert lakeward("schema", "show", "nobody", *service.where, check=False).returncode == 2


def test_kill_9_of_the_service_and_of_the_command_in_the_middle_of_a_replay(tmp_path):
    total = 4000
    broken = [b'{"n":%d' % n for n in range(total)]
    with Service.run(columns(tmp_path)) as service:
        assert service.records("numbers", b"\n".join(broken))[0] == 200
        service.wait_until_delivered()
        assert balanced(service)["quarantined"] == total
        assert service.terminate() == 0, service.log_tail()
    service = Service.run(verbatim(tmp_path))
    command = [PROGRAM, "quarantine", "replay", *service.where, "--json", "--yes", "--at-once", "2", "numbers"]
    chance, halfway = random.Random(SEED), 0
    try:
        for turn in range(12):
            service.start()
            replaying = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL,
                                         stderr=subprocess.DEVNULL, env=ENVIRONMENT, cwd=tmp_path)
            time.sleep(chance.uniform(0.03, 0.25))
            if turn % 2 == 0:
                replaying.kill()
            service.kill()
            replaying.kill()
            replaying.wait()
            numbers = balanced(service)
            found = listed(service)
            assert found["records"] == numbers["quarantined"], f"seed {SEED}, turn {turn}"
            assert found["records"] + numbers["replayed"] == total
            halfway += 0 < found["records"] < total
        assert halfway > 2, f"seed {SEED}: only {halfway} kills came in the middle"
        service.start()
        replay(service, "numbers", "--at-once", "500")
        service.wait_until_delivered()
        assert replay(service, "numbers")["queued"] == 0
        numbers = balanced(service)
        assert (numbers["delivered"], numbers["quarantined"], numbers["replayed"]) == (total, 0, total)
        assert service.terminate() == 0, service.log_tail()
    finally:
        service.kill()
    assert verbatim_records(tmp_path) == collections.Counter(broken), f"seed {SEED}"
