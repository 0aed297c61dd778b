"""The report's figures on paper: PNG and SVG by matplotlib, of the same numbers as the page's charts."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.report.charts import difference_labels, measure_label, scale
from pipelines.report.picture import COLOURS, DPI, MARKERS
from steer.config.policy import BAR
from steer.statistics.frames import KEYS, ReportRow

SETTINGS = {
    **{"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "steer"},
    "text.parse_math": False,
}
"""Without mathtext: a name from a configuration may hold a `$`."""
HUES = {"small": "#0072B2", "large": "#D55E00", True: "#009E73", False: "#CC79A7"}
MOST_PANELS = 12
"""Rows that one sheet shows; the page and the CSV hold all."""
PANEL_INCHES = (4.2, 3.2)


@contextmanager
def drawing() -> Iterator[None]:
    """Around every figure: no display is needed, and labels are plain text."""
    import matplotlib

    matplotlib.use("Agg")
    with matplotlib.rc_context(SETTINGS):
        yield


def save(folder: Path, stem: str, figure: Any) -> None:
    """`stem`.png and .svg, the same bytes for the same numbers."""
    from matplotlib import pyplot as plt

    figure.savefig(folder / f"{stem}.png", dpi=DPI)
    figure.savefig(folder / f"{stem}.svg", metadata={"Date": None})
    plt.close(figure)


def stem(*parts: str) -> str:
    """A file name of these parts, whatever characters they have."""
    return "-".join(re.sub(r"[^A-Za-z0-9_.=-]+", "_", part).strip("_.") or "_" for part in parts if part)


def sheet(panels: int, wide: int = 3, size: tuple[float, float] = PANEL_INCHES) -> tuple[Any, list[Any]]:
    """A figure of that many axes, in rows of `wide`."""
    from matplotlib import pyplot as plt

    columns = min(wide, panels)
    rows = -(-panels // columns)
    inches = (size[0] * columns, size[1] * rows)
    figure, axes = plt.subplots(rows, columns, figsize=inches, squeeze=False, layout="constrained")
    flat = list(axes.flat)
    for axis in flat[panels:]:
        axis.set_axis_off()
    for axis in flat[:panels]:
        axis.grid(alpha=0.25, lw=0.6)
    return figure, flat[:panels]


def curve(title: str, points: pd.DataFrame, grids: pd.DataFrame) -> Any:
    figure, axes = sheet(2, size=(5.6, 4.4))
    routed = sorted((p for p in dict.fromkeys(points["policy"]) if p not in BAR), key=lambda p: p != "steer")
    # The first two colours of the palette are those of the small and the large model.
    hues = [*COLOURS[2:], "#8C564B", "#4B4B9B"]
    look = {p: (hues[i % len(hues)], MARKERS[i % len(MARKERS)]) for i, p in enumerate(routed)}
    look |= {"small": (HUES["small"], "s"), "large": (HUES["large"], "s"), "random_query": ("black", "o")}
    for axis, count in zip(axes, ("flops_paper", "flops_full"), strict=True):
        size, name = scale(points, count)
        bar = points[points["policy"].isin(BAR)].sort_values(count)
        if len(bar) > 1:
            line = {"color": "black", "lw": 1.2, "label": "random_query (the bar)"}
            axis.plot(bar[count] / size, bar["accuracy"] * 100, "--", **line)
        grid_size, _ = scale(grids, count) if len(grids) else (size, "")
        for policy, mine in grids[grids["policy"].isin(routed)].groupby("policy", sort=False, observed=True):
            ordered = mine.sort_values(count)
            axis.plot(ordered[count] / grid_size, ordered["accuracy"] * 100, color=look[policy][0], lw=1, alpha=0.5)
        for policy, mine in points.groupby("policy", sort=False, observed=True):
            mine = mine.sort_values(count)
            y = mine["accuracy"] * 100
            error = _lengths(y - mine["accuracy_low"] * 100, mine["accuracy_high"] * 100 - y)
            colour, marker = look[policy]
            label = None if policy == "random_query" and len(bar) > 1 else policy
            # A grid on test is a curve; what validation chose stands out on it.
            line = "-" if len(mine) > 2 and policy not in BAR else ""
            look_of = {"color": colour, "lw": 1.2, "capsize": 2.5, "label": label}
            axis.errorbar(mine[count] / size, y, error, fmt=marker + line, ms=7 if not line else 4, **look_of)
            if line:
                axis.plot(mine[count][mine["chosen"]] / size, y[mine["chosen"]], marker, color=colour, ms=9)
        axis.set_title("generated tokens (flops_paper)" if count == "flops_paper" else "all tokens (flops_full)")
        axis.set_xlabel(name)
        axis.set_xlim(left=0)
    axes[0].set_ylabel("accuracy, %")
    figure.suptitle(title)
    _legend(figure, axes)
    return figure


def confidence(found: pd.DataFrame) -> Any:
    """One panel a row: the score it routed by, else its first measure; by step."""
    shown = list(_rows(found[found["axis"] == "step"]))[:MOST_PANELS]
    figure, axes = sheet(len(shown))
    for axis, (row, mine) in zip(axes, shown, strict=True):
        measure, scorer = _first_measure(mine)
        mine = mine[(mine["measure"] == measure) & (mine["scorer"] == scorer)]
        for right in (True, False):
            part = mine[mine["correct"] == right].sort_values("x")
            style, label = ("-o", "right traces") if right else ("--s", "wrong traces")
            axis.fill_between(part["x"], part["q25"], part["q75"], color=HUES[right], alpha=0.2, lw=0)
            axis.plot(part["x"], part["mean"], style, ms=3.5, color=HUES[right], label=label)
        axis.set_title(_title(row))
        axis.set_xlabel("step")
        axis.set_ylabel(measure_label(measure, scorer))
    _legend(figure, axes)
    return figure


def large_share(found: pd.DataFrame) -> Any:
    """Two panels a row: right and wrong traces."""
    from matplotlib import colormaps

    shown = list(_rows(found))[: MOST_PANELS // 2]
    figure, axes = sheet(2 * len(shown), wide=2)
    names = list(dict.fromkeys(found["difficulty"]))
    panels = [(row, mine, right) for row, mine in shown for right in (True, False)]
    for axis, (row, mine, right) in zip(axes, panels, strict=True):
        for place, name in enumerate(names):
            part = mine[(mine["difficulty"] == name) & (mine["correct"] == right)].sort_values("position")
            colour = colormaps["viridis"](0.9 * place / max(len(names) - 1, 1))
            label = "all difficulties" if name == "all" else f"difficulty {name}"
            style = "-" + MARKERS[place % len(MARKERS)]
            axis.plot(part["position"], part["share_large"] * 100, style, ms=4, color=colour, label=label)
        axis.set_title(f"{_title(row)}: {'right' if right else 'wrong'} traces")
        axis.set_xlim(0, 100)
        axis.set_ylim(-4, 104)
        axis.set_xlabel("position in the trace, %")
        axis.set_ylabel("large steps, %")
    _legend(figure, axes)
    return figure


def auroc(found: pd.DataFrame) -> Any:
    shown = list(_rows(found))[:MOST_PANELS]
    figure, axes = sheet(len(shown))
    for axis, (row, mine) in zip(axes, shown, strict=True):
        error = _lengths(mine["auroc"] - mine["auroc_low"], mine["auroc_high"] - mine["auroc"])
        names = [measure_label(r.measure, r.scorer) for r in mine.itertuples()]
        axis.errorbar(mine["auroc"], names, xerr=error, fmt="o", color=COLOURS[0], capsize=2.5)
        axis.axvline(0.5, color="grey", lw=1, ls=":")
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.set_title(_title(row))
        axis.set_xlabel("AUROC")
    return figure


def differences(found: pd.DataFrame, title: str) -> Any:
    names = difference_labels(found)
    figure, (axis,) = sheet(1, size=(8, 1.4 + 0.42 * len(names)))
    centre = found["accuracy_difference"] * 100
    error = _lengths(centre - found["accuracy_low"] * 100, found["accuracy_high"] * 100 - centre)
    axis.errorbar(centre, range(len(names)), xerr=error, fmt="o", color=COLOURS[0], capsize=3)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.axvline(0, color="grey", lw=1, ls=":")
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("B − A, points of accuracy")
    return figure


def _lengths(below: pd.Series, above: pd.Series) -> list[pd.Series]:
    """Of error bars; rounding may leave an end a hair on the wrong side."""
    return [below.clip(lower=0), above.clip(lower=0)]


def _title(row: ReportRow) -> str:
    return " ".join(filter(None, (row.policy, row.setting)))


def _first_measure(mine: pd.DataFrame) -> tuple[str, str]:
    """The score the row routed by, else the first that it has."""
    names = list(dict.fromkeys(zip(mine["measure"], mine["scorer"], strict=True)))
    return next((n for n in names if n[0] == "routed by"), names[0])


def _rows(found: pd.DataFrame) -> Iterator[tuple[ReportRow, pd.DataFrame]]:
    for key, mine in found.groupby(KEYS, sort=False, observed=True):
        yield ReportRow(*key), mine


def _legend(figure: Any, axes: list[Any]) -> None:
    handles: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        columns = math.ceil(len(handles) / math.ceil(len(handles) / 6))
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns, frameon=False)
