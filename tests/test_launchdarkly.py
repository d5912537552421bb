"""LaunchDarkly's real SDKs, offline: our hooks, the SDKs' own events, and a reference system's sender as it is."""

import collections
import gzip
import json
import logging
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from datetime import datetime, timezone

import boto3
import duckdb
import pytest
from faultproxy import FaultProxy
from ldclient.client import LDClient
from ldclient.config import Config
from ldclient.context import Context
from ldclient.hook import Hook, Metadata
from ldclient.integrations import Files

import lake
from service import ENVIRONMENT, ROOT, Service, http, lakeward, s3_destination, wait_until

sys.path.insert(0, str(ROOT / "sdk/python/src"))

from lakeward_launchdarkly import FirehoseSender, HttpSender, LakewardHook  # noqa: E402

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
}
STREAM = "launchdarkly-experiments-stream"
OLD_SDK = "9.4.0"
EXPERIMENT = {
    "key": "the-experiment", "on": True, "version": 3, "salt": "s", "offVariation": 0,
    "variations": ["control", "treatment"],
    "fallthrough": {"rollout": {"kind": "experiment", "contextKind": "user", "seed": 61, "variations": [
        {"variation": 0, "weight": 40000}, {"variation": 1, "weight": 40000},
        {"variation": 0, "weight": 20000, "untracked": True},
    ]}},
}
WATCHED = {
    "key": "watched", "on": True, "version": 7, "salt": "w", "variations": [{"a": 1}, {"a": 2}],
    "fallthrough": {"variation": 1}, "debugEventsUntilDate": 32503680000000,
}


@pytest.fixture
def flags(tmp_path):
    path = tmp_path / "flags.json"
    content = {"flags": {"the-experiment": EXPERIMENT, "watched": WATCHED}, "flagValues": {"plain": True}}
    path.write_text(json.dumps(content))
    return path


def client(flags, hooks=(), **settings):
    source = Files.new_data_source(paths=[str(flags)])
    settings = {"send_events": False, **settings}
    made = LDClient(Config("sdk-key", hooks=list(hooks), update_processor_class=source, **settings), start_wait=10)
    assert made.is_initialized()
    return made


def user(key, **attributes):
    builder = Context.builder(key)
    for name, value in attributes.items():
        builder.set(name, value)
    return builder


def evaluate(made, keys):
    """The values of those in the experiment."""
    expected = {}
    for key in keys:
        detail = made.variation_detail("the-experiment", user(key, tier="premium").build(), "default")
        if detail.reason.get("inExperiment"):
            expected[key] = detail.value
    return expected


def table(folder):
    """DuckDB's name for all files below a folder, of whichever format."""
    parquet = [str(path) for path in lake.files(folder)]
    if parquet:
        return f"read_parquet({parquet!r}, union_by_name = true, hive_partitioning = true)"
    lines = [str(path) for path in lake.files(folder, ".gz")]
    assert lines, f"there is nothing below {folder}"
    return f"read_json({lines!r}, format = 'newline_delimited', union_by_name = true, hive_partitioning = true)"


def query(folder, select):
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    return connection.execute(select.format(lake=table(folder))).fetchall()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# --- a reference system, as it is -----------------------------------------------------------------------------------


class SystemAFirehoseSender:
    """The reference system's sender: a put for each evaluation, on the caller's thread."""

    INTERNAL = {"private_attributes", "DEFAULT_KIND", "MULTI_KIND", "error", "fully_qualified_key",
                "individual_context_count", "multiple", "valid"}

    def __init__(self, stream_name):
        self.stream_name = stream_name
        self.firehose = boto3.client("firehose", region_name=os.environ.get("AWS_REGION", "us-east-1"))

    def send_experiment_event(self, evaluation_context, detail):
        context = evaluation_context.context
        context_data = {"key": context.key, "kind": context.kind}
        context_data.update({k: v for k, v in context.to_dict().items() if k not in self.INTERNAL})
        event_data = {
            "timestamp": datetime.now(timezone.utc).isoformat(),
            "flag_key": evaluation_context.key,
            "evaluation_context": context_data,
            "flag_value": detail.value,
            "variation_index": getattr(detail, "variation_index", None),
            "reason_kind": detail.reason.get("kind"),
            "metadata": {"source": "launchdarkly-python-hook", "version": "1.0"},
        }
        return self.firehose.put_record(
            DeliveryStreamName=self.stream_name, Record={"Data": json.dumps(event_data) + "\n"}
        )


class SystemAHook(Hook):
    def __init__(self, sender):
        self.sender = sender

    @property
    def metadata(self):
        return Metadata(name="experiment-evaluation-hook")

    # The reference system has none; an SDK since 9.16 wants one.
    def before_evaluation(self, series_context, data):
        return data

    def after_evaluation(self, series_context, data, detail):
        if detail.reason.get("inExperiment"):
            self.sender.send_experiment_event(series_context, detail)
        return data


def test_the_reference_system_needs_one_environment_variable_only(dev, tmp_path, flags, monkeypatch):
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL_FIREHOSE": dev.url}.items():
        monkeypatch.setenv(name, value)
    # As its setup.sh makes it, but for the minute that it waits.
    prefix = "experiments/year=!{timestamp:yyyy}/month=!{timestamp:MM}/day=!{timestamp:dd}/hour=!{timestamp:HH}/"
    boto3.client("firehose").create_delivery_stream(
        DeliveryStreamName=STREAM, DeliveryStreamType="DirectPut",
        S3DestinationConfiguration={
            "RoleARN": "arn:aws:iam::123456789012:role/launchdarkly-firehose-role",
            "BucketARN": "arn:aws:s3:::experiments-bucket", "Prefix": prefix, "ErrorOutputPrefix": "errors/",
            "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 0}, "CompressionFormat": "GZIP",
            "EncryptionConfiguration": {"NoEncryptionConfig": "NoEncryption"},
        },
    )
    made = client(flags, [SystemAHook(SystemAFirehoseSender(STREAM))])
    expected = evaluate(made, [f"user-{n}" for n in range(60)])
    made.close()
    dev.wait_until_delivered()
    bucket = tmp_path / "lake/experiments-bucket"
    found = query(bucket / "experiments", "SELECT evaluation_context.key, flag_value, flag_key, reason_kind, variation_index, "
                  "metadata.source, timestamp::VARCHAR FROM {lake}")
    assert {row[0]: row[1] for row in found} == expected and len(found) == len(expected)
    assert {row[2:4] for row in found} == {("the-experiment", "FALLTHROUGH")}
    assert {(row[1], row[4]) for row in found} == {("control", 0), ("treatment", 1)}
    name = lake.files(bucket, ".gz")[0].relative_to(bucket).as_posix()
    assert re.fullmatch(
        rf"experiments/year=\d{{4}}/month=\d\d/day=\d\d/hour=\d\d/{STREAM}-1-\d{{4}}(-\d\d){{5}}-[0-9a-f-]{{36}}\.gz", name
    ), name


# --- the template ---------------------------------------------------------------------------------------------------


def template(folder, *options, **changes):
    """What `lakeward init launchdarkly` writes, on a free port and without patience."""
    path = folder / "lakeward.yaml"
    lakeward("init", "launchdarkly", path, *options)
    lakeward("check", "-c", path)
    text = path.read_text()
    text = text.replace("127.0.0.1:7171", f"127.0.0.1:{changes.get('port', 0)}")
    path.write_text(re.sub(r"age: \w+", "age: 200ms", text))
    return path


KINDS = {"feature", "custom", "contexts", "summary", "debug", "other"}


@pytest.mark.parametrize("options", [(), ("--daily",), ("--format", "parquet"), ("--format", "parquet", "--daily")])
def test_the_template_runs_with_hooks_and_with_the_sdks_own_events(tmp_path, flags, options):
    with Service.run(template(tmp_path, *options)) as service:
        hook = LakewardHook(HttpSender(service.url))
        made = client(flags, [hook], events_uri=service.url, send_events=True, diagnostic_opt_out=False)
        keys = [f"user-{n}" for n in range(50)]
        expected = evaluate(made, keys)
        assert made.variation("watched", Context.create("user-1"), None) == {"a": 2}
        made.identify(Context.create("acme", "organization"))
        made.track("bought", Context.create_multi(Context.create("user-2"), Context.create("acme", "organization")),
                   {"basket": 7}, 12.5)
        assert hook.close(30) and hook.dropped == 0
        made.close()
        status, _ = service.post("/bulk", b'[{"kind":"pageview","url":"https://shop.example","creationDate":1700000000000}]')
        assert status == 202
        service.wait_until_delivered()
        assert service.audit()["balanced"] is True

        # JSON of any type is a text in Parquet.
        value = json.loads if "parquet" in options else lambda found: found
        tree = tmp_path / "lake"
        found = query(tree / "experiments", "SELECT evaluation_context.key, flag_value FROM {lake}")
        assert {row[0]: value(row[1]) for row in found} == expected and len(found) == len(expected)
        hive = r"year=\d{4}/month=\d\d/day=\d\d/" + ("" if "--daily" in options else r"hour=\d\d/") + "[^/]+"
        for path in tree.rglob("*"):
            if path.is_file():
                assert re.fullmatch(rf"(experiments|launchdarkly/({'|'.join(KINDS)}))/{hive}",
                                    path.relative_to(tree).as_posix()), path
        kinds = tree / "launchdarkly"
        assert {path.name for path in kinds.iterdir()} == KINDS
        feature = query(kinds / "feature", "SELECT context_key, flag_value, flag_key, flag_version, variation_index, "
                        "reason_kind, in_experiment, context_kind, date_diff('minute', creation_date::TIMESTAMPTZ, now()) FROM {lake}")
        assert {row[0]: value(row[1]) for row in feature} == expected and len(feature) == len(expected)
        assert {(row[2], row[3], row[5], row[6], row[7]) for row in feature} == {
            ("the-experiment", 3, "FALLTHROUGH", True, "user")
        }
        assert all(row[8] <= 5 for row in feature)
        custom = query(kinds / "custom", "SELECT event_key, metric_value, data, context_kind, context_key FROM {lake}")
        assert [(row[0], row[1], value(row[2]), *row[3:]) for row in custom] == [
            ("bought", 12.5, {"basket": 7}, "multi", "user-2")
        ]
        contexts = collections.Counter(query(kinds / "contexts", "SELECT event_kind, context_kind FROM {lake}"))
        assert contexts[("index", "user")] == 50 and contexts[("identify", "organization")] == 1
        summary = query(kinds / "summary", "SELECT flag_key, variation_index, sum(evaluations), flag_version, is_unknown "
                        "FROM {lake} GROUP BY ALL ORDER BY ALL")
        assert [row[0] for row in summary] == ["the-experiment", "the-experiment", "watched"]
        assert sum(row[2] for row in summary) == 51 and summary[2] == ("watched", 1, 1, 7, False)
        (debug,) = query(kinds / "debug", "SELECT flag_key, flag_value, flag_version, context_key FROM {lake}")
        assert (debug[0], value(debug[1]), *debug[2:]) == ("watched", {"a": 2}, 7, "user-1")
        assert query(kinds / "other", "SELECT event_kind, url FROM {lake}") == [("pageview", "https://shop.example")]


def test_init_still_writes_the_starter_and_never_overwrites(tmp_path):
    lakeward("init", cwd=tmp_path)
    lakeward("check", "-c", tmp_path / "lakeward.yaml")
    before = (tmp_path / "lakeward.yaml").read_text()
    for arguments in ((), ("launchdarkly",), ("launchdarkly", "lakeward.yaml", "--daily")):
        assert lakeward("init", *arguments, check=False, cwd=tmp_path).returncode == 2
    assert (tmp_path / "lakeward.yaml").read_text() == before
    assert json.loads(lakeward("init", "launchdarkly", "other.yaml", "--json", cwd=tmp_path).stdout) == {
        "ok": True, "file": "other.yaml",
    }


# --- the hooks ------------------------------------------------------------------------------------------------------


def test_what_is_private_reaches_no_file(tmp_path, flags):
    with Service.run(template(tmp_path)) as service:
        hook = LakewardHook(HttpSender(service.url), private_attributes=["/address/street"])
        made = client(flags, [hook], events_uri=service.url, send_events=True, private_attributes={"/address/street"})
        for n in range(20):
            address = {"city": "Berlin", "street": "hidden-street"}
            made.variation("the-experiment", user(f"u-{n}", email="hidden@mail", address=address).private("email").build(), "x")
        hook.close(30)
        made.close()
        service.wait_until_delivered()
        (context,) = query(tmp_path / "lake/experiments", "SELECT DISTINCT evaluation_context.address.city, "
                           "evaluation_context._meta.redactedAttributes FROM {lake}")
        assert context[0] == "Berlin" and sorted(context[1]) == ["/address/street", "email"]
        files = [path for path in tmp_path.joinpath("lake").rglob("*") if path.is_file()]
        everything = b"".join(gzip.decompress(path.read_bytes()) for path in files)
        assert b"Berlin" in everything and b"hidden" not in everything
        journal = b"".join(path.read_bytes() for path in tmp_path.joinpath("state").rglob("*") if path.is_file())
        assert b"hidden" not in journal


def test_the_hook_by_firehose(dev, tmp_path, flags, monkeypatch):
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL_FIREHOSE": dev.url}.items():
        monkeypatch.setenv(name, value)
    hook = LakewardHook(FirehoseSender(STREAM))
    made = client(flags, [hook])
    expected = evaluate(made, [f"user-{n}" for n in range(1500)])
    assert hook.close(30) and hook.dropped == 0
    made.close()
    dev.wait_until_delivered()
    found = query(tmp_path / "lake" / STREAM, "SELECT evaluation_context.key, flag_value FROM {lake}")
    assert dict(found) == expected and len(found) == len(expected) > 1000


def test_lost_replies_and_refusals_double_nothing(tmp_path, flags):
    with Service.run(template(tmp_path)) as service:
        proxy = FaultProxy(service.url, seed=11, rate=0.4, stall_seconds=0.1)
        try:
            hook = LakewardHook(HttpSender(proxy.endpoint), batch_records=20)
            made = client(flags, [hook])
            expected = evaluate(made, [f"user-{n}" for n in range(1000)])
            assert hook.flush(120)
            counters = hook.counters
            hook.close()
            made.close()
        finally:
            proxy.stop()
        assert counters.sent == len(expected) and counters.dropped == 0
        assert counters.retries > 0 and proxy.faults["lost_reply"] + proxy.faults["error_after_write"] > 0
        service.wait_until_delivered()
        found = query(tmp_path / "lake/experiments", "SELECT evaluation_context.key, flag_value FROM {lake}")
        assert dict(found) == expected and len(found) == len(expected)


def test_kill_9_while_the_hook_sends_loses_and_doubles_nothing(tmp_path, flags):
    service = Service.run(template(tmp_path, "--format", "parquet", port=free_port()))
    service.start()
    hook = LakewardHook(HttpSender(service.url), batch_records=50, flush_interval=0.01)
    made = client(flags, [hook])
    expected = {}
    stop = threading.Event()

    def evaluate_on():
        n = 0
        while not stop.is_set():
            expected.update(evaluate(made, [f"user-{m}" for m in range(n, n + 20)]))
            n += 20
            stop.wait(0.01)

    thread = threading.Thread(target=evaluate_on)
    thread.start()
    try:
        for _ in range(5):
            before = hook.counters.sent
            wait_until(lambda: hook.counters.sent >= before + 500, lambda: (hook.counters, service.log_tail()))  # noqa: B023
            service.kill()
            retries = hook.counters.retries
            wait_until(lambda: hook.counters.retries > retries, lambda: hook.counters)  # noqa: B023
            service.start()
    finally:
        stop.set()
        thread.join()
    assert hook.flush(60), hook.counters
    counters = hook.counters
    assert (counters.sent, counters.dropped, counters.pending) == (len(expected), 0, 0)
    assert hook.close()
    made.close()
    service.wait_until_delivered()
    assert service.audit()["balanced"] is True
    found = query(tmp_path / "lake/experiments", "SELECT evaluation_context.key, flag_value::VARCHAR FROM {lake}")
    service.kill()
    assert len(found) == len(expected) and {key: value.strip('"') for key, value in found} == expected


def test_the_hook_to_parquet_on_s3_with_kill_9(s3, tmp_path, flags):
    """The whole way: real SDK, hook, kill −9, Parquet in a bucket, DuckDB."""
    prefix = f"launchdarkly-{time.time_ns()}"
    config = template(tmp_path, "--format", "parquet", port=free_port())
    destination = json.dumps(s3_destination(s3, prefix))
    text = re.sub(r"destination:\n      type: lake\n      url: ./lake\n(      #.*\n)+", f"destination: {destination}\n", config.read_text())
    assert destination in text
    config.write_text(text)
    service = Service.run(config).start()
    hook = LakewardHook(HttpSender(service.url), batch_records=100, flush_interval=0.02)
    made = client(flags, [hook])
    expected = {}
    for turn in range(4):
        expected.update(evaluate(made, [f"user-{turn}-{n}" for n in range(1000)]))
        # In the middle of whatever it does: taking, building, putting.
        service.kill()
        expected.update(evaluate(made, [f"meanwhile-{turn}-{n}" for n in range(100)]))
        service.start()
    assert hook.flush(60), hook.counters
    assert hook.counters.sent == len(expected) and hook.close() and hook.dropped == 0
    made.close()
    service.wait_until_delivered()
    assert service.audit()["balanced"] is True
    service.kill()
    folder = lake.fetch(s3, f"{prefix}/experiments/", tmp_path / "bucket")
    found = query(folder, "SELECT evaluation_context.key, flag_value, year, hour FROM {lake}")
    assert len(found) == len(expected) > 3000
    assert {row[0]: json.loads(row[1]) for row in found} == expected
    assert all(int(year) >= 2024 and 0 <= int(hour) < 24 for _, _, year, hour in found)


# --- the SDKs' own events -------------------------------------------------------------------------------------------


def test_an_sdk_never_stops_for_what_passes(tmp_path, flags, caplog):
    """The service is away, then knows no such stream, and is there in the end: the same client goes on."""
    port = free_port()
    empty = tmp_path / "empty.yaml"
    empty.write_text(f"listen: 127.0.0.1:{port}\nstate: ./state\n")
    url = f"http://127.0.0.1:{port}"
    with caplog.at_level(logging.WARNING):
        made = client(flags, events_uri=url, send_events=True, flush_interval=0.1, diagnostic_opt_out=True)

        def send_until(text):
            deadline = time.monotonic() + 30
            n = 0
            while text not in caplog.text:
                assert time.monotonic() < deadline, caplog.text
                made.track("lost", Context.create(f"lost-{n}"))
                n += 1
                time.sleep(0.05)

        send_until("Connection refused")
        with Service.run(empty):
            send_until("HTTP error 503")
        config = template(tmp_path, port=port)
        with Service.run(config) as service:
            deadline = time.monotonic() + 30
            while not any(p["received"] for p in service.pipelines()):
                assert time.monotonic() < deadline, (caplog.text, service.log_tail())
                made.track("found", Context.create("found"))
                time.sleep(0.1)
            made.close()
    assert "giving up permanently" not in caplog.text


def test_a_wrong_sdk_key_is_told_so_and_shown_nowhere(tmp_path, flags, caplog):
    config = template(tmp_path)
    text = config.read_text().replace('  # sdk_keys: ["${LAUNCHDARKLY_SDK_KEY}"]', '  sdk_keys: ["sdk-right-one", "client-side-id"]')
    config.write_text(text)
    with Service.run(config) as service:
        with caplog.at_level(logging.ERROR):
            made = client(flags, events_uri=service.url, send_events=True)
            made.track("x", Context.create("u"))
            made.flush()
            made.close()
        assert "HTTP error 401" in caplog.text
        body = b'[{"kind":"custom","key":"k","creationDate":1700000000000}]'
        assert service.post("/bulk", body, {"Authorization": "sdk-right-one"})[0] == 202
        assert service.post("/events/bulk/client-side-id", body)[0] == 202
        assert service.post("/events/bulk/another-id", body)[0] == 401
        assert service.records(STREAM, b"{}\n")[0] == 401
        # The command line asks the running service, which it may without being told a key.
        assert {p["received"] for p in service.pipelines() if p["stream"] == "launchdarkly-events"} == {2}
        assert "right-one" not in service.log_tail(10_000)


def test_an_sdk_that_sends_again_counts_once(tmp_path, flags):
    with Service.run(template(tmp_path)) as service:
        proxy = FaultProxy(service.url, seed=5, rate=0.5, stall_seconds=0.05)
        try:
            made = client(flags, events_uri=proxy.endpoint, send_events=True, diagnostic_opt_out=True, flush_interval=3600)
            deadline = time.monotonic() + 60
            for n in range(20):
                before = proxy.requests
                made.track("bought", Context.create(f"user-{n}"))
                made.flush()
                while proxy.requests == before:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
            made.close()
        finally:
            proxy.stop()
        assert proxy.faults["lost_reply"] + proxy.faults["error_after_write"] > 0
        service.wait_until_delivered()
        found = [key for (key,) in query(tmp_path / "lake/launchdarkly/custom", "SELECT context_key FROM {lake}")]
        # The SDK drops what failed twice; nothing of the rest is there twice.
        assert len(found) == len(set(found)) >= 10


def test_kill_9_of_the_events_door_loses_and_doubles_nothing(tmp_path):
    """An SDK that is as patient as its events are dear: the payload id stays the same until there is a 202."""
    service = Service.run(template(tmp_path, port=free_port()))
    service.start()
    url = service.url
    taken = []
    stop = threading.Event()

    def send(sender):
        n = 0
        while not stop.is_set():
            names = [f"{sender}-{n}-{i}" for i in range(20)]
            body = json.dumps([{"kind": "custom", "key": name, "creationDate": 1700000000000} for name in names])
            headers = {"X-LaunchDarkly-Payload-ID": f"{sender}-{n}", "X-LaunchDarkly-Event-Schema": "4"}
            while True:
                try:
                    status, _ = http("POST", url + "/bulk", body.encode(), headers)
                    assert status in (202, 503), status
                    if status == 202:
                        break
                except OSError:
                    pass
                time.sleep(0.02)
            taken.extend(names)
            n += 1

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            before = len(taken)
            wait_until(lambda: len(taken) >= before + 400, service.log_tail)  # noqa: B023
            service.kill()
            service.start()
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    service.wait_until_delivered()
    assert service.audit()["balanced"] is True
    service.kill()
    found = [key for (key,) in query(tmp_path / "lake/launchdarkly/custom", "SELECT event_key FROM {lake}")]
    assert sorted(found) == sorted(taken)


def test_events_are_sent_on_to_launchdarkly(tmp_path, flags):
    (tmp_path / "there").mkdir()
    with Service.dev(tmp_path / "there") as launchdarkly:
        config = template(tmp_path)
        text = config.read_text().replace("  # forward: https://events.launchdarkly.com", f"  forward: {launchdarkly.url}")
        config.write_text(text)
        with Service.run(config) as service:
            made = client(flags, events_uri=service.url, send_events=True, diagnostic_opt_out=True)
            for n in range(10):
                made.track("bought", Context.create(f"user-{n}"))
            made.close()
            wait_until(launchdarkly.pipelines, service.log_tail)
            launchdarkly.wait_until_delivered()
            rows = query(tmp_path / "there/lake/launchdarkly-events", "SELECT count(*) FILTER (kind = 'custom') FROM {lake}")
            assert rows == [(10,)]
            status, metrics = http("GET", service.url + "/metrics")
            assert status == 200
            assert re.search(r'lakeward_launchdarkly_forwards_total\{outcome="sent"\} [1-9]', metrics), metrics


# --- Node, an old SDK, and the packages' own tests ------------------------------------------------------------------


def node_environment(**more):
    if "LAKEWARD_TEST_NODE" not in os.environ and "LAKEWARD_REQUIRE_SERVERS" not in os.environ:
        pytest.skip("cargo xtask test installs the SDKs")
    return {**ENVIRONMENT, **CREDENTIALS, "NODE_PATH": os.path.join(os.environ["LAKEWARD_TEST_NODE"], "node_modules"), **more}


def test_the_sdk_for_node(dev, tmp_path, flags):
    environment = node_environment(AWS_ENDPOINT_URL_FIREHOSE=dev.url)
    script = pathlib.Path(__file__).with_name("launchdarkly_client.cjs")
    done = subprocess.run(["node", script, dev.url, flags, "60"], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["done"], said["dropped"]) == ([True, True], [0, 0])
    dev.wait_until_delivered()
    for stream in (STREAM, "by-firehose"):
        found = query(tmp_path / "lake" / stream, "SELECT evaluation_context.key, flag_value, metadata.source, "
                      "evaluation_context._meta.redactedAttributes FROM {lake}")
        assert {row[0]: row[1] for row in found} == said["expected"] and len(found) == len(said["expected"]) > 20
        assert {row[2] for row in found} == {"launchdarkly-node-hook"} and found[0][3] == ["email"]
    kinds = dict(query(tmp_path / "lake/launchdarkly-events", "SELECT kind, count(*) FROM {lake} GROUP BY kind"))
    assert kinds["custom"] == 60 and kinds["feature"] == len(said["expected"]) and kinds["summary"] >= 1


def test_the_node_packages_own_tests():
    folder = ROOT / "sdk/node"
    files = sorted(folder.glob("test/*.test.cjs"))
    done = subprocess.run(["node", "--test", *files], env=node_environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-5000:]


def own_tests(path, *files):
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += [ROOT / "sdk/python/tests" / file for file in files or [""]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd=ROOT / "sdk/python")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    return done.stdout


def test_the_python_packages_own_tests():
    assert "passed" in own_tests([])


def test_the_python_packages_own_tests_with_the_first_sdk_that_has_hooks(tmp_path):
    """Where its class is no ABC yet and there is no asynchronous client."""
    cache = pathlib.Path(os.environ.get("LAKEWARD_CACHE") or pathlib.Path.home() / ".cache/lakeward")
    folder = cache / f"launchdarkly-{OLD_SDK}"
    if not (folder / "ldclient").exists():
        made = tmp_path / "sdk"
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", made]
        done = subprocess.run([*install, f"launchdarkly-server-sdk=={OLD_SDK}"], capture_output=True, text=True)
        if done.returncode != 0 and "LAKEWARD_REQUIRE_SERVERS" not in os.environ:
            pytest.skip("the old SDK cannot be had")
        assert done.returncode == 0, done.stderr
        cache.mkdir(parents=True, exist_ok=True)
        shutil.move(made, folder)
    assert "1 skipped" in own_tests([folder], "test_event.py", "test_sending.py")
