"""Redshift by its Data API when things go wrong: answers that are lost, statements that outlive their process,
throttling, kills. Each row is there once."""

import threading

import pytest

from postgres_server import programs
from redshift_data_server import api, count, loads, redshift  # noqa: F401
from service import events_into, send, wait_until
from test_redshift import test_kills_at_random_moments_leave_each_row_once  # noqa: F401

pytestmark = pytest.mark.skipif(programs() is None, reason="there is no PostgreSQL on this machine")


def test_a_submit_whose_answer_is_lost_runs_once(redshift, api, tmp_path, table):  # noqa: F811
    with events_into(tmp_path, redshift.destination(table, table)) as running:
        send(running, [{"n": 0}])
        running.wait_until_delivered()
        before = len(loads(api, table))
        api.faults += [("BatchExecuteStatement", "lose")] * 2
        send(running, [{"n": n} for n in range(1, 50)])
        running.wait_until_delivered()
        running.audit()
    assert count(redshift, table) == (50, 50)
    again = loads(api, table)[before:]
    assert len(again) == 3 and len({call["ClientToken"] for call in again}) == 1


def test_a_commit_that_nobody_heard_of_before_the_kill_is_not_loaded_again(redshift, api, tmp_path, table):  # noqa: F811
    with events_into(tmp_path, redshift.destination(table, table)) as running:
        send(running, [{"n": 0}])
        running.wait_until_delivered()
        api.faults.append(("BatchExecuteStatement", "lose"))
        # From then on nobody answers.
        lost = threading.Event()

        def follow():
            while api.faults:
                lost.wait(0.001)
            api.down = True
            lost.set()

        threading.Thread(target=follow, daemon=True).start()
        send(running, [{"n": n} for n in range(1, 50)])
        assert lost.wait(30)
        wait_until(lambda: count(redshift, table) == (50, 50))
        running.kill()
        before = len(loads(api, table))
        api.down = False
        running.start()
        running.wait_until_delivered()
        running.audit()
    assert count(redshift, table) == (50, 50)
    assert len(loads(api, table)) == before, "the ledger said that it is there"


@pytest.mark.parametrize("where", ["queued", "locked"])
def test_a_statement_that_outlives_its_process_is_waited_for(redshift, api, tmp_path, table, where):  # noqa: F811
    gate = api.starts if where == "queued" else api.commits
    with events_into(tmp_path, redshift.destination(table, table)) as running:
        send(running, [{"n": 0}])
        running.wait_until_delivered()
        before, held = len(loads(api, table)), api.held
        gate.clear()
        send(running, [{"n": n} for n in range(1, 50)])
        wait_until(lambda: len(loads(api, table)) > before and (where == "queued" or api.held > held))
        running.kill()
        asked = len(api.made("ExecuteStatement"))
        running.start()
        if where == "queued":
            wait_until(lambda: "still runs" in running.log_tail())
        else:
            # The question whether it is there waits for the lock.
            wait_until(lambda: len(api.made("ExecuteStatement")) >= asked + 3)
        assert len(loads(api, table)) == before + 1
        gate.set()
        running.wait_until_delivered()
        running.audit()
    assert count(redshift, table) == (50, 50)
    # Handed in again only to be held up by the guard; or not at all.
    assert len(loads(api, table)) == before + (2 if where == "queued" else 1)


def test_a_statement_that_takes_too_long_is_stopped(redshift, api, tmp_path, table):  # noqa: F811
    with events_into(tmp_path, redshift.destination(table, table, statement_timeout="1s")) as running:
        send(running, [{"n": 0}])
        running.wait_until_delivered()
        held = api.held
        api.commits.clear()
        send(running, [{"n": n} for n in range(1, 50)])
        wait_until(lambda: api.held > held)
        wait_until(lambda: api.made("CancelStatement"), timeout=40)
        api.commits.set()
        running.wait_until_delivered()
        running.audit()
    assert count(redshift, table) == (50, 50)


def test_whatever_is_refused_for_a_while_is_tried_again(redshift, api, tmp_path, table):  # noqa: F811
    with events_into(tmp_path, redshift.destination(table, table)) as running:
        busy = ("ActiveStatementsExceededException", "The number of active statements exceeds the limit.")
        for operation in ("ExecuteStatement", "BatchExecuteStatement", "DescribeStatement", "GetStatementResult"):
            api.faults += [
                (operation, "ThrottlingException", "Rate exceeded"),
                (operation, "InternalServerException", "", 500), (operation, "lose"),
            ]
        api.faults += [("BatchExecuteStatement", *busy), ("ListStatements", "ThrottlingException", "Rate exceeded")]
        api.faults.append(("ExecuteStatement", "ValidationException", "Redshift cluster is paused"))
        for n in range(6):
            send(running, [{"n": n}])
            running.wait_until_delivered()
        running.audit()
    assert not api.faults
    assert count(redshift, table) == (6, 6)


def test_another_number_of_rows_is_not_kept(redshift, api, tmp_path, table):  # noqa: F811
    with events_into(tmp_path, redshift.destination(table, table)) as running:
        send(running, [{"n": 0}])
        running.wait_until_delivered()
        api.rewrite = lambda sql: sql.replace("pg_last_copy_count()", "(pg_last_copy_count() + 1)")
        send(running, [{"n": 1}])
        wait_until(lambda: "nothing is kept" in running.log_tail())
    assert count(redshift, table) == (1, 1)
