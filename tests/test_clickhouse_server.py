"""The ClickHouse server of the tests does what a real one does."""

import io
import urllib.error
import urllib.request

import pyarrow
import pyarrow.parquet
import pytest

from clickhouse_events import server  # noqa: F401


@pytest.fixture
def table(server):
    server.forget()
    settings = "SETTINGS non_replicated_deduplication_window = 100"
    server.sql(
        "CREATE OR REPLACE TABLE t (id UInt64, s String, CONSTRAINT small CHECK id < 1000) "
        f"ENGINE = MergeTree ORDER BY id {settings}"
    )
    return "t"


def parquet(**columns):
    body = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), body)
    return body.getvalue()


def insert(server, body, format_name="Parquet", into="t (id, s)", **settings):
    settings = "".join(f"&{name}={value}" for name, value in settings.items())
    query = urllib.request.quote(f"INSERT INTO {into} FORMAT {format_name}")
    return server.request("POST", f"/?query={query}{settings}", body)


def test_clients_read_and_write(server, table):
    with server.client() as client:
        client.insert("t", [[1, "a"], [2, "b"]], column_names=["id", "s"])
        client.insert_arrow("t", pyarrow.table({"id": [3], "s": ["c"]}))
        assert client.query("SELECT id, s FROM t ORDER BY id").result_rows == [(1, "a"), (2, "b"), (3, "c")]
    insert(server, b'{"id": 4, "s": "d"}\n', "JSONEachRow")
    assert server.value("SELECT count() FROM t") == "4"
    for compress in ("lz4", "zstd", "gzip", False):
        server.sql("CREATE OR REPLACE TABLE many (id UInt64) ENGINE = MergeTree ORDER BY id")
        with server.client(compress=compress) as client:
            # More rows than it puts into one block.
            client.insert("many", [[n] for n in range(50_000)], column_names=["id"])
            assert client.query("SELECT uniqExact(id) FROM many").result_rows == [(50_000,)], compress


def test_a_token_is_taken_once_also_after_a_kill(server, table):
    for _ in range(2):
        insert(server, parquet(id=[1, 2], s=["a", "b"]), insert_deduplication_token="one")
    server.kill()
    server.start()
    insert(server, parquet(id=[1, 2], s=["a", "b"]), insert_deduplication_token="one")
    assert server.value("SELECT count() FROM t") == "2"
    into = "t (id, s) SELECT id, s FROM input('id Int64, s String') WHERE id != 2"
    for _ in range(2):
        insert(server, parquet(id=[1, 2, 3], s=["a", "b", "c"]), into=into, insert_deduplication_token="two")
    assert server.value("SELECT count() FROM t") == "4"


def test_errors_store_nothing(server, table):
    for body, format_name, code in (
        (parquet(id=[1, 2000], s=["a", "b"]), "Parquet", 469),
        (b'{"id": 1, "s": "a"}\n{"id": "x"}\n', "JSONEachRow", 27),
        (b'{"id": 1, "zz": "a"}\n', "JSONEachRow", 117),
    ):
        with pytest.raises(RuntimeError, match=f"^Code: {code}. DB::Exception: (?!Code:)"):
            insert(server, body, format_name, input_format_skip_unknown_fields=0)
    with pytest.raises(RuntimeError, match="Code: 115"):
        insert(server, b"", nonsense=1)
    with pytest.raises(RuntimeError, match="Code: 60"):
        server.sql("SELECT 1 FROM nowhere")
    assert server.value("SELECT count() FROM t") == "0"
    request = urllib.request.Request(server.url + "/?query=SELECT+1", headers={"X-ClickHouse-User": "nobody"})
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, timeout=10)
    assert (refusal.value.code, refusal.value.headers["X-ClickHouse-Exception-Code"]) == (403, "516")


@pytest.mark.parametrize(
    ("kind", "settings", "stored"),
    [
        ("error", {"code": 241}, 0), ("error_after", {"code": 319}, 1), ("status", {"status": 502}, 0),
        ("drop_before", {}, 0), ("drop_after", {}, 1),
    ],
)
def test_faults(server, table, kind, settings, stored):
    server.fault(kind, **settings)
    with pytest.raises((RuntimeError, OSError)):
        insert(server, parquet(id=[1], s=["a"]))
    assert server.value("SELECT count() FROM t") == str(stored)
    insert(server, parquet(id=[2], s=["a"]))
    assert server.value("SELECT count() FROM t") == str(stored + 1)


def test_an_error_in_a_good_reply(server, table):
    server.fault("late", code=241)
    assert b"__exception__\r\n" in insert(server, parquet(id=[1], s=["a"]))
    assert server.value("SELECT count() FROM t") == "0"


def test_sessions_keep_temporary_tables(server, table):
    server.sql("CREATE TEMPORARY TABLE c AS t ENGINE = Null", session_id="s1")
    insert(server, parquet(id=[1], s=["a"]), into="c (id, s)", session_id="s1")
    with pytest.raises(RuntimeError, match="Code: 469"):
        insert(server, parquet(id=[1000], s=["a"]), into="c (id, s)", session_id="s1")
    with pytest.raises(RuntimeError, match="Code: 60"):
        insert(server, parquet(id=[1], s=["a"]), into="c (id, s)")
