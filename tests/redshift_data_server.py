"""A stand-in for the Redshift Data API (`redshift-data` 2019-12-20) before the stand-in for Redshift.

It is strict by botocore's own model of the service: members, types, lengths, patterns and values of requests and of
its own answers; signatures are made anew and compared, with the service's name in their scope. Statements go through
SUBMITTED, PICKED and STARTED in a thread of their own; a batch is one transaction; a client token that comes again
gets the first statement; results have pages. What it cannot show: the exact texts of errors, and results that are
forgotten after 24 hours.
"""

import base64
import hashlib
import http.server
import json
import re
import threading
import time
import uuid

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.session
import botocore.validate
import psycopg
import pytest

from postgres_server import PASSWORD
from redshift_server import Redshift

KEY, SECRET, REGION = "AKIADATAAPI", "a secret/key+", "eu-west-1"
WORKGROUP, CLUSTER = "lakes", "cluster-1"
SECRETS = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:"
STATEMENT_BYTES = 100_000
PAGE = 4
MODEL = botocore.session.Session().get_service_model("redshift-data")
INTEGERS = {20, 21, 23, 26}
FRACTIONS = {700, 701}
BOOLEAN = 16


class Refused(Exception):
    def __init__(self, code, message, status=400):
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


class Lost(Exception):
    """The connection is closed without an answer."""


def wrong(value, shape, name):
    """What botocore's validator leaves to the service: lengths, patterns, values."""
    if shape.type_name == "structure":
        return [w for key, each in value.items() for w in wrong(each, shape.members[key], f"{name}.{key}")]
    if shape.type_name == "list":
        found = [w for each in value for w in wrong(each, shape.member, name)]
        return found + ([f"{name} has {len(value)}"] if len(value) > shape.metadata.get("max", len(value)) else [])
    found = []
    if shape.type_name == "string":
        limits = shape.metadata
        if not limits.get("min", 0) <= len(value) <= limits.get("max", len(value)):
            found.append(f"{name} is too short or too long")
        if "pattern" in limits and not re.fullmatch(limits["pattern"], value):
            found.append(f"{name} does not match {limits['pattern']}")
        if shape.enum and value not in shape.enum:
            found.append(f"{name} is none of {shape.enum}")
    return found


def statements_in(sql):
    """How many statements a text has: semicolons outside of quotes end one."""
    bare = re.sub(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"", "", sql)
    return len([part for part in bare.split(";") if part.strip()])


class Statement:
    def __init__(self, operation, params):
        self.id = str(uuid.uuid4())
        self.sqls = params["Sqls"] if operation == "BatchExecuteStatement" else [params["Sql"]]
        self.is_batch = operation == "BatchExecuteStatement"
        self.params = params
        self.status = "SUBMITTED"
        self.parts = ["SUBMITTED"] * len(self.sqls)
        self.errors = [None] * len(self.sqls)
        self.results = [None] * len(self.sqls)
        self.error, self.pid = None, 0
        self.stopped = False
        self.connection = None
        self.done = threading.Event()


class DataApi:
    """`calls` has every request that was understood: its operation and its parameters. What is in `faults` (an
    operation and what happens to its next calls: an error, or "lose") is taken from there in turn."""

    def __init__(self, redshift):
        self.redshift = redshift
        self.statements, self.tokens = {}, {}
        self.calls, self.faults = [], []
        self.down = False
        # Cleared, no transaction commits.
        self.commits = threading.Event()
        self.commits.set()
        # Cleared, no transaction that has a name begins.
        self.starts = threading.Event()
        self.starts.set()
        self.held = 0
        # Changes statements before they run.
        self.rewrite = None
        self.users = {"secret": ("loader", PASSWORD), "stale": ("loader", "yesterday's")}
        self.lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                try:
                    status, answer = 200, outer.answer(self.headers, body, f"http://{self.headers['host']}/")
                except Refused as refused:
                    status, answer = refused.status, {"__type": refused.code, "Message": refused.message}
                except Lost:
                    self.close_connection = True
                    self.connection.close()
                    return
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/x-amz-json-1.1")
                self.send_header("content-length", str(len(data)))
                self.send_header("x-amzn-requestid", str(uuid.uuid4()))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def access(self, **settings):
        """What a destination says of it."""
        return {
            "workgroup": WORKGROUP, "endpoint": self.endpoint, "region": REGION, "access_key_id": KEY,
            "secret_access_key": SECRET, **settings,
        }

    def stop(self):
        self.mend()
        self.server.shutdown()
        self.server.server_close()

    def mend(self):
        """Ends all faults."""
        self.down, self.rewrite = False, None
        self.faults.clear()
        self.starts.set()
        self.commits.set()

    def made(self, operation):
        return [params for name, params in list(self.calls) if name == operation]

    # Requests

    def answer(self, headers, body, url):
        if self.down:
            raise Lost
        self.authenticate(headers, body, url)
        if headers.get("content-type") != "application/x-amz-json-1.1":
            raise Refused("UnknownOperationException", "not JSON 1.1")
        prefix, _, operation = headers.get("x-amz-target", "").partition(".")
        if prefix != MODEL.metadata["targetPrefix"] or operation not in MODEL.operation_names:
            raise Refused("UnknownOperationException", f"no operation {operation}")
        params = json.loads(body)
        model = MODEL.operation_model(operation)
        report = botocore.validate.ParamValidator().validate(params, model.input_shape)
        problem = report.generate_report() or "; ".join(wrong(params, model.input_shape, operation))
        if problem:
            raise Refused("ValidationException", problem)
        with self.lock:
            self.calls.append((operation, params))
            fault = next((fault for fault in self.faults if fault[0] == operation), None)
            if fault:
                self.faults.remove(fault)
        if fault and fault[1] != "lose":
            raise Refused(*fault[1:])
        answer = getattr(self, operation)(params)
        report = botocore.validate.ParamValidator().validate(answer, model.output_shape)
        assert not report.has_errors(), report.generate_report()
        if fault:
            if "Id" in answer and operation.endswith("ExecuteStatement"):
                self.statements[answer["Id"]].done.wait(30)
            raise Lost
        return answer

    @staticmethod
    def authenticate(headers, body, url):
        found = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, ?SignedHeaders=([^,]+), ?"
            r"Signature=([0-9a-f]{64})", headers.get("authorization", ""),
        )
        if not found:
            raise Refused("MissingAuthenticationTokenException", "Missing Authentication Token", 403)
        key, _, region, service, signed, signature = found.groups()
        if key != KEY:
            raise Refused("UnrecognizedClientException", "The security token included in the request is invalid.")
        if service != MODEL.signing_name or region != REGION:
            raise Refused("InvalidSignatureException", f"Credential should be scoped to '{MODEL.signing_name}'", 403)
        if not {"host", "x-amz-date", "x-amz-target"} <= set(signed.split(";")):
            raise Refused("InvalidSignatureException", "headers that have to be signed are not", 403)
        request = botocore.awsrequest.AWSRequest("POST", url, data=body)
        for name in signed.split(";"):
            request.headers[name] = headers[name]
        request.context["timestamp"] = headers["x-amz-date"]
        auth = botocore.auth.SigV4Auth(botocore.credentials.Credentials(KEY, SECRET), service, region)
        expected = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
        if expected != signature:
            raise Refused("InvalidSignatureException", "The request signature we calculated does not match", 403)

    # Operations

    def ExecuteStatement(self, params):
        return self.submit("ExecuteStatement", params)

    def BatchExecuteStatement(self, params):
        return self.submit("BatchExecuteStatement", params)

    def submit(self, operation, params):
        user = self.user(params)
        statement = Statement(operation, params)
        for sql in statement.sqls:
            if len(sql.encode()) > STATEMENT_BYTES:
                raise Refused("ValidationException", f"Cannot process query string larger than {STATEMENT_BYTES}")
            if statements_in(sql) != 1:
                raise Refused("ValidationException", "Only one statement is allowed")
            if re.match(r"\s*(BEGIN|START|COMMIT|END|ROLLBACK|ABORT)\b", sql, re.I):
                raise Refused("ValidationException", "transaction control is not allowed here")
        token = params.get("ClientToken")
        asked = hashlib.sha256(json.dumps([operation, params], sort_keys=True).encode()).digest()
        with self.lock:
            if token in self.tokens:
                known, before = self.tokens[token]
                if before != asked:
                    raise Refused("ValidationException", "the client token came with other parameters")
                return self.submitted(self.statements[known])
            self.statements[statement.id] = statement
            if token:
                self.tokens[token] = statement.id, asked
        threading.Thread(target=self.run, args=(statement, user), daemon=True).start()
        return self.submitted(statement)

    @staticmethod
    def submitted(statement):
        answer = {"Id": statement.id, "CreatedAt": time.time(), "Database": statement.params["Database"]}
        names = ("WorkgroupName", "ClusterIdentifier", "SecretArn", "DbUser")
        return answer | {name: statement.params[name] for name in names if name in statement.params}

    def user(self, params):
        if "Database" not in params:
            raise Refused("ValidationException", "Database is required")
        given = params.keys() & {"WorkgroupName", "ClusterIdentifier"}
        if len(given) != 1:
            raise Refused("ValidationException", "either ClusterIdentifier or WorkgroupName is required")
        if params.get("WorkgroupName", WORKGROUP) != WORKGROUP or params.get("ClusterIdentifier", CLUSTER) != CLUSTER:
            raise Refused("ValidationException", "Redshift endpoint doesn't exist in this region.")
        if "DbUser" in params and given == {"WorkgroupName"}:
            raise Refused("ValidationException", "DbUser is not for a workgroup")
        if secret := params.get("SecretArn"):
            if secret.removeprefix(SECRETS) not in self.users:
                raise Refused("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
            return self.users[secret.removeprefix(SECRETS)]
        return params.get("DbUser", "loader"), PASSWORD

    def known(self, params):
        number, _, part = params["Id"].partition(":")
        if number not in self.statements:
            raise Refused("ResourceNotFoundException", "Query does not exist.")
        return self.statements[number], int(part or 1) - 1

    def DescribeStatement(self, params):
        statement, _ = self.known(params)
        answer = {"Id": statement.id, "Status": statement.status, "RedshiftPid": statement.pid, "Duration": -1}
        if statement.error:
            answer["Error"] = statement.error
        if statement.is_batch:
            answer["SubStatements"] = [
                {"Id": f"{statement.id}:{n + 1}", "Status": statement.parts[n], "QueryString": sql,
                 "HasResultSet": statement.results[n] is not None}
                | ({"Error": statement.errors[n]} if statement.errors[n] else {})
                for n, sql in enumerate(statement.sqls)
            ]
        else:
            answer["QueryString"] = statement.sqls[0]
        return answer | {"HasResultSet": any(result is not None for result in statement.results)}

    def GetStatementResult(self, params):
        statement, part = self.known(params)
        if statement.status != "FINISHED" or statement.results[part] is None:
            raise Refused(
                "ResourceNotFoundException", "Query does not have result. Please check query status with "
                "DescribeStatement.",
            )
        start = int(base64.b64decode(params["NextToken"])) if params.get("NextToken") else 0
        names, rows = statement.results[part]
        answer = {
            "Records": rows[start : start + PAGE], "TotalNumRows": len(rows),
            "ColumnMetadata": [{"name": name, "label": name} for name in names],
        }
        if start + PAGE < len(rows):
            answer["NextToken"] = base64.b64encode(str(start + PAGE).encode()).decode()
        return answer

    def ListStatements(self, params):
        status = params.get("Status", "FINISHED")
        start = int(params.get("NextToken") or 0)
        with self.lock:
            found = [
                statement for statement in reversed(list(self.statements.values()))
                if statement.params.get("StatementName", "").startswith(params.get("StatementName", ""))
                and status in ("ALL", statement.status)
            ]
        # Pages are shorter than asked for, as they may be.
        page = found[start : start + 2]
        answer = {"Statements": [
            {"Id": each.id, "Status": each.status, "IsBatchStatement": each.is_batch,
             "StatementName": each.params.get("StatementName", "")} for each in page
        ]}
        return answer | ({"NextToken": str(start + 2)} if start + 2 < len(found) else {})

    def CancelStatement(self, params):
        statement, _ = self.known(params)
        if statement.done.is_set():
            raise Refused("ValidationException", "Could not cancel a query that is already in FINISHED state.")
        statement.stopped = True
        # Not by the connection: libpq would wait for the proxy in this very process.
        self.redshift.rows(f"SELECT pg_cancel_backend({statement.pid})")
        return {"Status": True}

    # Statements

    def run(self, statement, user):
        """A statement's life."""
        try:
            for status in ("PICKED", "STARTED"):
                time.sleep(0.005)
                statement.status = status
                if "StatementName" in statement.params:
                    self.starts.wait()
            self.execute(statement, *user)
        except psycopg.Error as error:
            text = str(error).strip()
            statement.error = "FATAL: " + text.split("FATAL:")[-1].strip() if "FATAL:" in text else f"ERROR: {text}"
            statement.status = "FAILED"
        finally:
            if statement.connection:
                statement.connection.close()
            if statement.status == "STARTED":
                statement.status = "FAILED"
            statement.done.set()

    def execute(self, statement, user, password):
        connection = statement.connection = psycopg.connect(
            host="127.0.0.1", port=self.redshift.port, user=user, password=password, sslmode="disable",
            dbname=statement.params["Database"], autocommit=True, connect_timeout=10,
        )
        statement.pid = connection.info.backend_pid
        if statement.is_batch:
            assert said(connection, "BEGIN")[0] is None
        for n, sql in enumerate(statement.sqls):
            statement.parts[n] = "STARTED"
            error, statement.results[n] = said(connection, self.rewrite(sql) if self.rewrite else sql)
            if error:
                statement.errors[n] = error
                statement.parts[n:] = ["FAILED"] + ["ABORTED"] * (len(statement.sqls) - n - 1)
                said(connection, "ROLLBACK")
                self.end(statement, f"Query #{n + 1} failed with {error}" if statement.is_batch else error)
                return
            statement.parts[n] = "FINISHED"
        if not statement.is_batch:
            self.end(statement, None)
            return
        if not self.commits.is_set():
            with self.lock:
                self.held += 1
            while not self.commits.wait(0.02):
                if statement.stopped:
                    said(connection, "ROLLBACK")
                    self.end(statement, None)
                    return
        self.end(statement, said(connection, "COMMIT")[0])

    @staticmethod
    def end(statement, error):
        statement.error = error
        statement.status = "ABORTED" if statement.stopped else "FAILED" if error else "FINISHED"


def said(connection, sql):
    """A simple query: what is wrong with it, and what it gives."""
    result = connection.pgconn.exec_(sql.encode())
    if result.status == psycopg.pq.ExecStatus.FATAL_ERROR:
        field = psycopg.pq.DiagnosticField
        text = (result.error_field(field.MESSAGE_PRIMARY) or b"the connection is lost").decode()
        detail = result.error_field(field.MESSAGE_DETAIL)
        text += f"\n  Detail: {detail.decode()}" if detail else ""
        return f"ERROR: {text} [ErrorId: 1-{uuid.uuid4().hex[:8]}-{uuid.uuid4().hex[:24]}]", None
    if result.status != psycopg.pq.ExecStatus.TUPLES_OK:
        return None, None

    def field(row, column):
        value = result.get_value(row, column)
        kind = result.ftype(column)
        if value is None:
            return {"isNull": True}
        if kind == BOOLEAN:
            return {"booleanValue": value == b"t"}
        if kind in INTEGERS:
            return {"longValue": int(value)}
        return {"doubleValue": float(value)} if kind in FRACTIONS else {"stringValue": value.decode()}

    rows = [[field(row, column) for column in range(result.nfields)] for row in range(result.ntuples)]
    return None, ([result.fname(column).decode() for column in range(result.nfields)], rows)


class Behind:
    """A stand-in for Redshift that is reached by the Data API only: what tests of a destination need of it."""

    def __init__(self, redshift):
        self.__dict__["redshift"] = redshift
        self.__dict__["api"] = DataApi(redshift)

    def __getattr__(self, name):
        return getattr(self.redshift, name)

    def __setattr__(self, name, value):
        setattr(self.redshift, name, value)

    def destination(self, table, prefix, data_api=None, **settings):
        given = self.redshift.destination(table, prefix, **settings)
        for name in ("host", "port", "user", "password"):
            given.pop(name)
        return given | {"data_api": self.api.access(**(data_api or {}))}

    def stop(self):
        self.api.stop()
        self.redshift.stop()


def count(redshift, table):
    return redshift.rows(f"SELECT count(*), count(DISTINCT n) FROM {table}")[0]


def loads(api, table):
    """What was handed in to load this table."""
    return [call for call in api.made("BatchExecuteStatement") if f'"{table}"' in call.get("StatementName", "")]


@pytest.fixture(scope="module")
def redshift(s3):
    """The stand-in for Redshift, reached by its Data API."""
    server = Behind(Redshift(s3))
    yield server
    server.stop()


@pytest.fixture
def api(redshift):
    yield redshift.api
    redshift.api.mend()
