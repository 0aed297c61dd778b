"""The command `steer tables`, with its options.

Invariant: nothing heavy is imported before the arguments are parsed.
"""

import argparse
from typing import Any

TARGETS = ("duckdb", "iceberg", "parquet")
PARTITIONS = ("run_id", "benchmark", "split", "policy", "setting", "cell", "model_small", "model_large")
"""Columns by which tables may be partitioned: those that hold few values."""


def add_command(commands: Any) -> None:
    """Add it to a parser's subcommands."""
    tables = commands.add_parser("tables", help="the tables of many runs in one place: DuckDB, Iceberg or Parquet")
    tables.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, or a folder of such folders")
    tables.add_argument("--to", required=True, choices=TARGETS, help="what is written")
    tables.add_argument(
        "--out", required=True, metavar="PATH", help="a DuckDB file, or a folder; runs that it holds are replaced"
    )
    tables.add_argument(
        "--partition-by",
        type=_columns,
        default=(),
        metavar="COLUMN,COLUMN",
        help=f"iceberg, parquet: partitions (Hive's, of parquet), by some of {', '.join(PARTITIONS)}",
    )
    tables.set_defaults(command=_tables)


def _columns(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in PARTITIONS:
            raise argparse.ArgumentTypeError(f"{name[:30]!r} is none of {', '.join(PARTITIONS)}")
    if len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text} names a column twice")
    return names


def _tables(args: argparse.Namespace) -> None:
    from pipelines.tables.export import export

    print(export(args.runs, args.to, args.out, args.partition_by))
