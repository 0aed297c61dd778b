"""Runs in a DuckDB file, a table for each table of a run.

Invariant: a run is replaced in one transaction. A reader sees it as it was or as it is, never half.
"""

from pathlib import Path

import duckdb
import pyarrow as pa

from pipelines.tables.runs import TABLES, ExportedRun


class DuckDBFile:
    def __init__(self, path: Path):
        """Open or make the file. Raises ValueError if it holds something else, or another process has it open."""
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = duckdb.connect(str(path))
        except duckdb.Error as error:
            said = " ".join(str(error).split())
            raise ValueError(f"{path} cannot be opened as a DuckDB file: {said}; give another --out") from error

    def close(self) -> None:
        self._db.close()

    def replace(self, run: ExportedRun) -> dict[str, int]:
        counts = dict.fromkeys(TABLES, 0)
        self._db.execute("begin")
        try:
            for table, schema in TABLES.items():
                self._lay_out(table, schema)
                self._db.execute(f'delete from "{table}" where run_id = ?', [run.id])
                for piece in run.pieces(table):
                    self._with_rows(piece, f'insert into "{table}" by name select * from piece')
                    counts[table] += piece.num_rows
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")
        return counts

    def _lay_out(self, table: str, schema: pa.Schema) -> None:
        """Make the table, or give it the columns that it lacks: an earlier version may have made it."""
        empty = schema.empty_table()
        self._with_rows(empty, f'create table if not exists "{table}" as select * from piece')
        held = {name for name, *_ in self._db.execute(f'describe "{table}"').fetchall()}
        if set(schema.names) <= held:
            return
        self._db.register("piece", empty)
        wanted = self._db.execute("describe piece").fetchall()
        self._db.unregister("piece")
        for name, kind, *_ in wanted:
            if name not in held:
                self._db.execute(f'alter table "{table}" add column "{name}" {kind}')

    def _with_rows(self, piece: pa.Table, sql: str) -> None:
        self._db.register("piece", piece)
        try:
            self._db.execute(sql)
        finally:
            self._db.unregister("piece")
