"""`steer experiment paper`: the paper's tables and figures, and some that it lacks, from one resumable sweep.

Thresholds are chosen on validation. On test every method runs with its whole grid: its curve then has intervals, and
"best on test", the paper's way of reporting, can stand beside the honest figure.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from pipelines.report.paper.rows import KIND, OBSERVED, rows
from pipelines.report.write import write_report
from pipelines.sweep.sweep import run_sweep
from steer.config.load import refusals_as_settings_errors
from steer.config.pairs import load_pair
from steer.config.run import BenchmarkConfig, PairConfig, PoolsConfig, RoutingOptions
from steer.config.strict import COUNTS, NO_TRUTH_VALUE, Count, Seed, Strict
from steer.config.sweep import SweepConfig, Variant, refuse_seeds_that_do_not_fit


class PaperConfig(Strict):
    """`steer experiment paper`."""

    pair: str | PairConfig = "embedded"
    benchmarks: Annotated[tuple[str | BenchmarkConfig, ...], Field(min_length=1)] = ("chain_math", "hops")
    """Names, or mappings as under `benchmark:` of a run. `split` and `limit` are not read."""
    validation_questions: Annotated[int, Field(ge=20, lt=COUNTS), NO_TRUTH_VALUE] | None = 160
    """Validation questions of each benchmark. None: all."""
    test_questions: Annotated[int, Field(ge=20, lt=COUNTS), NO_TRUTH_VALUE] | None = 320
    """Test questions of each benchmark. None: all."""
    test_seeds: Count = 1
    """Sampling seeds of each test question."""
    routing: RoutingOptions = RoutingOptions()
    pools: PoolsConfig = PoolsConfig()
    seed: Seed = 0
    """The first sampling seed. The others follow it."""

    @model_validator(mode="after")
    def _seeds_fit(self) -> Self:
        refuse_seeds_that_do_not_fit(self.seed, self.test_seeds)
        return self


def run_paper(config: PaperConfig, out: str | Path, replica_class: type | None = None, verbose: bool = False) -> str:
    """Run the sweep in `out`, or go on where an earlier call was cut off, and write its report to `out`/report.

    Returns the text to print. Raises what `run_sweep` raises.
    """
    with refusals_as_settings_errors():
        pair = load_pair(config.pair)
    missing = dict(_missing(pair))
    for label, why in missing.items():
        print(f"{label}: not run, {why}", flush=True)
    run_sweep(paper_sweep(config, missing), out, replica_class, verbose, kind=KIND, resume=True)
    report = Path(out) / "report"
    shutil.rmtree(report, ignore_errors=True)  # An earlier call may have written one.
    return write_report([out], report)


def paper_sweep(config: PaperConfig, missing: dict[str, str]) -> SweepConfig:
    """The sweep of the experiment, without the methods whose labels are in `missing`."""
    benchmarks = [BenchmarkConfig(name=b) if isinstance(b, str) else b for b in config.benchmarks]
    found = [row for row in rows() if row["label"].removeprefix(f"{OBSERVED} ") not in missing]
    return SweepConfig(
        benchmarks=tuple(benchmarks),
        validation_questions=config.validation_questions,
        test_questions=config.test_questions,
        test_seeds=config.test_seeds,
        pair=config.pair,
        variants=tuple(Variant.model_validate(row) for row in found),
        routing=config.routing,
        pools=config.pools,
        seed=config.seed,
    )


def _missing(pair: PairConfig) -> Iterator[tuple[str, str]]:
    """(method, reason) for the methods whose signal the pair cannot give."""
    if pair.prm is None:
        yield "rsd", "the pair has no process reward model (prm: {path: ...}; docs/signals.md)"
    if pair.probe is None:
        yield "query_router", "the pair has no probe (steer train-router, then probe: FOLDER)"
