"""The fault proxy itself: its faults are what they say, and the seed decides."""

import boto3
import botocore.config
import botocore.exceptions
import pytest

from faultproxy import FaultProxy


def client(s3, endpoint):
    config = botocore.config.Config(
        retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, connect_timeout=5, read_timeout=10
    )
    session = boto3.session.Session(s3.access_key, s3.secret_key, region_name="us-east-1")
    return session.client("s3", endpoint_url=endpoint, config=config)


def there(s3, key):
    return s3.client().list_objects_v2(Bucket=s3.bucket, Prefix=key)["KeyCount"] == 1


@pytest.mark.parametrize(
    ("kind", "fails", "written"),
    [
        ("lost_reply", True, True), ("slow_down", True, False), ("internal_error", True, False),
        ("error_after_write", True, True), ("stall", False, True), ("cut_upload", True, False),
    ],
)
def test_each_fault(s3, tmp_path, kind, fails, written):
    proxy = FaultProxy(s3.endpoint, seed=1, rate=1)
    proxy.KINDS = (kind,)
    key = f"{tmp_path.name}/{kind}"
    try:
        put = {"Bucket": s3.bucket, "Key": key, "Body": b"x" * 100_000}
        if fails:
            with pytest.raises((botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError)):
                client(s3, proxy.endpoint).put_object(**put)
        else:
            client(s3, proxy.endpoint).put_object(**put)
        assert proxy.faults[kind] == 1
        assert there(s3, key) == written
        # Reads pass.
        assert client(s3, proxy.endpoint).list_objects_v2(Bucket=s3.bucket, MaxKeys=1)["KeyCount"] <= 1
    finally:
        proxy.stop()
