"""`steer sweep-pairs`: compare variants over all trained seed pairs, on validation, at equal compute.

The defaults of the policy `steer` are chosen from this, over all pairs and benchmarks, before any test question is
seen.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipelines.report.summary import Summary, read_json
from pipelines.sweep.sweep import run_sweep
from steer.config.load import SettingsError
from steer.config.policy import BAR
from steer.config.run import ModelConfig, PairConfig
from steer.config.sweep import SweepConfig
from steer.storage.run_folder import RunFolder

BUDGETS = tuple(np.arange(0.1, 1.0, 0.1))
"""Compute a question at which accuracies are compared, as shares of what the large model alone needs."""
FLOPS_COUNTS = ("flops_paper", "flops_full")


def sweep_pairs(folder: str | Path, config: SweepConfig, out: str | Path, verbose: bool = False) -> str:
    """Sweep the variants with every pair of a `small-seed*` and a `large-seed*` model in `folder`.

    Each pair has a run folder under `out`. A pair whose run is finished there is not run again. Returns the comparison,
    and prints it after each pair. Raises SettingsError if there are no such models, or if a run under `out` is
    unfinished.
    """
    if config.test:
        raise SettingsError("test: true: a choice of defaults looks at validation alone; set test: false")
    sweeps: list[list[Summary]] = []
    text = ""
    for name, pair in pairs_in(Path(folder)).items():
        target = Path(out) / name
        print(f"\n## {name}", flush=True)
        rows = _finished(target) or run_sweep(config.model_copy(update={"pair": pair}), target, verbose=verbose)
        sweeps.append(rows)
        text = comparison(sweeps)
        print(f"\n{text}", flush=True)
    return text


def _finished(target: Path) -> list[Summary] | None:
    """The summary of a finished run. None: there is no run. Raises SettingsError for an unfinished one."""
    if not (target / "run.json").exists():
        return None
    run = RunFolder.open(target)
    rows = read_json(run)
    if rows is None or run.describe()["finished"] is None:
        raise SettingsError(f"{target} was left unfinished: remove it, and it will be run again")
    return rows


def comparison(sweeps: Sequence[Sequence[Summary]]) -> str:
    """A table with a line for each variant, best first by `flops_full`.

    It holds points of accuracy above `random_query` by both FLOPs counts: the mean over budgets, pairs and benchmarks,
    and that of the worst pair and benchmark.
    """
    gains: dict[str, dict[str, list[float]]] = defaultdict(lambda: {count: [] for count in FLOPS_COUNTS})
    for rows in sweeps:
        for benchmark in dict.fromkeys(row.benchmark for row in rows):
            mine = [row for row in rows if row.benchmark == benchmark]
            bar = [row for row in mine if row.policy in BAR]
            for label in dict.fromkeys(row.policy for row in mine if row.policy not in BAR):
                curve = [row for row in mine if row.policy == label]
                for count in FLOPS_COUNTS:
                    gains[label][count].append(mean_gain(curve, bar, count))
    order = sorted(gains, key=lambda label: -np.mean(gains[label]["flops_full"]))
    width = max(map(len, order), default=0)
    lines = [f"{'':{width}}  {'flops_full':>20}  {'flops_paper':>20}   points above random_query, mean (worst)"]
    for label in order:
        columns = [
            f"{np.mean(found):+9.1f} ({min(found):+7.1f})" for found in map(gains[label].get, FLOPS_COUNTS[::-1])
        ]
        lines.append(f"{label:{width}}  {'  '.join(f'{c:>20}' for c in columns)}")
    return "\n".join(lines)


def mean_gain(curve: Sequence[Summary], bar: Sequence[Summary], count: str) -> float:
    """Points of accuracy (%) by which a variant beats `random_query`, as a mean over `BUDGETS`.

    The variant's accuracy at a budget is read from the upper concave hull of its settings, `small` and `large`: a coin
    for each question, between two of these, reaches it. `random_query` is such a coin between `small` and `large`; its
    accuracy is read from the straight lines between the bar's points.

    `curve`, `bar`: rows of one benchmark; `bar` holds `small` and `large`. `count`: `flops_paper` or `flops_full`.
    """
    small, large = (next(row for row in bar if row.policy == name) for name in ("small", "large"))

    def cheapest_first(rows: Sequence[Summary]) -> list[tuple[float, float]]:
        return sorted((getattr(row, count) / getattr(large, count), row.accuracy) for row in rows)

    reached, coin = (
        np.interp(BUDGETS, *np.transpose(points))
        for points in (hull(cheapest_first([*curve, small, large])), cheapest_first(bar))
    )
    return float(100 * np.mean(reached - coin))


def hull(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Upper concave hull of (cost, accuracy) points, by cost (Andrew's monotone chain). A point that costs more without
    being more accurate is left out."""
    kept: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if kept and y <= kept[-1][1]:
            continue
        while len(kept) > 1 and _slope(kept[-2], kept[-1]) <= _slope(kept[-2], (x, y)):
            kept.pop()
        kept.append((x, y))
    return kept


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0]) if b[0] > a[0] else np.inf


def pairs_in(folder: Path) -> dict[str, PairConfig]:
    """Every pair of the models that `steer train-pair` wrote there, by name. SettingsError if there are none."""
    found = {size: sorted(folder.glob(f"{size}-seed*")) for size in ("small", "large")}
    if not all(found.values()):
        raise SettingsError(
            f"{folder}: holds no small-seed* and large-seed* models: give the --out of steer train-pair"
        )
    return {
        f"{small.name}_{large.name}": PairConfig(
            small=ModelConfig(path=str(small.absolute())), large=ModelConfig(path=str(large.absolute()))
        )
        for small in found["small"]
        for large in found["large"]
    }
