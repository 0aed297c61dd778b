"""The traces of a benchmark split: their ids here, their questions in blocks of the cluster's object store.

Invariants: no process ever holds all questions. What is put together in one table is at most a bundle (`BUNDLE_BYTES`)
or one group, so the 32-bit offsets of Arrow's strings (2 GiB a column) are never exceeded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import ArrayLike, NDArray

from steer.storage.schemas import QUESTIONS_SCHEMA

BUNDLE_BYTES = 128 * 2**20
"""Questions that are put together at a time: enough that few objects are made on the way (a block times a bundle), and
little beside what a driver needs anyway."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The traces [I] of a benchmark split. Their questions are in the object store."""

    trace_ids: pa.Array
    """[I] `Question.trace_id`."""
    bad: int
    """Number of traces whose question cannot be asked."""
    blocks: tuple[ray.ObjectRef, ...]
    """Tables with the columns of `QUESTIONS_SCHEMA` and others. Each question is there once."""
    block_I: NDArray[np.int32]
    """Of each trace: the block that holds its question,"""
    row_I: NDArray[np.int32]
    """the row in that block,"""
    sample_I: NDArray[np.int32]
    """and the sample."""
    bytes_I: NDArray[np.int64]
    """Bytes of its question's texts."""
    refusal: str = ""
    """The commonest reason why questions cannot be asked, with an example; empty if all can."""

    def __len__(self) -> int:
        return len(self.trace_ids)

    def take(self, indices: ArrayLike) -> pa.Table:
        """The traces with these indices, in their order, as `QUESTIONS_SCHEMA`. Fetches the blocks that hold them, one
        after the other. Their questions must be less than 2 GiB."""
        wanted_J = np.asarray(indices, np.int64)
        by_block_J = np.argsort(self.block_I[wanted_J], kind="stable")
        pieces = [self._from_block(block, wanted_J[some]) for block, some in self._by_block(wanted_J, by_block_J)]
        taken = pa.concat_tables([QUESTIONS_SCHEMA.empty_table(), *pieces])
        if (np.diff(by_block_J) > 0).all():
            return taken
        place_J = np.empty_like(by_block_J)
        place_J[by_block_J] = np.arange(len(by_block_J))
        return taken.take(pa.array(place_J))

    def take_parts(self, parts: Sequence[NDArray[np.int64]]) -> Iterator[pa.Table]:
        """What `take` returns for each of the parts, which share no trace. Each block is read once, however many parts
        there are: its rows are sorted by bundles of parts first, in objects that spill to disk if they must."""
        bundles = self._bundles(parts)
        if len(bundles) <= 1:
            yield from map(self.take, parts)
            return
        scattered = self._scattered(bundles)
        for bundle in bundles:
            pieces = scattered.pop(0)
            held_J = np.concatenate([some for some, _ in pieces])
            table = pa.concat_tables([ray.get(ref) for _, ref in pieces])
            del pieces  # The objects are not needed any more.
            by_index_J = np.argsort(held_J)
            for part in bundle:
                place = by_index_J[np.searchsorted(held_J, part, sorter=by_index_J)]
                yield table.take(pa.array(place))

    def _bundles(self, parts: Sequence[NDArray[np.int64]]) -> list[list[NDArray[np.int64]]]:
        """Successive parts in bundles of at most `BUNDLE_BYTES`, or of one part."""
        bundles: list[list[NDArray[np.int64]]] = []
        held = 0
        for part in parts:
            size = int(self.bytes_I[part].sum())
            if not bundles or held + size > BUNDLE_BYTES:
                bundles.append([])
                held = 0
            bundles[-1].append(part)
            held += size
        return bundles

    def _scattered(
        self, bundles: Sequence[Sequence[NDArray[np.int64]]]
    ) -> list[list[tuple[NDArray[np.int64], ray.ObjectRef]]]:
        """Of each bundle: (indices of traces, their questions), a pair for each block that holds any of them."""
        bundle_I = np.full(len(self), -1, np.int32)
        for number, bundle in enumerate(bundles):
            for part in bundle:
                bundle_I[part] = number
        wanted_J = np.flatnonzero(bundle_I >= 0)
        scattered: list[list[tuple[NDArray[np.int64], ray.ObjectRef]]] = [[] for _ in bundles]
        for block, some in self._by_block(wanted_J, np.argsort(self.block_I[wanted_J], kind="stable")):
            here = wanted_J[some]
            for number in np.unique(bundle_I[here]):
                mine = here[bundle_I[here] == number]
                scattered[number].append((mine, ray.put(self._from_block(block, mine))))
        return scattered

    def _by_block(
        self, wanted_J: NDArray[np.int64], by_block_J: NDArray[np.int64]
    ) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """(block, places in `wanted_J` of the traces that it holds), for each block that holds any."""
        block_J = self.block_I[wanted_J[by_block_J]]
        for some in np.split(by_block_J, np.flatnonzero(np.diff(block_J)) + 1):
            if len(some):
                yield int(self.block_I[wanted_J[some[0]]]), some

    def _from_block(self, block: int, indices: NDArray[np.int64]) -> pa.Table:
        rows = ray.get(self.blocks[block]).select(QUESTIONS_SCHEMA.names).take(pa.array(self.row_I[indices]))
        samples = pa.array(self.sample_I[indices], pa.int32())
        return rows.set_column(rows.schema.get_field_index("sample"), "sample", samples)
