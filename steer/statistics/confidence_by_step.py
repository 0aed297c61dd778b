"""Figure 2: confidence of right and wrong traces."""

import numpy as np
import pandas as pd

from steer.statistics.frames import DECILES, KEYS, MIN_SCORES, SCORES, by_row, present


def confidence_by_step(traces: pd.DataFrame, steps: pd.DataFrame, least: int = MIN_SCORES) -> pd.DataFrame:
    """Mean and quartiles of each score over kept steps, right and wrong traces apart (the paper's Figure 2).

    `axis` `step`: x is the step's number from 1, n the traces that reached it; `relative`: x is the middle of a tenth
    of the trace in percent (step i of n lies at (i + 1/2)/n), n the steps in it, traces of one step left out. Points
    of fewer than `least` scores are left out."""
    blocks = []
    for row, mine in by_row(traces):
        own = steps[steps["trace"].isin(mine.index)]
        correct = traces["correct"].to_numpy()[traces.index.get_indexer(own["trace"])]
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


def _decile(steps: pd.DataFrame) -> np.ndarray:
    """0 to 9: the tenth of its trace in which each step's middle lies."""
    return ((2 * steps["step"].to_numpy() + 1) * DECILES // (2 * steps["of"].to_numpy())).clip(0, DECILES - 1)


def _spread(x: np.ndarray, correct: np.ndarray, value: np.ndarray) -> pd.DataFrame:
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
