"""A benchmark's rows through Ray Data: shards in, tables of questions on the cluster out.

A read task a shard: a hub data set is streamed where the task runs, a local file is read on the driver's node, which
is the one that is sure to have it. The driver itself holds ids alone. Invariant: rows keep the order of the shards,
and every row of the chosen split is there once a sample.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data import DataContext, Dataset
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from steer.benchmarks import BenchmarkRow, Key, Reading, Shard
from steer.config.load import SettingsError
from steer.storage.schemas import QUESTIONS_SCHEMA

_READ_SCHEMA = pa.schema(
    [("shard", pa.int32()), ("number", pa.int32()), *((f"key_{name}", pa.string()) for name in Key._fields)]
    + list(QUESTIONS_SCHEMA)
)
READ_ROWS = 256
"""Rows a block of the reading: a few megabytes at 20 paragraphs a question."""
REFUSED = -1
"""In the place of a row's shard: the shard that `number` counts cannot be read, and `key_id` says why."""


@dataclass(frozen=True)
class Rows:
    """The traces of a benchmark split: ids here, the questions in the object store."""

    trace_ids: tuple[str, ...]
    bad: int
    """Traces whose question cannot be asked."""
    blocks: tuple[ray.ObjectRef, ...]
    """Tables that hold `QUESTIONS_SCHEMA`, each question once."""
    picks: tuple[tuple[int, int], ...]
    """(row over all blocks, sample) of each trace."""

    def __len__(self) -> int:
        return len(self.trace_ids)

    def take(self, indices: Sequence[int]) -> pa.Table:
        """These traces as `QUESTIONS_SCHEMA`; fetches the blocks to where it runs."""
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

    def described(self) -> dict:
        """What `run.json` says of it."""
        return {
            "benchmark": self.name,
            "split": self.split,
            "rule": self.split_rule,
            "traces": len(self.rows),
            "refused": self.rows.bad,
        }


def ingest(plan: Reading) -> Ingested:
    """Needs Ray. Raises SettingsError, with the remedy, for a benchmark that cannot be read."""
    try:
        rows = _chosen(plan, _read(plan))
    except ValueError as refusal:
        raise SettingsError(str(refusal)) from refusal
    return Ingested(plan.name, plan.split, plan.split_rule, plan.tokens, rows)


def held(rows: Sequence[BenchmarkRow]) -> Rows:
    """Rows that this process holds itself."""
    table = pa.Table.from_pylist([{**asdict(row.question), "error": row.error} for row in rows], QUESTIONS_SCHEMA)
    ids = tuple(row.question.trace_id for row in rows)
    picks = tuple((i, row.question.sample) for i, row in enumerate(rows))
    return Rows(ids, sum(bool(row.error) for row in rows), (ray.put(table),), picks)


def in_one_cell(rows: pa.Table) -> pa.ListArray:
    """The rows as one list of structs: a cell of a table whose row must not be split."""
    structs = rows.combine_chunks().to_struct_array()
    return pa.ListArray.from_arrays([0, len(structs)], pa.concat_arrays(structs.chunks))


class TablesSource(Datasource):
    """A read task for each of the callables, which yield tables."""

    def __init__(self, readers: Sequence[Callable[[], Iterable[pa.Table]]]):
        super().__init__()
        self._readers = readers

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism, per_task_row_limit=None, data_context=None) -> list[ReadTask]:
        metadata = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(reader, metadata) for reader in self._readers]

    def dataset(self, local: bool, num_cpus: float = 0) -> Dataset:
        """`local`: on the node of this process, whose files others may not have."""
        label = {"ray.io/node-id": ray.get_runtime_context().get_node_id()} if local else None
        blocks = len(self._readers)
        return ray.data.read_datasource(self, num_cpus=num_cpus, override_num_blocks=blocks, label_selector=label)


@dataclass(frozen=True)
class _Blocks:
    """What a read task does: one shard as blocks of `_READ_SCHEMA`."""

    number: int
    shard: Shard

    def __call__(self) -> Iterator[pa.Table]:
        rows = (self._values(number, key, row) for number, (key, row) in enumerate(self.shard.rows()))
        return in_blocks(rows, _READ_SCHEMA, lambda why: {"shard": REFUSED, "number": self.number, "key_id": why})

    def _values(self, number: int, key: Key, row: BenchmarkRow) -> dict:
        keys = {f"key_{name}": value for name, value in key._asdict().items()}
        return {"shard": self.number, "number": number, **keys, **asdict(row.question), "error": row.error}


def in_blocks(rows: Iterator[dict], schema: pa.Schema, refusal: Callable[[str], dict]) -> Iterator[pa.Table]:
    """What a read task reads, so many rows a table. Where the rows raise ValueError, the last one is `refusal` of what
    it says: as an exception it would come out of Ray Data with Ray's own words around it."""
    try:
        while part := list(islice(rows, READ_ROWS)):
            yield pa.Table.from_pylist(part, schema)
    except ValueError as error:
        yield pa.Table.from_pylist([refusal(str(error))], schema)
    # Without rows an empty block: Ray Data takes no read task without one.
    yield schema.empty_table()


def _read(plan: Reading) -> list[ray.ObjectRef]:
    readers = [_Blocks(number, shard) for number, shard in enumerate(plan.wanted_shards())]
    with DataContext.current(quiet_context()):
        return TablesSource(readers).dataset(plan.local).materialize().to_arrow_refs()


def quiet_context(log_level: int = logging.CRITICAL) -> DataContext:
    """Ray Data without progress bars and, below `log_level`, logs: what goes wrong is said by who asked."""
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # A task may be silent for long on purpose: a hub that is slow, a router that holds a group back.
    context.execution_no_progress_timeout_s = -1
    logging.getLogger("ray.data").setLevel(log_level)
    return context


def _chosen(plan: Reading, blocks: list[ray.ObjectRef]) -> Rows:
    keys = pa.concat_tables(ray.get([_keys.remote(block) for block in blocks]))
    refused = keys.filter(pc.equal(keys["shard"], REFUSED))
    if refused.num_rows:
        raise ValueError(refused.sort_by("number")["key_id"][0].as_py())
    # Blocks come in any order: rows of all blocks, sorted to the order of the shards.
    order = keys.select(["shard", "number"]).to_pandas().sort_values(["shard", "number"]).index
    read = keys.to_pylist()
    in_order = [Key(*(read[i][f"key_{name}"] for name in Key._fields)) for i in order]
    chosen = [int(order[i]) for i in plan.select(in_order)]
    samples = range(plan.samples)
    return Rows(
        trace_ids=tuple(f"{read[i]['key_id']}#{sample}" for i in chosen for sample in samples),
        bad=sum(read[i]["bad"] for i in chosen) * plan.samples,
        blocks=tuple(blocks),
        picks=tuple((i, sample) for i in chosen for sample in samples),
    )


@ray.remote(num_cpus=0)
def _keys(block: pa.Table) -> pa.Table:
    bad = pa.array([bool(error) for error in block["error"].to_pylist()], pa.bool_())
    names = [name for name in _READ_SCHEMA.names if name not in QUESTIONS_SCHEMA.names]
    return block.select(names).append_column("bad", bad)
