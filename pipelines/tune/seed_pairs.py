"""`steer tune-pairs`: tune every trained seed pair, and see on test questions whether each plan keeps its promise."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipelines.sweep.seed_pairs import pairs_in
from pipelines.sweep.sweep import run_sweep
from pipelines.tune.apply import bar_rows, one_setting
from pipelines.tune.pair import Tuning, is_finished, tune_pair
from pipelines.tune.recorded import on_split, read_recorded
from steer.config.policy import SteerPolicy
from steer.config.run import BenchmarkConfig, PairConfig, RunConfig
from steer.config.sweep import SweepConfig
from steer.plans.bar import Standing, standing
from steer.plans.knobs import Knob
from steer.plans.plan import Plan, read_plan

KNOBS = (Knob(name="budget", value=0.5), Knob(name="accuracy_within", value=0.01))
DEFAULT = "default"
"""Label of `steer` with its defaults."""


class Kept(NamedTuple):
    """A plan, or the default, on test questions."""

    pair: str
    benchmark: str
    what: str
    policy: str
    at: Standing
    keeps: bool | None
    """Whether the promise lies within the interval of what was measured. None: nothing was promised."""

    @property
    def below_bar(self) -> bool:
        """Whether the interval of the difference to the bar lies below 0."""
        return self.at.above_bar_interval[1] < 0


def tune_pairs(folder: str | Path, config: SweepConfig, out: str | Path, verbose: bool = False) -> str:
    """Tune and test every pair of a `small-seed*` and a `large-seed*` model in `folder` on each benchmark.

    `config.variants` is not read. What is finished under `out` is not run again. Returns the table, and prints it after
    each benchmark of a pair. Raises SettingsError if there are no such models.
    """
    rows: list[Kept] = []
    text = ""
    for name, pair in pairs_in(Path(folder)).items():
        for benchmark in config.benchmarks:
            print(f"\n## {name}, {benchmark.name}", flush=True)
            place = Path(out) / name / benchmark.name
            plans = {str(knob): _plan(config, pair, benchmark, knob, place, verbose) for knob in KNOBS}
            rows += _tested(config, pair, benchmark, name, plans, place / "test", verbose)
            text = as_text(rows)
            print(f"\n{text}", flush=True)
    return text


def _plan(
    config: SweepConfig, pair: PairConfig, benchmark: BenchmarkConfig, knob: Knob, place: Path, verbose: bool
) -> Plan:
    out = place / knob.name
    if (out / "plan.yaml").exists():
        return read_plan(out)
    asked = benchmark.model_copy(update={"limit": config.validation_questions})
    run = RunConfig(
        benchmark=asked, pair=pair, routing=config.routing, pools=config.pools, journal=config.journal, seed=config.seed
    )
    return tune_pair(run, knob, out, Tuning(confirm=False, verbose=verbose, table=str(place / "prefixes")))


def _tested(
    config: SweepConfig,
    pair: PairConfig,
    benchmark: BenchmarkConfig,
    name: str,
    plans: dict[str, Plan],
    out: Path,
    verbose: bool,
) -> list[Kept]:
    """The plans and the default on the test questions of a benchmark."""
    policies = {label: plan.policy_config() for label, plan in plans.items()} | {DEFAULT: SteerPolicy()}
    routed = [
        one_setting(label, policy, on_validation=False)
        for label, policy in policies.items()
        if policy.name not in ("small", "large")
    ]
    if not is_finished(out):
        variants = (*bar_rows(on_validation=False), *routed)
        update = {"variants": variants, "pair": pair, "benchmarks": (benchmark,)}
        run_sweep(config.model_copy(update=update), out, verbose=verbose, resume=True)
    found = on_split(read_recorded(str(out)), str(out), split="test")
    answers = {label: values for (label, _), values in found.answers.items()}
    rows = []
    for label, policy in policies.items():
        at = standing(answers[policy.name if policy.name in answers else label], answers["small"], answers["large"])
        knob = plans[label].knob if label in plans else None
        keeps = None
        if knob is not None:
            keeps = (
                at.cost_interval[0] <= knob.value
                if knob.name == "budget"
                else at.behind_large_interval[1] >= -knob.value
            )
        rows.append(Kept(name, benchmark.name, label, policy.name, at, keeps))
    return rows


def as_text(rows: Sequence[Kept]) -> str:
    """A line for each pair, benchmark and plan, the ranges over all pairs, and a last line that counts."""
    lines = [
        f"{'pair':25} {'benchmark':11} {'plan':52} {'policy':12} {'accuracy':>8} {'cost':>5}  vs coin (95 %)"
        "            vs large (95 %)           promise",
    ]
    for row in rows:
        above, behind = (
            f"{100 * value:+5.1f} ({100 * low:+5.1f} to {100 * high:+5.1f})"
            for value, (low, high) in (
                (row.at.above_bar, row.at.above_bar_interval),
                (row.at.behind_large, row.at.behind_large_interval),
            )
        )
        promise = "" if row.keeps is None else "kept" if row.keeps else "BROKEN"
        lines.append(
            f"{row.pair:25} {row.benchmark:11} {row.what:52} {row.policy:12} {100 * row.at.accuracy:7.1f}% "
            f"{100 * row.at.cost:4.0f}%  {above}  {behind}  {promise}"
        )
    lines += ["", "least and most of all pairs:", *_ranges(rows)]
    promised = [row for row in rows if row.keeps is not None]
    lines.append(
        f"\n{sum(bool(row.keeps) for row in promised)} of {len(promised)} promises kept within the interval; "
        f"{sum(row.below_bar for row in promised)} plans below the bar's interval"
    )
    return "\n".join(lines)


def _ranges(rows: Sequence[Kept]) -> list[str]:
    """A line for each benchmark and plan."""
    of_plan: dict[tuple[str, str], list[Kept]] = {}
    for row in rows:
        of_plan.setdefault((row.benchmark, row.what), []).append(row)
    lines = []
    for (benchmark, what), alike in of_plan.items():
        accuracy, cost, above, behind = (
            f"{100 * min(values):.1f} to {100 * max(values):.1f}"
            for values in zip(
                *((r.at.accuracy, r.at.cost, r.at.above_bar, r.at.behind_large) for r in alike), strict=True
            )
        )
        lines.append(
            f"{benchmark:11} {what:52} {len(alike)} pairs: accuracy {accuracy} %, cost {cost} %, "
            f"points vs coin {above}, vs large {behind}"
        )
    return lines
