"""What an event says, and what it does not."""

import json
from datetime import datetime

import pytest
from ldclient.context import Context
from ldclient.evaluation import EvaluationDetail
from ldclient.hook import EvaluationSeriesContext

from lakeward_launchdarkly.event import Evaluation, Schema

REASON = {"kind": "FALLTHROUGH", "inExperiment": True}


def event(context, value="treatment", private=(), all_private=False, only=True, reason=REASON):
    schema = Schema(only, private, all_private)
    line = schema.line(Evaluation(1705329000.123456, "my-flag", context, value, 1, reason))
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    return json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_the_schema_that_consumers_know():
    context = Context.builder("user-123").name("John").set("tier", "premium").build()
    assert event(context) == {
        "timestamp": "2024-01-15T14:30:00.123456+00:00",
        "flag_key": "my-flag",
        "evaluation_context": {"key": "user-123", "kind": "user", "name": "John", "tier": "premium"},
        "flag_value": "treatment",
        "variation_index": 1,
        "reason_kind": "FALLTHROUGH",
        "context_kinds": ["user"],
        "metadata": {"source": "launchdarkly-python-hook", "version": "1.0"},
    }
    assert datetime.fromisoformat(event(context)["timestamp"]).utcoffset().total_seconds() == 0


def test_several_kinds():
    context = Context.create_multi(Context.create("user-123"), Context.create("acme:eu", "organization"))
    found = event(context)
    assert found["evaluation_context"] == {
        "key": "", "kind": "multi", "user": {"key": "user-123"}, "organization": {"key": "acme:eu"},
    }
    assert found["context_kinds"] == ["organization", "user"]


def test_an_invalid_context_and_evaluations_outside_of_experiments():
    found = event(Context.create(""), only=False, reason={"kind": "ERROR", "errorKind": "USER_NOT_SPECIFIED"})
    assert (found["evaluation_context"], found["context_kinds"]) == ({"key": "", "kind": ""}, [])
    assert (found["reason_kind"], found["in_experiment"]) == ("ERROR", False)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), None),
        ({"a": [1.5, float("inf"), -float("inf")]}, {"a": [1.5, None, None]}),
        ((1, 2), [1, 2]),
        ({1: "x"}, {"1": "x"}),
        (datetime(2024, 1, 1), "2024-01-01 00:00:00"),
        (10**30, 10**30),
        ("h\u00e9\ud800\n", "h\u00e9\ud800\n"),
        (None, None),
    ],
)
def test_values_of_any_kind_are_valid_json(value, expected):
    assert event(Context.create("u"), value=value)["flag_value"] == expected
    inside = Context.builder("u").set("deep", {"v": value}).build()
    assert event(inside)["evaluation_context"]["deep"] == {"v": expected}


def test_a_value_that_holds_itself_ends():
    loop = {}
    loop["self"] = loop
    assert event(Context.create("u"), value=loop)["flag_value"]["self"]["self"] is not None


ATTRIBUTES = {
    "email": "a@b.c",
    "address": {"city": "Berlin", "street": {"name": "x", "n/r": 7, "a~b": True}, "list": [{"city": "y"}]},
    "/slash": 1,
    "empty": {},
}
REFERENCES = [
    ["email"], ["/email"], ["/address/city"], ["address"], ["/address/street/name", "/address/street"],
    ["/address/street/n~1r", "/address/street/a~0b"], ["/address/list/city"], ["/~1slash"], ["//slash"], ["/slash"],
    ["name", "key", "kind", "anonymous", "_meta"], ["/address//city"], ["/"], [""], ["/bad~2"], ["/bad~"],
    ["/empty/x", "/nothing", "nothing/x"], ["email", "/email", "email"],
]


@pytest.mark.parametrize("references", REFERENCES)
@pytest.mark.parametrize("where", ["context", "settings", "both"])
@pytest.mark.parametrize("anonymous", [False, True])
def test_what_is_private_stays_private_as_in_the_sdks_own_events(references, where, anonymous):
    formatter = pytest.importorskip("ldclient.impl.events.event_context_formatter")
    builder = Context.builder("u").kind("device").name("John").anonymous(anonymous)
    for name, value in ATTRIBUTES.items():
        builder.set(name, value)
    if where != "settings":
        builder.private(*references)
    context = builder.build()
    settings = references if where != "context" else []
    for whole in (context, Context.create_multi(context, Context.create("x"))):
        expected = formatter.EventContextFormatter(False, settings).format_context(whole)
        found = event(whole, private=settings)["evaluation_context"]
        if whole.multiple:
            assert found.pop("key") == ""
        for one in (expected, expected.get("device", {}), found, found.get("device", {})):
            for name in one.get("_meta", {}).get("redactedAttributes", []):
                assert isinstance(name, str)
        assert normal(found) == normal(expected)


def normal(context):
    """The order of the names says nothing."""
    if isinstance(context, dict):
        out = {key: normal(value) for key, value in context.items()}
        if "redactedAttributes" in out:
            # Releases differ in how they spell a name that begins with a slash.
            out["redactedAttributes"] = sorted(name.replace("~1", "/").lstrip("/") for name in out["redactedAttributes"])
        return out
    return context


def test_everything_private():
    context = Context.builder("u").name("John").set("tier", "premium").private("tier").build()
    found = event(context, all_private=True)["evaluation_context"]
    assert found == {"key": "u", "kind": "user", "_meta": {"redactedAttributes": ["name", "tier"]}}


def test_a_hook_fits_this_sdk():
    from lakeward_launchdarkly import LakewardHook, Outcome, Sender

    class Nowhere(Sender):
        def send(self, lines, key):
            return Outcome()

    hook = LakewardHook(Nowhere())
    assert hook.metadata.name == "lakeward-launchdarkly"
    series = EvaluationSeriesContext(key="k", context=Context.create("u"), default_value=None, method="variation")
    assert hook.before_evaluation(series, {"a": 1}) == {"a": 1}
    assert hook.after_evaluation(series, {"a": 1}, EvaluationDetail("x", 0, REASON)) == {"a": 1}
    assert hook.after_evaluation(series, {}, EvaluationDetail("x", 0, {"kind": "OFF"})) == {}
    assert hook.after_evaluation(None, {}, None) == {}, "nothing that comes raises"
    assert hook.close(5)
    counters = hook.counters
    assert (counters.recorded, counters.sent, counters.dropped_invalid) == (2, 1, 1)
