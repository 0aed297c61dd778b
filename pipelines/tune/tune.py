"""`steer tune`: a plan for a knob, from what was measured on validation questions.

`choose_plan` is where every way of measuring ends: a recorded sweep and a prefix table here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.tune.models import models_of
from pipelines.tune.recorded import candidates_of, on_split, read_recorded
from steer.config.load import refusals_as_settings_errors
from steer.plans.candidates import Candidates, Family, evaluate, search
from steer.plans.choose import Certifying, Choice, choose, halve
from steer.plans.handover import Answers, large_alone, small_alone
from steer.plans.knobs import Knob
from steer.plans.plan import Asked, Expected, ModelIdentity, Origin, Plan
from steer.plans.table import PrefixTable, read_prefix_table
from steer.storage.run_folder import RunFolder

FOLDS = 5
ROUTED_BY_THRESHOLD = {"barrier": "rolling", "write_on": True}
"""Keys of `routing:` for a policy that decides by thresholds: it need not wait for other traces, and the model that is
cut off has written a few tokens too many, where a step at a time would cost a request a step."""


@dataclass(frozen=True)
class About:
    """What a plan says of where it came from."""

    benchmark: str
    split: str
    origin: Origin
    models: Mapping[str, ModelIdentity] = field(default_factory=dict)


@dataclass(frozen=True)
class Halves:
    """The two halves of the questions that `risk` needs."""

    choosing: Candidates
    certifying: Certifying


def choose_plan(candidates: Candidates, knob: Knob, about: About, halves: Halves | None = None) -> Plan:
    """The plan for a knob. ValueError: nothing meets it. `halves`: for `risk`."""
    pair = None if halves is None else (halves.choosing, halves.certifying)
    return planned(choose(candidates, knob, pair, about.origin.choice_seed), knob, about)


def planned(choice: Choice, knob: Knob, about: About) -> Plan:
    """The choice as a plan."""
    by_threshold = choice.policy.get("decide") == "threshold"
    return Plan(
        knob=knob,
        policy=choice.policy,
        routing=ROUTED_BY_THRESHOLD if by_threshold else {},
        calibration={"family": choice.family} if choice.routed else {},
        models=dict(about.models),
        asked=Asked(benchmark=about.benchmark, split=about.split, questions=choice.questions),
        expected=Expected.of(choice.expected),
        certified=choice.certified,
        routed=choice.routed,
        sentence=choice.sentence,
        origin=about.origin,
    )


def tune_sweep(
    folder: str, knob: Knob, out: str, benchmark: str | None = None, folds: int = FOLDS, seed: int = 0
) -> Plan:
    """Plan from the validation answers of a recorded sweep, write `plan.yaml` into the new folder `out`, and print it.

    Raises SettingsError for a folder that is no sweep's, a knob that nothing meets, and an `out` in use.
    """
    with refusals_as_settings_errors():
        RunFolder.refuse_used(out)
        recorded = read_recorded(folder)
        split = on_split(recorded, folder, benchmark)
        candidates = candidates_of(recorded, split, split.answers, folds, seed)
        halves = None
        if knob.name == "risk":
            chosen_Q, certified_Q = halve(len(split.questions), seed)
            choosing = candidates_of(recorded, split, split.first, folds, seed, chosen_Q)
            rest = candidates_of(recorded, split, split.first, folds, seed, certified_Q)
            by_name = {family.name: family.held for family in rest.families}
            halves = Halves(choosing, Certifying(rest.small, rest.large, lambda family: by_name[family.name]))
        about = About(
            split.benchmark, split.split, origin_of(folder, recorded.described, seed), models_of(recorded.described)
        )
        plan = choose_plan(candidates, knob, about, halves)
        write_plan(plan, out)
    unfinished = [" ".join(filter(None, key)) for key in split.unfinished]
    print(printed(plan, [f"left out, not finished: {', '.join(unfinished)}"] if unfinished else []), flush=True)
    return plan


def tune_table(folder: str, knob: Knob, out: str, of: str | None = None, folds: int = FOLDS, seed: int = 0) -> Plan:
    """Plan from a prefix table, write `plan.yaml` into the new folder `out`, and print it. Raises as `tune_sweep`.

    `of`: benchmark and split, if the folder has several."""
    with refusals_as_settings_errors():
        RunFolder.refuse_used(out)
        table = read_prefix_table(folder, of)
        described = RunFolder.open(folder).describe()
        about = About(table.benchmark, split_of(described), origin_of(folder, described, seed), models_of(described))
        halves = table_halves(table, folds, seed) if knob.name == "risk" else None
        candidates = search(table, folds, seed) if halves is None else halves.choosing
        plan = choose_plan(candidates, knob, about, halves)
        write_plan(plan, out)
    print(printed(plan, [f"left out: {count} questions ({reason})" for reason, count in table.left_out]), flush=True)
    return plan


def table_halves(table: PrefixTable, folds: int = FOLDS, seed: int = 0, **options: Any) -> Halves:
    """The halves of a prefix table for `risk`: thresholds and family from one, answers to the other. `options`: see
    `steer.plans.candidates.search`."""
    chosen_Q, certified_Q = halve(len(table), seed)
    choosing = search(table.take(chosen_Q), folds, seed, **options)
    rest = table.take(certified_Q)

    def answers(family: Family) -> Answers:
        return evaluate(rest, family.policies, options.get("tokens_past", 0.0))

    return Halves(choosing, Certifying(small_alone(rest), large_alone(rest), answers))


def origin_of(folder: str, described: Mapping[str, Any], seed: int) -> Origin:
    """Where a plan came from, by the `run.json` of the folder; {} if it has none."""
    return Origin(
        folder=folder,
        kind=described.get("kind", ""),
        seeds=tuple(described.get("seeds", ())),
        choice_seed=seed,
        git_commit=described.get("git_commit"),
        versions=described.get("versions", {}),
    )


def split_of(described: Mapping[str, Any]) -> str:
    """The split of a run's questions, from `run.json`: of its configuration, or of the benchmark that it read."""
    asked = described.get("config", {}).get("benchmark") or next(iter(described.get("benchmarks", [])), {})
    return str(asked.get("split", ""))


def write_plan(plan: Plan, out: str) -> None:
    """Write `plan.yaml` into a folder. Raises OutputFailed."""
    RunFolder(out).write_file("plan.yaml", plan.to_yaml().encode())


def printed(plan: Plan, notes: list[str] | None = None) -> str:
    """The plan as text."""
    expected = plan.expected
    accuracy, cost, above = expected.accuracy, expected.cost, expected.above_bar
    lines = [
        f"{plan.asked.benchmark}, {plan.asked.split} split, {plan.asked.questions} questions: {plan.knob}",
        *(notes or []),
        "",
        plan.sentence,
        "",
        f"policy     {_policy_text(plan.policy)}",
        f"accuracy   {100 * accuracy.value:.1f} % ({100 * accuracy.low:.1f} to {100 * accuracy.high:.1f})",
        f"cost       {100 * cost.value:.1f} % of the large model's flops_full ({100 * cost.low:.1f} to "
        f"{100 * cost.high:.1f})",
        f"vs coin    {100 * above.value:+.1f} points ({100 * above.low:+.1f} to {100 * above.high:+.1f})",
    ]
    if plan.certified is not None:
        lines.append(f"certified  at most {100 * plan.certified:.2f} % of the questions lost, with 95 % confidence")
    return "\n".join(lines)


def _policy_text(policy: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" if key != "name" else str(value) for key, value in policy.items())
