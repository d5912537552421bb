"""The Firehose API with unmodified clients, reached by their endpoint setting alone."""

import gzip
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

import lake
from conftest import firehose_client
from service import ENVIRONMENT, Service, config, pipeline

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
}
ROLE = "arn:aws:iam::123456789012:role/firehose"
PREFIX = "experiments/year=!{timestamp:yyyy}/month=!{timestamp:MM}/day=!{timestamp:dd}/hour=!{timestamp:HH}/"


def client_environment(dev, **more):
    return {**ENVIRONMENT, **CREDENTIALS, "AWS_ENDPOINT_URL_FIREHOSE": dev.url, **more}


def numbers(dev, folder):
    dev.wait_until_delivered()
    return sorted(n for (n,) in lake.rows(folder, "SELECT n FROM {lake}"))


def test_boto3_by_environment_alone(dev, tmp_path):
    program = """
import boto3, json
firehose = boto3.client("firehose")
firehose.put_record(DeliveryStreamName="events", Record={"Data": json.dumps({"n": 0}) + "\\n"})
reply = firehose.put_record_batch(DeliveryStreamName="events", Records=[{"Data": b'{"n":%d}' % n} for n in range(1, 500)])
assert reply["FailedPutCount"] == 0
assert len({entry["RecordId"] for entry in reply["RequestResponses"]}) == 499
"""
    subprocess.run([sys.executable, "-c", program], check=True, env=client_environment(dev))
    assert numbers(dev, tmp_path / "lake") == list(range(500))


def test_the_aws_cli(dev, tmp_path):
    def aws(*arguments):
        command = [pathlib.Path(sys.executable).with_name("aws"), "firehose", *arguments]
        done = subprocess.run(command, env=client_environment(dev), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout else None

    assert aws("put-record", "--delivery-stream-name", "events", "--record", '{"Data":"{\\"n\\":1}\\n"}')["RecordId"]
    records = json.dumps([{"Data": '{"n":2}\n'}, {"Data": '{"n":3}\n'}])
    assert aws("put-record-batch", "--delivery-stream-name", "events", "--records", records)["FailedPutCount"] == 0
    assert "events" in aws("list-delivery-streams")["DeliveryStreamNames"]
    assert numbers(dev, tmp_path / "lake") == [1, 2, 3]


def test_the_aws_sdk_for_javascript(dev, tmp_path):
    if "LAKEWARD_TEST_NODE" not in os.environ and "LAKEWARD_REQUIRE_SERVERS" not in os.environ:
        pytest.skip("cargo xtask test installs the SDK")
    modules = os.path.join(os.environ["LAKEWARD_TEST_NODE"], "node_modules")
    script = pathlib.Path(__file__).with_name("firehose_client.cjs")
    done = subprocess.run(
        ["node", script], env=client_environment(dev, NODE_PATH=modules), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"ids": 51, "failed": 0, "missing": "ResourceNotFoundException"}
    assert numbers(dev, tmp_path / "lake") == list(range(51))


def create(firehose, name="experiments-stream", **changes):
    destination = {
        "RoleARN": ROLE, "BucketARN": "arn:aws:s3:::my-bucket", "Prefix": PREFIX, "ErrorOutputPrefix": "errors/",
        "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 0}, "CompressionFormat": "GZIP", **changes,
    }
    reply = firehose.create_delivery_stream(
        DeliveryStreamName=name, DeliveryStreamType="DirectPut", ExtendedS3DestinationConfiguration=destination
    )
    return reply["DeliveryStreamARN"]


def describe(firehose, name="experiments-stream"):
    return firehose.describe_delivery_stream(DeliveryStreamName=name)["DeliveryStreamDescription"]


def test_a_created_stream_delivers_as_firehose_would(dev, firehose, tmp_path):
    arn = create(firehose)
    assert re.fullmatch(r"arn:aws:firehose:us-east-1:\d{12}:deliverystream/experiments-stream", arn)
    # Verbatim: records are concatenated, no newline is added.
    for data in (b'{"n":1}\n', b'{"n":2}', b"not json at all\n"):
        firehose.put_record(DeliveryStreamName="experiments-stream", Record={"Data": data})
    dev.wait_until_delivered()
    found = lake.files(tmp_path / "lake/my-bucket", ".gz")
    assert b"".join(sorted((gzip.decompress(p.read_bytes()) for p in found), key=len)) in (
        b'{"n":2}{"n":1}\nnot json at all\n', b'{"n":1}\n{"n":2}not json at all\n'
    )
    key = found[0].relative_to(tmp_path / "lake/my-bucket").as_posix()
    assert re.fullmatch(
        r"experiments/year=\d{4}/month=\d\d/day=\d\d/hour=\d\d/"
        r"experiments-stream-1-\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.gz",
        key,
    ), key


def test_a_stream_is_described_updated_and_deleted_and_survives_kill_9(dev, firehose):
    create(firehose)
    described = describe(firehose)
    assert (described["DeliveryStreamStatus"], described["VersionId"]) == ("ACTIVE", "1")
    (destination,) = described["Destinations"]
    s3 = destination["ExtendedS3DestinationDescription"]
    assert (s3["Prefix"], s3["CompressionFormat"], s3["RoleARN"]) == (PREFIX, "GZIP", ROLE)
    assert destination["S3DestinationDescription"]["BucketARN"] == "arn:aws:s3:::my-bucket"

    firehose.update_destination(
        DeliveryStreamName="experiments-stream", CurrentDeliveryStreamVersionId="1",
        DestinationId=destination["DestinationId"],
        ExtendedS3DestinationUpdate={"CompressionFormat": "UNCOMPRESSED"},
    )
    with pytest.raises(firehose.exceptions.ConcurrentModificationException):
        firehose.update_destination(
            DeliveryStreamName="experiments-stream", CurrentDeliveryStreamVersionId="1",
            DestinationId=destination["DestinationId"],
            ExtendedS3DestinationUpdate={"CompressionFormat": "GZIP"},
        )
    with pytest.raises(firehose.exceptions.ResourceInUseException):
        create(firehose)

    dev.kill()
    dev.start()
    firehose = firehose_client(dev.url)
    described = describe(firehose)
    assert described["VersionId"] == "2"
    s3 = described["Destinations"][0]["ExtendedS3DestinationDescription"]
    assert (s3["CompressionFormat"], s3["Prefix"]) == ("UNCOMPRESSED", PREFIX)
    assert firehose.list_delivery_streams()["DeliveryStreamNames"] == ["experiments-stream"]
    firehose.delete_delivery_stream(DeliveryStreamName="experiments-stream")
    assert firehose.list_delivery_streams()["DeliveryStreamNames"] == []
    with pytest.raises(firehose.exceptions.ResourceNotFoundException):
        describe(firehose)


def test_tags(dev, firehose):
    create(firehose)
    name = {"DeliveryStreamName": "experiments-stream"}
    firehose.tag_delivery_stream(**name, Tags=[{"Key": "team", "Value": "data"}, {"Key": "stage"}])
    firehose.untag_delivery_stream(**name, TagKeys=["stage"])
    assert firehose.list_tags_for_delivery_stream(**name)["Tags"] == [{"Key": "team", "Value": "data"}]


def test_limits_and_refusals(tmp_path):
    path = config(tmp_path, [pipeline("known", {"type": "lake", "url": "./lake"})])
    with Service.run(path) as service:
        firehose = firehose_client(service.url)
        errors = firehose.exceptions
        one = {"Data": b"{}\n"}

        def refused(error, call, **arguments):
            with pytest.raises(error) as refusal:
                call(**arguments)
            return refusal.value.response["Error"]

        gone = refused(errors.ResourceNotFoundException, firehose.put_record, DeliveryStreamName="gone", Record=one)
        assert re.fullmatch(r"Firehose gone under account \d{12} not found\.", gone["Message"])
        refused(errors.ClientError, firehose.put_record_batch, DeliveryStreamName="known", Records=[one] * 501)
        refused(errors.ClientError, firehose.put_record, DeliveryStreamName="known",
                Record={"Data": b"x" * 1_024_001})
        refused(errors.ClientError, firehose.put_record_batch, DeliveryStreamName="known",
                Records=[{"Data": b"x" * 1_000_000}] * 5)
        refused(errors.InvalidArgumentException, create, firehose=firehose,
                ProcessingConfiguration={"Enabled": True, "Processors": [{"Type": "CloudWatchLogProcessing", "Parameters": [
                    {"ParameterName": "DataMessageExtraction", "ParameterValue": "true"}
                ]}]})
        invalid = refused(errors.ClientError, create, firehose=firehose, CompressionFormat="LZ4")
        assert invalid["Code"] == "ValidationException"
        assert "extendedS3DestinationConfiguration.compressionFormat" in invalid["Message"]
        assert service.pipelines()[0]["received"] == 0
        firehose.put_record(DeliveryStreamName="known", Record={"Data": b"x" * 1_024_000})
        assert service.pipelines()[0]["received"] == 1


def test_signatures(tmp_path):
    keys = [{"access_key_id": "AKIATEST", "secret": "secret"}]
    path = config(tmp_path, [pipeline("known", {"type": "lake", "url": "./lake"})], auth={"sigv4_keys": keys})
    with Service.run(path) as service:
        firehose_client(service.url).put_record(DeliveryStreamName="known", Record={"Data": b'{"n":1}'})
        import boto3

        other = boto3.session.Session("AKIATEST", "wrong", region_name="us-east-1")
        client = other.client("firehose", endpoint_url=service.url)
        with pytest.raises(client.exceptions.ClientError) as refusal:
            client.put_record(DeliveryStreamName="known", Record={"Data": b'{"n":2}'})
        assert refusal.value.response["Error"]["Code"] == "InvalidSignatureException"
        assert service.pipelines()[0]["received"] == 1
