"""A plan: the setting that was chosen for a pair, a benchmark and a knob, with what is expected of it, as plan.yaml.

Invariants: what is written reads back as the same plan. A plan holds for the models and the benchmark that it was made
for, and `refuse_other` says where others differ.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, TypeAdapter, ValidationError, field_validator

from steer.config.policy import PolicyConfig
from steer.config.secrets import masked
from steer.config.strict import Count, Seed, Strict, Text
from steer.plans.bar import Interval, Standing
from steer.plans.knobs import Knob

FORMAT: Literal[1] = 1
"""Version of plan.yaml. It rises if a key changes its meaning."""
REMEDY = "run `steer tune` again for these"


class ModelIdentity(Strict):
    """By what a model is told from others."""

    path: Text
    """Hub id, folder or `embedded:` name, as the pair has it."""
    weights: str | None = None
    """Fingerprint of the weights. None: they were not on the machine that made the plan. Then the path counts."""
    parameters: float | None = None
    """Parameter count N that FLOPs were charged by."""


class Asked(Strict):
    """The questions that the plan was made from."""

    benchmark: Text
    split: str
    questions: Count


class Estimate(Strict):
    value: float
    low: float
    """Lower end of the 95 % interval."""
    high: float


class Expected(Strict):
    """What is expected on other questions of the benchmark. Of a routed policy it is from held-out answers."""

    accuracy: Estimate
    cost: Estimate
    """Share of the large model's mean `flops_full`."""
    bar: float
    """Accuracy of the bar (small, large and the coin between them) at that cost."""
    above_bar: Estimate
    behind_large: Estimate
    """Accuracy less that of the large model."""

    @classmethod
    def of(cls, found: Standing) -> "Expected":
        def estimate(value: float, ends: Interval) -> Estimate:
            return Estimate(value=round(value, 6), low=round(ends[0], 6), high=round(ends[1], 6))

        return cls(
            accuracy=estimate(found.accuracy, found.accuracy_interval),
            cost=estimate(found.cost, found.cost_interval),
            bar=round(found.bar, 6),
            above_bar=estimate(found.above_bar, found.above_bar_interval),
            behind_large=estimate(found.behind_large, found.behind_large_interval),
        )


class Confirmed(Strict):
    """What a run of the plan showed on the questions that it was made from, with another sampling seed."""

    accuracy: Estimate
    cost: Estimate
    """Share of the large model's mean `flops_full` in that run."""
    above_bar: Estimate
    behind_large: Estimate
    seed: Seed
    questions: Count

    @classmethod
    def of(cls, found: Standing, seed: int, questions: int) -> "Confirmed":
        held = Expected.of(found).model_dump(exclude={"bar"})
        return cls(**held, seed=seed, questions=questions)


class Origin(Strict):
    """Where the plan came from."""

    folder: Text
    kind: str
    """The command that wrote the folder; empty: it has no run.json."""
    seeds: tuple[Seed, ...] = ()
    """Sampling seeds of that run."""
    choice_seed: Seed = 0
    """Seed of the folds, the halves and the bootstrap."""
    git_commit: str | None = None
    """Commit of that run."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of packages in that run."""


class Plan(Strict):
    format: Literal[1] = FORMAT
    knob: Knob
    policy: dict[str, Any]
    """Configuration of the policy."""
    routing: dict[str, Any] = Field(default_factory=dict)
    """Keys of `routing:` that the policy needs."""
    calibration: dict[str, Any] = Field(default_factory=dict)
    """How the policy's thresholds were made."""
    models: dict[Literal["small", "large"], ModelIdentity] = Field(default_factory=dict)
    """Empty: the tables that the plan was made from do not say."""
    asked: Asked
    expected: Expected
    confirmed: Confirmed | None = None
    """None: the plan was not run."""
    certified: float | None = None
    """Of knob `risk`: the upper bound, at 95 % confidence, on the share of questions lost against the large model."""
    routed: bool
    """Whether the policy routes. False: it is `small`, `large` or the coin between them."""
    sentence: Text
    """What was planned and why."""
    origin: Origin

    @field_validator("policy")
    @classmethod
    def _named(cls, policy: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(policy.get("name"), str):
            raise ValueError("a policy needs its name")
        return policy

    def policy_config(self) -> PolicyConfig:
        """The policy as its typed configuration. ValueError: this version of STEER does not have it, or it is code."""
        try:
            config: PolicyConfig = TypeAdapter(PolicyConfig).validate_python(self.policy)
        except ValidationError as failure:
            raise ValueError(f"the plan's policy is none that can be run: {_first(failure)}; {REMEDY} models") from None
        if config.name == "custom":
            raise ValueError("the plan's policy is code of somebody's, which no plan names: give it under policy:")
        return config

    def to_yaml(self) -> str:
        return yaml.safe_dump(masked(self.model_dump(mode="json")), sort_keys=False, allow_unicode=True, width=120)


def read_plan(path: str | Path) -> Plan:
    """The plan in a file, or in the folder of `steer tune`. Raises FileNotFoundError, and ValueError for a file that is
    no plan."""
    file = Path(path)
    if file.is_dir():
        file = file / "plan.yaml"
    try:
        held = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: no such plan: give the --out folder of `steer tune`") from None
    except (yaml.YAMLError, UnicodeDecodeError) as failure:
        raise ValueError(f"{file}: not valid YAML: {' '.join(str(failure).split())}") from None
    if not isinstance(held, dict) or "knob" not in held:
        raise ValueError(f"{file} is no plan: give the plan.yaml that `steer tune` wrote")
    if held.get("format") != FORMAT:
        raise ValueError(f"{file}: format = {held.get('format')!r}, and this version reads {FORMAT}: {REMEDY} models")
    try:
        return Plan.model_validate(held)
    except ValidationError as failure:
        raise ValueError(f"{file}: {_first(failure)}; a plan is not written by hand: run `steer tune` again") from None


def _first(failure: ValidationError) -> str:
    error = failure.errors(include_url=False)[0]
    return f"{'.'.join(map(str, error['loc']))}: {error['msg']}"


def refuse_other(plan: Plan, models: Mapping[str, ModelIdentity], benchmark: str | None = None) -> None:
    """Raise ValueError if the plan was made for other models, or for another benchmark.

    `models`: by `small` and `large`. Weights are compared where both sides have them; else paths. `benchmark`: its
    name. None: the questions belong to no benchmark, as those of an endpoint.
    """
    if not plan.models:
        raise ValueError(
            "the plan does not say which models it was made for, since it came from tables without run.json: run "
            "`steer tune` on a run folder"
        )
    differs = []
    for role, made_for in plan.models.items():
        given = models.get(role)
        if given is None:
            differs.append(f"its {role} model is {made_for.path}, and there is none here")
        elif made_for.weights is not None and given.weights is not None:
            if made_for.weights != given.weights:
                differs.append(
                    f"its {role} model is {made_for.path} with weights {made_for.weights}, not {given.path} with "
                    f"{given.weights}"
                )
        elif made_for.path != given.path:
            differs.append(f"its {role} model is {made_for.path}, not {given.path}")
    if benchmark is not None and benchmark != plan.asked.benchmark:
        differs.append(f"its benchmark is {plan.asked.benchmark}, not {benchmark}")
    if differs:
        raise ValueError(f"the plan was made for others: {'; '.join(differs)}. {REMEDY[0].upper()}{REMEDY[1:]}.")
