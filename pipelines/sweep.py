"""`steer sweep`: every policy's threshold grid on validation, the chosen setting on test, over one start of the models.

Two pipelines: all validation cells, then (thresholds chosen) all test cells. The bar (`small`, `random_query`,
`large`) runs whole on both splits.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from actors.seats import needed_seats
from pipelines.cells import Cell
from pipelines.choice import Point, choose
from pipelines.grids import SweepConfig
from pipelines.ingest import Ingested, ingest
from pipelines.picture import save_curve
from pipelines.report import best_on_test, tables
from pipelines.run import described, evaluate_all, resolved, unused_if_not_started, usable_pair
from pipelines.session import Session, cluster, session
from pipelines.settings import SettingsError, refusals_as_settings_errors
from pipelines.store import RunFolder
from pipelines.summary import Entry, Summary, summarise, write_json
from steer.benchmarks import Reading, reading
from steer.config import PolicyConfig

Choice = dict[tuple[str, str], str]
"""(benchmark, label) -> the setting that validation chose."""


def run_sweep(
    config: SweepConfig, out: str | Path, replica_class: type | None = None, verbose: bool = False
) -> list[Summary]:
    """Raises SettingsError for what cannot be loaded and for a folder in use, before anything starts.
    `replica_class`: see `actors.router.Router`."""
    with refusals_as_settings_errors():
        pair = usable_pair(config.pair, config.pools)
        seats = needed_seats([variant.policy for variant in config.variants], pair)
        plans = {split: _plans(config, split) for split in ("validation", "test")[: 1 + config.test]}
        RunFolder.refuse_used(out)
    with cluster(verbose, len(seats)):
        splits = {split: _ingested(config, split, plans[split]) for split in plans}
        with refusals_as_settings_errors():
            run = RunFolder.create(out, "sweep", resolved(config, pair), config.seeds("test"))
            run.update(benchmarks=[b.described() for split in splits.values() for b in split.values()])
        with unused_if_not_started(run), session(pair, config.pools, replica_class, seats) as held:
            validation = _phase(config, splits["validation"], None, held, run)
            write_json(run, validation)
            choice = chosen(config, validation)
            test = _phase(config, splits["test"], choice, held, run) if config.test else []
            engines = described(held)
    rows = validation + test
    write_json(run, rows)
    save_curve(run, rows)
    run.finish(engines=engines, chosen=[[*key, setting] for key, setting in choice.items()])
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


def entries(config: SweepConfig, split: str, choice: Choice | None) -> Iterator[tuple[Entry, str, PolicyConfig]]:
    """(row, benchmark, policy) of every row of a split; `choice` None: the whole grid."""
    whole = choice is None or config.test_grid
    for benchmark in config.benchmarks:
        for variant in config.variants:
            for setting, policy in variant.settings():
                if whole or _kept(benchmark.name, variant.label, setting, choice):
                    base = "/".join(filter(None, (benchmark.name, split, variant.label, setting)))
                    cells = tuple(f"{base}/seed{seed}" for seed in config.seeds(split))
                    row = Entry(benchmark.name, split, variant.label, setting, cells, variant.is_bar)
                    yield row, benchmark.name, policy


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
        if len(benchmark.rows) < max(wanted.groups, 2):
            raise SettingsError(
                f"benchmark {wanted.name}: {len(benchmark.rows)} traces on {split} are too few for {wanted.groups} "
                "groups: give more questions or fewer groups"
            )
        loaded[wanted.name] = benchmark
    return loaded


def _phase(
    config: SweepConfig, benchmarks: dict[str, Ingested], choice: Choice | None, held: Session, run: RunFolder
) -> list[Summary]:
    split = next(iter(benchmarks.values())).split
    groups = {b.name: b.groups for b in config.benchmarks}
    cells, rows = [], []
    for entry, name, policy in entries(config, split, choice):
        rows.append(entry)
        for cell, seed in zip(entry.cells, config.seeds(split), strict=True):
            benchmark = benchmarks[name]
            cells.append(Cell(cell, policy, config.routing, benchmark.rows, benchmark.tokens, seed, groups[name]))
    return summarise(run, rows, evaluate_all(cells, held, run))
