"""Run by the Python that has Airflow: loads a file of DAGs, says what is in it,
and runs the Bash task of one as Airflow would. Prints one line of JSON."""

import datetime
import importlib.util
import json
import os
import sys


class Connection:
    login, password = "the-key", "the-secret"


class Connections:
    amplitude = Connection


CONTEXT = {"conn": Connections}


def loaded(path):
    spec = importlib.util.spec_from_file_location("dags", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tasks = [value for value in vars(module).values() if hasattr(value, "task_id")]
    return module, {task.dag.dag_id: task.dag for task in tasks}


def described(dag):
    # Airflow checks by serialising it what its scheduler can work with.
    from airflow.serialization.serialized_objects import DagSerialization

    DagSerialization.to_dict(dag)
    return {
        "tasks": {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks},
        "retries": {task.task_id: task.retries for task in dag.tasks},
        "catchup": dag.catchup, "max_active_runs": dag.max_active_runs, "tags": sorted(dag.tags),
    }


def bash(task, folder, end):
    """The task's command, whose program ends with `end`, run by the operator's own code: what XCom would get, or how it
    ended."""
    from airflow.exceptions import AirflowException
    from airflow.sdk.exceptions import AirflowSkipException

    task.render_template_fields(CONTEXT)
    task.cwd = folder
    os.environ["END"] = end
    try:
        return {"xcom": task.execute(CONTEXT)}
    except AirflowSkipException as skipped:
        return {"skipped": str(skipped)}
    except AirflowException as failed:
        return {"failed": str(failed)}


def runs(dag):
    """What the DAG's own timetable makes of it: the next run, and those of a
    `backfill create` of two days."""
    from airflow.serialization.serialized_objects import DagSerialization

    known = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    soon = known.next_dagrun_info(last_automated_run_info=None)
    days = [datetime.datetime(2026, 3, day, tzinfo=datetime.timezone.utc) for day in (1, 3)]
    return soon, list(known.iter_dagrun_infos_between(*days))


def pod(task):
    """The pod that the task would ask Kubernetes for, at the days of its runs."""
    soon, backfilled = runs(task.dag)
    days = [rendered_date(task, run) for run in (soon, *backfilled)]
    task.render_template_fields({**CONTEXT, "ti": None, "data_interval_start": backfilled[0].data_interval.start})
    return {
        "next": {"at": soon.run_after.isoformat(), "date": days[0]}, "backfilled": days[1:],
        "arguments": task.arguments, "cmds": task.cmds, "image": task.image, "xcom": task.do_xcom_push,
        "skip": sorted(task.skip_on_exit_code), "mounts": {mount.name: mount.mount_path for mount in task.volume_mounts},
    }


def rendered_date(task, run):
    """The day that the pod of a run asks for."""
    at = task.arguments.index("--date") + 1
    context = {"data_interval_start": run.data_interval.start, "data_interval_end": run.data_interval.end}
    return task.render_template(task.arguments[at], {**context, "logical_date": run.logical_date})


def main(path, folder, *ends):
    # The log of the operators goes to standard output; the answer alone to where it was.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, dags = loaded(path)
    found = {"dags": {name: described(dag) for name, dag in dags.items()}, "pod": pod(module.in_pod)}
    found["bash"] = {end: bash(module.pull, folder, end) for end in ends}
    answer.write(json.dumps(found) + "\n")
    answer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
