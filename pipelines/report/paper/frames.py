"""The numbers of the paper's own tables and figures, from a run of `steer experiment paper`.

The functions read frames of `steer.statistics.curves` and `pipelines.report.frames`. Every row of what they return is a
line of its table. Accuracies are 0 to 1, FLOPs 1e12 a question, times seconds.
"""

from itertools import product

import numpy as np
import pandas as pd
import pyarrow.dataset as pads

from pipelines.report.frames import read
from pipelines.report.paper.rows import (
    CONFIDENCE,
    GROUP_COUNTS,
    GROUPED,
    METHODS,
    OBSERVED,
    group_label,
    percentile_label,
)
from steer.config.policy import BAR
from steer.embedded.labels import step_labels
from steer.embedded.tasks import BENCHMARKS
from steer.statistics.auroc import clustered_auroc
from steer.statistics.frames import MIN_SCORES
from steer.storage.run_folder import RunFolder
from steer.traces import AGGREGATES, MEASURES, score_columns

CURVES = tuple(m for m in METHODS if m != "random_step")
_SCORES = {
    f"{measure}, {aggregate}": column
    for (aggregate, measure), column in zip(product(AGGREGATES, MEASURES), score_columns("small"), strict=False)
}
"""Columns of `steps/` with the small model's scores, by the name that the report gives each."""


def methods(curve: pd.DataFrame) -> pd.DataFrame:
    """Tables 1 and 2: a line a benchmark and method on test, at the threshold that validation chose. `a_f` is accuracy
    (%) by `flops_paper`, the paper's A/F."""
    kept = _kept(curve[(curve["split"] == "test") & curve["policy"].isin(METHODS)])
    return _with_a_f(kept[~_other_coins(kept)])


def best_on_test(curve: pd.DataFrame) -> pd.DataFrame:
    """The same with each method's most accurate threshold on the test questions themselves, as the paper reports."""
    tested = curve[(curve["split"] == "test") & curve["policy"].isin(CURVES)]
    ordered = tested.sort_values(["accuracy", "flops_paper"], ascending=[False, True], kind="stable")
    best = ordered.groupby(["benchmark", "policy"], observed=True, sort=False).head(1)
    best = best[best["policy"] != "random_query"]
    return _with_a_f(best.sort_index())


def groups(curve: pd.DataFrame) -> pd.DataFrame:
    """Table 3: a line a benchmark, method and K; `groups` is K, `group_size` the questions of one group."""
    tested = _kept(curve[curve["split"] == "test"])
    found = []
    for method in GROUPED:
        for k in (1, *GROUP_COUNTS):
            mine = tested[tested["policy"] == group_label(method, k)]
            found.append(mine.assign(policy=method, groups=k, group_size=mine["questions"] // k))
    return pd.concat(found).sort_values(["benchmark", "policy", "groups"], kind="stable", ignore_index=True)


def percentiles(curve: pd.DataFrame) -> pd.DataFrame:
    """Figure 3: accuracy by percentile on validation, for each measure and scorer."""
    found = []
    for measure in MEASURES:
        for scorer in ("small", "producer"):
            mine = curve[(curve["policy"] == percentile_label(measure, scorer)) & (curve["split"] == "validation")]
            percent = mine["setting"].str.removeprefix("percent=").astype(float)
            found.append(mine.assign(measure=measure, scorer=scorer, percent=percent))
    return pd.concat(found, ignore_index=True)


def latency(run: RunFolder, traces: pd.DataFrame) -> pd.DataFrame:
    """Figure 4: the time of a routing decision by method (mean, median, 10th and 90th percentile), and the mean time of
    a step's generation. `traces`: the rows to look at, as `frames.load` gives them.

    A decision's time is `routing_seconds`: scoring passes, probes and signals from asking to answer, under the run's
    own load, and the policy's share of work. The wait at a barrier is left out."""
    found = []
    routed_by = traces[traces["policy"].isin(METHODS) & ~traces["policy"].isin(BAR)]
    for (benchmark, policy), mine in routed_by.groupby(["benchmark", "policy"], observed=True, sort=False):
        cells = [str(cell) for cell in mine["cell"].unique()]
        steps = read(run, "steps", ("routing_seconds", "seconds"), pads.field("cell").isin(cells))
        routed = steps["routing_seconds"].to_numpy()
        routed = routed[routed > 0]
        if not len(routed):
            continue
        low, median, high = np.quantile(routed, [0.1, 0.5, 0.9])
        line = {"benchmark": benchmark, "policy": policy, "decisions": len(routed), "mean": routed.mean()}
        line |= {"p10": low, "median": median, "p90": high, "generation": np.nanmean(steps["seconds"].to_numpy())}
        found.append(line)
    columns = ["benchmark", "policy", "decisions", "mean", "p10", "median", "p90", "generation"]
    return pd.DataFrame(found, columns=columns)


def step_auroc(run: RunFolder, traces: pd.DataFrame, least: int = MIN_SCORES) -> pd.DataFrame:
    """How well each signal of a step tells whether that step is right, and whether the next one will be.

    Only rows in which the small model writes every step and the signal looks on. Steps after a wrong one are left out,
    since they are nearly all wrong. The labels come from the generator of the embedded benchmarks. For other benchmarks
    there are none, and the frame is empty."""
    found = []
    observed = traces[traces["policy"].str.startswith(f"{OBSERVED} ") & traces["benchmark"].isin(BENCHMARKS)]
    for (benchmark, policy), mine in observed.groupby(["benchmark", "policy"], observed=True, sort=False):
        steps = labelled(run, mine, str(benchmark))
        method = policy.removeprefix(f"{OBSERVED} ")
        signals = _SCORES if method == CONFIDENCE else {method: "signal"}
        for name, column in signals.items():
            for of in ("same", "next"):
                usable = steps[np.isfinite(steps[column]) & steps[of].notna()]
                right = usable[of].to_numpy(bool)
                if min(right.sum(), (~right).sum()) < least:
                    continue
                area, low, high = clustered_auroc(usable[column].to_numpy(), right, usable["question_id"].to_numpy())
                line = {"benchmark": benchmark, "signal": name, "of": of, "auroc": area}
                found.append(line | {"auroc_low": low, "auroc_high": high, "n": len(usable), "right": int(right.sum())})
    columns = ["benchmark", "signal", "of", "auroc", "auroc_low", "auroc_high", "n", "right"]
    return pd.DataFrame(found, columns=columns)


def labelled(run: RunFolder, traces: pd.DataFrame, benchmark: str) -> pd.DataFrame:
    """Kept steps whose earlier steps are all right. `same`: whether the step is right. `next`: whether the one after it
    is; None if there is no such step, or if this one is wrong."""
    cells = pads.field("cell").isin([str(cell) for cell in traces["cell"].unique()])
    prompts = read(run, "traces", ("cell", "trace_id", "prompt"), cells).to_pandas()
    prompt = prompts.set_index(["cell", "trace_id"])["prompt"]
    columns = ("cell", "trace_id", "question_id", "step", "text", "signal", *_SCORES.values())
    steps = read(run, "steps", columns, cells & pads.field("accepted")).to_pandas()
    blocks = []
    for key, mine in steps.sort_values("step").groupby(["cell", "trace_id"], sort=False):
        rights = step_labels(benchmark, prompt[key], list(mine["text"]))
        until = rights.index(False) + 1 if False in rights else len(rights)
        blocks.append(mine.iloc[:until].assign(same=rights[:until], next=[*rights[1:until], None]))
    return pd.concat(blocks, ignore_index=True) if blocks else steps.assign(same=[], next=[])


def _kept(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that validation chose, and rows of methods without a threshold to choose."""
    several = rows.groupby(["benchmark", "policy"], observed=True)["setting"].transform("nunique") > 1
    return rows[rows["chosen"] | ~several | (rows["policy"] == "random_query")]


def _other_coins(rows: pd.DataFrame) -> pd.Series:
    """Rows of `random_query` with another chance than one half: the table shows only the fair coin."""
    return (rows["policy"] == "random_query") & (rows["setting"] != "p=0.5")


def _with_a_f(rows: pd.DataFrame) -> pd.DataFrame:
    place = {method: i for i, method in enumerate(METHODS)}
    ordered = rows.assign(
        a_f=100 * rows["accuracy"] / rows["flops_paper"], _place=rows["policy"].map(place).astype(int)
    )
    return ordered.sort_values(["benchmark", "_place"], kind="stable", ignore_index=True).drop(columns="_place")
