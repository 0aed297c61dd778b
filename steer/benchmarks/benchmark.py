"""What every benchmark is read into: shards of rows, from which a split and a limit select some.

A `Reading` is a configured benchmark before any row is read. Its shards can be read anywhere, one by one. `select`
needs only the `Key` of each row, so a process that reads shards elsewhere can keep the rows there.

Invariant: a shard returns every row once, in order. A row that cannot be asked keeps its place and carries the reason.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol

from steer.traces import Question

VALIDATION_SHARE = 0.2
"""Share of the questions reserved for choosing thresholds, if a benchmark has no splits of its own (benchmarks.md)."""
MAX_DIFFICULTIES_SHOWN = 12
"""How many difficulties a message names."""
SAMPLE_RULE = "the fifth of the ids with the smallest hashes is validation, the rest is test"


@dataclass(frozen=True)
class BenchmarkRow:
    """One row of a benchmark. If it cannot be asked, `error` says why, and `question` holds what could be read."""

    question: Question
    error: str = ""


class EmptySplit(ValueError):
    """No row is in the split that is asked for. The message has the remedy."""


class Key(NamedTuple):
    """The part of a row that decides whether it is selected."""

    id: str
    place: str
    """The file or data set and the row's number in it, for messages."""
    split: str
    """The source's own split of the row; empty if the source has no splits."""
    draw: str
    """The text whose hash decides between validation and test: the id, but shared by repeats of one question."""
    difficulty: str = ""
    """The benchmark's own label; empty if there is none, or if it could not be read."""


class Shard(Protocol):
    """A file, or one split of a hub data set. Shards can be pickled."""

    @property
    def split(self) -> str:
        """The source's own split of all rows of the shard; empty if the source has no splits."""

    def rows(self) -> Iterator[tuple[Key, BenchmarkRow]]:
        """Raises ValueError, with the remedy, if the shard cannot be read at all."""


@dataclass(frozen=True)
class Reading:
    """A configured benchmark before any row is read."""

    name: str
    split: Literal["validation", "test", "all", "train"]
    split_rule: str
    """How the split is made, in words for the run to print."""
    grader: str
    tokens: Literal["math", "all"]
    """Which tokens the score of a step averages over."""
    shards: tuple[Shard, ...]
    limit: int | None = None
    samples: int = 1
    local: bool = False
    """The shards are files of this machine, which other machines may not have."""
    drawn: bool = False
    """With `limit`: draw the questions by a hash of their ids, because the first ones would all be of one subset. If
    false, take the first ones."""
    difficulties: tuple[str, ...] | None = None
    """Only questions with one of these labels. They are selected from the split, and before the limit is. None: all."""

    def wanted_shards(self) -> tuple[Shard, ...]:
        return tuple(s for s in self.shards if self.split == "all" or s.split in ("", self.split))

    def select(self, keys: Sequence[Key]) -> list[int]:
        """Indices of the selected rows, in order. Raises ValueError if two rows have one id, and EmptySplit
        if none is in the split, or none in it has one of the difficulties."""
        _refuse_duplicates(keys)
        validation = validation_draws(key.draw for key in keys if not key.split)
        chosen = [
            i
            for i, key in enumerate(keys)
            if self.split in ("all", key.split or ("validation" if key.draw in validation else "test"))
        ]
        if not chosen:
            raise EmptySplit(self._nothing(keys))
        if self.difficulties is not None:
            chosen = self._of_difficulty(keys, chosen)
        if self.drawn and self.limit is not None:
            chosen = sorted(sorted(chosen, key=lambda i: _hash("limit", keys[i].id))[: self.limit])
        return chosen[: self.limit]

    def _of_difficulty(self, keys: Sequence[Key], chosen: list[int]) -> list[int]:
        """Those of `chosen` that have one of the difficulties. A row whose label cannot be read is none of them."""
        wanted = self.difficulties or ()
        found = [i for i in chosen if keys[i].difficulty in wanted]
        if not found:
            there = sorted({keys[i].difficulty for i in chosen} - {""}, key=_in_order)
            remedy = (
                f"choose benchmark.difficulties from {', '.join(there[:MAX_DIFFICULTIES_SHOWN])}"
                + (f" and {len(there) - MAX_DIFFICULTIES_SHOWN} more" if len(there) > MAX_DIFFICULTIES_SHOWN else "")
                if there
                else "its questions have no difficulty label, so leave benchmark.difficulties out"
            )
            raise EmptySplit(
                f"benchmark {self.name}: none of the {len(chosen)} questions of split {self.split} has difficulty "
                f"{' or '.join(wanted)}: {remedy}"
            )
        return found

    def _nothing(self, keys: Sequence[Key]) -> str:
        """Why no row is selected."""
        there = sorted({shard.split for shard in self.shards} - {""})
        if not keys and there:
            return f"benchmark {self.name}: its files hold split {', '.join(there)}: set split: {there[0]}"
        held = f"{len(keys)} row{'s' * (len(keys) != 1)}" if keys else "no rows"
        return f"benchmark {self.name} has {held}, none of them in split {self.split}: use split: all"

    def load(self) -> "Benchmark":
        """Read the selected rows into memory. Raises what `select` and the shards raise."""
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
    """A benchmark in memory: `limit` questions with `samples` traces each.

    Bad rows are included, so that accuracy keeps its denominator.
    """

    name: str
    split: str
    split_rule: str
    grader: str
    tokens: Literal["math", "all"]
    rows: tuple[BenchmarkRow, ...]


def unread_id(place: str) -> str:
    """The id of a row whose own cannot be read. Ids that are read are stripped, so that none begins with a space: this
    one is no other row's."""
    return f" {place}"


def validation_draws(draws: Iterable[str]) -> set[str]:
    """The fifth of the draws with the smallest hashes. `draws` may hold repeats.

    The result is the same on every machine and for every order of the file. It holds at least one of two or more draws.
    """
    distinct = sorted(set(draws), key=lambda draw: (_hash("validation", draw), draw))
    size = max(1, round(VALIDATION_SHARE * len(distinct))) if len(distinct) > 1 else 0
    return set(distinct[:size])


def _in_order(difficulty: str) -> tuple[float, str]:
    """Sort key: numbers by size, then words."""
    try:
        return float(difficulty), ""
    except ValueError:
        return math.inf, difficulty


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
