"""The peers of the decode benchmark, each with its best honest settings.

Every peer gets the explicit schema (we infer ours), one thread, zstd level 1,
and reads NDJSON into hourly hive partitions. Each may keep the event time as
text and cut the hour out of it, which is right only because these events are
all in UTC (variant `text`), or parse it into a timestamp (variant `parsed`);
the faster variant counts. Run as a program it does one such run and prints its
own CPU-seconds, with its imports already paid for.
"""

import os
import resource
import sys

TEXT, INTEGER, FLOAT, BOOLEAN, TIME = "text", "integer", "float", "boolean", "time"

EVALUATION = {
    "timestamp": TIME,
    "flag_key": TEXT,
    "evaluation_context": {"key": TEXT, "kind": TEXT, "name": TEXT, "tier": TEXT},
    "flag_value": TEXT,
    "variation_index": INTEGER,
    "reason_kind": TEXT,
    "metadata": {"source": TEXT, "version": TEXT},
}
LESSON = {
    "event_uuid": TEXT, "event_name": TEXT, "created_at": FLOAT, "user_id": INTEGER, "device": TEXT,
    "app_version": TEXT, "order_id": INTEGER, "plan": TEXT, "amount": FLOAT, "currency": TEXT,
    "lesson_id": INTEGER, "language": TEXT, "level": TEXT, "duration_s": FLOAT, "score": INTEGER,
    "signup_source": TEXT,
}
ANALYTICS_INTEGERS = {"amplitude_id", "app", "event_id", "session_id"}
ANALYTICS_TIMES = {
    "client_event_time", "client_upload_time", "event_time", "processed_time", "server_received_time",
    "server_upload_time", "user_creation_time",
}
ANALYTICS_NAMES = """$insert_id $insert_key $schema adid amplitude_attribution_ids amplitude_event_type amplitude_id
app city client_event_time client_upload_time country data_type device_brand device_carrier device_family device_id
device_manufacturer device_model device_type dma event_id event_properties event_time event_type
global_user_properties group_properties groups idfa ip_address is_attribution_event language library location_lat
location_lng os_name os_version partner_id paying plan platform processed_time region sample_rate
server_received_time server_upload_time session_id source_id start_version user_creation_time user_id
user_properties uuid version_name""".split()


def analytics_type(name):
    if name == "event_properties":
        return {
            "screen": TEXT, "button": TEXT, "position": INTEGER, "lesson_id": INTEGER, "correct": BOOLEAN,
            "elapsed_ms": INTEGER, "query": TEXT, "offer": TEXT, "price": FLOAT,
        }
    if name == "user_properties":
        return {
            "tier": TEXT, "streak": INTEGER, "course": TEXT, "experiment": TEXT, "initial_referrer": TEXT,
            "notifications": BOOLEAN, "utm_campaign": TEXT,
        }
    if name in ANALYTICS_INTEGERS:
        return INTEGER
    if name in ANALYTICS_TIMES:
        return TIME
    return BOOLEAN if name in ("is_attribution_event", "paying") else TEXT


SCHEMAS = {
    "evaluation": EVALUATION,
    "lesson": LESSON,
    "analytics": {name: analytics_type(name) for name in ANALYTICS_NAMES},
}
TIME_COLUMNS = {"evaluation": "timestamp", "lesson": "created_at", "analytics": "event_time"}
# Where the parts of the hour lie in the text, counted from 0: begin, length.
PARTS = {"year": (0, 4), "month": (5, 2), "day": (8, 2), "hour": (11, 2)}


def variants(kind):
    return ["parsed"] if kind == "lesson" else ["text", "parsed"]


def typed(kind, variant):
    """The schema, with its times as text or as times."""
    schema = SCHEMAS[kind]
    if variant == "parsed":
        return schema
    return {name: TEXT if of == TIME else of for name, of in schema.items()}


def sql_type(of, names, struct):
    if isinstance(of, dict):
        return struct(", ".join(f'"{name}" {sql_type(inner, names, struct)}' for name, inner in of.items()))
    return names[of]


# DuckDB

DUCK_TYPES = {TEXT: "VARCHAR", INTEGER: "BIGINT", FLOAT: "DOUBLE", BOOLEAN: "BOOLEAN", TIME: "TIMESTAMP"}


def duck_columns(schema):
    struct = "STRUCT({})".format
    return "{" + ", ".join(f"'{name}': '{sql_type(of, DUCK_TYPES, struct)}'" for name, of in schema.items()) + "}"


def duckdb_import():
    import duckdb

    return duckdb.connect()


def duckdb_run(connection, kind, variant, file, out):
    connection.execute("SET threads = 1; SET preserve_insertion_order = false")
    column = TIME_COLUMNS[kind]
    if variant == "text":
        parts = [f"substring({column}, {begin + 1}, {length}) AS {part}" for part, (begin, length) in PARTS.items()]
        time = column
    else:
        time = f"make_timestamp(CAST({column} * 1000000 AS BIGINT))" if kind == "lesson" else column
        parts = [f"{part}(event_at) AS {part}" for part in PARTS]
    source = f"read_json('{file}', format = 'newline_delimited', columns = {duck_columns(typed(kind, variant))})"
    inner = source if variant == "text" else f"(SELECT *, {time} AS event_at FROM {source})"
    exclude = "*" if variant == "text" else "* EXCLUDE (event_at)"
    connection.execute(
        f"COPY (SELECT {exclude}, {', '.join(parts)} FROM {inner}) TO '{out}' "
        "(FORMAT parquet, PARTITION_BY (year, month, day, hour), COMPRESSION zstd, COMPRESSION_LEVEL 1)"
    )


# Polars


def polars_import():
    os.environ["POLARS_MAX_THREADS"] = "1"
    import polars

    return polars


def polars_type(pl, of):
    if isinstance(of, dict):
        return pl.Struct({name: polars_type(pl, inner) for name, inner in of.items()})
    # Its JSON reader does not parse times: they are text first.
    return {TEXT: pl.String, INTEGER: pl.Int64, FLOAT: pl.Float64, BOOLEAN: pl.Boolean, TIME: pl.String}[of]


def polars_run(pl, kind, variant, file, out):
    schema = typed(kind, variant)
    column = TIME_COLUMNS[kind]
    frame = pl.scan_ndjson(file, schema={name: polars_type(pl, of) for name, of in schema.items()})
    if variant == "text":
        parts = {part: pl.col(column).str.slice(*place) for part, place in PARTS.items()}
    else:
        pattern = "%Y-%m-%dT%H:%M:%S%.6f+00:00" if kind == "evaluation" else "%Y-%m-%d %H:%M:%S%.6f"
        frame = frame.with_columns(
            pl.col(name).str.to_datetime(pattern, time_unit="us") for name, of in schema.items() if of == TIME
        )
        time = pl.col(column)
        if kind == "lesson":
            time = (time * 1_000_000).cast(pl.Int64).cast(pl.Datetime("us"))
        parts = {part: getattr(time.dt, part)() for part in PARTS}
    target = pl.PartitionBy(out, key=list(PARTS), include_key=False)
    frame.with_columns(**parts).sink_parquet(target, compression="zstd", compression_level=1, mkdir=True)


# ClickHouse's engine

CLICKHOUSE_TYPES = {
    TEXT: "Nullable(String)", INTEGER: "Nullable(Int64)", FLOAT: "Nullable(Float64)", BOOLEAN: "Nullable(Bool)",
    TIME: "DateTime64(6, 'UTC')",
}
CLICKHOUSE_SETTINGS = {
    "max_threads": 1,
    "max_insert_threads": 1,
    "max_parsing_threads": 1,
    "input_format_parallel_parsing": 0,
    "output_format_parallel_formatting": 0,
    "output_format_parquet_parallel_encoding": 0,
    "output_format_parquet_compression_method": "'zstd'",
    "output_format_compression_level": 1,
    "date_time_input_format": "'best_effort'",
    "max_partitions_per_insert_block": 10_000,
    "max_insert_block_size": 1_048_576,
    "input_format_null_as_default": 1,
    "engine_file_truncate_on_insert": 1,
}


def chdb_import():
    from chdb import session

    return session


def chdb_run(session, kind, variant, file, out):
    schema = typed(kind, variant)
    column = TIME_COLUMNS[kind]
    structure = ", ".join(
        f"`{name}` {sql_type(of, CLICKHOUSE_TYPES, 'Tuple({})'.format)}" for name, of in schema.items()
    )
    if variant == "text":
        cut = [f"'{part}=', substring(assumeNotNull({column}), {b + 1}, {n})" for part, (b, n) in PARTS.items()]
        partition = "concat(" + ", '_', ".join(cut) + ")"
    else:
        time = f"toDateTime(toInt64(assumeNotNull({column})), 'UTC')" if kind == "lesson" else column
        partition = f"formatDateTime({time}, 'year=%Y_month=%m_day=%d_hour=%H')"
    os.makedirs(out, exist_ok=True)
    quoted = structure.replace("'", "\\'")
    settings = ", ".join(f"{name} = {value}" for name, value in CLICKHOUSE_SETTINGS.items())
    connection = session.Session(os.path.join(out, "..", "chdb-" + os.path.basename(out)))
    connection.query(
        f"INSERT INTO FUNCTION file('{out}/{{_partition_id}}.parquet', 'Parquet', '{quoted}') "
        f"PARTITION BY {partition} SELECT * FROM file('{file}', 'JSONEachRow', '{quoted}') SETTINGS {settings}"
    )
    connection.close()


# pyarrow


def pyarrow_import():
    import pyarrow
    import pyarrow.compute
    import pyarrow.dataset
    import pyarrow.json

    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)
    return pyarrow


def arrow_type(pa, of):
    if isinstance(of, dict):
        return pa.struct([(name, arrow_type(pa, inner)) for name, inner in of.items()])
    return {TEXT: pa.string(), INTEGER: pa.int64(), FLOAT: pa.float64(), BOOLEAN: pa.bool_(), TIME: pa.timestamp("us")}[of]


def pyarrow_run(pa, kind, variant, file, out):
    pc = pa.compute
    column = TIME_COLUMNS[kind]
    # Its reader parses no offset such as +00:00: that column is text first.
    schema = dict(typed(kind, variant))
    if kind == "evaluation":
        schema[column] = TEXT
    table = pa.json.read_json(
        file,
        read_options=pa.json.ReadOptions(use_threads=False, block_size=4 << 20),
        parse_options=pa.json.ParseOptions(
            explicit_schema=pa.schema([(name, arrow_type(pa, of)) for name, of in schema.items()]),
        ),
    )
    time = table[column]
    if variant == "text":
        parts = {part: pc.utf8_slice_codeunits(time, b, b + n) for part, (b, n) in PARTS.items()}
    else:
        if kind == "lesson":
            time = pc.cast(pc.cast(pc.multiply(time, 1e6), pa.int64(), safe=False), pa.timestamp("us"))
        elif kind == "evaluation":
            time = pc.cast(pc.utf8_slice_codeunits(time, 0, 26), pa.timestamp("us"))
            table = table.set_column(table.schema.get_field_index(column), column, time)
        parts = {part: getattr(pc, part)(time) for part in PARTS}
    for part, values in parts.items():
        table = table.append_column(part, values)
    parquet = pa.dataset.ParquetFileFormat()
    pa.dataset.write_dataset(
        table,
        out,
        format=parquet,
        file_options=parquet.make_write_options(compression="zstd", compression_level=1),
        partitioning=pa.dataset.partitioning(
            pa.schema([table.schema.field(part) for part in PARTS]), flavor="hive"
        ),
        use_threads=False,
        max_partitions=10_000,
        existing_data_behavior="overwrite_or_ignore",
    )


PEERS = {
    "DuckDB": (duckdb_import, duckdb_run),
    "Polars": (polars_import, polars_run),
    "ClickHouse": (chdb_import, chdb_run),
    "pyarrow": (pyarrow_import, pyarrow_run),
}


def main(peer, kind, variant, file, out):
    importer, run = PEERS[peer]
    library = importer()
    before = resource.getrusage(resource.RUSAGE_SELF)
    run(library, kind, variant, file, out)
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


if __name__ == "__main__":
    main(*sys.argv[1:])
