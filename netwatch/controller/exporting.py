"""Flows as a file for another program: CSV, JSON lines or Parquet, written by DuckDB itself.

The columns are the fields of a search, a dot in their names as an underscore.
"""

from __future__ import annotations

from netwatch.controller.search import FIELDS

FORMATS = {
    "csv": "format csv, header",
    "jsonl": "format json",
    "parquet": "format parquet, compression zstd",
}
_EITHER_END = ("workload", "namespace", "address")
# A spreadsheet takes a cell that starts like this for a formula; names on the wire are hostile.
_FORMULA = r"^[-=+@\t\r]"


def columns(format: str) -> str:
    """The select list over the deltas of one connection."""
    chosen = []
    for name, field in FIELDS.items():
        if name in _EITHER_END:
            continue
        column = field.columns[0]
        value = column if field.whole else f"any_value({column})"
        if field.kind == "number":
            value = f"nullif({value}, -1)"
        elif field.kind == "time":
            value = f"make_timestamp(({value}) // 1000)"
            if format != "parquet":
                value = f"strftime({value}, '%Y-%m-%dT%H:%M:%S.%fZ')"
        elif format == "csv":
            value = f"if(regexp_matches({value}, '{_FORMULA}'), chr(39) || {value}, {value})"
        chosen.append(f'{value} as "{name.replace(".", "_")}"')
    return ", ".join(chosen)
