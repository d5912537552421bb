"""Runs in Spark's own environment: statements from standard input, then the rows of a query as JSON."""

import json
import sys

from pyspark.sql import SparkSession

asked = json.load(sys.stdin)
spark = (
    SparkSession.builder.master("local[1]").appName("lakeward")
    .config("spark.ui.enabled", "false").config("spark.sql.session.timeZone", "UTC")
    .config("spark.sql.warehouse.dir", asked["warehouse"]).config("spark.driver.host", "127.0.0.1")
    .config("spark.driver.bindAddress", "127.0.0.1").config("spark.sql.shuffle.partitions", "1")
    .getOrCreate()
)
answers = {}
for name, one in asked["tables"].items():
    for statement in one["statements"]:
        spark.sql(statement)
    answers[name] = [[None if value is None else str(value) for value in row] for row in spark.sql(one["query"]).collect()]
print(json.dumps(answers))
spark.stop()
