"""`lakeward simulate …`: started, asked and stopped by its pid."""

import json
import signal
import subprocess
import urllib.parse
import urllib.request

import service


class Upstream:
    """A simulated upstream on a free port."""

    name = None

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [service.PROGRAM, "--json", "simulate", self.name, *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=service.ENVIRONMENT, start_new_session=True,
        )
        first = self.process.stdout.readline()
        if not first:
            raise AssertionError(f"lakeward simulate {self.name} {arguments} ended with {self.process.wait(10)}")
        self.url = json.loads(first)["listening"]

    def request(self, method, path, body=None, timeout=60):
        request = urllib.request.Request(self.url + path, method=method, data=body)
        if body is not None:
            request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.read().decode()

    def lines(self, path):
        return [json.loads(line) for line in self.request("GET", path).splitlines()]

    def oracle(self, **query):
        return self.lines("/_simulate/oracle?" + urllib.parse.urlencode(query))

    def requests(self, after=0):
        return self.lines(f"/_simulate/requests?after={after}")

    def terminate(self, timeout=30):
        """SIGTERM. Returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout)
        self.process.stdout.close()
        return status

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


class Amplitude(Upstream):
    """A simulated Amplitude."""

    name = "amplitude"

    @property
    def endpoint(self):
        return f"{self.url}/api/2/export"

    def uuids(self, **query):
        return self.request("GET", "/_simulate/uuids?" + urllib.parse.urlencode(query)).split()

    def set_clock(self, **setting):
        return json.loads(self.request("POST", "/_simulate/clock", json.dumps(setting).encode()))


class Livestream(Upstream):
    """A simulated Adobe Livestream."""

    name = "adobe-livestream"

    def state(self):
        return json.loads(self.request("GET", "/_simulate/state"))

    def hits(self, start, end):
        """The hits with these numbers, as texts."""
        return self.request("GET", f"/_simulate/hits?from={start}&to={end}").splitlines()

    def tell(self, what):
        return json.loads(self.request("POST", "/_simulate/tell", json.dumps({"what": what}).encode()))
