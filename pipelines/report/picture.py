"""The accuracy-compute curve of a run, as PNG and SVG."""

import io
import math
from collections.abc import Sequence

from pipelines.report.printed import unit_for
from pipelines.report.summary import Summary
from steer.config.policy import BAR
from steer.storage.run_folder import RunFolder

# Okabe and Ito's palette, told apart under every common colour blindness; black is kept for the bar.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
MARKERS = "oD^vsPX*"
PRODUCT = "steer"
"""The row that is drawn above the others: the product's default."""
PANEL_INCHES = (6.4, 4.6)
DPI = 160
"""A panel is then about 1,000 pixels wide: sharp where a README shows it at half that."""


def save_curve(run: RunFolder, rows: Sequence[Summary]) -> None:
    """Writes `curve.png` and `curve.svg` into the run's folder: a panel a benchmark."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    benchmarks = list(dict.fromkeys(r.benchmark for r in rows))
    labels = [p for p in dict.fromkeys(r.policy for r in rows) if p not in BAR]
    labels.sort(key=lambda p: p != PRODUCT)
    style = {p: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, p in enumerate(labels)}
    size = (PANEL_INCHES[0] * len(benchmarks), PANEL_INCHES[1])
    settings = {"font.size": 12, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "steer"}
    with plt.rc_context(settings):
        figure, axes = plt.subplots(1, len(benchmarks), figsize=size, squeeze=False, layout="constrained")
        for axis, benchmark in zip(axes[0], benchmarks, strict=True):
            _panel(axis, benchmark, [r for r in rows if r.benchmark == benchmark], style)
        handles = {
            label: handle for axis in axes[0] for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        columns = min(len(handles), 4 * len(benchmarks))
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=columns, frameon=False, fontsize=9
        )
        for kind, extra in (("png", {"dpi": DPI}), ("svg", {"metadata": {"Date": None}})):
            drawn = io.BytesIO()
            figure.savefig(drawn, format=kind, **extra)
            run.write_file(f"curve.{kind}", drawn.getvalue())
        plt.close(figure)


def _panel(axis, benchmark: str, rows: Sequence[Summary], style: dict) -> None:
    """Test points with their intervals over the thin validation curves; only validation where there is no test."""
    shown = "test" if any(r.split == "test" for r in rows) else rows[0].split
    large = next((r.flops_paper for r in rows if r.policy == "large" and r.split == shown), math.nan)
    size, unit = (large / 100, None) if large > 0 else unit_for(rows)
    bar = sorted((r for r in rows if r.policy in BAR and r.split == shown), key=lambda r: r.flops_paper)
    if bar:
        x, y = [r.flops_paper / size for r in bar], [100 * r.accuracy for r in bar]
        axis.plot(x, y, "--", color="black", lw=1.2, label="random_query", zorder=2)
        for row in (r for r in bar if r.policy != "random_query"):
            _point(axis, row, size, "black", "s", None)
            axis.annotate(
                row.policy, (row.flops_paper / size, 100 * row.accuracy), (6, -12), textcoords="offset points"
            )
    for policy, (colour, marker) in style.items():
        grid = sorted((r for r in rows if r.policy == policy and r.split != shown), key=lambda r: r.flops_paper)
        if grid:
            x, y = [r.flops_paper / size for r in grid], [100 * r.accuracy for r in grid]
            axis.plot(x, y, "-", color=colour, lw=2 if policy == PRODUCT else 1, alpha=0.5, zorder=1)
        for row in (r for r in rows if r.policy == policy and r.split == shown):
            _point(axis, row, size, colour, marker, policy)
    axis.set_title(f"{benchmark} ({shown}; thin lines: validation grids)" if _has_grids(rows, shown) else benchmark)
    axis.set_xlabel(f"{unit} a question" if unit else "compute a question, % of large-only's FLOPs")
    axis.set_ylabel("accuracy, %")
    axis.grid(alpha=0.25, lw=0.6)


def _point(axis, row: Summary, size: float, colour: str, marker: str, label: str | None) -> None:
    y = 100 * row.accuracy
    error = [[max(y - 100 * row.accuracy_low, 0)], [max(100 * row.accuracy_high - y, 0)]]
    strong = label == PRODUCT
    axis.errorbar(
        row.flops_paper / size,
        y,
        yerr=error,
        fmt=marker,
        color=colour,
        ms=10 if strong else 7,
        lw=1.2,
        capsize=2.5,
        label=label,
        zorder=4 if strong else 3,
    )


def _has_grids(rows: Sequence[Summary], shown: str) -> bool:
    return any(r.split != shown and r.policy not in BAR for r in rows)
