"""All the numbers of one run's report. Steps are read one benchmark and split at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.report.charts import COUNTS, Reference
from pipelines.report.frames import bar_labels, load, load_steps
from pipelines.report.paper.rows import KIND, METHODS
from pipelines.report.references import references
from steer.config.load import SettingsError, refusals_as_settings_errors
from steer.statistics import curves
from steer.statistics.auroc import auroc
from steer.statistics.confidence_by_step import confidence_by_step
from steer.statistics.large_share import large_share
from steer.statistics.oracle import oracles
from steer.storage.run_folder import RunFolder

OF_LARGE = {"flops_paper": "of_large_paper", "flops_full": "of_large_full", "usd_tokens": "of_large_usd"}
"""Columns of the curve that are shares of large-only's, by what they are shares of."""


@dataclass
class Numbers:
    name: str
    run: RunFolder
    described: dict[str, Any]
    """`run.json`."""
    traces: pd.DataFrame
    """Of the rows that are shown closely: the test split, or every split of a benchmark without test. If a policy's
    whole grid was run on test, only the setting that validation chose."""
    curve: pd.DataFrame
    """Every row of every split. `of_large_paper` and `of_large_full`: its FLOPs as a share of large-only's."""
    oracles: pd.DataFrame
    """The oracle of each benchmark and split with `small` and `large`."""
    confidence: pd.DataFrame
    large_share: pd.DataFrame
    auroc: pd.DataFrame

    @property
    def paper(self) -> bool:
        """Whether it is a run of `steer experiment paper`."""
        return self.described["kind"] == KIND

    def parts(self) -> Iterator[tuple[str, str, pd.DataFrame, pd.DataFrame]]:
        """(benchmark, split, its points, the validation grids to draw below them)."""
        drawn = self.curve[self.curve["policy"].isin(METHODS)] if self.paper else self.curve
        for (benchmark, split), _ in self.traces.groupby(["benchmark", "split"], observed=True, sort=False):
            mine = drawn[drawn["benchmark"] == benchmark]
            below = mine[mine["split"] != split] if split == "test" else mine.iloc[:0]
            yield benchmark, split, mine[mine["split"] == split], below

    def references(self, benchmark: str, split: str) -> dict[str, list[Reference]]:
        """What the curve of a benchmark and split shows beside the run's settings, by the way of counting."""
        mine = self.oracles[(self.oracles["benchmark"] == benchmark) & (self.oracles["split"] == split)]
        found = {}
        for count in COUNTS:
            at = (float(mine["accuracy"].iloc[0]), float(mine[count].iloc[0])) if len(mine) else (np.nan, np.nan)
            found[count] = references(self.described, benchmark, count, at)
        return found


def measured(name: str, root: str | Path) -> Numbers:
    """Raises SettingsError for a folder that is no run, and for a run without traces."""
    with refusals_as_settings_errors():
        run = RunFolder.open(root)
    described = run.describe()
    every = load(run, described)
    if not len(every):
        raise SettingsError(f"{root} holds no traces: the run did not get so far; give a run that has finished some")
    bar = bar_labels(described)
    curve = curves.curve(every, described.get("chosen") or [], bar)
    for count, share in OF_LARGE.items():
        if count in curve:
            curve[share] = _of_large(curve, count)
    tested = every.loc[every["split"] == "test", "benchmark"].unique()
    close = every[(every["split"] == "test") | ~every["benchmark"].isin(tested)]
    close = close[_chosen(close, described.get("chosen") or [])].reset_index(drop=True)
    blocks: dict[str, list[pd.DataFrame]] = {"confidence": [], "large_share": [], "auroc": []}
    for _, part in close.groupby(["benchmark", "split"], observed=True, sort=False):
        steps = load_steps(run, part)
        blocks["confidence"].append(confidence_by_step(part, steps))
        blocks["large_share"].append(large_share(part, steps))
        blocks["auroc"].append(auroc(part, steps))
    joined = {key: _joined(frames) for key, frames in blocks.items()}
    return Numbers(name, run, described, close, curve, oracles(every, bar), **joined)


def _chosen(traces: pd.DataFrame, chosen: list[list[str]]) -> np.ndarray:
    """False for traces of settings that validation did not choose. All are True of a policy without a choice."""
    setting = {(benchmark, policy): name for benchmark, policy, name in chosen}
    keys = zip(*(traces[key].astype(str) for key in ("benchmark", "policy", "setting")), strict=True)
    return np.array([setting.get((benchmark, policy), name) == name for benchmark, policy, name in keys], bool)


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """The frames in one. Empty ones are left out, since they would turn numbers into objects."""
    return pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)


def _of_large(curve: pd.DataFrame, count: str) -> np.ndarray:
    large = curve[curve["policy"] == "large"].set_index(["benchmark", "split"])[count]
    bases = np.array([large.get((r.benchmark, r.split), np.nan) for r in curve.itertuples()], float)
    return curve[count].to_numpy() / np.where(bases > 0, bases, np.nan)
