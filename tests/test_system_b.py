"""Reference system B's transformation, written three ways, gives the same rows: SQL, its own Python function run as a
local command, and the same function behind HTTP. In UTC, whatever the machine's time zone.
"""

import json
import random
import subprocess
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import lake
import pytest
import service
from conftest import firehose_client
from service import ROOT, Service, config, pipeline

FUNCTION = ROOT / "crates/lakeward-connectors/tests/fixtures/lambda_function.py"
RUNNER = ROOT / "examples/lambda/run_lambda.py"
HIVE = ("year", "month", "day", "hour")
SQL = """
SELECT * EXCLUDE (parts, at),
  to_char(at, '%Y-%m-%dT%H:%M:%S') AS created_datetime,
  CASE WHEN array_length(parts) > 1 THEN parts[1] ELSE '' END AS event_type,
  CASE WHEN array_length(parts) > 2 THEN parts[2] ELSE '' END AS event_subtype,
  CAST(date_part('year', at) AS VARCHAR) AS year,
  CAST(date_part('month', at) AS VARCHAR) AS month,
  CAST(date_part('day', at) AS VARCHAR) AS day,
  CAST(date_part('hour', at) AS VARCHAR) AS hour
FROM (SELECT *, string_to_array(event_name, ':') AS parts, to_timestamp_seconds(created_at) AS at FROM input)
"""
NAMES = ["account:created", "account:removed", "lesson:started", "lesson:finished", "payment:order:created",
         "payment:order:completed", "login"]


class Endpoint(BaseHTTPRequestHandler):
    """The function behind HTTP: each event goes to a process of the runner in UTC."""

    process = None
    lock = threading.Lock()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        with self.lock:
            self.process.stdin.write(body.replace(b"\n", b" ") + b"\n")
            self.process.stdin.flush()
            reply = self.process.stdout.readline()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_):
        pass


@pytest.fixture
def endpoint():
    process = subprocess.Popen([sys.executable, str(RUNNER), str(FUNCTION)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={"TZ": "UTC"})
    handler = type("Handler", (Endpoint,), {"process": process})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    process.stdin.close()
    process.wait(10)


def events(count):
    chance = random.Random(7)
    return [
        {"event_uuid": str(uuid.UUID(int=chance.getrandbits(128))), "event_name": chance.choice(NAMES),
         "created_at": 1_712_448_000 + chance.random() * 200_000}
        for _ in range(count)
    ]


def ways(folder, endpoint):
    keys = "/".join(f"{key}=!{{partitionKeyFromLambda:{key}}}" for key in HIVE)
    columns = "/".join(f"{key}=!{{event:{key}}}" for key in HIVE)

    def one(name, path, **shaping):
        made = pipeline(name, {"type": "lake", "url": str(folder / "lake" / name)}, {"age": "200ms", "records": 2_000},
                        path=f"{path}/", error_path="errors/!{firehose:error-output-type}/")
        return {**made, "stream": "events", **shaping}

    return [
        one("sql", columns, sql=SQL),
        one("command", keys, **{"lambda": {"command": [sys.executable, str(RUNNER), str(FUNCTION)], "size": "64KiB"}}),
        one("http", keys, **{"lambda": {"url": endpoint, "size": "32KiB", "concurrency": 2}}),
    ]


def table(folder, name):
    select = ("SELECT event_uuid, event_name, created_at, created_datetime, event_type, event_subtype, "
              "year::VARCHAR, month::VARCHAR, day::VARCHAR, hour::VARCHAR FROM {lake} ORDER BY event_uuid")
    return lake.rows(folder / "lake" / name, select)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kathmandu"])
def test_the_same_rows_three_ways(tmp_path, endpoint, zone, monkeypatch):
    monkeypatch.setitem(service.ENVIRONMENT, "TZ", zone)
    sent = events(5_000)
    with Service.run(config(tmp_path, ways(tmp_path, endpoint))) as server:
        for start in range(0, len(sent), 1_000):
            body = "".join(json.dumps(event) + "\n" for event in sent[start:start + 1_000])
            assert server.records("events", body.encode())[0] == 200
        server.wait_until_delivered()
        server.audit()
    by_sql, by_command, by_http = (table(tmp_path, name) for name in ("sql", "command", "http"))
    assert len(by_sql) == len(sent)
    assert by_sql == by_command == by_http
    first = {event["event_uuid"]: event for event in sent}[by_sql[0][0]]
    assert by_sql[0][1:3] == (first["event_name"], first["created_at"])
    found = {(name, kind, sub) for _, name, _, _, kind, sub, *_ in by_sql}
    assert found == {
        ("account:created", "account", ""), ("account:removed", "account", ""), ("lesson:started", "lesson", ""),
        ("lesson:finished", "lesson", ""), ("payment:order:created", "payment", "order"),
        ("payment:order:completed", "payment", "order"), ("login", "", ""),
    }
    # 2024-04-07T00:00:00Z and the two days after it; keys are numbers without leading zeros.
    assert {(year, month) for *_, year, month, _, _ in by_sql} == {("2024", "4")}
    assert {day for *_, day, _ in by_sql} == {"7", "8", "9"}
    for _, _, created_at, created, *_, hour in by_sql:
        assert int(created_at) % 86_400 // 3_600 == int(hour) == int(created[11:13])


def test_one_bad_record_never_fails_its_batch(tmp_path, endpoint):
    """In system B's own set-up one malformed record sends its whole batch to processing-failed."""
    sent = events(300)
    lines = [json.dumps(event) for event in sent]
    lines[100:100] = ["this is no JSON", '{"event_uuid": "x", "event_name": 7}']
    with Service.run(config(tmp_path, ways(tmp_path, endpoint)[:2])) as server:
        assert server.records("events", "\n".join(lines).encode())[0] == 200
        by_name = {status["pipeline"]: status for status in server.wait_until_delivered()}
        server.audit()
    assert (by_name["sql"]["delivered"], by_name["sql"]["quarantined"]) == (301, 1)
    # The function raises on such a record: Firehose's contract fails the call, and with it its records. They wait in
    # quarantine with their bytes, and nothing else of the batch does.
    command = by_name["command"]
    assert command["delivered"] + command["quarantined"] == 302
    assert command["quarantined"] >= 2


def test_its_own_delivery_stream(tmp_path):
    """System B's Terraform as it is: a Kinesis stream of four shards as source, 5 MB buffers, dynamic partitioning with
    no key in the prefix, its function, and conversion to Parquet. AWS refuses that; LocalStack took it, and so does a
    service that is not strict.
    """
    arn = "arn:aws:lambda:eu-west-1:000000000000:function:dev-event-transformer"
    functions = {"dev-event-transformer": {"command": [sys.executable, str(RUNNER), str(FUNCTION)]}}
    firehose = {"strict": False, "buckets": {"url": str(tmp_path / "lake/{bucket}")}, "functions": functions}
    path = config(tmp_path, [], firehose=firehose)
    sent = events(400)
    with Service.run(path) as server:
        client = firehose_client(server.url)
        kinesis = boto3.client("kinesis", "us-east-1", endpoint_url=server.url, aws_access_key_id="a", aws_secret_access_key="b")
        kinesis.create_stream(StreamName="dev-event-stream", ShardCount=4)
        stream = kinesis.describe_stream_summary(StreamName="dev-event-stream")["StreamDescriptionSummary"]["StreamARN"]
        role = "arn:aws:iam::000000000000:role/r"
        parameters = {"LambdaArn": arn, "BufferSizeInMBs": "1", "BufferIntervalInSeconds": "60"}
        client.create_delivery_stream(
            DeliveryStreamName="dev-events", DeliveryStreamType="KinesisStreamAsSource",
            KinesisStreamSourceConfiguration={"KinesisStreamARN": stream, "RoleARN": role},
            ExtendedS3DestinationConfiguration={
                "RoleARN": role, "BucketARN": "arn:aws:s3:::dev-demo-data",
                "Prefix": "event-streams/data/", "ErrorOutputPrefix": "event-streams/errors/",
                "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 300},
                "DynamicPartitioningConfiguration": {"Enabled": True},
                "ProcessingConfiguration": {"Enabled": True, "Processors": [{"Type": "Lambda", "Parameters": [
                    {"ParameterName": name, "ParameterValue": value} for name, value in parameters.items()]}]},
                "DataFormatConversionConfiguration": {
                    "InputFormatConfiguration": {"Deserializer": {"HiveJsonSerDe": {}}},
                    "OutputFormatConfiguration": {"Serializer": {"ParquetSerDe": {}}},
                    "SchemaConfiguration": {"DatabaseName": "d", "TableName": "t", "Region": "eu-west-1", "RoleARN": role},
                },
            },
        )
        for start in range(0, len(sent), 100):
            batch = [
                {"Data": json.dumps(event).encode(), "PartitionKey": event["event_uuid"]} for event in sent[start:start + 100]
            ]
            assert kinesis.put_records(StreamName="dev-event-stream", Records=batch)["FailedRecordCount"] == 0
        with pytest.raises(client.exceptions.InvalidArgumentException, match="not permitted on KinesisStreamAsSource"):
            client.put_record(DeliveryStreamName="dev-events", Record={"Data": b"{}"})
        # Five minutes are the buffer's; a stop delivers what is pending.
        assert server.terminate() == 0, server.log_tail()
    rows = lake.rows(tmp_path / "lake/dev-demo-data/event-streams/data",
                     "SELECT event_uuid, event_type, event_subtype FROM {lake} ORDER BY 1")
    assert [row[0] for row in rows] == sorted(event["event_uuid"] for event in sent)
    assert {row[1:] for row in rows} == {("account", ""), ("lesson", ""), ("payment", "order"), ("", "")}
