"""The configuration of an endpoint: a run's, without its questions, and how requests are taken."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from pipelines.serve.request import Limits
from pipelines.tune.apply import as_planned, usable_plan
from steer.benchmarks import token_rule
from steer.config.check import usable_pair
from steer.config.load import SettingsError, load, refusals_as_settings_errors
from steer.config.policy import PolicyConfig
from steer.config.run import BenchmarkConfig, PairConfig, RoutingOptions, RunConfig
from steer.config.strict import Count, Strict, Text
from steer.mixture.bank import ScoreBank
from steer.policies import make_policy

NEEDS_A_GROUP = ("live",)
"""Values of `fit_from` that read the other traces of a group. An endpoint has none."""


class EndpointOptions(Strict):
    name: Text | None = None
    """What the models are called: `steer/NAME`, `steer/NAME/small` and `steer/NAME/large`. None: the name of the pair,
    or `pair` if it has none."""
    max_live: Count = 256
    """Requests that are answered at the same time."""
    max_queued: Count = 256
    """Requests that wait for others to end. A further one is refused with status 429."""
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """Seconds after which a request that is not answered is given up, with status 504."""
    drain_s: Annotated[float, Field(ge=0)] = 60.0
    """Seconds that live requests have when the endpoint is told to stop."""
    max_body_bytes: Count = Limits.max_body_bytes
    """Longest body of a request."""
    max_messages: Count = Limits.max_messages
    """Most messages of a request."""
    max_text_chars: Count = Limits.max_text_chars
    """Most characters of all messages of a request together."""
    log_texts: bool = False
    """Write the prompts and answers into the log. Without it no text of a request is logged."""


class ServeConfig(RunConfig):
    """A run's configuration serves as it is. Of `benchmark`, only what the token rule follows from is read: `tokens`,
    `grader` and `name`. `journal` is not read."""

    endpoint: EndpointOptions = EndpointOptions()

    @property
    def served_name(self) -> str:
        """NAME of the models."""
        name = self.endpoint.name or (self.pair if isinstance(self.pair, str) else "pair")
        return name.rsplit("/", 1)[-1].removesuffix(".yaml")


class Served(Strict):
    """What an endpoint serves, checked."""

    name: str
    pair: PairConfig
    tokens: str
    """Which tokens a step's score averages over: `math` or `all`."""
    config: ServeConfig

    @property
    def policy(self) -> PolicyConfig:
        return self.config.policy

    @property
    def routing(self) -> RoutingOptions:
        return self.config.routing


def served(config: ServeConfig, plan: str | None = None) -> Served:
    """What is served by a configuration and the plan in a file or folder. Raises SettingsError for a configuration that
    contradicts itself, and for a plan that was made for other models."""
    if plan is not None:
        config = _with_plan(config, plan)
    with refusals_as_settings_errors():
        pair = usable_pair(config, [config.policy])
        rule = token_rule(config.benchmark)
    if rule is None:
        raise SettingsError(
            f"benchmark.name: {config.benchmark.name} is none of the known benchmarks, so nothing says which tokens "
            "make the score of a step: set benchmark.tokens to math or all, as where the plan was made"
        )
    refuse_unservable(config.policy)
    with refusals_as_settings_errors():
        make_policy(config.policy, bank=ScoreBank())  # reads `frozen_path`: better here than at the first request
    return Served(name=config.served_name, pair=pair, tokens=rule, config=config)


def refuse_unservable(policy: PolicyConfig) -> None:
    """Raise SettingsError for a policy whose decision on one trace needs a group of others at the same step."""
    if policy.name == "percentile":
        raise SettingsError(
            "policy percentile compares the traces of a group, and requests have none: use steer, whose `decide: "
            "budget` compares with recent requests"
        )
    # `decide: null` is the mixture too: the presets paper and stepwise have it.
    if policy.name == "steer" and policy.decide in (None, "mixture") and policy.fit_from in NEEDS_A_GROUP:
        raise SettingsError(
            f"policy.fit_from: {policy.fit_from} fits the traces of a group, and requests have none: set it to frozen "
            "(with frozen_path), all_steps or bank"
        )
    if policy.name == "custom":
        raise SettingsError("policy custom is for runs: an endpoint serves the policies that STEER knows")


def _with_plan(config: ServeConfig, path: str) -> ServeConfig:
    plan = usable_plan(path, config.pair, None)
    planned = as_planned(config, plan)
    if planned.benchmark.tokens is not None:
        return planned
    benchmark = BenchmarkConfig(name=plan.asked.benchmark)
    if token_rule(benchmark) is None:  # own data: what else the configuration says of it may give the rule
        benchmark = planned.benchmark.model_copy(update={"name": plan.asked.benchmark})
    return planned.model_copy(update={"benchmark": benchmark})


def load_served(path: str | None, plan: str | None, sets: Sequence[str] = ()) -> Served:
    """What the configuration file, the plan and the overrides serve. Raises SettingsError."""
    return served(load(ServeConfig, path, list(sets)), plan)
