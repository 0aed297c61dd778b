"""A plan in a run or a sweep: `--plan`."""

from collections.abc import Sequence
from typing import TypeVar

from pipelines.tune.models import identity
from steer.config.load import SettingsError, refusals_as_settings_errors
from steer.config.pairs import load_pair
from steer.config.policy import LargePolicy, PolicyConfig, SmallPolicy
from steer.config.run import PairConfig, RoutingOptions, RunConfig
from steer.config.sweep import SweepConfig, Variant
from steer.config.thresholds import threshold_key
from steer.plans.plan import Plan, read_plan, refuse_other
from steer.statistics.curves import PLAN

C = TypeVar("C", bound=RunConfig)


def with_plan(config: RunConfig, path: str) -> RunConfig:
    """The run with the plan's policy and routing. SettingsError if the plan was made for other models or another
    benchmark."""
    return as_planned(config, usable_plan(path, config.pair, config.benchmark.name))


def as_planned(config: C, plan: Plan) -> C:
    """The configuration with the plan's policy and routing. SettingsError if this version has no such policy."""
    with refusals_as_settings_errors():
        policy = plan.policy_config()
    routing = RoutingOptions.model_validate({**config.routing.model_dump(), **plan.routing})
    return config.model_copy(update={"policy": policy, "routing": routing})


def sweep_with_plans(config: SweepConfig, paths: Sequence[str]) -> SweepConfig:
    """The sweep with a further row for each plan. SettingsError if a plan was made for other models or another
    benchmark, or for other routing than the sweep's."""
    if len(config.benchmarks) != 1:
        raise SettingsError(f"{paths[0]}: a plan is for one benchmark, and the sweep has {len(config.benchmarks)}")
    rows = []
    for path in paths:
        plan = usable_plan(path, config.pair, config.benchmarks[0].name)
        for key, value in plan.routing.items():
            if getattr(config.routing, key) != value:
                raise SettingsError(
                    f"{path}: the plan was made for routing.{key} = {value}: --set routing.{key}={str(value).lower()}"
                )
        label = PLAN if len(paths) == 1 else f"{PLAN} {plan.knob.name} {plan.knob.value:g}"
        with refusals_as_settings_errors():
            rows.append(one_setting(label, plan.policy_config()))
    return config.model_copy(update={"variants": (*config.variants, *rows)})


def one_setting(label: str, policy: PolicyConfig, on_validation: bool = True) -> Variant:
    """A row of a sweep with this one setting of the policy."""
    key = threshold_key(policy.model_dump())
    grid = None if key is None else (getattr(policy, key),)
    return Variant(label=label, policy=policy, grid=grid, on_validation=on_validation)


def bar_rows(on_validation: bool = True) -> tuple[Variant, Variant]:
    """The rows of both models alone, labelled `small` and `large`."""
    return (
        one_setting("small", SmallPolicy(), on_validation),
        one_setting("large", LargePolicy(), on_validation),
    )


def usable_plan(path: str, pair: str | PairConfig, benchmark: str | None) -> Plan:
    """The plan in a file or a folder, if it is for this pair and benchmark. SettingsError if it is not."""
    with refusals_as_settings_errors():
        plan = read_plan(path)
        models = load_pair(pair)
        refuse_other(plan, {role: identity(getattr(models, role).path) for role in ("small", "large")}, benchmark)
    return plan
