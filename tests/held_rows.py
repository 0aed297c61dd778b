"""Benchmark rows that a test holds itself, as a cell takes them."""

import ray

from pipelines.run.ingest import Rows
from steer.storage.questions import question_table


def held(rows):
    """`rows`: of `steer.benchmarks.BenchmarkRow`. Needs Ray."""
    table = question_table([row.question for row in rows], [row.error for row in rows])
    ids = tuple(row.question.trace_id for row in rows)
    picks = tuple((i, row.question.sample) for i, row in enumerate(rows))
    return Rows(ids, sum(bool(row.error) for row in rows), (ray.put(table),), picks)
