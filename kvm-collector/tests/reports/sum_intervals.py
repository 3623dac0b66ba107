"""Sums the intervals of reports in a folder with DuckDB and pandas, and prints the sums as JSON."""

import json
import os
import sys

import duckdb
import pandas

os.chdir(sys.argv[1])


def query(sql):
    return [int(value) for value in duckdb.sql(sql).fetchall()[0]]


def sums(values):
    return dict(zip(["exits", "total_ns", "events"], [int(value) for value in values]))


def intervals(name, key):
    with open(name) as lines:
        reports = [json.loads(line) for line in lines]
    reports = [report for report in reports if report["period"] == "interval"]
    return pandas.json_normalize(reports, record_path=key)


exits = pandas.read_csv("exits.csv", parse_dates=["start"])
stat = pandas.read_csv("stat.csv", parse_dates=["start"])
json_exits, json_stat = intervals("exits.jsonl", "rows"), intervals("stat.jsonl", "events")
types = dict(duckdb.sql("select column_name, column_type from (describe from 'exits.csv')").fetchall())
rows = "(select unnest({}, recursive := true) from read_json('{}') where period = 'interval')"
print(
    json.dumps(
        {
            "duckdb_csv": sums(
                query("select sum(count), sum(total_ns) from 'exits.csv'")
                + query("select sum(count) from 'stat.csv'")
            ),
            "pandas_csv": sums([exits["count"].sum(), exits["total_ns"].sum(), stat["count"].sum()]),
            "duckdb_json": sums(
                query("select sum(count), sum(total_ns) from " + rows.format("rows", "exits.jsonl"))
                + query("select sum(count) from " + rows.format("events", "stat.jsonl"))
            ),
            "pandas_json": sums(
                [json_exits["count"].sum(), json_exits["total_ns"].sum(), json_stat["count"].sum()]
            ),
            "types": {
                column: [types[column], str(exits[column].dtype)]
                for column in ["count", "total_ns", "elapsed_ns", "pid", "start"]
            },
        }
    )
)
