"""Reading a lake back with DuckDB, which knows nothing of Lakeward."""

import pathlib

import duckdb


def files(folder, suffix=".parquet"):
    return sorted(path for path in pathlib.Path(folder).rglob(f"*{suffix}") if path.is_file())


def rows(folder, select):
    """The rows that `select` (with `{lake}` for the table) gives over all Parquet files below `folder`."""
    found = [str(path) for path in files(folder)]
    if not found:
        return []
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    table = f"read_parquet({found!r}, union_by_name = true, hive_partitioning = true)"
    return connection.execute(select.format(lake=table)).fetchall()


def fetch(s3, prefix, folder):
    """Copies everything below `prefix` of the bucket into `folder`."""
    client = s3.client()
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=s3.bucket, Prefix=prefix):
        for entry in page.get("Contents", []):
            path = folder / entry["Key"].removeprefix(prefix).lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(client.get_object(Bucket=s3.bucket, Key=entry["Key"])["Body"].read())
    return folder
