"""Reads a Kinesis stream to its end through the API, as a careful consumer does: parents before children."""

import json


def kinesis_client(url, attempts=1, **settings):
    """An unmodified boto3 client; only the endpoint is ours."""
    import boto3
    import botocore.config

    config = botocore.config.Config(
        retries={"total_max_attempts": attempts, "mode": "standard"}, connect_timeout=5, read_timeout=30, **settings
    )
    session = boto3.session.Session("AKIATEST", "secret", region_name="us-east-1")
    return session.client("kinesis", endpoint_url=url, config=config)


def shards(kinesis, stream):
    # botocore's paginator names the stream beside the token, which AWS refuses.
    page = kinesis.list_shards(StreamName=stream)
    found = page["Shards"]
    while "NextToken" in page:
        page = kinesis.list_shards(NextToken=page["NextToken"])
        found += page["Shards"]
    return found


def read_shard(kinesis, stream, shard_id, **position):
    """All records of a shard for now, in order."""
    position = position or {"ShardIteratorType": "TRIM_HORIZON"}
    at = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard_id, **position)["ShardIterator"]
    records = []
    while at:
        page = kinesis.get_records(ShardIterator=at)
        records += page["Records"]
        at = page.get("NextShardIterator")
        if not page["Records"] and page["MillisBehindLatest"] == 0:
            break
    return records


def walk(kinesis, stream):
    """Every record by shard, and a check of what holds for any stream: children follow parents, sequence numbers
    ascend as numbers, none lies beyond the end of its shard."""
    found = {}
    known = {shard["ShardId"]: shard for shard in shards(kinesis, stream)}
    for shard_id, shard in known.items():
        sequence = shard["SequenceNumberRange"]
        for parent in (shard.get("ParentShardId"), shard.get("AdjacentParentShardId")):
            if parent in known:
                end = int(known[parent]["SequenceNumberRange"]["EndingSequenceNumber"])
                assert int(sequence["StartingSequenceNumber"]) > end
        records = read_shard(kinesis, stream, shard_id)
        numbers = [int(record["SequenceNumber"]) for record in records]
        assert numbers == sorted(set(numbers))
        if numbers and "EndingSequenceNumber" in sequence:
            assert numbers[-1] <= int(sequence["EndingSequenceNumber"])
        assert not numbers or numbers[0] >= int(sequence["StartingSequenceNumber"])
        found[shard_id] = records
    return found


def events(records):
    return [json.loads(record["Data"]) for record in records]
