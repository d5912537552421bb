"""The schema of Terraform's AWS provider, for the kinds that `deploy/` uses.

The provider itself is a Go program of a size that no test should build. Its
schema is in npm all the same: CDK Terrain's bindings are generated from it, one
file for each kind, with every argument, its type, and whether it is required,
optional or computed. This reads those files; terraform_provider.py serves them.
"""

import json
import pathlib
import re
import tarfile

PACKAGE = "@cdktn/provider-aws@25.7.0"  # of version 6.66.0 of the provider
TYPES = {"string": "string", "number": "number", "boolean": "bool"}
GETTERS = {
    "getStringAttribute": "string", "getNumberAttribute": "number", "getBooleanAttribute": "bool",
    "getListAttribute": ["list", "string"], "getNumberListAttribute": ["list", "number"],
    "getStringMapAttribute": ["map", "string"],
}
ENTRY = re.compile(
    r'(\w+): \{\s*value: (.*?),\s*isBlock: (true|false),\s*type: "(\w+)",\s*storageClassType: "(\w+)",', re.S
)
MEMBER = re.compile(
    r"// (\w+) - computed: (true|false), optional: (true|false), required: (true|false)\n"
    r"(.*?)(?=\n    // \w+ - computed|\n    // =====|\Z)", re.S
)


def kinds(folder):
    """("resource" or "data", type) of everything that Terraform files declare."""
    texts = [file.read_text() for file in sorted(pathlib.Path(folder).rglob("*.tf"))]
    return sorted({found for text in texts for found in re.findall(r'^(resource|data) "(aws_\w+)"', text, re.M)})


def read(archive, wanted):
    """{"provider": block, "resource": {type: block}, "data": {type: block}} from the package."""
    files = {"package/lib/provider/index.js": ("provider", None)}
    for kind, name in wanted:
        folder = ("data-" if kind == "data" else "") + name.removeprefix("aws_" if kind == "resource" else "")
        files[f"package/lib/{folder.replace('_', '-')}/index.js"] = (kind, name)
    schema = {"provider": None, "resource": {}, "data": {}}
    with tarfile.open(archive) as tar:
        for member in tar:
            kind, name = files.pop(member.name, (None, None))
            if kind == "provider":
                schema["provider"] = File(tar.extractfile(member).read().decode()).whole()
            elif kind:
                schema[kind][name] = File(tar.extractfile(member).read().decode()).whole()
    if files:
        raise ValueError(f"the provider has no {sorted(files)}")
    return schema


class File:
    """One generated file: a class for the kind, and a function and a class for each of its blocks."""

    def __init__(self, text):
        self.text = text.split("//# sourceMappingURL")[0]
        parts = re.split(r"^(?:exports\.\w+ = )?class (\w+) extends ", self.text, flags=re.M)
        self.classes = dict(zip(parts[1::2], parts[2::2], strict=True))

    def whole(self):
        body = next(body for body in self.classes.values() if "static tfResourceType" in body)
        entries = body.split("synthesizeHclAttributes()")[1]
        return self.block(entries, body)

    def nested(self, function):
        start = self.text.index(f"function {function}(struct) {{")
        entries = self.text[start:self.text.index("\n}", start)]
        name = function.removesuffix("ToHclTerraform")
        return self.block(entries, self.classes.get(f"{name[0].upper()}{name[1:]}OutputReference", ""))

    def block(self, entries, body):
        members = {}
        for name, *flags, rest in MEMBER.findall(body):
            words = zip(("computed", "optional", "required"), flags, strict=True)
            members[name] = ({word: flag == "true" for word, flag in words}, rest)
        block = {"attributes": {}, "blocks": {}}
        for name, value, is_block, nesting, storage in ENTRY.findall(entries):
            flags = members[name][0] if name in members else {"computed": False, "optional": True, "required": False}
            if is_block == "true":
                block["blocks"][name] = self.nested_block(value, nesting, flags["required"])
            else:
                block["attributes"][name] = {"type": type_of(nesting, storage), **flags}
        for name, (_, rest) in members.items():
            if name not in block["attributes"] and name not in block["blocks"]:
                getter = re.search(r"return this\.(get\w+)\('", rest)
                kind = GETTERS.get(getter[1] if getter else "", "dynamic")
                answer = {"computed": True, "optional": False, "required": False}
                block["attributes"][name] = {"type": kind, **answer}
        return block

    def nested_block(self, value, nesting, required):
        function = re.search(r"(\w+ToHclTerraform)", value.replace("cdktn.listMapperHcl", ""))[1]
        one = "listMapper" not in value
        return {
            "nesting": "single" if nesting == "struct" else nesting,
            "min": int(required), "max": int(one), "block": self.nested(function),
        }


def type_of(nesting, storage):
    if nesting == "simple":
        return TYPES.get(storage, "dynamic")
    inner = TYPES.get(re.sub(r"(List|Map)$", "", storage))
    return [nesting, inner] if inner and nesting in ("list", "set", "map") else "dynamic"


def write(archive, wanted, file):
    pathlib.Path(file).write_text(json.dumps(read(archive, wanted)))
