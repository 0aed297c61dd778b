"""A chart as the JSON that plotly draws on the page.

Plain values, not plotly's Python figures: those carry a template of 7 kB each, and take a second to import. Colours are
CSS variables (`var(--small)`); the page's script replaces them by the values of the current colour scheme. Plotly reads
tags in text, so all text is escaped.
"""

import html
import math
from collections.abc import Iterable
from typing import Any

from pipelines.report.charts import Band, Bars, Chart, Points

LINE_PX, FAINT_PX, ERROR_PX = 2, 1.5, 1.3
JOINED_PX, ALONE_PX, LARGER_PX, RING_PX = 6, 8, 12, 17
"""Diameters of markers: on a line, without one, of those that stand out, and of open ones around these."""
BAR_ROWS = 0.7
"""Height of a bar, of the distance between two rows."""


def spec(chart: Chart) -> dict[str, Any]:
    """`data` and `layout` of plotly; of a chart with rows also `rows`, their number, by which it grows."""
    data = [_trace(mark, bool(chart.rows)) for mark in chart.marks]
    if not chart.rows:
        return {"data": data, "layout": _layout(chart)}
    return {"data": data, "layout": _layout(chart), "rows": len(chart.rows)}


def _trace(mark: Points | Band | Bars, by_row: bool) -> dict[str, Any]:
    match mark:
        case Points():
            return _points(mark, by_row)
        case Band():
            return _band(mark)
        case Bars():
            return _bars(mark)


def _points(points: Points, by_row: bool) -> dict[str, Any]:
    colour = f"var(--{points.colour})"
    trace: dict[str, Any] = {
        "type": "scatter",
        "x": _numbers(points.x),
        "y": _numbers(points.y),
        "mode": "+".join(filter(None, ("lines" * bool(points.line), "markers" * bool(points.marker)))),
        "line": {"color": colour},
        "showlegend": bool(points.name),
        "legendgroup": points.group or points.name,
    }
    if points.name:
        trace["name"] = _escaped(points.name)
    if points.line:
        trace["line"] |= {"dash": points.line, "width": FAINT_PX if points.faint else LINE_PX}
    if points.faint:
        trace["opacity"] = 0.55
    if points.marker:
        usual = JOINED_PX if points.line else ALONE_PX
        stands_out = RING_PX if points.marker.endswith("-open") else LARGER_PX
        sizes = [stands_out if larger else usual for larger in points.larger] or usual
        trace["marker"] = {"color": colour, "symbol": points.marker, "size": sizes}
    if points.low:
        below, above = points.error_bars(by_row)
        look = {"color": colour, "thickness": ERROR_PX, "width": 3}
        ends = {"type": "data", "array": _numbers(above), "arrayminus": _numbers(below)}
        trace["error_x" if by_row else "error_y"] = ends | look
    return trace | _hover(points.hover)


def _band(band: Band) -> dict[str, Any]:
    """An outline that runs along the upper line and back along the lower one."""
    x, low, high = (_numbers(values) for values in (band.x, band.low, band.high))
    outline = {"type": "scatter", "x": x + x[::-1], "y": high + low[::-1], "mode": "lines", "line": {"width": 0}}
    fill = {"fill": "toself", "fillcolor": f"var(--{band.colour}-soft)"}
    return {**outline, **fill, "hoverinfo": "skip", "showlegend": False, "legendgroup": band.group}


def _bars(bars: Bars) -> dict[str, Any]:
    x = _numbers(bars.x)
    shape = {"type": "bar", "orientation": "h", "x": x, "y": list(range(len(x))), "width": BAR_ROWS}
    return {**shape, "marker": {"color": f"var(--{bars.colour})"}, "showlegend": False, **_hover(bars.hover)}


def _hover(texts: Iterable[str]) -> dict[str, Any]:
    escaped = [_escaped(text) for text in texts]
    return {"hoverinfo": "text", "hovertext": escaped} if escaped else {"hoverinfo": "skip"}


def _layout(chart: Chart) -> dict[str, Any]:
    x: dict[str, Any] = {"title": {"text": _escaped(chart.x_title)}}
    y: dict[str, Any] = {"title": {"text": _escaped(chart.y_title)}} if chart.y_title else {}
    if chart.x_range:
        x["range"] = list(chart.x_range)
    if chart.y_range:
        y["range"] = list(chart.y_range)
    if chart.from_zero:
        x["rangemode"] = "tozero"
    if chart.rows:
        y |= {"tickvals": list(range(len(chart.rows))), "ticktext": [_escaped(name) for name in chart.rows]}
        y |= {"range": [len(chart.rows) - 0.5, -0.5], "zeroline": False}
    layout: dict[str, Any] = {"xaxis": x, "yaxis": y}
    if chart.at is not None:
        line = {"dash": "dot", "color": "var(--muted)", "width": 1}
        across = {"type": "line", "x0": chart.at, "x1": chart.at, "yref": "paper", "y0": 0, "y1": 1, "line": line}
        layout["shapes"] = [across]
    return layout


def _numbers(values: Iterable[float]) -> list[float | None]:
    """Five significant digits: more cannot be seen, and the tables carry every number."""
    return [None if math.isnan(v) else float(f"{v:.5g}") for v in values]


def _escaped(text: str) -> str:
    return html.escape(text, quote=False).replace("\n", "<br>")
