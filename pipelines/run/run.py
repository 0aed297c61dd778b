"""`steer run`: one policy on one benchmark, from the configuration to the run folder and the printed table."""

from collections.abc import Collection
from pathlib import Path

from pipelines.report.printed import refused, tables
from pipelines.report.summary import Entry, Summary, summarise, write_json
from pipelines.report.time_spent import table as time_table
from pipelines.report.totals import money_lines
from pipelines.run.cells import Cell
from pipelines.run.ingest import Rows, ingest
from pipelines.run.lifecycle import Lifecycle
from steer.benchmarks import reading
from steer.config.load import SettingsError, refusals_as_settings_errors
from steer.config.policy import BAR
from steer.config.run import RunConfig
from steer.config.thresholds import label_of, setting_of
from steer.error_kinds import ErrorKind


def run_one(
    config: RunConfig,
    out: str | Path,
    replica_class: type | None = None,
    verbose: bool = False,
    resume: bool = False,
    retry: Collection[ErrorKind] | None = None,
) -> Summary:
    """Run, print the table, and return the row of `summary.json`.

    `replica_class`: see `actors.router.router.Router`. `resume`: resume the run in `out`, whose configuration must be
    the same but for its pools, or begin it if there is none. If all its rows are committed, no model is started.
    `retry`: kinds of error rows that the resumed run asks again.
    Raises SettingsError for a configuration that cannot be used and for a folder in use, before anything starts.
    """
    groups, routers = config.benchmark.groups, config.pools.routers
    if groups < routers:
        raise SettingsError(
            f"benchmark.groups = {groups} is fewer than pools.routers = {routers}: a group belongs to one router, and "
            f"the others would have nothing to do; set benchmark.groups to {routers} or a multiple of it"
        )
    lifecycle = Lifecycle(
        "run",
        config,
        [config.policy],
        out,
        seeds=[config.seed],
        resume=resume,
        retry=retry,
        replica_class=replica_class,
        verbose=verbose,
    )
    described = {} if lifecycle.resumed is None else lifecycle.resumed.describe()
    with refusals_as_settings_errors():
        plan = None if described.get("cells") else reading(config.benchmark)
    with lifecycle:
        if plan is not None:
            benchmark = ingest(plan)
            name, split = benchmark.name, benchmark.split
            cell = _cell(config, name, split, benchmark.rows, benchmark.tokens)
            lifecycle.begin([benchmark], [cell])
        else:
            (admitted,), (known,) = described["benchmarks"], described["cells"]
            name, split = admitted["benchmark"], admitted["split"]
            cell = _cell(config, name, split, None, known["tokens"])
            lifecycle.begin([])
        lifecycle.evaluate([cell])
    run = lifecycle.run
    rows = summarise(run, [run_entry(config, name, split)])
    write_json(run, rows)
    run.finish()
    print(tables(rows), flush=True)
    if unasked := refused(run.describe()["benchmarks"]):
        print(f"\n{unasked}", flush=True)
    for line in money_lines(run):
        print(f"\n{line}", flush=True)
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


def cell_name(config: RunConfig, benchmark: str, split: str) -> str:
    return f"{benchmark}/{split}/{label_of(config.policy)}/seed{config.seed}"


def run_entry(config: RunConfig, benchmark: str, split: str) -> Entry:
    """The one row of a run's summary."""
    bar = config.policy.name in BAR
    cells = (cell_name(config, benchmark, split),)
    setting = setting_of(config.policy.model_dump())
    return Entry(benchmark, split, label_of(config.policy), setting, cells, bar)
