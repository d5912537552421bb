"""What `deploy/` has for machines, containers and Kubernetes, checked by the
tools of each, and by Lakeward itself."""

import json
import os
import re
import shutil
import socket

import pytest
import yaml

import service
from deploy_checks import (  # noqa: F401
    CHART, DEPLOY, MODULE, PLACE, SYSTEMD, changed, checkov, lakeward_check, scan, tools, user_data,
)
from deploy_tools import run



# The configuration


def test_the_configuration_is_sound(tmp_path):
    text = (DEPLOY / "lakeward.yaml").read_text()
    done = lakeward_check(text, tmp_path, **PLACE)
    assert done.returncode == 0, done.stdout + done.stderr
    # It listens beyond loopback, which without authentication is refused.
    without = yaml.safe_dump({key: value for key, value in yaml.safe_load(text).items() if key != "auth"})
    done = lakeward_check(without, tmp_path, **PLACE)
    assert done.returncode == 78 and "needs authentication" in done.stderr, done.stderr


def test_secrets_may_be_files_of_the_credentials_directory(tmp_path):
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    for name, value in PLACE.items():
        (credentials / name).write_text(value + "\n")
    text = (DEPLOY / "lakeward.yaml").read_text()
    done = lakeward_check(text, tmp_path, CREDENTIALS_DIRECTORY=str(credentials))
    assert done.returncode == 0, done.stdout + done.stderr
    (credentials / "LAKEWARD_KEY_SECRET").unlink()
    done = lakeward_check(text, tmp_path, CREDENTIALS_DIRECTORY=str(credentials))
    assert done.returncode == 78 and "LAKEWARD_KEY_SECRET" in done.stderr, done.stderr


def test_every_copy_of_the_configuration_and_the_unit_is_the_same():
    configuration = (DEPLOY / "lakeward.yaml").read_text().rstrip()
    unit = (SYSTEMD / "lakeward.service").read_text().rstrip()
    # Helm cannot read beyond its chart, CloudFormation not beyond its template.
    assert (CHART / "lakeward.yaml").read_text().rstrip() == configuration
    boot = user_data()
    assert configuration in boot and unit in boot


# systemd


def units(folder):
    """The units with a program that is there, as `systemd-analyze` wants it."""
    for name, file in (("lakeward.service", "lakeward.service"), ("lakeward@eu.service", "lakeward@.service")):
        text = (SYSTEMD / file).read_text()
        (folder / name).write_text(text.replace("/usr/bin/lakeward", "/bin/true"))
    return folder / "lakeward.service", folder / "lakeward@eu.service"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze on this machine")
def test_systemd_takes_the_units_and_they_are_closed(tmp_path):
    for unit in units(tmp_path):
        done = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit)
        assert done.stderr.strip() == "", done.stderr
        # 0 is closed, 100 is open; 12 when this was written.
        run("systemd-analyze", "security", "--offline=yes", "--threshold=20", unit)
    if shutil.which("systemd-sysusers"):
        run("systemd-sysusers", "--dry-run", SYSTEMD / "lakeward.sysusers")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze on this machine")
def test_a_fault_in_a_unit_is_found(tmp_path):
    unit, _ = units(tmp_path)
    text = unit.read_text()
    unit.write_text(text.replace("TimeoutStopSec=90s", "TimeoutStopSec=soon"))
    assert "soon" in run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit, check=False).stderr
    unit.write_text("\n".join(line for line in text.splitlines() if not line.startswith(("Protect", "Private"))))
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", unit]
    assert run(*command, check=False).returncode != 0


def test_whoever_stops_it_waits_longer_than_it_drains():
    grace = 30 + 10  # drain_grace of deploy/lakeward.yaml, and the requests under way
    assert yaml.safe_load((DEPLOY / "lakeward.yaml").read_text())["drain_grace"] == "30s"
    for unit in SYSTEMD.glob("*.service"):
        assert int(re.search(r"^TimeoutStopSec=(\d+)s$", unit.read_text(), re.M)[1]) > grace
    assert int(re.search(r"stopTimeout\s*=\s*(\d+)", (MODULE / "fargate.tf").read_text())[1]) > grace
    assert yaml.safe_load((CHART / "values.yaml").read_text())["terminationGracePeriodSeconds"] > grace
    compose = yaml.safe_load((DEPLOY / "docker/compose.yaml").read_text())
    assert int(compose["services"]["lakeward"]["stop_grace_period"].removesuffix("s")) > grace


class Manager:
    """What systemd is to a service of Type=notify."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(30)
        self.heard = []

    def wait_for(self, state):
        while True:
            try:
                message = self.socket.recv(4096).decode()
            except TimeoutError as error:
                raise AssertionError(f"no {state} within 30 s; heard {self.heard}") from error
            self.heard.append(message)
            if state in message.splitlines():
                return


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_hears_ready_alive_and_stopping(tmp_path, monkeypatch, abstract):
    address = f"@lakeward-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    manager = Manager(address)
    for name, value in {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000"}.items():
        monkeypatch.setitem(service.ENVIRONMENT, name, value)
    lake = {"type": "lake", "url": str(tmp_path / "lake")}
    running = service.Service.run(service.config(tmp_path, [service.pipeline("events", lake)]))
    running.spawn()
    try:
        manager.wait_for("READY=1")
        # Ready means that records are taken at the address it says.
        url = re.search(r"^STATUS=listening on (.*)$", manager.heard[-1], re.M)[1]
        status, reply = service.http("POST", f"{url}/v1/streams/events/records", b'{"n":1}\n')
        assert status == 200, reply
        for _ in range(3):
            manager.wait_for("WATCHDOG=1")
        assert running.terminate() == 0
        manager.wait_for("STOPPING=1")
    finally:
        running.kill()
        manager.socket.close()


# Docker


def test_the_dockerfile(tools, checkov, tmp_path):
    run(tools / "hadolint", DEPLOY / "docker/Dockerfile")
    scan(checkov, "dockerfile", DEPLOY / "docker")
    copy = changed(DEPLOY / "docker", tmp_path, "Dockerfile", "WORKDIR /src", "RUN cd /tmp && sudo true")
    done = run(tools / "hadolint", copy / "Dockerfile", check=False)
    assert done.returncode != 0 and "DL3004" in done.stdout, done.stdout


def test_the_docker_context_has_what_the_build_needs(tmp_path):
    """What .dockerignore lets through is a whole workspace."""
    lines = (DEPLOY / "docker/Dockerfile.dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*" and patterns[-1] == "**/target"
    for pattern in patterns[1:-1]:
        source, target = service.ROOT / pattern.removeprefix("!"), tmp_path / pattern.removeprefix("!")
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("target"))
        elif source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        else:
            raise AssertionError(f"{pattern} is not there")
    cargo = os.environ.get("CARGO") or shutil.which("cargo")
    manifest = tmp_path / "Cargo.toml"
    run(cargo, "metadata", "--locked", "--offline", "--format-version=1", "--no-deps", "--manifest-path", manifest)
    dockerfile = (DEPLOY / "docker/Dockerfile").read_text()
    for name in re.findall(r"install -D -m \d+ (?!target)(\S+)", dockerfile):
        assert (tmp_path / name).exists(), f"the Dockerfile installs {name}, which the context lacks"


# Helm


def chart(tools, folder, values):
    versions = ["1.29", "1.33", "1.37"]
    done = run(tools / "python", service.ROOT / "tests/deploy_chart.py", folder, values, *versions)
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["smallest", "everything"])
def test_the_chart(tools, tmp_path, name):
    answer = chart(tools, CHART, CHART / f"ci/{name}-values.yaml")
    assert answer["lint"] == [] and answer["problem"] is None, answer
    kinds = {manifest["kind"]: manifest for manifest in answer["manifests"]}
    assert len(kinds) == len(answer["manifests"])
    wanted = {"ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount", "StatefulSet"}
    assert set(kinds) == wanted | ({"ServiceMonitor"} if name == "everything" else set())
    spec = kinds["StatefulSet"]["spec"]
    assert spec["replicas"] == 1
    claim = spec["volumeClaimTemplates"][0]
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    pod = spec["template"]["spec"]
    container = pod["containers"][0]
    assert [container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")] == [
        "/healthz", "/healthz", "/readyz",
    ]
    assert container["livenessProbe"]["httpGet"]["scheme"] == ("HTTPS" if name == "everything" else "HTTP")
    # The pod's own configuration is sound with the pod's own environment.
    environment = {variable["name"]: variable["value"] for variable in container["env"]}
    secrets = environment["CREDENTIALS_DIRECTORY"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["secrets"] == secrets and mounts["state"] == "/var/lib/lakeward"
    text = kinds["ConfigMap"]["data"]["lakeward.yaml"]
    done = lakeward_check(text, tmp_path, **{**PLACE, **environment})
    assert done.returncode == 0, done.stdout + done.stderr
    assert container["args"][-1] == f"{mounts['config']}/lakeward.yaml"


def test_faults_in_a_chart_are_found(tools, tmp_path):
    small = CHART / "ci/smallest-values.yaml"
    copy = changed(CHART, tmp_path, "templates/statefulset.yaml", "replicas: 1", "replicas: one")
    assert "replicas" in chart(tools, copy, small)["problem"]
    shutil.rmtree(copy)
    copy = changed(CHART, tmp_path, "templates/service.yaml", "{{ .Values.service.type }}", "{{ .Values.service.type")
    assert chart(tools, copy, small)["problem"]
    for wrong in ({}, {"lake": "my-bucket"}, {"lake": "s3://b/", "replicas": 2},
                  {"lake": "s3://b/", "terminationGracePeriodSeconds": 30}):
        values = tmp_path / "values.yaml"
        values.write_text(yaml.safe_dump(wrong))
        assert chart(tools, CHART, values)["problem"], wrong
