"""What one run evaluates: cells, each a policy setting on one benchmark, and the groups its questions are cut into.

Invariant: every row of a cell is in exactly one group; which one depends on the seed and on the cell's trace ids alone.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Literal

import pyarrow as pa

from steer.benchmarks import Row
from steer.config import PolicyConfig, RoutingOptions
from steer.traces import Question

QUESTION_STRUCT = pa.struct(
    [(field.name, pa.int32() if field.name == "sample" else pa.string()) for field in fields(Question)]
    + [("error", pa.string())]
)
"""A question as it lies in `questions/`: the fields of `Question`, and why it cannot be asked."""

GROUPS_SCHEMA = pa.schema([("cell", pa.string()), ("group", pa.string()), ("questions", pa.list_(QUESTION_STRUCT))])
"""One row a group: Ray Data hands the router one row, so that a group is never split over two calls."""


@dataclass(frozen=True)
class Cell:
    """One policy setting on one benchmark with one seed."""

    name: str
    """Unique in the run's folder; column `cell` of every table."""
    policy: PolicyConfig
    routing: RoutingOptions
    rows: tuple[Row, ...]
    tokens: Literal["math", "all"]
    seed: int = 0
    groups: int = 1
    """K of Table 3: equal parts (to one) of the rows, drawn by hash and routed independently."""


def cut_into_groups(cell: Cell) -> list[tuple[Row, ...]]:
    """K random parts, each in the benchmark's order. Raises ValueError if there are fewer rows than groups."""
    if len(cell.rows) < cell.groups:
        raise ValueError(
            f"cell {cell.name}: {len(cell.rows)} traces cannot be cut into {cell.groups} groups: set fewer groups:"
        )
    drawn = sorted(range(len(cell.rows)), key=lambda i: _draw(cell.seed, cell.rows[i].question))
    parts = [sorted(drawn[number :: cell.groups]) for number in range(cell.groups)]
    return [tuple(cell.rows[i] for i in part) for part in parts]


def _draw(seed: int, question: Question) -> tuple[bytes, str]:
    key = f"{seed} {question.trace_id}"
    return hashlib.blake2b(key.encode(), digest_size=8).digest(), key


def groups_table(cells: Iterable[Cell]) -> pa.Table:
    """`GROUPS_SCHEMA`, cells and groups in order. Raises ValueError for two rows of one trace id in a cell."""
    rows = []
    for cell in cells:
        ids = [row.question.trace_id for row in cell.rows]
        if len(set(ids)) < len(ids):
            twice = next(i for i in ids if ids.count(i) > 1)
            raise ValueError(f"cell {cell.name}: question and sample {twice} are there twice: make ids distinct")
        for number, group in enumerate(cut_into_groups(cell)):
            questions = [{**asdict(row.question), "error": row.error} for row in group]
            rows.append({"cell": cell.name, "group": f"{cell.name}/{number:03d}", "questions": questions})
    return pa.Table.from_pylist(rows, schema=GROUPS_SCHEMA)
