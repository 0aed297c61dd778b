"""`steer tune CONFIG`: measure a pair on validation questions, and plan.

    DIR/prefixes/     the prefix table (`steer prefixes`)
    DIR/measured/     settings that a prefix table cannot price, run on the same questions: `query_router`, if the pair
                      has a probe, and with `hands_back` the best settings of the table that return a trace
    DIR/confirmed-N/  the routed plan, run on the same questions with another sampling seed
    DIR/plan.yaml

Invariants: validation questions alone are asked. What is there already is not measured again, so the second knob of a
pair costs the confirming run alone.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import TypeAdapter

from pipelines.report.summary import Summary
from pipelines.sweep.sweep import run_sweep
from pipelines.tune.apply import bar_rows, one_setting
from pipelines.tune.prefixes import write_prefixes
from pipelines.tune.recorded import on_split, read_recorded, settings_of
from pipelines.tune.tune import Measured, choose_plan, plan_from, printed, write_plan
from steer.config.load import SettingsError, refusals_as_settings_errors
from steer.config.pairs import load_pair
from steer.config.policy import PolicyConfig, QueryRouterPolicy
from steer.config.run import RunConfig
from steer.config.sweep import SweepConfig, Variant
from steer.plans.bar import standing
from steer.plans.candidates import Candidates, Family, joined, measured
from steer.plans.choose import pick
from steer.plans.handover import Answers
from steer.plans.knobs import Knob
from steer.plans.plan import Confirmed, Plan
from steer.statistics.curves import PLAN
from steer.storage.run_folder import RunFolder

HAND_BACK_LEVELS = 5
"""Levels of a hand-over policy that are run with traces that return."""
CONFIRMED = "confirmed"


class Tuning(NamedTuple):
    """What `steer tune` is asked besides its knob."""

    folds: int = 5
    seed: int = 0
    """Of the folds, the halves and the bootstrap."""
    hands_back: bool = False
    """Run settings that return a trace to the small model, too."""
    confirm: bool = True
    replica_class: type | None = None
    verbose: bool = False
    table: str | None = None
    """Folder of the prefix table. None: `prefixes` in the folder of the plan."""


DEFAULTS = Tuning()


def tune_pair(config: RunConfig, knob: Knob, out: str | Path, tuning: Tuning = DEFAULTS) -> Plan:
    """Measure the configured pair on the benchmark's validation questions, write `plan.yaml` into `out`, and print it.

    `config.policy` and the benchmark's split are not read; `config.routing` is how the plan will be run. Raises
    SettingsError for a configuration that cannot be used, and for a knob that nothing meets.
    """
    folder = Path(out)
    table_folder = tuning.table or str(folder / "prefixes")
    cost = write_prefixes(config, table_folder, tuning.replica_class, tuning.verbose, resume=True)
    print(f"prefix table: {cost.text()}\n", flush=True)
    with refusals_as_settings_errors():
        measured_on = Measured.read(table_folder, None)
    plan = _planned(config, knob, measured_on, folder, tuning)
    notes = list(measured_on.notes)
    if plan.routed and tuning.confirm:
        found = _confirm(config, plan, folder, tuning)
        if config.routing.write_on and found.written_past is not None:
            # The first choice was priced by a guess of what is written past an unsure step. Now it is known.
            renewed = _planned(config, knob, replace(measured_on, written_past=found.written_past), folder, tuning)
            if renewed.policy != plan.policy:
                plan = renewed
                found = _confirm(config, plan, folder, tuning) if plan.routed else found
        if plan.routed:
            plan = plan.model_copy(update={"confirmed": found.confirmed})
            notes += _said_of(found.confirmed, plan)
    write_plan(plan, str(folder))
    print(printed(plan, notes), flush=True)
    return plan


def _planned(config: RunConfig, knob: Knob, measured_on: Measured, folder: Path, tuning: Tuning) -> Plan:
    """The plan by the table and, but for `risk`, whose bound is for settings of the table, by settings that are run."""
    if knob.name == "risk":
        with refusals_as_settings_errors():
            return plan_from(measured_on, knob, tuning.folds, tuning.seed)
    with refusals_as_settings_errors():
        candidates = measured_on.candidates(tuning.folds, tuning.seed)
    candidates = _with_measured(config, knob, candidates, folder, tuning)
    with refusals_as_settings_errors():
        return choose_plan(candidates, knob, measured_on.about(tuning.seed))


# --- settings that a table cannot price -------------------------------------------------------------------------------


def _with_measured(config: RunConfig, knob: Knob, candidates: Candidates, folder: Path, tuning: Tuning) -> Candidates:
    """The candidates and those that must be run, a family for each run."""
    settings: dict[str, list[tuple[float, dict[str, Any], Answers]]] = {}
    asked = set(candidates.questions)
    for label, variants in _to_run(config, knob, candidates, tuning).items():
        run = folder / "measured" / label
        if not is_finished(run):
            _sweep(config, (*bar_rows(), *variants), run, config.seed, tuning)
        with refusals_as_settings_errors():
            recorded = read_recorded(str(run))
            found = on_split(recorded, str(run)).restricted(asked)
        if found.questions != candidates.questions:
            raise SettingsError(f"{run} lacks questions of the prefix table: remove it, and it will be measured again")
        # What was run has its own policies in run.json: an earlier knob may have chosen other levels.
        rows = [row for of_label in settings_of(recorded, found.answers).values() for row in of_label]
        settings[label] = [(float(level), policy, answers) for level, (_, policy, answers) in enumerate(rows)]
    if not settings:
        return candidates
    small, large, questions = candidates.small, candidates.large, candidates.questions
    return joined(candidates, measured(settings, small, large, questions, candidates.folds, tuning.seed))


def _to_run(config: RunConfig, knob: Knob, candidates: Candidates, tuning: Tuning) -> dict[str, tuple[Variant, ...]]:
    """By the name of their run: the settings to run beside the bar's."""
    to_run: dict[str, tuple[Variant, ...]] = {}
    if load_pair(config.pair).probe is not None:
        to_run["query_router"] = (Variant(label="query_router", policy=QueryRouterPolicy()),)
    if tuning.hands_back and candidates.families:
        stacked = candidates.stacked()
        picked = pick(stacked, candidates.folds, candidates.small, candidates.large, knob)
        if picked is not None:
            family = candidates.families[picked[0]]
            to_run["hands_back"] = tuple(
                one_setting(f"hands back {number}", _returning(family.policies[level]))
                for number, level in enumerate(_spread(family, candidates))
            )
    return to_run


def _returning(policy: dict[str, Any]) -> PolicyConfig:
    returning: PolicyConfig = TypeAdapter(PolicyConfig).validate_python({**policy, "hands_back": True})
    return returning


def _spread(family: Family, candidates: Candidates) -> list[int]:
    """Levels of a family whose costs are spread evenly from the small model's to the large one's."""
    share_P = family.cost_FP[-1] / candidates.large.flops_full.mean()
    wanted = np.linspace(0.0, 1.0, HAND_BACK_LEVELS + 2)[1:-1]
    return sorted({int(np.abs(share_P - share).argmin()) for share in wanted})


def is_finished(folder: Path) -> bool:
    """Whether a run in this folder has ended."""
    if not (folder / "run.json").exists():
        return False
    return RunFolder.open(folder).describe()["finished"] is not None


def _sweep(config: RunConfig, variants: Sequence[Variant], out: Path, seed: int, tuning: Tuning) -> list[Summary]:
    """Run settings on the validation questions."""
    sweep = SweepConfig(
        benchmarks=(config.benchmark,),
        validation_questions=config.benchmark.limit,
        pair=config.pair,
        variants=tuple(variants),
        routing=config.routing,
        pools=config.pools,
        journal=config.journal,
        seed=seed,
        test=False,
    )
    return run_sweep(sweep, out, tuning.replica_class, tuning.verbose, resume=True)


# --- the confirming run -----------------------------------------------------------------------------------------------


class Found(NamedTuple):
    """What the confirming run showed."""

    confirmed: Confirmed
    written_past: float | None
    """Tokens that the small model wrote past an unsure step, on average over traces that were handed over. None: no
    trace was."""


def _confirm(config: RunConfig, plan: Plan, folder: Path, tuning: Tuning) -> Found:
    """Run the plan on the validation questions with another sampling seed, beside both models alone."""
    seed = config.seed + 1
    number = sum(1 for _ in folder.glob(f"{CONFIRMED}-*"))
    run = folder / f"{CONFIRMED}-{number}"
    _sweep(config, (*bar_rows(), one_setting(PLAN, plan.policy_config())), run, seed, tuning)
    with refusals_as_settings_errors():
        found = on_split(read_recorded(str(run)), str(run))
    answers = {label: values for (label, _), values in found.answers.items()}
    at = standing(answers[PLAN], answers["small"], answers["large"], tuning.seed)
    return Found(Confirmed.of(at, seed, len(found.questions)), written_past(RunFolder.open(run)))


def written_past(run: RunFolder, label: str = PLAN) -> float | None:
    """Tokens that were written past the step at which a trace was handed over, on average over such traces: what was
    discarded but for the steps that the policy discarded. None: no trace was handed over."""
    cells = [cell["name"] for cell in run.describe()["cells"] if f"/{label}/" in cell["name"]]
    traces = run.read_unsorted("traces", cells, ["cell", "trace_id", "tokens_discarded", "steps_large"]).to_pandas()
    steps = run.read_unsorted("steps", cells, ["cell", "trace_id", "tokens", "accepted"]).to_pandas()
    rewritten = steps[~steps["accepted"]].groupby(["cell", "trace_id"])["tokens"].sum()
    handed = traces[traces["steps_large"] > 0].set_index(["cell", "trace_id"])
    if not len(handed):
        return None
    past = handed["tokens_discarded"] - rewritten.reindex(handed.index).fillna(0)
    return float(past.mean())


def _said_of(confirmed: Confirmed, plan: Plan) -> list[str]:
    """The confirming run in a line, and a second one where it does not keep the knob."""
    accuracy, cost, behind = confirmed.accuracy, confirmed.cost, confirmed.behind_large
    lines = [
        f"run with seed {confirmed.seed}: {100 * accuracy.value:.1f} % ({100 * accuracy.low:.1f} to "
        f"{100 * accuracy.high:.1f}) at {100 * cost.value:.1f} % of the large model's flops_full "
        f"({100 * cost.low:.1f} to {100 * cost.high:.1f}), {100 * behind.value:+.1f} points against large"
    ]
    if plan.knob.name == "budget" and cost.low > plan.knob.value:
        lines.append(f"This is dearer than {plan.knob}: the table does not price this pair's runs well.")
    if plan.knob.name == "accuracy_within" and behind.high < -plan.knob.value:
        lines.append(f"This is not {plan.knob}: the table does not foretell this pair's runs well.")
    return lines
