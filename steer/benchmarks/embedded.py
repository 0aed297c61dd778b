"""The benchmarks of the embedded pairs. They are generated from seeds and need no file and no network."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from steer.benchmarks.benchmark import BenchmarkRow, Key, Reading
from steer.config.run import BenchmarkConfig
from steer.embedded import tasks
from steer.traces import Question


@dataclass(frozen=True)
class EmbeddedBenchmark:
    about: str
    grader: str
    tokens: Literal["math", "all"]


EMBEDDED = {
    "chain_math": EmbeddedBenchmark("chains of named operations modulo 10^level, levels 1 to 4", "math", "math"),
    "hops": EmbeddedBenchmark("closed-book multi-hop relations in a fictional world, levels 1 to 4", "qa", "all"),
    "mixed_chain": EmbeddedBenchmark(
        "chains with 0 to 3 hard operations among easy ones, levels 1 to 4", "math", "math"
    ),
}


@dataclass(frozen=True)
class EmbeddedShard:
    """One split of one embedded benchmark."""

    name: str
    split: str
    grader: str

    def rows(self) -> Iterator[tuple[Key, BenchmarkRow]]:
        for task in tasks.questions(self.name, self.split):
            question = Question(
                id=task.id,
                sample=0,
                benchmark=self.name,
                prompt=task.question,
                gold=task.gold,
                grader=self.grader,
                difficulty=str(task.level),
            )
            place = f"{self.name} {self.split}"
            yield Key(task.id, place, self.split, task.id, question.difficulty), BenchmarkRow(question)


def reading(config: BenchmarkConfig) -> Reading:
    known = EMBEDDED[config.name]
    grader = config.grader or known.grader
    splits = ("train",) if config.split == "train" else tuple(tasks.SPLIT_SIZES)
    return Reading(
        name=config.name,
        split=config.split,
        split_rule="the benchmark's own splits, disjoint by question text",
        grader=grader,
        tokens=config.tokens or known.tokens,
        shards=tuple(EmbeddedShard(config.name, split, grader) for split in splits),
        limit=config.limit,
        samples=config.samples,
    )
