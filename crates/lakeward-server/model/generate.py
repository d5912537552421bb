"""Writes firehose.json and kinesis.json: the constraints of the APIs' inputs.

The source are the service models that botocore ships (Apache-2.0), without
their documentation and without the destinations that Lakeward does not have;
those become `any`, because they are refused by name before their members
matter.

Run with a Python that has botocore: `python generate.py firehose > firehose.json`.
"""

import gzip
import json
import pathlib
import sys

import botocore

MODELS = {"firehose": "firehose/2015-08-04", "kinesis": "kinesis/2013-12-02"}
# The operations that Lakeward has.
OPERATIONS = {
    "firehose": [
        "CreateDeliveryStream", "DeleteDeliveryStream", "DescribeDeliveryStream", "ListDeliveryStreams",
        "PutRecord", "PutRecordBatch", "UpdateDestination", "TagDeliveryStream", "UntagDeliveryStream",
        "ListTagsForDeliveryStream", "StartDeliveryStreamEncryption", "StopDeliveryStreamEncryption",
    ],
    "kinesis": [
        "AddTagsToStream", "CreateStream", "DecreaseStreamRetentionPeriod", "DeleteStream",
        "DeregisterStreamConsumer", "DescribeAccountSettings", "DescribeLimits", "DescribeStream",
        "DescribeStreamConsumer", "DescribeStreamSummary", "DisableEnhancedMonitoring", "EnableEnhancedMonitoring",
        "GetRecords", "GetShardIterator", "IncreaseStreamRetentionPeriod", "ListShards", "ListStreamConsumers",
        "ListStreams", "ListTagsForResource", "ListTagsForStream", "MergeShards", "PutRecord", "PutRecords",
        "RegisterStreamConsumer", "RemoveTagsFromStream", "SplitShard", "StartStreamEncryption",
        "StopStreamEncryption", "SubscribeToShard", "TagResource", "UntagResource", "UpdateMaxRecordSize",
        "UpdateShardCount", "UpdateStreamMode",
    ],
}
ABSENT = ["Redshift", "Elasticsearch", "Amazonopensearchservice", "Splunk", "HttpEndpoint",
          "AmazonOpenSearchServerless", "Snowflake", "Iceberg", "MSKSource", "DatabaseSource"]
# The order in which AWS names the values, where it has been seen on the wire.
SEEN_ORDER = {"CompressionFormat": ["ZIP", "HADOOP_SNAPPY", "Snappy", "GZIP", "UNCOMPRESSED"]}
# Only streams with a record distribution strategy that Lakeward does not have
# take records without a partition key.
REQUIRED = {"PutRecordInput": ["PartitionKey"], "PutRecordsRequestEntry": ["PartitionKey"]}
# As JSON has them.
TYPES = {"long": "integer", "timestamp": "double"}

api = sys.argv[1]
path = pathlib.Path(botocore.__file__).parent / f"data/{MODELS[api]}/service-2.json.gz"
model = json.loads(gzip.decompress(path.read_bytes()))
shapes = {}


def add(name):
    if name in shapes:
        return name
    if any(name.startswith(a) and name.endswith(("Configuration", "Update")) for a in ABSENT):
        shapes["Any"] = {"type": "any"}
        return "Any"
    shape = model["shapes"][name]
    kept = shapes[name] = {k: shape[k] for k in ("type", "required", "min", "max", "pattern", "enum") if k in shape}
    kept["type"] = TYPES.get(kept["type"], kept["type"])
    if api == "kinesis" and name in REQUIRED:
        kept["required"] = kept["required"] + REQUIRED[name]
    if name in SEEN_ORDER:
        assert sorted(SEEN_ORDER[name]) == sorted(kept["enum"])
        kept["enum"] = SEEN_ORDER[name]
    if "members" in shape:
        kept["members"] = {m: add(s["shape"]) for m, s in shape["members"].items()}
    for part in ("member", "key", "value"):
        if part in shape:
            kept[part] = add(shape[part]["shape"])
    return name


inputs = {op: add(model["operations"][op]["input"]["shape"]) for op in OPERATIONS[api]}
lines = ",\n".join(f'    {json.dumps(n)}: {json.dumps(shapes[n])}' for n in sorted(shapes))
absent = sorted(set(model["operations"]) - set(inputs))
print('{\n  "absent": ' + json.dumps(absent) + ',\n  "inputs": ' + json.dumps(inputs) + ',\n  "shapes": {\n' + lines + "\n  }\n}")
