"""Everything in `deploy/`, checked by the tools of its kind, and run where
something here can run it: CloudFormation and the role on an emulator that
enforces IAM, the configuration and systemd's protocol by Lakeward itself."""

import base64
import gzip
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

import boto3
import botocore.exceptions
import pytest
import yaml

import deploy_tools
import servers
import service
from deploy_tools import run

DEPLOY = service.ROOT / "deploy"
TERRAFORM = DEPLOY / "terraform"
MODULE = TERRAFORM / "modules/lakeward"
TEMPLATE = DEPLOY / "cloudformation/lakeward.yaml"
CHART = DEPLOY / "helm/lakeward"
SYSTEMD = DEPLOY / "systemd"
REGION = "eu-west-1"

# What the configuration takes from its place. Nobody's secrets.
PLACE = {
    "LAKEWARD_TOKEN": "token", "LAKEWARD_KEY_ID": "AKIALAKEWARD", "LAKEWARD_KEY_SECRET": "secret",
    "LAKEWARD_LAKE": "s3://my-bucket/events/",
}


@pytest.fixture(scope="session")
def tools():
    return deploy_tools.python("deploy")


@pytest.fixture(scope="session")
def checkov():
    return deploy_tools.python("checkov") / "checkov"


def lakeward_check(text, folder, **environment):
    """What `lakeward check` says of a configuration."""
    file = folder / "lakeward.yaml"
    file.write_text(text)
    return run(service.PROGRAM, "check", "-c", file, check=False, env={**service.ENVIRONMENT, **environment})


def changed(folder, tmp_path, file, old, new):
    """A copy of a folder with a fault planted in one file."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    text = (copy / file).read_text()
    assert old in text, f"{file} has no {old!r} any more: plant another fault"
    (copy / file).write_text(text.replace(old, new, 1))
    return copy


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


# Terraform


def scan(checkov, framework, folder):
    command = [checkov, "-d", folder, "--framework", framework, "--output", "json", "--skip-download"]
    done = run(*command, check=False)
    report = json.loads(done.stdout)
    failed = [(check["check_id"], check["resource"]) for check in report["results"]["failed_checks"]]
    assert report["summary"]["passed"] > 10 and report["summary"]["parsing_errors"] == 0, report["summary"]
    assert failed == [] and done.returncode == 0, failed


def terraform(*arguments, check=True, **settings):
    program = shutil.which("terraform") or shutil.which("tofu")
    if program is None:
        pytest.skip("no terraform and no tofu on this machine")
    return run(program, *arguments, check=check, **settings)


class Aws:
    """Terraform with the stand-in of terraform_provider.py for its AWS provider."""

    def __init__(self, tools, schema):
        command = [tools / "python", service.ROOT / "tests/terraform_provider.py", schema]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=service.ENVIRONMENT
        )
        port = self.process.stdout.readline().strip()
        provider = {
            "Protocol": "grpc", "ProtocolVersion": 6, "Pid": self.process.pid, "Test": True,
            "Addr": {"Network": "tcp", "String": f"127.0.0.1:{port}"},
        }
        names = ("registry.terraform.io/hashicorp/aws", "registry.opentofu.org/hashicorp/aws")
        self.environment = {
            **service.ENVIRONMENT, "TF_REATTACH_PROVIDERS": json.dumps(dict.fromkeys(names, provider)),
            "TF_CLI_CONFIG_FILE": os.devnull, "TF_IN_AUTOMATION": "1", "TF_INPUT": "0", "CHECKPOINT_DISABLE": "1",
        }

    def __call__(self, folder, command, *arguments, check=True):
        return terraform(command, *arguments, "-no-color", cwd=folder, env=self.environment, check=check)

    def root(self, tmp_path, name):
        """A copy of everything, so that nothing is left in the repository, and in it a folder made ready."""
        copy = tmp_path / "deploy"
        if not copy.exists():
            shutil.copytree(DEPLOY, copy, ignore=shutil.ignore_patterns(".terraform*"))
        folder = copy / "terraform" / name
        folder.mkdir(exist_ok=True)
        (folder / "here_override.tf").write_text('terraform {\n  backend "local" {}\n}\n')
        self(folder, "init")
        return folder

    def applied(self, folder, variables):
        """{address: values} of what is there afterwards; a second plan changes nothing."""
        (folder / "terraform.tfvars.json").write_text(json.dumps(variables))
        self(folder, "apply", "-auto-approve")
        self(folder, "plan", "-detailed-exitcode")
        state = json.loads(self(folder, "show", "-json").stdout)["values"]["root_module"]
        found = [*state.get("resources", []), *(each for child in state["child_modules"] for each in child["resources"])]
        return {each["address"].removeprefix("module.lakeward."): each["values"] for each in found}

    def stop(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


@pytest.fixture(scope="session")
def aws(tools):
    schema = deploy_tools.terraform_schema(TERRAFORM)
    if schema is None:
        pytest.skip("no npm on this machine, from which the provider's schema comes")
    running = Aws(tools, schema)
    yield running
    running.stop()


ARN = "arn:aws:{}:eu-west-1:123456789012:{}"
SERVICE = {
    "vpc_id": "vpc-1", "subnet_id": "subnet-1", "client_security_groups": ["sg-1", "sg-2"],
    "program": {"bucket": "programs", "key": "lakeward", "sha256": "ab" * 32},
    "secrets": {
        "LAKEWARD_TOKEN": ARN.format("secretsmanager", "secret:token-abcdef"),
        "LAKEWARD_KEY_ID": ARN.format("ssm", "parameter/lakeward/key-id"),
        "LAKEWARD_KEY_SECRET": ARN.format("ssm", "parameter/lakeward/key-secret"),
    },
}
ENVIRONMENTS = {
    "dev": {},
    "staging": SERVICE,
    "prod": {**SERVICE, "kms_key_arn": ARN.format("kms", "key/1"), "access_log_bucket": "logs"},
}


def test_terraform_is_formatted(tmp_path):
    terraform("fmt", "-check", "-recursive", "-diff", TERRAFORM)
    copy = changed(TERRAFORM, tmp_path, "modules/lakeward/main.tf", "  account   =", " account =")
    assert terraform("fmt", "-check", "-recursive", copy, check=False).returncode != 0


def test_terraform_validates_and_finds_planted_faults(aws, tmp_path):
    module = aws.root(tmp_path, "modules/lakeward")
    assert "valid" in aws(module, "validate").stdout
    for file, old, new, said in (
        ("bucket.tf", "bucket_key_enabled", "bucket_keys_enabled", "Unsupported argument"),
        ("bucket.tf", "aws_s3_bucket.lake.arn,", "aws_s3_bucket.lake.nope,", "Unsupported attribute"),
        ("ec2.tf", "availability_zone = data", "size_of_zone = data", "Missing required argument"),
        ("fargate.tf", "efs_volume_configuration {", "efs_volumes {", "Unsupported block type"),
        ("fargate.tf", "desired_count                      = 1", 'desired_count = "one"', "a number is required"),
        ("catalog.tf", "hash_key ", "hash_keys ", "Unsupported argument"),
    ):
        text = (module / file).read_text()
        assert old in text, f"{file} has no {old!r} any more: plant another fault"
        (module / file).write_text(text.replace(old, new, 1))
        done = aws(module, "validate", check=False)
        assert done.returncode != 0 and said in done.stderr, (old, done.stdout + done.stderr)
        (module / file).write_text(text)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_environment_applies(aws, tmp_path, name):
    folder = aws.root(tmp_path, f"environments/{name}")
    there = aws.applied(folder, {"bucket": "my-lake", **ENVIRONMENTS[name]})
    assert there["aws_s3_bucket.lake"]["bucket"] == "my-lake"
    assert there["aws_glue_catalog_database.lake[0]"]["location_uri"] == "s3://my-lake/"
    if name == "dev":
        assert not any(address.startswith(("aws_instance", "aws_ecs", "aws_ebs")) for address in there)
        aws(folder, "destroy", "-auto-approve")
        return
    boots_as_terraform_says(there, tmp_path)
    # What is acknowledged and not delivered lies on the volume.
    done = aws(folder, "destroy", "-auto-approve", check=False)
    assert done.returncode != 0 and "aws_ebs_volume.journal" in done.stderr, done.stdout + done.stderr


def boots_as_terraform_says(there, tmp_path):
    script = gzip.decompress(base64.b64decode(there["aws_instance.service[0]"]["user_data_base64"])).decode()
    (tmp_path / "boot.sh").write_text(script)
    run("bash", "-n", tmp_path / "boot.sh")
    # The files that it writes, as it writes them.
    files = dict(re.findall(r"base64 -d > (\S+) <<'END'\n(.*?)\nEND", script, re.S))
    files = {name: base64.b64decode(text).decode() for name, text in files.items()}
    assert files["/etc/systemd/system/lakeward.service"] == (SYSTEMD / "lakeward.service").read_text()
    environment = dict(line.split("=", 1) for line in files["/etc/lakeward/environment"].splitlines())
    environment = {name: json.loads(value) for name, value in environment.items()}
    done = lakeward_check(files["/etc/lakeward/lakeward.yaml"], tmp_path, **{**PLACE, **environment})
    assert done.returncode == 0, done.stdout + done.stderr
    assert environment["LAKEWARD_LAKE"] == "s3://my-lake/"
    for name in SERVICE["secrets"]:
        assert f"LoadCredential={name}:/etc/lakeward/credentials/{name}\n" in script
    assert "ssm get-parameter" in script and "secretsmanager get-secret-value" in script


FARGATE = """
module "lakeward" {
  source = "../modules/lakeward"

  bucket              = "my-lake"
  prefix              = "in/"
  compute             = "fargate"
  image               = "lakeward@sha256:1"
  glue_database       = "lake_db"
  kinesis_stream_arns = ["arn:aws:kinesis:eu-west-1:123456789012:stream/events"]
  function_arns       = ["arn:aws:lambda:eu-west-1:123456789012:function:f"]
  lease_table         = true
  vpc_id              = "vpc-1"
  subnet_id           = "subnet-1"
  client_cidrs        = ["10.0.0.0/8"]
  secrets             = SECRETS
  target_group_arns   = ["arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/t/1"]
  expire              = { "quarantine/" = 90 }
}
"""


def test_one_task_of_fargate_applies_and_has_the_same_rights_as_the_stack(aws, tmp_path):
    folder = aws.root(tmp_path, "fargate")
    secrets = ", ".join(f'{name} = "{arn}"' for name, arn in SERVICE["secrets"].items())
    (folder / "main.tf").write_text(FARGATE.replace("SECRETS", f"{{ {secrets} }}"))
    aws(folder, "init")
    there = aws.applied(folder, {})
    config, lakeward = json.loads(there["aws_ecs_task_definition.service[0]"]["container_definitions"])
    text = base64.b64decode(config["environment"][0]["value"]).decode()
    environment = {each["name"]: each["value"] for each in lakeward["environment"]}
    done = lakeward_check(text, tmp_path, **{**PLACE, **environment})
    assert done.returncode == 0, done.stdout + done.stderr
    assert {each["name"] for each in lakeward["secrets"]} == set(SERVICE["secrets"])
    deployment = there["aws_ecs_service.service[0]"]
    assert deployment["desired_count"] == 1
    # The old task is gone before the new one starts.
    assert deployment["deployment_minimum_healthy_percent"] == 0
    assert deployment["deployment_maximum_percent"] == 100
    rules = there["aws_s3_bucket_lifecycle_configuration.lake"]["rule"]
    assert [rule["filter"][0]["prefix"] for rule in rules if rule["expiration"]] == ["in/quarantine/"]
    # The template's rights are those that the emulator has found to be just enough.
    ours = statements(json.loads(there["aws_iam_role_policy.lake"]["policy"])["Statement"])
    stack = yaml.load(TEMPLATE.read_text(), Tags)["Resources"]["Role"]["Properties"]["Policies"][0]
    theirs = statements(each.get("If", [None, each])[1] for each in stack["PolicyDocument"]["Statement"])
    shared = {"Objects", "Probe", "Names", "Catalog", "Streams", "Leases"}
    assert {sid: ours[sid] for sid in shared} == {sid: theirs[sid] for sid in shared}
    assert set(ours) - shared == {"Functions"}


def statements(all_of_them):
    return {each["Sid"]: set(each["Action"]) for each in all_of_them}


def test_terraform_says_what_is_missing(aws, tmp_path):
    folder = aws.root(tmp_path, "wrong")
    for arguments, said in (
        ('compute = "ec2"', "needs vpc_id"),
        ('vpc_id = "v"\nsubnet_id = "s"', "needs `program`"),
        ('compute = "fargate"\nvpc_id = "v"\nsubnet_id = "s"', "needs `image`"),
        ('compute = "lambda"', "ec2, fargate or none"),
        ('compute = "none"\nprefix = "no-slash"', "ends with one"),
        ('compute = "none"\nsecrets = { LAKEWARD_TOKEN = "hush" }', "the ARN of a Secrets Manager secret"),
        ('compute = "none"\nglue_database = "with-hyphen"', "Athena"),
    ):
        (folder / "main.tf").write_text(
            f'module "lakeward" {{\nsource = "../modules/lakeward"\nbucket = "my-lake"\n{arguments}\n}}\n'
        )
        aws(folder, "init")
        done = aws(folder, "plan", check=False)
        words = re.sub(r"[\s│]+", " ", done.stderr)
        assert done.returncode != 0 and said in words, (arguments, done.stdout + done.stderr)


def test_terraform_parses_and_the_environments_share_one_module(tools):
    files = sorted(TERRAFORM.rglob("*.tf"))
    assert len(files) > 15
    run(tools / "hcl2tojson", "--ndjson", *files)
    for environment in ("dev", "staging", "prod"):
        text = (TERRAFORM / f"environments/{environment}/main.tf").read_text()
        assert 'source = "../../modules/lakeward"' in text and "resource " not in text


def test_tflint_finds_nothing(tmp_path):
    program = deploy_tools.tflint()
    if program is None:
        pytest.skip("no tflint on this machine, and no Go to build it with")
    for folder in (MODULE, *sorted((TERRAFORM / "environments").iterdir())):
        run(program, f"--chdir={folder}")
    copy = changed(MODULE, tmp_path, "outputs.tf", "aws_s3_bucket.lake.bucket", "var.bucket_name")
    (copy / "more.tf").write_text('variable "unused" {}\n')
    done = run(program, f"--chdir={copy}", check=False)
    assert "terraform_unused_declarations" in done.stdout and "terraform_typed_variables" in done.stdout


def test_checkov_finds_nothing_in_terraform_and_cloudformation(checkov, tmp_path):
    scan(checkov, "terraform", TERRAFORM)
    scan(checkov, "cloudformation", TEMPLATE.parent)
    fault = ('"s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload"]', '"s3:*"]')
    copy = changed(MODULE, tmp_path, "identity.tf", *fault)
    (copy / "identity.tf").write_text((copy / "identity.tf").read_text().replace("${local.objects}*", "*"))
    with pytest.raises(AssertionError, match="CKV_AWS"):
        scan(checkov, "terraform", copy)


# CloudFormation


class Tags(yaml.SafeLoader):
    """YAML with CloudFormation's short functions left as they are."""


Tags.add_multi_constructor("!", lambda loader, suffix, node: (
    {suffix: loader.construct_scalar(node)} if isinstance(node, yaml.ScalarNode)
    else {suffix: loader.construct_sequence(node, deep=True)}
))


def user_data():
    """The first boot's script, as Fn::Sub leaves what is not a variable of the template."""
    template = yaml.load(TEMPLATE.read_text(), Tags)
    data = template["Resources"]["Template"]["Properties"]["LaunchTemplateData"]["UserData"]
    return data["Fn::Base64"]["Sub"].replace("${!", "${")


def test_cfn_lint_finds_nothing_in_the_template_but_planted_faults(tools, tmp_path):
    run(tools / "cfn-lint", TEMPLATE)
    for old, new, rule in (
        ("BlockPublicAcls: true", "BlockPublicAcl: true", "E3002"),
        ("!GetAtt Lake.Arn, ", "!GetAtt Lake.ARN, ", "E1010"),
        ("HasStream\n", "HasStreams\n", "E1028"),
    ):
        copy = changed(TEMPLATE.parent, tmp_path, TEMPLATE.name, old, new)
        done = run(tools / "cfn-lint", copy / TEMPLATE.name, check=False)
        assert done.returncode != 0 and rule in done.stdout, done.stdout
        shutil.rmtree(copy)


def test_the_first_boot_is_a_script_of_bash(tmp_path):
    script = tmp_path / "boot.sh"
    script.write_text(user_data())
    run("bash", "-n", script)


class Emulator:
    """ministack with IAM enforced, as AWS would."""

    root = ("test", "test")

    def __init__(self, tools, folder):
        self.port = servers.free_ports(1)[0]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        settings = {"AUTH": "true", "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(self.port), "HOME": str(folder)}
        self.log = open(folder / "ministack.log", "w+")
        self.process = subprocess.Popen(
            [tools / "ministack"], cwd=folder, env={**service.ENVIRONMENT, **settings}, stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=self.log, start_new_session=True,
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{self.endpoint}/_ministack/health", timeout=5).close()
                return
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise AssertionError(f"ministack does not answer: {error}") from error
            time.sleep(0.05)

    def client(self, name, *keys):
        session = boto3.session.Session(*(keys or self.root), region_name=REGION)
        return session.client(name, endpoint_url=self.endpoint)

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


@pytest.fixture
def emulator(tools, tmp_path):
    running = Emulator(tools, tmp_path)
    yield running
    running.stop()


def created(emulator, **parameters):
    """Creates the stack and gives its outputs."""
    emulator.client("ssm").put_parameter(Name="/images/al2023", Value="ami-0123456789abcdef0", Type="String")
    formation = emulator.client("cloudformation")
    formation.create_stack(
        StackName="lakeward", TemplateBody=TEMPLATE.read_text(), Capabilities=["CAPABILITY_IAM"],
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value}
            for key, value in {"ImageId": "/images/al2023", **parameters}.items()
        ],
    )
    deadline = time.monotonic() + 60
    while True:
        stack = formation.describe_stacks(StackName="lakeward")["Stacks"][0]
        if not stack["StackStatus"].endswith("IN_PROGRESS"):
            break
        assert time.monotonic() < deadline, stack
        time.sleep(0.05)
    assert stack["StackStatus"] == "CREATE_COMPLETE", stack
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def as_role(emulator, arn):
    """Keys of a session of the role, which EC2 would hand to the instance."""
    anybody = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    emulator.client("iam").update_assume_role_policy(
        RoleName=arn.split("/")[-1], PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [anybody]})
    )
    keys = emulator.client("sts").assume_role(RoleArn=arn, RoleSessionName="lakeward")["Credentials"]
    return keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"]


def denied(call, **arguments):
    with pytest.raises(botocore.exceptions.ClientError) as refusal:
        call(**arguments)
    assert refusal.value.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException"), refusal.value


def test_the_stack_is_really_created_and_the_role_is_just_enough(emulator, tmp_path):
    outputs = created(
        emulator, BucketName="stack-lake", Prefix="in/", GlueDatabase="lake_db", LeaseTable="true",
        KinesisStreamArn=f"arn:aws:kinesis:{REGION}:000000000000:stream/events",
    )
    assert outputs["LakeUrl"] == "s3://stack-lake/in/"
    owner = emulator.client("s3")
    rules = owner.get_bucket_encryption(Bucket="stack-lake")["ServerSideEncryptionConfiguration"]["Rules"]
    assert rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert all(owner.get_public_access_block(Bucket="stack-lake")["PublicAccessBlockConfiguration"].values())
    assert owner.get_bucket_versioning(Bucket="stack-lake")["Status"] == "Enabled"
    database = emulator.client("glue").get_database(Name="lake_db")["Database"]
    assert database["LocationUri"] == "s3://stack-lake/in/"
    keys = emulator.client("dynamodb").describe_table(TableName=outputs["LeaseTable"])["Table"]["KeySchema"]
    assert keys == [{"AttributeName": "leaseKey", "KeyType": "HASH"}]

    role = as_role(emulator, outputs["RoleArn"])
    s3 = emulator.client("s3", *role)
    # The bucket's policy refuses what does not come over TLS, and this does not.
    denied(s3.put_object, Bucket="stack-lake", Key="in/x", Body=b"x")
    owner.delete_bucket_policy(Bucket="stack-lake")
    s3.put_object(Bucket="stack-lake", Key="in/x", Body=b"x")
    denied(s3.put_object, Bucket="stack-lake", Key="elsewhere/x", Body=b"x")
    denied(s3.delete_object, Bucket="stack-lake", Key="in/x")
    denied(s3.list_buckets)
    owner.delete_object(Bucket="stack-lake", Key="in/x")
    glue = emulator.client("glue", *role)
    glue.create_table(DatabaseName="lake_db", TableInput={"Name": "events"})
    assert glue.get_table(DatabaseName="lake_db", Name="events")["Table"]["Name"] == "events"
    denied(glue.create_database, DatabaseInput={"Name": "other"})
    denied(glue.delete_table, DatabaseName="lake_db", Name="events")
    denied(emulator.client("iam", *role).list_roles)

    runs_as(emulator, role, tmp_path, outputs["LakeUrl"])


def runs_as(emulator, role, tmp_path, lake):
    """Lakeward itself, with the shipped configuration and nothing but the role."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    place = {**PLACE, "LAKEWARD_LAKE": lake, "AWS_REGION": REGION, **dict(zip(names, role, strict=True))}
    configuration = yaml.safe_load((DEPLOY / "lakeward.yaml").read_text())
    configuration |= {"listen": "127.0.0.1:0", "state": str(tmp_path / "state")}
    pipeline = configuration["pipelines"][0]
    pipeline["batch"] = {"age": "200ms"}
    # The smallest there is: one file goes in parts, and is asked for first.
    pipeline["destination"] |= {"endpoint": emulator.endpoint, "multipart_size": "5MiB"}
    file = tmp_path / "lakeward.yaml"
    file.write_text(yaml.safe_dump(configuration))
    environment = {**service.ENVIRONMENT, **place}
    done = run(service.PROGRAM, "check", "--connect", "--json", "-c", file, check=False, env=environment)
    assert done.returncode == 0 and json.loads(done.stdout)["ok"], done.stdout + done.stderr

    before, service.ENVIRONMENT = service.ENVIRONMENT, environment
    try:
        with service.Service.run(file) as running:
            lines = (json.dumps({"n": n, "timestamp": "2026-01-02T03:04:05Z", "id": os.urandom(64).hex()})
                     for n in range(100_000))
            body = "\n".join(lines).encode() + b"\nnot JSON\n"
            status, reply = running.records("events", body, authorization=f"Bearer {PLACE['LAKEWARD_TOKEN']}")
            assert status == 200 and reply["records"] == 100_001, reply
            delivered = running.wait_until_delivered()
            assert delivered[0]["quarantined"] == 1, delivered
            running.audit()
            assert running.terminate() == 0
    finally:
        service.ENVIRONMENT = before
    listed = emulator.client("s3").list_objects_v2(Bucket="stack-lake")["Contents"]
    hour = "in/events/year=2026/month=01/day=02/hour=03/"
    assert any(each["Key"].startswith(hour) and each["Size"] > 5 << 20 for each in listed), listed
    assert all(each["Key"].startswith(("in/events/", "in/quarantine/")) for each in listed), listed
