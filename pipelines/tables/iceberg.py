"""Runs in Iceberg tables, with a catalog of their own in an SQLite file beside them.

Invariant: the rows of a run in one table are replaced in one snapshot.
"""

import warnings
from pathlib import Path

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.expressions import EqualTo
from pyiceberg.table import Table

from pipelines.tables.runs import TABLES, ExportedRun

CATALOG = "catalog.db"
NAMESPACE = "steer"


class IcebergCatalog:
    def __init__(self, out: Path, partition_by: tuple[str, ...]):
        """Open or make catalog and tables in a folder. Raises ValueError for a folder that holds something else, or
        tables with other partitions."""
        root = out.absolute()
        if root.exists() and (not root.is_dir() or (any(root.iterdir()) and not (root / CATALOG).exists())):
            raise ValueError(f"{out} holds something else than an Iceberg catalog of steer tables: give another --out")
        root.mkdir(parents=True, exist_ok=True)
        self._catalog = SqlCatalog(NAMESPACE, uri=f"sqlite:///{root / CATALOG}", warehouse=root.as_uri())
        self._catalog.create_namespace_if_not_exists(NAMESPACE)
        self._tables = {name: self._laid_out(name, schema, partition_by, out) for name, schema in TABLES.items()}

    def close(self) -> None:
        self._catalog.close()

    def replace(self, run: ExportedRun) -> dict[str, int]:
        return {name: self._replace(run, name) for name in TABLES}

    def _laid_out(self, name: str, schema: pa.Schema, partition_by: tuple[str, ...], out: Path) -> Table:
        """The table, with the columns that it lacks: an earlier version may have made it.

        Every table is partitioned by the run at least, so that replacing a run rewrites no file of another one."""
        wanted = ["run_id", *(column for column in partition_by if column in schema.names and column != "run_id")]
        if not self._catalog.table_exists((NAMESPACE, name)):
            table = self._catalog.create_table((NAMESPACE, name), schema)
            with table.update_spec() as spec:
                for column in wanted:
                    spec.add_identity(column)
            return table
        table = self._catalog.load_table((NAMESPACE, name))
        held = [table.schema().find_column_name(field.source_id) for field in table.spec().fields]
        if held != wanted:
            by = ",".join(str(column) for column in held)
            raise ValueError(f"{out} holds tables partitioned by {by}: give the same --partition-by, or another --out")
        with table.update_schema() as update:
            update.union_by_name(schema)
        return table

    def _replace(self, run: ExportedRun, name: str) -> int:
        table, rows = self._tables[name], 0
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Delete operation did not match any records")
            with table.transaction() as snapshot:
                snapshot.delete(EqualTo("run_id", run.id))
                for piece in run.pieces(name):
                    snapshot.append(piece)
                    rows += piece.num_rows
        return rows
