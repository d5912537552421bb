"""docs/compatibility.md names every operation that AWS has, and tests that exist."""

import pathlib
import re

import botocore.session
import pytest

from kinesis_walk import kinesis_client
from conftest import firehose_client

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/compatibility.md").read_text()
SECTIONS = {"kinesis": "## Kinesis Data Streams", "firehose": "## Amazon Data Firehose"}


def rows(api):
    """Support, difference and test of every operation, in the page's order."""
    section = PAGE.split(SECTIONS[api])[1].split("\n## ")[0]
    found = {}
    for line in re.findall(r"^\| [A-Z].*$", section, re.MULTILINE):
        name, support, difference, shown = (cell.strip() for cell in line.strip("|").split("|"))
        assert support in ("yes", "partly", "no"), line
        found[name] = (support, difference, shown)
    return found


@pytest.mark.parametrize("api", SECTIONS)
def test_every_operation_is_listed(api):
    model = botocore.session.get_session().get_service_model(api)
    assert list(rows(api)) == sorted(model.operation_names)


@pytest.mark.parametrize("api", SECTIONS)
def test_every_named_test_exists(api):
    for name, (support, difference, shown) in rows(api).items():
        assert support == "no" or shown, f"{name}: no test shows it"
        assert support == "yes" or difference, f"{name}: the difference is not stated"
        if shown:
            path, test = shown.strip("`").split("::")
            assert re.search(rf"^(async )?(def|fn) {test}\(", (ROOT / path).read_text(), re.MULTILINE), shown


@pytest.mark.parametrize("api", SECTIONS)
def test_what_is_said_is_so(api, dev):
    """An operation that is there finds something wrong with an empty call, or answers it; one that is not says so."""
    client = kinesis_client(dev.url) if api == "kinesis" else firehose_client(dev.url)
    for name, (support, _, _) in rows(api).items():
        target = client.meta.service_model.metadata["targetPrefix"]
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": f"{target}.{name}"}
        status, answer = dev.post("/", b"{}", headers)
        unknown = isinstance(answer, dict) and answer.get("__type") == "UnknownOperationException"
        assert unknown == (support == "no"), f"{name}: {status} {answer}"
        if unknown:
            assert answer["message"] == f"{name} is not supported by Lakeward."
