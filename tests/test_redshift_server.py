"""The stand-in for Redshift itself: it is as strict as the guide."""

import json
import uuid

import psycopg
import pytest

from postgres_server import PASSWORD, programs
from redshift_server import options, records

pytestmark = pytest.mark.skipif(programs() is None, reason="there is no PostgreSQL on this machine")


class Client:
    """Speaks simple queries, as the guide's drivers may."""

    def __init__(self, redshift):
        self.connection = psycopg.connect(
            host="127.0.0.1", port=redshift.port, user="loader", password=PASSWORD, dbname="db", autocommit=True,
            cursor_factory=psycopg.ClientCursor, sslmode="disable",
        )

    def run(self, sql):
        # libpq sends a query without parameters as a simple one here.
        result = self.connection.pgconn.exec_(sql.encode())
        if result.status == psycopg.pq.ExecStatus.FATAL_ERROR:
            return result.error_message.decode()
        return [[result.get_value(row, column) for column in range(result.nfields)] for row in range(result.ntuples)]


@pytest.fixture
def client(redshift):
    return Client(redshift)


@pytest.fixture
def stage(s3):
    """Puts files and their manifest; gives the manifest's address."""
    folder = uuid.uuid4().hex

    def put(*bodies, missing=False, lengths=True):
        entries = []
        for number, body in enumerate(bodies):
            key = f"standin/{folder}/{number}.csv"
            s3.client().put_object(Bucket=s3.bucket, Key=key, Body=body)
            meta = {"meta": {"content_length": len(body)}} if lengths else {}
            entries.append({"url": f"s3://{s3.bucket}/{key}", "mandatory": True} | meta)
        if missing:
            entries.append({"url": f"s3://{s3.bucket}/standin/{folder}/none.csv", "mandatory": True})
        key = f"standin/{folder}/manifest"
        s3.client().put_object(Bucket=s3.bucket, Key=key, Body=json.dumps({"entries": entries}))
        return f"s3://{s3.bucket}/{key}"

    return put


ROLE = "IAM_ROLE 'arn:aws:iam::123456789012:role/copy'"


def fresh(client, columns):
    table = f"r_{uuid.uuid4().hex[:12]}"
    assert client.run(f"CREATE TABLE {table} ({columns}) DISTSTYLE ALL SORTKEY (a)") == []
    return table


def test_records_are_cut_as_rfc_4180_has_it():
    found = [(line, fields) for line, _, fields in records('1~"a\nb"~\n2~"""~"~x\n', "~", True)]
    assert found == [(1, ["1", "a\nb", ""]), (3, ["2", '"~', "x"])]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("CSV", "credentials"), (f"{ROLE} CSV ESCAPE", "not compatible"), (f"{ROLE} CSV ON ERROR", "syntax"),
        (f"{ROLE} PARQUET GZIP", "does not accept"), (f"{ROLE} PARQUET NOLOAD", "does not accept"),
    ],
)
def test_words_that_do_not_go_together(words, problem):
    with pytest.raises(Exception, match=problem):
        options(words)


def test_copy_appends_and_a_rollback_undoes_it(client, stage):
    table = fresh(client, "a int, b varchar(10)")
    copy = f"COPY {table} FROM '{stage(b'1,x' + bytes([10]), b'2,y' + bytes([10]))}' {ROLE} CSV MANIFEST"
    assert client.run(copy) == [] and client.run(copy) == []
    assert client.run(f"SELECT count(*) FROM {table}") == [[b"4"]]
    client.run("BEGIN")
    client.run(copy)
    assert client.run("SELECT pg_last_copy_count()") == [[b"2"]]
    client.run("ROLLBACK")
    assert client.run(f"SELECT count(*) FROM {table}") == [[b"4"]]


def test_a_mandatory_file_must_be_there(client, stage):
    table = fresh(client, "a int")
    assert "Status 404" in client.run(f"COPY {table} FROM '{stage(b'1', missing=True)}' {ROLE} CSV MANIFEST")
    assert "Status 403" in client.run(
        f"COPY {table} FROM '{stage(b'1')}' IAM_ROLE 'arn:aws:iam::1:role/forbidden' CSV MANIFEST"
    )


def test_errors_are_told_and_survive_the_rollback(client, stage):
    table = fresh(client, "a int, b varchar(3)")
    manifest = stage(b'1,"x\ny"\nz,x\n3,toolong\n')
    client.run("BEGIN")
    assert "stl_load_errors" in client.run(f"COPY {table} FROM '{manifest}' {ROLE} CSV MANIFEST")
    assert "aborted" in client.run("SELECT 1")
    client.run("ROLLBACK")
    told = client.run(
        "SELECT line_number, trim(colname), err_code FROM stl_load_errors WHERE session = pg_backend_pid() ORDER BY 1"
    )
    assert told == [[b"3", b"a", b"1207"], [b"4", b"b", b"1204"]]
    assert client.run(f"COPY {table} FROM '{manifest}' {ROLE} CSV MANIFEST NOLOAD MAXERROR 10") == []
    assert client.run(f"SELECT count(*) FROM {table}") == [[b"0"]]


@pytest.mark.parametrize(
    "sql",
    ["INSERT INTO x VALUES (1) ON CONFLICT DO NOTHING", "SAVEPOINT s", "CREATE TABLE x (a jsonb)", "COPY x FROM STDIN"],
)
def test_what_redshift_does_not_know_is_refused(client, sql):
    assert "syntax error" in client.run(sql)
