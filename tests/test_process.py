"""Stopping, starting and holding the state directory."""

import json
import os
import subprocess
import time

import lake
from faultproxy import FaultProxy
from service import PROGRAM, ROOT, Service, config, http, lakeward, pipeline, s3_destination, wait_until


def numbered(first, count):
    return "".join(json.dumps({"n": n}) + "\n" for n in range(first, first + count)).encode()


def numbers(folder):
    return sorted(n for (n,) in lake.rows(folder, "SELECT n FROM {lake}"))


def slow_batches(folder, destination):
    """A configuration whose batches are cut by nothing but a stop."""
    return config(folder, [pipeline("numbers", destination, {"age": "1h"})])


def test_sigterm_delivers_what_is_pending_and_ends_with_0(tmp_path):
    with Service.run(slow_batches(tmp_path, {"type": "lake", "url": "./lake"})) as service:
        assert service.records("numbers", numbered(0, 1000))[0] == 200
        assert service.pending() == 1000
        assert service.terminate() == 0, service.log_tail()
    assert numbers(tmp_path / "lake") == list(range(1000))


def test_a_second_sigterm_stops_at_once_and_loses_nothing(tmp_path, s3):
    proxy = FaultProxy(s3.endpoint, seed=1, rate=0)
    prefix = f"second-sigterm-{tmp_path.name}/"
    path = slow_batches(tmp_path, s3_destination(s3, prefix, endpoint=proxy.endpoint))
    try:
        with Service.run(path) as service:
            assert service.records("numbers", numbered(0, 1000))[0] == 200
            proxy.hold = True
            service.process.terminate()
            wait_until(lambda: not listens(service), service.log_tail, 10)
            assert service.running, service.log_tail()
            assert service.terminate(timeout=5) != 0
        proxy.hold = False
        with Service.run(path) as service:
            assert service.terminate() == 0, service.log_tail()
    finally:
        proxy.stop()
    assert numbers(lake.fetch(s3, prefix, tmp_path / "fetched")) == list(range(1000))


def test_records_outlive_kill_9_while_nothing_is_delivered(tmp_path):
    path = slow_batches(tmp_path, {"type": "lake", "url": "./lake"})
    for start in range(0, 3000, 1000):
        with Service.run(path) as service:
            assert service.records("numbers", numbered(start, 1000))[0] == 200
            service.kill()
    with Service.run(path) as service:
        assert service.pending() == 3000
        assert service.terminate() == 0, service.log_tail()
    assert numbers(tmp_path / "lake") == list(range(3000))


def test_a_second_process_says_who_holds_the_state(dev, tmp_path):
    second = lakeward("dev", "--listen", "127.0.0.1:0", "--dir", tmp_path, check=False)
    assert second.returncode == 69, second
    assert str(dev.process.pid) in second.stderr, second.stderr
    assert dev.running


def test_dev_is_ready_within_a_second_and_prints_what_to_export(tmp_path):
    before = time.monotonic()
    with Service.dev(tmp_path) as service:
        assert time.monotonic() - before < 1
        wait_until(lambda: f"AWS_ENDPOINT_URL_FIREHOSE={service.url}" in service.log_tail(), service.log_tail, 10)


def test_a_lake_that_lost_a_file_does_not_pass_the_audit(tmp_path):
    with Service.dev(tmp_path) as service:
        assert service.records("numbers", numbered(0, 100))[0] == 200
        service.wait_until_delivered()
        assert service.audit()["balanced"] is True
        lost = lake.files(tmp_path / "lake")[0]
        lost.unlink()
        audit = lakeward("audit", "--dir", tmp_path, "--json", check=False)
        assert audit.returncode == 65, audit
        assert json.loads(audit.stdout)["balanced"] is False
        assert lost.name in audit.stdout


def test_all_problems_of_a_configuration_at_once(tmp_path):
    path = tmp_path / "lakeward.yaml"
    path.write_text(json.dumps({
        "listen": "0.0.0.0:7171",
        "pipelines": [{"name": "a", "stream": "not a name", "destination": {"type": "lake", "url": "./lake"},
                       "output": {"format": "parket"}}],
    }))
    refused = lakeward("run", "-c", path, check=False)
    assert refused.returncode == 78, refused
    assert "parket" in refused.stderr or "output.format" in refused.stderr, refused.stderr


def test_the_committed_schema_is_what_the_program_prints():
    printed = lakeward("schema").stdout
    assert (ROOT / "schema/config.json").read_text() == printed, "lakeward schema > schema/config.json"


def listens(service):
    try:
        return http("GET", service.url + "/healthz", timeout=2)[0] == 200
    except OSError:
        return False


def test_nobody_reads_the_output_to_its_end():
    """As behind `| head`: it ends as a shell expects of what SIGPIPE ends, and says nothing."""
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run([PROGRAM, "schema"], stdout=write, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, "")
