"""Check a configuration against itself before anything is started.

The typed models refuse a value that is wrong by itself. This module finds values that are wrong together: policies
against pools and pair, and the pair against the pools. Invariant: every message names the keys and the remedy.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from steer.config.pairs import load_pair
from steer.config.policy import CustomPolicy, PolicyConfig
from steer.config.run import PairConfig, PoolsConfig, RoutingOptions
from steer.config.shares import share_problems
from steer.costs.gpu_memory import memory_problems
from steer.costs.money import prices_of, unpriced_pools
from steer.policies import SIGNALS, Signal, make_policy
from steer.traces import MEASURES, PAIR, Role

_WHOLE = frozenset({"small", "large", "random_query", "query_router"})
"""Policies under which one model writes the whole of a trace."""


class Configured(Protocol):
    """What the configurations of a run, a sweep and a training have in common."""

    @property
    def pair(self) -> str | PairConfig: ...

    @property
    def pools(self) -> PoolsConfig: ...

    @property
    def routing(self) -> RoutingOptions: ...


def contradictions(policies: Iterable[PolicyConfig], pair: str | PairConfig, pools: PoolsConfig) -> Iterator[str]:
    """The problems that the configuration alone shows. Reads no file and makes no policy."""
    for policy in policies:
        for needed in _measures(policy):
            if needed not in pools.measures:
                yield (
                    f"policy {policy.name} routes by {needed}, which pools.measures = {list(pools.measures)} leaves "
                    f"out; add {needed} there or choose another measure"
                )
    yield from share_problems(pools, PAIR)
    if isinstance(pair, PairConfig):
        yield from _gpu_counts(pair, pools)


def usable_pair(config: Configured, policies: Sequence[PolicyConfig]) -> PairConfig:
    """Load the pair, and check that everything fits together.

    Raises ValueError with a line for every problem: an unknown pair, models that do not fit the pools' GPUs, a signal
    that the pair has no model for, a measure that no replica computes, a custom policy that cannot be made, a trace
    that would be handed over between models of which one thinks.
    """
    pair = load_pair(config.pair)
    problems = [
        *contradictions(policies, pair, config.pools),
        *memory_problems(pair, config.pools),
        *_missing_signals(policies, pair),
        *_custom_measures(policies, config.pools),
        *_thought_problems(policies, pair, config.routing),
        *_missing_prices(policies, pair, config.pools),
    ]
    if problems:
        raise ValueError("\n".join(dict.fromkeys(problems)))
    return pair


def needed_roles(policies: Iterable[PolicyConfig], pair: PairConfig) -> tuple[Role, ...]:
    """The pair's two roles, and those of the policies' signals. If the pair has no judge, the large model judges.
    Raises ValueError if a custom policy cannot be made."""
    wanted = {signal.role for policy in policies if (signal := signal_of(policy)) is not None}
    if pair.judge is None:
        wanted.discard(Role.JUDGE)
    return (*PAIR, *sorted(wanted - set(PAIR)))


def signal_of(policy: PolicyConfig) -> Signal | None:
    """What a policy asks of another model. None: nothing. Raises ValueError if a custom policy cannot be made."""
    return make_policy(policy).signal if isinstance(policy, CustomPolicy) else SIGNALS.get(policy.name)


def _measures(policy: PolicyConfig) -> list[str]:
    """The confidence measures that a policy reads. Empty for a custom policy: see `_custom_measures`."""
    named = [getattr(policy, key, None) for key in ("measure", "also")]
    peeks = ["entropy"] if policy.name == "first_token_entropy" else []
    return [*peeks, *(measure for measure in named if measure is not None)]


def _custom_measures(policies: Iterable[PolicyConfig], pools: PoolsConfig) -> Iterator[str]:
    for policy in policies:
        if not isinstance(policy, CustomPolicy):
            continue
        measure = make_policy(policy).measure
        if measure is not None and MEASURES[measure] not in pools.measures:
            name = MEASURES[measure]
            left_out = f"which pools.measures = {list(pools.measures)} leaves out; add {name} there"
            yield f"policy {policy.object} reads {name}, {left_out}"


def _missing_signals(policies: Iterable[PolicyConfig], pair: PairConfig) -> Iterator[str]:
    for policy in policies:
        signal = signal_of(policy)
        if signal is None:
            continue
        name = policy.object if isinstance(policy, CustomPolicy) else policy.name
        if signal.role == Role.PRM and pair.prm is None:
            yield f"policy {name} needs a process reward model: give the pair prm: {{path: ...}} (docs/signals.md)"
        if signal.role == Role.QUERY and pair.probe is None:
            yield f"policy {name} needs a probe: run `steer train-router` and give the pair probe: FOLDER"


def _thought_problems(policies: Iterable[PolicyConfig], pair: PairConfig, routing: RoutingOptions) -> Iterator[str]:
    small, large = pair.small.thinks, pair.large.thinks
    if routing.thought_tokens is not None and small is None and large is None:
        yield (
            "routing.thought_tokens bounds the thought of models that think, and this pair has none: leave it out, or "
            "give the models thinks: {} (docs/pairs.md)"
        )
    if small == large:
        return
    for policy in policies:
        if policy.name in _WHOLE or (isinstance(policy, CustomPolicy) and make_policy(policy).whole):
            continue
        if small is None or large is None:
            thinking = "large" if small is None else "small"
            why = f"of this pair only the {thinking} model thinks, and the other cannot go on from within a thought"
        else:
            why = f"the models' thoughts end with {small.close} and {large.close}"
        name = policy.object if isinstance(policy, CustomPolicy) else policy.name
        yield (
            f"policy {name} hands a trace over between its steps, but {why}: give both models the same thinks:, or "
            f"take a policy that gives whole questions ({', '.join(sorted(_WHOLE))})"
        )


def _missing_prices(policies: Sequence[PolicyConfig], pair: PairConfig, pools: PoolsConfig) -> Iterator[str]:
    """What some of the run's models or pools have a price for, and others lack. Prices are all there, or none is."""
    roles = needed_roles(policies, pair)
    priced = prices_of(pair)
    for role in roles if priced else ():
        if role not in priced:
            yield (
                f"pair.{role.label} has no usd_per_million_tokens, and the pair's other models have: give it one too "
                "({input: 0, output: 0} where tokens cost nothing)"
            )
    for label in unpriced_pools([role.label for role in roles], pools):
        yield (
            f"pools.{label} has GPUs and no usd_per_gpu_hour, and another pool has a price: give it one too (0 where "
            "they cost nothing)"
        )


def _gpu_counts(pair: PairConfig, pools: PoolsConfig) -> Iterator[str]:
    for role in PAIR:
        ways = getattr(pair, role.label).engine.get("tensor_parallel_size", 1)
        gpus = getattr(pools, role.label).gpus
        if ways > 1 and gpus != ways:
            yield (
                f"pair.{role.label}.engine.tensor_parallel_size = {ways} but pools.{role.label}.gpus = {gpus:g}; "
                f"set pools.{role.label}.gpus to {ways}"
            )
