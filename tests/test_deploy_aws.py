"""`deploy/cloudformation`: linted, and created on emulators; on one that enforces
IAM as AWS would, Lakeward then delivers with the created role alone."""

import base64
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import types
import urllib.request

import boto3
import botocore.exceptions
import pytest
import yaml

import servers
import service
from deploy_checks import (  # noqa: F401
    DEPLOY, PLACE, REGION, SYSTEMD, TEMPLATE, changed, checkov, scan, tools, user_data,
)
from deploy_tools import run


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


def test_checkov_finds_nothing_in_the_template(checkov):
    scan(checkov, "cloudformation", TEMPLATE.parent)


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


def created(emulator, image="ami-0123456789abcdef0", /, **parameters):
    """Creates the stack and gives its outputs."""
    emulator.client("ssm").put_parameter(Name="/images/al2023", Value=image, Type="String")
    formation = emulator.client("cloudformation")
    formation.create_stack(
        StackName="lakeward", TemplateBody=TEMPLATE.read_text(), Capabilities=["CAPABILITY_IAM"],
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value}
            for key, value in {"ImageId": "/images/al2023", **parameters}.items()
        ],
    )

    def ended():
        stack = formation.describe_stacks(StackName="lakeward")["Stacks"][0]
        return None if stack["StackStatus"].endswith("IN_PROGRESS") else stack

    stack = service.wait_until(ended)
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
    glue.create_table(
        DatabaseName="lake_db", TableInput={"Name": "events", "PartitionKeys": [{"Name": "year", "Type": "string"}]}
    )
    assert glue.get_table(DatabaseName="lake_db", Name="events")["Table"]["Name"] == "events"
    partition = {"Values": ["2026"], "StorageDescriptor": {"Location": "s3://stack-lake/in/events/year=2026/"}}
    glue.batch_create_partition(DatabaseName="lake_db", TableName="events", PartitionInputList=[partition])
    assert len(glue.get_partitions(DatabaseName="lake_db", TableName="events")["Partitions"]) == 1
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


@pytest.fixture
def moto():
    """Another emulator: it knows volumes, templates of instances and groups, and enforces nothing."""
    pytest.importorskip("moto.server")
    port = servers.free_ports(1)[0]
    program = pathlib.Path(sys.executable).parent / "moto_server"
    process = subprocess.Popen(
        [program, "-H", "127.0.0.1", "-p", str(port)], env=service.ENVIRONMENT, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )
    session = boto3.session.Session("test", "test", region_name=REGION)
    endpoint = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=5).close()
            break
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, "moto does not answer"
        time.sleep(0.05)
    yield types.SimpleNamespace(client=lambda name: session.client(name, endpoint_url=endpoint))
    process.kill()
    process.wait()


def test_the_stack_with_an_instance_is_created(moto, tmp_path):
    ec2 = moto.client("ec2")
    subnet = ec2.describe_subnets()["Subnets"][0]
    outputs = created(
        moto, ec2.describe_images()["Images"][0]["ImageId"], BucketName="stack-lake", Prefix="in/", Compute="ec2",
        VpcId=subnet["VpcId"], SubnetId=subnet["SubnetId"], AvailabilityZone=subnet["AvailabilityZone"],
        ProgramBucket="programs", ProgramKey="lakeward", ProgramSha256="ab" * 32,
    )
    (group,) = moto.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert (group["MinSize"], group["MaxSize"]) == (0, 1)
    (instance,) = (each for some in ec2.describe_instances()["Reservations"] for each in some["Instances"])
    volumes = {each["VolumeId"]: each for each in ec2.describe_volumes()["Volumes"]}
    journal = volumes[outputs["Journal"]]
    assert journal["AvailabilityZone"] == instance["Placement"]["AvailabilityZone"]
    # The first boot, with the names of what was made.
    asked = {"InstanceId": instance["InstanceId"], "Attribute": "userData"}
    script = base64.b64decode(ec2.describe_instance_attribute(**asked)["UserData"]["Value"]).decode()
    assert f"attach-volume --volume-id {journal['VolumeId']} " in script
    assert "\nLAKEWARD_LAKE=s3://stack-lake/in/\n" in script
    assert (DEPLOY / "lakeward.yaml").read_text().rstrip() in script
    assert (SYSTEMD / "lakeward.service").read_text().rstrip() in script
    (tmp_path / "boot.sh").write_text(script)
    run("bash", "-n", tmp_path / "boot.sh")
