"""The report's figures: charts drawn by matplotlib and saved as PNG and SVG.

The same numbers give the same bytes. The first figure imports matplotlib, since the driver of a sweep imports this
module when it starts.
"""

import io
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.report import charts
from pipelines.report.charts import COUNTS, Band, Bars, Chart, Points, Reference
from pipelines.report.frames import bar_labels
from pipelines.report.references import references
from pipelines.report.summary import Summary
from steer.statistics.curves import PLAN
from steer.storage.run_folder import RunFolder

SETTINGS = {
    **{"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "steer"},
    "text.parse_math": False,
}
"""For every figure. Mathtext is off, since a name from a configuration may hold a `$`."""
DPI = 160
"""A panel of the curve is then about 900 pixels wide: sharp where a README shows it at half that."""
PANEL_INCHES, CURVE_INCHES, PAPER_INCHES = (4.2, 3.2), (5.6, 4.4), (5.4, 4.0)
MOST_PANELS = 12
"""Rows that one sheet shows; the page and the CSV hold all."""
LEGEND_INCHES = 2.0
"""Width of a column of the legend: a name of 20 letters."""
MARKERS = {
    **{"circle": "o", "circle-open": "o", "square": "s", "diamond": "D", "triangle-up": "^", "cross": "P", "star": "*"},
    **{"x": "X", "triangle-down": "v", "pentagon": "p"},
}
STAR_SIZE = 1.4
"""How much larger a star is drawn than other markers, since its points are thin."""
RING_SIZE = 13
"""Points across a larger open marker: a ring that stands out behind a larger closed one."""
COLOURS = {
    # Okabe and Ito's palette, told apart under every common colour blindness, and two more that are darker than it.
    **{"small": "#0072B2", "large": "#D55E00", "right": "#009E73", "wrong": "#CC79A7", "ink": "black"},
    **{"hue-0": "#009E73", "hue-1": "#CC79A7", "hue-2": "#E69F00", "hue-3": "#56B4E9", "hue-4": "#7F7F7F"},
    **{"hue-5": "#4B4B9B", "hue-6": "#8C564B"},
    # Viridis, its bright end darkened for white paper.
    **{"shade-0": "#B9A400", "shade-1": "#4FA35A", "shade-2": "#218C8A", "shade-3": "#2F6F9F", "shade-4": "#3F4F9B"},
    **{"shade-5": "#44206B"},
}
"""`charts.Points.colour` on white paper; the page's own are in `assets/report.css`."""


# --- which charts a figure holds ------------------------------------------------------------------------------------


def curve(
    title: str,
    points: pd.DataFrame,
    grids: pd.DataFrame,
    references: Mapping[str, Sequence[Reference]] | None = None,
) -> Any:
    """One benchmark's accuracy against compute, by both ways of counting. `references`: by the way of counting; None:
    no points beside those of the run."""
    panels = [charts.curve(points, grids, count, (references or {}).get(count, ())) for count in COUNTS]
    return sheet(panels, title, size=CURVE_INCHES)


def save_curve(run: RunFolder, rows: Sequence[Summary], chosen: Collection[tuple[str, str, str]]) -> None:
    """Write a sweep's `curve.png` and `curve.svg` into its folder: accuracy against `flops_paper`, a panel a benchmark.

    A panel shows the rows of test over the grids tried on validation; where there is no test, validation's rows alone.
    `chosen`: (benchmark, policy, setting) of what validation chose."""
    described = run.describe()
    bar = bar_labels(described)
    frame = pd.DataFrame(rows, columns=Summary._fields)
    frame["chosen"] = [(row.benchmark, row.policy, row.setting) in chosen for row in rows]
    frame["of_bar"] = frame["policy"].isin(bar)
    frame["plan"] = frame["policy"].str.startswith(PLAN)
    panels = []
    for benchmark, mine in frame.groupby("benchmark", sort=False):
        shown = "test" if (mine["split"] == "test").any() else mine["split"].iloc[0]
        points, grids = mine[mine["split"] == shown], mine[mine["split"] != shown]
        thin = "" if grids["of_bar"].all() else "; thin lines: validation"
        best = points.iloc[0]
        found = (float(best["oracle_accuracy"]), float(best["oracle_flops_paper"]))
        known = references(described, str(benchmark), "flops_paper", found)
        chart = charts.curve(points, grids, "flops_paper", known)
        panels.append(replace(chart, title=f"{benchmark} ({shown}{thin})"))
    with drawing():
        for kind, data in _saved(sheet(panels, size=CURVE_INCHES)):
            run.write_file(f"curve.{kind}", data)


def confidence(found: pd.DataFrame) -> Any:
    """A panel a row: the score that it routed by, else its first measure, by step."""
    panels = []
    for mine in charts.rows(found[found["axis"] == "step"])[:MOST_PANELS]:
        measures = list(dict.fromkeys(zip(mine["measure"], mine["scorer"], strict=True)))
        measure, scorer = next((m for m in measures if m[0] == "routed by"), measures[0])
        panels.append(charts.confidence(mine[(mine["measure"] == measure) & (mine["scorer"] == scorer)], "step"))
    return sheet(panels)


def large_share(found: pd.DataFrame) -> Any:
    """Two panels a row: right and wrong traces."""
    difficulties = list(dict.fromkeys(found["difficulty"]))
    rows = charts.rows(found)[: MOST_PANELS // 2]
    return sheet([charts.large_share(mine, right, difficulties) for mine in rows for right in (True, False)], wide=2)


def auroc(found: pd.DataFrame) -> Any:
    return sheet([charts.auroc(mine) for mine in charts.rows(found)[:MOST_PANELS]])


def differences(found: pd.DataFrame, title: str) -> Any:
    return sheet([charts.differences(found, title)], size=(8, 1.4 + 0.42 * len(found)))


# --- drawing and saving ---------------------------------------------------------------------------------------------


@contextmanager
def drawing() -> Iterator[None]:
    """Around every figure, until it is saved: no display is needed, and labels are plain text."""
    import matplotlib

    matplotlib.use("Agg")
    with matplotlib.rc_context(SETTINGS):
        yield


def sheet(panels: Sequence[Chart], title: str = "", wide: int = 3, size: tuple[float, float] = PANEL_INCHES) -> Any:
    """A matplotlib figure of these charts in rows of `wide`, each of `size` inches, with one legend below them all."""
    from matplotlib import pyplot as plt

    columns = min(wide, len(panels))
    lines = -(-len(panels) // columns)
    inches = (size[0] * columns, size[1] * lines)
    figure, axes = plt.subplots(lines, columns, figsize=inches, squeeze=False, layout="constrained")
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    named: dict[str, Any] = {}
    for axis, chart in zip(axes.flat, panels, strict=False):
        for name, artist in _draw(axis, chart).items():
            named.setdefault(name, artist)
    if title:
        figure.suptitle(title)
    if named:
        most = max(int(inches[0] / LEGEND_INCHES), 1)
        per_line = math.ceil(len(named) / math.ceil(len(named) / most))
        figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=per_line, frameon=False)
    return figure


def save(folder: Path, stem: str, figure: Any) -> None:
    """`stem`.png and .svg."""
    for kind, data in _saved(figure):
        (folder / f"{stem}.{kind}").write_bytes(data)


def stem(*parts: str) -> str:
    """A file name of these parts, whatever characters they have."""
    return "-".join(re.sub(r"[^A-Za-z0-9_.=-]+", "_", part).strip("_.") or "_" for part in parts if part)


def _saved(figure: Any) -> Iterator[tuple[str, bytes]]:
    """(suffix, content) of the figure's files; then the figure is closed."""
    from matplotlib import pyplot as plt

    for kind, options in (("png", {"dpi": DPI}), ("svg", {"metadata": {"Date": None}})):
        file = io.BytesIO()
        figure.savefig(file, format=kind, **options)
        yield kind, file.getvalue()
    plt.close(figure)


# --- one chart ------------------------------------------------------------------------------------------------------


def _draw(axis: Any, chart: Chart) -> dict[str, Any]:
    """Draw a chart on matplotlib's axes; returns what the legend shows, by name."""
    named = {}
    for mark in chart.marks:
        match mark:
            case Points():
                artist = _points(axis, mark, bool(chart.rows))
                if mark.name:
                    named[mark.name] = artist
            case Band():
                axis.fill_between(mark.x, mark.low, mark.high, color=COLOURS[mark.colour], alpha=0.2, lw=0)
            case Bars():
                axis.barh(range(len(mark.x)), mark.x, color=COLOURS[mark.colour], alpha=0.7)
    if chart.at is not None:
        axis.axvline(chart.at, color="grey", lw=1, ls=":")
    if chart.rows:
        axis.set_yticks(range(len(chart.rows)), chart.rows)
        axis.set_ylim(len(chart.rows) - 0.5, -0.5)
    if chart.from_zero:
        axis.set_xlim(left=0)
    if chart.x_range:
        axis.set_xlim(*chart.x_range)
    if chart.y_range:
        axis.set_ylim(*chart.y_range)
    axis.grid(alpha=0.25, lw=0.6)
    axis.set_title(chart.title)
    axis.set_xlabel(chart.x_title)
    axis.set_ylabel(chart.y_title)
    return named


def _points(axis: Any, points: Points, by_row: bool) -> Any:
    line = {"solid": "-", "dash": "--", "": "none"}[points.line]
    marker = MARKERS[points.marker] if points.marker else "none"
    bigger = STAR_SIZE if marker == "*" else 1
    look: dict[str, Any] = {"ls": line, "marker": marker, "color": COLOURS[points.colour]}
    look |= {"lw": 1.4, "ms": bigger * (4 if points.line else 7)}
    if points.marker.endswith("-open"):
        look["mfc"] = "white"
    if points.faint:
        look |= {"lw": 1, "alpha": 0.5}
    if points.low:
        look |= {"xerr" if by_row else "yerr": points.error_bars(by_row), "elinewidth": 1.2, "capsize": 2.5}
        artist = axis.errorbar(points.x, points.y, **look)
    else:
        (artist,) = axis.plot(points.x, points.y, **look)
    larger = [place for place, is_larger in enumerate(points.larger) if is_larger]
    x, y = ([values[place] for place in larger] for values in (points.x, points.y))
    face = look.get("mfc", COLOURS[points.colour])
    size = RING_SIZE if "mfc" in look else bigger * 9
    axis.plot(x, y, ls="none", marker=marker, color=COLOURS[points.colour], mfc=face, ms=size)
    return artist
