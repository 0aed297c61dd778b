"""A plan in a run or a sweep: `--plan`."""

from pipelines.tune.models import identity
from steer.config.load import SettingsError, refusals_as_settings_errors
from steer.config.pairs import load_pair
from steer.config.run import PairConfig, RoutingOptions, RunConfig
from steer.config.sweep import SweepConfig, Variant
from steer.plans.plan import Plan, read_plan, refuse_other

PLAN = "plan"
"""Label of a plan's row in a sweep."""


def with_plan(config: RunConfig, path: str) -> RunConfig:
    """The run with the plan's policy and routing. SettingsError if the plan was made for other models or another
    benchmark."""
    plan = usable_plan(path, config.pair, config.benchmark.name)
    with refusals_as_settings_errors():
        policy = plan.policy_config()
    routing = RoutingOptions.model_validate({**config.routing.model_dump(), **plan.routing})
    return config.model_copy(update={"policy": policy, "routing": routing})


def sweep_with_plan(config: SweepConfig, path: str) -> SweepConfig:
    """The sweep with a further row, the plan's. SettingsError if the plan was made for other models or another
    benchmark, or for other routing than the sweep's."""
    if len(config.benchmarks) != 1:
        raise SettingsError(f"{path}: a plan is for one benchmark, and the sweep has {len(config.benchmarks)}")
    plan = usable_plan(path, config.pair, config.benchmarks[0].name)
    for key, value in plan.routing.items():
        if getattr(config.routing, key) != value:
            raise SettingsError(f"{path}: the plan was made for routing.{key} = {value}: --set routing.{key}={value}")
    with refusals_as_settings_errors():
        row = Variant(label=PLAN, policy=plan.policy_config())
    return config.model_copy(update={"variants": (*config.variants, row)})


def usable_plan(path: str, pair: str | PairConfig, benchmark: str | None) -> Plan:
    """The plan in a file or a folder, if it is for this pair and benchmark. SettingsError if it is not."""
    with refusals_as_settings_errors():
        plan = read_plan(path)
        models = load_pair(pair)
        refuse_other(plan, {role: identity(getattr(models, role).path) for role in ("small", "large")}, benchmark)
    return plan
