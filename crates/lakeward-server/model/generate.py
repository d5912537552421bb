"""Writes firehose.json: the constraints of the Firehose API's inputs.

The source is the service model that botocore ships (Apache-2.0), without its
documentation and without the destinations that Lakeward does not have; those
become `any`, because they are refused by name before their members matter.

Run with a Python that has botocore: `python generate.py > firehose.json`.
"""

import gzip
import json
import pathlib

import botocore

OPERATIONS = [
    "CreateDeliveryStream", "DeleteDeliveryStream", "DescribeDeliveryStream", "ListDeliveryStreams",
    "PutRecord", "PutRecordBatch", "UpdateDestination", "TagDeliveryStream", "UntagDeliveryStream",
    "ListTagsForDeliveryStream", "StartDeliveryStreamEncryption", "StopDeliveryStreamEncryption",
]
ABSENT = ["Redshift", "Elasticsearch", "Amazonopensearchservice", "Splunk", "HttpEndpoint",
          "AmazonOpenSearchServerless", "Snowflake", "Iceberg", "MSKSource", "DatabaseSource"]
# The order in which AWS names the values, where it has been seen on the wire.
SEEN_ORDER = {"CompressionFormat": ["ZIP", "HADOOP_SNAPPY", "Snappy", "GZIP", "UNCOMPRESSED"]}

path = pathlib.Path(botocore.__file__).parent / "data/firehose/2015-08-04/service-2.json.gz"
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
    if name in SEEN_ORDER:
        assert sorted(SEEN_ORDER[name]) == sorted(kept["enum"])
        kept["enum"] = SEEN_ORDER[name]
    if "members" in shape:
        kept["members"] = {m: add(s["shape"]) for m, s in shape["members"].items()}
    for part in ("member", "key", "value"):
        if part in shape:
            kept[part] = add(shape[part]["shape"])
    return name


inputs = {op: add(model["operations"][op]["input"]["shape"]) for op in OPERATIONS}
lines = ",\n".join(f'    {json.dumps(n)}: {json.dumps(shapes[n])}' for n in sorted(shapes))
print('{\n  "inputs": ' + json.dumps(inputs) + ',\n  "shapes": {\n' + lines + "\n  }\n}")
