"""`examples/orchestration/`: every example is taken by the tool that it is for,
and the commands in it are commands of this release."""

import datetime
import json
import os
import re
import shutil
import subprocess

import pytest
import yaml

import deploy_tools
import service
from kestra_types import Types

EXAMPLES = service.ROOT / "examples/orchestration"
SUMMARY = {"status": "done", "events": 10, "rows": 9, "slices_exported": 2, "quarantined": 0, "objects_total": 1}


@pytest.fixture
def program(tmp_path):
    """A folder with a `lakeward` that notes its arguments, prints a summary and ends as it is told."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "lakeward"
    script.write_text(
        f"#!/bin/sh\necho \"$*\" >> '{tmp_path}/asked'\nenv > '{tmp_path}/environment'\n"
        f"test -f '{tmp_path}/block' && while test -f '{tmp_path}/block'; do sleep 0.02; done\n"
        "case \" $* \" in *' --quiet '*) ;; *) echo 'INFO a line of the log'; "
        f"echo '{json.dumps(SUMMARY)}';; esac\ntest \"${{END:-0}}\" = 0 || echo 'it failed' >&2\nexit ${{END:-0}}\n"
    )
    script.chmod(0o755)
    return folder


def shell(command, tmp_path, program, timeout=60, **environment):
    path = f"{program}:{os.environ['PATH']}"
    return subprocess.run(
        ["/bin/sh", "-c", command], cwd=tmp_path, env={**service.ENVIRONMENT, "PATH": path, **environment},
        capture_output=True, text=True, timeout=timeout,
    )


def asked(tmp_path):
    return (tmp_path / "asked").read_text().splitlines()


def is_a_command(arguments, tmp_path):
    """Whether this release understands it: it fails for want of its configuration, not of sense."""
    missing = tmp_path / "missing.yaml"
    arguments = [str(missing) if argument == "/etc/lakeward/lakeward.yaml" else argument for argument in arguments]
    assert str(missing) in arguments, arguments
    done = service.lakeward(*arguments, check=False, cwd=tmp_path)
    assert done.returncode == 78, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"


def test_their_configuration_is_sound():
    secrets = {"AMPLITUDE_API_KEY": "key", "AMPLITUDE_SECRET_KEY": "secret"}
    command = [service.PROGRAM, "check", "-c", EXAMPLES / "lakeward.yaml"]
    done = subprocess.run(command, env={**service.ENVIRONMENT, **secrets}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_commands_take_what_is_there_once(tmp_path):
    """The examples' own configuration and commands, against a simulated Amplitude."""
    from simulated import Amplitude

    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "lakeward").write_text(f"#!/bin/sh\nexec {service.PROGRAM} \"$@\"\n")
    (folder / "lakeward").chmod(0o755)
    settings, lines = crontab(tmp_path)
    settings.pop("PATH")
    (tmp_path / "secrets").write_text("AMPLITUDE_API_KEY=demo\nAMPLITUDE_SECRET_KEY=demo\n")
    settings["CONFIG"] = str(tmp_path / "lakeward.yaml")
    keys = {"AMPLITUDE_API_KEY": "demo", "AMPLITUDE_SECRET_KEY": "demo"}
    environment = {"LAKE_URL": f"file://{tmp_path}/lake/", "STATE_DIRECTORY": str(tmp_path / "state")}
    with Amplitude("--from", "2026-03-01", "--hours", "12", "--events-per-hour", "5..20") as amplitude:
        example = yaml.safe_load((EXAMPLES / "lakeward.yaml").read_text())
        example["sources"][0].update(endpoint=amplitude.url, **{"from": "2026-03-01"})
        example["sources"][0].pop("region")
        (tmp_path / "lakeward.yaml").write_text(json.dumps(example))
        expected = len(amplitude.uuids(**{"from": "2026-03-01", "to": "2026-03-01T12"}))

        kestra = flow()["tasks"][0]["commands"][0].replace("/etc/lakeward/lakeward.yaml", settings["CONFIG"])
        done = shell(kestra, tmp_path, folder, DATE="2026-03-01", timeout=300, **keys, **environment)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        outputs = [line for line in done.stdout.splitlines() if re.fullmatch(r"::\{.*\}::", line)]
        given = json.loads(outputs[0][2:-2])["outputs"]
        assert given["events"] == expected > 0
        # Everything that the flow reads of it is there.
        wanted = re.findall(r"outputs\.pull\.vars\.(\w+)", json.dumps(flow()))
        assert len(wanted) == 5 and set(wanted) <= set(given)

        # What came with one is not taken again by another.
        asked_for = len(amplitude.requests())
        done = shell(lines[0][1], tmp_path, folder, timeout=300, **settings, **environment)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done.stdout + done.stderr
        again = shell(kestra, tmp_path, folder, DATE="2026-03-01", timeout=300, **keys, **environment)
        assert json.loads(again.stdout.splitlines()[-1])["events"] == 0
        assert asked_for > 0

        # A wrong key is told to whoever gets cron's mail, once, with what to check.
        (tmp_path / "secrets").write_text("AMPLITUDE_API_KEY=demo\nAMPLITUDE_SECRET_KEY=wrong\n")
        shutil.rmtree(tmp_path / "state")
        done = shell(lines[0][1], tmp_path, folder, timeout=300, **settings, **environment)
        assert done.returncode == 77 and "key" in done.stderr, done.stderr


# Kestra


@pytest.fixture(scope="module")
def kestra():
    """Kestra's classes, from Maven Central."""
    if not shutil.which("mvn") or not shutil.which("javap"):
        pytest.skip("no Maven or no JDK on this machine")
    jars = ("io.kestra:core:1.0.0", "io.kestra:script:1.0.0")

    def make(folder):
        for jar in jars:
            copy = ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={jar}", f"-DoutputDirectory={folder}"]
            deploy_tools.run(*copy, env=dict(os.environ))

    folder = deploy_tools.made("kestra", repr(jars).encode(), make)
    return Types(sorted(folder.glob("*.jar")))


def flow():
    return yaml.safe_load((EXAMPLES / "kestra/amplitude_to_lake.yaml").read_text())


def test_kestra_knows_every_type_and_property_of_the_flow(kestra):
    assert kestra.problems(flow()) == []
    broken = flow()
    broken["tasks"][0]["retry"].update(interval="5s", maxTries=5)
    broken["tasks"][0]["taskRunner"]["pullPolicy"] = "SOMETIMES"
    broken["tasks"][1]["type"] = "io.kestra.plugin.core.log.Print"
    broken["triggers"][0]["crontab"] = broken["triggers"][0].pop("cron")
    assert len(kestra.problems(broken)) == 5, kestra.problems(broken)


def rendered(text, **values):
    """Kestra's expressions, as far as the flow has them."""
    return re.sub(r"\{\{\s*(.*?)\s*\}\}", lambda found: values[found.group(1)], text)


@pytest.mark.parametrize("date", ["", "2026-03-01"])
def test_the_flows_command(tmp_path, program, date):
    task = flow()["tasks"][0]
    values = {"inputs.date ?? ''": date, "secret('AMPLITUDE_API_KEY')": "k", "secret('AMPLITUDE_SECRET_KEY')": "s"}
    environment = {name: rendered(text, **values) for name, text in task["env"].items()}
    done = shell("\n".join(task["commands"]), tmp_path, program, **environment)
    # Anything on standard error would turn the run yellow.
    assert (done.returncode, done.stderr) == (0, "")
    (arguments,) = asked(tmp_path)
    assert ("--date 2026-03-01" in arguments) == bool(date) and "--kestra" in arguments
    is_a_command(arguments.split(), tmp_path)
    assert "AMPLITUDE_API_KEY=k" in (tmp_path / "environment").read_text()


def test_a_failure_is_kestras_to_try_again(tmp_path, program):
    assert shell("\n".join(flow()["tasks"][0]["commands"]), tmp_path, program, END="75", DATE="").returncode == 75


# Airflow


@pytest.fixture(scope="module")
def airflow():
    return deploy_tools.python("airflow") / "python"


def test_airflow_loads_the_dags_and_runs_them(tmp_path, program, airflow):
    kinds = {"0": "xcom", "99": "skipped", "75": "failed"}
    environment = {
        **service.ENVIRONMENT, "PATH": f"{program}:{os.environ['PATH']}",
        "AIRFLOW_HOME": str(tmp_path / "airflow"), "PYTHONDONTWRITEBYTECODE": "1",
    }
    dags = EXAMPLES / "airflow/lakeward_amplitude.py"
    command = [airflow, service.ROOT / "tests/airflow_dags.py", dags, tmp_path, *kinds]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-5000:]
    found = json.loads(done.stdout)
    assert set(found["dags"]) == {"lakeward_amplitude", "lakeward_amplitude_day"}
    for dag in found["dags"].values():
        assert dag["tasks"] == {"pull": ["report"], "report": []}
        assert (dag["catchup"], dag["max_active_runs"], dag["retries"]["pull"]) == (False, 1, 5)
    # The summary is the last line, so it is what XCom has.
    assert {end: list(ended) for end, ended in found["bash"].items()} == {end: [kind] for end, kind in kinds.items()}
    assert json.loads(found["bash"]["0"]["xcom"]) == SUMMARY
    environment = (tmp_path / "environment").read_text()
    assert "AMPLITUDE_API_KEY=the-key" in environment and "AMPLITUDE_SECRET_KEY=the-secret" in environment
    (arguments,) = set(asked(tmp_path))
    is_a_command(arguments.split(), tmp_path)
    pod = found["pod"]
    assert pod["cmds"] == ["lakeward"] and pod["xcom"] and pod["skip"] == [99]
    assert ["--summary-file", "/airflow/xcom/return.json"] == pod["arguments"][-2:]
    # The run after a day asks for that day, which is complete then; so does a backfill.
    at = datetime.datetime.fromisoformat(pod["next"]["at"])
    assert at.utcoffset() == datetime.timedelta(0) and at.hour >= 3
    assert datetime.date.fromisoformat(pod["next"]["date"]) == at.date() - datetime.timedelta(days=1)
    assert pod["backfilled"] == ["2026-03-01", "2026-03-02"]
    assert pod["arguments"][pod["arguments"].index("--date") + 1] == "2026-03-01"
    is_a_command(pod["arguments"][:-1] + [tmp_path / "summary.json"], tmp_path)


# cron


def crontab(tmp_path):
    """The settings and the lines of /etc/cron.d, places moved into `tmp_path`."""
    settings, lines = {}, []
    for line in (EXAMPLES / "cron/lakeward-pull").read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        setting = re.fullmatch(r"(\w+)=(.*)", line)
        if setting:
            settings[setting[1]] = setting[2]
        else:
            *when, user, command = line.split(None, 6)
            assert len(when) == 5 and all(re.fullmatch(r"[\d*/,-]+", field) for field in when), line
            # A % would end the command: crontab(5).
            assert "%" not in command
            lines.append((user, command))
    (tmp_path / "secrets").write_text("AMPLITUDE_API_KEY=k\nAMPLITUDE_SECRET_KEY=s\n")
    settings.update(SECRETS=str(tmp_path / "secrets"), LOCK=str(tmp_path / "lock"))
    return settings, lines


def test_cron_is_quiet_unless_something_is_wrong(tmp_path, program):
    settings, lines = crontab(tmp_path)
    assert len(lines) == 2 and {user for user, _ in lines} == {"lakeward"}
    settings.pop("PATH")
    for _, command in lines:
        done = shell(command, tmp_path, program, **settings)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        done = shell(command, tmp_path, program, END="65", **settings)
        assert (done.returncode, done.stdout, done.stderr) == (65, "", "it failed\n")
    for arguments in asked(tmp_path):
        is_a_command(arguments.split(), tmp_path)
    assert "AMPLITUDE_SECRET_KEY=s" in (tmp_path / "environment").read_text()


def test_cron_starts_no_second_one(tmp_path, program):
    settings, lines = crontab(tmp_path)
    settings.pop("PATH")
    block = tmp_path / "block"
    block.touch()
    path = f"{program}:{os.environ['PATH']}"
    first = subprocess.Popen(
        ["/bin/sh", "-c", lines[0][1]], env={**service.ENVIRONMENT, "PATH": path, **settings}, cwd=tmp_path
    )
    try:
        while not (tmp_path / "asked").exists():
            assert first.poll() is None
        done = shell(lines[0][1], tmp_path, program, **settings)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "") and len(asked(tmp_path)) == 1
    finally:
        block.unlink()
        assert first.wait(30) == 0


# systemd


def units(folder):
    """The units for the source `amplitude`, with a program that is there."""
    for name in ("lakeward-pull@.service", "lakeward-pull@.timer"):
        text = (EXAMPLES / "systemd" / name).read_text().replace("/usr/bin/lakeward", "/bin/true")
        for place in (name, name.replace("@", "@amplitude")):
            (folder / place).write_text(text)
    return folder / "lakeward-pull@amplitude.service", folder / "lakeward-pull@amplitude.timer"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze on this machine")
def test_systemd_takes_the_units_and_they_are_closed(tmp_path):
    unit, timer = units(tmp_path)
    done = deploy_tools.run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit, timer)
    assert done.stderr.strip() == "", done.stderr
    deploy_tools.run("systemd-analyze", "security", "--offline=yes", "--threshold=20", unit)
    when = re.search(r"^OnCalendar=(.*)$", timer.read_text(), re.M)[1]
    assert "Next elapse" in deploy_tools.run("systemd-analyze", "calendar", when).stdout
    timer.write_text(timer.read_text().replace("OnCalendar=*-*-* *:10:00 UTC", "OnCalendar=sometimes"))
    verify = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", timer]
    assert "sometimes" in deploy_tools.run(*verify, check=False).stderr


def test_the_units_command(tmp_path):
    text = (EXAMPLES / "systemd/lakeward-pull@.service").read_text()
    command = re.search(r"^ExecStart=/usr/bin/lakeward (.*)$", text, re.M)[1].replace("%i", "amplitude")
    is_a_command(command.split(), tmp_path)
    # What does not pass by itself is not tried again.
    assert re.search(r"^RestartPreventExitStatus=2 65 77 78$", text, re.M)
    assert re.search(r"^SuccessExitStatus=99 143$", text, re.M)
