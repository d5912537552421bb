"""AWS Lambda's runtime API on this machine: events in, answers out.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import json
import pathlib
import queue
import select
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from service import ENVIRONMENT, PROGRAM


class FunctionError(Exception):
    """What an invocation failed with."""


class LambdaRuntime:
    """A sandbox with the function in it."""

    def __init__(self, folder, environment=None, arguments=(), program=None):
        self.folder = pathlib.Path(folder)
        self.arguments = [str(argument) for argument in arguments]
        self.program = program or PROGRAM
        self.environment = {**ENVIRONMENT, **(environment or {})}
        self.events = queue.Queue()
        self.answers = {}
        self.answered = threading.Condition()
        self.taking = threading.Lock()
        self.init_error = None
        self.number = 0
        self.process = None

    def start(self):
        runtime = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def reply(self, status, body=b"", headers=()):
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def is_there(self):
                try:
                    return not select.select([self.connection], [], [], 0)[0] or self.connection.recv(1, socket.MSG_PEEK) != b""
                except OSError:
                    return False

            def do_GET(self):
                assert self.path == "/2018-06-01/runtime/invocation/next", self.path
                # Whoever asks may be dead by now: what it would get is for the next one.
                got = None
                while got is None and self.is_there():
                    with runtime.taking:
                        if not runtime.events.empty() and self.is_there():
                            got = runtime.events.get()
                    if got is None:
                        time.sleep(0.005)
                if got is None:
                    self.close_connection = True
                    return
                id, event, deadline = got
                self.reply(200, event, [
                    ("Lambda-Runtime-Aws-Request-Id", id), ("Lambda-Runtime-Deadline-Ms", str(int(deadline * 1000))),
                    ("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:000000000000:function:xapi"),
                    ("Content-Type", "application/json"),
                ])

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                parts = self.path.removeprefix("/2018-06-01/runtime/").split("/")
                with runtime.answered:
                    if parts == ["init", "error"]:
                        runtime.init_error = json.loads(body)
                    else:
                        kind, id, what = parts
                        assert kind == "invocation" and what in ("response", "error"), self.path
                        runtime.answers[id] = (what, json.loads(body))
                    runtime.answered.notify_all()
                self.reply(202, b'{"status":"OK"}')

        class Server(ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                """A sandbox that is killed breaks its connection."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.spawn()
        return self

    def spawn(self):
        environment = {
            **self.environment, "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.server.server_port}",
            "AWS_LAMBDA_FUNCTION_NAME": "xapi-etl-processor", "LAMBDA_TASK_ROOT": str(self.folder),
        }
        self.log = open(self.folder / "lambda.log", "ab")
        self.process = subprocess.Popen(
            [self.program, *self.arguments], cwd="/", env=environment, stdin=subprocess.DEVNULL, stdout=self.log,
            stderr=self.log, start_new_session=True,
        )

    def send(self, event, seconds=60):
        """Queues an event; its id."""
        self.number += 1
        id = f"request-{self.number}"
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        self.events.put((id, body, time.time() + seconds))
        return id

    def wait(self, id, timeout=60):
        deadline = time.monotonic() + timeout
        with self.answered:
            while id not in self.answers:
                left = deadline - time.monotonic()
                assert left > 0 and self.process.poll() is None, f"no answer:\n{self.log_tail()}"
                self.answered.wait(min(left, 0.2))
            what, answer = self.answers[id]
        if what == "error":
            raise FunctionError(answer["errorMessage"])
        return answer

    def invoke(self, event, seconds=60):
        return self.wait(self.send(event, seconds))

    def log_tail(self):
        return (self.folder / "lambda.log").read_text(errors="replace")[-6000:]

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.log.close()

    def stop(self):
        self.kill()
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
