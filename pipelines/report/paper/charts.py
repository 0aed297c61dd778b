"""The paper's Figures 3 and 4, and step-wise AUROC, for the page (plotly) and on paper (matplotlib)."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from pipelines.report.charts import HUES, SYMBOLS, spec
from pipelines.report.figures import sheet
from pipelines.report.picture import COLOURS, MARKERS

DASHES = {"small": "solid", "producer": "dash"}


def percentiles(found: pd.DataFrame) -> dict[str, Any]:
    """Figure 3 of one benchmark: rows of `paper_frames.percentiles`."""
    figure = go.Figure(layout={"template": None})
    for place, ((measure, scorer), mine) in enumerate(found.groupby(["measure", "scorer"], sort=False)):
        mine, colour = mine.sort_values("percent"), f"var(--hue-{place // 2 % HUES})"
        said = [[f"{100 * r.accuracy_low:.1f} to {100 * r.accuracy_high:.1f}"] for r in mine.itertuples()]
        figure.add_scatter(
            x=mine["percent"].tolist(), y=(mine["accuracy"] * 100).round(2).tolist(), mode="lines+markers",
            name=f"{measure}, by {scorer}", line={"color": colour, "dash": DASHES[scorer], "width": 2},
            marker={"symbol": SYMBOLS[place % len(SYMBOLS)], "size": 8, "color": colour}, customdata=said,
            hovertemplate=f"{measure}, by {scorer}<br>%{{x}} %: accuracy %{{y}} (%{{customdata[0]}})<extra></extra>",
        )  # fmt: skip
    figure.update_layout(xaxis_title_text="share of steps to the large model, %", yaxis_title_text="accuracy, %")
    return spec(figure)


def latency(found: pd.DataFrame) -> dict[str, Any]:
    """Figure 4 of one benchmark: rows of `paper_frames.latency`; bars reach from 0 to the mean."""
    figure = go.Figure(layout={"template": None})
    milliseconds = found["mean"] * 1e3
    said = [[f"{r.median * 1e3:.2f}", f"{r.p90 * 1e3:.2f}", f"{r.decisions:,}"] for r in found.itertuples()]
    figure.add_bar(
        x=milliseconds.round(4).tolist(), y=found["policy"].astype(str).tolist(), orientation="h", showlegend=False,
        marker={"color": "var(--hue-0)"}, customdata=said,
        hovertemplate="%{y}<br>mean %{x} ms, median %{customdata[0]}, 90th percentile %{customdata[1]}"
        "<br>%{customdata[2]} decisions<extra></extra>",
    )  # fmt: skip
    figure.update_layout(xaxis_title_text="a routing decision, ms (mean)", yaxis_autorange="reversed", yaxis_dtick=1)
    return {**spec(figure), "rows": len(found)}


def percentiles_figure(found: pd.DataFrame) -> Any:
    """Figure 3, a panel a benchmark."""
    panels = list(found.groupby("benchmark", sort=False, observed=True))
    figure, axes = sheet(len(panels), wide=2, size=(5.4, 4.0))
    for axis, (benchmark, rows) in zip(axes, panels, strict=True):
        for place, ((measure, scorer), mine) in enumerate(rows.groupby(["measure", "scorer"], sort=False)):
            mine, percent = mine.sort_values("percent"), mine.sort_values("percent")["accuracy"] * 100
            ends = [percent - mine["accuracy_low"] * 100, mine["accuracy_high"] * 100 - percent]
            axis.errorbar(
                mine["percent"], percent, [end.clip(lower=0) for end in ends], capsize=2, ms=5, lw=1.4,
                marker=MARKERS[place % len(MARKERS)], color=COLOURS[place // 2 % len(COLOURS)],
                ls="-" if scorer == "small" else "--", label=f"{measure}, by {scorer}",
            )  # fmt: skip
        axis.set_title(str(benchmark))
        axis.set_xlabel("share of steps to the large model, %")
        axis.set_ylabel("accuracy, %")
    axes[0].legend(fontsize=7)
    return figure


def latency_figure(found: pd.DataFrame) -> Any:
    """Figure 4, a panel a benchmark: means, with lines from the 10th to the 90th percentile."""
    panels = list(found.groupby("benchmark", sort=False, observed=True))
    figure, axes = sheet(len(panels), wide=2, size=(5.4, 3.2))
    for axis, (benchmark, rows) in zip(axes, panels, strict=True):
        names = rows["policy"].astype(str)
        axis.barh(names, rows["mean"] * 1e3, color=COLOURS[0], alpha=0.7)
        axis.hlines(names, rows["p10"] * 1e3, rows["p90"] * 1e3, color="black", lw=1.2)
        axis.invert_yaxis()
        axis.set_title(str(benchmark))
        axis.set_xlabel("a routing decision, ms")
    return figure


def step_auroc_figure(found: pd.DataFrame) -> Any:
    """AUROC of each signal for the same and for the next step, a panel a benchmark."""
    panels = list(found.groupby("benchmark", sort=False, observed=True))
    figure, axes = sheet(len(panels), wide=2, size=(5.4, 3.2))
    for axis, (benchmark, rows) in zip(axes, panels, strict=True):
        names = list(dict.fromkeys(rows["signal"]))
        for place, (of, mine) in enumerate(rows.groupby("of", sort=False)):
            y = [names.index(name) + 0.15 * (2 * place - 1) for name in mine["signal"]]
            ends = [mine["auroc"] - mine["auroc_low"], mine["auroc_high"] - mine["auroc"]]
            axis.errorbar(
                mine["auroc"], y, xerr=[end.clip(lower=0) for end in ends], fmt=MARKERS[place], capsize=2.5,
                color=COLOURS[place], label=f"{of} step",
            )  # fmt: skip
        axis.axvline(0.5, color="grey", lw=1, ls=":")
        axis.set_yticks(range(len(names)), names)
        axis.invert_yaxis()
        axis.set_title(str(benchmark))
        axis.set_xlabel("AUROC")
    axes[0].legend(fontsize=7)
    return figure
