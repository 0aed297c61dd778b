"""Read a benchmark through Ray Data: shards in, tables of questions in the cluster's object store out.

Each shard has a read task. A hub data set is streamed where the task runs. A local file is read on the driver's node,
because other nodes may not have it. The driver holds ids alone.

Invariant: rows keep the order of the shards, and every row of the chosen split is there once a sample.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data import DataContext, Dataset
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from pipelines.run.refused import Refusal, commonest, none_left
from pipelines.run.rows import Rows
from steer.benchmarks import BenchmarkRow, Key, Reading, Shard
from steer.config.load import SettingsError
from steer.storage.questions import question_table
from steer.storage.schemas import QUESTIONS_SCHEMA

_READ_SCHEMA = pa.schema(
    [("shard", pa.int32()), ("number", pa.int32()), *((f"key_{name}", pa.string()) for name in Key._fields)]
    + list(QUESTIONS_SCHEMA)
)
_KEYS_SCHEMA = pa.schema(
    [field for field in _READ_SCHEMA if field.name not in QUESTIONS_SCHEMA.names or field.name == "error"]
)
"""What decides which rows are chosen."""
_HELD_SCHEMA = pa.schema(
    [pa.field(f.name, pa.large_string() if pa.types.is_string(f.type) else f.type) for f in _KEYS_SCHEMA]
    + [("bytes", pa.int64())]
)
"""What the driver holds of each row: the same, and the bytes of its texts."""
_KEYS_AT_A_TIME = 4096
READ_ROWS = 256
"""Rows of a block that is read: a few megabytes at 20 paragraphs a question."""
READ_BYTES = 32 * 2**20
"""A block has fewer rows if their texts are longer than this together."""
T = TypeVar("T")
REFUSED = -1
"""Value of `shard` in the row of a shard that cannot be read. `number` is then the shard, and `key_id` the reason."""


@dataclass(frozen=True)
class Ingested:
    """A benchmark split, ready for the cells of a run."""

    name: str
    split: str
    split_rule: str
    tokens: str
    rows: Rows

    def refuse_unaskable(self) -> None:
        """Raise ValueError, with the reason, if no question can be asked."""
        if self.rows.bad == len(self.rows):
            raise ValueError(none_left(f"benchmark {self.name}: none of the {self.rows.bad} traces", self.rows.refusal))

    def described(self) -> dict:
        """The entry of `run.json`."""
        return {
            "benchmark": self.name,
            "split": self.split,
            "rule": self.split_rule,
            "traces": len(self.rows),
            "refused": self.rows.bad,
            **({"refusal": self.rows.refusal} if self.rows.bad else {}),
        }


def ingest(plan: Reading) -> Ingested:
    """Read the selected rows of a benchmark. Needs Ray. Raises SettingsError, with the remedy, if it cannot be read."""
    try:
        rows = _chosen(plan, _read(plan))
    except ValueError as refusal:
        raise SettingsError(str(refusal)) from refusal
    return Ingested(plan.name, plan.split, plan.split_rule, plan.tokens, rows)


class TablesSource(Datasource):
    """A data source with one read task for each of the callables, which yield tables."""

    def __init__(self, readers: Sequence[Callable[[], Iterable[pa.Table]]]):
        super().__init__()
        self._readers = readers

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism, per_task_row_limit=None, data_context=None) -> list[ReadTask]:
        metadata = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(reader, metadata) for reader in self._readers]

    def dataset(self, local: bool, num_cpus: float = 0) -> Dataset:
        """`local`: read on the node of this process, because other nodes may not have its files."""
        label = {"ray.io/node-id": ray.get_runtime_context().get_node_id()} if local else None
        blocks = len(self._readers)
        return ray.data.read_datasource(self, num_cpus=num_cpus, override_num_blocks=blocks, label_selector=label)


@dataclass(frozen=True)
class _Blocks:
    """The read task of one shard. Yields blocks of `_READ_SCHEMA`."""

    number: int
    shard: Shard

    def __call__(self) -> Iterator[pa.Table]:
        return in_blocks(self.shard.rows(), self._block, self._refused, _READ_SCHEMA, _text_bytes)

    def _block(self, rows: list[tuple[Key, BenchmarkRow]], first: int) -> pa.Table:
        keys, read = zip(*rows, strict=True)
        questions = question_table([row.question for row in read], [row.error for row in read])
        columns = [
            [self.number] * len(rows),
            list(range(first, first + len(rows))),
            *([getattr(key, name) for key in keys] for name in Key._fields),
            *questions.columns,
        ]
        return pa.table(dict(zip(_READ_SCHEMA.names, columns, strict=True)), schema=_READ_SCHEMA)

    def _refused(self, why: str) -> pa.Table:
        return pa.Table.from_pylist([{"shard": REFUSED, "number": self.number, "key_id": why}], _READ_SCHEMA)


def in_blocks(
    rows: Iterable[T],
    block: Callable[[list[T], int], pa.Table],
    refused: Callable[[str], pa.Table],
    schema: pa.Schema,
    size: Callable[[T], int] = lambda _: 0,
) -> Iterator[pa.Table]:
    """Yield the rows as tables of `READ_ROWS` rows, or of fewer if these have `READ_BYTES` by `size`.

    `block` makes a table from rows and the number of the first one. If `rows` raises ValueError, the table that
    `refused` makes from its message follows: an exception would leave Ray Data with Ray's own words around it.
    """
    first, held = 0, 0
    part: list[T] = []
    try:
        for row in rows:
            part.append(row)
            held += size(row)
            if len(part) == READ_ROWS or held >= READ_BYTES:
                yield block(part, first)
                first, held, part = first + len(part), 0, []
    except ValueError as error:
        yield refused(str(error))
    else:
        if part:
            yield block(part, first)
    # Ray Data does not accept a read task that yields no block.
    yield schema.empty_table()


def _read(plan: Reading) -> list[ray.ObjectRef]:
    readers = [_Blocks(number, shard) for number, shard in enumerate(plan.wanted_shards())]
    if not readers:
        return []
    with DataContext.current(quiet_context()):
        return TablesSource(readers).dataset(plan.local).materialize().to_arrow_refs()


def quiet_context(log_level: int = logging.CRITICAL) -> DataContext:
    """Ray Data's settings without progress bars, and without logs below `log_level`: the caller reports failures."""
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # A task may be silent for long: the hub is slow, or the router holds a group back.
    context.execution_no_progress_timeout_s = -1
    logging.getLogger("ray.data").setLevel(log_level)
    return context


def _text_bytes(row: tuple[Key, BenchmarkRow]) -> int:
    """About how many bytes a row's texts have: what is long is the prompt, or a gold answer."""
    return len(row[1].question.prompt) + len(row[1].question.gold)


def _chosen(plan: Reading, blocks: list[ray.ObjectRef]) -> Rows:
    held = ray.get([_keys.remote(block) for block in blocks])
    keys = pa.concat_tables([_HELD_SCHEMA.empty_table(), *held])
    refused = keys.filter(pc.equal(keys["shard"], REFUSED))
    if refused.num_rows:
        raise ValueError(refused.sort_by("number")["key_id"][0].as_py())
    counts_B = np.array([table.num_rows for table in held], np.int64)
    first_B = np.cumsum(counts_B) - counts_B
    # Blocks come in any order. `order` is the order of the shards.
    order = np.lexsort((keys["number"].to_numpy(), keys["shard"].to_numpy()))
    chosen = order[np.array(plan.select(_Keys(keys.take(pa.array(order)))), np.int64)]
    at_I = np.repeat(chosen, plan.samples)
    sample_I = np.tile(np.arange(plan.samples, dtype=np.int32), len(chosen))
    block_I = np.searchsorted(first_B, at_I, side="right") - 1
    read = keys.take(pa.array(chosen))
    bad = read.filter(pc.not_equal(read["error"], ""))
    refusals = [Refusal(*pair) for pair in zip(bad["key_place"].to_pylist(), bad["error"].to_pylist(), strict=True)]
    return Rows(
        trace_ids=_trace_ids(keys["key_id"].take(pa.array(at_I)), sample_I),
        bad=len(refusals) * plan.samples,
        blocks=tuple(blocks),
        block_I=block_I.astype(np.int32),
        row_I=(at_I - first_B[block_I]).astype(np.int32),
        sample_I=sample_I,
        bytes_I=keys["bytes"].to_numpy()[at_I],
        refusal=commonest(refusals),
    )


def _trace_ids(ids: pa.ChunkedArray, sample_I: np.ndarray) -> pa.Array:
    """`Question.trace_id` of each trace."""
    samples = pa.array(sample_I).cast(pa.large_string())
    return pc.binary_join_element_wise(ids.combine_chunks(), samples, pa.scalar("#", pa.large_string()))


class _Keys(Sequence[Key]):
    """The keys of a table of `_HELD_SCHEMA`, made as they are asked for: a million of them as objects are half a
    gigabyte."""

    def __init__(self, table: pa.Table):
        self._columns = [table[f"key_{name}"].combine_chunks() for name in Key._fields]

    def __len__(self) -> int:
        return len(self._columns[0])

    def __getitem__(self, i):
        return Key(*(column[i].as_py() for column in self._columns))

    def __iter__(self) -> Iterator[Key]:
        for first in range(0, len(self), _KEYS_AT_A_TIME):
            columns = (column.slice(first, _KEYS_AT_A_TIME).to_pylist() for column in self._columns)
            yield from map(Key._make, zip(*columns, strict=True))


@ray.remote(num_cpus=0)
def _keys(block: pa.Table) -> pa.Table:
    """The columns of `_HELD_SCHEMA`. They are made of the row's own text, so they may exceed 2 GiB in all: large
    strings."""
    bytes_of = [pc.binary_length(block[field.name]) for field in QUESTIONS_SCHEMA if pa.types.is_string(field.type)]
    sizes = np.sum([pc.fill_null(column, 0).to_numpy() for column in bytes_of], axis=0, dtype=np.int64)
    keys = block.select(_KEYS_SCHEMA.names).append_column("bytes", pa.array(sizes, pa.int64()))
    return keys.cast(_HELD_SCHEMA)
