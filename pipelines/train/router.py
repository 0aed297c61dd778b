"""`steer train-router`: train the probe that `query_router` routes by, on k rollouts of the small model.

The small model answers every question k times. The share of right answers is a soft label. A probe on the last hidden
state of the prompt learns the label by binary cross-entropy (arXiv 2410.04707). The cost of the rollouts is reported
apart (`training.json`, and the run folder `rollouts/`), because routing with the probe does not pay it.

Invariant: no question of a test split is read. Embedded benchmarks have a split `train`; for others use `validation`,
on which thresholds are chosen, too.
"""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from pipelines.run.cells import Cell
from pipelines.run.ingest import Ingested, ingest
from pipelines.run.lifecycle import Lifecycle
from steer.benchmarks import reading
from steer.config.load import SettingsError, refusals_as_settings_errors
from steer.config.policy import SmallPolicy
from steer.config.run import BenchmarkConfig, PairConfig, PoolsConfig, RoutingOptions
from steer.config.strict import Count, Seed, Strict
from steer.messages import Prompt
from steer.policies.probe import Probe
from steer.storage.one_cell import from_one_cell
from steer.storage.run_folder import RunFolder
from steer.traces import Role


class TrainRouterConfig(Strict):
    """The configuration of `steer train-router`."""

    benchmarks: Annotated[tuple[BenchmarkConfig, ...], Field(min_length=1)] = (
        BenchmarkConfig(name="chain_math", split="train", limit=800),
        BenchmarkConfig(name="hops", split="train", limit=800),
    )
    """Questions to train on. The splits `test` and `all` are refused."""
    pair: str | PairConfig = "embedded"
    rollouts: Count = 4
    """k: the small model's answers to each question."""
    routing: RoutingOptions = RoutingOptions()
    pools: PoolsConfig = PoolsConfig()
    journal: bool = True
    """Write the live rollouts to the folder after every round, so that a lost router loses none of them."""
    seed: Seed = 0
    """Seed of the rollouts and of the probe's training."""


def train_router(config: TrainRouterConfig, out: str | Path, verbose: bool = False) -> dict:
    """Write the probe and `training.json` to the new folder `out`. Returns the content of `training.json`.

    Raises SettingsError for a test split, for a folder in use, and if all questions were solved equally often.
    """
    lifecycle = Lifecycle(
        "train-router",
        config,
        [SmallPolicy()],
        Path(out) / "rollouts",
        seeds=[config.seed],
        roles=[Role.SMALL],
        verbose=verbose,
    )
    with refusals_as_settings_errors():
        tested = [b.name for b in config.benchmarks if b.split in ("test", "all")]
        if tested:
            raise ValueError(f"benchmark {tested[0]}: a router is not trained on test questions: set split: validation")
        RunFolder.refuse_used(out)
        plans = [reading(b.model_copy(update={"samples": config.rollouts})) for b in config.benchmarks]
    with lifecycle:
        loaded = [ingest(plan) for plan in plans]
        lifecycle.begin(loaded)
        lifecycle.evaluate([_cell(config, benchmark) for benchmark in loaded])
    run, pair = lifecycle.run, lifecycle.pair
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
    """(prompts [Q], share of right answers [Q], FLOPs of all answers by the paper's count, in 1e12) of a run. Questions
    that could not be asked are left out."""
    columns = ["benchmark", "question_id", "prompt", "correct", "error", "flops_paper"]
    traces = run.read("traces", columns=columns).to_pandas()
    tflops = float(traces.flops_paper.sum())
    questions = traces[traces.error == ""].groupby(["benchmark", "question_id"], sort=True)
    solved = questions.correct.mean()
    systems = _systems(run)
    prompts = [Prompt(text, systems[name]) for name, text in questions.prompt.first().items()]
    return prompts, solved.to_numpy(np.float64), tflops


def _systems(run: RunFolder) -> dict[tuple[str, str], str]:
    """System texts by (benchmark, question id). The table `traces/` does not hold them."""
    systems = {}
    for cell in run.describe()["cells"]:
        for group in run.read_groups(cell["part"], [cell["name"]]):
            questions = from_one_cell(group["questions"])
            keys = zip(questions["benchmark"].to_pylist(), questions["id"].to_pylist(), strict=True)
            systems |= dict(zip(keys, questions["system"].to_pylist(), strict=True))
    return systems


def _fitted(
    pair: PairConfig, config: TrainRouterConfig, prompts: list[Prompt], solved_Q: np.ndarray
) -> tuple[Probe, dict]:
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
