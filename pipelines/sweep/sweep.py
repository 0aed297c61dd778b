"""`steer sweep`: every policy's threshold grid on validation, then the chosen setting on test.

The models start once. There are two pipelines: all validation cells, then all test cells with the chosen thresholds.
The bar (`small`, `random_query`, `large`) runs with all its settings on both splits. A sweep that was cut off can be
resumed.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from pipelines.report.figures import save_curve
from pipelines.report.printed import best_on_test, refused, tables
from pipelines.report.summary import Entry, Summary, summarise, write_json
from pipelines.report.totals import money_lines
from pipelines.run.cells import Cell
from pipelines.run.ingest import Ingested, ingest
from pipelines.run.lifecycle import Lifecycle
from steer.benchmarks import Reading, reading
from steer.config.load import SettingsError, refusals_as_settings_errors
from steer.config.policy import PolicyConfig
from steer.config.run import BenchmarkConfig
from steer.config.sweep import SweepConfig, Variant
from steer.error_kinds import ErrorKind
from steer.statistics.thresholds import Point, choose

Choice = dict[tuple[str, str], str]
"""By (benchmark, label of the variant): the setting that was chosen on validation."""


def run_sweep(
    config: SweepConfig,
    out: str | Path,
    replica_class: type | None = None,
    verbose: bool = False,
    kind: str = "sweep",
    resume: bool = False,
    retry: Collection[ErrorKind] | None = None,
) -> list[Summary]:
    """Run the sweep, print its tables, and return the rows of `summary.json`.

    `replica_class`: see `actors.router.router.Router`. `kind` is written to `run.json`. `resume`: resume the sweep in
    `out`, whose configuration must be the same but for its pools, or begin it if there is none. Committed traces are
    not routed again; if none is left, no model is started. `retry`: kinds of error rows that the resumed sweep asks
    again. Raises SettingsError for a configuration that cannot be used and for a folder in use, before anything starts.
    """
    policies = [policy for variant in config.variants for _, policy in variant.settings()]
    lifecycle = Lifecycle(
        kind,
        config,
        policies,
        out,
        seeds=config.seeds("test"),
        resume=resume,
        retry=retry,
        replica_class=replica_class,
        verbose=verbose,
    )
    with refusals_as_settings_errors():
        plans = {split: _plans(config, split) for split in ("validation", "test")[: 1 + config.test]}
    with lifecycle:
        splits = {split: _ingested(config, split, plans[split]) for split in plans}
        lifecycle.begin([benchmark for split in splits.values() for benchmark in split.values()])
        run = lifecycle.run

        def phase(split: str, choice: Choice | None) -> list[Summary]:
            cells, rows = _cells(config, splits[split], choice)
            lifecycle.evaluate(cells)
            return summarise(run, rows)

        validation = phase("validation", None)
        write_json(run, validation)
        choice = chosen(config, validation)
        test = phase("test", choice) if config.test else []
    rows = validation + test
    write_json(run, rows)
    save_curve(run, rows, [(*key, setting) for key, setting in choice.items()])
    run.finish(chosen=[[*key, setting] for key, setting in choice.items()])
    print(report(test or validation, choice, config.test_grid and config.test), flush=True)
    if unasked := refused(run.describe()["benchmarks"]):
        print(f"\n{unasked}", flush=True)
    for line in money_lines(run):
        print(f"\n{line}", flush=True)
    return rows


def chosen(config: SweepConfig, validation: Sequence[Summary]) -> Choice:
    """The best setting by the objective, for each benchmark and each variant that has a threshold to choose."""
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
    """The rows without the settings that were not chosen on validation."""
    return [r for r in rows if _kept(r.benchmark, r.policy, r.setting, choice)]


def report(test: Sequence[Summary], choice: Choice, test_grid: bool) -> str:
    """The text that the sweep prints: the chosen rows, and with `test_grid` a table of the best on test after them."""
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
    """(row, benchmark, variant, policy) of every row of a split. `choice` None: of the whole grid."""
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
    """Whether this setting was chosen on validation, or there was nothing to choose."""
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
    """(cells, rows of the summary) of a split."""
    split = next(iter(benchmarks.values())).split
    cells, rows = [], []
    for entry, wanted, variant, policy in entries(config, split, choice):
        rows.append(entry)
        read, groups = benchmarks[wanted.name], variant.groups or wanted.groups
        for cell, seed in zip(entry.cells, config.seeds(split), strict=True):
            cells.append(Cell(cell, policy, config.routing, read.rows, read.tokens, seed, groups))
    return cells, rows
