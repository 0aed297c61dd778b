"""Which seed of each size is shipped. The models' validation accuracies alone decide, never how a pair routes.

A small model should be right at levels 1 and 2 and wrong at level 4. A large model should be right nearly everywhere.
Seeds are ranked by their shortfall, which is how far they miss all criteria together (0 if they meet all), and then by
accuracy. The accuracy of a small model is its mean over levels 1 and 2 of both benchmarks, and that of a large model
its mean over both benchmarks. All accuracies are sampled at T = 0.7.
"""

from typing import NotRequired, TypedDict

Accuracies = dict[str, dict[str, float]]
"""Benchmark -> "overall" and each level -> share of questions answered right."""


class TrainingResult(TypedDict):
    """What the training of one model reports."""

    size: str
    seed: int
    tokens: int
    parameters: int
    cpu_minutes: float
    sampled: Accuracies
    greedy: Accuracies
    shortfall: NotRequired[float]


SMALL_EASY_MIN = 0.90
"""At each of levels 1 and 2. A chain of eight steps that succeeds this often hardly ever needs the large model."""
SMALL_HARD_MAX = 0.15
"""At level 4. There must be questions that only the large model can answer."""
LARGE_MIN = {"chain_math": 0.85, "hops": 0.75}
"""Over all levels."""


def shortfall(result: TrainingResult) -> float:
    """The sum by which a training result misses the criteria of its size; 0 if it meets all."""
    sampled = result["sampled"]
    if result["size"] == "large":
        return sum(max(0.0, least - sampled[benchmark]["overall"]) for benchmark, least in LARGE_MIN.items())
    return sum(
        max(0.0, SMALL_EASY_MIN - levels["1"])
        + max(0.0, SMALL_EASY_MIN - levels["2"])
        + max(0.0, levels["4"] - SMALL_HARD_MAX)
        for levels in sampled.values()
    )


def merit(result: TrainingResult) -> float:
    names = ("overall",) if result["size"] == "large" else ("1", "2")
    values = [levels[name] for levels in result["sampled"].values() for name in names]
    return sum(values) / len(values)


def select(results: list[TrainingResult]) -> tuple[int, int]:
    """The seeds of the best small and the best large model. The lower seed wins a tie."""
    best = {}
    for size in ("small", "large"):
        candidates = [result for result in results if result["size"] == size]
        best[size] = min(candidates, key=lambda result: (shortfall(result), -merit(result), result["seed"]))["seed"]
    return best["small"], best["large"]
