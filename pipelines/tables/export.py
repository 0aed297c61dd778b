"""`steer tables RUN... --to duckdb|iceberg|parquet --out PATH`: the tables of many runs in one place.

Invariant: after an export each row of each given run is in PATH once, also if it was there before. Other runs that PATH
holds stay as they are.
"""

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from pyarrow import fs

from pipelines.tables.runs import TABLES, ExportedRun
from steer.config.load import SettingsError, refusals_as_settings_errors
from steer.storage.filesystem import open_filesystem
from steer.storage.run_folder import READINGS

DEEPEST = 3
"""Folders between a RUN argument and the runs inside of it: a mistyped `/` is not searched as a whole."""
_PACKAGES = {"duckdb": ("duckdb", "duckdb"), "iceberg": ("pyiceberg", "pyiceberg[sql-sqlite]")}
"""Of a target the module that it needs, and what to install."""


class Target(Protocol):
    """Where runs are written."""

    def replace(self, run: ExportedRun) -> dict[str, int]:
        """Write a run's rows in the place of those that are there. Returns the number of rows of each table.

        May be called again for the same run. Raises what `ExportedRun.pieces` raises."""

    def close(self) -> None: ...


def export(runs: Sequence[str], to: str, out: str | Path, partition_by: Sequence[str] = ()) -> str:
    """Write the tables of runs, or of all runs in a folder of them. Returns the text to print.

    `to`: `duckdb`, `iceberg` or `parquet`. `partition_by`: columns of `command.PARTITIONS`. Raises SettingsError for a
    folder without a run, for two folders of one run, for a package that is not installed, and for an `out` that holds
    something else.
    """
    with refusals_as_settings_errors():
        found = [ExportedRun(folder) for folder in _folders(runs)]
        _refuse_twins(found)
        target = _target(to, str(out), tuple(partition_by))
    counts = dict.fromkeys(TABLES, 0)
    try:
        for run in found:
            for table, rows in _replaced(target, run).items():
                counts[table] += rows
    finally:
        target.close()
    written = ", ".join(f"{table} {rows:,}" for table, rows in counts.items())
    return f"{out}: {len(found)} run{'s' * (len(found) > 1)}; rows written: {written}"


def _replaced(target: Target, run: ExportedRun) -> dict[str, int]:
    for _ in range(READINGS - 1):
        try:
            return target.replace(run)
        except FileNotFoundError:
            continue  # Parts of a run that goes on were merged while they were read.
    return target.replace(run)


def _folders(runs: Sequence[str]) -> list[str]:
    """The folders of all runs that are named or lie in a named folder, each once, in the order in which they are
    named. Raises FileNotFoundError for a folder without a run."""
    found: dict[str, None] = {}
    for given in runs:
        files, path, root = open_filesystem(given)
        inside = list(_searched(files, path, DEEPEST))
        if not inside:
            raise FileNotFoundError(
                f"{given} holds no run.json, nor does a folder in it: give the --out folder of a run"
            )
        found |= dict.fromkeys(root.rstrip("/") + run.removeprefix(path.rstrip("/")) for run in inside)
    return list(found)


def _searched(files: fs.FileSystem, path: str, deep: int) -> Iterator[str]:
    if files.get_file_info(f"{path.rstrip('/')}/run.json").type == fs.FileType.File:
        yield path
    elif deep:
        for info in sorted(files.get_file_info(fs.FileSelector(path)), key=lambda info: info.path):
            if info.type == fs.FileType.Directory:
                yield from _searched(files, info.path, deep - 1)


def _refuse_twins(runs: Sequence[ExportedRun]) -> None:
    """Raise ValueError for two folders of one run: its rows would be counted twice."""
    known: dict[str, str] = {}
    for run in runs:
        other = known.setdefault(run.id, run.folder)
        if other != run.folder:
            raise ValueError(f"{run.folder} is a copy of {other}: both are run {run.id}; give one of them")


def _target(to: str, out: str, partition_by: tuple[str, ...]) -> Target:
    if to in _PACKAGES:
        module, install = _PACKAGES[to]
        try:
            importlib.import_module(module)
        except ImportError:
            raise SettingsError(f"--to {to} needs a package that is not installed: pip install '{install}'") from None
        if "://" in out:
            raise ValueError(f"{out}: --to {to} writes to a local path; --to parquet takes URLs")
    if to == "duckdb":
        from pipelines.tables.duckdb_file import DuckDBFile

        if partition_by:
            raise ValueError("--partition-by is of --to parquet and --to iceberg: a DuckDB file has no partitions")
        return DuckDBFile(Path(out))
    if to == "iceberg":
        from pipelines.tables.iceberg import IcebergCatalog

        return IcebergCatalog(Path(out), partition_by)
    from pipelines.tables.parquet import ParquetFolder

    return ParquetFolder(out, partition_by)
