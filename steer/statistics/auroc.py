"""How well each confidence measure tells right from wrong traces: AUROC with an interval over questions."""

import math

import numpy as np
import pandas as pd

from steer.statistics.frames import KEYS, MIN_SCORES, SCORES, by_row, present

AUROC_RESAMPLES = 400
"""Fewer than for accuracies: each costs a pass over all traces, and an end moves by .03 of the interval's width."""
BLOCK = 2_000_000
"""Weights held at once while resampling: 16 MB."""


def auroc(traces: pd.DataFrame, steps: pd.DataFrame, least: int = MIN_SCORES) -> pd.DataFrame:
    """How well each score tells right from wrong traces: a trace's score is the mean over its kept steps that have
    one. Where fewer than `least` scored traces are right, or wrong, an AUROC says nothing: it is left out. `scored`:
    share of kept steps with that score; n: traces with at least one."""
    found = []
    for row, mine in by_row(traces):
        own = steps[steps["trace"].isin(mine.index)]
        whose = mine.index.get_indexer(own["trace"])
        for name in present(own):
            value = own[name].to_numpy()
            keep = np.isfinite(value)
            count = np.bincount(whose[keep], minlength=len(mine))
            has = count > 0
            score = np.bincount(whose[keep], value[keep], minlength=len(mine))[has] / count[has]
            right = mine["correct"].to_numpy()[has]
            if min(right.sum(), (~right).sum()) < least:
                continue
            area, low, high = clustered_auroc(score, right, mine["question_id"].to_numpy()[has])
            measure, scorer = SCORES[name]
            head = {**row._asdict(), "measure": measure, "scorer": scorer, "auroc": area}
            ends = {"auroc_low": low, "auroc_high": high, "n": int(has.sum()), "right": int(right.sum())}
            found.append({**head, **ends, "scored": float(keep.mean())})
    columns = [*KEYS, "measure", "scorer", "auroc", "auroc_low", "auroc_high", "n", "right", "scored"]
    return pd.DataFrame(found, columns=columns)


def clustered_auroc(
    score: np.ndarray, right: np.ndarray, question: np.ndarray, seed: int = 0
) -> tuple[float, float, float]:
    """scikit-learn's `roc_auc_score` and its 95 % interval by a bootstrap over questions.

    A resample weights each trace by how often its question was drawn; the weighted AUROC is the Mann-Whitney
    statistic sum over right i, wrong j of w_i w_j ([s_i > s_j] + [s_i = s_j]/2), over sum w_i sum w_j. Resamples
    without both kinds are left out."""
    from sklearn.metrics import roc_auc_score

    order = np.argsort(score, kind="stable")
    ranked, right_T = score[order], right[order].astype(float)
    tie = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    names, whose_T = np.unique(question[order].astype(str), return_inverse=True)
    rng, areas, left = np.random.default_rng(seed), [], AUROC_RESAMPLES
    while left:
        size = max(1, min(left, BLOCK // len(ranked)))
        drawn_BQ = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=size).astype(float)
        weight_BT = drawn_BQ[:, whose_T]
        right_BU = np.add.reduceat(weight_BT * right_T, tie, axis=1)
        wrong_BU = np.add.reduceat(weight_BT, tie, axis=1) - right_BU
        won_B = (right_BU * (np.cumsum(wrong_BU, axis=1) - wrong_BU / 2)).sum(axis=1)
        pairs_B = right_BU.sum(axis=1) * wrong_BU.sum(axis=1)
        areas.append(won_B[pairs_B > 0] / pairs_B[pairs_B > 0])
        left -= size
    low, high = np.quantile(np.concatenate(areas), [0.025, 0.975]) if sum(map(len, areas)) else (math.nan, math.nan)
    return float(roc_auc_score(right, score)), float(low), float(high)
