"""Whether the nodes of a cluster can hold the replicas that the pools begin with, and what is missing.

Pure: it owns no connection. Invariant: what the nodes could hold if nothing else ran there is never called missing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from actors.router.nodes import POOL_LABEL
from actors.router.replica import counted, needs, resources
from steer.config.run import PoolConfig

TRIES = 20_000
"""Replicas that are tried on a node before the question is left open. That takes some 50 ms."""
MOST_REPLICAS = 200
"""More first replicas than this are not tried one by one: each takes a frame of Python's stack."""
MOST_KINDS = 6
"""Kinds of nodes that a message names."""
SLACK = 1e-6
"""Amounts are sums of fractions."""


class Node(NamedTuple):
    """A node of the cluster, as far as placing replicas goes."""

    resources: Mapping[str, float]
    """All of it, used or not, by Ray's names: `CPU`, `GPU`."""
    labels: Mapping[str, str]


def missing(pools: Mapping[str, PoolConfig], nodes: Sequence[Node]) -> str | None:
    """What these nodes lack for the pools, by name, and the remedy. None: nothing.

    Every pool needs a node for one replica, also one that begins with none. Together they need places for those that
    they begin with.
    """
    for name, pool in pools.items():
        labelled = [node for node in nodes if _has_label(node, pool)]
        if not labelled:
            return _no_label(name, pool, nodes)
        if not any(_fits(resources(pool), node.resources) for node in labelled):
            return _too_small(name, pool, labelled)
    first = [(name, pool) for name, pool in pools.items() for _ in range(pool.least)]
    if not _too_much(first, nodes) and (len(first) > MOST_REPLICAS or _places(first, nodes) is not False):
        return None
    wanted = ", ".join(f"{pool.least} of {name} with {needs(pool)} each" for name, pool in pools.items() if pool.least)
    return (
        f"the nodes have fewer places than the first replicas need: {wanted}; the cluster has {_kinds(nodes)}: lower "
        "pools.*.replicas or what a replica takes, or add nodes"
    )


def _no_label(name: str, pool: PoolConfig, nodes: Sequence[Node]) -> str:
    held = Counter(node.labels[POOL_LABEL] for node in nodes if POOL_LABEL in node.labels)
    known = ", ".join(f"{POOL_LABEL}={value} ({count})" for value, count in sorted(held.items()))
    there = f"the nodes have {known}" if known else "the nodes have none of that name"
    return (
        f"pools.{name}.label = {pool.label}: no node has the label {POOL_LABEL}={pool.label}; {there}: correct the "
        f"label, or start a node with it: ray start --labels {POOL_LABEL}={pool.label}"
    )


def _too_small(name: str, pool: PoolConfig, labelled: Sequence[Node]) -> str:
    where = f" with the label {POOL_LABEL}={pool.label}" if pool.label else ""
    need = resources(pool)
    lacking = [what for what in need if all(node.resources.get(what, 0) < need[what] - SLACK for node in labelled)]
    key = {"CPU": "cpus", "GPU": "gpus"}.get(lacking[0]) if len(lacking) == 1 else None
    if key == "gpus" and not any(node.resources.get("GPU") for node in labelled):
        return (
            f"pools.{name}.gpus = {pool.gpus:g}: no node{where} has a GPU: set pools.{name}.gpus=0 for a CPU, or add a "
            "node with one"
        )
    said = f"pools.{name}.{key} = {getattr(pool, key):g}" if key else f"pools.{name}: {needs(pool)}"
    return (
        f"{said}: no node{where} has that much; the cluster has {_kinds(labelled)}: ask for less, or add a larger node"
    )


def _kinds(nodes: Sequence[Node]) -> str:
    """`2 nodes with 8 CPUs, 1 GPU; 1 node with 4 CPUs`."""
    kinds = Counter(_described(node) for node in nodes).most_common()
    said = [f"{counted(count, 'node')} with {kind}" for kind, count in kinds[:MOST_KINDS]]
    return "; ".join(said + ([f"{len(kinds) - MOST_KINDS} more kinds of nodes"] if len(kinds) > MOST_KINDS else []))


def _described(node: Node) -> str:
    parts = [counted(node.resources.get("CPU", 0), "CPU")]
    if node.resources.get("GPU"):
        parts.append(counted(node.resources["GPU"], "GPU"))
    return ", ".join(parts + ([f"{POOL_LABEL}={node.labels[POOL_LABEL]}"] if POOL_LABEL in node.labels else []))


def _has_label(node: Node, pool: PoolConfig) -> bool:
    return pool.label is None or node.labels.get(POOL_LABEL) == pool.label


def _fits(need: Mapping[str, float], free: Mapping[str, float]) -> bool:
    return all(free.get(what, 0.0) >= amount - SLACK for what, amount in need.items())


def _too_much(replicas: Sequence[tuple[str, PoolConfig]], nodes: Sequence[Node]) -> bool:
    """Whether the sums alone exceed what the nodes have: of all replicas, or of those with one label."""
    for label in {None, *(pool.label for _, pool in replicas)}:
        need, have = Counter[str](), Counter[str]()
        for _, pool in replicas:
            if label in (None, pool.label):
                need.update(resources(pool))
        for node in nodes:
            if label in (None, node.labels.get(POOL_LABEL)):
                have.update(node.resources)
        if not _fits(need, have):
            return True
    return False


def _places(replicas: Sequence[tuple[str, PoolConfig]], nodes: Sequence[Node]) -> bool | None:
    """Whether all replicas find a place at the same time. None: not found out within `TRIES`."""
    # Those with the fewest nodes, and then the largest, come first: they leave the others the most choice.
    choice = {name: sum(_has_label(node, pool) for node in nodes) for name, pool in replicas}
    order = sorted(replicas, key=lambda each: (choice[each[0]], -each[1].gpus, -each[1].cpus, each[0]))
    free = [dict(node.resources) for node in nodes]
    tries = 0

    def place(at: int, first_node: int) -> bool | None:
        nonlocal tries
        if at == len(order):
            return True
        name, pool = order[at]
        need, tried = resources(pool), set()
        for number in range(first_node, len(nodes)):
            # Two nodes that are alike and have the same left are one choice.
            alike = (*sorted(free[number].items()), nodes[number].labels.get(POOL_LABEL))
            if alike in tried or not _has_label(nodes[number], pool) or not _fits(need, free[number]):
                continue
            tried.add(alike)
            tries += 1
            if tries > TRIES:
                return None
            for what, amount in need.items():
                free[number][what] -= amount
            # The replicas of one pool are alike: the next one need not be tried on an earlier node.
            same = at + 1 < len(order) and order[at + 1][0] == name
            found = place(at + 1, number if same else 0)
            if found is not False:
                return found
            for what, amount in need.items():
                free[number][what] += amount
        return False

    return place(0, 0)
