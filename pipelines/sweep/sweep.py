"""`steer sweep`: every policy's threshold grid on validation, the chosen setting on test, over one start of the models.

Two pipelines: all validation cells, then (thresholds chosen) all test cells. The bar (`small`, `random_query`,
`large`) runs whole on both splits. A sweep that was cut off can go on where it was.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from actors.router.roles import needed_roles
from pipelines.report.picture import save_curve
from pipelines.report.printed import best_on_test, tables
from pipelines.report.summary import Entry, Summary, summarise, write_json
from pipelines.run.cells import Cell
from pipelines.run.ingest import Ingested, ingest
from pipelines.run.prewarm import prewarmed
from pipelines.run.resume import go_on, held_run
from pipelines.run.run import described, evaluate_all, journal_of, refuse_unmeasured, resolved, usable_pair
from pipelines.run.run_lock import run_lock_held
from pipelines.run.session import cluster, session
from pipelines.run.supervisor import Supervisor
from steer.benchmarks import Reading, reading
from steer.config.load import SettingsError, refusals_as_settings_errors
from steer.config.policy import PolicyConfig
from steer.config.run import BenchmarkConfig
from steer.config.sweep import SweepConfig, Variant
from steer.statistics.thresholds import Point, choose
from steer.storage.run_folder import RunFolder

Choice = dict[tuple[str, str], str]
"""(benchmark, label) -> the setting that validation chose."""


def run_sweep(
    config: SweepConfig,
    out: str | Path,
    replica_class: type | None = None,
    verbose: bool = False,
    kind: str = "sweep",
    resume: bool = False,
) -> list[Summary]:
    """Raises SettingsError for what cannot be loaded and for a folder in use, before anything starts.

    `replica_class`: see `actors.router.Router`; `kind` is written to `run.json`. `resume`: go on in a folder of the
    same configuration but for its pools; traces that are committed are not routed again, and where none is left no
    model is started."""
    with refusals_as_settings_errors():
        pair = usable_pair(config.pair, config.pools)
        policies = [policy for variant in config.variants for _, policy in variant.settings()]
        roles = needed_roles(policies, pair)
        refuse_unmeasured(policies, config.pools)
        plans = {split: _plans(config, split) for split in ("validation", "test")[: 1 + config.test]}
        run = held_run(out, kind) if resume else None
        if run is None:
            RunFolder.refuse_used(out)
        else:
            go_on(run, resolved(config, pair), out)
    new = run is None
    with cluster(verbose, len(roles)), prewarmed(config.pools, roles), ExitStack() as stack:
        splits = {split: _ingested(config, split, plans[split]) for split in plans}
        if new:
            with refusals_as_settings_errors():
                run = RunFolder.create(out, kind, resolved(config, pair), config.seeds("test"))
                run.update(benchmarks=[b.described() for split in splits.values() for b in split.values()])
        start = partial(session, pair, config.pools, replica_class, roles, policies, journal_of(run, config))
        stack.enter_context(run_lock_held(run))
        supervisor = stack.enter_context(Supervisor(run, start, new))
        finished = run.finished_cells()

        def phase(split: str, choice: Choice | None) -> list[Summary]:
            cells, rows = _cells(config, splits[split], choice)
            left = [cell for cell in cells if cell.name not in finished]
            if left:
                supervisor.evaluate(left, evaluate_all)
                run.update(engines=described(supervisor.session()))
            return summarise(run, rows)

        validation = phase("validation", None)
        write_json(run, validation)
        choice = chosen(config, validation)
        test = phase("test", choice) if config.test else []
    rows = validation + test
    write_json(run, rows)
    save_curve(run, rows)
    run.finish(chosen=[[*key, setting] for key, setting in choice.items()])
    print(report(test or validation, choice, config.test_grid and config.test), flush=True)
    return rows


def chosen(config: SweepConfig, validation: Sequence[Summary]) -> Choice:
    """The setting that the objective prefers, for each benchmark and variant that has a threshold to choose."""
    choice: Choice = {}
    for variant in config.variants:
        if variant.is_bar or len(variant.settings()) == 1:
            continue
        for benchmark in config.benchmarks:
            mine = [r for r in validation if (r.benchmark, r.policy) == (benchmark.name, variant.label)]
            points = [Point(r.setting, r.accuracy, r.flops_paper) for r in mine]
            choice[benchmark.name, variant.label] = choose(
                points, config.objective, config.tolerance, config.budget
            ).setting
    return choice


def kept_rows(rows: Sequence[Summary], choice: Choice) -> list[Summary]:
    """Without the settings that validation did not choose."""
    return [r for r in rows if _kept(r.benchmark, r.policy, r.setting, choice)]


def report(test: Sequence[Summary], choice: Choice, test_grid: bool) -> str:
    """What the sweep prints. With the grid on test too, first the rows that validation chose, then best on test."""
    marked = {(benchmark, label, setting) for (benchmark, label), setting in choice.items()}
    text = tables(kept_rows(test, choice), marked)
    if test_grid:
        text += (
            "\n\nBEST ON TEST (threshold chosen on the test questions themselves: optimistic, as the paper reports)\n\n"
        )
        text += tables([r for r in best_on_test(test) if r.policy != "random_query"])
    return text


def entries(
    config: SweepConfig, split: str, choice: Choice | None
) -> Iterator[tuple[Entry, BenchmarkConfig, Variant, PolicyConfig]]:
    """(row, benchmark, variant, policy) of every row of a split; `choice` None: the whole grid."""
    standard = "grid" if config.test_grid else "chosen"
    for benchmark in config.benchmarks:
        for variant in config.variants:
            runs = "grid" if choice is None else variant.on_test or standard
            if runs == "never" or (choice is None and not variant.on_validation):
                continue
            for setting, policy in variant.settings():
                if runs == "grid" or _kept(benchmark.name, variant.label, setting, choice):
                    base = "/".join(filter(None, (benchmark.name, split, variant.label, setting)))
                    cells = tuple(f"{base}/seed{seed}" for seed in config.seeds(split))
                    row = Entry(benchmark.name, split, variant.label, setting, cells, variant.is_bar)
                    yield row, benchmark, variant, policy


def _kept(benchmark: str, label: str, setting: str, choice: Choice) -> bool:
    """Whether validation chose this setting; where there was nothing to choose, every setting is kept."""
    return choice.get((benchmark, label), setting) == setting


def _plans(config: SweepConfig, split: str) -> dict[str, Reading]:
    update = {"split": split, "limit": config.questions(split)}
    return {wanted.name: reading(wanted.model_copy(update=update)) for wanted in config.benchmarks}


def _ingested(config: SweepConfig, split: str, plans: dict[str, Reading]) -> dict[str, Ingested]:
    loaded = {}
    for wanted in config.benchmarks:
        benchmark = ingest(plans[wanted.name])
        groups = max(wanted.groups, *(variant.groups or 0 for variant in config.variants))
        if len(benchmark.rows) < max(groups, 2):
            raise SettingsError(
                f"benchmark {wanted.name}: {len(benchmark.rows)} traces on {split} are too few for {groups} groups: "
                "give more questions or fewer groups"
            )
        loaded[wanted.name] = benchmark
    return loaded


def _cells(
    config: SweepConfig, benchmarks: dict[str, Ingested], choice: Choice | None
) -> tuple[list[Cell], list[Entry]]:
    """All cells of a split, and its rows."""
    split = next(iter(benchmarks.values())).split
    cells, rows = [], []
    for entry, wanted, variant, policy in entries(config, split, choice):
        rows.append(entry)
        read, groups = benchmarks[wanted.name], variant.groups or wanted.groups
        for cell, seed in zip(entry.cells, config.seeds(split), strict=True):
            cells.append(Cell(cell, policy, config.routing, read.rows, read.tokens, seed, groups))
    return cells, rows
