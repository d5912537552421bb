"""The same binary as an AWS Lambda function: events of every shape, bulk, redeliveries, kills, and the numbers."""

import io
import json
import time
import urllib.parse
import uuid
import zipfile

import boto3
import pytest
import servers
import yaml
from lambda_runtime import FunctionError, LambdaRuntime
from lake import fetch
from service import PROGRAM, lakeward, wait_until
from xapi_data import EXPECTED_RAW, STATEMENTS, assert_all_tables, event_hash, init, table

NUMBERS = {
    "events_processed": 14, "video_events_processed": 6, "activity_attempt_events_processed": 1,
    "page_attempt_events_processed": 1, "page_viewed_events_processed": 2, "part_attempt_events_processed": 2,
}


class Sandbox:
    """A prefix of the bucket for objects, one for the lake, and the function."""

    def __init__(self, s3, folder, *arguments, lambda_arguments=(), change=None):
        self.s3, self.folder = s3, folder
        self.client = s3.client()
        self.root = f"lambda-{uuid.uuid4().hex[:8]}"
        path = init(folder, *arguments)
        config = yaml.safe_load(path.read_text())
        access = {"endpoint": s3.endpoint, "region": "us-east-1", "access_key_id": s3.access_key,
                  "secret_access_key": s3.secret_key}
        config["sources"][0] |= {"url": f"s3://{s3.bucket}/{self.root}/in/", **access}
        for pipeline in config["pipelines"]:
            pipeline["destination"] = {"type": "lake", "url": f"s3://{s3.bucket}/{self.root}/lake/", **access}
        if change:
            change(config)
        path.write_text(json.dumps(config))
        self.path = path
        self.runtime = LambdaRuntime(folder, arguments=lambda_arguments)

    def __enter__(self):
        self.runtime.start()
        return self

    def __exit__(self, *_):
        self.runtime.stop()

    def put(self, lines, section=145, category="video", at="2025-05-21T13-50-00.123456Z", bundle="4C1F", end=".jsonl"):
        key = f"{self.root}/in/section/{section}/{category}/{at}_{bundle}{end}"
        self.client.put_object(Bucket=self.s3.bucket, Key=key, Body=b"\n".join(lines))
        return key

    def record(self, key):
        """As S3 writes it: the key as forms do."""
        head = self.client.head_object(Bucket=self.s3.bucket, Key=key)
        written = {"key": urllib.parse.quote_plus(key, safe="/"), "eTag": head["ETag"].strip('"'), "size": head["ContentLength"]}
        return {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "eventTime": "2025-05-21T13:50:01Z",
                "s3": {"bucket": {"name": self.s3.bucket}, "object": written}}

    def notification(self, *keys):
        return {"Records": [self.record(key) for key in keys]}

    def sqs(self, *bodies):
        return {"Records": [
            {"eventSource": "aws:sqs", "messageId": f"m-{n}", "receiptHandle": "r", "body": body}
            for n, body in enumerate(bodies)
        ]}

    def lake(self):
        folder = self.folder / f"fetched-{uuid.uuid4().hex[:6]}"
        return fetch(self.s3, f"{self.root}/lake/", folder)

    def hashes(self):
        return sorted(row["event_hash"] for row in table(self.lake(), "raw_events", ["event_hash"]))


@pytest.fixture
def sandbox(s3, tmp_path):
    with Sandbox(s3, tmp_path) as running:
        yield running


def test_every_shape_of_event_and_the_same_tables(sandbox):
    """Three shares of the statements by three kinds of events; each event twice. The tables are those of the service."""
    keys = [sandbox.put(STATEMENTS[start:start + 5], bundle=f"B+{start} ä") for start in (0, 5, 10)]
    bridge = {"source": "aws.s3", "detail-type": "Object Created", "time": "2025-05-21T13:50:01Z", "detail": {
        "bucket": {"name": sandbox.s3.bucket}, "object": {"key": keys[1]}}}
    sns = {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": json.dumps(sandbox.notification(keys[2]))}}]}
    for repeated in (False, True):
        body = sandbox.runtime.invoke(sandbox.notification(keys[0]))["body"]
        assert body["already_processed"] is repeated and body["success"] is True
        assert (body["s3_key"], body["s3_bucket"], body["section_id"]) == (keys[0], sandbox.s3.bucket, 145)
        assert (body["events_processed"], body["video_events_processed"], body["invalid_lines"]) == (5, 5, 0)
        assert body["file_size_bytes"] == len(b"\n".join(STATEMENTS[:5])) and body["processing_mode"] == "single"
        body = sandbox.runtime.invoke(bridge)["body"]
        assert (body["part_attempt_events_processed"], body["page_viewed_events_processed"]) == (2, 1)
        body = sandbox.runtime.invoke(sns)["body"]
        assert (body["events_processed"], body["page_viewed_events_processed"]) == (4, 1)
    lake = sandbox.lake()
    assert_all_tables(lake)
    origins = {row["event_hash"]: row for row in table(lake, "raw_events", ["event_hash", "source_file", "source_line", "source_etag"])}
    first = origins[event_hash(STATEMENTS[1])]
    assert (first["source_file"], first["source_line"]) == (keys[0].removeprefix(f"{sandbox.root}/in/"), 2)
    assert first["source_etag"] == sandbox.record(keys[0])["s3"]["object"]["eTag"]


def test_all_objects_of_an_event_and_all_numbers(sandbox):
    """The function that this replaces looks at the first record only."""
    keys = [sandbox.put(STATEMENTS[:7], bundle="A"), sandbox.put(STATEMENTS[7:], bundle="B")]
    body = sandbox.runtime.invoke(sandbox.notification(*keys))["body"]
    assert {name: body[name] for name in NUMBERS} == NUMBERS
    assert [one["s3_key"] for one in body["objects"]] == keys
    assert body["rows"]["raw_events"] == 14 and body["rows"]["video_events"] == 6
    assert_all_tables(sandbox.lake())


def test_one_object_by_name_and_what_is_skipped(sandbox):
    key = sandbox.put([STATEMENTS[0], b"no JSON", STATEMENTS[0]])
    answer = sandbox.runtime.invoke({"bucket": sandbox.s3.bucket, "key": key})
    assert answer["statusCode"] == 200
    body = answer["body"]
    assert (body["events_processed"], body["invalid_lines"], body["duplicate_lines"]) == (1, 1, 1)
    text = sandbox.put([b"hello"], end=".txt")
    for event, words in [
        ({"bucket": sandbox.s3.bucket, "key": text}, "glob"),
        ({"bucket": "another", "key": key}, "only"),
        ({"bucket": sandbox.s3.bucket, "key": "elsewhere.jsonl"}, "only"),
        ({"bucket": sandbox.s3.bucket, "key": key + "x.jsonl"}, "not there"),
    ]:
        answer = sandbox.runtime.invoke(event)
        assert answer["statusCode"] == 200 and answer["body"]["message"] == "Skipped", answer
        assert words in answer["body"]["skipped"], answer
    assert sandbox.runtime.invoke({"Service": "Amazon S3", "Event": "s3:TestEvent"})["body"]["message"] == "Nothing to do"
    assert sandbox.runtime.invoke({"Records": []})["statusCode"] == 200
    # The line that is no JSON lies in quarantine, with its bytes.
    kept = [path.read_text() for path in sandbox.lake().rglob("errors/raw_events/**/*") if path.is_file()]
    assert len(kept) == 1 and '"data":"no JSON"' in kept[0], kept


def test_messages_of_a_queue_are_answered_for_one_by_one(sandbox):
    good = [sandbox.put([line], bundle=f"G{n}") for n, line in enumerate(STATEMENTS[:3])]
    broken = sandbox.put([b"x"], bundle="Z")
    sandbox.client.put_object(Bucket=sandbox.s3.bucket, Key=broken, Body=b"\x1f\x8b\x08\x00cut off")
    bodies = [json.dumps(sandbox.notification(key)) for key in good]
    # One of them twice in one event.
    bodies.append(bodies[0])
    wrapped = json.dumps({"Type": "Notification", "TopicArn": "arn", "Message": bodies[2]})
    event = sandbox.sqs(bodies[0], json.dumps(sandbox.notification(broken)), bodies[1], "hello", wrapped,
                        json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent"}), bodies[3])
    answer = sandbox.runtime.invoke(event)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m-1"}, {"itemIdentifier": "m-3"}]}
    assert sandbox.hashes() == sorted(map(event_hash, STATEMENTS[:3]))
    # AWS sends what failed again, and now and then what did not.
    sandbox.client.put_object(Bucket=sandbox.s3.bucket, Key=broken, Body=STATEMENTS[3])
    again = sandbox.sqs(bodies[0], json.dumps(sandbox.notification(broken)))
    assert sandbox.runtime.invoke(again) == {"batchItemFailures": []}
    assert sandbox.hashes() == sorted(map(event_hash, STATEMENTS[:4]))


def test_what_fails_comes_again(s3, tmp_path):
    """An event without a queue fails as a whole, so that AWS tries it again; nothing is there twice then."""
    def wrong_key(config):
        config["pipelines"][1]["destination"] = {**config["pipelines"][1]["destination"], "secret_access_key": "wrong"}
    with Sandbox(s3, tmp_path, change=wrong_key) as sandbox:
        key = sandbox.put(STATEMENTS)
        with pytest.raises(FunctionError, match="403"):
            sandbox.runtime.invoke(sandbox.notification(key))
        answer = sandbox.runtime.invoke({"bucket": s3.bucket, "key": key})
        assert answer["statusCode"] == 500 and answer["body"]["success"] is False and answer["body"]["error"]
        health = sandbox.runtime.invoke({"health_check": True})
        assert health["statusCode"] == 500 and health["body"]["clickhouse_healthy"] is False
        config = json.loads(sandbox.path.read_text())
        config["pipelines"][1]["destination"] = config["pipelines"][0]["destination"]
        sandbox.path.write_text(json.dumps(config))
        sandbox.runtime.kill()
        sandbox.runtime.spawn()
        assert sandbox.runtime.invoke(sandbox.notification(key))["body"]["success"] is True
        assert_all_tables(sandbox.lake())


def test_kill_in_the_middle(sandbox):
    """Killed at any instant, the event is tried again: each statement is there once."""
    keys = []
    for n in range(8):
        lines = [STATEMENTS[0].replace(b"13:41:06Z", f"13:{n:02}:{m % 60:02}.{m:03}Z".encode()) for m in range(200)]
        keys.append((sandbox.put(lines, bundle=f"K{n}"), lines))
    events = [sandbox.sqs(*(json.dumps(sandbox.notification(key)) for key, _ in keys[start:start + 4])) for start in (0, 4)]
    for attempt, pause in enumerate([0.0, 0.05, 0.1, 0.2, 0.4]):
        sandbox.runtime.send(events[attempt % 2])
        time.sleep(pause)  # where the kill hits
        sandbox.runtime.kill()
        sandbox.runtime.spawn()
    for event in events:
        assert sandbox.runtime.invoke(event) == {"batchItemFailures": []}
    assert sandbox.hashes() == sorted(event_hash(line) for _, lines in keys for line in lines)


def test_health_and_diagnostics(sandbox):
    answer = sandbox.runtime.invoke({"health_check": True})
    assert answer["statusCode"] == 200
    body = answer["body"]
    assert body["clickhouse_healthy"] is True and body["lambda_function"] == "xapi-etl-processor"
    assert body["modes"] == ["single", "bulk"] and body["timestamp"].endswith("Z")
    assert len(body["destinations"]) == 6
    key = sandbox.put(STATEMENTS[:1])
    check = {"diagnostics": True, "s3_check": {"bucket": sandbox.s3.bucket, "prefix": f"{sandbox.root}/in/section/145/"}}
    answer = sandbox.runtime.invoke(check)
    assert answer["body"]["s3"]["objects"] == 1 and answer["body"]["s3"]["examples"] == [key]
    for nothing in [{}, {"hello": 1}, b"[]", b"hello"]:
        with pytest.raises(FunctionError):
            sandbox.runtime.invoke(nothing)


def test_bulk(sandbox):
    """A section, a range of days by the date in the name; a dry run; what is there is skipped, object by object."""
    days = {}
    for section, day in [(145, "20"), (145, "21"), (145, "22"), (146, "21")]:
        line = STATEMENTS[0].replace(b'"2025-05-21T13:41:06Z"', f'"2025-05-{day}T00:00:0{section - 140}Z"'.encode())
        days[section, day] = (sandbox.put([line, STATEMENTS[9]] if day == "22" else [line], section=section,
                                          at=f"2025-05-{day}T23-59-59.999999Z"), line)
    wanted = {"mode": "bulk", "section_id": "145", "start_date": "2025-05-21", "end_date": "2025-05-22",
              "s3_bucket": sandbox.s3.bucket}
    dry = sandbox.runtime.invoke({**wanted, "dry_run": True})["body"]
    assert (dry["message"], dry["files_found"], dry["total_files"]) == ("Dry run completed", 2, 2)
    assert dry["files"] == [days[145, "21"][0], days[145, "22"][0]] and dry["processing_mode"] == "bulk"
    assert sandbox.hashes() == []
    # One of them is there already, from a notification.
    sandbox.runtime.invoke(sandbox.notification(days[145, "21"][0]))
    body = sandbox.runtime.invoke({**wanted, "force_reprocess": False})["body"]
    assert (body["total_files_found"], body["processed_files"], body["failed_files"], body["skipped_files"]) == (2, 1, 0, 1)
    assert (body["total_events_processed"], body["total_video_events_processed"]) == (3, 2)
    assert body["total_page_viewed_events_processed"] == 1 and body["completed"] is True and body["success"] is True
    # The rest; meant also without the word.
    rest = sandbox.runtime.invoke({"start_date": "2025-05-20", "s3_prefix": f"{sandbox.root}/in/section/"})["body"]
    assert (rest["total_files_found"], rest["processed_files"], rest["skipped_files"]) == (4, 2, 2)
    expected = [line for _, line in days.values()] + [STATEMENTS[9]]
    assert sandbox.hashes() == sorted(map(event_hash, expected))
    for wrong, words in [({"s3_bucket": "other"}, "s3_bucket"), ({"s3_prefix": "other/"}, "s3_prefix"),
                         ({"force_reprocess": True}, "backfill apply")]:
        answer = sandbox.runtime.invoke({"mode": "bulk", **wrong})
        assert answer["statusCode"] == 500 and words in answer["body"]["error"], answer
    with pytest.raises(FunctionError, match="start_date"):
        sandbox.runtime.invoke({"mode": "bulk", "start_date": "2025-02-30"})


def test_bulk_stops_in_time_and_goes_on(s3, tmp_path):
    """The caller hears how far it got before the sandbox is stopped; calling again goes on."""
    with Sandbox(s3, tmp_path, "--tables", "unified", lambda_arguments=["lambda", "--parallel", "1", "--margin", "5s"]) as sandbox:
        lines = []
        for n in range(60):
            lines.append(STATEMENTS[0].replace(b"13:41:06Z", f"13:00:{n:02}Z".encode()))
            sandbox.put([lines[-1]], bundle=f"T{n:03}")
        began = time.monotonic()
        event, rounds, took = {"mode": "bulk", "section_id": 145}, 0, 0
        while True:
            body = sandbox.runtime.invoke(event, seconds=1.0)["body"]
            rounds += 1
            took += body["processed_files"]
            if body["completed"]:
                break
            assert body["success"] is False
            if body["start_after"]:
                event = {**event, "start_after": body["start_after"]}
            assert rounds < 100 and time.monotonic() - began < 80
        assert took == 60
        assert sandbox.hashes() == sorted(map(event_hash, lines))
        # No time at all: nothing is begun, and the message comes again.
        key = sandbox.put(STATEMENTS[1:2], bundle="U")
        late = sandbox.sqs(json.dumps(sandbox.notification(key)))
        assert sandbox.runtime.invoke(late, seconds=0)["batchItemFailures"] == [{"itemIdentifier": "m-0"}]


def test_lines_in_the_event(sandbox):
    """As Torus' own uploader calls it in its lambda mode."""
    event = {"_test_mode": True, "_test_body": b"\n".join(STATEMENTS).decode(), "key": "section/145/video/x.jsonl"}
    for _ in range(2):
        body = sandbox.runtime.invoke(event)["body"]
        assert {name: body[name] for name in NUMBERS} == NUMBERS and body["section_id"] == 145
    assert_all_tables(sandbox.lake())


def test_one_event_from_the_command_line(s3, tmp_path):
    """`--event`: what a person tries before deploying; without a sandbox, and with a configuration that cannot be."""
    sandbox = Sandbox(s3, tmp_path)
    key = sandbox.put(STATEMENTS)
    (tmp_path / "event.json").write_text(json.dumps({"bucket": s3.bucket, "key": key}))
    done = lakeward("lambda", "-c", sandbox.path, "--event", tmp_path / "event.json")
    assert json.loads(done.stdout)["body"]["events_processed"] == 14
    assert_all_tables(sandbox.lake())
    (tmp_path / "event.json").write_text("{}")
    assert lakeward("lambda", "-c", sandbox.path, "--event", tmp_path / "event.json", check=False).returncode == 75
    assert lakeward("lambda", "-c", sandbox.path, check=False).returncode == 2


def test_a_configuration_that_cannot_be_is_told(s3, tmp_path):
    def folder(config):
        config["sources"][0] = {"name": "torus", "type": "objects", "stream": "xapi", "url": "./bucket"}
    with Sandbox(s3, tmp_path, change=folder) as sandbox:
        wait_until(lambda: sandbox.runtime.init_error, sandbox.runtime.log_tail, 30)
        assert "bucket" in sandbox.runtime.init_error["errorMessage"]
        assert sandbox.runtime.process.wait(10) != 0


def test_bucket_queue_and_function_at_an_emulator(tmp_path):
    """S3 tells SQS, whose mapping invokes a function of `provided.al2023`: ministack runs all of it."""
    aws = servers.Glue("ministack")
    try:
        session = boto3.session.Session("test", "test", region_name="us-east-1")
        client = lambda name: session.client(name, endpoint_url=aws.endpoint)
        s3, sqs, functions = client("s3"), client("sqs"), client("lambda")
        path = init(tmp_path)
        config = yaml.safe_load(path.read_text())
        config["sources"][0] |= {"url": "s3://torus-objects/", "endpoint": aws.endpoint, "region": "us-east-1",
                                 "access_key_id": "test", "secret_access_key": "test"}
        for pipeline in config["pipelines"]:
            pipeline["destination"] = {"type": "lake", "url": str(tmp_path / "lake")}
        package = io.BytesIO()
        with zipfile.ZipFile(package, "w") as archive:
            bootstrap = zipfile.ZipInfo("bootstrap")
            bootstrap.external_attr = 0o755 << 16
            # The program itself, without packing some hundred MiB.
            archive.writestr(bootstrap, f"#!/bin/sh\nexec {PROGRAM}\n")
            archive.writestr("lakeward.yaml", json.dumps(config))
        functions.create_function(
            FunctionName="xapi", Runtime="provided.al2023", Handler="lakeward", Timeout=60,
            Role="arn:aws:iam::000000000000:role/xapi", Code={"ZipFile": package.getvalue()},
        )
        queue = sqs.create_queue(QueueName="torus-objects", Attributes={"VisibilityTimeout": "5"})["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        s3.create_bucket(Bucket="torus-objects")
        s3.put_bucket_notification_configuration(Bucket="torus-objects", NotificationConfiguration={
            "QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]})
        functions.create_event_source_mapping(
            FunctionName="xapi", EventSourceArn=arn, BatchSize=10, FunctionResponseTypes=["ReportBatchItemFailures"])
        for n, start in enumerate((0, 5, 10)):
            key = f"section/145/video/2025-05-21T13-50-00.{n:06}Z_4C1F.jsonl"
            s3.put_object(Bucket="torus-objects", Key=key, Body=b"\n".join(STATEMENTS[start:start + 5]))
        hashes = lambda: sorted(row["event_hash"] for row in table(tmp_path / "lake", "raw_events", ["event_hash"]))
        wait_until(lambda: hashes() == sorted(EXPECTED_RAW), hashes)
        answer = functions.invoke(FunctionName="xapi", Payload=json.dumps({"mode": "bulk", "section_id": 145}))
        body = json.loads(answer["Payload"].read())["body"]
        assert (body["total_files_found"], body["skipped_files"], body["total_events_processed"]) == (3, 3, 14), body
    finally:
        aws.stop()
    assert_all_tables(tmp_path / "lake")
