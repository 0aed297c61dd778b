"""`steer sweep-pairs`: the routing results of every trained seed pair on validation, and the measure that they prefer.

The default measure of `steer` is chosen from this, over all pairs and benchmarks, before any test question is seen.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from pipelines.grids import SweepConfig, Variant
from pipelines.settings import SettingsError
from pipelines.sweep import chosen, kept_rows, run_sweep
from steer.config import ModelConfig, PairConfig
from steer.traces import MEASURES

GAMMAS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Every second point of the standard grid: the comparison is of measures, not of thresholds."""
QUESTIONS = 200


def sweep_pairs(folder: str | Path, out: str | Path, questions: int = QUESTIONS, verbose: bool = False) -> list[dict]:
    """Sweep validation with every `small-seed*` of `folder` beside every `large-seed*`; one run folder a pair under
    `out`, and `out/summary.json` with the chosen rows of all. Raises SettingsError if there are no such models."""
    pairs = _pairs(Path(folder))
    rows = []
    for name, pair in pairs.items():
        config = SweepConfig(
            pair=pair, variants=_variants(), validation_questions=questions, test=False, validation_seeds=1
        )
        print(f"\n## {name}", flush=True)
        swept = run_sweep(config, Path(out) / name, verbose=verbose)
        rows += [{"pair": name, **row._asdict()} for row in kept_rows(swept, chosen(config, swept))]
    Path(out, "summary.json").write_text(json.dumps(rows, indent=2) + "\n")
    print(f"\n{preference(rows)}", flush=True)
    return rows


def preference(rows: Sequence[dict]) -> str:
    """Mean points above `random_query` at equal FLOPs and mean accuracy lost against `large`, by policy, over all pairs
    and benchmarks; and the measure with the highest gain."""
    large = {(r["pair"], r["benchmark"]): r["accuracy"] for r in rows if r["policy"] == "large"}
    labels = [label for label in dict.fromkeys(r["policy"] for r in rows) if label.startswith("steer")]
    lines, gains = [], {}
    for label in labels:
        mine = [r for r in rows if r["policy"] == label]
        gain = [100 * (r["accuracy"] - r["random_query_accuracy"]) for r in mine]
        lost = [100 * (large[r["pair"], r["benchmark"]] - r["accuracy"]) for r in mine]
        gains[label] = sum(gain) / len(gain)
        lines.append(
            f"{label:18s} vs random_query {gains[label]:+5.1f} (worst {min(gain):+5.1f})   "
            f"below large {sum(lost) / len(lost):+5.1f} (worst {max(lost):+5.1f})   {len(mine)} pairs and benchmarks"
        )
    measures = {label: gain for label, gain in gains.items() if label.split()[-1] in MEASURES}
    lines.append(f"preferred measure: {max(measures, key=measures.get).split()[-1]}")
    return "\n".join(lines)


def _variants() -> tuple[Variant, ...]:
    rows = [
        {"label": "small", "policy": {"name": "small"}},
        {"label": "large", "policy": {"name": "large"}},
        {"label": "random_query", "policy": {"name": "random_query"}, "grid": [0.5]},
        *(
            {"label": f"steer {measure}", "policy": {"name": "steer", "measure": measure}, "grid": GAMMAS}
            for measure in MEASURES
        ),
        {"label": "steer paper", "policy": {"name": "steer", "preset": "paper"}, "grid": GAMMAS},
    ]
    return tuple(Variant.model_validate(row) for row in rows)


def _pairs(folder: Path) -> dict[str, PairConfig]:
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
