"""Example statements of every kind, the rows that they are, and ways to read those back."""

import hashlib
import json
import pathlib

from lake import rows
from service import lakeward

FOLDER = pathlib.Path(__file__).parent / "xapi"
# As Torus writes them: a statement a line, none behind the last.
STATEMENTS = (FOLDER / "statements.jsonl").read_bytes().split(b"\n")
EXPECTED = json.loads((FOLDER / "rows.json").read_text())

RAW_COLUMNS = (
    "event_hash timestamp event_type verb_id user_id home_page section_id project_id publication_id enrollment_id page_id "
    "content_element_id video_url video_title video_time video_length video_progress video_played_segments video_seek_from "
    "video_seek_to page_attempt_guid page_attempt_number activity_attempt_guid activity_attempt_number part_attempt_guid "
    "part_attempt_number activity_id activity_revision_id part_id page_sub_type score out_of scaled_score success "
    "completion response feedback hints_requested attached_objectives session_id"
).split()
IDS = "event_id timestamp user_id host_name section_id project_id publication_id page_id"
KIND_COLUMNS = {
    "video": f"{IDS} session_id attempt_guid attempt_number content_element_id video_url video_title verb video_time "
             "video_length video_progress video_played_segments video_play_time video_seek_from video_seek_to event_hash",
    "activity_attempt": f"{IDS} activity_attempt_guid activity_attempt_number page_attempt_guid page_attempt_number "
                        "activity_id activity_revision_id score out_of scaled_score success completion event_hash",
    "page_attempt": f"{IDS} page_attempt_guid page_attempt_number score out_of scaled_score success completion event_hash",
    "page_viewed": f"{IDS} page_attempt_guid page_attempt_number page_sub_type success completion event_hash",
    "part_attempt": f"{IDS} session_id part_attempt_guid part_attempt_number activity_attempt_guid activity_attempt_number "
                    "page_attempt_guid page_attempt_number activity_id activity_revision_id part_id score out_of "
                    "scaled_score success completion response feedback hints_requested attached_objectives event_hash",
}


def event_hash(line):
    return hashlib.sha256(line).hexdigest()


def raw_row(line, expected):
    """The row of `raw_events`, without its source."""
    row = {"event_hash": event_hash(line), "event_type": expected["event_type"], **expected["row"]}
    return {name: row.get(name) for name in RAW_COLUMNS}


def kind_row(line, expected):
    """The row of the table of its kind."""
    row = expected["row"]
    played = row["verb_id"].endswith("/played")
    own = {
        "event_hash": event_hash(line), "event_id": row.get("event_id", event_hash(line)), "verb": row["verb_id"],
        "host_name": row.get("home_page"), "attempt_guid": row.get("page_attempt_guid"),
        "attempt_number": row.get("page_attempt_number"), "video_play_time": row.get("video_time") if played else None,
    }
    return {name: {**row, **own}.get(name) for name in KIND_COLUMNS[expected["event_type"]].split()}


EXPECTED_RAW = {event_hash(line): raw_row(line, expected) for line, expected in zip(STATEMENTS, EXPECTED, strict=True)}


def expected_of(kind):
    pairs = zip(STATEMENTS, EXPECTED, strict=True)
    return {event_hash(line): kind_row(line, expected) for line, expected in pairs if expected["event_type"] == kind}


def plain(value):
    """Instants as texts, so that rows are compared as people write them."""
    if hasattr(value, "isoformat"):
        text = value.isoformat().replace("+00:00", "Z")
        return text.replace("000Z", "Z").replace(".5Z", ".5Z") if "." not in text else text.rstrip("Z").rstrip("0") + "Z"
    return value


def table(folder, name, columns):
    """The rows of a table in a lake, each as a dict; and every row once."""
    listed = ", ".join(f'"{column}"' for column in columns)
    found = rows(pathlib.Path(folder) / name, f"SELECT {listed} FROM {{lake}}")
    return [dict(zip(columns, map(plain, row), strict=True)) for row in found]


def assert_rows(found, expected):
    """Row by row, by their hash, and none of them twice."""
    hashes = sorted(row["event_hash"] for row in found)
    assert hashes == sorted(expected), "some are missing, or there twice"
    for row in found:
        assert row == expected[row["event_hash"]]


def assert_all_tables(lake):
    assert_rows(table(lake, "raw_events", RAW_COLUMNS), EXPECTED_RAW)
    for kind, columns in KIND_COLUMNS.items():
        assert_rows(table(lake, f"{kind}_events", columns.split()), expected_of(kind))


def init(folder, *arguments, **replace):
    """The configuration that `lakeward init xapi` writes, with a few texts replaced."""
    path = pathlib.Path(folder) / "lakeward.yaml"
    lakeward("init", "xapi", path, *arguments)
    text = path.read_text().replace("listen: 127.0.0.1:7171", "listen: 127.0.0.1:0").replace("age: 60s", "age: 200ms")
    for old, new in replace.items():
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text)
    return path
