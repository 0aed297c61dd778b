"""How well each confidence measure tells right traces from wrong ones: AUROC with a 95 % interval over questions,
or over clusters of questions that share a rule or a passage.

Invariant: everything random is seeded, so the same tables give the same numbers.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from steer.statistics.frames import KEYS, MIN_SCORES, SCORES, by_row, present, units

AUROC_RESAMPLES = 400
"""Bootstrap draws. Fewer than for accuracies, since each costs a pass over all traces. From seed to seed an end of the
interval moves by .03 of its width."""
BLOCK = 2_000_000
"""Weights in memory at once while resampling: 16 MB."""


def auroc(traces: pd.DataFrame, steps: pd.DataFrame, least: int = MIN_SCORES) -> pd.DataFrame:
    """AUROC of each score in each row of the report.

    The score of a trace is the mean over its kept steps that have one. If fewer than `least` scored traces are right,
    or fewer are wrong, an AUROC says nothing and is left out. `scored` is the share of kept steps with that score, `n`
    the traces with at least one, `right` those of them that are right.
    """
    found = []
    for row, mine in by_row(traces):
        own = steps[steps["trace"].isin(mine.index)]
        whose = mine.index.get_indexer(pd.Index(own["trace"]))
        for name in present(own):
            value = own[name].to_numpy()
            keep = np.isfinite(value)
            count = np.bincount(whose[keep], minlength=len(mine))
            has = count > 0
            score = np.bincount(whose[keep], value[keep], minlength=len(mine))[has] / count[has]
            right = mine["correct"].to_numpy()[has]
            if min(right.sum(), (~right).sum()) < least:
                continue
            area, low, high = clustered_auroc(score, right, units(mine).to_numpy()[has])
            measure, scorer = SCORES[name]
            head = {**row._asdict(), "measure": measure, "scorer": scorer, "auroc": area}
            ends = {"auroc_low": low, "auroc_high": high, "n": int(has.sum()), "right": int(right.sum())}
            found.append({**head, **ends, "scored": float(keep.mean())})
    columns = [*KEYS, "measure", "scorer", "auroc", "auroc_low", "auroc_high", "n", "right", "scored"]
    return pd.DataFrame(found, columns=columns)


def clustered_auroc(
    score_L: npt.NDArray[np.float64], right_L: npt.NDArray[np.bool_], question_L: npt.NDArray[Any], seed: int = 0
) -> tuple[float, float, float]:
    """scikit-learn's `roc_auc_score` over traces, and its 95 % interval by a bootstrap over questions (or clusters).

    A draw weights each trace by how often its question was drawn. The weighted AUROC is the Mann-Whitney statistic: the
    sum over right i and wrong j of w_i w_j ([s_i > s_j] + [s_i = s_j]/2), over sum w_i sum w_j. Draws without both
    right and wrong traces are left out.
    """
    from sklearn.metrics import roc_auc_score

    order = np.argsort(score_L, kind="stable")
    sorted_L, is_right_L = score_L[order], right_L[order].astype(float)
    first_U = np.flatnonzero(np.r_[True, sorted_L[1:] != sorted_L[:-1]])
    names_Q, whose_L = np.unique(question_L[order].astype(str), return_inverse=True)
    n = len(names_Q)
    rng, areas, left = np.random.default_rng(seed), [], AUROC_RESAMPLES
    while left:
        size = max(1, min(left, BLOCK // len(sorted_L)))
        drawn_DQ = rng.multinomial(n, np.full(n, 1 / n), size=size).astype(float)
        weight_DL = drawn_DQ[:, whose_L]
        right_DU = np.add.reduceat(weight_DL * is_right_L, first_U, axis=1)
        wrong_DU = np.add.reduceat(weight_DL, first_U, axis=1) - right_DU
        won_D = (right_DU * (np.cumsum(wrong_DU, axis=1) - wrong_DU / 2)).sum(axis=1)
        pairs_D = right_DU.sum(axis=1) * wrong_DU.sum(axis=1)
        areas.append(won_D[pairs_D > 0] / pairs_D[pairs_D > 0])
        left -= size
    low, high = np.quantile(np.concatenate(areas), [0.025, 0.975]) if sum(map(len, areas)) else (math.nan, math.nan)
    return float(roc_auc_score(right_L, score_L)), float(low), float(high)
