"""Amplitude's export into the lake, from Airflow 3 (checked with 3.3; an earlier one
whose `airflow.sdk` has no timetables has them in `airflow.timetables.interval`).

``lakeward_amplitude`` takes what is new every hour, on the machine of the
worker. ``lakeward_amplitude_day`` takes the day of its data interval in a pod;
`airflow backfill` of it takes any range. Neither takes an hour twice, however
often its tasks are repeated.

The last line that `lakeward pull` prints is a summary in JSON, which is the
task's XCom. It ends with 99, which Airflow shows as skipped, if nothing was
ready yet.
"""

import datetime
import json

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, CronDataIntervalTimetable, task
from kubernetes.client import models

CONFIG = "/etc/lakeward/lakeward.yaml"

RETRIES = {
    # 69 and 75 may pass by themselves.
    "retries": 5,
    "retry_delay": datetime.timedelta(minutes=1),
    "retry_exponential_backoff": True,
    "max_retry_delay": datetime.timedelta(hours=1),
    "execution_timeout": datetime.timedelta(hours=3),
}


@task
def report(summary):
    """What a person wants to read in the log; whoever needs more has the XCom."""
    summary = json.loads(summary) if isinstance(summary, str) else summary
    print(f"{summary['status']}: {summary['events']} events, {summary['rows']} rows, "
          f"{summary['duplicates_dropped']} duplicates dropped, {summary['quarantined']} in quarantine")
    return summary["objects_total"]


with DAG(
    "lakeward_amplitude",
    description="Every upload hour of Amplitude that is ready and not taken yet",
    schedule="10 * * * *",
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
    # A run takes all that was missed, so one is enough, and one at a time.
    catchup=False,
    max_active_runs=1,
    default_args=RETRIES,
    tags=["lakeward"],
):
    pull = BashOperator(
        task_id="pull",
        bash_command=f"lakeward pull amplitude -c {CONFIG} --skip-exit-code",
        # The connection `amplitude`: its login is the API key.
        env={
            "AMPLITUDE_API_KEY": "{{ conn.amplitude.login }}",
            "AMPLITUDE_SECRET_KEY": "{{ conn.amplitude.password }}",
        },
        append_env=True,
        do_xcom_push=True,
    )
    report(pull.output)


with DAG(
    "lakeward_amplitude_day",
    description="One day of Amplitude's uploads, in UTC",
    # Its last hour is ready at 02:00 UTC of the day after. A plain cron text would
    # be no interval in Airflow 3: the run at 03:30 would ask for the day that runs.
    schedule=CronDataIntervalTimetable("30 3 * * *", timezone="UTC"),
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
    catchup=False,
    max_active_runs=1,
    default_args=RETRIES,
    tags=["lakeward"],
):
    in_pod = KubernetesPodOperator(
        task_id="pull",
        name="lakeward-pull",
        image="lakeward:latest",
        cmds=["lakeward"],
        arguments=[
            "pull", "amplitude", "-c", CONFIG, "--date", "{{ data_interval_start | ds }}",
            "--skip-exit-code", "--summary-file", "/airflow/xcom/return.json",
        ],
        # Its keys are AMPLITUDE_API_KEY and AMPLITUDE_SECRET_KEY.
        env_from=[models.V1EnvFromSource(secret_ref=models.V1SecretEnvSource(name="amplitude"))],
        # What is taken is known in the state directory, which outlives the pod.
        volumes=[
            models.V1Volume(
                name="state",
                persistent_volume_claim=models.V1PersistentVolumeClaimVolumeSource(claim_name="lakeward"),
            ),
            models.V1Volume(name="config", config_map=models.V1ConfigMapVolumeSource(name="lakeward")),
        ],
        volume_mounts=[
            models.V1VolumeMount(name="state", mount_path="/var/lib/lakeward"),
            models.V1VolumeMount(name="config", mount_path="/etc/lakeward", read_only=True),
        ],
        skip_on_exit_code=99,
        do_xcom_push=True,
        on_finish_action="delete_pod",
    )
    report(in_pod.output)
