"""What every loader returns: the questions of one split, good and bad, and how they are scored and graded.

Invariant: `rows` holds every row of the split, in file order; a row that cannot be asked keeps its place with a reason.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

from steer.traces import Question

VALIDATION_SHARE = 0.2
"""Share of a benchmark without splits of its own that is kept for choosing thresholds (benchmarks.md)."""


@dataclass(frozen=True)
class Row:
    """One row of a benchmark. `error` says why it cannot be asked; its question is then as far as it could be read."""

    question: Question
    error: str = ""


@dataclass(frozen=True)
class Benchmark:
    name: str
    split: str
    split_rule: str
    """How the split was made, for the run to say."""
    grader: str
    tokens: Literal["math", "all"]
    """Which tokens a step's score averages over."""
    rows: tuple[Row, ...]

    def sampled(self, limit: int | None, samples: int) -> "Benchmark":
        """The first `limit` questions, each `samples` times; bad rows too, so that accuracy keeps its denominator."""
        rows = tuple(
            replace(row, question=replace(row.question, sample=sample))
            for row in self.rows[:limit]
            for sample in range(samples)
        )
        return replace(self, rows=rows)


def validation_ids(ids: list[str]) -> set[str]:
    """The fifth of the ids with the smallest hashes: the same on every machine and in every file order, at least one
    if there are two."""

    def rank(question_id: str) -> bytes:
        return hashlib.blake2b(f"steer validation {question_id}".encode(), digest_size=8).digest()

    size = max(1, round(VALIDATION_SHARE * len(ids))) if len(ids) > 1 else 0
    return set(sorted(ids, key=lambda i: (rank(i), i))[:size])
