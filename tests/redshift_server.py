"""A stand-in for Amazon Redshift: PostgreSQL behind a proxy that executes `COPY … FROM 's3://…'` as Redshift's
developer guide says, from the tests' S3 server, in the client's own transaction.

It is strict where we could fool ourselves: what Redshift does not know is refused (ON CONFLICT, savepoints, JSONB,
extended protocol is not needed and not there), options that exclude each other too, a Parquet manifest without
lengths, a mandatory file that is missing. `stl_load_errors` is written on a connection of its own, as it survives a
rollback there. What it cannot show: distribution, concurrency of slices, the exact texts of messages.
"""

import functools
import gzip
import io
import json
import re
import socket
import socketserver
import struct
import threading

import boto3
import botocore.config
import botocore.exceptions
import psycopg
import pyarrow.parquet

from postgres_server import PASSWORD, Postgres

SYSTEM = """
CREATE SCHEMA rs;
CREATE TABLE rs.stl_load_errors(session int, query int, filename char(256), line_number bigint, colname char(127),
    err_code int, err_reason char(100), raw_line char(1024));
CREATE VIEW rs.sys_load_error_detail AS SELECT session session_id, query query_id, filename file_name, line_number,
    colname column_name, err_code error_code, err_reason error_message FROM rs.stl_load_errors;
CREATE FUNCTION rs.getdate() RETURNS timestamp LANGUAGE sql AS 'select (now() at time zone ''utc'')::timestamp';
CREATE FUNCTION rs.pg_last_copy_id() RETURNS int LANGUAGE sql
    AS 'select coalesce(nullif(current_setting(''rs.copy_id'', true), ''''), ''-1'')::int';
CREATE FUNCTION rs.pg_last_copy_count() RETURNS bigint LANGUAGE sql
    AS 'select coalesce(nullif(current_setting(''rs.copy_count'', true), ''''), ''0'')::bigint';
ALTER DATABASE db SET search_path = "$user", public, rs;
GRANT USAGE ON SCHEMA rs TO public;
GRANT SELECT ON ALL TABLES IN SCHEMA rs TO public;
"""

# What PostgreSQL takes and Redshift does not.
UNKNOWN = re.compile(
    r"\b(ON\s+CONFLICT|SAVEPOINT|RELEASE|RETURNING|JSONB|BYTEA|BIGSERIAL|SERIAL|ON\s+COMMIT\s+DROP|TO_REGCLASS|"
    r"IF\s+EXISTS\s+COLUMN|SET\s+CONSTRAINTS|STANDARD_CONFORMING_STRINGS|FROM\s+STDIN|SYNCHRONOUS_COMMIT)\b", re.I
)
DDL = [
    (r"\bENCODE\s+\w+", ""), (r"\bDISTSTYLE\s+\w+", ""), (r"\bDISTKEY\s*(\([^)]*\))?", ""),
    (r"\b(COMPOUND|INTERLEAVED)\s+SORTKEY\b", "SORTKEY"), (r"\bSORTKEY\s*(\([^)]*\)|AUTO)?", ""),
    (r"\bSUPER\b", "jsonb"), (r"\bVARCHAR\s*\(\s*MAX\s*\)", "varchar(65535)"), (r"\bVARBYTE\b(\(\d+\))?", "bytea"),
]
COPY = re.compile(
    r"^\s*COPY\s+((?:\"(?:[^\"]|\"\")+\"|\w+)(?:\.(?:\"(?:[^\"]|\"\")+\"|\w+))?)\s*(?:\(([^)]*)\))?\s+"
    r"FROM\s+'(s3://[^']+)'(.*)$", re.I | re.S,
)
WORDS = re.compile(r"'((?:[^'\\]|''|\\.)*)'|([A-Za-z_]\w*)|(\d+)", re.S)
VALUED = set(
    "IAM_ROLE CREDENTIALS ACCESS_KEY_ID SECRET_ACCESS_KEY SESSION_TOKEN DELIMITER QUOTE NULL IGNOREHEADER MAXERROR "
    "DATEFORMAT TIMEFORMAT REGION COMPUPDATE STATUPDATE ACCEPTINVCHARS".split()
)
FLAGS = set(
    "MANIFEST GZIP ESCAPE EMPTYASNULL BLANKSASNULL TRUNCATECOLUMNS TRIMBLANKS REMOVEQUOTES FILLRECORD ACCEPTANYDATE "
    "ROUNDEC NOLOAD CSV PARQUET SERIALIZETOJSON".split()
)
OF_PARQUET = set(
    "PARQUET MANIFEST IAM_ROLE ACCESS_KEY_ID SECRET_ACCESS_KEY SESSION_TOKEN STATUPDATE ACCEPTINVCHARS FILLRECORD "
    "SERIALIZETOJSON".split()
)
TEXT = ("varchar", "bpchar", "text")


class Refused(Exception):
    """An error of a statement."""

    def __init__(self, message, code="XX000", detail=""):
        super().__init__(message)
        self.message, self.code, self.detail = message, code, detail


class BadRow(Exception):
    def __init__(self, code, reason, column=""):
        super().__init__(reason)
        self.code, self.reason, self.column = code, reason, column


def literal(value):
    return "'" + str(value).replace("'", "''") + "'"


def options(text):
    """The words behind the address of a COPY."""
    junk = re.sub(r"[\s,]", "", WORDS.sub("", text))
    if junk:
        raise Refused(f'syntax error at or near "{junk[0]}"', "42601")
    words, found, at = list(WORDS.finditer(text)), {}, 0

    def value(word):
        if word.group(1) is not None:
            return re.sub(r"\\(.)", r"\1", word.group(1).replace("''", "'"))
        return word.group(2) or word.group(3)

    def is_as():
        return at < len(words) and (words[at].group(2) or "").upper() == "AS"

    while at < len(words):
        name = (words[at].group(2) or "").upper()
        at += 1
        if name == "FORMAT":
            at += is_as()
        elif name in VALUED:
            at += is_as()
            if at >= len(words):
                raise Refused(f"syntax error at end of input near {name}", "42601")
            found[name] = value(words[at])
            at += 1
        elif name in FLAGS:
            found[name] = True
        else:
            raise Refused(f'syntax error at or near "{value(words[at - 1])}"', "42601")
    if not {"IAM_ROLE", "CREDENTIALS", "ACCESS_KEY_ID"} & found.keys():
        raise Refused("Must specify credentials for COPY from S3", "42601")
    if "CSV" in found and {"ESCAPE", "REMOVEQUOTES"} & found.keys():
        raise Refused("CSV is not compatible with ESCAPE or REMOVEQUOTES", "0A000")
    if "PARQUET" in found and found.keys() - OF_PARQUET:
        raise Refused(f"COPY from this file format does not accept {sorted(found.keys() - OF_PARQUET)}", "0A000")
    return found


def records(text, delimiter, quoted):
    """First line, raw line and fields of each record."""
    fields, field, inside, line, first, start = [], [], False, 1, 1, 0
    at, end, was_quoted = 0, len(text), False
    while at < end:
        letter = text[at]
        if inside:
            if letter == '"' and text[at + 1 : at + 2] == '"':
                field.append('"')
                at += 1
            elif letter == '"':
                inside = False
            else:
                field.append(letter)
        elif quoted and letter == '"' and not field and not was_quoted:
            inside = was_quoted = True
        elif letter == delimiter:
            fields.append("".join(field))
            field, was_quoted = [], False
        elif letter == "\n":
            fields.append("".join(field))
            yield first, text[start:at], fields
            fields, field, was_quoted, first, start = [], [], False, line + 1, at + 1
        else:
            field.append(letter)
        line += letter == "\n"
        at += 1
    if inside:
        raise Refused("Invalid quote formatting for CSV")
    if fields or field:
        yield first, text[start:], [*fields, "".join(field)]


def converted(fields, columns, given):
    if len(fields) > len(columns):
        raise BadRow(1202, "Extra column(s) found")
    if len(fields) < len(columns):
        raise BadRow(1214, "Delimiter not found", columns[len(fields)][0])
    out = []
    for value, (name, kind, length, not_null) in zip(fields, columns):
        is_text = kind in TEXT
        # Whether it was quoted is forgotten by then: the strictest reading of the guide.
        if value == given.get("NULL", "\\N"):
            value = None
        elif value == "" and (not is_text or "EMPTYASNULL" in given):
            value = None
        elif is_text and "BLANKSASNULL" in given and value and not value.strip():
            value = None
        if value is None and not_null:
            raise BadRow(1213, "Missing data for not-null field", name)
        if value is not None and "\0" in value:
            raise BadRow(1212, "NUL byte in the middle of the field", name)
        if value is not None and is_text and length and len(value.encode()) > length:
            if "TRUNCATECOLUMNS" not in given:
                raise BadRow(1204, "String length exceeds DDL length", name)
            value = value.encode()[:length].decode("utf-8", "ignore")
        if value and kind.startswith("timestamp") and given.get("TIMEFORMAT", "") != "auto":
            if not re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", value):
                raise BadRow(1206, "Invalid timestamp format or value [YYYY-MM-DD HH24:MI:SS]", name)
        out.append(value)
    return out


class Redshift:
    """The stand-in. `log` has every COPY that was executed."""

    def __init__(self, s3, serverless=False):
        self.s3 = s3
        self.postgres = Postgres()
        self.copies = []
        self.conflicts = 0
        self.fail_copies = 0
        self.lock = threading.Lock()
        self.queries = 1000
        try:
            self.postgres.run(*[part for part in SYSTEM.split(";\n") if part.strip()])
            if serverless:
                self.postgres.run("REVOKE SELECT ON rs.stl_load_errors FROM public")
            self.side = self.postgres.connect()
            outer = self

            class Server(socketserver.ThreadingTCPServer):
                allow_reuse_address = daemon_threads = True

            class Handler(socketserver.BaseRequestHandler):
                def handle(self):
                    Conversation(outer, self.request).run()

            self.server = Server(("127.0.0.1", 0), Handler)
            self.port = self.server.server_address[1]
            threading.Thread(target=self.server.serve_forever, daemon=True).start()
        except BaseException:
            self.postgres.stop()
            raise

    def rows(self, query):
        return self.postgres.rows(query)

    def destination(self, table, prefix, port=None, **settings):
        staging = {
            "url": f"s3://{self.s3.bucket}/{prefix}/", "endpoint": self.s3.endpoint, "region": "us-east-1",
            "access_key_id": self.s3.access_key, "secret_access_key": self.s3.secret_key,
        } | settings.pop("staging", {})
        return {
            "type": "redshift", "host": "127.0.0.1", "port": port or self.port, "database": "db", "user": "loader",
            "password": PASSWORD, "table": table, "iam_role": "arn:aws:iam::123456789012:role/copy",
            "staging": staging, **settings,
        }

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.side.close()
        self.postgres.stop()


class Conversation:
    """One client and its backend."""

    def __init__(self, outer, client):
        self.outer, self.client = outer, client
        self.backend = socket.create_connection(("127.0.0.1", outer.postgres.port))
        for each in (self.client, self.backend):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.status = b"I"
        self.pid = 0

    def run(self):
        try:
            self.start()
            while self.answer(*self.message(self.client)):
                pass
        except (ConnectionError, OSError, struct.error):
            pass
        finally:
            self.backend.close()

    @staticmethod
    def exactly(peer, count):
        data = b""
        while len(data) < count:
            part = peer.recv(count - len(data))
            if not part:
                raise ConnectionError
            data += part
        return data

    def message(self, peer):
        head = self.exactly(peer, 5)
        return head[:1], self.exactly(peer, struct.unpack("!I", head[1:])[0] - 4)

    @staticmethod
    def send(peer, kind, body):
        peer.sendall(kind + struct.pack("!I", len(body) + 4) + body)

    def start(self):
        while True:
            size = struct.unpack("!I", self.exactly(self.client, 4))[0]
            body = self.exactly(self.client, size - 4)
            if body[:4] not in (struct.pack("!I", 80877103), struct.pack("!I", 80877104)):
                break
            self.client.sendall(b"N")
        self.backend.sendall(struct.pack("!I", size) + body)
        while True:
            kind, body = self.message(self.backend)
            self.send(self.client, kind, body)
            if kind == b"E":
                raise ConnectionError
            if kind == b"K":
                self.pid = struct.unpack("!I", body[:4])[0]
            if kind == b"R" and struct.unpack("!I", body[:4])[0] in (3, 5, 10, 11):
                self.send(self.backend, *self.message(self.client))
            if kind == b"Z":
                return

    def answer(self, kind, body):
        if kind == b"X":
            return False
        if kind != b"Q":
            raise ConnectionError("only simple queries are spoken here")
        sql = body[:-1].decode()
        try:
            self.one(sql)
        except Refused as refused:
            fields = f"MESSAGE={literal(refused.message)}, ERRCODE={literal(refused.code)}"
            fields += f", DETAIL={literal(refused.detail)}" if refused.detail else ""
            # A statement that really fails: an open transaction is aborted.
            self.relay(f"DO $rs$ BEGIN RAISE EXCEPTION USING {fields}; END $rs$")
        self.send(self.client, b"Z", self.status)
        return True

    def one(self, sql):
        if unknown := UNKNOWN.search(sql):
            raise Refused(f'syntax error at or near "{unknown.group()}"', "42601")
        if COPY.match(sql):
            if self.status == b"E":
                raise Refused("current transaction is aborted", "25P02")
            self.copy(sql)
            self.send(self.client, b"C", b"COPY\0")
            return
        if sql.strip().upper() == "COMMIT" and self.outer.conflicts:
            self.outer.conflicts -= 1
            self.query("ROLLBACK")
            raise Refused("1023", "XX000", "Serializable isolation violation on table - 100123, transactions forming")
        if re.match(r"\s*(CREATE|ALTER)\b", sql, re.I):
            for pattern, instead in DDL:
                sql = re.sub(pattern, instead, sql, flags=re.I)
        self.relay(sql)

    def relay(self, sql):
        """Runs statements; all but the end goes to the client."""
        self.send(self.backend, b"Q", sql.encode() + b"\0")
        while True:
            kind, body = self.message(self.backend)
            if kind == b"Z":
                self.status = body
                return
            self.send(self.client, kind, body)

    def query(self, sql, data=None):
        """Runs a statement of our own; rows, or psycopg.Error with the fields of the error."""
        self.send(self.backend, b"Q", sql.encode() + b"\0")
        rows, error = [], None
        while True:
            kind, body = self.message(self.backend)
            if kind == b"D":
                count, at, row = struct.unpack_from("!H", body)[0], 2, []
                for _ in range(count):
                    size = struct.unpack_from("!i", body, at)[0]
                    at += 4
                    row.append(None if size < 0 else body[at : at + size].decode())
                    at += max(size, 0)
                rows.append(row)
            elif kind == b"G":
                for at in range(0, len(data), 1 << 16):
                    self.send(self.backend, b"d", data[at : at + (1 << 16)])
                self.send(self.backend, b"c", b"")
            elif kind == b"E":
                error = {chr(field[0]): field[1:].decode() for field in body.split(b"\0") if field}
            elif kind == b"Z":
                self.status = body
                if error:
                    raise psycopg.Error(error)
                return rows

    def copy(self, sql):
        table, listed, url, rest = COPY.match(sql).groups()
        given = options(rest)
        outer = self.outer
        with outer.lock:
            outer.queries += 1
            number = outer.queries
            if outer.fail_copies:
                outer.fail_copies -= 1
                raise Refused("S3ServiceException:Please reduce your request rate.,Status 503,Error SlowDown")
        columns = self.columns(table, listed)
        files = list(objects(outer.s3, url, given))
        if "PARQUET" in given:
            rows, errors = self.parquet(files, columns), []
        else:
            rows, errors = self.text(files, columns, given)
        errors += self.load(table, columns, rows, given, number)
        most = int(given.get("MAXERROR", 0))
        for file, line, raw, bad in errors:
            # System tables are not part of the transaction.
            with outer.lock:
                outer.side.execute(
                    "INSERT INTO rs.stl_load_errors VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                    (self.pid, number, file, line, bad.column, bad.code, bad.reason[:100], raw.replace("\0", "")[:500]),
                )
        if len(errors) > most:
            raise Refused(f"Load into table '{table}' failed.  Check 'stl_load_errors' system table for details.")
        count = 0 if "NOLOAD" in given else len(rows)
        self.query(f"SELECT set_config('rs.copy_id', '{number}', false), set_config('rs.copy_count', '{count}', false)")
        outer.copies.append((url, [file for file, _ in files], count))

    def columns(self, table, listed):
        try:
            oid = self.query(f"SELECT {literal(table)}::regclass::oid")[0][0]
        except psycopg.Error as error:
            raise Refused(error.args[0]["M"], error.args[0]["C"]) from None
        rows = self.query(
            "SELECT attname, typname, atttypmod, attnotnull AND NOT atthasdef FROM pg_attribute a JOIN pg_type t "
            f"ON t.oid = atttypid WHERE attrelid = {oid} AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        )
        columns = {
            name: (name, kind, max(int(length) - 4, 0) if kind in TEXT else 0, not_null == "t")
            for name, kind, length, not_null in rows
        }
        if not listed:
            return list(columns.values())
        names = [name.strip().strip('"').lower() for name in listed.split(",")]
        for name in names:
            if name not in columns:
                raise Refused(f'column "{name}" of relation "{table}" does not exist', "42703")
        return [columns[name] for name in names]

    @staticmethod
    def text(files, columns, given):
        rows, errors = [], []
        for file, data in files:
            if "GZIP" in given:
                data = gzip.decompress(data)
            if data[:2] == b"\x1f\x8b":
                raise Refused("the file is compressed, and GZIP is not given")
            delimiter = given.get("DELIMITER", "," if "CSV" in given else "|")
            for line, raw, fields in records(data.decode(), delimiter, "CSV" in given):
                try:
                    rows.append((file, line, raw, converted(fields, columns, given)))
                except BadRow as bad:
                    errors.append((file, line, raw, bad))
        return rows, errors

    @staticmethod
    def parquet(files, columns):
        rows = []
        for file, data in files:
            table = pyarrow.parquet.read_table(io.BytesIO(data))
            if table.num_columns != len(columns):
                raise Refused("Spectrum Scan Error: Unmatched number of columns between table and file.")
            for number, row in enumerate(zip(*[column.to_pylist() for column in table.columns])):
                values = [None if value is None else str(value) for value in row]
                for value, (name, kind, length, _) in zip(values, columns):
                    if value is not None and kind in TEXT and length and len(value.encode()) > length:
                        raise Refused(f"Spectrum Scan Error: The length of the data column {name} is too long")
                rows.append((file, number, "", values))
        return rows

    def load(self, table, columns, rows, given, number):
        """Copies the rows; those that PostgreSQL refuses are taken out of `rows` and given back."""
        names = ", ".join(f'"{column[0]}"' for column in columns)
        was_open = self.status != b"I"
        if not was_open:
            self.query("BEGIN")
        errors = []
        while True:
            def field(value):
                return "" if value is None else '"' + value.replace('"', '""') + '"'

            lines = "".join(",".join(map(field, row[3])) + "\n" for row in rows)
            starts, line = [], 1
            for row in rows:
                starts.append(line)
                # PostgreSQL counts the lines of a field once it knows from the first row how lines end.
                line += 1 + (sum((value or "").count("\n") for value in row[3]) if line > 1 else 0)
            self.query("SAVEPOINT rs_copy")
            try:
                self.query(f"COPY {table} ({names}) FROM STDIN WITH (FORMAT csv)", lines.encode())
                self.query("ROLLBACK TO SAVEPOINT rs_copy" if "NOLOAD" in given else "RELEASE SAVEPOINT rs_copy")
                break
            except psycopg.Error as error:
                said = error.args[0]
                self.query("ROLLBACK TO SAVEPOINT rs_copy")
                where = re.search(r"line (\d+)(?:, column (.+?))?(?::|$)", said.get("W", "").split("\n")[0])
                if "PARQUET" in given:
                    raise Refused("Spectrum Scan Error", detail=said["M"]) from None
                if not where or not rows:
                    raise Refused(said["M"], said["C"]) from None
                at = max(index for index, start in enumerate(starts) if start <= int(where.group(1)))
                column = next((column for column in columns if column[0] == where.group(2)), None)
                file, first, raw, _ = rows.pop(at)
                errors.append((file, first, raw, reason_of(said, column)))
        if not was_open:
            self.query("COMMIT")
        return errors


def reason_of(said, column):
    """Redshift's number and words for an error of PostgreSQL."""
    name, kind = (column[0], column[1]) if column else ("", "")
    value = re.search(r'"(.*)"', said["M"])
    value = value.group(1)[:1] if value else "?"
    if kind.startswith("timestamp"):
        return BadRow(1206, "Invalid timestamp format or value [YYYY-MM-DD HH24:MI:SS]", name)
    if kind == "date":
        return BadRow(1205, "Invalid Date Format - length must be 10 or more", name)
    if kind in ("int2", "int4", "int8", "numeric", "float8"):
        word = {"int8": "Long", "numeric": "Decimal", "float8": "Float"}.get(kind, "Integer")
        return BadRow(1207, f"Invalid digit, Value '{value}', Pos 0, Type: {word}", name)
    return BadRow(1224, said["M"], name)


@functools.cache
def client_of(endpoint, key, secret):
    """A client; to make one takes longer than most COPYs."""
    config = botocore.config.Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
    session = boto3.session.Session(key, secret, region_name="us-east-1")
    return session.client("s3", endpoint_url=endpoint, config=config)


def objects(s3, url, given):
    """The files that a COPY reads, with their bytes."""
    key, secret = given.get("ACCESS_KEY_ID", s3.access_key), given.get("SECRET_ACCESS_KEY", s3.secret_key)
    if "forbidden" in given.get("IAM_ROLE", ""):
        key = secret = "forbidden"
    client = client_of(s3.endpoint, key, secret)

    def get(address):
        bucket, _, name = address.removeprefix("s3://").partition("/")
        try:
            return client.get_object(Bucket=bucket, Key=name)["Body"].read()
        except botocore.exceptions.ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            code = error.response["Error"]["Code"]
            raise Refused(f"S3ServiceException:{code},Status {status},Error {code}", detail=f"key {name}") from None

    if "MANIFEST" not in given:
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        found = [f"s3://{bucket}/{each['Key']}" for page in pages for each in page.get("Contents", [])]
        if not found:
            raise Refused(f"The specified S3 prefix '{prefix}' does not exist")
        for each in found:
            yield each, get(each)
        return
    try:
        entries = json.loads(get(url))["entries"]
    except (ValueError, KeyError, TypeError):
        raise Refused("Manifest file is not in correct json format") from None
    for entry in entries:
        length = entry.get("meta", {}).get("content_length")
        if "PARQUET" in given and length is None:
            raise Refused("COPY from this file format requires content_length in the manifest")
        try:
            data = get(entry["url"])
        except Refused as refused:
            if entry.get("mandatory") or "Status 404" not in refused.message:
                raise
            continue
        if length is not None and length != len(data):
            raise Refused(f"Manifest says {length} bytes, the file has {len(data)}")
        yield entry["url"], data
