"""What is missing of a cluster's nodes for the pools of a run."""

import pytest

from pipelines.cluster.autoscaler import adds_nodes
from pipelines.cluster.placement import Node, missing
from steer.config.run import PoolConfig


def node(cpus=4, gpus=0, pool=None):
    return Node({"CPU": cpus, **({"GPU": gpus} if gpus else {})}, {"steer-pool": pool} if pool else {})


def pools(**made):
    return {name: PoolConfig(**options) for name, options in made.items()}


def test_nodes_that_hold_the_first_replicas_lack_nothing():
    assert missing(pools(small={"replicas": 2}, large={"replicas": 2}), [node()]) is None
    labelled = pools(small={"label": "small"}, large={"label": "large", "gpus": 2})
    assert missing(labelled, [node(1, pool="small"), node(1, 2, "large")]) is None


def test_a_gpu_that_no_node_has_is_named():
    assert "pools.small.gpus = 1: no node has a GPU" in missing(pools(small={"gpus": 1}), [node(), node()])
    said = missing(pools(small={"gpus": 1, "label": "a"}), [node(pool="a"), node(gpus=1)])
    assert "no node with the label steer-pool=a has a GPU" in said


def test_a_mistyped_label_is_named_beside_those_that_there_are():
    said = missing(pools(small={"label": "smal"}), [node(pool="small"), node(pool="large"), node(pool="large"), node()])
    assert "pools.small.label = smal" in said and "the nodes have steer-pool=large (2), steer-pool=small (1)" in said
    assert "have none of that name" in missing(pools(small={"label": "small"}), [node()])


def test_a_replica_that_is_larger_than_any_node_is_told_what_nodes_there_are():
    said = missing(pools(large={"cpus": 16}), [node(8), node(8), node(4, 1)])
    assert "pools.large.cpus = 16" in said and "2 nodes with 8 CPUs; 1 node with 4 CPUs, 1 GPU" in said
    said = missing(pools(large={"cpus": 8, "gpus": 1}), [node(8), node(4, 1)])  # not on one node
    assert "pools.large: 8 CPUs, 1 GPU" in said


def test_a_pool_that_begins_with_no_replica_needs_a_node_all_the_same():
    elastic = {"min_replicas": 0, "max_replicas": 2, "label": "large"}
    assert "pools.large.label" in missing(pools(small={}, large=elastic), [node()])
    assert missing(pools(small={"cpus": 4}, large={**elastic, "cpus": 4}), [node(pool="large")]) is None


@pytest.mark.parametrize(
    ("wanted", "there", "enough"),
    [
        ({"small": {"replicas": 3}}, [node(2)], False),
        ({"small": {"gpus": 1}, "large": {"gpus": 1}}, [node(8, 1)], False),
        ({"small": {"gpus": 0.5}, "large": {"gpus": 0.5}}, [node(8, 1)], True),
        # three GPUs are free, but no two on one node beside the other replicas
        ({"small": {"gpus": 2, "replicas": 3}}, [node(8, 3), node(8, 3)], False),
        # whoever took the large node for the small model first would find no place for the large one
        ({"small": {"cpus": 2, "replicas": 2}, "large": {"cpus": 4}}, [node(4), node(4)], True),
        ({"small": {"label": "a"}, "large": {"cpus": 3}}, [node(1), node(3, pool="a")], False),
        ({"small": {"cpus": 0, "replicas": 150}, "large": {"cpus": 0.1, "replicas": 40}}, [node(4)], True),
        ({"small": {"replicas": 199}, "large": {"cpus": 3}}, [node(4) for _ in range(50)], False),
    ],
)
def test_the_first_replicas_need_places_at_the_same_time(wanted, there, enough):
    said = missing(pools(**wanted), there)
    assert (said is None) == enough
    assert enough or "fewer places than the first replicas need" in said


def test_a_cluster_whose_nodes_are_only_mirrored_adds_none():
    mirrored = {"autoscaler_report": {"node_type_mapping": {"3f2a": "node_3f2a", "91bc": "node_91bc"}}}
    scaled = {"autoscaler_report": {"node_type_mapping": {"3f2a": "head", "91bc": "gpu-group"}}}
    assert (adds_nodes(mirrored), adds_nodes(scaled), adds_nodes({})) == (False, True, None)
