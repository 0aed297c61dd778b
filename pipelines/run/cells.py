"""The cells of a run, each a policy setting on one benchmark, and the groups that their questions are cut into.

Invariant: every row of a cell is in exactly one group, which depends on the seed and the cell's trace ids alone.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from pipelines.run.ingest import Rows
from steer.config.policy import PolicyConfig
from steer.config.run import RoutingOptions
from steer.storage.one_cell import in_one_cell
from steer.storage.schemas import GROUPS_SCHEMA


@dataclass(frozen=True)
class Cell:
    """One policy setting on one benchmark with one seed."""

    name: str
    """Unique in the run's folder. Column `cell` of every table."""
    policy: PolicyConfig
    routing: RoutingOptions
    rows: Rows | None
    """None: the run's folder holds the cell and its questions already."""
    tokens: Literal["math", "all"]
    seed: int = 0
    groups: int = 1
    """K of Table 3. The rows are cut into K parts that differ by one row at most. Each part is drawn by hash and
    routed independently."""


def refuse_uncuttable(cell: Cell) -> None:
    """Raise ValueError if a cell has fewer rows than groups, or two rows of one trace id."""
    ids = cell.rows.trace_ids
    if len(ids) < cell.groups:
        raise ValueError(
            f"cell {cell.name}: {len(ids)} traces cannot be cut into {cell.groups} groups: set fewer groups:"
        )
    if len(set(ids)) < len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise ValueError(f"cell {cell.name}: question and sample {twice} are there twice: make ids distinct")


def cut_into_groups(cell: Cell) -> list[list[int]]:
    """Indices of the cell's rows in K random parts, each in the benchmark's order. Raises what `refuse_uncuttable`
    raises."""
    refuse_uncuttable(cell)
    ids = cell.rows.trace_ids
    drawn = sorted(range(len(ids)), key=lambda i: _draw(cell.seed, ids[i]))
    return [sorted(drawn[number :: cell.groups]) for number in range(cell.groups)]


def _draw(seed: int, trace_id: str) -> tuple[bytes, str]:
    key = f"{seed} {trace_id}"
    return hashlib.blake2b(key.encode(), digest_size=8).digest(), key


def group_name(cell: str, number: int) -> str:
    """Name of a cell's group. It ends in the group's number, which `group_number` reads."""
    return f"{cell}/{number:03d}"


def group_number(group: str) -> int:
    return int(group.rpartition("/")[2])


def group_tables(cells: Iterable[Cell]) -> Iterator[pa.Table]:
    """Tables of `GROUPS_SCHEMA` with one row each, in the order of cells and groups. Holds one group at a time."""
    for cell in cells:
        for number, part in enumerate(cut_into_groups(cell)):
            columns = [[cell.name], [group_name(cell.name, number)], in_one_cell(cell.rows.take(part))]
            yield pa.table(dict(zip(GROUPS_SCHEMA.names, columns, strict=True)), schema=GROUPS_SCHEMA)
