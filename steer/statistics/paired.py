"""Two rows of reports compared question by question.

Both rows answered the same questions, so the noise of the questions cancels. What is resampled is the difference of
each question: a paired bootstrap, clustered by question, or by the rule or passage that several questions share (Efron
and Tibshirani 1993, section 13; Koehn 2004 for its use on test sets). Invariant: only questions and samples that both
rows answered are compared.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from steer.statistics.frames import KEYS, ReportRow, by_row, units
from steer.statistics.intervals import RESAMPLES, accuracy_interval

FLOPS_COUNTS = ("flops_paper", "flops_full")


class Difference(NamedTuple):
    """Row B less row A over the questions that both answered."""

    questions: int
    """Questions that both answered."""
    only_a: int
    """Questions that only A answered."""
    only_b: int
    accuracy_a: float
    accuracy_b: float
    accuracy_difference: float
    accuracy_low: float
    accuracy_high: float
    """Ends of the 95 % interval of the difference, -1 to 1."""
    flops_paper_a: float
    """1e12 FLOPs a question."""
    flops_paper_difference: float
    flops_paper_low: float
    flops_paper_high: float
    flops_full_a: float
    flops_full_difference: float
    flops_full_low: float
    flops_full_high: float


def paired(a: pd.DataFrame, b: pd.DataFrame, seed: int = 0) -> Difference:
    """Compare the traces of two rows (columns question_id, sample, correct, flops_paper, flops_full).

    Let a_qs and b_qs be the means over seeds of sample s of question q, and S_q the samples that both rows have. Then
    d_q = mean over S_q of (b_qs - a_qs), and the difference is the mean of d_q over the shared questions. Its interval
    is the 2.5 and 97.5 % quantiles over resampled questions, or over resampled clusters where questions share a rule or
    a passage (`units`). If d_q is the same for all questions, the bootstrap has no spread: the interval is then the
    difference plus or minus the share of units that could still differ (the upper end of Wilson's interval of 0 in n).
    Raises ValueError if no question and sample is shared.
    """
    values = ["correct", *FLOPS_COUNTS]
    means_a, means_b = (
        frame.astype({"correct": float}).groupby(["question_id", "sample"], observed=True)[values].mean()
        for frame in (a, b)
    )
    both = means_a.join(means_b, how="inner", lsuffix="_a", rsuffix="_b").groupby(level="question_id").mean()
    if both.empty:
        raise ValueError("no question and sample is in both: only runs on the same questions can be compared")
    rng = np.random.default_rng(seed)
    difference_VQ = np.stack([(both[f"{v}_b"] - both[f"{v}_a"]).to_numpy() for v in values])
    n = len(both)
    unit_Q = units(a).groupby(a["question_id"].to_numpy()).first().reindex(both.index)
    whose_Q, names = pd.factorize(unit_Q)
    questions_C = np.bincount(whose_Q).astype(float)
    sum_VC = np.stack([np.bincount(whose_Q, difference_Q) for difference_Q in difference_VQ])
    drawn_DC = rng.integers(0, len(names), (RESAMPLES, len(names)))
    means_DV = np.stack([sum_VC[:, drawn_C].sum(axis=1) / questions_C[drawn_C].sum() for drawn_C in drawn_DC])
    low_V, high_V = np.quantile(means_DV, [0.025, 0.975], axis=0)
    if np.ptp(difference_VQ[0]) == 0:
        could = accuracy_interval(0, len(names))[1]
        low_V[0], high_V[0] = max(difference_VQ[0, 0] - could, -1.0), min(difference_VQ[0, 0] + could, 1.0)
    only = [frame["question_id"].nunique() - n for frame in (a, b)]
    ends = list(zip(difference_VQ.mean(axis=1), low_V, high_V, strict=True))
    accuracy = (both["correct_a"].mean(), both["correct_b"].mean(), *ends[0])
    flops = [
        number for v, three in zip(FLOPS_COUNTS, ends[1:], strict=True) for number in (both[f"{v}_a"].mean(), *three)
    ]
    return Difference(n, *only, *map(float, [*accuracy, *flops]))


def compare(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Compare rows of A with rows of B, on each benchmark and split.

    Matched are rows of the same policy and setting, and rows of a policy of which each side has one. If nothing
    matches and one side has a single row, that row is compared with all. Empty if no pair of rows shares a question.
    """
    rows_a, rows_b = dict(by_row(a)), dict(by_row(b))
    found = []
    for part in dict.fromkeys(row[:2] for row in rows_a):
        mine = [row for row in rows_a if row[:2] == part]
        theirs = [row for row in rows_b if row[:2] == part]
        found += [line for x, y in _matched(mine, theirs) if (line := _line(x, y, rows_a[x], rows_b[y]))]
    return _frame(found)


def against(traces: pd.DataFrame, policy: str = "large") -> pd.DataFrame:
    """Compare each row with the row of `policy` on the same benchmark and split; empty if there is none."""
    rows = dict(by_row(traces))
    base = {row[:2]: row for row in rows if row.policy == policy}
    pairs = [(base[row[:2]], row) for row in rows if row[:2] in base and row != base[row[:2]]]
    return _frame([line for x, y in pairs if (line := _line(x, y, rows[x], rows[y]))])


def _matched(mine: list[ReportRow], theirs: list[ReportRow]) -> list[tuple[ReportRow, ReportRow]]:
    pairs = [(row, row) for row in mine if row in theirs]
    for policy in dict.fromkeys(row.policy for row in mine):
        one, other = ([r for r in side if r.policy == policy] for side in (mine, theirs))
        if len(one) == len(other) == 1 and one != other:
            pairs.append((one[0], other[0]))
    if not pairs and mine and theirs and 1 in (len(mine), len(theirs)):
        pairs = [(x, y) for x in mine for y in theirs]
    return sorted(pairs, key=lambda pair: mine.index(pair[0]))


def _line(x: ReportRow, y: ReportRow, a: pd.DataFrame, b: pd.DataFrame) -> dict[str, Any] | None:
    """A line of the comparison. None: the rows share no question."""
    try:
        difference = paired(a, b)
    except ValueError:
        return None
    named = {"benchmark": x.benchmark, "split": x.split, "policy_a": x.policy, "setting_a": x.setting}
    return {**named, "policy_b": y.policy, "setting_b": y.setting, **difference._asdict()}


def _frame(lines: list[dict[str, Any]]) -> pd.DataFrame:
    names = [*KEYS[:2], "policy_a", "setting_a", "policy_b", "setting_b", *Difference._fields]
    return pd.DataFrame(lines, columns=names)
