"""How many steps the traces of `steer bench loop` have, and how many tokens each step.

    python -m pipelines.bench.step_lengths                      write the shipped file again
    python -m pipelines.bench.step_lengths --fit FILE.jsonl ... fit the parameters to the solutions of benchmark files

The shipped file is drawn, not observed: no model wrote these steps. Its five parameters were fitted to the reference
solutions of MATH-500 and Omni-MATH (2,579 solutions, whose texts are not part of STEER). These were cut at blank lines,
where STEER ends a step, and a word counts 1.3 tokens. Only the 267 solutions of three and more steps were used: most
others are one paragraph, however long their reasoning. The table `steps/` of any run on real models holds lengths that
were observed.
"""

import argparse
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from steer.config.load import SettingsError

SHIPPED = Path(__file__).parents[1] / "configs" / "step_lengths.parquet"
TRACES, SEED = 512, 20260
TOKENS_PER_WORD = 1.3
"""The usual rule for English. Formulas have more."""
LEAST_STEPS = 3
"""Solutions with fewer steps are not fitted to."""
MOST_STEPS, MOST_TOKENS = 41, 463
"""The most steps of a solution and the most tokens of a step that were seen. Draws are cut there."""
COLUMNS = ("cell", "trace_id", "step", "tokens", "accepted")
"""Columns of the `steps/` table that are read."""
_REMEDY = "give the steps/ folder of a run of STEER, one of its Parquet files, or the run's own folder"


class LogNormal(NamedTuple):
    """Means and standard deviations of natural logarithms.

    Steps of one trace are of similar length: log tokens = mean + between * a + within * e, with a standard normal a for
    each trace and e for each step.
    """

    steps_mean: float
    steps_sd: float
    tokens_mean: float
    tokens_between_sd: float
    tokens_within_sd: float


FITTED = LogNormal(2.10, 0.64, 3.24, 0.53, 0.96)
"""The median trace has 8 steps. The median step has 26 tokens, the mean is 47, and one step in a hundred has 300 or
more."""


def fit(texts: Iterable[str]) -> LogNormal:
    """Fit by moments to the texts of at least `LEAST_STEPS` steps. The variance between traces is the variance of their
    means, less the share that comes from the variance within."""
    logs = [np.log(tokens) for tokens in map(_tokens, texts) if len(tokens) >= LEAST_STEPS]
    counts = np.array([len(tokens) for tokens in logs])
    means = np.array([tokens.mean() for tokens in logs])
    within = sum(((tokens - tokens.mean()) ** 2).sum() for tokens in logs) / (counts - 1).sum()
    between = max(means.var() - within * (1 / counts).mean(), 0.0)
    steps = np.log(counts)
    return LogNormal(*map(float, (steps.mean(), steps.std(), np.concatenate(logs).mean(), between**0.5, within**0.5)))


def _tokens(text: str) -> np.ndarray:
    steps = (step for step in re.split(r"\n\s*\n", text) if step.strip())
    return np.array([max(round(TOKENS_PER_WORD * len(step.split())), 1) for step in steps])


def draw(parameters: LogNormal = FITTED, traces: int = TRACES, seed: int = SEED) -> pa.Table:
    """Draw traces, as a table of `COLUMNS`. The result is the same for the same seed."""
    rng = np.random.default_rng(seed)
    rows = []
    for trace in range(traces):
        steps = int(np.clip(round(rng.lognormal(parameters.steps_mean, parameters.steps_sd)), 1, MOST_STEPS))
        mean = parameters.tokens_mean + parameters.tokens_between_sd * rng.normal()
        tokens = np.clip(np.round(rng.lognormal(mean, parameters.tokens_within_sd, steps)), 1, MOST_TOKENS)
        rows += [("drawn", f"{trace}", step, int(n), True) for step, n in enumerate(tokens)]
    kinds = (pa.string(), pa.string(), pa.int32(), pa.int32(), pa.bool_())
    columns = zip(zip(*rows, strict=True), kinds, strict=True)
    return pa.table([pa.array(column, kind) for column, kind in columns], COLUMNS)


def read(path: str | Path = SHIPPED) -> list[list[int]]:
    """For each trace the tokens of its kept steps.

    `path`: a Parquet file with the `COLUMNS` of a run's `steps/` table, that folder, or the run's own folder. Raises
    SettingsError with the file, the column and the remedy.
    """
    rows = _read(Path(path))
    rows = rows.filter(rows["accepted"]).sort_by([(name, "ascending") for name in ("cell", "trace_id", "step")])
    traces: dict[tuple[str, str], list[int]] = {}
    for cell, trace, tokens in zip(*(rows[name].to_pylist() for name in ("cell", "trace_id", "tokens")), strict=True):
        if tokens:  # A trace that ran into the context ends with a step of no token.
            traces.setdefault((cell, trace), []).append(tokens)
    if not traces:
        raise SettingsError(f"--trace {path}: no kept step in it (column accepted): {_REMEDY}")
    return list(traces.values())


def _read(path: Path) -> pa.Table:
    if path.is_dir():
        path = path / "steps" if (path / "steps").is_dir() else path
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise SettingsError(f"--trace {path}: not readable as Parquet ({error}): {_REMEDY}") from None
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise SettingsError(f"--trace {path}: no column {', '.join(missing)}: {_REMEDY}")
    for name, fits, kind in (
        ("step", pa.types.is_integer, "integers"),
        ("tokens", pa.types.is_integer, "integers"),
        ("accepted", pa.types.is_boolean, "true or false"),
    ):
        column = table[name]
        if not fits(column.type) or column.null_count:
            raise SettingsError(f"--trace {path}: column {name} must hold {kind}, not {column.type}: {_REMEDY}")
    if table.num_rows and min(table["tokens"].to_pylist()) < 0:
        raise SettingsError(f"--trace {path}: column tokens holds a number below 0: {_REMEDY}")
    return table.select(COLUMNS)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description="the step lengths that steer bench loop simulates")
    arguments.add_argument("--fit", nargs="+", metavar="FILE.jsonl", help="print a fit to the `solution` of every row")
    given = arguments.parse_args(argv)
    if given.fit:
        print(fit(json.loads(line)["solution"] for path in given.fit for line in Path(path).open(encoding="utf-8")))
    else:
        pq.write_table(draw(), SHIPPED, compression="zstd")
        print(f"{SHIPPED}: {SHIPPED.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
