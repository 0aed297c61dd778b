"""`steer run`: one policy on one benchmark, from a configuration to a run's folder, its table and summary."""

import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from actors.router.roles import needed_roles
from pipelines.report.printed import tables
from pipelines.report.summary import Entry, Summary, note_seconds, summarise, write_json
from pipelines.report.time_spent import note_time, spent
from pipelines.report.time_spent import table as time_table
from pipelines.run.cells import Cell, refuse_uncuttable
from pipelines.run.evaluate import evaluate
from pipelines.run.ingest import Rows, ingest
from pipelines.run.prewarm import prewarmed
from pipelines.run.progress import Progress
from pipelines.run.resume import go_on, held_run
from pipelines.run.run_lock import run_lock_held
from pipelines.run.session import Session, cluster, session
from pipelines.run.supervisor import Supervisor
from steer.benchmarks import reading
from steer.config.load import refusals_as_settings_errors
from steer.config.pairs import load_pair
from steer.config.policy import BAR, PolicyConfig
from steer.config.run import PairConfig, PoolsConfig, RunConfig
from steer.config.thresholds import label_of, setting_of
from steer.costs.gpu_memory import memory_problems
from steer.policies import make_policy
from steer.storage.run_folder import RunFolder
from steer.traces import MEASURES


def run_one(
    config: RunConfig,
    out: str | Path,
    replica_class: type | None = None,
    verbose: bool = False,
    resume: bool = False,
) -> Summary:
    """Raises SettingsError for what cannot be loaded and for a folder in use, before anything starts.

    `replica_class`: see `actors.router.Router`. `resume`: go on with the run in `out`, of the same configuration but
    for its pools, or begin it where there is none; where nothing is left to do no model is started."""
    with refusals_as_settings_errors():
        pair = usable_pair(config.pair, config.pools)
        roles = needed_roles([config.policy], pair)
        refuse_unmeasured([config.policy], config.pools)
        run = held_run(out, "run") if resume else None
        if run is None:
            RunFolder.refuse_used(out)
        else:
            go_on(run, resolved(config, pair), out)
        new = run is None or not run.describe()["cells"]
        plan = reading(config.benchmark) if new else None
    with cluster(verbose, len(roles)), prewarmed(config.pools, roles):
        if new:
            benchmark = ingest(plan)
            name, split = benchmark.name, benchmark.split
            cell = _cell(config, name, split, benchmark.rows, benchmark.tokens)
            with refusals_as_settings_errors():
                refuse_uncuttable(cell)
                run = run or RunFolder.create(out, "run", resolved(config, pair), [config.seed])
                run.update(benchmarks=[benchmark.described()])
        else:
            (held,), (admitted,) = run.describe()["benchmarks"], run.describe()["cells"]
            name, split = held["benchmark"], held["split"]
            cell = _cell(config, name, split, None, admitted["tokens"])
        if cell.name not in run.finished_cells():
            start = partial(session, pair, config.pools, replica_class, roles, [config.policy], journal_of(run, config))
            with run_lock_held(run), Supervisor(run, start, new) as supervisor:
                supervisor.evaluate([cell], evaluate_all)
                run.update(engines=described(supervisor.session()))
    rows = summarise(run, [run_entry(config, name, split)])
    write_json(run, rows)
    run.finish()
    print(tables(rows), flush=True)
    took = run.describe().get("time")
    if took:
        print(f"\n{time_table(took)}", flush=True)
    return rows[0]


def _cell(config: RunConfig, benchmark: str, split: str, rows: Rows | None, tokens: str) -> Cell:
    return Cell(
        name=cell_name(config, benchmark, split),
        policy=config.policy,
        routing=config.routing,
        rows=rows,
        tokens=tokens,
        seed=config.seed,
        groups=config.benchmark.groups,
    )


def journal_of(run: RunFolder, config) -> str | None:
    """Where the router keeps the live traces of a run; None: nowhere."""
    return run.journal if config.journal else None


def usable_pair(pair: str | PairConfig, pools: PoolsConfig) -> PairConfig:
    """The pair, loaded. Raises ValueError, with the remedy, if it is unknown or does not fit the pools' cards."""
    loaded = load_pair(pair)
    problems = list(memory_problems(loaded, pools))
    if problems:
        raise ValueError("\n".join(problems))
    return loaded


def refuse_unmeasured(policies: Iterable[PolicyConfig], pools: PoolsConfig) -> None:
    """Raises ValueError if a `custom` policy reads a measure that no replica computes; of the others `load` knows."""
    for policy in policies:
        measure = make_policy(policy).measure if policy.name == "custom" else None
        if measure is not None and MEASURES[measure] not in pools.measures:
            name = MEASURES[measure]
            left_out = f"which pools.measures = {list(pools.measures)} leaves out; add {name} there"
            raise ValueError(f"policy {policy.object} reads {name}, {left_out}")


def cell_name(config: RunConfig, benchmark: str, split: str) -> str:
    return f"{benchmark}/{split}/{label_of(config.policy)}/seed{config.seed}"


def run_entry(config: RunConfig, benchmark: str, split: str) -> Entry:
    """The one row of a run's summary."""
    bar = config.policy.name in BAR
    cells = (cell_name(config, benchmark, split),)
    setting = setting_of(config.policy.model_dump())
    return Entry(benchmark, split, label_of(config.policy), setting, cells, bar)


def evaluate_all(cells: Sequence[Cell], held: Session, run: RunFolder) -> None:
    """Route, grade and commit the cells with progress on standard error; what that took goes into `run.json`."""
    before, started = held.stats(), time.monotonic()
    with Progress(held.stats, sys.stderr):
        grading_s = evaluate(cells, held.router, run)
    wall_s = time.monotonic() - started
    note_seconds(run, [cell.name for cell in cells], wall_s)
    note_time(run, spent(before, held.stats(), wall_s, grading_s))


def described(held: Session) -> dict:
    """What `run.json` says of the engines, and of the router's work; of a model that was never started, no entry."""
    stats = held.stats()
    return {
        **{role.label: _engine(info) for role, info in held.infos.items()},
        "replaced_replicas": stats.replaced,
        "outstanding_s": {role.label: seconds for role, seconds in stats.outstanding_s.items()},
        "busy_s": {role.label: seconds for role, seconds in stats.busy_s.items()},
        "replica_s": {role.label: seconds for role, seconds in stats.replica_s.items()},
    }


def resolved(config, pair: PairConfig) -> dict:
    """The configuration as it was run, the pair spelled out."""
    return {**config.model_dump(mode="json"), "pair": pair.model_dump(mode="json")}


def _engine(info) -> dict:
    return {"model": info.model, "parameters": info.parameters, "max_model_len": info.max_model_len, **info.versions}
