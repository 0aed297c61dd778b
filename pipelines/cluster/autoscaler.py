"""The nodes of the cluster, and whether its autoscaler could add those that are missing.

This file and `actors/router/nodes.py` alone use what Ray keeps private. Ray 2.60 says in its head's key-value store
which autoscaler there is. The first one names the type of every node; without an autoscaler the type is the node's own
id. The second one says which requests no type of node can ever serve, and says so too where it may add no node.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray.autoscaler.v2.sdk import get_cluster_resource_state
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply

from pipelines.cluster.placement import Node, missing
from steer.config.load import SettingsError
from steer.config.run import PoolConfig, PoolsConfig
from steer.traces import Role

ANSWER_S = 10.0
"""Seconds that an autoscaler has to say what it can do. It looks at the cluster every 5 s."""
LOOK_S = 0.25
"""Seconds between two looks whether it has."""


def refuse_unplaceable(pools: PoolsConfig, roles: Sequence[Role], own: bool, may_wait: bool = False) -> None:
    """Raise SettingsError if the cluster can never hold the replicas that these pools begin with.

    `own`: this process started the cluster, and nobody adds a node to it. `may_wait`: nodes that were there once may
    come back, so what is missing is only said, on stderr. It is also said if an autoscaler may add it. Call this
    once the pools' first nodes are asked for (`pipelines.run.prewarm`).
    """
    wanted: dict[str, PoolConfig] = {role.label: getattr(pools, role.label) for role in roles}
    lacking = missing(wanted, nodes())
    if lacking is None:
        return
    if not may_wait and (own or not may_grow()):
        raise SettingsError(f"the cluster has no place for this run, and nothing adds a node to it. {lacking}")
    waits = "waiting for nodes to come" if may_wait else "the cluster's autoscaler is asked for it"
    print(f"steer: {lacking}; {waits}", file=sys.stderr, flush=True)


def nodes() -> list[Node]:
    """The nodes that live."""
    return [Node(node["Resources"], node.get("Labels") or {}) for node in ray.nodes() if node["Alive"]]


def may_grow() -> bool:
    """Whether an autoscaler may add the nodes that are asked for. Where Ray does not say, it may."""
    gcs = ray._private.worker.global_worker.gcs_client
    try:
        second = gcs.internal_kv_get(
            ray._raylet.GCS_AUTOSCALER_V2_ENABLED_KEY.encode(), ray._raylet.GCS_AUTOSCALER_STATE_NAMESPACE.encode()
        )
        return _second_may_grow(gcs) if second == b"1" else _first_may_grow(gcs)
    except Exception as failure:
        print(f"steer: Ray does not say whether it adds nodes: {failure}", file=sys.stderr, flush=True)
        return True


def _first_may_grow(gcs: Any) -> bool:
    deadline_s = time.monotonic() + ANSWER_S
    while time.monotonic() < deadline_s:
        status = gcs.internal_kv_get(DEBUG_AUTOSCALING_STATUS.encode(), None)
        grows = adds_nodes(json.loads(status)) if status else None
        if grows is not None:
            return grows
        time.sleep(LOOK_S)
    return False  # nobody says anything of nodes: there is no autoscaler


def adds_nodes(status: Mapping[str, Any]) -> bool | None:
    """Whether the first autoscaler adds nodes, by its status. None: it has not looked at the cluster yet."""
    types = (status.get("autoscaler_report") or {}).get("node_type_mapping") or {}
    if not types:
        return None
    # Where nodes are only mirrored, each is of a type of its own, which has the node's id for a name.
    return any(kind != f"node_{node}" for node, kind in types.items())


def _second_may_grow(gcs: Any) -> bool:
    asked = get_cluster_resource_state(gcs).cluster_resource_state_version
    deadline_s = time.monotonic() + ANSWER_S
    while time.monotonic() < deadline_s:
        state = _second_state(gcs)
        if state.last_seen_cluster_resource_state_version >= asked:
            return not state.infeasible_cluster_resource_constraints
        time.sleep(LOOK_S)
    return True


def _second_state(gcs: Any) -> Any:
    reply = GetClusterStatusReply()
    reply.ParseFromString(gcs.get_cluster_status())
    return reply.autoscaling_state
