"""A stand-in for Terraform's AWS provider: its schema, and no AWS.

terraform_provider.py SCHEMA: serves Terraform's plugin protocol 6 on a loopback
port that it prints, until its input ends. What AWS would answer is made up:
a computed argument that nobody set becomes a text with its name. So Terraform
itself checks every argument, type and reference, and evaluates every
expression, condition and template; whether AWS would take the values is not
tried.
"""

import concurrent.futures
import json
import sys

import grpc
import msgpack
from tf.gen import tfplugin_pb2 as pb
from tf.gen import tfplugin_pb2_grpc as rpc

UNKNOWN = msgpack.ExtType(0, b"\0")
NESTING = {"single": 1, "list": 2, "set": 3}
# Where a text with the argument's name would not do.
ANSWERS = {
    "account_id": "123456789012", "partition": "aws", "region": "eu-west-1", "availability_zone": "eu-west-1a",
    "insecure_value": "ami-0123456789abcdef0", "private_ip": "10.0.0.7",
}


def schema(block, version=0):
    return pb.Schema(version=version, block=block_of(block))


def block_of(block):
    return pb.Schema.Block(
        attributes=[
            pb.Schema.Attribute(
                name=name, type=json.dumps(each["type"]).encode(), required=each["required"],
                optional=each["optional"], computed=each["computed"],
            )
            for name, each in block["attributes"].items()
        ],
        block_types=[
            pb.Schema.NestedBlock(
                type_name=name, nesting=NESTING[each["nesting"]], block=block_of(each["block"]),
                min_items=0 if each["nesting"] == "single" else each["min"],
                max_items=0 if each["nesting"] == "single" else each["max"],
            )
            for name, each in block["blocks"].items()
        ],
    )


def made_up(kind, name, own):
    """What AWS would answer for an argument that it computes."""
    if kind == "string":
        own_arn = f"arn:aws:made-up:eu-west-1:123456789012:{own}"
        return own_arn if name == "arn" else ANSWERS.get(name, f"{own}-{name}")
    if isinstance(kind, list):
        return {} if kind[0] == "map" else []
    return {"number": 0, "bool": False}.get(kind)


def computed(block, value, answer):
    """The arguments that nobody set, in place. Dynamic ones stay null."""
    for name, each in block["attributes"].items():
        empty = value.get(name) is None or value[name] == UNKNOWN
        if each["computed"] and empty and each["type"] != "dynamic":
            value[name] = answer(each["type"], name)
    for name, each in block["blocks"].items():
        inner = value.get(name) or []
        for one in [inner] if isinstance(inner, dict) else inner:
            computed(each["block"], one, answer)
    return value


def policy(config):
    """What `aws_iam_policy_document` makes of its statements."""
    statements = []
    for each in config["statement"]:
        one = {"Sid": each["sid"], "Effect": each["effect"] or "Allow", "Action": each["actions"]}
        one["Resource"] = each["resources"]
        one["Principal"] = {who["type"]: who["identifiers"] for who in each["principals"]}
        one["Condition"] = {if_["test"]: {if_["variable"]: if_["values"]} for if_ in each["condition"]}
        statements.append({name: value for name, value in one.items() if value})
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def unpacked(dynamic):
    return msgpack.unpackb(dynamic.msgpack, strict_map_key=False)


def packed(value):
    return pb.DynamicValue(msgpack=msgpack.packb(value))


class Provider(rpc.ProviderServicer):
    def __init__(self, known):
        self.known = known

    def GetMetadata(self, request, context):
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "ask for the schema")

    def GetProviderSchema(self, request, context):
        return pb.GetProviderSchema.Response(
            provider=schema(self.known["provider"]),
            resource_schemas={name: schema(block) for name, block in self.known["resource"].items()},
            data_source_schemas={name: schema(block) for name, block in self.known["data"].items()},
        )

    def ValidateProviderConfig(self, request, context):
        return pb.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, request, context):
        return pb.ValidateResourceConfig.Response()

    def ValidateDataResourceConfig(self, request, context):
        return pb.ValidateDataResourceConfig.Response()

    def ConfigureProvider(self, request, context):
        return pb.ConfigureProvider.Response()

    def UpgradeResourceState(self, request, context):
        value = json.loads(request.raw_state.json)
        return pb.UpgradeResourceState.Response(upgraded_state=packed(value))

    def ReadResource(self, request, context):
        return pb.ReadResource.Response(new_state=request.current_state)

    def PlanResourceChange(self, request, context):
        proposed = unpacked(request.proposed_new_state)
        if proposed is not None:
            block = self.known["resource"][request.type_name]
            computed(block, proposed, lambda *_: UNKNOWN)
        return pb.PlanResourceChange.Response(planned_state=packed(proposed), legacy_type_system=True)

    def ApplyResourceChange(self, request, context):
        planned = unpacked(request.planned_state)
        if planned is not None:
            block = self.known["resource"][request.type_name]
            own = request.type_name.removeprefix("aws_").replace("_", "-")
            computed(block, planned, lambda kind, name: made_up(kind, name, own))
        return pb.ApplyResourceChange.Response(new_state=packed(planned), legacy_type_system=True)

    def ReadDataSource(self, request, context):
        config = unpacked(request.config)
        block = self.known["data"][request.type_name]
        own = request.type_name.removeprefix("aws_").replace("_", "-")
        if request.type_name == "aws_iam_policy_document":
            config["json"] = policy(config)
        computed(block, config, lambda kind, name: made_up(kind, name, own))
        return pb.ReadDataSource.Response(state=packed(config))

    def GetFunctions(self, request, context):
        return pb.GetFunctions.Response()

    def StopProvider(self, request, context):
        return pb.StopProvider.Response()


def main(file):
    with open(file) as text:
        provider = Provider(json.load(text))
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(8), options=[("grpc.max_send_message_length", 64 << 20)]
    )
    rpc.add_ProviderServicer_to_server(provider, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.buffer.read()
    server.stop(None)


if __name__ == "__main__":
    main(*sys.argv[1:])
