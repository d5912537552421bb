"""The stand-in for the Redshift Data API, by boto3's own client: it is as strict as the service's model."""

import time
import uuid

import boto3
import botocore.config
import botocore.exceptions
import pytest

import redshift_data_server as data
from postgres_server import programs
from redshift_server import Redshift

pytestmark = pytest.mark.skipif(programs() is None, reason="there is no PostgreSQL on this machine")


@pytest.fixture(scope="module")
def behind(s3):
    server = data.Behind(Redshift(s3))
    yield server
    server.stop()


def client_of(behind, key=data.KEY, secret=data.SECRET, region=data.REGION, **config):
    config = botocore.config.Config(retries={"total_max_attempts": 1}, **config)
    session = boto3.session.Session(key, secret, region_name=region)
    return session.client("redshift-data", endpoint_url=behind.api.endpoint, config=config)


@pytest.fixture
def client(behind):
    return client_of(behind)


WHERE = {"WorkgroupName": data.WORKGROUP, "Database": "db"}


def ended(client, answer):
    """Waits, and gives the description and all states that were seen."""
    seen = []
    while True:
        described = client.describe_statement(Id=answer["Id"])
        if described["Status"] not in seen:
            seen.append(described["Status"])
        if seen[-1] in ("FINISHED", "FAILED", "ABORTED"):
            return described, seen
        time.sleep(0.002)


def one(client, sql, **where):
    return ended(client, client.execute_statement(Sql=sql, **(where or WHERE)))[0]


def many(client, *sqls, **more):
    return ended(client, client.batch_execute_statement(Sqls=list(sqls), **WHERE, **more))[0]


def fresh(client, columns="a int"):
    table = f"d_{uuid.uuid4().hex[:12]}"
    assert one(client, f"CREATE TABLE {table} ({columns}) DISTSTYLE ALL")["Status"] == "FINISHED"
    return table


def count(behind, table):
    return behind.rows(f"SELECT count(*) FROM {table}")[0][0]


def test_a_statement_goes_through_its_states(client):
    _, seen = ended(client, client.execute_statement(Sql="SELECT pg_sleep(0.1)", **WHERE))
    assert seen[-1] == "FINISHED" and "STARTED" in seen
    assert seen == [state for state in ("SUBMITTED", "PICKED", "STARTED", "FINISHED") if state in seen]


def test_results_have_types_and_pages(client):
    described = one(client, "SELECT n, n > 5, n::float8 / 2, nullif(n, 3), 'é' FROM generate_series(1, 10) n")
    pages = list(client.get_paginator("get_statement_result").paginate(Id=described["Id"]))
    rows = [row for page in pages for row in page["Records"]]
    assert len(pages) == 3 and len(rows) == pages[0]["TotalNumRows"] == 10
    assert rows[2] == [
        {"longValue": 3}, {"booleanValue": False}, {"doubleValue": 1.5}, {"isNull": True}, {"stringValue": "é"},
    ]


def test_a_batch_is_one_transaction(behind, client):
    table = fresh(client)
    described = many(client, f"INSERT INTO {table} VALUES (1)", f"INSERT INTO {table} VALUES (1 / (1 - 1))", "SELECT 1")
    assert described["Status"] == "FAILED" and "Query #2" in described["Error"]
    assert [part["Status"] for part in described["SubStatements"]] == ["FINISHED", "FAILED", "ABORTED"]
    assert "division by zero" in described["SubStatements"][1]["Error"]
    assert count(behind, table) == 0
    described = many(client, f"INSERT INTO {table} VALUES (1)", f"SELECT a FROM {table}")
    assert described["Status"] == "FINISHED" and count(behind, table) == 1
    assert client.get_statement_result(Id=f"{described['Id']}:2")["Records"] == [[{"longValue": 1}]]
    with pytest.raises(botocore.exceptions.ClientError, match="does not have result"):
        client.get_statement_result(Id=f"{described['Id']}:1")


def test_a_token_that_comes_again_runs_nothing(behind, client):
    table = fresh(client)
    request = {"Sqls": [f"INSERT INTO {table} VALUES (1)"], "ClientToken": uuid.uuid4().hex, **WHERE}
    answers = [client.batch_execute_statement(**request) for _ in range(3)]
    ended(client, answers[0])
    assert len({answer["Id"] for answer in answers}) == 1 and count(behind, table) == 1
    with pytest.raises(botocore.exceptions.ClientError, match="token"):
        client.batch_execute_statement(**request | {"Sqls": ["SELECT 1"]})


def test_an_answer_that_is_lost_was_a_commit(behind, client):
    table = fresh(client)
    behind.api.faults.append(("BatchExecuteStatement", "lose"))
    with pytest.raises(botocore.exceptions.HTTPClientError):
        many(client, f"INSERT INTO {table} VALUES (1)")
    assert count(behind, table) == 1


def test_statements_are_listed_and_stopped(behind, client):
    table, name = fresh(client), uuid.uuid4().hex
    behind.api.commits.clear()
    try:
        answer = client.batch_execute_statement(
            Sqls=[f"INSERT INTO {table} VALUES (1)"], StatementName=f"{name} 1", **WHERE
        )
        deadline = time.monotonic() + 10
        while client.describe_statement(Id=answer["Id"])["Status"] != "STARTED":
            assert time.monotonic() < deadline
        assert client.list_statements(StatementName=name)["Statements"] == [], "by default what has finished"
        [listed] = client.list_statements(StatementName=name, Status="ALL")["Statements"]
        assert listed["Id"] == answer["Id"]
        client.cancel_statement(Id=answer["Id"])
        assert ended(client, answer)[0]["Status"] == "ABORTED"
    finally:
        behind.api.commits.set()
    assert count(behind, table) == 0


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        ({"Sqls": ["SELECT 1"] * 41}, "41"), ({"Sqls": ["SELECT 1; SELECT 2"]}, "Only one"),
        ({"Sqls": ["COMMIT"]}, "transaction"), ({"Sqls": ["SELECT '" + "x" * 100_000 + "'"]}, "larger"),
        ({"Sqls": ["SELECT 1"], "ClusterIdentifier": data.CLUSTER}, "either"),
        ({"Sqls": ["SELECT 1"], "DbUser": "loader"}, "DbUser"),
        ({"Sqls": ["SELECT 1"], "WorkgroupName": "other"}, "doesn't exist"),
        ({"Sqls": ["SELECT 1"], "WorkgroupName": "UPPER"}, "match"),
        ({"Sqls": ["SELECT 1"], "ClientToken": "x" * 65}, "too long"),
        ({"Sqls": ["SELECT 1"], "SecretArn": data.SECRETS + "none"}, "secret"),
        ({"Sqls": ["SELECT 1"], "Unknown": 1}, "nknown"),
    ],
)
def test_what_the_service_refuses(behind, request_, problem):
    client = client_of(behind, parameter_validation=False)
    with pytest.raises(botocore.exceptions.ClientError, match=problem):
        # What botocore's serializer would drop is put in behind it.
        def add(params, **_):
            if "Unknown" in request_:
                params["body"] = params["body"][:-1] + b', "Unknown": 1}'

        client.meta.events.register("before-call.redshift-data.BatchExecuteStatement", add)
        client.batch_execute_statement(**WHERE | {key: value for key, value in request_.items() if key != "Unknown"})


@pytest.mark.parametrize(
    ("given", "code"),
    [({"key": "AKIAOTHER"}, "UnrecognizedClient"), ({"secret": "other"}, "InvalidSignature"),
     ({"region": "us-east-1"}, "InvalidSignature")],
)
def test_signatures_are_checked(behind, given, code):
    with pytest.raises(botocore.exceptions.ClientError, match=code):
        client_of(behind, **given).list_statements()


def test_users_of_secrets_and_clusters(client):
    described = one(client, "SELECT current_user", Database="db", ClusterIdentifier=data.CLUSTER, DbUser="admin")
    assert client.get_statement_result(Id=described["Id"])["Records"] == [[{"stringValue": "admin"}]]
    described = one(client, "SELECT 1", SecretArn=data.SECRETS + "stale", **WHERE)
    assert described["Status"] == "FAILED" and "password authentication failed" in described["Error"]
    described = one(client, "SELECT 1", **WHERE | {"Database": "none"})
    assert described["Status"] == "FAILED" and 'database "none" does not exist' in described["Error"]
