"""xAPI statements into ClickHouse: live, from the bucket, backfilled and by Lambda, each of them once."""

import datetime
import json
import os
import pathlib
import re

import yaml
from clickhouse_events import database, server  # noqa: F401
from lambda_runtime import LambdaRuntime
from service import Service, lakeward, wait_until
from xapi_data import EXPECTED_RAW, KIND_COLUMNS, RAW_COLUMNS, STATEMENTS, assert_rows, event_hash, expected_of, init

# How many statements come live and once more by a backfill.
MANY = int(os.environ.get("LAKEWARD_XAPI_STATEMENTS", "6000"))
# Seconds for all of them to be taken or delivered.
PATIENCE = 240 + MANY // 500
TABLES = ["raw_events", *(f"{kind}_events" for kind in KIND_COLUMNS)]


def configured(server, database, folder, source, *arguments, **settings):
    """`lakeward init xapi --to clickhouse`, on a server and a source of the test's."""
    path = init(folder, "--to", "clickhouse", *arguments)
    config = yaml.safe_load(path.read_text())
    config["sources"][0] |= source
    for pipeline in config["pipelines"]:
        pipeline["destination"] |= {
            "url": server.url, "user": server.user, "password": server.password, "database": database,
            "parts_per_minute": 6000, **settings,
        }
    path.write_text(json.dumps(config))
    return path


def folder_of(tmp_path):
    (tmp_path / "bucket").mkdir(exist_ok=True)
    return {"url": "./bucket", "settle": "0s", "every": "1s"}


def put_in_folder(tmp_path, lines, name="section/145/video/2025-05-21T13-50-00.123456Z_4C1F.jsonl"):
    path = tmp_path / "bucket" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    partial.write_bytes(b"\n".join(lines))
    partial.rename(path)


def plain(name, value, like):
    if isinstance(value, datetime.datetime):
        text = value.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")
        return f"{text}Z"
    # What a table is sorted by is never null.
    if like is None and value in (0, ""):
        return None
    return value


def table(server, database, name, columns, expected, final=False):
    listed = ", ".join(f"`{column}`" for column in columns)
    with server.client() as client:
        found = client.query(f"SELECT {listed} FROM `{database}`.{name}{' FINAL' if final else ''}").result_rows
    rows = []
    for row in found:
        row = dict(zip(columns, row, strict=True))
        like = expected.get(row["event_hash"], {})
        rows.append({column: plain(column, value, like.get(column)) for column, value in row.items()})
    return rows


def assert_all_tables(server, database, final=False):
    assert_rows(table(server, database, "raw_events", RAW_COLUMNS, EXPECTED_RAW, final), EXPECTED_RAW)
    for kind, columns in KIND_COLUMNS.items():
        expected = expected_of(kind)
        assert_rows(table(server, database, f"{kind}_events", columns.split(), expected, final), expected)


def counts(server, database, name):
    return server.value(f"SELECT concat(toString(count()), ' ', toString(uniqExact(event_hash))) FROM `{database}`.{name}")


def assert_balanced(service):
    """What became of every record. (`lakeward audit` cannot count by batch where rows replace others.)"""
    for pipeline in service.pipelines():
        ends = sum(pipeline[end] for end in ["delivered", "filtered", "duplicates", "quarantined", "pending"])
        assert pipeline["received"] == ends and pipeline["quarantined"] == pipeline["pending"] == 0, pipeline


def post(service, lines):
    version = {"X-Experience-API-Version": "1.0.3", "Content-Type": "application/json"}
    status, answer = service.post("/xAPI/statements", b"[" + b",".join(lines) + b"]", version)
    assert status == 200, answer


def test_every_kind_live_and_backfilled(tmp_path, server, database):
    """Sent directly, then found in the bucket, then the whole range once more: a row each, in all tables."""
    path = configured(server, database, tmp_path, folder_of(tmp_path))
    with Service.run(path) as service:
        post(service, STATEMENTS)
        service.wait_until_delivered()
        assert_all_tables(server, database)
        put_in_folder(tmp_path, STATEMENTS)
        wait_until(lambda: service.pipelines()[0]["received"] >= 2 * len(STATEMENTS))
        lakeward("pull", "torus", "--force", "--where", "section_id=145", "--from", "2025-05-21", "--to", "2025-05-22",
                 "-c", path, cwd=tmp_path)
        service.wait_until_delivered()
        assert_balanced(service)
    assert_all_tables(server, database)


def test_the_tables_of_the_documentation(tmp_path, server, database):
    """docs/xapi.md's own statement, whose types are those of the system that this replaces, takes every row."""
    text = (pathlib.Path(__file__).parent.parent / "docs/xapi.md").read_text()
    for statement in re.findall(r"```sql\n(.*?)```", text, re.S):
        server.sql(statement.replace("TABLE raw_events", f"TABLE `{database}`.raw_events"))
    path = configured(server, database, tmp_path, folder_of(tmp_path), "--tables", "unified")
    assert lakeward("check", "--connect", "-c", path, cwd=tmp_path).returncode == 0
    put_in_folder(tmp_path, STATEMENTS)
    lakeward("pull", "torus", "-c", path, cwd=tmp_path)
    assert_rows(table(server, database, "raw_events", RAW_COLUMNS, EXPECTED_RAW), EXPECTED_RAW)
    types = dict(server.sql(f"SELECT name, type FROM system.columns WHERE database = '{database}'"))
    assert types["event_type"] == "LowCardinality(String)" and types["timestamp"].startswith("DateTime64(3")


def test_lambda_and_the_service_make_one_table(s3, tmp_path, server, database):
    """Lambda's batches are its own; redelivered they are the same, and beside the service's rows the hash makes them one."""
    client, root = s3.client(), f"xapi-{database[:20]}"
    access = {"endpoint": s3.endpoint, "region": "us-east-1", "access_key_id": s3.access_key,
              "secret_access_key": s3.secret_key}
    source = {"url": f"s3://{s3.bucket}/{root}/", "every": "1s", **access}
    path = configured(server, database, tmp_path, source)
    key = f"{root}/section/145/video/2025-05-21T13-50-00.123456Z_4C1F.jsonl"
    client.put_object(Bucket=s3.bucket, Key=key, Body=b"\n".join(STATEMENTS))
    event = {"Records": [{"eventSource": "aws:sqs", "messageId": "m", "body": json.dumps({"bucket": s3.bucket, "key": key})}]}
    with LambdaRuntime(tmp_path, environment={"TMPDIR": str(tmp_path)}) as runtime:
        health = runtime.invoke({"health_check": True})
        assert health["statusCode"] == 200 and health["body"]["clickhouse_healthy"] is True, health
        # The insert is done, and nobody hears of it; then the sandbox dies.
        server.fault("drop_after", n=3)
        runtime.send(event)
        wait_until(lambda: server.log("INSERT INTO"), lambda: "no insert came")
        runtime.kill()
        runtime.spawn()
        for _ in range(2):
            assert runtime.invoke(event) == {"batchItemFailures": []}
        assert_all_tables(server, database)
        body = runtime.invoke({"mode": "bulk", "section_id": 145})["body"]
        assert (body["skipped_files"], body["processed_files"], body["total_events_processed"]) == (1, 0, 14)
        # Once more on purpose: other batches, whose rows replace the first ones'.
        body = runtime.invoke({"mode": "bulk", "section_id": 145, "force_reprocess": True})["body"]
        assert (body["skipped_files"], body["processed_files"]) == (0, 1)
        assert counts(server, database, "raw_events") in ("28 14", "14 14")
        assert_all_tables(server, database, final=True)
    with Service.run(path) as service:
        wait_until(lambda: service.pipelines()[0]["received"] == len(STATEMENTS))
        service.wait_until_delivered()
    assert_all_tables(server, database, final=True)
    for name in TABLES:
        server.sql(f"OPTIMIZE TABLE `{database}`.{name} FINAL")
    assert_all_tables(server, database)


def many(count):
    """Statements of every kind, no two alike."""
    for n in range(count):
        line = STATEMENTS[n % len(STATEMENTS)]
        day, second, milli = 1 + n // 86_400 % 28, n % 86_400, n % 1000
        at = f"2025-05-{day:02}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.{milli:03}Z"
        yield re.sub(rb'"timestamp":"[^"]*"', f'"timestamp":"{at}","n":{n}'.encode(), line).replace(
            b"6690e6c9-3ef0-4ed3-8b37-7f3964730bee", f"{n:08x}-3ef0-4ed3-8b37-7f3964730bee".encode())


def test_many_live_and_the_same_range_backfilled(tmp_path, server, database):
    """Half of it sent, all of it in the bucket, taken once more; killed and with lost replies in between."""
    path = configured(server, database, tmp_path, folder_of(tmp_path))
    lines = list(many(MANY))
    objects = [lines[start:start + 500] for start in range(0, len(lines), 500)]
    server.fault("drop_after", n=4)
    server.fault("drop_before", n=2)
    with Service.run(path) as service:
        for start in range(0, len(lines) // 2, 1000):
            post(service, lines[start:start + 1000])
            if start == 3000:
                service.kill()
                service.start()
        for number, some in enumerate(objects):
            put_in_folder(tmp_path, some, f"section/145/video/2025-05-21T13-50-00.{number:06}Z_{number:04X}.jsonl")
        wait_until(lambda: service.pipelines()[0]["received"] >= len(lines) * 3 // 2, timeout=PATIENCE)
        service.kill()
        service.start()
        lakeward("pull", "torus", "--force", "--where", "section_id=145", "--from", "2025-05-21", "--to", "2025-05-22",
                 "-c", path, cwd=tmp_path, timeout=PATIENCE)
        service.wait_until_delivered(PATIENCE)
        assert_balanced(service)
    assert counts(server, database, "raw_events").split() == [str(MANY)] * 2
    expected = {event_hash(line) for line in lines}
    with server.client() as client:
        found = {row[0] for row in client.query(f"SELECT event_hash FROM `{database}`.raw_events").result_rows}
    assert found == expected
    kinds = {"video": 6, "activity_attempt": 1, "page_attempt": 1, "page_viewed": 2, "part_attempt": 2}
    for kind, of_14 in kinds.items():
        have = counts(server, database, f"{kind}_events").split()
        assert have[0] == have[1]
        assert abs(int(have[0]) - MANY * of_14 // 14) <= 14
