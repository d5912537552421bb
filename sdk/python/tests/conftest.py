"""A server that answers as it is told, and the real SDK without a network."""

import json
import pathlib
import sys
import threading
import time

import pytest

from serving import Handler, Serving

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "src"))

FLAGS = {
    "flags": {
        "the-experiment": {
            "key": "the-experiment", "on": True, "version": 3, "salt": "s", "offVariation": 0,
            "variations": ["control", "treatment"],
            "fallthrough": {"rollout": {"kind": "experiment", "contextKind": "user", "seed": 61, "variations": [
                {"variation": 0, "weight": 40000}, {"variation": 1, "weight": 40000},
                {"variation": 0, "weight": 20000, "untracked": True},
            ]}},
        },
    },
    "flagValues": {"plain": True, "numbers": {"a": [1, 2.5]}},
}


class Server(Serving):
    """Answers `replies` in turn and then 200, and keeps what it was sent."""

    def __init__(self, replies=()):
        self.replies = list(replies)
        self.requests = []
        self.connections = 0
        self.gate = threading.Event()
        self.gate.set()
        self.lock = threading.Lock()
        outer = self

        class Answering(Handler):
            def setup(self):
                super().setup()
                outer.connections += 1

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.gate.wait(30)
                with outer.lock:
                    outer.requests.append((self.path, dict(self.headers), body))
                    reply = outer.replies.pop(0) if outer.replies else 200
                if reply == "cut":
                    self.close_connection = True
                    return
                status, headers = reply if isinstance(reply, tuple) else (reply, {})
                self.reply(status, b"{}", headers)

        self.serve(Answering)

    def stop(self):
        self.gate.set()
        super().stop()

    def keys(self):
        return [headers["Idempotency-Key"] for _, headers, _ in self.requests]

    def events(self):
        """What was taken, each batch once."""
        taken = {headers["Idempotency-Key"]: body for _, headers, body in self.requests}
        return [json.loads(line) for body in taken.values() for line in body.splitlines()]


@pytest.fixture
def server():
    made = []

    def make(*replies):
        made.append(Server(replies))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def ld(tmp_path):
    """A real client that reads its flags from a file."""
    from ldclient.client import LDClient
    from ldclient.config import Config
    from ldclient.integrations import Files

    path = tmp_path / "flags.json"
    path.write_text(json.dumps(FLAGS))
    clients = []

    def make(*hooks, **settings):
        source = Files.new_data_source(paths=[str(path)])
        config = Config("sdk-key", hooks=list(hooks), update_processor_class=source, send_events=False, **settings)
        clients.append(LDClient(config, start_wait=5))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def until(condition, timeout=20):
    """Waits until it holds."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.01)
