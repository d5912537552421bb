"""A ClickHouse server for tests: its HTTP interface in front of the real engine, which `chdb` carries.

Every request has a connection of its own, so settings in the address hold for the request. An insert's body
becomes a file that the engine reads, whole and with every error of the engine (chdb's own streaming insert
does not tell those of its storage). `input('…')` reads that file too.

Not there: users other than two, replicas, the native protocol, progress headers.

Faults, by `POST /_fault?kind=…&n=…&match=…` for the next n requests whose query contains `match` (default INSERT):
  error         answers the code (`code`, `message`) without doing anything; `retry_after` adds the header
  error_after   does it, then answers the code
  status        answers the status alone, as a proxy would
  late          does nothing and answers 200 with an error in the body, tagged as since 25.11 (`tag=0`: not tagged)
  late_header   the same with the error's code in a header
  drop_before   ends the connection without doing anything
  drop_after    does it, then ends the connection
  delay         waits `ms` before doing it, as a query that runs
  hang          does it, then waits `ms` before the reply
`GET /_log` gives the queries with their settings, `DELETE /_log` forgets them and the faults.

As a program: `clickhouse_server.py --port P --path FOLDER`.
"""

import argparse
import base64
import contextlib
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

USER, PASSWORD = "loader", "hush-hush"
READ_ONLY = "reader"

# Parameters of the interface itself; all others are settings.
PARAMETERS = {
    "query", "database", "default_format", "query_id", "session_id", "session_timeout", "session_check", "user",
    "password", "quota_key", "compress", "decompress", "wait_end_of_query", "buffer_size", "stacktrace", "role",
    "client_protocol_version", "close_session", "enable_http_compression", "http_headers_progress_interval_ms",
}
# The status that a code comes with (HTTPHandler's `exceptionCodeToHTTPStatus`); any other is 500.
STATUSES = {
    400: (6, 9, 20, 25, 26, 27, 38, 41, 42, 43, 44, 50, 51, 53, 62, 69, 70, 72, 117, 131, 216, 349, 467, 469, 507, 530),
    401: (194,), 403: (164, 192, 193, 291, 497, 516), 404: (16, 46, 47, 60, 63, 66, 73, 81, 82, 115, 218, 511),
    408: (159,), 413: (229,), 501: (48,), 503: (209, 76),
}
STATUS_OF = {code: status for status, codes in STATUSES.items() for code in codes}

FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*$", re.I)
INSERT = re.compile(r"^\s*INSERT\s+INTO\b", re.I)
INLINE = re.compile(rb"^(\s*INSERT\s+INTO\b.*?\bFORMAT\s+\w+)[ \t]*\r?\n", re.I | re.S)
INPUT = re.compile(r"\binput\s*\(", re.I)


class ClickHouseError(Exception):
    def __init__(self, text, version):
        found = re.search(r"Code: (\d+)\..*", text, re.S)
        self.code = int(found.group(1)) if found else 1002
        message = found.group(0).strip() if found else f"Code: 1002. DB::Exception: {text}"
        # The file that stands for the body is no part of what the server would say.
        message = re.sub(r"\(in file/uri [^)]*\): ?|While executing File: ?", "", message)
        message = re.sub(r"^(Code: \d+\. DB::Exception: )(?:Code: \d+\. DB::Exception: )+", r"\1", message)
        self.message = message if "(version " in message else f"{message} (version {version})"
        super().__init__(self.message)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "clickhouse_server"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.handle_query()

    do_POST = do_DELETE = do_HEAD = do_GET

    def body(self):
        """Ends with ConnectionError if it is cut: nothing of it may be inserted then."""
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            length = int(self.headers.get("Content-Length") or 0)
            data = self.rfile.read(length)
            if len(data) < length:
                raise ConnectionError("the body is cut")
            return data
        chunks = []
        while True:
            length = int(self.rfile.readline().split(b";")[0], 16)
            chunk = self.rfile.read(length)
            if len(chunk) < length:
                raise ConnectionError("the body is cut")
            self.rfile.readline()
            if length == 0:
                return b"".join(chunks)
            chunks.append(chunk)

    def reply(self, status, data, headers=None):
        self.send_response(status)
        headers = {"X-ClickHouse-Server-Display-Name": "test", "X-ClickHouse-Timezone": "UTC", **(headers or {})}
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def cut(self):
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(2)

    def fail(self, error, headers=None):
        headers = {
            "Content-Type": "text/plain; charset=UTF-8", "X-ClickHouse-Exception-Code": error.code, **(headers or {})
        }
        self.reply(STATUS_OF.get(error.code, 500), error.message.encode() + b"\n", headers)

    def handle_query(self):
        address = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(address.query, keep_blank_values=True))
        try:
            body = self.body()
        except (ConnectionError, ValueError):
            self.close_connection = True
            return
        engine = self.server.engine
        if address.path == "/_log":
            return self.reply(200, json.dumps(engine.logged(forget=self.command == "DELETE")).encode())
        if address.path == "/_fault":
            engine.add_fault(self.query)
            return self.reply(200, b"ok\n")
        if address.path == "/ping" or (not self.query and not body):
            return self.reply(200, b"Ok.\n", {"Content-Type": "text/html; charset=UTF-8"})
        try:
            self.execute(engine, body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        except ClickHouseError as error:
            self.fail(error)
        except Exception as error:  # noqa: BLE001: the engine's own errors have one type
            self.fail(ClickHouseError(str(error), engine.version))

    def execute(self, engine, body):
        user = self.authenticated(engine)
        body = inflated(body, self.headers.get("Content-Encoding"))
        sql = self.query.get("query")
        if sql is None:
            inline = INLINE.match(body)
            sql, body = (inline.group(1), body[inline.end():]) if inline else (body, b"")
            sql = sql.decode()
        engine.note(sql, self.query, len(body))
        fault = engine.take_fault(sql)
        kind = fault.get("kind")
        if kind == "drop_before":
            return self.cut()
        code = int(fault.get("code", 252))
        message = fault.get("message", "injected")
        error = ClickHouseError(f"Code: {code}. DB::Exception: {message}. (INJECTED)", engine.version)
        headers = {"Retry-After": fault["retry_after"]} if "retry_after" in fault else {}
        if kind == "error":
            return self.fail(error, headers)
        if kind == "status":
            return self.reply(int(fault["status"]), b"<html>upstream</html>", headers)
        if kind in ("late", "late_header"):
            text = error.message.encode()
            if fault.get("tag") != "0":
                tag = "abcdefghijklmnop"
                headers["X-ClickHouse-Exception-Tag"] = tag
                text = f"__exception__\r\n{tag}\r\n{error.message}\n{len(text)} {tag}\r\n__exception__\r\n".encode()
            if kind == "late_header":
                headers["X-ClickHouse-Exception-Code"] = code
            return self.reply(200, text, headers)
        query_id = self.query.get("query_id") or str(uuid.uuid4())
        with engine.running_query(query_id):
            if kind == "delay":
                time.sleep(int(fault.get("ms", 500)) / 1000)
            output, format_name, written = engine.run(self.query, user, sql, body)
        if kind == "hang":
            time.sleep(int(fault.get("ms", 500)) / 1000)
        if kind == "drop_after":
            return self.cut()
        if kind == "error_after":
            return self.fail(error, headers)
        summary = {"read_rows": "0", "read_bytes": "0", "written_rows": str(written), "written_bytes": "0"}
        self.reply(200, output, {
            "X-ClickHouse-Query-Id": query_id, "X-ClickHouse-Format": format_name,
            "X-ClickHouse-Summary": json.dumps(summary, separators=(",", ":")),
            "X-ClickHouse-Exception-Tag": uuid.uuid4().hex[:16],
        })

    def authenticated(self, engine):
        user = self.headers.get("X-ClickHouse-User") or self.query.get("user")
        password = self.headers.get("X-ClickHouse-Key") or self.query.get("password") or ""
        header = self.headers.get("Authorization", "")
        if header.startswith("Basic "):
            user, _, password = base64.b64decode(header[6:]).decode().partition(":")
        user = user or "default"
        if user not in (USER, READ_ONLY) or password != PASSWORD:
            said = f"{user}: Authentication failed: password is incorrect, or there is no user with such name"
            raise ClickHouseError(f"Code: 516. DB::Exception: {said}. (AUTHENTICATION_FAILED)", engine.version)
        return user


def inflated(body, encoding):
    if not encoding or not body:
        return body
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "deflate":
        return zlib.decompress(body)
    if encoding == "zstd":
        from backports import zstd

        return zstd.decompress(body)  # all of its frames
    if encoding == "lz4":
        import lz4.frame

        # clickhouse-connect sends a frame for each block.
        out = []
        while body:
            frame = lz4.frame.LZ4FrameDecompressor()
            out.append(frame.decompress(body))
            body = frame.unused_data
        return b"".join(out)
    raise ValueError(f"Code: 1. DB::Exception: Unknown compression method {encoding}")


class Engine:
    """The engine of chdb, and what the faults and the log need."""

    def __init__(self, path):
        from chdb.state.sqlitelike import Connection

        self.open = lambda: Connection(path)
        # The engine lives as long as one connection does.
        self.root = self.open()
        self.version = self.root.query("SELECT version()", "TSVRaw").bytes().decode().strip()
        self.bodies = tempfile.mkdtemp(prefix="bodies-", dir=path)
        self.lock = threading.Lock()
        self.sessions, self.faults, self.log, self.running = {}, [], [], set()

    def add_fault(self, fault):
        with self.lock:
            self.faults += [dict(fault) for _ in range(int(fault.get("n", 1)))]

    def take_fault(self, sql):
        with self.lock:
            for fault in self.faults:
                if fault.get("match", "INSERT").lower() in sql.lower():
                    self.faults.remove(fault)
                    return fault
        return {}

    def note(self, sql, query, length):
        with self.lock:
            settings = {name: value for name, value in query.items() if name not in ("query", "password")}
            self.log.append({"query": sql, "settings": settings, "bytes": length, "at": time.time()})
            del self.log[:-20_000]

    def logged(self, forget):
        with self.lock:
            log = list(self.log)
            if forget:
                self.log.clear()
                self.faults.clear()
        return log

    @contextlib.contextmanager
    def running_query(self, query_id):
        with self.lock:
            if query_id in self.running:
                said = f"Query with id = {query_id} is already running"
                text = f"Code: 216. DB::Exception: {said}. (QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING)"
                raise ClickHouseError(text, self.version)
            self.running.add(query_id)
        try:
            yield
        finally:
            with self.lock:
                self.running.discard(query_id)

    def run(self, query, user, sql, body):
        session = query.get("session_id")
        if session:
            with self.lock:
                connection = self.sessions.setdefault(session, None) or self.open()
                self.sessions[session] = connection
        else:
            connection = self.open()
        try:
            if query.get("database"):
                connection.query("USE `%s`" % query["database"].replace("`", ""))
            for name, value in query.items():
                if name not in PARAMETERS and not name.startswith("param_"):
                    text = value.replace("\\", "\\\\").replace("'", "\\'")
                    connection.query(f"SET {re.sub(r'[^A-Za-z0-9_]', '', name)} = '{text}'")
            if user == READ_ONLY:
                connection.query("SET readonly = 2")
            if INSERT.match(sql) and FORMAT.search(sql):
                return self.insert(connection, sql, body)
            parameters = {name[6:]: value for name, value in query.items() if name.startswith("param_")}
            return self.select(connection, query, sql, body, parameters)
        finally:
            if not session:
                connection.close()

    def insert(self, connection, sql, body):
        found = FORMAT.search(sql)
        head, format_name = sql[:found.start()].rstrip(), found.group(1)
        file = os.path.join(self.bodies, uuid.uuid4().hex)
        with open(file, "wb") as out:
            out.write(body)
        try:
            if INPUT.search(head):
                text = INPUT.sub(f"file('{file}', '{format_name}', ", head)
            else:
                text = f"{head} FROM INFILE '{file}' COMPRESSION 'none' FORMAT {format_name}"
            connection.query(text)
        finally:
            os.unlink(file)
        # As the engine counts: what was sent, also if it is there already.
        return b"", format_name, rows(format_name, body)

    @staticmethod
    def select(connection, query, sql, body, parameters):
        text = (sql + "\n" + body.decode() if body else sql).strip().rstrip(";").rstrip()
        found = FORMAT.search(text)
        format_name = found.group(1) if found else query.get("default_format", "TabSeparated")
        result = connection.query(text, format_name, params=parameters or None)
        return (result.bytes() if result is not None else b"") or b"", format_name, 0


def rows(format_name, body):
    if format_name == "Parquet":
        import io

        import pyarrow.parquet

        return pyarrow.parquet.read_metadata(io.BytesIO(body)).num_rows
    return body.count(b"\n")


class ClickHouse:
    """The server as a process of its own, which is killed and started again as tests like."""

    user, password, read_only_user = USER, PASSWORD, READ_ONLY

    def __init__(self, folder=None):
        from servers import free_ports  # not above: the server's own process needs none of it

        [self.port] = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.temporary = None if folder else tempfile.TemporaryDirectory(prefix="lakeward-clickhouse-")
        self.folder = str(folder or self.temporary.name)
        self.process = None
        self.start()

    def start(self):
        command = [sys.executable, __file__, "--port", str(self.port), "--path", self.folder]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(self.url + "/ping", timeout=5):
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the ClickHouse server did not start: {self.process.poll()}")
            time.sleep(0.05)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.kill()
        if self.temporary:
            self.temporary.cleanup()

    def request(self, method, path, data=None):
        request = urllib.request.Request(self.url + path, data=data, method=method)
        credentials = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request.add_header("Authorization", f"Basic {credentials}")
        try:
            with urllib.request.urlopen(request, timeout=120) as reply:
                return reply.read()
        except urllib.error.HTTPError as error:
            raise RuntimeError(error.read().decode()) from None

    def sql(self, text, **settings):
        """Runs a statement; the rows of a SELECT as lists of text."""
        path = "/?" + urllib.parse.urlencode({"default_format": "JSONCompactStringsEachRow", **settings})
        return [json.loads(line) for line in self.request("POST", path, text.encode()).splitlines()]

    def value(self, text):
        [[value]] = self.sql(text)
        return value

    def fault(self, kind, **settings):
        self.request("POST", "/_fault?" + urllib.parse.urlencode({"kind": kind, **settings}), b"")

    def log(self, contains=""):
        return [entry for entry in json.loads(self.request("GET", "/_log")) if contains in entry["query"]]

    def forget(self):
        self.request("DELETE", "/_log")

    def client(self, **settings):
        """An unmodified clickhouse-connect."""
        import clickhouse_connect

        return clickhouse_connect.get_client(
            host="127.0.0.1", port=self.port, username=USER, password=PASSWORD, **settings
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = ThreadingHTTPServer(("127.0.0.1", arguments.port), Handler)
    server.daemon_threads = True
    server.engine = Engine(arguments.path)
    print(f"ClickHouse {server.engine.version} on http://127.0.0.1:{arguments.port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
