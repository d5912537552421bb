"""`deploy/terraform`: formatted, linted, and applied by Terraform itself against
the schema of its AWS provider (see terraform_provider.py)."""

import base64
import gzip
import json
import os
import re
import shutil
import subprocess

import pytest
import yaml

import deploy_tools
import service
from deploy_checks import (  # noqa: F401
    DEPLOY, MODULE, PLACE, SYSTEMD, TEMPLATE, TERRAFORM, Tags, changed, checkov, lakeward_check, scan, tools,
)
from deploy_tools import run


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
        modules = [state, *state["child_modules"]]
        found = [each for module in modules for each in module.get("resources", [])]
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


def test_checkov_finds_nothing_but_a_planted_fault(checkov, tmp_path):
    scan(checkov, "terraform", TERRAFORM)
    fault = ('"s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload"]', '"s3:*"]')
    copy = changed(MODULE, tmp_path, "identity.tf", *fault)
    (copy / "identity.tf").write_text((copy / "identity.tf").read_text().replace("${local.objects}*", "*"))
    with pytest.raises(AssertionError, match="CKV_AWS"):
        scan(checkov, "terraform", copy)
