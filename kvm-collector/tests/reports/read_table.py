"""Reads a CSV table of exits with DuckDB and pandas, and prints sums and types as JSON."""

import json
import sys

import duckdb
import pandas

path = sys.argv[1]
# Empty if an exit has no time or no known vCPU.
NULLABLE = ["vcpu", "duration_ns", "kernel_ns", "vmm_ns", "halted_ns", "preempted_ns", "idle_ns"]
NEVER_NULL = ["time_ns", "cpu", "pid", "tid", "reason_code"]

table = pandas.read_csv(path, parse_dates=["time"])
integers = pandas.read_csv(path, parse_dates=["time"], dtype_backend="numpy_nullable")
codes = table["cause_code"].dropna().map(lambda text: int(text, 16))
columns = ", ".join(f"sum({column})" for column in NULLABLE)
by_duckdb = duckdb.sql(f"select count(*), {columns}, sum(cause_code) from '{path}'").fetchall()[0]
types = dict(duckdb.sql(f"select column_name, column_type from (describe from '{path}')").fetchall())
print(
    json.dumps(
        {
            "duckdb": [int(number) for number in by_duckdb],
            "pandas": [len(table)]
            + [int(table[column].sum()) for column in NULLABLE]
            + [sum(codes)],
            "nulls": [int(table[column].isna().sum()) for column in NULLABLE],
            "is_exact": all((table[column].dropna() == integers[column].dropna()).all() for column in NULLABLE),
            "pandas_types": sorted({str(table[column].dtype) for column in NEVER_NULL}),
            "pandas_nullable_types": sorted({str(integers[column].dtype) for column in NULLABLE}),
            "duckdb_types": sorted({types[column] for column in NULLABLE + NEVER_NULL}),
            "times": [str(table["time"].dtype), types["time"]],
        }
    )
)
