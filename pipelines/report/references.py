"""What the curve shows beside the run's own settings: the oracle, and results that others published for this pair.

A published result is shown only where the run is of that pair and asks that benchmark without a restriction to some
difficulties. It is no measurement of this run: the authors' prompts, sampling and grading differ, and they asked all
questions, not the test split alone.
"""

import math
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from pipelines.report.charts import Reference
from steer.config.pairs import PAIRS

ORACLE = "oracle"


class Published(NamedTuple):
    name: str
    accuracy: float
    """0 to 1."""
    of_large: dict[str, float]
    """Its cost as a share of the large model's in the same publication, by the way of counting (`flops_paper`,
    `flops_full`); without the counts that were not published."""
    source: str


_TRIM = "Kapoor et al. 2026 (TRIM), arXiv 2601.10245"
MARKS = {
    ("qwen2.5", "math500"): (
        # The cost of the small model alone is not among the published figures.
        Published("small (TRIM)", 0.364, {}, _TRIM),
        Published("large (TRIM)", 0.730, {"flops_paper": 1.0, "flops_full": 1.0}, _TRIM),
        # In full: with the passes of its reward model, Qwen2.5-Math-PRM-7B.
        Published("TRIM-Thr", 0.674, {"flops_paper": 0.54, "flops_full": 1.50}, _TRIM),
    ),
}
"""By (name of the pair, benchmark)."""


def references(described: dict[str, Any], benchmark: str, count: str, oracle: tuple[float, float]) -> list[Reference]:
    """The references of a benchmark's curve by `count`, `flops_paper` or `flops_full`.

    `described`: `run.json`. `oracle`: its accuracy (0 to 1) and 1e12 FLOPs a question by that count; NaN: there is
    none.
    """
    accuracy, flops = oracle
    said = (
        f"oracle: each question to the model that is right on it, the cheaper of two\naccuracy {100 * accuracy:.1f} %"
    )
    found = [] if math.isnan(accuracy) else [Reference(ORACLE, accuracy, "x", said, flops=flops)]
    for mark in published(described, benchmark):
        if count in mark.of_large:
            cost = mark.of_large[count]
            said = f"{mark.name}, published: {mark.source}\naccuracy {100 * mark.accuracy:.1f} %, {cost:.0%} of large"
            found.append(Reference(f"{mark.name}, published", mark.accuracy, "pentagon", said, of_large=cost))
    return found


def published(described: dict[str, Any], benchmark: str) -> tuple[Published, ...]:
    """The marks of a benchmark of a run. `described`: `run.json`."""
    config = described.get("config", {})
    asked = [b for b in (*config.get("benchmarks", ()), config.get("benchmark") or {}) if b.get("name") == benchmark]
    if not asked or any(b.get("difficulties") for b in asked):
        return ()
    pair = _pair_name(config.get("pair"))
    return MARKS.get((pair, benchmark), ()) if pair else ()


def _pair_name(pair: Any) -> str | None:
    """The known pair whose models these are, from the hub or from folders of their names."""
    if isinstance(pair, str):
        return pair if pair in PAIRS else None
    models = pair or {}
    paths = [str((models.get(role) or {}).get("path", "")) for role in ("small", "large")]
    for name, known in PAIRS.items():
        if [_last(path) for path in paths] == [_last(known.small.path), _last(known.large.path)]:
            return name
    return None


def _last(path: str) -> str:
    return PurePosixPath(path).name
