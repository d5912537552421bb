"""`lakeward daemon`: instances in the background."""

import concurrent.futures
import datetime
import json
import os
import pathlib
import signal
import socket
import time

import pytest

import lake
import service


class Daemon:
    """The instances of one configuration, none of which outlives the test."""

    def __init__(self, folder, state="./state/${INSTANCE}", listen="127.0.0.1:0", **settings):
        self.folder = pathlib.Path(folder)
        destination = {"type": "lake", "url": "./lake/${INSTANCE}"}
        pipelines = [service.pipeline("events", destination, batch={"age": "1h"})]
        self.config = service.config(folder, pipelines, state=state, listen=listen, **settings)

    def do(self, action, *arguments, instance="1", check=None):
        which = [] if instance is None else ["--instance", instance]
        done = service.lakeward("daemon", action, *which, "-c", self.config, "--json", *arguments, check=False)
        if check is not None:
            assert done.returncode == check, f"{action}: {done.returncode}\n{done.stdout}{done.stderr}"
        said = [json.loads(line) for line in done.stdout.splitlines()]
        return done.returncode, said[-1] if said else {}

    def pid_file(self, instance="1"):
        return self.folder / f"state/{instance}/daemon.pid"

    def log(self, instance="1", end=""):
        return self.folder / f"logs/daemonlog_{instance}{end}"


@pytest.fixture
def daemon(tmp_path):
    daemon = Daemon(tmp_path)
    yield daemon
    stop_all(daemon)


def stop_all(daemon):
    for folder in (daemon.folder / "state").glob("*"):
        daemon.do("stop", "--timeout", "10s", instance=folder.name)


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pid, timeout=20):
    service.wait_until(lambda: not is_alive(pid), f"process {pid} still lives", timeout)


def send(url, number):
    status, reply = service.http(
        "POST", f"{url}/v1/streams/events/records", json.dumps({"n": number}).encode() + b"\n",
        {"content-type": "application/x-ndjson"},
    )
    assert status == 200, reply


def test_an_instance_starts_serves_drains_and_stops(daemon):
    assert daemon.do("status")[1]["state"] == "stopped"
    daemon.do("status", check=3)
    # To stop what does not run is no failure.
    daemon.do("stop", check=0)
    _, started = daemon.do("start", check=0)
    pid = started["pid"]
    assert daemon.pid_file().read_text() == f"{pid}\n"
    _, status = daemon.do("status", check=0)
    assert (status["state"], status["pid"], status["listening"]) == ("running", pid, started["listening"])
    # It has left the terminal behind: its own session, nothing open of ours.
    assert os.getsid(pid) == pid
    # Ready means that it takes records.
    for number in range(10):
        send(started["listening"], number)
    daemon.do("stop", check=0)
    assert not is_alive(pid) and not daemon.pid_file().exists()
    daemon.do("status", check=3)
    # What it had accepted was delivered before it ended, although the batch was young.
    assert lake.rows(daemon.folder / "lake/1", "SELECT sum(n) FROM {lake}") == [(45,)]
    log = daemon.log().read_text()
    assert "listening" in log and "stopped: everything accepted is delivered" in log


def test_a_second_start_leaves_the_first_alone(daemon):
    _, first = daemon.do("start", check=0)
    _, second = daemon.do("start", check=0)
    assert second["pid"] == first["pid"] and second["what"] == "runs already"
    assert is_alive(first["pid"])


def test_many_starts_at_once_give_one_instance(daemon):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: daemon.do("start"), range(4)))
    assert any(code == 0 for code, _ in done), done
    # Those that came too late say so; those that came in time say who runs.
    assert all(code == 0 or "runs already" in said["error"] for code, said in done), done
    _, status = daemon.do("status", check=0)
    assert {said["pid"] for code, said in done if code == 0} == {status["pid"]}


def test_a_pid_file_that_a_crash_left_blocks_nobody(daemon):
    """System E did not start until somebody removed the file."""
    _, first = daemon.do("start", check=0)
    send(first["listening"], 1)
    os.kill(first["pid"], signal.SIGKILL)
    wait_until_gone(first["pid"])
    code, status = daemon.do("status", check=1)
    assert (status["state"], status["pid"]) == ("dead", first["pid"])
    _, second = daemon.do("start", check=0)
    assert second["pid"] != first["pid"]
    daemon.do("stop", check=0)
    assert lake.rows(daemon.folder / "lake/1", "SELECT count(*) FROM {lake}") == [(1,)]


def test_the_number_of_another_process_is_not_believed(daemon):
    daemon.pid_file().parent.mkdir(parents=True)
    daemon.pid_file().write_text(f"{os.getpid()}\n")
    daemon.do("status", check=1)
    # It must not end us.
    daemon.do("stop", check=0)
    assert not daemon.pid_file().exists()
    daemon.pid_file().write_text(f"{os.getpid()}\n")
    _, started = daemon.do("start", check=0)
    assert started["pid"] != os.getpid()


def test_two_instances_have_nothing_in_common(daemon):
    """System E's instances shared their files."""
    _, one = daemon.do("start", check=0)
    _, two = daemon.do("start", check=0, instance="eu-2")
    assert one["pid"] != two["pid"] and one["listening"] != two["listening"]
    send(one["listening"], 1)
    send(two["listening"], 2)
    daemon.do("stop", check=0)
    assert is_alive(two["pid"])
    daemon.do("status", check=3)
    daemon.do("status", check=0, instance="eu-2")
    send(two["listening"], 3)
    daemon.do("stop", check=0, instance="eu-2")
    rows = [lake.rows(daemon.folder / f"lake/{name}", "SELECT list(n ORDER BY n) FROM {lake}") for name in ("1", "eu-2")]
    assert rows == [[([1],)], [([2, 3],)]]
    assert daemon.log().exists() and daemon.log("eu-2").exists()


def test_restart_is_a_new_process_and_loses_nothing(daemon):
    _, first = daemon.do("start", check=0)
    send(first["listening"], 1)
    _, second = daemon.do("restart", check=0)
    assert second["pid"] != first["pid"] and not is_alive(first["pid"])
    send(second["listening"], 2)
    daemon.do("stop", check=0)
    assert lake.rows(daemon.folder / "lake/1", "SELECT sum(n) FROM {lake}") == [(3,)]


def test_one_that_does_not_stop_is_killed(daemon):
    """System E waited for ever."""
    _, started = daemon.do("start", check=0)
    send(started["listening"], 7)
    os.kill(started["pid"], signal.SIGSTOP)
    began = time.monotonic()
    code, said = daemon.do("stop", "--timeout", "1s", check=0)
    assert said["what"] == "killed" and 1 <= time.monotonic() - began < 20
    wait_until_gone(started["pid"])
    daemon.do("status", check=3)
    # Nothing is lost by it.
    daemon.do("start", check=0)
    daemon.do("stop", check=0)
    assert lake.rows(daemon.folder / "lake/1", "SELECT n FROM {lake}") == [(7,)]


def test_why_it_did_not_start_is_said(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        daemon = Daemon(tmp_path, listen=f"127.0.0.1:{taken.getsockname()[1]}")
        code, said = daemon.do("start")
        assert code == 69 and "listen" in said["error"], said
        daemon.do("status", check=3)
    daemon.config.write_text("nonsense: 1\n")
    code, said = daemon.do("start")
    assert code == 78 and "nonsense" in said["error"], said
    # Where its pid file is cannot be known.
    daemon.do("status", check=4)


def test_instances_must_not_share_a_state(tmp_path):
    daemon = Daemon(tmp_path, state="./state")
    code, said = daemon.do("start")
    assert code == 78 and "${INSTANCE}" in said["error"], said
    # One without a name is alone, and may.
    try:
        _, started = daemon.do("start", instance=None, check=0)
        assert (tmp_path / "state/daemon.pid").read_text() == f"{started['pid']}\n"
    finally:
        daemon.do("stop", instance=None, check=0)
    code, _ = daemon.do("start", instance="../x")
    assert code == 2


def test_the_log_of_another_day_is_put_aside(daemon):
    daemon.log().parent.mkdir()
    days = {}
    for ago in (1, 40):
        day = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=ago)
        days[ago] = f".{day:%Y-%m-%d}"
    daemon.log().write_text("yesterday\n")
    yesterday = time.time() - 86_400
    os.utime(daemon.log(), (yesterday, yesterday))
    daemon.log(end=days[40]).write_text("long ago\n")
    daemon.do("start", check=0)
    assert daemon.log(end=days[1]).read_text() == "yesterday\n"
    assert "yesterday" not in daemon.log().read_text()
    assert not daemon.log(end=days[40]).exists()


def test_in_the_foreground_it_is_the_same_instance(daemon):
    running = service.Service(["daemon", "run", "--instance", "1", "-c", daemon.config], [], cwd=daemon.folder)
    with running:
        _, status = daemon.do("status", check=0)
        assert status["pid"] == running.process.pid and status["listening"] == running.url
        done = service.lakeward("daemon", "run", "--instance", "1", "-c", daemon.config, check=False)
        assert done.returncode == 69 and "runs already" in done.stderr
        assert running.terminate() == 0
    daemon.do("status", check=3)
