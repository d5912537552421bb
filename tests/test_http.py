"""`POST /v1/streams/{stream}/records` and the pages for machines."""

import gzip
import json
import zlib

import pytest

import lake
from service import Service, config, http, lakeward, pipeline


def delivered(service, folder, select):
    service.wait_until_delivered()
    return lake.rows(folder, select)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-ndjson", b'{"n":1}\n{"n":2}\n'),
        ("application/x-ndjson", b'\xef\xbb\xbf{"n":1}\r\n\r\n{"n":2}'),
        ("application/json", b'[{"n":1}, {"n":2}]'),
    ],
)
def test_bodies(dev, tmp_path, content_type, body):
    assert dev.records("events", body, content_type)[0] == 200
    assert sorted(delivered(dev, tmp_path / "lake", "SELECT n FROM {lake}")) == [(1,), (2,)]


def test_one_object(dev, tmp_path):
    assert dev.records("events", b'{"n":1,\n "text":"h\xc3\xa9"}', "application/json")[0] == 200
    assert delivered(dev, tmp_path / "lake", "SELECT n, text FROM {lake}") == [(1, "hé")]


@pytest.mark.parametrize(("encoding", "packed"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_bodies(dev, tmp_path, encoding, packed):
    assert dev.records("events", packed(b'{"n":1}\n' * 1000), content_encoding=encoding)[0] == 200
    assert delivered(dev, tmp_path / "lake", "SELECT count(*) FROM {lake}") == [(1000,)]


def test_the_same_key_counts_once_also_after_kill_9(tmp_path):
    for _ in range(3):
        with Service.dev(tmp_path) as service:
            for _ in range(3):
                assert service.records("events", b'{"n":1}\n{"n":2}\n', idempotency_key="one")[0] == 200
            service.kill()
    with Service.dev(tmp_path) as service:
        assert service.records("events", b'{"n":3}\n', idempotency_key="two")[0] == 200
        assert sorted(delivered(service, tmp_path / "lake", "SELECT n FROM {lake}")) == [(1,), (2,), (3,)]


def test_a_malformed_record_harms_no_neighbour_and_is_kept_with_its_bytes(dev, tmp_path):
    assert dev.records("events", b'{"n":1}\n{"n":\n{"n":2}\n')[0] == 200
    assert sorted(delivered(dev, tmp_path / "lake", "SELECT n FROM {lake}")) == [(1,), (2,)]
    (events,) = dev.pipelines()
    assert (events["received"], events["delivered"], events["quarantined"]) == (3, 2, 1)
    assert dev.audit()["balanced"] is True
    quarantine = [path for path in (tmp_path / "lake").rglob("*") if path.is_file() and path.suffix != ".parquet"]
    (line,) = b"".join(path.read_bytes() for path in quarantine).splitlines()
    assert "eyJuIjo=" in line.decode() or '{"n":' in json.dumps(json.loads(line)).replace('\\"', '"')


def test_types_change_and_no_value_is_lost(dev, tmp_path):
    for body in (b'{"a":1,"deep":{"x":"one"}}\n', b'{"a":2,"b":true,"deep":{"y":[1,2]}}\n', b'{"a":"text"}\n'):
        assert dev.records("events", body)[0] == 200
        dev.wait_until_delivered()
    found = lake.rows(tmp_path / "lake", "SELECT to_json(COLUMNS(*)) FROM {lake}")
    assert len(found) == 3
    everything = json.dumps(found)
    for value in ("one", "[1,2]", "text", "true"):
        assert value in everything, (value, found)


def test_refusals(tmp_path):
    pipelines = [pipeline("known", {"type": "lake", "url": "./lake"})]
    with Service.run(config(tmp_path, pipelines, limits={"body_bytes": "1MiB"})) as service:
        assert service.records("unknown", b'{"n":1}\n')[0] == 404
        assert service.records("known", b'{"n":1}\n', content_encoding="br")[0] == 415
        assert service.records("known", b"x" * (2 << 20))[0] == 413
        assert service.records("known", b"not gzip", content_encoding="gzip")[0] == 400
        assert http("PUT", service.url + "/v1/streams/known/records", b"{}")[0] == 405
        assert service.records("known", b'{"n":1}\n')[0] == 200


def test_tokens(tmp_path):
    pipelines = [pipeline("known", {"type": "lake", "url": "./lake"})]
    with Service.run(config(tmp_path, pipelines, auth={"bearer_tokens": ["a-long-token"]})) as service:
        assert service.records("known", b'{"n":1}\n')[0] == 401
        assert service.records("known", b'{"n":1}\n', authorization="Bearer another")[0] == 401
        assert service.records("known", b'{"n":1}\n', authorization="Bearer a-long-token")[0] == 200
        assert "a-long-token" not in service.log_tail(10_000)
        # The command line asks the running service, which it may without being told the token.
        assert service.pipelines()[0]["received"] == 1


def test_pages_for_machines(dev):
    assert dev.records("events", b'{"n":1}\n')[0] == 200
    assert http("GET", dev.url + "/healthz")[0] == 200
    assert http("GET", dev.url + "/readyz")[0] == 200
    status, metrics = http("GET", dev.url + "/metrics")
    assert status == 200
    assert "lakeward_" in metrics


def test_ls_shows_what_lies_in_the_lake(dev, tmp_path):
    assert dev.records("events", b'{"n":1}\n')[0] == 200
    dev.wait_until_delivered()
    (path,) = lake.files(tmp_path / "lake")
    assert path.name in lakeward("ls", "--dir", tmp_path, "--json").stdout
