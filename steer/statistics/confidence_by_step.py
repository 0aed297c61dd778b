"""Confidence along a trace, right and wrong traces apart: the paper's Figure 2.

Invariant: points of too few scores are left out, not drawn as noise.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from steer.statistics.frames import DECILES, KEYS, MIN_SCORES, SCORES, by_row, present


def confidence_by_step(traces: pd.DataFrame, steps: pd.DataFrame, least: int = MIN_SCORES) -> pd.DataFrame:
    """Mean and quartiles of each score over kept steps, for each row of the report and verdict.

    On `axis` `step`, x is the step's number from 1 and n the traces that reached it. On `relative`, x is the middle of
    a tenth of the trace in percent (step i of n lies at (i + 1/2)/n) and n the steps in that tenth; traces of one step
    are left out. Points of fewer than `least` scores are left out.
    """
    blocks = []
    for row, mine in by_row(traces):
        own = steps[steps["trace"].isin(mine.index)]
        correct = traces["correct"].to_numpy()[traces.index.get_indexer(pd.Index(own["trace"]))]
        several = own["of"].to_numpy() > 1
        every = np.ones(len(own), bool)
        for axis, x, on in (("step", own["step"].to_numpy() + 1, every), ("relative", _decile(own) * 10 + 5, several)):
            for name in present(own):
                value = own[name].to_numpy()
                keep = np.isfinite(value) & on
                found = _spread(x[keep], correct[keep], value[keep])
                found = found[found["n"] >= least]
                measure, scorer = SCORES[name]
                blocks.append(found.assign(**row._asdict(), measure=measure, scorer=scorer, axis=axis))
    columns = [*KEYS, "measure", "scorer", "axis", "x", "correct", "n", "mean", "q25", "median", "q75"]
    return pd.concat(blocks, ignore_index=True)[columns] if blocks else pd.DataFrame(columns=columns)


def _decile(steps: pd.DataFrame) -> npt.NDArray[np.int64]:
    """The tenth of its trace in which the middle of each step lies, 0 to 9."""
    step, of = steps["step"].to_numpy(np.int64), steps["of"].to_numpy(np.int64)
    decile: npt.NDArray[np.int64] = ((2 * step + 1) * DECILES // (2 * of)).clip(0, DECILES - 1)
    return decile


def _spread(x: npt.NDArray[Any], correct: npt.NDArray[np.bool_], value: npt.NDArray[np.float64]) -> pd.DataFrame:
    """n, mean and quartiles (linear between order statistics) of `value` for each (x, correct), by one sort."""
    order = np.lexsort((value, correct, x))
    x, correct, value = x[order], correct[order], value[order]
    first = np.flatnonzero(np.r_[len(x) > 0, (x[1:] != x[:-1]) | (correct[1:] != correct[:-1])])
    n = np.diff(np.r_[first, len(x)])
    found = pd.DataFrame({"x": x[first], "correct": correct[first], "n": n})
    found["mean"] = np.add.reduceat(value, first) / n if len(first) else np.empty(0)
    for name, q in (("q25", 0.25), ("median", 0.5), ("q75", 0.75)):
        at = q * (n - 1)
        low = np.floor(at).astype(int)
        below, above = value[first + low], value[first + np.minimum(low + 1, n - 1)]
        found[name] = below + (at - low) * (above - below)
    return found
