"""A Lakeward process under test: started, asked, stopped and killed by its pid."""

import json
import os
import pathlib
import random
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = pathlib.Path(os.environ.get("LAKEWARD_BIN", ROOT / "target/release/lakeward"))

READY = re.compile(r"listening on (https?://[\w.:\[\]]+)")

# What a person has in the environment must not change what a test sees.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "LAKEWARD_"))}


def lakeward(*arguments, check=True, timeout=120, cwd=None):
    """Runs a command to its end."""
    done = subprocess.run(
        [PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, env=ENVIRONMENT, cwd=cwd
    )
    if check and done.returncode != 0:
        raise AssertionError(f"lakeward {arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def wait_until(condition, what="", timeout=60):
    """Waits until `condition()` holds, and gives what it found. If it does not hold within `timeout` seconds, `what` (a
    text, or a function that says how things are) is told."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not after {timeout} s: {what() if callable(what) else what}"
        time.sleep(0.05)
    return found


class Service:
    """`lakeward dev` or `lakeward run`."""

    def __init__(self, arguments, where, cwd=None):
        """`where` are the arguments by which `status` and `audit` find its state."""
        self.arguments = [str(argument) for argument in arguments]
        self.where = [str(argument) for argument in where]
        self.cwd = cwd
        self.process = None
        self.log = []
        self.url = None

    @classmethod
    def dev(cls, folder, listen="127.0.0.1:0", age="200ms"):
        return cls(["dev", "--listen", listen, "--dir", folder, "--age", age], ["--dir", folder], cwd=folder)

    @classmethod
    def run(cls, config):
        return cls(["run", "-c", config], ["-c", config], cwd=pathlib.Path(config).parent)

    def start(self, timeout=30):
        self.spawn()
        self.ready.wait(timeout)
        if self.url is None:
            self.kill()
            raise AssertionError(f"lakeward {self.arguments} is not ready:\n{self.log_tail()}")
        return self

    def spawn(self):
        """Starts it and does not wait until it listens."""
        self.url = None
        self.ready = threading.Event()
        self.process = subprocess.Popen(
            [PROGRAM, *self.arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", env=ENVIRONMENT, cwd=self.cwd, start_new_session=True,
        )

        def follow(output, ready):
            for line in output:
                self.log.append(line)
                found = READY.search(line)
                if found and not ready.is_set():
                    self.url = found.group(1)
                    ready.set()
            output.close()
            ready.set()

        self.follower = threading.Thread(target=follow, args=(self.process.stdout, self.ready), daemon=True)
        self.follower.start()

    def log_tail(self, lines=60):
        return "".join(self.log[-lines:])

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """kill −9: a supported way to stop."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.follower.join(10)

    def terminate(self, timeout=60):
        """SIGTERM: drains. Returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout)
        self.follower.join(10)
        return status

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()

    def command(self, name, *arguments):
        return json.loads(lakeward(name, *self.where, "--json", *arguments).stdout)

    def pipelines(self):
        status = self.command("status")
        return status if isinstance(status, list) else status["pipelines"]

    def pending(self):
        return sum(pipeline["pending"] for pipeline in self.pipelines())

    def wait_until_delivered(self, timeout=60):
        """Until nothing that was accepted is pending."""
        deadline = time.monotonic() + timeout
        while True:
            pipelines = self.pipelines()
            if all(pipeline["pending"] == 0 for pipeline in pipelines):
                return pipelines
            if time.monotonic() > deadline:
                raise AssertionError(f"still pending after {timeout} s: {pipelines}\n{self.log_tail()}")
            time.sleep(0.05)

    def wait_until_halted(self, timeout=60):
        """Until the one pipeline there is has halted; gives its state, which says why."""
        def halted():
            [pipeline] = self.pipelines()
            return pipeline["state"] if pipeline["state"]["state"] == "halted" else None

        return wait_until(halted, self.log_tail, timeout)

    def audit(self):
        done = lakeward("audit", *self.where, "--json", check=False)
        assert done.returncode == 0, f"the audit says {done.returncode}:\n{done.stdout}{done.stderr}"
        return json.loads(done.stdout)

    def post(self, path, body, headers=None, timeout=30):
        """Status and JSON (or text) of the answer."""
        return http("POST", self.url + path, body, headers, timeout)

    def records(self, stream, body, content_type="application/x-ndjson", **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.post(f"/v1/streams/{stream}/records", body, {"content-type": content_type, **headers})


def http(method, url, body=None, headers=None, timeout=30):
    request = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as reply:
            return reply.status, decoded(reply.read())
    except urllib.error.HTTPError as refusal:
        return refusal.code, decoded(refusal.read())


def decoded(body):
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


def config(folder, pipelines, **settings):
    """Writes a configuration (JSON is YAML) and gives its path."""
    path = pathlib.Path(folder) / "lakeward.yaml"
    path.write_text(json.dumps({"listen": "127.0.0.1:0", "state": "./state", **settings, "pipelines": pipelines}))
    return path


def events_into(folder, destination, batch=None, **settings):
    """A service with one pipeline, whose stream `events` goes into `destination`."""
    spec = pipeline("events", destination, batch or {"age": "100ms"})
    return Service.run(config(folder, [spec | settings]))


def lines(events):
    """The events as NDJSON."""
    return "".join(json.dumps(event) + "\n" for event in events).encode()


def send(running, events, stream="events", **headers):
    """Sends events over HTTP, all of which must be accepted."""
    status, answer = running.records(stream, lines(events), **headers)
    assert status == 200, answer


def send_while_killed(running, kills, seed, enough):
    """Starts the service and sends it `{"n": 0}`, `{"n": 1}` …, 20 at a time under a key of their own until they are
    acknowledged, while it is killed at random moments; gives the numbers acknowledged, more than `enough`."""
    acknowledged, stop = set(), threading.Event()
    dice = random.Random(seed)

    def produce():
        n = 0
        while not stop.wait(0.02):
            try:
                send(running, [{"n": number} for number in range(n, n + 20)], idempotency_key=f"k{n}")
            except Exception:  # It was killed meanwhile.
                continue
            acknowledged.update(range(n, n + 20))
            n += 20

    running.start()
    producer = threading.Thread(target=produce, daemon=True)
    producer.start()
    for _ in range(kills):
        time.sleep(dice.uniform(0.15, 0.7))
        running.kill()
        running.start()
    wait_until(lambda: len(acknowledged) > enough)
    stop.set()
    producer.join(30)
    return acknowledged


def pipeline(name, destination, batch=None, **output):
    return {
        "name": name, "stream": name, "batch": batch or {"age": "200ms"}, "output": output,
        "destination": destination,
    }


def s3_destination(s3, prefix, endpoint=None, **settings):
    return {
        "type": "lake", "url": f"s3://{s3.bucket}/{prefix}", "endpoint": endpoint or s3.endpoint,
        "region": "us-east-1", "access_key_id": s3.access_key, "secret_access_key": s3.secret_key, **settings,
    }
