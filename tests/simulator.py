"""`lakeward simulate`: the fake upstreams that the tests pull from."""

import json
import subprocess
import urllib.request

import service


class Simulator:
    """A simulator in a process of its own, ended by its pid."""

    def __init__(self, kind, *arguments):
        self.process = subprocess.Popen(
            [service.PROGRAM, "--json", "simulate", kind, "--listen", "127.0.0.1:0", *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=service.ENVIRONMENT,
        )
        first = self.process.stdout.readline()
        if not first:
            raise AssertionError(f"the simulator ended with {self.process.wait()}")
        self.url = json.loads(first)["listening"]

    def lines(self, path):
        with urllib.request.urlopen(self.url + path, timeout=120) as reply:
            return [line.decode() for line in reply.read().splitlines() if line]

    def documents(self, path):
        return [json.loads(line) for line in self.lines(path)]

    def post(self, path, body):
        status, answer = service.http("POST", self.url + path, json.dumps(body).encode(),
                                      {"content-type": "application/json"})
        assert status < 300, (status, answer)
        return answer

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)
        self.process.stdout.close()
