"""Which seed of each size is shipped. The models' validation accuracies alone decide, never how a pair routes.

A small model should be right at the easy levels and wrong at level 4. A large model should be right nearly everywhere.
Seeds are ranked by their shortfall, which is how far they miss all criteria together (0 if they meet all), and then by
accuracy. The accuracy of a small model is its mean over the easy levels of all benchmarks that it was trained on, and
that of a large model its mean over these benchmarks. All accuracies are sampled at T = 0.7.
"""

from typing import NotRequired, TypedDict

Accuracies = dict[str, dict[str, float]]
"""Benchmark -> "overall" and each level -> share of questions answered right."""


class StepAccuracy(TypedDict):
    """How well a model writes one kind of step after the true steps before it."""

    steps: int
    """How many steps were looked at."""
    sampled: float
    """Their mean chance to be written right at T = 0.7."""
    greedy: float
    """Share of steps of which each token is the likeliest one."""


class TrainingResult(TypedDict):
    """What the training of one model reports."""

    size: str
    seed: int
    tokens: int
    parameters: int
    cpu_minutes: float
    sampled: Accuracies
    greedy: Accuracies
    steps: NotRequired[dict[str, StepAccuracy]]
    """By kind, easy and hard, of `mixed_chain`."""
    shortfall: NotRequired[float]


EASY_LEVELS = {"chain_math": ("1", "2"), "hops": ("1", "2"), "mixed_chain": ("1",)}
"""Levels that need few facts. From level 2 on, a question of `mixed_chain` has a hard step."""
SMALL_EASY_MIN = 0.90
"""At each easy level. A chain of eight steps that succeeds this often hardly ever needs the large model."""
SMALL_HARD_MAX = {"chain_math": 0.15, "hops": 0.15, "mixed_chain": 0.3}
"""At level 4. There must be questions that only the large model can answer. In `mixed_chain` a hard operation has only
eight results, so a guess at the last hard step makes the answer right after any mistake before it."""
LARGE_MIN = {"chain_math": 0.85, "hops": 0.75, "mixed_chain": 0.95}
"""Over all levels."""


def shortfall(result: TrainingResult) -> float:
    """The sum by which a training result misses the criteria of its size; 0 if it meets all."""
    sampled = result["sampled"]
    if result["size"] == "large":
        return sum(max(0.0, LARGE_MIN[benchmark] - levels["overall"]) for benchmark, levels in sampled.items())
    return sum(
        sum(max(0.0, SMALL_EASY_MIN - levels[level]) for level in EASY_LEVELS[benchmark])
        + max(0.0, levels["4"] - SMALL_HARD_MAX[benchmark])
        for benchmark, levels in sampled.items()
    )


def merit(result: TrainingResult) -> float:
    values = [
        levels[name]
        for benchmark, levels in result["sampled"].items()
        for name in (("overall",) if result["size"] == "large" else EASY_LEVELS[benchmark])
    ]
    return sum(values) / len(values)


def select(results: list[TrainingResult]) -> tuple[int, int]:
    """The seeds of the best small and the best large model. The lower seed wins a tie."""
    best = {}
    for size in ("small", "large"):
        candidates = [result for result in results if result["size"] == size]
        best[size] = min(candidates, key=lambda result: (shortfall(result), -merit(result), result["seed"]))["seed"]
    return best["small"], best["large"]
