"""Objects of buckets and folders as a source, against servers that others wrote.

What is put is put with boto3; what arrived is read with DuckDB. Each line of
each object must lie in the lake once, whatever is killed, doubled or late.
"""

import collections
import gzip
import io
import json
import os
import pathlib
import random
import re
import time
import uuid
import zipfile

import botocore.config
import boto3
import pyarrow
import pyarrow.parquet
import pytest

import lake
import servers
from service import Service, config, http, lakeward, pipeline, wait_until

SEED = int(os.environ.get("LAKEWARD_TEST_SEED", time.time_ns() % 1_000_000))
BATCH = {"age": "100ms", "records": 20_000}


def source(url, **settings):
    return {"type": "objects", "name": "inbox", "stream": "events", "url": str(url), "every": "1s", **settings}


def of_bucket(s3, prefix, **settings):
    access = {"endpoint": s3.endpoint, "region": "us-east-1"}
    access |= {"access_key_id": s3.access_key, "secret_access_key": s3.secret_key}
    return source(f"s3://{s3.bucket}/{prefix}", **access, **settings)


def service_with(folder, one, **settings):
    folder.mkdir(parents=True, exist_ok=True)
    out = pipeline("events", {"type": "lake", "url": str(folder / "lake")}, BATCH)
    return Service.run(config(folder, [out], sources=[one], **settings))


def lines(name, count, padding=0):
    """Events that name their object and line."""
    events = [{"object": name, "n": n, "padding": "x" * padding} for n in range(count)]
    return "".join(json.dumps(event) + "\n" for event in events).encode()


def expected(objects):
    return collections.Counter((name, n) for name, count in objects.items() for n in range(count))


def in_lake(folder):
    # CSV has texts only: a column may have both, and what comes in one batch with numbers is rescued.
    columns = [name for name, *_ in lake.rows(folder / "lake", "DESCRIBE SELECT * FROM {lake}")]
    n = "coalesce(n::VARCHAR, json_extract_string(_rescued, '$.n'))" if "_rescued" in columns else "n::VARCHAR"
    rows = lake.rows(folder / "lake", f"SELECT object, trim({n}, '\"')::BIGINT, count(*) FROM {{lake}} GROUP BY ALL")
    return collections.Counter({(name, n): count for name, n, count in rows})


def check(objects, folder):
    wanted, found = expected(objects), in_lake(folder)
    lost = sorted(set(wanted) - set(found))
    doubled = sorted(one for one, count in found.items() if count > 1)
    foreign = sorted(set(found) - set(wanted))
    assert not (lost or doubled or foreign), (
        f"seed {SEED}: of {len(wanted)}: {len(lost)} lost {lost[:5]}, {len(doubled)} doubled {doubled[:5]}, "
        f"{len(foreign)} foreign {foreign[:5]}"
    )


def told(service):
    (one,) = service.command("status")["sources"]
    return one


def received(service):
    return sum(one["received"] for one in service.pipelines())


def wait_until_received(service, count, timeout=60):
    wait_until(
        lambda: received(service) >= count,
        lambda: f"{received(service)} of {count}: {told(service)}\n{service.log_tail(20)}", timeout,
    )
    service.wait_until_delivered(timeout)


@pytest.fixture
def prefix():
    return f"objects-{uuid.uuid4().hex[:12]}/"


def put(s3, key, body):
    s3.client().put_object(Bucket=s3.bucket, Key=key, Body=body)


def packed(name, count):
    """The same events in every form that objects may have."""
    plain = lines(name, count)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("folder/", b"")
        out.writestr("folder/part.json.gz", gzip.compress(plain))
    table = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([json.loads(line) for line in plain.splitlines()]), table)
    return {
        "plain.jsonl": plain, "gzip.jsonl.gz": gzip.compress(plain, mtime=0), "lie.jsonl": gzip.compress(plain),
        "archive.zip": archive.getvalue(), "table.parquet": table.getvalue(),
        "array.json": b"[" + b",\n".join(plain.splitlines()) + b"]",
        "rows.csv": b"object,n,padding\n" + b"".join(f"{name},{n},\n".encode() for n in range(count)),
    }


@pytest.mark.parametrize("place", ["s3", "folder"])
def test_every_form_once_also_when_written_anew(place, tmp_path, request, prefix):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    s3 = request.getfixturevalue("s3") if place == "s3" else None

    def write(name, body):
        if s3:
            put(s3, prefix + name, body)
        else:
            (inbox / f".{name}").write_bytes(body)
            (inbox / f".{name}").rename(inbox / name)

    objects = {}
    for form in packed("", 1):
        name = f"first-{form}"
        write(name, packed(name, 50)[form])
        objects[name] = 50
    one = of_bucket(s3, prefix) if s3 else source(inbox, settle="0s")
    with service_with(tmp_path / "one", one) as service:
        wait_until_received(service, sum(objects.values()))
        check(objects, tmp_path / "one")
        # Other content under a name is a new object; the same content is not.
        write("first-plain.jsonl", lines("anew", 20))
        write("first-gzip.jsonl.gz", packed("first-gzip.jsonl.gz", 50)["gzip.jsonl.gz"] if s3 else gzip.compress(b""))
        objects["anew"] = 20
        wait_until_received(service, sum(objects.values()))
        check(objects, tmp_path / "one")
        service.kill()
        service.start()
        write("last.jsonl", lines("last", 5))
        objects["last"] = 5
        wait_until_received(service, sum(objects.values()))
        check(objects, tmp_path / "one")
        assert service.audit()


def test_system_ds_bucket_by_section_and_date(s3, prefix, tmp_path):
    """What is listed for a section and a range of dates is what a brute-force look at the names finds."""
    objects = {}
    for section in [145, 146]:
        for day in range(1, 6):
            name = f"section/{section}/video/2024-01-{day:02}T12-00-00.123456Z_{section}{day}AF.jsonl"
            objects[name] = day
            put(s3, prefix + name, lines(name, day))
    put(s3, prefix + "section/145/video/readme.txt", b"hello")
    pattern = "section/{section_id:int}/{category}/{timestamp:time}_{bundle_id}.jsonl"
    with service_with(tmp_path / "one", of_bucket(s3, prefix, pattern=pattern)) as service:
        wait_until_received(service, sum(objects.values()))
        check(objects, tmp_path / "one")
        asked = "from=2024-01-02T00:00:00Z&to=2024-01-04T00:00:00Z&where=section_id=145"
        wait_until(lambda: told(service)["taken"] == len(objects), lambda: str(told(service)))
        status, page = http("GET", f"{service.url}/v1/sources/inbox/slices?{asked}")
        assert status == 200, page
        assert page["dates"] == "the time in the object's name, in UTC"
        names = [slice["name"] for slice in page["slices"]]
        assert names == sorted(name for name in objects if "/145/" in name and ("-02T" in name or "-03T" in name))
        assert [slice["records"] for slice in page["slices"]] == [2, 3]
        said = [(slice["state"], str(slice["captured"]["section_id"])) for slice in page["slices"]]
        assert said == [("taken", "145")] * 2
        status, page = http("GET", f"{service.url}/v1/sources/inbox/slices?where=sektion=1")
        assert status != 200 and "section_id, category" in str(page), page


def test_a_bucket_from_its_root_with_keys_that_nobody_can_ask_for(tmp_path):
    """Every key that can be asked for, once; SeaweedFS and moto list in their own ways."""
    weed, moto = servers.SeaweedFS(bucket="root"), servers.Glue("moto")
    try:
        settings = botocore.config.Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
        session = boto3.session.Session(moto.access_key, moto.secret_key, region_name="us-east-1")
        moto_client = session.client("s3", endpoint_url=moto.endpoint, config=settings)
        moto_client.create_bucket(Bucket="root")
        for server, client in [(weed, weed.client()), (moto, moto_client)]:
            objects = {}
            for name in ["-first", "data/x", "q-1", "q/2", "q/3", "zebra"]:
                client.put_object(Bucket="root", Key=name, Body=lines(name, 3))
                objects[name] = 3
            if server is moto:
                for odd in ["/data/x", "/-first", "/zz", "q/"]:
                    client.put_object(Bucket="root", Key=odd, Body=lines("odd", 3))
                keys = [found["Key"] for found in client.list_objects_v2(Bucket="root")["Contents"]]
                assert "/data/x" in keys and "q/" in keys, keys
            one = source(
                "s3://root/", endpoint=server.endpoint, region="us-east-1", access_key_id=server.access_key,
                secret_access_key=server.secret_key,
            )
            folder = tmp_path / type(server).__name__
            with service_with(folder, one) as service:
                wait_until_received(service, sum(objects.values()))
                wait_until(lambda: told(service)["taken"] == len(objects), lambda: str(told(service)))
                check(objects, folder)
                said = "objects whose names do not fit are not taken" in service.log_tail(200)
                assert said == (server is moto), service.log_tail(50)
    finally:
        weed.stop()
        moto.stop()


def test_nothing_outside_a_folder_is_listed_or_taken(tmp_path):
    inbox, outside = tmp_path / "inbox", tmp_path / "outside"
    for folder in [inbox, outside]:
        folder.mkdir()
    (inbox / "own.jsonl").write_bytes(lines("own", 2))
    (outside / "secret.jsonl").write_bytes(lines("secret", 2))
    (inbox / "link.jsonl").symlink_to(outside / "secret.jsonl")
    (inbox / "links").symlink_to(outside)
    (inbox / os.fsdecode(b"latin-\xe4.jsonl")).write_bytes(lines("latin", 2))
    with service_with(tmp_path / "one", source(inbox, settle="0s")) as service:
        wait_until_received(service, 2)
        for prefix in [f"{outside}/", "/etc/", "../outside/", "links/", "x/../../outside/", "own.jsonl/../../outside/"]:
            status, page = http("GET", f"{service.url}/v1/sources/inbox/slices?prefix={prefix}")
            assert status == 200 and page["slices"] == [], (prefix, page)
            asked = json.dumps({"kind": "take", "wanted": {"prefix": prefix}}).encode()
            headers = {"content-type": "application/json"}
            status, run = http("POST", f"{service.url}/v1/sources/inbox/runs", asked, headers)
            assert status == 202, run
            ended = lambda: http("GET", f"{service.url}/v1/runs/{run['id']}")[1]
            wait_until(lambda: ended()["state"] in ["done", "failed"], lambda: str(ended()))
            assert (ended()["state"], ended()["slices"]) == ("done", 0), ended()
        check({"own": 2}, tmp_path / "one")
        fits = re.search(r"do not fit are not taken.*", service.log_tail(200))
        assert fits and re.search(r"count\D{1,12}3\b", service.log_tail(200)), service.log_tail(50)


def test_names_that_grow_with_a_late_one(tmp_path):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    objects = {f"{n:05}": 1 for n in range(2_500)}
    for name in objects:
        (inbox / name).write_bytes(lines(name, 1))
    with service_with(tmp_path / "one", source(inbox, settle="0s", every="1s", growing=True)) as service:
        wait_until_received(service, len(objects))
        for name in ["02000-late", "02500"]:
            (inbox / name).write_bytes(lines(name, 1))
            objects[name] = 1
        wait_until_received(service, len(objects))
        # Far behind, it is found by a look at all of them: at the next start.
        (inbox / "00001-later").write_bytes(lines("00001-later", 1))
        objects["00001-later"] = 1
        service.kill()
        service.start()
        wait_until_received(service, len(objects))
        check(objects, tmp_path / "one")


def test_every_row_of_what_goes_wrong_has_its_test():
    root = pathlib.Path(__file__).parent.parent
    table = (root / "docs/objects.md").read_text().split("## What goes wrong")[1]
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| what |")]
    assert len(rows) >= 20
    sources = [pathlib.Path(__file__), *(root / "crates/lakeward-connectors").rglob("*.rs")]
    known = set(re.findall(r"\b(?:fn|def) (\w+)\(", "\n".join(path.read_text() for path in sources)))
    for row in rows:
        test = row.rstrip("| ").rsplit("|", 1)[1].strip(" `")
        assert test in known, row


def test_what_is_broken_is_set_aside_and_holds_up_nobody(s3, prefix, tmp_path):
    whole = gzip.compress(lines("cut", 100))
    put(s3, prefix + "a-cut.gz", whole[:-5])
    put(s3, prefix + "b-strange.bin", b"\x00\x01\x02\x03")
    put(s3, prefix + "z.jsonl", lines("z", 10))
    with service_with(tmp_path / "one", of_bucket(s3, prefix)) as service:
        wait_until(lambda: told(service)["set_aside"] == 2, lambda: f"{told(service)}\n{service.log_tail(20)}")
        wait_until(lambda: ("z", 9) in in_lake(tmp_path / "one"), service.log_tail)
        # Written anew and whole, it is taken.
        put(s3, prefix + "a-cut.gz", gzip.compress(lines("whole", 30)))
        wait_until(lambda: ("whole", 29) in in_lake(tmp_path / "one"), service.log_tail)


def test_killed_again_and_again(s3, prefix, tmp_path):
    """Small objects by the hundred and a few large ones, of which some cannot be resumed at a byte."""
    chance = random.Random(SEED)
    objects = {}
    client = s3.client()
    for n in range(150):
        name = f"small-{n:03}"
        objects[name] = chance.randrange(1, 40)
        client.put_object(Bucket=s3.bucket, Key=f"{prefix}{name}.jsonl", Body=lines(name, objects[name]))
    for form in ["plain.jsonl", "gzip.jsonl.gz", "archive.zip"]:
        name = f"large-{form}"
        objects[name] = 40_000
        client.put_object(Bucket=s3.bucket, Key=prefix + name, Body=large(name, form))
    folder = tmp_path / "one"
    service = service_with(folder, of_bucket(s3, prefix, parallel=4))
    service.start()
    try:
        for _ in range(8):
            time.sleep(chance.random() * 0.8)
            service.kill()
            service.start()
        wait_until_received(service, sum(objects.values()), timeout=120)
        check(objects, folder)
        assert told(service)["set_aside"] == 0
        assert service.audit()
    finally:
        service.kill()


def large(name, form):
    plain = lines(name, 40_000, padding=300)
    if form == "plain.jsonl":
        return plain
    if form == "gzip.jsonl.gz":
        return gzip.compress(plain, 1)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
        out.writestr("one.jsonl", plain)
    return archive.getvalue()


@pytest.mark.parametrize("kind", ["ministack", "moto"])
def test_notifications_doubled_late_and_out_of_order_load_once(kind, tmp_path):
    server = servers.Glue(kind)
    try:
        session = boto3.session.Session(server.access_key, server.secret_key, region_name="us-east-1")
        settings = botocore.config.Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
        s3 = session.client("s3", endpoint_url=server.endpoint, config=settings)
        sqs = session.client("sqs", endpoint_url=server.endpoint)
        s3.create_bucket(Bucket="inbox")
        queue = sqs.create_queue(QueueName="objects")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        told_of = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
        s3.put_bucket_notification_configuration(Bucket="inbox", NotificationConfiguration=told_of)
        objects = {}
        for n in range(30):
            name = f"a b+ä{n}"
            objects[name] = 3
            s3.put_object(Bucket="inbox", Key=f"in/{name}.jsonl", Body=lines(name, 3))
        s3.put_object(Bucket="inbox", Key="elsewhere/x.jsonl", Body=lines("x", 3))
        s3.put_object(Bucket="inbox", Key="in/gone.jsonl", Body=lines("gone", 3))
        s3.delete_object(Bucket="inbox", Key="in/gone.jsonl")
        # The same again, without an etag, through EventBridge and SNS, the last first.
        for name in reversed(list(objects)):
            detail = {"bucket": {"name": "inbox"}, "object": {"key": f"in/{name}.jsonl"}}
            event = {"source": "aws.s3", "detail-type": "Object Created", "detail": detail}
            wrapped = {"Type": "Notification", "TopicArn": "arn", "Message": json.dumps(event)}
            sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(wrapped))
        sqs.send_message(QueueUrl=queue, MessageBody="hello")
        one = source(
            "s3://inbox/in/", endpoint=server.endpoint, region="us-east-1", access_key_id=server.access_key,
            secret_access_key=server.secret_key, every="1h",
            notifications={"queue_url": queue, "endpoint": server.endpoint, "wait": "1s", "visibility": "30s"},
        )
        folder = tmp_path / "one"
        with service_with(folder, one) as service:
            wait_until_received(service, sum(objects.values()))
            late = "late"
            objects[late] = 4
            s3.put_object(Bucket="inbox", Key="in/late.jsonl", Body=lines(late, 4))
            wait_until_received(service, sum(objects.values()))

            def left():
                attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
                return sum(int(attributes[f"ApproximateNumberOfMessages{kind}"]) for kind in ["", "NotVisible"])

            # Only what nobody understands is left.
            wait_until(lambda: left() == 1, lambda: f"{left()} are left\n{service.log_tail(20)}")
            check(objects, folder)
            service.kill()
            service.start()
            objects["after"] = 2
            s3.put_object(Bucket="inbox", Key="in/after.jsonl", Body=lines("after", 2))
            wait_until_received(service, sum(objects.values()))
            check(objects, folder)
    finally:
        server.stop()


def test_a_hundred_thousand_files_in_little_memory(tmp_path):
    inbox = tmp_path / "inbox"
    count = int(os.environ.get("LAKEWARD_TEST_OBJECTS", 100_000))
    for folder in range(100):
        (inbox / f"{folder:02}").mkdir(parents=True)
    for n in range(count):
        (inbox / f"{n % 100:02}" / f"{n:06}.jsonl").write_text(f'{{"object":"o","n":{n}}}\n')
    folder = tmp_path / "one"
    begun = time.monotonic()
    with service_with(folder, source(inbox, settle="0s", every="1h")) as service:
        wait_until_received(service, count, timeout=600)
        took = time.monotonic() - begun
        status = pathlib.Path(f"/proc/{service.process.pid}/status").read_text()
        peak = next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM"))
        check({"o": count}, folder)
    print(f"{count} files in {took:.1f} s, {peak} MiB at most")
    assert peak <= 512


@pytest.mark.parametrize("change, expect", [
    ({"url": "s3://lakeward-no-such-bucket/"}, "bucket's name"),
    ({"secret_access_key": "wrong"}, "secret"),
    ({"url": "./no-such-folder"}, "make the folder"),
])
def test_upstream_states_say_what_to_do(s3, prefix, tmp_path, change, expect):
    with service_with(tmp_path / "one", of_bucket(s3, prefix) | change) as service:
        wait_until(lambda: expect in str(told(service).get("last_error")), lambda: str(told(service)))


@pytest.mark.parametrize("change, expect", [
    ({"pattern": "{a"}, "without its `}`"),
    ({"pattern": "{stem}.jsonl"}, "a name of ours"),
    ({"date": "key"}, "needs a date in `pattern`"),
    ({"glob": "a/{b}"}, "belong into `pattern`"),
    ({"url": "s3://b/*.json"}, "no wildcards"),
    ({"url": "ftp://b/"}, "only s3://"),
    ({"notifications": {"queue_url": "https://sqs.us-east-1.amazonaws.com/1/q"}}, "a folder sends none"),
    ({"schedule": {"cron": "99 * * * *"}}, "cron expression"),
])
def test_configurations_that_cannot_be_say_why(tmp_path, change, expect):
    path = config(tmp_path, [], sources=[source(tmp_path) | change])
    done = lakeward("check", "-c", path, check=False)
    assert done.returncode == 78 and expect in done.stdout + done.stderr, done.stdout + done.stderr
