"""Kestra's own types, read from its classes: which properties a flow, a task,
a trigger may have, and what each holds. Nothing of Kestra runs; its classes
want a newer Java than tests have, but `javap` reads them."""

import re
import subprocess

#: What a flow's YAML is.
FLOW = "io.kestra.core.models.flows.Flow"
#: Short names that stand for a class, by the type of the property.
SHORT = {
    ("io.kestra.core.models.tasks.retrys.AbstractRetry", "constant"): "io.kestra.core.models.tasks.retrys.Constant",
    ("io.kestra.core.models.flows.Input", "STRING"): "io.kestra.core.models.flows.input.StringInput",
}
#: Classes of plugins that Maven Central lacks: what they are, and have more.
PLUGINS = {
    "io.kestra.plugin.scripts.shell.Commands": (
        "io.kestra.plugin.scripts.exec.AbstractExecScript",
        {"commands": "java.util.List<java.lang.String>", "containerImage": "java.lang.String"},
    ),
}
GETTER = re.compile(r"public (?:default |abstract |final )*(\S+(?:<.*>)?) (?:get|is)(\w+)\(\);")
PARENTS = re.compile(r"(?:class|interface) (\S+?)(?:<.*?>)? (?:extends (.*?))?(?: ?implements (.*?))? ?\{")
DURATION = re.compile(r"P(?!$)(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?")


class Types:
    def __init__(self, jars):
        self.path = ":".join(map(str, jars))
        self.known = {}

    def javap(self, name):
        if name not in self.known:
            command = ["javap", "-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC", "-public", "-cp", self.path, name]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            self.known[name] = done.stdout if done.returncode == 0 and "{" in done.stdout else None
        return self.known[name]

    def properties(self, name):
        """Name and type of everything that can be set, inherited or not; None if there is no such class."""
        base, more = PLUGINS.get(name, (name, {}))
        text = self.javap(base)
        if text is None:
            return None
        found = dict(more)
        for kind, getter in GETTER.findall(text):
            found.setdefault(getter[0].lower() + getter[1:], kind)
        parents = PARENTS.search(text)
        for parent in re.sub(r"<[^<>]*>", "", ",".join(filter(None, parents.groups()[1:]))).split(","):
            if parent.startswith("io.kestra."):
                for inherited, kind in (self.properties(parent) or {}).items():
                    found.setdefault(inherited, kind)
        return found

    def values(self, name):
        """The values of an enum; None if it is none."""
        text = self.javap(name)
        if text is None or "extends java.lang.Enum" not in text:
            return None
        return re.findall(rf"public static final {re.escape(name)} (\w+);", text)

    def problems(self, value, kind=FLOW, path="flow"):
        """What Kestra would not take, one a line."""
        if kind.startswith("io.kestra.core.models.property.Property<"):
            kind = kind[len("io.kestra.core.models.property.Property<"):-1]
        if kind.startswith("java.util.List<"):
            if not isinstance(value, list):
                return [f"{path}: a list is expected"]
            inner = kind[len("java.util.List<"):-1]
            return [p for at, item in enumerate(value) for p in self.problems(item, inner, f"{path}[{at}]")]
        if isinstance(value, str) and "{{" in value:
            return []
        if kind == "java.time.Duration":
            return [] if isinstance(value, str) and DURATION.fullmatch(value) else [f"{path}: {value!r} is no duration"]
        if kind in ("java.lang.Integer", "int"):
            return [] if type(value) is int else [f"{path}: {value!r} is no number"]
        if kind in ("java.lang.Boolean", "boolean"):
            return [] if type(value) is bool else [f"{path}: {value!r} is not true or false"]
        if kind == "java.lang.String":
            return [] if isinstance(value, str) else [f"{path}: {value!r} is no text"]
        return self._of_class(value, re.sub(r"<.*>", "", kind), path) if kind.startswith("io.kestra.") else []

    def _of_class(self, value, kind, path):
        values = self.values(kind)
        if values is not None:
            return [] if value in values else [f"{path}: {value!r} is none of {', '.join(values)}"]
        if not isinstance(value, dict):
            return [f"{path}: members are expected"]
        given = value.get("type")
        if given is not None:
            kind = SHORT.get((kind, given), given if str(given).startswith("io.kestra.") else kind)
        members = self.properties(kind)
        if members is None:
            return [f"{path}: there is no type {kind}"]
        found = []
        for name, member in value.items():
            if name not in members:
                found.append(f"{path}: {kind} has no {name}")
            elif name != "type":
                found.extend(self.problems(member, members[name], f"{path}.{name}"))
        return found
