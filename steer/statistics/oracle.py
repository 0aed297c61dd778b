"""The oracle: what a router would reach that knew which model is right.

It sends each question to one model as a whole. No router of questions does better on these answers; a router of steps
may, since a trace that both models wrote can be right where neither is alone. The oracle also knows the luck of
sampling, so with few answers a question it is optimistic.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import pandas as pd

from steer.config.policy import BAR
from steer.statistics.frames import KEYS, by_row, units
from steer.statistics.intervals import ratio_interval


class Oracle(NamedTuple):
    questions: int
    """Questions that both models answered."""
    accuracy: float
    """0 to 1."""
    accuracy_low: float
    accuracy_high: float
    """Ends of the 95 % interval: a bootstrap over clusters of questions."""
    flops_paper: float
    """1e12 FLOPs a question."""
    flops_full: float
    share_large: float
    """Share of the questions that go to the large model."""


def oracle(small: pd.DataFrame, large: pd.DataFrame, seed: int = 0) -> Oracle:
    """The oracle of two rows of the report (columns question_id, correct, flops_paper, flops_full).

    With one answer a question, a question is right if either model is right, at the cost of the cheaper right one (by
    flops_full); where neither is right it costs what the small model does. With several samples or seeds a model's
    accuracy and cost at a question are means over its answers: the question goes to the model with the higher one, at
    equal ones to the cheaper, and to the small model where both are 0. Raises ValueError if no question is shared.
    """
    values = ["correct", "flops_paper", "flops_full"]
    means = [
        frame.astype({"correct": float}).groupby("question_id", observed=True)[values].mean()
        for frame in (small, large)
    ]
    both = means[0].join(means[1], how="inner", lsuffix="_small", rsuffix="_large")
    if both.empty:
        raise ValueError("the small and the large model answered no common question, so there is no oracle")
    right_small, right_large = both["correct_small"].to_numpy(), both["correct_large"].to_numpy()
    cheaper = both["flops_full_large"].to_numpy() < both["flops_full_small"].to_numpy()
    to_large_Q = (right_large > right_small) | ((right_large == right_small) & (right_large > 0) & cheaper)
    right_Q = np.maximum(right_small, right_large)
    sums = pd.DataFrame({"right": right_Q, "of": 1.0}, index=both.index)
    sums = sums.groupby(_unit_by_question(small).reindex(both.index).to_numpy(), sort=False).sum()
    low, high = ratio_interval(sums["right"].to_numpy(), sums["of"].to_numpy(), seed)
    paper, full = (
        float(np.where(to_large_Q, both[f"{count}_large"], both[f"{count}_small"]).mean()) for count in values[1:]
    )
    return Oracle(len(both), float(right_Q.mean()), low, high, paper, full, float(to_large_Q.mean()))


def _unit_by_question(traces: pd.DataFrame) -> pd.Series:
    return units(traces).groupby(traces["question_id"].to_numpy()).first()


def oracles(traces: pd.DataFrame, bar_labels: Collection[str] = BAR) -> pd.DataFrame:
    """The oracle of each benchmark and split on which rows `small` and `large` of the bar share questions."""
    rows = {(row.benchmark, row.split, row.policy): mine for row, mine in by_row(traces) if row.policy in bar_labels}
    found = []
    for benchmark, split, policy in rows:
        large = rows.get((benchmark, split, "large"))
        if policy == "small" and large is not None:
            small = rows[benchmark, split, "small"]
            if set(small["question_id"]) & set(large["question_id"]):
                found.append({"benchmark": benchmark, "split": split, **oracle(small, large)._asdict()})
    return pd.DataFrame(found, columns=[*KEYS[:2], *Oracle._fields])
