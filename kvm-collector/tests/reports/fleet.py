"""Runs the queries of docs/fleet.md on a folder with Parquet files, in each engine. Prints the rows as JSON.

The arguments are the folder, the document, and the name of the engine.
"""

import datetime
import decimal
import json
import re
import sys

folder, document, engine = sys.argv[1:]
with open(document) as text:
    document = text.read()
queries = re.findall(r"### (.*?)\n.*?```sql\n(.*?)```", document, re.S)
files = f"{folder}/**/exits-*.parquet"


def duckdb_rows():
    import duckdb

    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    connection.execute(f"create view exits as select * from read_parquet('{files}', hive_partitioning = true)")
    return lambda sql: connection.execute(sql).fetchall()


def chdb_rows():
    from chdb import session

    connection = session.Session()
    connection.query(
        f"create view exits as select * from file('{files}') settings use_hive_partitioning = 1"
    )

    def rows(sql):
        answer = connection.query(sql, "JSONCompact").bytes().decode()
        return json.loads(answer)["data"]

    return rows


def spark_rows():
    import logging
    import os

    os.environ.setdefault("TZ", "UTC")
    from pyspark.sql import SparkSession
    from pyspark.sql.functions import expr

    logging.disable(logging.WARNING)
    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.sql.session.timeZone", "UTC").config("spark.sql.shuffle.partitions", "2")
    spark = builder.config("spark.log.level", "ERROR").getOrCreate()
    spark.conf.set("spark.sql.legacy.parquet.nanosAsLong", True)
    table = spark.read.parquet(folder).withColumn("time", expr("timestamp_micros(time div 1000)"))
    table.createOrReplaceTempView("exits")
    return lambda sql: [tuple(row) for row in spark.sql(sql).collect()]


def plain(value):
    """Converts a value to text that is the same in all engines."""
    if isinstance(value, datetime.datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.0+)?", value):
        return value.split(".")[0]
    if isinstance(value, (int, float, decimal.Decimal)) or (
        isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value)
    ):
        # Quotients are integers in some engines.
        return str(int(float(value)) if abs(float(value)) < 2**53 else int(value))
    return str(value)


run = {"duckdb": duckdb_rows, "chdb": chdb_rows, "spark": spark_rows}[engine]()
print(
    json.dumps(
        {question: [[plain(cell) for cell in row] for row in run(sql)] for question, sql in queries}
    )
)
