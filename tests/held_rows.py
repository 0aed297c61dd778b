"""Benchmark rows that a test holds itself, as a cell takes them."""

import numpy as np
import pyarrow as pa
import ray

from pipelines.run.rows import Rows
from steer.storage.questions import question_table


def held(rows, rows_a_block=1000):
    """`rows`: of `steer.benchmarks.BenchmarkRow`. Needs Ray."""
    table = question_table([row.question for row in rows], [row.error for row in rows])
    blocks = tuple(ray.put(table.slice(i, rows_a_block)) for i in range(0, max(1, len(rows)), rows_a_block))
    ids = [row.question.trace_id for row in rows]
    sizes = [len(row.question.prompt) for row in rows]
    return rows_of(
        ids, blocks, rows_a_block, [r.question.sample for r in rows], sizes, sum(bool(r.error) for r in rows)
    )


def rows_of(ids, blocks=(), rows_a_block=1000, samples=None, sizes=None, bad=0):
    """Traces of these ids, one a row of the blocks. `sizes`: bytes of each one's question."""
    at = np.arange(len(ids))
    samples = np.zeros(len(ids)) if samples is None else samples
    sizes = np.ones(len(ids)) if sizes is None else sizes
    return Rows(
        trace_ids=pa.array(ids, pa.large_string()),
        bad=bad,
        blocks=tuple(blocks),
        block_I=(at // rows_a_block).astype(np.int32),
        row_I=(at % rows_a_block).astype(np.int32),
        sample_I=np.asarray(samples, np.int32),
        bytes_I=np.asarray(sizes, np.int64),
    )
