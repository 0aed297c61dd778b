"""`steer tune`: a plan for a knob, from what was measured on validation questions.

`Measured` is what there is to choose from, and `choose_plan` is where every way of measuring ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.tune.models import models_of
from pipelines.tune.recorded import OnSplit, Recorded, alone, on_split, read_recorded, settings_of
from steer.config.load import refusals_as_settings_errors
from steer.config.run import RoutingOptions
from steer.plans.candidates import Candidates, Family, evaluate, joined, measured, search
from steer.plans.choose import Certifying, Choice, choose, halve
from steer.plans.handover import Answers, large_alone, small_alone
from steer.plans.knobs import Knob
from steer.plans.plan import Asked, Expected, ModelIdentity, Origin, Plan
from steer.plans.table import PrefixTable, read_prefix_table
from steer.storage.run_folder import RunFolder

FOLDS = 5
WRITTEN_PAST = 16.0
"""Tokens past the unsure step where the small model writes on while a decision is under way, and no run has said how
many: on a GPU it writes some ten while a message goes to the router and back."""


@dataclass(frozen=True)
class About:
    """What a plan says of where it came from."""

    benchmark: str
    split: str
    origin: Origin
    models: Mapping[str, ModelIdentity] = field(default_factory=dict)
    routing: Mapping[str, Any] = field(default_factory=dict)
    """What `routing:` of the run said of how traces are written (`how_written`)."""


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
    return Plan(
        knob=knob,
        policy=choice.policy,
        routing=dict(about.routing) if choice.routed else {},
        calibration={"family": choice.family} if choice.routed else {},
        models=dict(about.models),
        asked=Asked(benchmark=about.benchmark, split=about.split, questions=choice.questions),
        expected=Expected.of(choice.expected),
        certified=choice.certified,
        routed=choice.routed,
        sentence=choice.sentence,
        origin=about.origin,
    )


def tune(
    knob: Knob,
    out: str,
    *,
    prefixes: str | None = None,
    sweep: str | None = None,
    benchmark: str | None = None,
    folds: int = FOLDS,
    seed: int = 0,
) -> Plan:
    """Plan from the prefix table in the folder `prefixes`, the validation answers of the recorded `sweep`, or both.
    Write `plan.yaml` into the new folder `out`, and print it.

    `benchmark`: which one, if a folder has several. Raises SettingsError for folders without what is needed, a knob
    that nothing meets, and an `out` in use.
    """
    with refusals_as_settings_errors():
        RunFolder.refuse_used(out)
        measured_on = Measured.read(prefixes, sweep, benchmark)
        plan = plan_from(measured_on, knob, folds, seed)
        write_plan(plan, out)
    print(printed(plan, measured_on.notes), flush=True)
    return plan


def plan_from(measured_on: "Measured", knob: Knob, folds: int = FOLDS, seed: int = 0) -> Plan:
    """The plan for a knob from what was measured. Raises ValueError as `choose_plan`."""
    about = measured_on.about(seed)
    if knob.name != "risk":
        return choose_plan(measured_on.candidates(folds, seed), knob, about)
    halves = measured_on.halves(folds, seed)
    return choose_plan(halves.choosing, knob, about, halves)


@dataclass(frozen=True)
class Measured:
    """What was measured on validation questions: a prefix table, the settings of a sweep, or both on the same
    questions. With both, the table's `small` and `large` are the bar."""

    folder: str
    """Where the plan comes from: the table's folder if there is one."""
    described: Mapping[str, Any]
    """Its `run.json`; empty if it has none."""
    table: PrefixTable | None
    recorded: Recorded | None
    split: OnSplit | None
    notes: tuple[str, ...] = ()
    """What was left out, for a person."""
    written_past: float | None = None
    """Tokens that the small model writes past an unsure step, on average. None: `tokens_past` says."""

    @classmethod
    def read(cls, prefixes: str | None, sweep: str | None, benchmark: str | None = None) -> "Measured":
        """Read one or both of the folders. Raises FileNotFoundError and ValueError."""
        table, recorded, split, notes = None, None, None, []
        if prefixes is not None:
            table = read_prefix_table(prefixes, benchmark)
            notes += [f"left out: {count} questions ({reason})" for reason, count in table.left_out]
        if sweep is not None:
            recorded = read_recorded(sweep)
            split = on_split(recorded, sweep, table.benchmark if table is not None else benchmark)
            unfinished = ", ".join(" ".join(filter(None, key)) for key in split.unfinished)
            notes += [f"left out, not finished: {unfinished}"] if unfinished else []
        if table is not None and split is not None:
            shared = set(table.questions) & set(split.questions)
            if not shared:
                raise ValueError(f"{prefixes} and {sweep} have no question in common: run both on the same benchmark")
            table, split = table.take([q in shared for q in table.questions]), split.restricted(shared)
        folder = prefixes or sweep
        if folder is None:
            raise ValueError("nothing to tune from: give --sweep or --prefixes")
        described = recorded.described if table is None and recorded else RunFolder.open(folder).describe()
        return cls(folder, described, table, recorded, split, tuple(notes))

    @property
    def questions(self) -> tuple[str, ...]:
        held = self.table or self.split
        assert held is not None, "read() gives one or both"
        return held.questions

    @property
    def routing(self) -> RoutingOptions:
        """How the folder's traces were routed."""
        return RoutingOptions.model_validate(self.described.get("config", {}).get("routing", {}))

    @property
    def past(self) -> float:
        """Tokens past an unsure step by which the table is priced."""
        return tokens_past(self.routing) if self.written_past is None else self.written_past

    def about(self, seed: int) -> About:
        known = (origin_of(self.folder, self.described, seed), models_of(self.described), how_written(self.routing))
        if self.table is not None:
            return About(self.table.benchmark, split_of(self.described), *known)
        assert self.split is not None
        return About(self.split.benchmark, self.split.split, *known)

    def candidates(self, folds: int, seed: int, of_Q: Any = None, first: bool = False) -> Candidates:
        """The candidates on the questions `of_Q` (mask; None: all). `first`: of several answers to a question only
        one counts."""
        at_Q = np.ones(len(self.questions), bool) if of_Q is None else of_Q
        found = None if self.table is None else search(self.table.take(at_Q), folds, seed, tokens_past=self.past)
        if self.recorded is None or self.split is None:
            assert found is not None
            return found
        answers = self.split.first if first else self.split.answers
        answers = {key: values.of(at_Q) for key, values in answers.items()}
        small, large = (alone(self.recorded, answers, model) for model in ("small", "large"))
        if found is not None:
            small, large = found.small, found.large
        questions = tuple(np.array(self.questions)[at_Q].tolist())
        of_sweep = measured(settings_of(self.recorded, answers), small, large, questions, folds, seed)
        return of_sweep if found is None else joined(found, of_sweep)

    def halves(self, folds: int, seed: int) -> Halves:
        """The halves for `risk`: thresholds, family and order from one, answers to the other."""
        chosen_Q, certified_Q = halve(len(self.questions), seed)
        rest = None if self.table is None else self.table.take(certified_Q)
        by_name: dict[str, Answers] = {}
        if self.recorded is not None and self.split is not None:
            answers = {key: values.of(certified_Q) for key, values in self.split.first.items()}
            small, large = (alone(self.recorded, answers, model) for model in ("small", "large"))
            for name, rows in settings_of(self.recorded, answers).items():
                by_name[name] = Answers(*(np.stack(values) for values in zip(*(a for _, _, a in rows), strict=True)))
        if rest is not None:
            small, large = small_alone(rest), large_alone(rest)

        def of_family(family: Family) -> Answers:
            if family.name in by_name:
                return by_name[family.name]
            assert rest is not None
            return evaluate(rest, family.policies, self.past)

        return Halves(self.candidates(folds, seed, chosen_Q, first=True), Certifying(small, large, of_family))


def how_written(routing: RoutingOptions) -> dict[str, Any]:
    """The keys of `routing:` that change what a plan costs."""
    return {"barrier": routing.barrier, "write_on": True} if routing.write_on else {}


def tokens_past(routing: RoutingOptions) -> float:
    """Tokens that the small model writes past an unsure step, on average: a guess where it writes on, and at most a
    pass where it writes ahead."""
    return WRITTEN_PAST if routing.write_on else float(routing.most_ahead)


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


def printed(plan: Plan, notes: Sequence[str] = ()) -> str:
    """The plan as text."""
    expected = plan.expected
    accuracy, cost, above = expected.accuracy, expected.cost, expected.above_bar
    lines = [
        f"{plan.asked.benchmark}, {plan.asked.split} split, {plan.asked.questions} questions: {plan.knob}",
        *notes,
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
