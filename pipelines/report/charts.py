"""The report's charts as plotly figures, aggregated: never a point a trace.

Colours are CSS variables (`var(--small)`), which the page's script replaces by the values of the current colour scheme,
so one figure serves light and dark. Names come from configuration files and are escaped: plotly reads tags in text.
"""

import html
import math
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from pipelines.report.tables import unit_of
from steer.config.policy import BAR
from steer.statistics.frames import ReportRow

SYMBOLS = ("circle", "diamond", "triangle-up", "cross", "star", "x", "triangle-down", "pentagon")
HUES = 6
"""Colours `--hue-0` ... of the page's style sheet for policies that are not of the bar."""
SHADES = 6
"""Colours `--shade-0` ... from easy to hard."""
VERDICTS = ((True, "right", "solid"), (False, "wrong", "dash"))


def spec(figure: go.Figure) -> dict[str, Any]:
    """Plain JSON of a figure, without plotly's default template (7 kB a figure): the page has its own."""
    whole = figure.to_plotly_json()
    whole["layout"].pop("template", None)
    return {"data": list(whole["data"]), "layout": whole["layout"]}


def styles(policies: list[str]) -> dict[str, tuple[str, str]]:
    """Policy -> (colour, symbol); the product's default first, so that it has the same in every report."""
    routed = sorted((p for p in policies if p not in BAR), key=lambda p: p != "steer")
    found = {p: (f"var(--hue-{i % HUES})", SYMBOLS[i % len(SYMBOLS)]) for i, p in enumerate(routed)}
    bar = {"small": ("var(--small)", "square"), "large": ("var(--large)", "square")}
    return {**found, **bar, "random_query": ("var(--ink)", "circle-open")}


def scale(points: pd.DataFrame, count: str) -> tuple[float, str]:
    """Size of one unit of the x axis in 1e12 FLOPs, and what it is called: a percent of large-only where measured."""
    large = points.loc[points["policy"] == "large", count]
    if len(large) and large.iloc[0] > 0:
        return large.iloc[0] / 100, "compute a question, % of large-only's"
    size, unit = unit_of(points)
    return size, f"{unit} a question"


def curve(points: pd.DataFrame, grids: pd.DataFrame, count: str) -> dict[str, Any]:
    """Accuracy against compute: `points` with intervals over thin lines of `grids` (validation); the bar dashed.

    count: `flops_paper` or `flops_full`; both frames are of one benchmark, as `analysis.curve` gives them."""
    size, axis = scale(points, count)
    figure = go.Figure(layout={"template": None})
    known = styles(list(dict.fromkeys([*points["policy"], *grids["policy"]])))
    bar = points[points["policy"].isin(BAR)].sort_values(count)
    if len(bar) > 1:
        figure.add_scatter(
            x=_list(bar[count] / size), y=_list(bar["accuracy"] * 100), mode="lines", hoverinfo="skip",
            line={"dash": "dash", "color": "var(--ink)", "width": 1.5}, legendgroup="bar",
            name="random_query (the bar)",
        )  # fmt: skip
    grid_size, _ = scale(grids, count) if len(grids) else (size, "")
    for policy, mine in grids[~grids["policy"].isin(BAR)].groupby("policy", sort=False, observed=True):
        ordered = mine.sort_values(count)
        figure.add_scatter(
            x=_list(ordered[count] / grid_size), y=_list(ordered["accuracy"] * 100), mode="lines", opacity=0.55,
            line={"color": known[policy][0], "width": 1.5}, hoverinfo="skip", showlegend=False,
            legendgroup=_safe(policy),
        )  # fmt: skip
    for policy, mine in points.groupby("policy", sort=False, observed=True):
        colour, symbol = known[policy]
        mine = mine.sort_values(count)
        percent = mine["accuracy"] * 100
        above, below = mine["accuracy_high"] * 100 - percent, percent - mine["accuracy_low"] * 100
        of_bar = policy == "random_query" and len(bar) > 1
        joined = "lines+markers" if len(mine) > 2 and policy not in BAR else "markers"  # a grid on test is a curve
        figure.add_scatter(
            x=_list(mine[count] / size), y=_list(percent), mode=joined, name=_safe(policy), line={"color": colour},
            legendgroup="bar" if of_bar else _safe(policy), showlegend=not of_bar,
            marker={"color": colour, "symbol": symbol, "size": [12 if c else 7 for c in mine["chosen"]]},
            error_y={"array": _list(above), "arrayminus": _list(below), "color": colour, "thickness": 1.3, "width": 3},
            customdata=[_about(p) for p in mine.itertuples()],
            hovertemplate="%{customdata[0]}<br>accuracy %{customdata[1]}<br>%{customdata[2]}<br>%{customdata[3]}"
            "<extra></extra>",
        )  # fmt: skip
    figure.update_layout(xaxis_title_text=axis, yaxis_title_text="accuracy, %", xaxis_rangemode="tozero")
    return spec(figure)


def confidence(found: pd.DataFrame, axis: str) -> dict[str, Any]:
    """Mean (line) and quartiles (band) of one measure, right and wrong traces (Figure 2): rows of one measure and axis
    of `analysis.confidence_by_step`."""
    figure = go.Figure(layout={"template": None})
    for right, name, dash in VERDICTS:
        mine = found[found["correct"] == right].sort_values("x")
        if not len(mine):
            continue
        x = _list(mine["x"])
        figure.add_scatter(
            x=x + x[::-1], y=_list(mine["q75"]) + _list(mine["q25"])[::-1], fill="toself", mode="lines",
            line={"width": 0}, fillcolor=f"var(--{name}-soft)", hoverinfo="skip", showlegend=False, legendgroup=name,
        )  # fmt: skip
        figure.add_scatter(
            x=x, y=_list(mine["mean"]), mode="lines+markers", name=f"{name} traces", legendgroup=name,
            line={"color": f"var(--{name})", "dash": dash, "width": 2}, marker={"size": 6, "color": f"var(--{name})"},
            customdata=[[f"{r.mean:.4g}", f"{r.q25:.4g} to {r.q75:.4g}", f"{r.n:,}"] for r in mine.itertuples()],
            hovertemplate=f"{name}, at %{{x}}<br>mean %{{customdata[0]}}<br>middle half %{{customdata[1]}}"
            "<br>%{customdata[2]} scores<extra></extra>",
        )  # fmt: skip
    title = "step" if axis == "step" else "position in the trace, %"
    figure.update_layout(xaxis_title_text=title, yaxis_title_text="confidence of the step")
    return spec(figure)


def large_share(found: pd.DataFrame, right: bool) -> dict[str, Any]:
    """Share of large steps by position, a line a difficulty, of right or of wrong traces (Figure 5)."""
    figure = go.Figure(layout={"template": None})
    names = list(dict.fromkeys(found["difficulty"]))
    for number, name in enumerate(names):
        mine = found[(found["difficulty"] == name) & (found["correct"] == right)].sort_values("position")
        if not len(mine):
            continue
        shade = f"var(--shade-{round(number * (SHADES - 1) / max(len(names) - 1, 1))})"
        label = "all difficulties" if name == "all" else f"difficulty {_safe(name)}"
        figure.add_scatter(
            x=_list(mine["position"]), y=_list(mine["share_large"] * 100), mode="lines+markers", name=label,
            legendgroup=label, line={"color": shade, "width": 2},
            marker={"size": 7, "symbol": SYMBOLS[number % len(SYMBOLS)], "color": shade},
            customdata=[[label, f"{r.share_large * 100:.1f} %", f"{r.traces:,}"] for r in mine.itertuples()],
            hovertemplate="%{customdata[0]}, at %{x} % of the trace<br>large %{customdata[1]}"
            "<br>%{customdata[2]} traces<extra></extra>",
        )  # fmt: skip
    figure.update_layout(
        xaxis_title_text="position in the trace, %", yaxis_title_text="steps by the large model, %",
        xaxis_range=[0, 100], yaxis_range=[-3, 103],
    )  # fmt: skip
    return spec(figure)


def auroc(found: pd.DataFrame) -> dict[str, Any]:
    """AUROC with interval of each measure of one row."""
    names = [measure_label(r.measure, r.scorer) for r in found.itertuples()]
    said = [[f"{r.auroc:.3f} ({r.auroc_low:.3f} to {r.auroc_high:.3f})", f"{r.n:,}"] for r in found.itertuples()]
    ends = found["auroc"] - found["auroc_low"], found["auroc_high"] - found["auroc"]
    hover = "%{y}<br>AUROC %{customdata[0]}<br>%{customdata[1]} traces<extra></extra>"
    return _forest(found["auroc"], ends, names, said, hover, 0.5, "AUROC (0.5: chance)")


def differences(found: pd.DataFrame) -> dict[str, Any]:
    """Differences of accuracy in points with paired intervals: rows of `paired.compare`."""
    centre = found["accuracy_difference"] * 100
    ends = centre - found["accuracy_low"] * 100, found["accuracy_high"] * 100 - centre
    said = [
        [f"{100 * r.accuracy_difference:+.1f} points", f"{100 * r.accuracy_low:+.1f} to {100 * r.accuracy_high:+.1f}",
         f"{r.questions:,} questions"] for r in found.itertuples()
    ]  # fmt: skip
    names = [_safe(name).replace("\n", "<br>") for name in difference_labels(found)]
    hover = "%{y}<br>%{customdata[0]} (%{customdata[1]})<br>%{customdata[2]}<extra></extra>"
    return _forest(centre, ends, names, said, hover, 0, "B − A, points")


def _forest(
    x: pd.Series, ends: tuple[pd.Series, pd.Series], names: list[str], said: list, hover: str, at: float, axis: str
) -> dict[str, Any]:
    """A mark with its interval a line, from top to bottom, and a dotted line at `at`. `rows` says how high it is."""
    figure = go.Figure(layout={"template": None})
    figure.add_scatter(
        x=_list(x), y=names, mode="markers", showlegend=False, marker={"size": 9, "color": "var(--hue-0)"},
        error_x={"array": _list(ends[1]), "arrayminus": _list(ends[0]), "color": "var(--hue-0)", "thickness": 1.3,
                 "width": 3},
        customdata=said, hovertemplate=hover,
    )  # fmt: skip
    line = {"dash": "dot", "color": "var(--muted)", "width": 1}
    figure.update_layout(
        xaxis_title_text=axis, yaxis_autorange="reversed", yaxis_dtick=1,
        shapes=[{"type": "line", "x0": at, "x1": at, "yref": "paper", "y0": 0, "y1": 1, "line": line}],
    )  # fmt: skip
    return {**spec(figure), "rows": len(names)}


def difference_labels(found: pd.DataFrame) -> list[str]:
    """A name for each compared pair, all different; benchmark and split on a line of their own where there are
    several."""
    parts = len(set(zip(found["benchmark"], found["split"], strict=True))) > 1
    names: list[str] = []
    for r in found.itertuples():
        a, b = (" ".join(filter(None, pair)) for pair in ((r.policy_a, r.setting_a), (r.policy_b, r.setting_b)))
        if r.policy_a == r.policy_b and a != b:
            b = r.setting_b or "no threshold"
        name = a if a == b else f"{a} → {b}"
        names.append(f"{r.benchmark} {r.split}\n{name}" if parts else name)
    return names


def measure_label(measure: str, scorer: str) -> str:
    if measure in ("routed by", "signal"):
        return "score it routed by" if measure == "routed by" else "the policy's signal"
    return f"{measure}, by {scorer}"


def row_label(row: ReportRow) -> str:
    return " · ".join(filter(None, (row.benchmark, row.split, " ".join(filter(None, (row.policy, row.setting))))))


def _about(point: Any) -> list[str]:
    size, unit = unit_of(pd.DataFrame([point._asdict()]))
    name = " ".join(filter(None, (point.policy, point.setting))) + " (chosen on validation)" * bool(point.chosen)
    interval = f"{100 * point.accuracy_low:.1f} to {100 * point.accuracy_high:.1f}"
    share = "" if math.isnan(point.share_large) else f"large steps {100 * point.share_large:.0f} %"
    flops = f"{unit} a question: paper {point.flops_paper / size:.3g}, full {point.flops_full / size:.3g}"
    return [_safe(name), f"{100 * point.accuracy:.1f} % ({interval})", flops, share]


def _list(values) -> list[float | None]:
    """Five significant digits: more cannot be seen, and the page carries every number."""
    return [None if math.isnan(v) else float(f"{v:.5g}") for v in values]


def _safe(text: str) -> str:
    return html.escape(str(text), quote=False).replace("%{", "% {")
