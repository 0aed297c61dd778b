"""Read a benchmark through Ray Data: shards in, tables of questions in the cluster's object store out.

Each shard has a read task. A hub data set is streamed where the task runs. A local file is read on the driver's node,
because other nodes may not have it. The driver holds ids alone.

Invariant: rows keep the order of the shards, and every row of the chosen split is there once a sample.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data import DataContext, Dataset
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from pipelines.run.refused import Refusal, commonest, none_left
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
"""What the driver holds of each row."""
READ_ROWS = 256
"""Rows of a block that is read: a few megabytes at 20 paragraphs a question."""
T = TypeVar("T")
REFUSED = -1
"""Value of `shard` in the row of a shard that cannot be read. `number` is then the shard, and `key_id` the reason."""


@dataclass(frozen=True)
class Rows:
    """The traces of a benchmark split. Their ids are held here, their questions in the object store."""

    trace_ids: tuple[str, ...]
    bad: int
    """Number of traces whose question cannot be asked."""
    blocks: tuple[ray.ObjectRef, ...]
    """Tables with the columns of `QUESTIONS_SCHEMA` and others. Each question is there once."""
    picks: tuple[tuple[int, int], ...]
    """Of each trace: (row, counted over all blocks, sample)."""
    refusal: str = ""
    """The commonest reason why questions cannot be asked, with an example; empty if all can."""

    def __len__(self) -> int:
        return len(self.trace_ids)

    def take(self, indices: Sequence[int]) -> pa.Table:
        """The traces with these indices, as `QUESTIONS_SCHEMA`. Fetches all blocks to the calling process."""
        table = pa.concat_tables([ray.get(block).select(QUESTIONS_SCHEMA.names) for block in self.blocks])
        rows = table.take(pa.array([self.picks[i][0] for i in indices], pa.int64()))
        samples = pa.array([self.picks[i][1] for i in indices], pa.int32())
        return rows.set_column(rows.schema.get_field_index("sample"), "sample", samples)


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
        return in_blocks(self.shard.rows(), self._block, self._refused, _READ_SCHEMA)

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
    rows: Iterator[T],
    block: Callable[[list[T], int], pa.Table],
    refused: Callable[[str], pa.Table],
    schema: pa.Schema,
) -> Iterator[pa.Table]:
    """Yield the rows as tables of `READ_ROWS` rows.

    `block` makes a table from rows and the number of the first one. If `rows` raises ValueError, the table that
    `refused` makes from its message follows: an exception would leave Ray Data with Ray's own words around it.
    """
    first = 0
    try:
        while part := list(islice(rows, READ_ROWS)):
            yield block(part, first)
            first += len(part)
    except ValueError as error:
        yield refused(str(error))
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


def _chosen(plan: Reading, blocks: list[ray.ObjectRef]) -> Rows:
    keys = pa.concat_tables([_KEYS_SCHEMA.empty_table(), *ray.get([_keys.remote(block) for block in blocks])])
    refused = keys.filter(pc.equal(keys["shard"], REFUSED))
    if refused.num_rows:
        raise ValueError(refused.sort_by("number")["key_id"][0].as_py())
    # Blocks come in any order. `order` is the order of the shards.
    order = keys.select(["shard", "number"]).to_pandas().sort_values(["shard", "number"]).index
    read = keys.to_pylist()
    in_order = [Key(*(read[i][f"key_{name}"] for name in Key._fields)) for i in order]
    chosen = [int(order[i]) for i in plan.select(in_order)]
    samples = range(plan.samples)
    refusals = [Refusal(read[i]["key_place"], read[i]["error"]) for i in chosen if read[i]["error"]]
    return Rows(
        trace_ids=tuple(f"{read[i]['key_id']}#{sample}" for i in chosen for sample in samples),
        bad=len(refusals) * plan.samples,
        blocks=tuple(blocks),
        picks=tuple((i, sample) for i in chosen for sample in samples),
        refusal=commonest(refusals),
    )


@ray.remote(num_cpus=0)
def _keys(block: pa.Table) -> pa.Table:
    return block.select(_KEYS_SCHEMA.names)
