"""What is exported of a run: its tables with the columns of their cells, its questions, and a row about itself.

Invariant: each row of a run is there once, as `RunFolder` reads it, whatever version wrote it.
"""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import pyarrow as pa

from pipelines.report.frames import rows_of
from steer.storage.columns import model_names, run_id
from steer.storage.one_cell import from_one_cell
from steer.storage.parts import joined
from steer.storage.questions import with_all_columns
from steer.storage.run_folder import RunFolder
from steer.storage.schemas import RUN_FIELDS, SCHEMAS

PIECE_BYTES = 64 * 2**20
"""Rows in memory at a time, and in one file of what is written: parts of a run may have a few kB."""

CELL_FIELDS = pa.schema([(name, pa.string()) for name in ("benchmark", "split", "policy", "setting")])
"""What a cell's name says, as columns behind `cell`. Null where it says nothing: a policy without a threshold."""

QUESTIONS = pa.schema(
    [
        (name, pa.string())
        for name in (
            *("run_id", "benchmark", "question_id", "subset", "difficulty", "grader", "gold", "labels", "prompt"),
            *("system", "error"),
        )
    ]
)
"""The questions of a run, each once, however many cells and samples asked it."""

RUNS = pa.schema(
    [
        RUN_FIELDS.field("run_id"),
        ("kind", pa.string()),
        ("folder", pa.string()),
        RUN_FIELDS.field("started_at"),
        pa.field("finished_at", RUN_FIELDS.field("started_at").type),
        ("seconds", pa.float64()),
        ("host", pa.string()),
        ("git_commit", pa.string()),
        RUN_FIELDS.field("model_small"),
        RUN_FIELDS.field("model_large"),
        ("seeds", pa.list_(pa.int64())),
        ("versions", pa.string()),
        ("config", pa.string()),
    ]
)
"""A row a run. `versions` and `config` are JSON."""


def _with_cell(schema: pa.Schema) -> pa.Schema:
    """A table's schema with the id of the run in front, and `CELL_FIELDS` behind the cell."""
    fields = list(schema)
    if "run_id" not in schema.names:
        fields.insert(0, RUN_FIELDS.field("run_id"))
    if "cell" in schema.names:
        at = [field.name for field in fields].index("cell") + 1
        fields[at:at] = [field for field in CELL_FIELDS if field.name not in schema.names]
    return pa.schema(fields)


TABLES = {**{name: _with_cell(schema) for name, schema in SCHEMAS.items()}, "questions": QUESTIONS, "runs": RUNS}
"""Schema of each exported table."""


class ExportedRun:
    """One run as it is exported."""

    def __init__(self, folder: str):
        """Raises FileNotFoundError if the folder holds no run."""
        self._run = RunFolder.open(folder)
        self.folder = self._run.root
        self._described = self._run.describe()
        self.id = run_id(self._described)
        self._cells = rows_of(self._described)

    def pieces(self, table: str) -> Iterator[pa.Table]:
        """The rows of an exported table, in pieces of about `PIECE_BYTES`, none of them empty.

        Raises FileNotFoundError if parts of it were merged meanwhile. Then the run is to be read again.
        """
        schema = TABLES[table]
        yield from joined((rows.select(schema.names).cast(schema) for rows in self._rows(table)), PIECE_BYTES)

    def _rows(self, table: str) -> Iterator[pa.Table]:
        if table == "runs":
            yield self._about()
        elif table == "questions":
            yield from self._questions()
        else:
            yield from map(self._named, self._run.stream(table))

    def _named(self, rows: pa.Table) -> pa.Table:
        """The rows with the columns that a run's own tables do not have."""
        if "run_id" not in rows.column_names:
            rows = rows.append_column(RUN_FIELDS.field("run_id"), pa.repeat(self.id, rows.num_rows))
        if "cell" not in rows.column_names:
            return rows
        cells = rows["cell"].combine_chunks().dictionary_encode()
        known = [self._cells.get(name) for name in cells.dictionary.to_pylist()]
        for field in CELL_FIELDS:
            if field.name not in rows.column_names:
                values = pa.array([getattr(row, field.name) or None if row else None for row in known], pa.string())
                rows = rows.append_column(field, values.take(cells.indices))
        return rows

    def _questions(self) -> Iterator[pa.Table]:
        seen: set[tuple[str, str]] = set()
        for part, cells in _by_part(self._described["cells"]).items():
            for group in self._run.read_groups(part, cells):
                asked = with_all_columns(from_one_cell(group["questions"]))
                new = []
                for key in zip(asked["benchmark"].to_pylist(), asked["id"].to_pylist(), strict=True):
                    new.append(key not in seen)
                    seen.add(key)
                rows = asked.filter(pa.array(new, pa.bool_()))
                rows = rows.rename_columns(["question_id" if name == "id" else name for name in rows.column_names])
                yield rows.append_column(QUESTIONS.field("run_id"), pa.array([self.id] * rows.num_rows, pa.string()))

    def _about(self) -> pa.Table:
        said = self._described
        row = {
            "run_id": self.id,
            "folder": self.folder,
            "started_at": datetime.fromisoformat(said["started"]),
            "finished_at": datetime.fromisoformat(said["finished"]) if said.get("finished") else None,
            **{key: said.get(key) for key in ("kind", "seconds", "host", "git_commit", "seeds")},
            **model_names(said),
            **{key: json.dumps(said.get(key), ensure_ascii=False) for key in ("versions", "config")},
        }
        return pa.Table.from_pylist([row], RUNS)


def _by_part(cells: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    """Names of the cells by the part of `questions/` that holds their groups."""
    parts: dict[str, list[str]] = {}
    for cell in cells:
        if "part" in cell:
            parts.setdefault(cell["part"], []).append(cell["name"])
    return parts
