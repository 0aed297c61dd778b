"""Benchmarks: a configuration in, the `Question` rows of one split out. One source a file."""

from steer.benchmarks import embedded, local
from steer.benchmarks.benchmark import Benchmark, Row
from steer.benchmarks.embedded import EMBEDDED
from steer.config import BenchmarkConfig

__all__ = ["Benchmark", "Row", "known_benchmarks", "load_benchmark"]


def known_benchmarks() -> dict[str, str]:
    """Name -> one line about it, of every benchmark that needs no file."""
    return {name: benchmark.about for name, benchmark in EMBEDDED.items()}


def load_benchmark(config: BenchmarkConfig) -> Benchmark:
    """The benchmark's split, cut to `limit` questions of `samples` traces each. Raises ValueError with the remedy."""
    if config.source == "hub":
        raise ValueError(
            f"benchmark source: hub is not available: use source: embedded with name: {' or '.join(EMBEDDED)}, or "
            "source: PATH of a json, jsonl, csv or parquet file with question:, answer: and grader:"
        )
    benchmark = embedded.load(config) if config.source == "embedded" else local.load(config)
    return benchmark.sampled(config.limit, config.samples)
