"""Redshift by its Data API: what holds over a connection holds here (the same tests, imported), and what is the API's
own: clusters and secrets, its limits, what `lakeward check` says. Faults are in test_redshift_data_faults.py."""

import pytest

import redshift_data_server as data
from postgres_server import programs
from redshift_data_server import api, count, loads, redshift  # noqa: F401
from redshift_server import Redshift
from service import config, events_into, lakeward, pipeline, send, wait_until
from test_redshift import (  # noqa: F401
    test_a_failed_copy_is_not_ignored, test_emptyasnull_is_an_option,
    test_fractions_change_a_column_of_integers, test_rows_that_do_not_fit_go_to_quarantine,
    test_rows_with_the_same_key_replace_each_other, test_serialization_conflicts_are_tried_again,
)

pytestmark = pytest.mark.skipif(programs() is None, reason="there is no PostgreSQL on this machine")


def test_a_batch_is_one_transaction_with_its_guards(redshift, api, tmp_path, table):  # noqa: F811
    with events_into(tmp_path, redshift.destination(table, table)) as running:
        send(running, [{"n": n, "Text": "it's \\ ;"} for n in range(10)])
        running.wait_until_delivered()
        send(running, [{"n": n, "Added": True} for n in range(10, 20)])
        running.wait_until_delivered()
        running.audit()
    assert count(redshift, table) == (20, 20)
    assert redshift.rows(f"SELECT count(*) FROM {table} WHERE added") == [(10,)]
    first, second = loads(api, table)
    assert first["ClientToken"] != second["ClientToken"] and first["WorkgroupName"] == data.WORKGROUP
    words = ["SET", "SET", "SET", "LOCK", "SELECT", "COPY", "SELECT", "INSERT"]
    assert [sql.split()[0] for sql in first["Sqls"]] == words
    listed = api.made("ListStatements")
    assert len([call for call in listed if call["StatementName"] == first["StatementName"]]) >= 1
    assert not [call for call in listed if call["StatementName"] == second["StatementName"]], "all was settled by then"


@pytest.mark.parametrize(
    "access",
    [{"cluster": data.CLUSTER, "db_user": "loader"}, {"cluster": data.CLUSTER, "secret_arn": data.SECRETS + "secret"},
     {"secret_arn": data.SECRETS + "secret"}],
)
def test_clusters_and_secrets(redshift, tmp_path, table, access):  # noqa: F811
    destination = redshift.destination(table, table, access)
    if "cluster" in access:
        del destination["data_api"]["workgroup"]
    with events_into(tmp_path, destination) as running:
        send(running, [{"n": n} for n in range(10)])
        running.wait_until_delivered()
    assert count(redshift, table) == (10, 10)


@pytest.mark.parametrize("serverless", [False, True])
def test_errors_of_rows_are_found_in_either_table(s3, tmp_path, table, serverless):  # noqa: F811
    server = data.Behind(Redshift(s3, serverless=serverless))
    try:
        server.postgres.run(f"CREATE TABLE {table} (n int, _rescued varchar(9))", f"GRANT ALL ON {table} TO loader")
        with events_into(tmp_path, server.destination(table, table)) as running:
            send(running, [{"n": n if n % 3 else 2**40} for n in range(20)])
            running.wait_until_delivered()
        assert server.rows(f"SELECT count(*) FROM {table}") == [(13,)]
        assert len(loads(server.api, table)) == 2, "one look, and all were known"
    finally:
        server.stop()


def test_more_columns_than_one_call_takes(redshift, tmp_path, table):  # noqa: F811
    names = [f"c{n}" for n in range(90)]
    with events_into(tmp_path, redshift.destination(table, table)) as running:
        send(running, [{"n": 0, "c0": 1}])
        running.wait_until_delivered()
        send(running, [{"n": 1} | {name: 0.5 for name in names}])
        running.wait_until_delivered()
    assert redshift.rows(f"SELECT n, c0, c89 FROM {table} ORDER BY n") == [(0, 1.0, None), (1, 0.5, 0.5)]


def test_check_says_what_to_do(redshift, api, tmp_path, table):  # noqa: F811
    def tried(access=None, **settings):
        destination = redshift.destination(table, table, access) | settings
        path = config(tmp_path, [pipeline("events", destination)])
        done = lakeward("check", "-c", path, "--connect", check=False)
        return done.returncode, done.stdout + done.stderr

    code, text = tried()
    assert code == 0 and '"loader"' in text and "will be made" in text, text
    for access, settings, said in [
        ({"secret_arn": data.SECRETS + "stale"}, {}, "data_api.secret_arn"),
        ({"secret_arn": data.SECRETS + "none"}, {}, "data_api.secret_arn"),
        ({"secret_access_key": "wrong"}, {}, "data_api.access_key_id"),
        ({"workgroup": "other"}, {}, "data_api.workgroup"),
        ({}, {"database": "none"}, "`database`"),
        ({}, {"host": "cluster"}, "not together with data_api"),
        ({"cluster": data.CLUSTER}, {}, "workgroup (serverless) or cluster"),
        ({}, {"iam_role": None}, "iam_role"),
    ]:
        code, text = tried(access, **settings)
        assert code != 0 and said in text, (access, settings, text)
        assert "wrong" not in text
    for operation in ("BatchExecuteStatement", "ListStatements", "DescribeStatement"):
        api.faults.append((operation, "AccessDeniedException", f"not allowed: redshift-data:{operation}"))
        code, text = tried()
        assert code != 0 and f"redshift-data:{operation}" in text and "The Data API" in text, text


def test_a_wrong_secret_halts_and_says_so(redshift, tmp_path, table):  # noqa: F811
    destination = redshift.destination(table, table, {"secret_arn": data.SECRETS + "stale"})
    with events_into(tmp_path, destination) as running:
        send(running, [{"n": 1}])
        wait_until(lambda: "data_api.secret_arn" in running.log_tail())
    assert redshift.rows(f"SELECT to_regclass('{table}')") == [(None,)]


def test_a_role_that_may_not_read_halts_and_says_so(redshift, tmp_path, table):  # noqa: F811
    destination = redshift.destination(table, table, iam_role="arn:aws:iam::123456789012:role/forbidden")
    with events_into(tmp_path, destination) as running:
        send(running, [{"n": 1}])
        wait_until(lambda: "s3:GetObject" in running.log_tail())
    assert count(redshift, table) == (0, 0), "the table is made before, and nothing is in it"
