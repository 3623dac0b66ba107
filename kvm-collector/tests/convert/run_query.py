"""Runs a DuckDB query, and prints the rows as JSON."""

import json
import sys

import duckdb

print(json.dumps(duckdb.sql(sys.argv[1]).fetchall(), default=str))
