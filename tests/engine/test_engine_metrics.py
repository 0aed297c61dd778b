"""vLLM's own metrics of a replica, on the metrics page of its node."""

import time

import metrics_page
import pytest
from held_rows import held
from patience import PATIENCE_S

from pipelines.run.cells import Cell
from pipelines.run.evaluate import evaluate
from pipelines.run.session import cluster, session
from steer.benchmarks import load_benchmark
from steer.config.pairs import load_pair
from steer.config.policy import SmallPolicy
from steer.config.run import BenchmarkConfig, PoolConfig, PoolsConfig, RoutingOptions
from steer.storage.run_folder import RunFolder
from steer.traces import Role

pytestmark = [pytest.mark.ray, pytest.mark.engine]


def generated():
    """Tokens that vLLM says it generated, by the model's name; empty if its metrics are not on the page."""
    samples = metrics_page.samples()
    return {s.labels["model_name"]: s.value for s in samples if s.name == "ray_vllm_generation_tokens_total"}


def test_vllm_counts_the_tokens_that_the_run_counts(tmp_path):
    benchmark = load_benchmark(BenchmarkConfig(name="chain_math", split="validation", limit=4))
    run = RunFolder.create(tmp_path / "run", "run", {}, [0])
    pools = PoolsConfig(small=PoolConfig(engine_metrics=True))
    with cluster(), session(load_pair("embedded"), pools, roles=[Role.SMALL]) as opened:
        cell = Cell("cell", SmallPolicy(), RoutingOptions(), held(benchmark.rows), benchmark.tokens)
        evaluate([cell], opened.routers, run)
        tokens = sum(run.read("traces")["tokens_small"].to_pylist())
        deadline_s, counted = time.monotonic() + PATIENCE_S, 0
        while counted < tokens and time.monotonic() < deadline_s:
            counted = sum(generated().values())
        # vLLM also counts what STEER does not: the tokens of tests at the start, and those behind a step's end.
        assert tokens <= counted <= 1.5 * tokens + 20
