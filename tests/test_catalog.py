"""The catalog instead of a crawler: a running service registers what it delivers in real Glue servers. Delivery never
waits for it, and whatever fails or dies, in the end it knows every folder of the lake, once.
"""

import itertools
import json
import random
import threading
import time

import botocore.exceptions
import pytest

import lake
import servers
import service
from faultproxy import FaultProxy
from service import Service, config, lakeward, pipeline, s3_destination, wait_until

PARQUET_SERDE = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
NAMES = itertools.count()


@pytest.fixture(scope="module")
def glue():
    server = servers.Glue("moto")
    yield server
    server.stop()


@pytest.fixture
def database():
    return f"lake_{next(NAMES)}"


def catalog(glue, database, endpoint=None, **settings):
    return {
        "type": "glue", "database": database, "endpoint": endpoint or glue.endpoint, "region": "us-east-1",
        "access_key_id": glue.access_key, "secret_access_key": glue.secret_key, "timeout": "5s", **settings,
    }


def cataloged(tmp_path, catalog, path="events/area=!{event:area}/day=!{event:at:yyyy-MM-dd}/", batch=None, **output):
    one = pipeline("web-events", {"type": "lake", "url": str(tmp_path / "lake")}, batch, path=path, **output)
    return Service.run(config(tmp_path, [{**one, "catalog": catalog}]))


def send(running, rows):
    service.send(running, rows, "web-events")


def state(running):
    return running.pipelines()[0]["catalog"]


def wait(running, what, done, timeout=40):
    return wait_until(done, lambda: f"{what}: {running.pipelines()}\n{running.log_tail()}", timeout)


def wait_until_registered(running):
    running.wait_until_delivered()
    wait(running, "up to date", lambda: state(running)["state"] == "up_to_date")


def table_of(glue, database, name="web_events"):
    return glue.client().get_table(DatabaseName=database, Name=name)["Table"]


def columns_of(table):
    return {column["Name"]: column["Type"] for column in table["StorageDescriptor"]["Columns"]}


def partitions_of(glue, database, name="web_events"):
    """Values and location of every partition; none is there twice."""
    pages = glue.client().get_paginator("get_partitions").paginate(DatabaseName=database, TableName=name)
    found = [(tuple(one["Values"]), one["StorageDescriptor"]["Location"]) for page in pages for one in page["Partitions"]]
    assert len({values for values, _ in found}) == len(found), "a partition is there twice"
    return dict(found)


def folders_of(tmp_path, suffix=".parquet"):
    return {f"file://{path.parent}/" for path in lake.files(tmp_path / "lake", suffix)}


def test_a_table_that_grows(tmp_path, glue, database):
    with cataloged(tmp_path, catalog(glue, database)) as running:
        send(running, [{"area": "a/b", "at": "2026-11-20T10:00:00Z", "n": 1, "ctx": {"Tier": "free"}},
                       {"at": "2026-11-21T10:00:00Z", "n": 2}])
        wait_until_registered(running)
        table = table_of(glue, database)
        assert columns_of(table) == {"at": "string", "n": "bigint", "ctx": "struct<tier:string>"}
        assert [(key["Name"], key["Type"]) for key in table["PartitionKeys"]] == [("area", "string"), ("day", "date")]
        assert table["TableType"] == "EXTERNAL_TABLE"
        assert table["Parameters"]["classification"] == "parquet"
        assert table["Parameters"]["EXTERNAL"] == "TRUE"
        descriptor = table["StorageDescriptor"]
        assert descriptor["Location"] == f"file://{tmp_path}/lake/events/"
        assert descriptor["SerdeInfo"]["SerializationLibrary"] == PARQUET_SERDE
        partitions = partitions_of(glue, database)
        assert set(partitions) == {("a/b", "2026-11-20"), ("__HIVE_DEFAULT_PARTITION__", "2026-11-21")}
        assert set(partitions.values()) == folders_of(tmp_path)
        assert any("Athena cannot read" in note for note in state(running)["notes"])

        # New columns, and types that hold more, reach the table and its partitions.
        send(running, [{"area": "a/b", "at": "2026-11-20T10:00:00Z", "n": 1.5, "ctx": {"tier": "x", "k": [1]}, "New": True}])
        wait_until_registered(running)
        columns = columns_of(table_of(glue, database))
        assert columns["n"] == "double" and columns["new"] == "boolean", columns
        assert columns["ctx"] == "struct<tier:string,k:array<bigint>>", columns
        for page in glue.client().get_paginator("get_partitions").paginate(DatabaseName=database, TableName="web_events"):
            for partition in page["Partitions"]:
                told = {column["Name"]: column["Type"] for column in partition["StorageDescriptor"]["Columns"]}
                assert (told["n"], told["ctx"]) == (columns["n"], columns["ctx"]), partition["Values"]

        # Nothing new: nobody is asked. A removed table is made again, with all of it.
        glue.client().delete_table(DatabaseName=database, Name="web_events")
        send(running, [{"area": "c", "at": "2026-11-22T10:00:00Z", "n": 3}])
        wait_until_registered(running)
        assert set(partitions_of(glue, database).values()) == folders_of(tmp_path)
        assert len(folders_of(tmp_path)) == 3


def test_a_bucket(tmp_path, glue, database, s3):
    """Every partition's location is a folder of the bucket, escapes and all."""
    one = pipeline("web-events", s3_destination(s3, f"{database}/"), path="events/area=!{event:area}/")
    with Service.run(config(tmp_path, [{**one, "catalog": catalog(glue, database)}])) as running:
        send(running, [{"area": area, "n": 1} for area in ("plain", "a/b", "100%", "a=b:c", "Zürich", None)])
        wait_until_registered(running)
        assert "notes" not in state(running)
        table = table_of(glue, database)
        assert table["StorageDescriptor"]["Location"] == f"s3://{s3.bucket}/{database}/events/"
        partitions = partitions_of(glue, database)
        values = {values for (values,) in partitions}
        assert values == {"plain", "a/b", "100%", "a=b:c", "Zürich", "__HIVE_DEFAULT_PARTITION__"}
        for location in partitions.values():
            key = location.removeprefix(f"s3://{s3.bucket}/")
            assert s3.client().list_objects_v2(Bucket=s3.bucket, Prefix=key)["KeyCount"] == 1, location


def test_text_without_folders_of_names(tmp_path, glue, database):
    settings = catalog(glue, database, table="logs")
    with cataloged(tmp_path, settings, path="logs/", format="ndjson", compression="gzip") as running:
        send(running, [{"at": "2026-11-20T10:00:00Z", "n": 1}])
        wait_until_registered(running)
        table = table_of(glue, database, "logs")
        assert table["StorageDescriptor"]["SerdeInfo"]["SerializationLibrary"] == "org.openx.data.jsonserde.JsonSerDe"
        assert table["Parameters"]["compressionType"] == "gzip"
        assert [key["Name"] for key in table["PartitionKeys"]] == ["datehour"]
        [(values, location)] = partitions_of(glue, database, "logs").items()
        assert {location} == folders_of(tmp_path, ".ndjson.gz")
        assert location.endswith(f"/logs/{values[0]}/")


def test_a_table_that_is_there_is_taken_over(tmp_path, glue, database):
    client = glue.client()
    client.create_database(DatabaseInput={"Name": database})
    theirs = {
        "Name": "web_events", "TableType": "EXTERNAL_TABLE", "Owner": "them", "Description": "theirs",
        "Parameters": {"classification": "parquet", "team": "growth"},
        "PartitionKeys": [{"Name": "area", "Type": "string"}, {"Name": "day", "Type": "string", "Comment": "utc"}],
        "StorageDescriptor": {
            "Location": "s3://elsewhere/", "SerdeInfo": {"SerializationLibrary": PARQUET_SERDE, "Parameters": {"x": "y"}},
            "Columns": [{"Name": "n", "Type": "bigint", "Comment": "how many"}, {"Name": "gone", "Type": "int"}],
        },
    }
    client.create_table(DatabaseName=database, TableInput=theirs)
    with cataloged(tmp_path, catalog(glue, database)) as running:
        send(running, [{"area": "a", "at": "2026-11-20T10:00:00Z", "n": 1, "new": "x"}])
        wait_until_registered(running)
        table = table_of(glue, database)
        assert table["Owner"] == "them" and table["Description"] == "theirs"
        assert table["Parameters"]["team"] == "growth"
        assert table["PartitionKeys"] == theirs["PartitionKeys"]
        assert table["StorageDescriptor"]["Location"] == "s3://elsewhere/"
        assert table["StorageDescriptor"]["SerdeInfo"]["Parameters"] == {"x": "y"}
        assert table["StorageDescriptor"]["Columns"] == [
            *theirs["StorageDescriptor"]["Columns"], {"Name": "at", "Type": "string"}, {"Name": "new", "Type": "string"},
        ]
        assert set(partitions_of(glue, database).values()) == folders_of(tmp_path)


def test_a_table_that_differs_is_refused_with_what_to_do(tmp_path, glue, database):
    client = glue.client()
    client.create_database(DatabaseInput={"Name": database})
    keys = [{"Name": "area", "Type": "string"}, {"Name": "day", "Type": "date"}]
    descriptor = {"Columns": [{"Name": "n", "Type": "int"}], "SerdeInfo": {"SerializationLibrary": PARQUET_SERDE}}
    table = {"Name": "web_events", "PartitionKeys": keys, "StorageDescriptor": descriptor}
    client.create_table(DatabaseName=database, TableInput=table)
    service = cataloged(tmp_path, catalog(glue, database))
    with service as running:
        send(running, [{"area": "a", "at": "2026-11-20T10:00:00Z", "n": 1}])
        running.wait_until_delivered()
        failing = wait(running, "a refusal", lambda: state(running)["state"] == "failing" and state(running))
        assert failing["error"] == (
            f"the table {database}.web_events: the column n is int in the table and bigint in the files; change it to "
            "bigint in the table, declare its type for the pipeline (schema.columns), or name another table"
        )
        send(running, [{"area": "b", "at": "2026-11-20T10:00:00Z", "n": 2}])
        running.wait_until_delivered()
        assert running.terminate() == 0, "a catalog that refuses holds nothing up"
    [pending] = service.pipelines()
    assert pending["catalog"]["state"] == "behind" and pending["catalog"]["batches"] == 2
    descriptor["Columns"][0]["Type"] = "bigint"
    client.update_table(DatabaseName=database, TableInput=table)
    with service as running:
        wait_until_registered(running)
        assert set(partitions_of(glue, database).values()) == folders_of(tmp_path)
        assert len(partitions_of(glue, database)) == 2


def test_check_asks_the_catalog(tmp_path, glue, database):
    def probe(**settings):
        service = cataloged(tmp_path, catalog(glue, database, **settings))
        done = lakeward("check", "--connect", "--json", *service.where, check=False)
        [found] = [one for one in json.loads(done.stdout)["probes"] if one["probe"] == "catalog"]
        return done.returncode, found["ok"], found["message"]

    assert probe() == (0, True, f"the table {database}.web_events is not there yet; it will be made")
    [port] = servers.free_ports(1)
    code, ok, message = probe(endpoint=f"http://127.0.0.1:{port}")
    assert (code, ok) == (69, False) and "cannot be reached" in message, message


def test_250_partitions(tmp_path, glue, database):
    with cataloged(tmp_path, catalog(glue, database), path="area=!{event:area}/") as running:
        send(running, [{"area": f"a{n:03}", "n": n} for n in range(250)])
        wait_until_registered(running)
        partitions = partitions_of(glue, database)
        assert {values[0] for values in partitions} == {f"a{n:03}" for n in range(250)}
        assert set(partitions.values()) == folders_of(tmp_path)


def test_projection_registers_no_partitions(tmp_path, glue, database):
    settings = catalog(glue, database, projection=True, projection_from="2026-01-01", projection_values={"area": ["a", "b"]})
    with cataloged(tmp_path, settings) as running:
        send(running, [{"area": "a", "at": "2026-11-20T10:00:00Z", "n": 1}])
        wait_until_registered(running)
        parameters = table_of(glue, database)["Parameters"]
        assert parameters["projection.enabled"] == "true"
        assert parameters["projection.area.type"] == "enum" and parameters["projection.area.values"] == "a,b"
        assert parameters["projection.day.type"] == "date" and parameters["projection.day.format"] == "yyyy-MM-dd"
        assert parameters["projection.day.range"] == "2026-01-01,NOW+1DAYS"
        assert parameters["storage.location.template"] == f"file://{tmp_path}/lake/events/area=${{area}}/day=${{day}}/"
        assert partitions_of(glue, database) == {}


def test_a_partition_that_is_elsewhere_is_told_until_it_is_put_right(tmp_path, glue, database):
    client = glue.client()
    with cataloged(tmp_path, catalog(glue, database), path="area=!{event:area}/") as running:
        send(running, [{"area": "a", "n": 1}])
        wait_until_registered(running)
        before = state(running)["notes"]
        theirs = {"Values": ["b"], "StorageDescriptor": {"Location": "s3://elsewhere/area=b/"}}
        client.create_partition(DatabaseName=database, TableName="web_events", PartitionInput=theirs)
        send(running, [{"area": "b", "n": 2}])
        wait_until_registered(running)
        [note] = wait(running, "a note", lambda: [note for note in state(running)["notes"] if note not in before])
        assert "b is s3://elsewhere/area=b/ and the files are in " in note and f"{tmp_path}/lake/area=b/" in note, note
        assert partitions_of(glue, database)[("b",)] == "s3://elsewhere/area=b/", "it is somebody's"
        client.delete_partition(DatabaseName=database, TableName="web_events", PartitionValues=["b"])
        send(running, [{"area": "c", "n": 3}])
        wait_until_registered(running)
        assert set(partitions_of(glue, database).values()) == folders_of(tmp_path)
        assert state(running)["notes"] == before


def test_a_table_that_somebody_made_anew_gets_all_partitions(tmp_path, glue, database):
    client = glue.client()

    def anew():
        table = table_of(glue, database)
        kept = ("Name", "StorageDescriptor", "PartitionKeys", "TableType", "Parameters")
        client.delete_table(DatabaseName=database, Name="web_events")
        client.create_table(DatabaseName=database, TableInput={name: table[name] for name in kept})

    service = cataloged(tmp_path, catalog(glue, database), path="area=!{event:area}/")
    with service as running:
        send(running, [{"area": "a", "n": 1}, {"area": "b", "n": 1}])
        wait_until_registered(running)
        anew()
        send(running, [{"area": "c", "n": 2}])
        wait_until_registered(running)
        assert set(partitions_of(glue, database).values()) == folders_of(tmp_path)
        assert running.terminate() == 0
    anew()
    with service as running:
        wait(running, "all partitions", lambda: set(partitions_of(glue, database).values()) == folders_of(tmp_path))
        assert len(folders_of(tmp_path)) == 3


def test_kills_and_a_catalog_that_hangs_and_fails(tmp_path, glue, database):
    """Delivery goes on; afterwards the catalog has every folder, once."""
    proxy = FaultProxy(glue.endpoint, seed=4, rate=0.25, stall_seconds=0.2)
    service = cataloged(
        tmp_path, catalog(glue, database, endpoint=proxy.endpoint, timeout="1s"), path="n=!{event:n}/",
        batch={"age": "50ms", "records": 20},
    )
    chance, sent = random.Random(4), 0
    try:
        proxy.hold = True
        for turn in range(6):
            with service as running:
                for _ in range(5):
                    columns = {f"c{turn}": True}
                    send(running, [{"n": n, **columns} for n in range(sent, sent + 20)])
                    sent += 20
                running.wait_until_delivered(20)
                if turn == 1:
                    assert state(running)["state"] != "up_to_date", "nobody answered it"
                    proxy.hold = False
                if turn > 1:
                    time.sleep(chance.random() * 0.5)  # where the kill hits is left to chance
                running.kill()
        with service as running:
            wait_until_registered(running)
            running.audit()
        partitions = partitions_of(glue, database)
        assert {int(values[0]) for values in partitions} == set(range(sent))
        assert set(partitions.values()) == folders_of(tmp_path)
        assert {f"c{turn}" for turn in range(6)} <= set(columns_of(table_of(glue, database)))
        assert sum(proxy.faults.values()) > 5, proxy.faults
    finally:
        proxy.stop()


def test_others_change_the_table_at_the_same_time(tmp_path, database):
    """Against a server that refuses a stale version: nobody's change is lost."""
    glue = servers.Glue("ministack")
    stopping, made = threading.Event(), []

    def meddle():
        client = glue.client()
        while not stopping.is_set():
            try:
                table = client.get_table(DatabaseName=database, Name="web_events")["Table"]
                version = table.get("VersionId")
                kept = ("Name", "StorageDescriptor", "PartitionKeys", "TableType", "Parameters", "Description")
                new = {name: table[name] for name in kept if name in table}
                new["Parameters"] = {**new["Parameters"], f"theirs{len(made)}": "x"}
                client.update_table(DatabaseName=database, TableInput=new, VersionId=version)
                made.append(f"theirs{len(made)}")
            except botocore.exceptions.ClientError as refusal:
                assert refusal.response["Error"]["Code"] in ("ConcurrentModificationException", "EntityNotFoundException")

    meddler = threading.Thread(target=meddle, daemon=True)
    try:
        with cataloged(tmp_path, catalog(glue, database), batch={"age": "20ms"}) as running:
            meddler.start()
            for n in range(12):
                send(running, [{"area": "a", "at": "2026-11-20T10:00:00Z", f"c{n}": n}])
                running.wait_until_delivered()
            wait_until_registered(running)
            stopping.set()
            meddler.join(20)
            wait_until_registered(running)
            table = table_of(glue, database)
            assert {f"c{n}" for n in range(12)} <= set(columns_of(table))
            assert len(made) > 3 and set(made) <= set(table["Parameters"])
            assert set(partitions_of(glue, database).values()) == folders_of(tmp_path)
    finally:
        stopping.set()
        glue.stop()
