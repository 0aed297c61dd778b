"""The charts of the paper's Figures 3 and 4 and of step-wise AUROC, each of one benchmark."""

import pandas as pd

from pipelines.report.charts import HUES, MARKERS, Bars, Chart, Points

LINES = {"small": "solid", "producer": "dash"}


def percentiles(found: pd.DataFrame) -> Chart:
    """Figure 3: accuracy by percentile, a line a measure and scorer; rows of `paper.frames.percentiles`."""
    marks = []
    for place, ((measure, scorer), mine) in enumerate(found.groupby(["measure", "scorer"], sort=False)):
        mine, name = mine.sort_values("percent"), f"{measure}, by {scorer}"
        said = tuple(
            f"{name}\n{r.percent:g} %: accuracy {100 * r.accuracy:.1f} % ({100 * r.accuracy_low:.1f} to "
            f"{100 * r.accuracy_high:.1f})"
            for r in mine.itertuples()
        )
        marks.append(
            Points(
                x=tuple(mine["percent"]),
                y=tuple(mine["accuracy"] * 100),
                colour=f"hue-{place // len(LINES) % HUES}",
                name=name,
                line=LINES[scorer],
                marker=MARKERS[place % len(MARKERS)],
                low=tuple(mine["accuracy_low"] * 100),
                high=tuple(mine["accuracy_high"] * 100),
                hover=said,
            )
        )
    return Chart(_benchmark(found), "share of steps to the large model, %", "accuracy, %", tuple(marks))


def latency(found: pd.DataFrame) -> Chart:
    """Figure 4: bars to the mean, thin lines from the 10th to the 90th percentile; rows of `paper.frames.latency`."""
    said = tuple(
        f"{r.policy}\nmean {r.mean * 1e3:.3g} ms, median {r.median * 1e3:.2f}\n10th to 90th percentile "
        f"{r.p10 * 1e3:.2f} to {r.p90 * 1e3:.2f}\n{r.decisions:,} decisions"
        for r in found.itertuples()
    )
    gap = float("nan")
    ends = tuple(end * 1e3 for r in found.itertuples() for end in (r.p10, r.p90, gap))
    rows = tuple(row for place in range(len(found)) for row in (place, place, gap))
    marks = (Bars(tuple(found["mean"] * 1e3), "hue-0", said), Points(ends, rows, "ink", line="solid"))
    names = tuple(found["policy"].astype(str))
    return Chart(_benchmark(found), "a routing decision, ms (bar: mean)", "", marks, names, from_zero=True)


def step_auroc(found: pd.DataFrame) -> Chart:
    """AUROC of each signal, for the same and for the next step; rows of `paper.frames.step_auroc`."""
    names = tuple(dict.fromkeys(found["signal"]))
    marks = []
    for place, (of, mine) in enumerate(found.groupby("of", sort=False)):
        y = tuple(names.index(signal) + 0.15 * (2 * place - 1) for signal in mine["signal"])
        area, low, high = (tuple(mine[column]) for column in ("auroc", "auroc_low", "auroc_high"))
        marks.append(Points(area, y, f"hue-{place}", f"{of} step", marker=MARKERS[place], low=low, high=high))
    return Chart(_benchmark(found), "AUROC (0.5: chance)", "", tuple(marks), names, at=0.5)


def _benchmark(found: pd.DataFrame) -> str:
    return str(found["benchmark"].iloc[0])
