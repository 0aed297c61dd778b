"""The cells of a run, each a policy setting on one benchmark, and the groups that their questions are cut into.

Invariant: every row of a cell is in exactly one group, which depends on the seed, the cell's trace ids, the length of
their questions and `routing` alone.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.run.rows import Rows
from steer.config.policy import PolicyConfig
from steer.config.run import RoutingOptions
from steer.storage.one_cell import in_one_cell
from steer.storage.schemas import GROUPS_SCHEMA

GROUP_BYTES = 128 * 2**20
"""Most bytes of a group's questions, unless one alone is longer. A group travels as one message and is one row of
`questions/`. There a column of texts must stay below 2 GiB; and writing such a row takes five to eight times its bytes
of memory (5 GB were measured with groups of 512 MiB)."""


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
    """K of Table 3: the least number of groups. The rows are cut into parts that differ by one row at most. Each part
    is drawn by hash and routed independently. There are more parts if K would exceed `routing.most_live` or
    `GROUP_BYTES`."""


def refuse_uncuttable(cell: Cell) -> None:
    """Raise ValueError if a cell has fewer rows than groups, or two rows of one trace id."""
    ids = cell.rows.trace_ids
    if len(ids) < cell.groups:
        raise ValueError(
            f"cell {cell.name}: {len(ids)} traces cannot be cut into {cell.groups} groups: set fewer groups:"
        )
    if pc.count_distinct(ids).as_py() < len(ids):
        counts = ids.value_counts()
        twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))[0]
        raise ValueError(f"cell {cell.name}: question and sample {twice} are there twice: make ids distinct")


def cut_into_groups(cell: Cell) -> list[NDArray[np.int64]]:
    """Indices of the cell's rows in random parts, each in the benchmark's order. Raises what `refuse_uncuttable`
    raises."""
    refuse_uncuttable(cell)
    traces = len(cell.rows)
    drawn = np.argsort(_draws(cell.seed, cell.rows.trace_ids), kind="stable")
    count = max(cell.groups, -(-traces // cell.routing.most_in_group))
    while count < traces and (longest := _longest(cell.rows.bytes_I[drawn], count)) > GROUP_BYTES:
        count = min(traces, max(count + 1, count * longest // GROUP_BYTES))
    return [np.sort(drawn[number::count]) for number in range(count)]


def _draws(seed: int, trace_ids: pa.Array) -> NDArray[np.uint64]:
    """A number for each trace, by a hash of the seed and its id."""
    digests = b"".join(
        hashlib.blake2b(f"{seed} {trace_id}".encode(), digest_size=8).digest() for trace_id in trace_ids.to_pylist()
    )
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def _longest(bytes_I: NDArray[np.int64], count: int) -> int:
    """Bytes of the longest of `count` groups, dealt in turn."""
    sums = np.zeros(count, np.int64)
    np.add.at(sums, np.arange(len(bytes_I)) % count, bytes_I)
    return int(sums.max())


def group_name(cell: str, number: int) -> str:
    """Name of a cell's group, from its number."""
    return f"{cell}/{number:03d}"


def group_number(name: str) -> int:
    """The number in a group's name."""
    return int(name.rpartition("/")[2])


def group_tables(cells: Iterable[tuple[Cell, Sequence[NDArray[np.int64]]]]) -> Iterator[pa.Table]:
    """Tables of `GROUPS_SCHEMA` with one row each, in the order of cells and groups. Holds a few groups at a time.

    `cells`: each with what `cut_into_groups` made of it.
    """
    for cell, parts in cells:
        for number, questions in enumerate(cell.rows.take_parts(parts)):
            columns = [[cell.name], [group_name(cell.name, number)], in_one_cell(questions)]
            yield pa.table(dict(zip(GROUPS_SCHEMA.names, columns, strict=True)), schema=GROUPS_SCHEMA)


def groups_in_flight(cells: Sequence[Cell], admitted: Iterable[dict[str, Any]]) -> int:
    """How many groups are routed at the same time: as `routing.groups_in_flight` says, or fewer if the largest would
    exceed `routing.most_live` otherwise. (A run that an earlier version began may have larger groups.)

    `admitted`: the entries of `run.json` for these cells.
    """
    largest = max((-(-cell["traces"] // cell["groups"]) for cell in admitted), default=1)
    wanted = max(cell.routing.groups_in_flight for cell in cells)
    return max(1, min(wanted, min(cell.routing.most_live for cell in cells) // max(largest, 1)))
