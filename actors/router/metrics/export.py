"""A router's counts as Prometheus metrics, on the metrics page of its node (`ray.util.metrics`).

Invariant: nothing is exported while rows pass through the router. A task of its own reads the counts every `EXPORT_S`
seconds, and once more when the router has closed, so that the page keeps the values of the finished run.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ray.util.metrics import Counter, Gauge

from actors.router.metrics import names
from actors.router.stats import RouterStats
from steer.config.run import PoolConfig, TokenPrices
from steer.costs.flops import UNIT, flops_paper
from steer.costs.money import HOUR_S, tokens_usd
from steer.traces import PAIR, Role

EXPORT_S = 5.0
"""Seconds between two exports. Ray 2.60 itself sends a process's metrics to its node every 10 s."""

ZERO = sys.float_info.min
"""With what a counter begins: Ray's take no 0, and this is gone with the first real count. Prometheus sees an increase
only of a series that it has seen before, so without it the first deaths and error rows would raise no alert."""


class Sample(NamedTuple):
    """The value of a metric now. `labels`: beside those of the run and the router."""

    metric: names.Metric
    value: float
    labels: dict[str, str]


def samples(
    stats: RouterStats,
    pools: Mapping[Role, PoolConfig],
    prices: Mapping[Role, TokenPrices],
) -> list[Sample]:
    """All that a router exports of its counts. By role: `pools`, those that there are; `prices` of the models'
    tokens, of those that have one."""
    steps = stats.steps_small + stats.steps_large
    alone: list[tuple[names.Metric, float]] = [
        (names.LIVE, stats.live),
        (names.QUEUED, stats.queued),
        (names.DONE, stats.done),
        (names.FAILED, stats.errors),
        (names.LARGE_SHARE, stats.steps_large / steps if steps else 0.0),
        (names.REPLACED, stats.replaced),
        (names.LOOP_S, stats.loop_s),
        (names.OLDEST_ROUND_S, stats.oldest_round_s),
        (names.FIT_S, stats.fit_s),
        (names.JOURNAL_S, stats.journal_s),
    ]
    found = [Sample(metric, value, {}) for metric, value in alone]
    tokens_O = {Role.SMALL: stats.tokens_small, Role.LARGE: stats.tokens_large}
    steps_O = {Role.SMALL: stats.steps_small, Role.LARGE: stats.steps_large}
    for role in PAIR:
        of_role = {names.ROLE: role.label}
        flops = flops_paper(tokens_O[role], 0, stats.parameters.get(role, 0.0), 0.0) * UNIT
        found += [
            Sample(names.TOKENS, tokens_O[role], of_role),
            Sample(names.STEPS, steps_O[role], of_role),
            Sample(names.FLOPS, flops, of_role),
        ]
    for role, pool in pools.items():
        of_role = {names.ROLE: role.label}
        computed, replica_s = stats.computed.get(role, 0), stats.replica_s.get(role, 0.0)
        found += [
            Sample(names.PROMPT_TOKENS, computed, of_role),
            Sample(names.REPLICA_S, replica_s, of_role),
            Sample(names.GPU_S, replica_s * pool.gpus, of_role),
            Sample(names.BUSY_S, stats.busy_s.get(role, 0.0), of_role),
        ]
        for state, count in stats.states.get(role, {}).items():
            found.append(Sample(names.REPLICAS, count, of_role | {names.STATE: state}))
        if pool.usd_per_gpu_hour is not None:
            usd = replica_s * pool.gpus / HOUR_S * pool.usd_per_gpu_hour
            found.append(Sample(names.USD, usd, of_role | {names.BY: names.GPU_PRICES}))
        if role in prices:
            usd = tokens_usd(computed, tokens_O.get(role, 0), prices[role])
            found.append(Sample(names.USD, usd, of_role | {names.BY: names.TOKEN_PRICES}))
    return found


class Exporter:
    def __init__(self, run: str, router: str):
        """`run`, `router`: the labels of all samples."""
        every = {names.RUN: run, names.ROUTER: router}
        self._metrics: dict[str, Counter | Gauge] = {}
        for metric in names.METRICS:
            kind = Counter if metric.counts else Gauge
            made = kind(metric.name, metric.help, (names.RUN, names.ROUTER, *metric.labels))
            self._metrics[metric.name] = made.set_default_tags(every)
        self._exported: dict[tuple[str, tuple[str, ...]], float] = {}
        """What was exported of each counter so far."""

    def export(self, found: Iterable[Sample]) -> None:
        for sample in found:
            metric = self._metrics[sample.metric.name]
            if isinstance(metric, Gauge):
                metric.set(float(sample.value), sample.labels)
                continue
            key = (sample.metric.name, tuple(sample.labels.values()))
            if key not in self._exported:
                metric.inc(ZERO, sample.labels)
                self._exported[key] = 0.0
            more = float(sample.value) - self._exported[key]
            if more > 0:  # Ray's counters take nothing else.
                metric.inc(more, sample.labels)
                self._exported[key] = float(sample.value)
