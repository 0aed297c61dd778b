"""The benchmarks of the embedded pair: generated from seeds, no file and no network."""

from dataclasses import dataclass
from typing import Literal

from steer.benchmarks.benchmark import Benchmark, Row
from steer.config import BenchmarkConfig
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
}

OWN_DATA_KEYS = ("question", "answer", "id", "prompt")


def load(config: BenchmarkConfig) -> Benchmark:
    """Raises ValueError for an unknown name, or for keys that only a file of one's own has."""
    known = EMBEDDED.get(config.name)
    if known is None:
        raise ValueError(
            f"benchmark name: {config.name}: no embedded benchmark of that name; there are {', '.join(EMBEDDED)}. "
            "For data of your own set source: PATH, question:, answer: and grader:"
        )
    misplaced = [key for key in OWN_DATA_KEYS if key in config.model_fields_set]
    if misplaced:
        raise ValueError(
            f"benchmark {config.name} is embedded and takes no {', '.join(misplaced)}: remove them, or set "
            "source: PATH to read data of your own"
        )
    grader = config.grader or known.grader
    splits = list(tasks.SPLIT_SIZES) if config.split == "all" else [config.split]
    rows = tuple(
        Row(
            Question(
                id=task.id,
                sample=0,
                benchmark=config.name,
                prompt=task.question,
                gold=task.gold,
                grader=grader,
                difficulty=str(task.level),
            )
        )
        for split in splits
        for task in tasks.questions(config.name, split)
    )
    return Benchmark(
        name=config.name,
        split=config.split,
        split_rule="the benchmark's own splits, disjoint by question text",
        grader=grader,
        tokens=config.tokens or known.tokens,
        rows=rows,
    )
