"""Aggregates of the Kinesis Producer Library: one record of Kinesis, several records of ours."""

import collections
import json

import aws_kinesis_agg.aggregator
import lake
from service import Service, config, pipeline
from test_system_b_kinesis import kinesis_client

STREAM = "aggregated"


def test_aggregates_are_taken_apart_on_their_way_to_the_lake(tmp_path):
    made = {
        **pipeline("events", {"type": "lake", "url": str(tmp_path / "lake")}, {"age": "200ms"}, error_path="errors/"),
        "stream": STREAM,
    }
    broken = {**made, "name": "strict", "sql": "SELECT * FROM input WHERE CAST(n AS BIGINT) >= 0",
              "destination": {"type": "lake", "url": str(tmp_path / "strict")}}
    file = config(tmp_path, [made, broken], streams=[{"name": STREAM, "shards": 2}])
    puts = []
    with Service.run(file) as service:
        client = kinesis_client(service.url)

        def put(record):
            if record is not None:
                partition_key, _, data = record.get_contents()
                client.put_record(StreamName=STREAM, PartitionKey=partition_key, Data=data)
                puts.append(data)

        aggregator = aws_kinesis_agg.aggregator.RecordAggregator(max_size=20_000)
        for n in range(3_000):
            put(aggregator.add_user_record(f"key-{n}", json.dumps({"n": n})))
        put(aggregator.clear_and_get())
        # One whose second record is no event: it waits in quarantine as a whole.
        aggregator.add_user_record("k", json.dumps({"n": 9_001}))
        aggregator.add_user_record("k", "no JSON")
        put(aggregator.clear_and_get())
        client.put_record(StreamName=STREAM, PartitionKey="plain", Data=b'{"n": 3000}')
        status = {one["pipeline"]: one for one in service.wait_until_delivered()}
        service.audit()
        assert len(puts) > 3, "there is more than one aggregate"
        for name in ("events", "strict"):
            assert status[name]["received"] == len(puts) + 1
            assert (status[name]["rows"], status[name]["quarantined"]) == (3_001, 1), name
    found = collections.Counter(n for (n,) in lake.rows(tmp_path / "lake", "SELECT n FROM {lake}"))
    assert found == dict.fromkeys(range(3_001), 1)
