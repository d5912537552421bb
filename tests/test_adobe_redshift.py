"""Adobe Livestream into Redshift, as adobe-livestream-redshift-daemon (system E) did it: staged files, COPY, a table.
Every hit that Adobe sent is there once, whatever is cut, refused or killed."""

import json
import random

import pytest
import yaml

from postgres_server import programs
from service import wait_until
from test_adobe import configure, event_values, kill_until_all_is_sent, sent, simulate, utc

pytestmark = pytest.mark.skipif(programs() is None, reason="there is no PostgreSQL on this machine")


def into_the_table(running, folder, redshift, table):
    """The configuration that `init` wrote, with the table for the files."""
    file = folder / "lakeward.yaml"
    config = yaml.safe_load(file.read_text())
    (pipeline,) = config["pipelines"]
    del pipeline["output"]
    # System E's BATCH_RECORDS and BATCH_FILES, and an age beside them.
    pipeline["batch"] = {"records": 1000, "age": "500ms"}
    copy = {"delimiter": "~", "gzip": False, "rows_per_file": 100}
    pipeline["destination"] = redshift.destination(table, "ToIngest", copy=copy)
    pipeline["destination"]["staging"]["layout"] = "ingest"
    file.write_text(yaml.safe_dump(config))
    return running


def ids(redshift, table):
    try:
        return redshift.rows(f"SELECT hit_id_high::text, hit_id_low::text FROM {table}")
    except Exception:  # The table is made with the first batch.
        return []


def test_every_hit_is_in_the_table_once(tmp_path, redshift):
    seed = random.randrange(10**6)
    print("seed", seed)
    draw = random.Random(seed)
    table = f"hits_{seed}"
    arguments = ["--seed", seed, "--rate", 400, "--hits", 4000, "--repeats", "4s", "--token-life", "2s", "--redirect"]
    with simulate(*arguments, "--misbehave", "disconnect,cut,revoked,unavailable") as livestream:
        running = into_the_table(configure(tmp_path, livestream, "csv"), tmp_path, redshift, table).start()
        try:
            kills = kill_until_all_is_sent(running, livestream, 4000, draw)
            wait_until(lambda: sent(livestream) <= set(ids(redshift, table)), "all hits in the table", 90)
            state = livestream.state()
            assert running.terminate() == 0
        finally:
            running.kill()
        truth, found = sent(livestream), ids(redshift, table)
        assert len(found) == len(set(found)), "a hit is there twice"
        assert set(found) == truth
        assert kills >= 3 and state["lost"] == 0 and state["sent_again"] > 50, (kills, state)
        running.audit()
        # Value by value through quotes and COPY.
        hits = [json.loads(text) for text in livestream.hits(0, 4000)]
    rows = redshift.rows(
        f"SELECT hit_id_high::text, hit_id_low::text, page_name, revenue::text, received_time::text, carrier FROM {table}"
    )
    rows = {(high, low): rest for high, low, *rest in rows}
    checked = 0
    for hit in hits:
        key = (str(hit["hitIdHigh"]), str(hit["hitIdLow"]))
        if key not in rows:
            continue  # Made before the first connection.
        page, revenue, received, carrier = rows[key]
        expect = event_values(hit["events"]).get("revenue")
        assert (page, carrier) == (hit["pageName"], hit["carrier"] or None)
        assert received == utc(hit["receivedTimeGMT"])
        assert (revenue is None) == (expect is None) and (expect is None or float(revenue) == float(expect))
        checked += 1
    assert checked == len(truth)
