"""Adobe Livestream into a lake: every hit that Adobe sent is there once, with
the values that the mapping of `lakeward init adobe-livestream` promises."""

import csv
import datetime
import decimal
import json
import random
import socket
import subprocess
import sys
import time
import urllib.parse

import pytest
import yaml

import lake
import service
import simulated

SECRET = "s3cr3t-of-adobe"


def configure(folder, livestream, form="parquet", age="300ms", **settings):
    """What `lakeward init` writes, pointed at the simulated Adobe."""
    file = folder / "lakeward.yaml"
    service.lakeward("init", "adobe-livestream", file, "--format", form, "--livestream", "demo")
    text = yaml.safe_load(file.read_text())
    text["listen"] = "127.0.0.1:0"
    text["sources"][0].update(
        endpoint=livestream.url, token_url=f"{livestream.url}/ims/token/v3", client_id="id", client_secret=SECRET,
        scopes="openid", read_timeout="2s", **settings,
    )
    text["pipelines"][0]["batch"] = {"age": age}
    file.write_text(yaml.safe_dump(text))
    return service.Service.run(file)


def simulate(*arguments):
    return simulated.Livestream(
        "--client-id", "id", "--client-secret", SECRET, "--keep-alive", "500ms", *arguments
    )


def ids(folder):
    """The ids of all rows, as numbers of 64 bits."""
    return lake.rows(folder / "lake/hits", "SELECT hit_id_high::VARCHAR, hit_id_low::VARCHAR FROM {lake}")


def sent(livestream):
    return {(hit["hitIdHigh"], hit["hitIdLow"]) for hit in livestream.oracle()}


def kill_until_all_is_sent(running, livestream, hits, draw):
    """kill −9 while a page is read, appended, planned, delivered; how often."""
    kills = 0
    while livestream.state()["made"] < hits:
        time.sleep(draw.uniform(0.3, 2.4))
        running.kill()
        kills += 1
        running.start()
    service.wait_until(lambda: livestream.state()["all_sent"], "all hits sent")
    return kills


def test_every_hit_is_in_the_lake_once_whatever_happens(tmp_path):
    seed = random.randrange(10**6)
    print("seed", seed)
    draw = random.Random(seed)
    arguments = ["--seed", seed, "--rate", 500, "--hits", 7500, "--repeats", "5s", "--token-life", "2s"]
    with simulate(*arguments, "--redirect", "--misbehave", "all") as livestream:
        running = configure(tmp_path, livestream).start()
        try:
            kills = kill_until_all_is_sent(running, livestream, 7500, draw)
            service.wait_until(lambda: sent(livestream) <= set(ids(tmp_path)), "all hits in the lake", 90)
            state = livestream.state()
            assert running.terminate() == 0
        finally:
            running.kill()
        truth, found = sent(livestream), ids(tmp_path)
        assert len(found) == len(set(found)), "a hit is there twice"
        assert set(found) == truth
        # It was no easy life: this is what the source had to live with.
        assert kills >= 4 and state["lost"] == 0 and state["sent_again"] > 100, (kills, state)
        seen = {request["misbehaviour"] for request in livestream.requests()} - {None}
        assert len(seen) >= 4, seen
        assert state["tokens"] >= 5, state
        # System E asked for `reset=largest` at every connection, and lost what came between.
        assert not [request for request in livestream.requests() if "reset" in request["query"]]
        audit = running.audit()
        assert audit["ok"] if "ok" in audit else audit
        log = "".join(running.log)
        assert SECRET not in log and "eyJ." not in log
        token = tmp_path / "state/sources/livestream/token"
        assert token.stat().st_mode & 0o777 == 0o600


def test_several_connections_share_the_visitors(tmp_path):
    with simulate("--rate", 1000, "--hits", 4000, "--repeats", "2s") as livestream:
        with configure(tmp_path, livestream, max_connections=4, connections=3) as running:
            service.wait_until(lambda: len(livestream.state()["connections"]) == 3, "three connections")
            livestream.tell("cut")
            service.wait_until(lambda: len(livestream.state()["connections"]) == 3, "three connections again")
            livestream.tell("revoked")
            livestream.tell("disconnect")
            service.wait_until(lambda: livestream.state()["all_sent"], "all hits sent")
            service.wait_until(lambda: sent(livestream) <= set(ids(tmp_path)), "all hits in the lake")
            assert running.terminate() == 0
        found = ids(tmp_path)
        assert len(found) == len(set(found)) == len(sent(livestream))
        assert livestream.state()["sent_again"] > 0


def test_a_quiet_site_is_not_held_back(tmp_path):
    """System E waited for 10,000 hits, however long that took."""
    with simulate("--rate", 2) as livestream:
        with configure(tmp_path, livestream):
            service.wait_until(lambda: ids(tmp_path), "a hit in the lake", 20)
            # Keep-alives are no silence: after seconds of them it is still the first connection.
            service.wait_until(lambda: len(ids(tmp_path)) > 6, "six more hits", 30)
            streams = [request for request in livestream.requests() if request["what"] == "stream"]
            assert len(streams) == 1, streams


def pruned(value):
    """JSON without its empty parts."""
    if isinstance(value, dict):
        left = {key: pruned(item) for key, item in value.items()}
        return {key: item for key, item in left.items() if item is not None} or None
    if isinstance(value, list):
        return [item for item in map(pruned, value) if item is not None] or None
    return None if value == "" else value


def event_values(events):
    def value(instance):
        return decimal.Decimal(str(instance["count"])) * decimal.Decimal(10) ** int(instance["exponent"])

    return {name: sum(map(value, instances)) for name, instances in events.items()}


def utc(seconds):
    return datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


def exact(text):
    return json.loads(text, parse_float=decimal.Decimal, parse_int=decimal.Decimal) if text else None


def expected(hit):
    events = event_values(hit["events"])
    return {
        "hit_id_high": str(hit["hitIdHigh"]), "hit_id_low": str(hit["hitIdLow"]),
        "hit_time": utc(hit["timeGMT"]), "received_time": utc(hit["receivedTimeGMT"]),
        "is_bot": hit["bot"] == "<Bot>", "is_excluded": hit["exclude"]["value"] == "yes",
        "visitor_id_high": str(hit["visIdHigh"]), "browser_width": str(hit["browserWidth"]),
        "page_name": hit["pageName"], "carrier": hit["carrier"] or None, "geo_city": hit["geoCity"],
        "geo_dma": str(hit["geoDMA"]), "user_agent": None, "purchase_id": hit["purchaseId"] or None,
        "campaign": hit["evars"]["evars"]["campaign"], "revenue": events.get("revenue"), "events": events,
        "evars": pruned(hit["evars"]["evars"]), "products": pruned(hit["products"]),
        "hierarchies": pruned(hit["hierarchies"]), "custom_visitor_id": hit["customVisId"] or None,
    }


def as_expected(row):
    """A row of texts, with the values that `expected` has."""
    found = {name: row[name] or None for name in expected_names()}
    for name in ("is_bot", "is_excluded"):
        found[name] = row[name] == "true"
    for name in ("hit_time", "received_time"):
        found[name] = row[name].replace("T", " ")[:19]
    found["revenue"] = decimal.Decimal(row["revenue"]) if row["revenue"] else None
    for name in ("events", "evars", "products", "hierarchies"):
        found[name] = exact(row[name])
    return found


def expected_names():
    return expected(json.loads(
        '{"hitIdHigh":0,"hitIdLow":0,"timeGMT":0,"receivedTimeGMT":0,"bot":"","exclude":{"value":""},"visIdHigh":0,'
        '"browserWidth":0,"pageName":"","carrier":"","geoCity":"","geoDMA":0,"purchaseId":"","evars":{"evars":'
        '{"campaign":""}},"events":{},"products":[],"hierarchies":{},"customVisId":""}'
    )).keys()


def csv_rows(folder):
    csv.field_size_limit(sys.maxsize)
    for path in lake.files(folder / "lake/ToIngest", ".csv"):
        assert path.parent.name == datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%d")
        with open(path, newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file, delimiter="~")


def parquet_rows(folder):
    names = ", ".join(f"{name}::VARCHAR AS {name}" for name in expected_names())
    for row in lake.rows(folder / "lake/hits", f"SELECT {names} FROM {{lake}}"):
        yield dict(zip(expected_names(), row, strict=True))


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_the_mapping_value_by_value(tmp_path, monkeypatch, form):
    # System E wrote local times, cut decimals and ignored exponents.
    monkeypatch.setitem(service.ENVIRONMENT, "TZ", "America/New_York")
    read = csv_rows if form == "csv" else parquet_rows
    with simulate("--rate", 0, "--hits", 3000, "--seed", 5) as livestream:
        with configure(tmp_path, livestream, form) as running:
            service.wait_until(lambda: sum(1 for _ in read(tmp_path)) == 3000, "all hits in the lake")
            assert running.terminate() == 0
        rows = {(row["hit_id_high"], row["hit_id_low"]): as_expected(row) for row in read(tmp_path)}
        texts = livestream.hits(0, 3000)
    hits = [json.loads(text, parse_float=decimal.Decimal, parse_int=decimal.Decimal) for text in texts]
    for hit in hits:
        want = expected(hit)
        assert rows[want["hit_id_high"], want["hit_id_low"]] == want
    # What makes it hard is really there.
    highs = [int(hit["hitIdHigh"]) for hit in hits]
    assert max(highs) > 2**63 and any(isinstance(hit["hitIdHigh"], str) for hit in hits)
    assert any(len(hit["events"].get("event20", [])) == 2 for hit in hits)
    assert any("~" in hit["pageName"] for hit in hits) and any("\n" in hit["pageName"] for hit in hits)
    if form == "parquet":
        # Fields that Adobe adds without notice are columns, and none is lost.
        found = lake.rows(tmp_path / "lake/hits", "SELECT count(fieldOf2027) FROM {lake}")
        assert found == [(sum("fieldOf2027" in hit for hit in hits),)] and found[0][0] > 10


def test_what_is_odd_is_kept_and_said(tmp_path):
    """System E made 1970-01-01 of a time that it could not read."""
    with simulate("--rate", 1) as livestream:
        with configure(tmp_path, livestream) as running:
            service.wait_until(lambda: ids(tmp_path), "a hit")
            hit = json.loads(livestream.hits(0, 1)[0])
            hit.update(hitIdHigh="18446744073709551615", hitIdLow=18446744073709551615, timeGMT="soon", browserWidth="")
            body = json.dumps(hit).encode() + b"\n{this is no JSON\n"
            status, _ = running.records("hits", body)
            assert status == 200
            largest = ("18446744073709551615", "18446744073709551615")
            service.wait_until(lambda: largest in ids(tmp_path), "the odd hit")
            running.wait_until_delivered()
        odd = lake.rows(
            tmp_path / "lake/hits",
            "SELECT hit_time, browser_width, _rescued FROM {lake} WHERE hit_id_high = 18446744073709551615",
        )
        assert odd[0][:2] == (None, None), odd
        assert "soon" in odd[0][2], odd
        assert [path for path in (tmp_path / "lake/errors").rglob("*") if path.is_file()]


def test_the_simulated_livestream_does_what_the_documentation_says():
    with simulate() as livestream:
        host, port = livestream.url.removeprefix("http://").split(":")
        body = urllib.parse.urlencode({
            "grant_type": "client_credentials", "client_id": "id", "client_secret": SECRET, "scope": "openid",
        })
        token = json.loads(livestream.request("POST", "/ims/token/v3", body.encode()))
        assert token["token_type"] == "bearer" and token["expires_in"] == 86_400
        good = {"Authorization": f"Bearer {token['access_token']}", "x-api-key": "id", "Accept-Encoding": "gzip"}

        def status(path="1/stream/adobe-livestream-demo", method="GET", version="HTTP/1.1", **headers):
            lines = [f"{name}: {value}" for name, value in {**good, **headers}.items() if value]
            with socket.create_connection((host, int(port)), 10) as connection:
                head = "\r\n".join([f"{method} /api/{path} {version}", f"host: {host}", *lines, "", ""])
                connection.sendall(head.encode())
                return int(connection.recv(4096).split()[1])

        assert status() == 200
        assert status(**{"Accept-Encoding": None}) == 406
        assert status(Authorization="Bearer other") == 401
        assert status(version="HTTP/1.0") == 505
        assert status(method="DELETE") == 405
        assert status("1/stream/adobe-livestream-other") == 404
        assert status("2/stream/adobe-livestream-demo") == 424
        for query in ("maxConnections=9", "reset=now", "smoothing=2", "smoothingBucketSize=7201", "other=1"):
            assert status(f"1/stream/adobe-livestream-demo?{query}") == 400, query
        service.wait_until(lambda: not livestream.state()["connections"], "the first connection is gone")
        with socket.create_connection((host, int(port)), 10) as first:
            lines = [f"{name}: {value}" for name, value in good.items()]
            head = "\r\n".join(["GET /api/1/stream/adobe-livestream-demo HTTP/1.1", f"host: {host}", *lines, "", ""])
            first.sendall(head.encode())
            assert first.recv(4096).split()[1] == b"200"
            assert status() == 409
            assert status("1/stream/adobe-livestream-demo?maxConnections=2") == 409


def test_a_wrong_secret_and_a_wrong_name_are_said(tmp_path):
    with simulate() as livestream:
        running = configure(tmp_path, livestream)
        path = tmp_path / "lakeward.yaml"
        right = path.read_text()
        assert "a token for adobe-livestream-demo" in service.lakeward("check", "--connect", "-c", path).stdout
        path.write_text(right.replace(SECRET, "other-secret"))
        done = service.lakeward("check", "--connect", "-c", path, check=False)
        assert done.returncode == 69 and "client_secret" in done.stdout, done.stdout + done.stderr
        assert "other-secret" not in done.stdout + done.stderr
        path.write_text(right.replace("livestream: demo", "livestream: nobody"))
        with running:
            source = service.wait_until(lambda: [
                source for source in running.command("status")["sources"] if source["state"] == "refused"
            ], "a refusal")[0]
            assert "404" in source["last_error"] and "Customer Care" in source["last_error"], source


def test_the_settings_of_the_old_client_are_taken_over(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "producer_parameters.json").write_text(json.dumps({
        "maxConnections": 2, "reset": "largest", "smoothing": 1, "smoothingBucketSize": 270, "BATCH_RECORDS": 1000,
        "BATCH_FILES": 10, "S3_bucket_name": "bucket", "S3_region_name": "eu-west-1", "S3_base_path": "ToIngest/",
        "Redshift_password": "hunter2",
    }))
    (data / "config_admin.json").write_text(json.dumps({
        "api_key": "key", "secret": "hunter3", "AdobeStreamEndpoint": "https://livestream.adobe.net/api/1/stream/acme",
    }))
    file = tmp_path / "lakeward.yaml"
    service.lakeward("init", "adobe-livestream", file, "--from", tmp_path)
    text = file.read_text()
    assert "hunter" not in text
    config = yaml.safe_load(text)
    assert config["pipelines"][0]["batch"] == {"records": 10_000, "age": "5m"}
    assert config["sources"][0]["max_connections"] == 2
    environment = {**service.ENVIRONMENT, "ADOBE_CLIENT_SECRET": "x"}
    done = subprocess.run([service.PROGRAM, "check", "-c", file], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
