"""The report's charts as data. `plotly_json` draws them on the page, `figures` as PNG and SVG.

A `Chart` is one pair of axes. Each is built once, from the frames of `steer.statistics`, and none has a point a trace.
Its texts are plain: names come from configuration files, and a renderer escapes what its library would interpret.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipelines.report.printed import unit_at
from pipelines.report.tables import unit_of
from steer.config.policy import BAR
from steer.statistics.curves import PLAN
from steer.statistics.frames import KEYS, ReportRow

MARKERS = ("circle", "diamond", "triangle-up", "cross", "star", "x", "triangle-down", "pentagon")
"""Marker names of plotly; policies, difficulties and measures take them in this order."""
HUES = 7
"""Colours `hue-0` ... of policies and measures; `small`, `large` and `ink` are kept for the bar."""
SHADES = 6
"""Colours `shade-0` ... from easy to hard."""
COUNTS = {
    "flops_paper": "generated tokens (flops_paper)",
    "flops_full": "all computed tokens (flops_full)",
}
"""The two ways of counting FLOPs, and the titles of their charts."""
OF_LARGE = "compute a question, % of large-only's"
"""Title of the curve's x axis where `large` was run."""
VERDICTS = ((True, "right", "solid", "circle"), (False, "wrong", "dash", "square"))
"""(verdict, its name and colour, line, marker)."""


@dataclass(frozen=True)
class Points:
    """Points in their order, joined by a line or not."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    """Of a chart with `rows`: the number of the row. NaN interrupts the line."""
    colour: str
    """A name that both renderers know: `small`, `large`, `right`, `wrong`, `ink`, `hue-N` or `shade-N`."""
    name: str = ""
    """In the legend; empty: these points are not in it."""
    group: str = ""
    """Marks of one group are hidden and shown together; empty: `name`."""
    line: str = ""
    """`solid` or `dash`; empty: the points are not joined."""
    marker: str = ""
    """One of `MARKERS`, `circle-open` or `square`; empty: the points are not marked."""
    faint: bool = False
    """A thin, half transparent line behind the others."""
    low: tuple[float, ...] = ()
    """Lower ends of the points' intervals, along the axis that measures; empty: the points have none."""
    high: tuple[float, ...] = ()
    larger: tuple[bool, ...] = ()
    """Which points have a larger marker; empty: none."""
    hover: tuple[str, ...] = ()
    """What the page says of each point, with line breaks; empty: nothing."""

    def error_bars(self, by_row: bool) -> tuple[list[float], list[float]]:
        """Lengths of the intervals below and above the points; `by_row`: left and right of them."""
        centre = self.x if by_row else self.y
        # Rounding may leave an end a hair on the wrong side of its point.
        below = [max(at - low, 0.0) for low, at in zip(self.low, centre, strict=True)]
        return below, [max(high - at, 0.0) for high, at in zip(self.high, centre, strict=True)]


@dataclass(frozen=True)
class Band:
    """The area between two lines."""

    x: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    colour: str
    """`right` or `wrong`."""
    group: str


@dataclass(frozen=True)
class Bars:
    """One bar a row of the chart, from 0."""

    x: tuple[float, ...]
    colour: str
    hover: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chart:
    """One pair of axes."""

    title: str
    """Of its panel in PNG and SVG; the page has headings of its own."""
    x_title: str
    y_title: str
    marks: tuple[Points | Band | Bars, ...]
    rows: tuple[str, ...] = ()
    """Names on the y axis from top to bottom, in place of numbers. The intervals then lie along x."""
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    from_zero: bool = False
    """Whether the x axis begins at 0."""
    at: float | None = None
    """Where on the x axis a dotted line stands, such as chance or no difference."""


@dataclass(frozen=True)
class Reference:
    """A point of the curve that no setting of the run has measured: the oracle, or a published result."""

    name: str
    accuracy: float
    """0 to 1."""
    marker: str
    said: str
    """What the page says of it."""
    flops: float | None = None
    """1e12 FLOPs a question."""
    of_large: float | None = None
    """In place of `flops`: its cost as a share of large-only's. Shown only on an axis in percent of `large`."""


# --- accuracy and compute -------------------------------------------------------------------------------------------


def curve(points: pd.DataFrame, grids: pd.DataFrame, count: str, references: Sequence[Reference] = ()) -> Chart:
    """Accuracy against compute of one benchmark, by one of `COUNTS`.

    `points` and `grids` are rows of `steer.statistics.curves.curve`. The points have intervals; the grids tried on
    validation are thin lines below them; the bar is dashed; rows of the Pareto set have a ring, and a chosen plan is a
    large star."""
    size, x_title = _scale(points, count)
    grid_size, _ = _scale(grids, count) if len(grids) else (size, "")
    looks = _looks(list(dict.fromkeys([*points["policy"], *grids["policy"]])))
    marks = []
    best = points[points["pareto"]].sort_values(count)
    if len(best):
        x, y = _values(best[count] / size), _values(best["accuracy"] * 100)
        marks.append(Points(x, y, "ink", "Pareto set", marker="circle-open", larger=(True,) * len(best)))
    bar = points[points["of_bar"]].sort_values(count)
    if len(bar) > 1:
        x, y = _values(bar[count] / size), _values(bar["accuracy"] * 100)
        marks.append(Points(x, y, "ink", "random_query (the bar)", group="bar", line="dash"))
    for policy, mine in grids[~grids["of_bar"]].groupby("policy", sort=False, observed=True):
        mine = mine.sort_values(count)
        x, y = _values(mine[count] / grid_size), _values(mine["accuracy"] * 100)
        marks.append(Points(x, y, looks[policy][0], group=str(policy), line="solid", faint=True))
    for policy, mine in points.groupby("policy", sort=False, observed=True):
        colour, marker = looks[policy]
        mine = mine.sort_values(count)
        # The points of random_query lie on the bar, whose line is in the legend.
        on_bar = policy == "random_query" and len(bar) > 1
        whole_grid = len(mine) > 2 and not mine["of_bar"].any()
        marks.append(
            Points(
                x=_values(mine[count] / size),
                y=_values(mine["accuracy"] * 100),
                colour=colour,
                name="" if on_bar else str(policy),
                group="bar" if on_bar else str(policy),
                line="solid" if whole_grid else "",
                marker=marker,
                low=_values(mine["accuracy_low"] * 100),
                high=_values(mine["accuracy_high"] * 100),
                larger=tuple(map(bool, mine["chosen"] | mine["plan"])),
                hover=tuple(_about(point) for point in mine.itertuples()),
            )
        )
    for reference in references:
        at = _reference_at(reference, size, relative=x_title == OF_LARGE)
        if at is not None:
            y_at, said = (100 * reference.accuracy,), (reference.said,)
            marks.append(Points((at,), y_at, "ink", reference.name, marker=reference.marker, hover=said))
    return Chart(COUNTS[count], x_title, "accuracy, %", tuple(marks), from_zero=True)


def _reference_at(reference: Reference, size: float, relative: bool) -> float | None:
    """Its place on the x axis; None: it has none there."""
    if reference.flops is not None:
        return reference.flops / size
    return 100 * reference.of_large if relative and reference.of_large is not None else None


def _looks(policies: list[str]) -> dict[str, tuple[str, str]]:
    """Policy -> (colour, marker). The product's default comes first, so that it looks the same in every report."""
    routed = [p for p in policies if p not in BAR and not p.startswith(PLAN)]
    routed.sort(key=lambda p: p != "steer")
    plans = {p: ("ink", "star") for p in policies if p.startswith(PLAN)}
    looks = plans | {p: (f"hue-{i % HUES}", MARKERS[i % len(MARKERS)]) for i, p in enumerate(routed)}
    return {**looks, "small": ("small", "square"), "large": ("large", "square"), "random_query": ("ink", "circle-open")}


def _scale(points: pd.DataFrame, count: str) -> tuple[float, str]:
    """The unit of the x axis in 1e12 FLOPs, and the title of the axis: a percent of `large`, where that was run."""
    large = points.loc[points["policy"] == "large", count]
    if len(large) and large.iloc[0] > 0:
        return large.iloc[0] / 100, OF_LARGE
    size, unit = unit_of(points)
    return size, f"{unit} a question"


def _about(point: Any) -> str:
    size, unit = unit_at(point.flops_paper)
    lines = [
        " ".join(filter(None, (point.policy, point.setting))) + " (chosen on validation)" * bool(point.chosen),
        f"accuracy {100 * point.accuracy:.1f} % ({100 * point.accuracy_low:.1f} to {100 * point.accuracy_high:.1f})",
        f"{unit} a question: paper {point.flops_paper / size:.3g}, full {point.flops_full / size:.3g}",
    ]
    if not math.isnan(point.share_large):
        lines.append(f"large steps {100 * point.share_large:.0f} %")
    lines += ["in the Pareto set"] * bool(point.pareto) + ["the chosen plan"] * bool(point.plan)
    return "\n".join(lines)


# --- one row, closely -----------------------------------------------------------------------------------------------


def confidence(found: pd.DataFrame, axis: str) -> Chart:
    """Mean (line) and quartiles (band) of one measure, right and wrong traces apart (the paper's Figure 2).

    `found`: rows of `confidence_by_step` of one row of the report, one measure and one axis."""
    marks: list[Band | Points] = []
    for right, name, line, marker in VERDICTS:
        mine = found[found["correct"] == right].sort_values("x")
        if not len(mine):
            continue
        said = tuple(
            f"{name}, at {r.x:g}\nmean {r.mean:.4g}\nmiddle half {r.q25:.4g} to {r.q75:.4g}\n{r.n:,} scores"
            for r in mine.itertuples()
        )
        x, mean, low, high = (_values(mine[column]) for column in ("x", "mean", "q25", "q75"))
        marks.append(Band(x, low, high, name, group=f"{name} traces"))
        marks.append(Points(x, mean, name, f"{name} traces", line=line, marker=marker, hover=said))
    x_title = "step" if axis == "step" else "position in the trace, %"
    y_title = measure_label(found["measure"].iloc[0], found["scorer"].iloc[0])
    return Chart(setting_label(found), x_title, y_title, tuple(marks))


def large_share(found: pd.DataFrame, right: bool, difficulties: Sequence[str]) -> Chart:
    """Share of large steps by position, a line a difficulty, of right or of wrong traces (the paper's Figure 5).

    `found`: rows of `large_share` of one row of the report. `difficulties`: all names, from easy to hard; a name has
    the same colour and marker in every chart that is given the same names."""
    marks = []
    for place, difficulty in enumerate(difficulties):
        mine = found[(found["difficulty"] == difficulty) & (found["correct"] == right)].sort_values("position")
        if not len(mine):
            continue
        name = "all difficulties" if difficulty == "all" else f"difficulty {difficulty}"
        said = tuple(
            f"{name}, at {r.position:g} % of the trace\nlarge {r.share_large * 100:.1f} %\n{r.traces:,} traces"
            for r in mine.itertuples()
        )
        shade = f"shade-{round(place * (SHADES - 1) / max(len(difficulties) - 1, 1))}"
        marker = MARKERS[place % len(MARKERS)]
        x, y = _values(mine["position"]), _values(mine["share_large"] * 100)
        marks.append(Points(x, y, shade, name, line="solid", marker=marker, hover=said))
    title = f"{setting_label(found)}: {'right' if right else 'wrong'} traces"
    x_title, y_title = "position in the trace, %", "large steps, %"
    return Chart(title, x_title, y_title, tuple(marks), x_range=(0, 100), y_range=(-4, 104))


def auroc(found: pd.DataFrame) -> Chart:
    """AUROC with interval of each measure of one row of the report."""
    names = tuple(measure_label(r.measure, r.scorer) for r in found.itertuples())
    said = tuple(
        f"{name}\nAUROC {r.auroc:.3f} ({r.auroc_low:.3f} to {r.auroc_high:.3f})\n{r.n:,} traces"
        for name, r in zip(names, found.itertuples(), strict=True)
    )
    area, low, high = (_values(found[column]) for column in ("auroc", "auroc_low", "auroc_high"))
    points = Points(area, tuple(range(len(names))), "hue-0", marker="circle", low=low, high=high, hover=said)
    return Chart(setting_label(found), "AUROC (0.5: chance)", "", (points,), names, at=0.5)


# --- runs compared --------------------------------------------------------------------------------------------------


def differences(found: pd.DataFrame, title: str) -> Chart:
    """Differences of accuracy with paired intervals: rows of `steer.statistics.paired.compare`."""
    names = tuple(_difference_labels(found))
    said = tuple(
        f"{name}\n{100 * r.accuracy_difference:+.1f} points ({100 * r.accuracy_low:+.1f} to "
        f"{100 * r.accuracy_high:+.1f})\n{r.questions:,} questions"
        for name, r in zip(names, found.itertuples(), strict=True)
    )
    columns = ("accuracy_difference", "accuracy_low", "accuracy_high")
    centre, low, high = (_values(found[column] * 100) for column in columns)
    points = Points(centre, tuple(range(len(names))), "hue-0", marker="circle", low=low, high=high, hover=said)
    return Chart(title, "B − A, points of accuracy", "", (points,), names, at=0)


def _difference_labels(found: pd.DataFrame) -> Iterator[str]:
    """A name for each compared pair. Benchmark and split stand on a line of their own, where there are several."""
    several = len(set(zip(found["benchmark"], found["split"], strict=True))) > 1
    for r in found.itertuples():
        a, b = (" ".join(filter(None, pair)) for pair in ((r.policy_a, r.setting_a), (r.policy_b, r.setting_b)))
        if r.policy_a == r.policy_b and a != b:
            b = r.setting_b or "no threshold"
        name = a if a == b else f"{a} → {b}"
        yield f"{r.benchmark} {r.split}\n{name}" if several else name


# --- values and names -----------------------------------------------------------------------------------------------


def _values(column: pd.Series) -> tuple[float, ...]:
    return tuple(map(float, column))


def rows(found: pd.DataFrame) -> list[pd.DataFrame]:
    """The lines of each row of the report, in their order."""
    return [mine for _, mine in found.groupby(KEYS, sort=False, observed=True)]


def measure_label(measure: str, scorer: str) -> str:
    if measure in ("routed by", "signal"):
        return "score it routed by" if measure == "routed by" else "the policy's signal"
    return f"{measure}, by {scorer}"


def row_label(row: ReportRow) -> str:
    return " · ".join(filter(None, (row.benchmark, row.split, " ".join(filter(None, (row.policy, row.setting))))))


def setting_label(found: pd.DataFrame) -> str:
    """Policy and setting of lines that are all of one row."""
    first = found.iloc[0]
    return " ".join(filter(None, (first["policy"], first["setting"])))
