"""What every benchmark is read into: shards of rows, of which a split and a limit choose some.

A `Reading` is a benchmark as configured before a row is read; its shards can be read anywhere, one by one. `select`
needs of each row only its `Key`, so that whoever reads the shards elsewhere keeps the rows there.

Invariant: every row of a shard comes back once, in order; one that cannot be asked keeps its place, with a reason.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol

from steer.traces import Question

VALIDATION_SHARE = 0.2
"""Share of a benchmark without splits of its own that is kept for choosing thresholds (benchmarks.md)."""
SAMPLE_RULE = "the fifth of the ids with the smallest hashes is validation, the rest is test"


@dataclass(frozen=True)
class BenchmarkRow:
    """One row of a benchmark. `error` says why it cannot be asked; its question is then as far as it could be read."""

    question: Question
    error: str = ""


class Key(NamedTuple):
    """What decides about a row."""

    id: str
    place: str
    """File or data set, and the row's number in it, for messages."""
    split: str
    """The source's own split of the row; "" where it has none."""
    draw: str
    """What the validation fifth is drawn by: the id, but the same for repeats of one question."""


class Shard(Protocol):
    """A file, or one split of a hub data set; can be pickled."""

    split: str
    """The source's own split of all its rows; "" where it has none."""

    def rows(self) -> Iterator[tuple[Key, BenchmarkRow]]:
        """Raises ValueError, with the remedy, where the shard cannot be read at all."""
        ...


@dataclass(frozen=True)
class Reading:
    """A benchmark as configured, before any row is read."""

    name: str
    split: Literal["validation", "test", "all", "train"]
    split_rule: str
    """How the split is made, for the run to say."""
    grader: str
    tokens: Literal["math", "all"]
    """Which tokens a step's score averages over."""
    shards: tuple[Shard, ...]
    limit: int | None = None
    samples: int = 1
    local: bool = False
    """Shards are files of this machine, that others may not have."""
    drawn: bool = False
    """A `limit` draws questions by a hash of their ids (shards in turn would be one subset only); false: the first."""

    def wanted_shards(self) -> tuple[Shard, ...]:
        return tuple(s for s in self.shards if self.split == "all" or s.split in ("", self.split))

    def select(self, keys: Sequence[Key]) -> list[int]:
        """Indices of the chosen rows, in order. Raises ValueError for two rows of one id, and for a split of none."""
        _refuse_duplicates(keys)
        validation = validation_draws(key.draw for key in keys if not key.split)
        chosen = [
            i
            for i, key in enumerate(keys)
            if self.split in ("all", key.split or ("validation" if key.draw in validation else "test"))
        ]
        if not chosen:
            held = f"{len(keys)} row{'s' * (len(keys) != 1)}" if keys else "no rows"
            raise ValueError(f"benchmark {self.name} has {held}, none of them in split {self.split}: use split: all")
        if self.drawn and self.limit is not None:
            chosen = sorted(sorted(chosen, key=lambda i: _hash("limit", keys[i].id))[: self.limit])
        return chosen[: self.limit]

    def load(self) -> "Benchmark":
        """The chosen rows, read here and held in memory. Raises what `select` and the shards raise."""
        read = [row for shard in self.wanted_shards() for row in shard.rows()]
        chosen = (read[i][1] for i in self.select([key for key, _ in read]))
        rows = tuple(
            replace(row, question=replace(row.question, sample=sample))
            for row in chosen
            for sample in range(self.samples)
        )
        return Benchmark(self.name, self.split, self.split_rule, self.grader, self.tokens, rows)


@dataclass(frozen=True)
class Benchmark:
    """A benchmark whose rows are held in memory: `limit` questions, `samples` traces each, bad rows too, so that
    accuracy keeps its denominator."""

    name: str
    split: str
    split_rule: str
    grader: str
    tokens: Literal["math", "all"]
    rows: tuple[BenchmarkRow, ...]


def validation_draws(draws) -> set[str]:
    """The fifth with the smallest hashes: the same on every machine and in every file order, at least one if there are
    two. `draws` may repeat."""
    distinct = sorted(set(draws), key=lambda draw: (_hash("validation", draw), draw))
    size = max(1, round(VALIDATION_SHARE * len(distinct))) if len(distinct) > 1 else 0
    return set(distinct[:size])


def _hash(what: str, text: str) -> bytes:
    return hashlib.blake2b(f"steer {what} {text}".encode(), digest_size=8).digest()


def _refuse_duplicates(keys: Sequence[Key]) -> None:
    first: dict[str, str] = {}
    for key in keys:
        earlier = first.setdefault(key.id, key.place)
        if earlier != key.place:
            raise ValueError(
                f"{earlier} and {key.place} have one id, {key.id!r}: make ids distinct (data of your own may leave out "
                "benchmark id: to number the rows)"
            )
