"""Benchmarks: a configuration in, the `Question` rows of one split out. Each benchmark has its own file."""

from dataclasses import replace
from typing import Literal

from steer.benchmarks import embedded, local
from steer.benchmarks.benchmark import Benchmark, BenchmarkRow, EmptySplit, Key, Reading, Shard
from steer.benchmarks.embedded import EMBEDDED, EmbeddedBenchmark
from steer.benchmarks.files import is_local, several
from steer.benchmarks.public import PUBLIC
from steer.benchmarks.public.definition import Definition, PublicShard
from steer.config.run import BenchmarkConfig

__all__ = [
    "PUBLIC",
    "Benchmark",
    "EmptySplit",
    "Key",
    "Reading",
    "BenchmarkRow",
    "Shard",
    "known_benchmarks",
    "load_benchmark",
    "reading",
    "token_rule",
]

OWN_DATA_KEYS = ("question", "answer", "answers", "id", "prompt")
"""Configuration keys that only own data may set."""


def known_benchmarks() -> dict[str, str]:
    """The names of all benchmarks, each with a one-line description."""
    known: dict[str, EmbeddedBenchmark | Definition] = {**EMBEDDED, **PUBLIC}
    return {name: benchmark.about for name, benchmark in known.items()}


def token_rule(config: BenchmarkConfig) -> Literal["math", "all"] | None:
    """Which tokens the score of a step averages over, without reading a file. None: the configuration does not say."""
    known: dict[str, EmbeddedBenchmark | Definition] = {**EMBEDDED, **PUBLIC}
    if config.tokens is not None:
        return config.tokens
    if config.question is None and config.name in known:
        return known[config.name].tokens
    return None if config.grader is None else local.token_rule(config.grader)


def load_benchmark(config: BenchmarkConfig) -> Benchmark:
    """Read the benchmark's split into memory. Raises ValueError with the remedy."""
    return reading(config).load()


def reading(config: BenchmarkConfig) -> Reading:
    """How the configured benchmark is read. Raises ValueError, with the remedy, if the configuration is wrong."""
    read = _reading(config)
    if config.difficulties is None:
        return read
    rule = f"{read.split_rule}; only questions of difficulty {', '.join(config.difficulties)}"
    return replace(read, split_rule=rule, difficulties=config.difficulties)


def _reading(config: BenchmarkConfig) -> Reading:
    """How it is read as a whole, questions of every difficulty."""
    source = config.source or _standard_source(config.name)
    if config.split == "train" and source != "embedded":
        raise ValueError(f"benchmark {config.name} has no split train: use split: validation")
    if source not in ("embedded", "hub") and (config.name not in PUBLIC or config.question is not None):
        return local.reading(config)
    known = known_benchmarks()
    if config.name not in known:
        raise ValueError(
            f"benchmark name: {config.name}: no benchmark of that name; there are {', '.join(known)}. "
            "For data of your own set source: PATH, question:, answer: and grader:"
        )
    # A resolved configuration names every key: only one that is set to something is misplaced.
    fields = BenchmarkConfig.model_fields
    misplaced = [key for key in OWN_DATA_KEYS if getattr(config, key) != fields[key].default]
    if misplaced:
        raise ValueError(
            f"benchmark {config.name} knows its fields and takes no {', '.join(misplaced)}: remove them, or set "
            "source: PATH, question:, answer: and grader: to read data of your own"
        )
    if (source == "embedded") != (config.name in EMBEDDED):
        raise ValueError(
            f"benchmark {config.name} is not read from source: {', '.join(several(source))}: "
            + ("use source: hub, or the PATH of its files" if config.name in PUBLIC else "use source: embedded")
        )
    return embedded.reading(config) if source == "embedded" else _public(config, source)


def _standard_source(name: str) -> str:
    return "hub" if name in PUBLIC else "embedded"


def _public(config: BenchmarkConfig, source: str | tuple[str, ...]) -> Reading:
    definition = PUBLIC[config.name]
    sources = definition.hub() if source == "hub" else definition.files(several(source))
    grader = config.grader or definition.grader
    return Reading(
        name=definition.name,
        split=config.split,
        split_rule=definition.split_rule,
        grader=grader,
        tokens=config.tokens or definition.tokens,
        shards=tuple(PublicShard(definition, s, grader, config.choice_official) for s in sources),
        limit=config.limit,
        samples=config.samples,
        local=source != "hub" and is_local(several(source)),
        drawn=True,
    )
