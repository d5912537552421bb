"""What the tests of `deploy/` share."""

import json
import shutil

import pytest
import yaml

import deploy_tools
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


def scan(checkov, framework, folder):
    command = [checkov, "-d", folder, "--framework", framework, "--output", "json", "--skip-download"]
    done = run(*command, check=False)
    report = json.loads(done.stdout)
    failed = [(check["check_id"], check["resource"]) for check in report["results"]["failed_checks"]]
    assert report["summary"]["passed"] > 10 and report["summary"]["parsing_errors"] == 0, report["summary"]
    assert failed == [] and done.returncode == 0, failed


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
