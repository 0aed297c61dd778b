"""US dollars, by two ways of counting that are never added: prices of tokens, and prices of GPU-hours.

By tokens, a model's generated tokens cost its output price, discarded ones included, and the prompt tokens that it
computed (prompts, re-prefill after a switch, scoring passes) its input price. Tokens that its prefix cache held cost
nothing. A provider without such a cache, or one that charges for cached tokens, bills more: it would be sent the whole
prefix at every switch. A signal is charged at the input price of the model that gave it, since nearly all of it is
reading: a judge writes one token a draft.

By GPU-hours, a replica costs its GPUs times the hours from its place on a node until it is stopped, loading and idling
included.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy.typing as npt

from steer.config.run import PairConfig, PoolsConfig, TokenPrices
from steer.traces import Role

MILLION = 1e6
HOUR_S = 3600.0

Tokens = TypeVar("Tokens", float, npt.NDArray[Any])
"""One count, or an array of counts. The dollars have the same shape, in float64."""


def prices_of(pair: PairConfig) -> dict[Role, TokenPrices]:
    """Token prices of the pair's models by role. A role without a price is missing."""
    models = {
        Role.SMALL: pair.small,
        Role.LARGE: pair.large,
        Role.PRM: pair.prm,
        Role.JUDGE: pair.judge,
        Role.QUERY: pair.small,  # The probe reads the small model's states.
    }
    return {
        role: model.usd_per_million_tokens
        for role, model in models.items()
        if model is not None and model.usd_per_million_tokens is not None
    }


def tokens_usd(computed: Tokens, generated: Tokens, prices: TokenPrices) -> Tokens:
    """Dollars for prompt tokens that one model computed and tokens that it generated."""
    usd: Tokens = (computed * prices.input + generated * prices.output) / MILLION
    return usd


def pair_usd(
    tokens_small: Tokens,
    tokens_large: Tokens,
    prefill_small: Tokens,
    prefill_large: Tokens,
    prices: Mapping[Role, TokenPrices],
) -> Tokens:
    """Dollars of the pair's tokens, without those of signals. The counts are columns of `traces/`. `prices`: must have
    both models of the pair."""
    small = tokens_usd(prefill_small, tokens_small, prices[Role.SMALL])
    usd: Tokens = small + tokens_usd(prefill_large, tokens_large, prices[Role.LARGE])
    return usd


def gpu_hours_usd(gpu_s: Mapping[str, float], pools: PoolsConfig) -> float | None:
    """Dollars of a run's replicas. `gpu_s`: seconds on a node times GPUs, by the label of the role.

    None: no pool has a price, or a pool that held GPUs has none.
    """
    prices = {label: getattr(pools, label).usd_per_gpu_hour for label in gpu_s}
    if all(price is None for price in prices.values()):
        return None
    if any(prices[label] is None and seconds for label, seconds in gpu_s.items()):
        return None
    return sum(seconds / HOUR_S * (prices[label] or 0.0) for label, seconds in gpu_s.items())


def gpu_seconds(replica_s: Mapping[Role, float], pools: PoolsConfig) -> dict[str, float]:
    """GPU-seconds by the label of the role, of the seconds that its replicas held a place on a node."""
    return {role.label: seconds * getattr(pools, role.label).gpus for role, seconds in replica_s.items()}


def unpriced_pools(labels: Iterable[str], pools: PoolsConfig) -> list[str]:
    """Pools of these roles that hold GPUs without a price, where another one of them has a price."""
    wanted = {label: getattr(pools, label) for label in labels}
    if all(pool.usd_per_gpu_hour is None for pool in wanted.values()):
        return []
    return [label for label, pool in wanted.items() if pool.gpus and pool.usd_per_gpu_hour is None]
