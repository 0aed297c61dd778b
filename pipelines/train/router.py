"""`steer train-router`: the probe that `query_router` routes by, from k rollouts of the small model.

The small model answers every question k times; the share of right answers is a soft label. A probe on its prompt's
last hidden state learns the label by binary cross-entropy (arXiv 2410.04707). What the rollouts cost is reported apart
(`training.json`, and the run folder `rollouts/`), since routing with the probe does not pay it.

Invariant: nothing of a test split is read. Embedded benchmarks have a split `train`; of others `validation` is taken,
on which thresholds are chosen too.
"""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from pipelines.run.cells import Cell
from pipelines.run.ingest import Ingested, ingest
from pipelines.run.run import evaluate_all, resolved
from pipelines.run.session import cluster, session
from pipelines.run.supervisor import unused_if_not_started
from steer.benchmarks import reading
from steer.config.load import SettingsError, refusals_as_settings_errors
from steer.config.pairs import load_pair
from steer.config.policy import SmallPolicy
from steer.config.run import BenchmarkConfig, PairConfig, PoolsConfig, RoutingOptions
from steer.config.strict import Strict
from steer.messages import Prompt
from steer.storage.run_folder import RunFolder
from steer.traces import Role


class TrainRouterConfig(Strict):
    """A whole `steer train-router`."""

    benchmarks: Annotated[tuple[BenchmarkConfig, ...], Field(min_length=1)] = (
        BenchmarkConfig(name="chain_math", split="train", limit=800),
        BenchmarkConfig(name="hops", split="train", limit=800),
    )
    """Questions to learn from; `split: test` is refused."""
    pair: str | PairConfig = "embedded"
    rollouts: Annotated[int, Field(ge=1)] = 4
    """k: answers of the small model to each question."""
    routing: RoutingOptions = RoutingOptions()
    pools: PoolsConfig = PoolsConfig()
    seed: int = 0
    """Of the rollouts' sampling and of the probe's training."""


def train_router(config: TrainRouterConfig, out: str | Path, verbose: bool = False) -> dict:
    """Write the probe and `training.json` into the new folder `out`; returns the latter. Raises SettingsError for a
    test split, a folder in use, and answers that teach nothing."""
    with refusals_as_settings_errors():
        tested = [b.name for b in config.benchmarks if b.split in ("test", "all")]
        if tested:
            raise ValueError(f"benchmark {tested[0]}: a router is not trained on test questions: set split: validation")
        pair = load_pair(config.pair)
        plans = [reading(b.model_copy(update={"samples": config.rollouts})) for b in config.benchmarks]
        RunFolder.refuse_used(out)
    with cluster(verbose):
        loaded = [ingest(plan) for plan in plans]
        run = RunFolder.create(Path(out) / "rollouts", "train-router", resolved(config, pair), [config.seed])
        run.update(benchmarks=[benchmark.described() for benchmark in loaded])
        with unused_if_not_started(run), session(pair, config.pools, roles=[Role.SMALL]) as held:
            evaluate_all([_cell(config, benchmark) for benchmark in loaded], held, run)
            run.finish()
    prompts, solved_Q, tflops = labelled(run)
    probe, measured = _fitted(pair, config, prompts, solved_Q)
    probe.save(Path(out))
    report = {
        "small": pair.small.path,
        "benchmarks": [f"{b.name} {b.split}" for b in loaded],
        "rollouts": config.rollouts,
        "rollout_tflops": tflops,
        "seed": config.seed,
        **measured,
    }
    (Path(out) / "training.json").write_text(json.dumps(report, indent=2) + "\n")
    return report


def labelled(run: RunFolder) -> tuple[list[Prompt], np.ndarray, float]:
    """(prompts [Q], share of right answers [Q], 1e12 FLOPs of all answers by the paper's count) of a run's questions.
    Questions that could not be asked are left out."""
    columns = ["benchmark", "question_id", "prompt", "correct", "error", "flops_paper"]
    traces = run.read("traces", columns=columns).to_pandas()
    tflops = float(traces.flops_paper.sum())
    questions = traces[traces.error == ""].groupby(["benchmark", "question_id"], sort=True)
    solved = questions.correct.mean()
    systems = _systems(run)
    prompts = [Prompt(text, systems[name]) for name, text in questions.prompt.first().items()]
    return prompts, solved.to_numpy(np.float64), tflops


def _systems(run: RunFolder) -> dict[tuple[str, str], str]:
    """(benchmark, question id) -> system text, which `traces/` does not repeat."""
    systems = {}
    for cell in run.describe()["cells"]:
        for group in run.read_groups(cell["part"], [cell["name"]]):
            systems |= {(q["benchmark"], q["id"]): q["system"] for q in group["questions"].to_pylist()[0]}
    return systems


def _fitted(pair: PairConfig, config: TrainRouterConfig, prompts: list[Prompt], solved_Q: np.ndarray):
    from actors.engine.checkpoint import model_fingerprint
    from actors.engine.pooling import prompt_states
    from pipelines.train.probe_fit import fit_probe

    states_QH = prompt_states(pair.small, config.pools.query, prompts)
    try:
        return fit_probe(states_QH, solved_Q, model_fingerprint(pair.small.path), config.seed)
    except ValueError as refusal:
        raise SettingsError(str(refusal)) from refusal


def _cell(config: TrainRouterConfig, benchmark: Ingested) -> Cell:
    name = f"{benchmark.name}/{benchmark.split}/rollouts/seed{config.seed}"
    return Cell(name, SmallPolicy(), config.routing, benchmark.rows, benchmark.tokens, config.seed)
