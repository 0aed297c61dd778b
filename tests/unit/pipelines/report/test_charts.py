"""Charts as data, and the two ways in which they are drawn: plotly's JSON for the page, matplotlib for PNG and SVG."""

import math
from dataclasses import replace

import pandas as pd
import pytest

from pipelines.report import charts, figures
from pipelines.report.charts import Bars, Chart, Points
from pipelines.report.page import ASSETS
from pipelines.report.paper import charts as paper_charts
from pipelines.report.plotly_json import spec
from pipelines.report.references import published, references
from pipelines.report.summary import Summary
from steer.config.pairs import PAIRS
from steer.storage.run_folder import RunFolder

HOSTILE = "<img src=x onerror=alert(1)> & $x_1$ %{y} <b>"


def point(policy, setting="", accuracy=0.8, flops=5.0, split="test", chosen=False, of_bar=None):
    ends = {"accuracy": accuracy, "accuracy_low": accuracy - 0.1, "accuracy_high": accuracy + 0.05}
    key = {"benchmark": "b", "split": split, "policy": policy, "setting": setting, "chosen": chosen}
    key |= {"pareto": False, "plan": policy.startswith("plan")}
    bar = policy in ("small", "large", "random_query") if of_bar is None else of_bar
    return {**key, **ends, "of_bar": bar, "flops_paper": flops, "flops_full": 2 * flops, "share_large": 0.5}


BAR = [point("small", accuracy=0.5, flops=1.0), point("random_query", "p=0.5"), point("large", flops=10.0)]
GRID = [point("steer", f"gamma={g}", flops=10 * g, split="validation") for g in (0.5, 0.1, 0.9)]
NONE = pd.DataFrame(BAR).iloc[:0]


def curve(*points, grids=()):
    return charts.curve(pd.DataFrame([*BAR, *points]), pd.DataFrame(grids) if grids else NONE, "flops_paper")


def drawn(chart):
    with figures.drawing():
        figure = figures.sheet([chart])
        figure.canvas.draw()
    return figure


# --- the curve ------------------------------------------------------------------------------------------------------


def test_the_curve_is_in_percent_of_large_with_the_bar_dashed_below_the_points():
    chart = curve(point("steer", "gamma=0.5", flops=5.0, chosen=True), grids=GRID)
    bar, thin, *rest = chart.marks
    assert (bar.line, bar.x, bar.group) == ("dash", (10.0, 50.0, 100.0), "bar")
    assert thin.faint and thin.line == "solid" and thin.x == (1.0, 5.0, 9.0) and not thin.name
    assert [mark.name for mark in rest] == ["small", "", "large", "steer"]
    assert rest[1].group == "bar", "the points of random_query are hidden and shown with its line"
    steer = rest[-1]
    assert (steer.x, steer.y, steer.larger) == ((50.0,), (80.0,), (True,))
    assert (steer.low, steer.high) == (pytest.approx((70.0,)), pytest.approx((85.0,)))
    assert steer.hover[0].startswith("steer gamma=0.5 (chosen on validation)\naccuracy 80.0 % (70.0 to 85.0)")
    assert thin.colour == steer.colour and "%" in chart.x_title


def test_a_whole_grid_on_test_is_a_curve_with_the_chosen_point_larger():
    grid = [point("steer", f"gamma={g}", flops=10 * g, chosen=g == 0.5) for g in (0.9, 0.5, 0.1)]
    *_, steer = curve(*grid).marks
    assert (steer.line, steer.larger) == ("solid", (False, True, False))


def test_the_pareto_set_has_rings_below_the_points_and_a_plan_is_a_large_star():
    chart = curve({**point("steer", "gamma=0.5", 0.9), "pareto": True}, point("plan 50%", "gamma=0.2", 0.85, 4.0))
    rings, plan = chart.marks[0], next(mark for mark in chart.marks if mark.name == "plan 50%")
    assert (rings.name, rings.marker, rings.x, rings.y) == ("Pareto set", "circle-open", (50.0,), (90.0,))
    assert (plan.marker, plan.larger) == ("star", (True,))
    assert "the chosen plan" in plan.hover[0]
    assert "in the Pareto set" in next(mark for mark in chart.marks if mark.name == "steer").hover[0]
    chosen = curve({**point("steer", "gamma=0.5", 0.9, chosen=True), "pareto": True})
    sizes = {trace.get("name"): trace["marker"]["size"] for trace in spec(chosen)["data"] if "marker" in trace}
    assert sizes["Pareto set"][0] > sizes["steer"][0], "the ring is seen behind the larger point of the chosen setting"
    assert drawn(chosen)


TRIM = {"benchmarks": [{"name": "math500"}], "pair": PAIRS["qwen2.5"].model_dump()}


def test_the_oracle_and_published_results_stand_beside_the_rows():
    by_count = {count: references({"config": TRIM}, "math500", count, (0.9, 4.0)) for count in charts.COUNTS}
    rows = pd.DataFrame([*BAR, point("steer", flops=5.0)])
    chart = charts.curve(rows, NONE, "flops_paper", by_count["flops_paper"])
    marks = {mark.name: (mark.x, mark.y) for mark in chart.marks}
    assert marks["oracle"] == ((40.0,), (90.0,))
    assert marks["TRIM-Thr, published"] == ((54.0,), (pytest.approx(67.4),))
    assert marks["large (TRIM), published"] == ((100.0,), (73.0,))
    assert "small (TRIM), published" not in marks, "what it costs was not published"
    full = {r.name: r.of_large for r in by_count["flops_full"]}
    assert full["TRIM-Thr, published"] == 1.5
    alone = charts.curve(pd.DataFrame([point("steer")]), NONE, "flops_paper", by_count["flops_paper"])
    assert [mark.name for mark in alone.marks] == ["steer", "oracle"], "without large there is no percent of it"
    drawn(chart)


def test_published_results_are_of_their_pair_and_the_whole_benchmark_alone():
    local = {role: {"path": f"/models/{TRIM['pair'][role]['path'].split('/')[1]}"} for role in ("small", "large")}
    known = [{**TRIM, "pair": pair} for pair in ("qwen2.5", local)] + [
        {"pair": "qwen2.5", "benchmark": {"name": "math500"}}
    ]
    assert all(len(published({"config": config}, "math500")) == 3 for config in known)
    others = [
        {**TRIM, "pair": "qwen2.5-math"},
        {**TRIM, "pair": {"small": local["small"], "large": {"path": "/models/other"}}},
        {**TRIM, "benchmarks": [{"name": "math500", "difficulties": ["1"]}]},
        {},
    ]
    assert not any(published({"config": config}, "math500") for config in others)
    assert not published({"config": TRIM}, "aime")
    assert references({"config": TRIM}, "aime", "flops_full", (math.nan, math.nan)) == []


def test_rows_of_the_bar_may_have_other_labels():
    points = [point("cheap", accuracy=0.5, flops=1.0, of_bar=True), point("dear", flops=9.0, of_bar=True)]
    grid = [point("dear", flops=9.0, split="validation", of_bar=True)]
    chart = charts.curve(pd.DataFrame(points), pd.DataFrame(grid), "flops_paper")
    assert [mark.name for mark in chart.marks] == ["random_query (the bar)", "cheap", "dear"]


def test_steer_looks_the_same_in_every_report():
    alone, last = curve(point("steer")), curve(point("a"), point("b"), point("steer"))
    assert alone.marks[-1].colour == last.marks[-1].colour == "hue-0"
    assert alone.marks[-1].marker == last.marks[-1].marker


# --- both renderers -------------------------------------------------------------------------------------------------

FOREST = Chart(
    "title",
    "x",
    "",
    (
        Points(
            (0.5, 0.7), (0, 1), "hue-0", marker="circle", low=(0.4, math.nan), high=(0.8, math.nan), hover=("a", "b")
        ),
    ),
    rows=("first", HOSTILE),
    at=0.5,
)
LATENCY = pd.DataFrame(
    [
        {"benchmark": "b", "policy": p, "mean": m, "median": m, "p10": m / 2, "p90": 2 * m, "decisions": 7}
        for p, m in (("steer", 0.002), (HOSTILE, 0.004))
    ]
)


def test_intervals_lie_along_the_axis_that_measures():
    (trace,) = spec(FOREST)["data"]
    assert trace["error_x"]["array"] == [0.3, None] and "error_y" not in trace
    assert spec(curve())["data"][1]["error_y"]["arrayminus"] == [10.0]


def test_a_forest_grows_by_its_rows_and_names_them_from_top_to_bottom():
    layout = spec(FOREST)["layout"]
    assert spec(FOREST)["rows"] == 2 and "rows" not in spec(curve())
    assert layout["yaxis"]["range"] == [1.5, -0.5] and layout["yaxis"]["tickvals"] == [0, 1]
    axis = drawn(FOREST).axes[0]
    assert axis.get_ylim() == (1.5, -0.5) and [t.get_text() for t in axis.get_yticklabels()] == ["first", HOSTILE]


def test_bars_reach_to_the_mean_and_lines_from_the_10th_to_the_90th_percentile():
    chart = paper_charts.latency(LATENCY)
    bars, lines = chart.marks
    assert isinstance(bars, Bars) and bars.x == (2.0, 4.0)
    assert spec(chart)["data"][1]["x"] == [1.0, 4.0, None, 2.0, 8.0, None]
    assert lines.y[:2] == (0, 0) and math.isnan(lines.y[2])
    assert len(drawn(chart).axes[0].patches) == 2


def test_hostile_names_are_escaped_for_plotly_and_plain_text_in_matplotlib():
    chart = replace(curve(point(HOSTILE), grids=[point(HOSTILE, split="validation")]), title=HOSTILE)
    for one in (chart, FOREST, paper_charts.latency(LATENCY)):
        page = spec(one)
        texts = [t.get("name", "") for t in page["data"]] + page["layout"]["yaxis"].get("ticktext", [])
        texts += [text for t in page["data"] for text in t.get("hovertext", [])]
        assert any("&lt;img" in text for text in texts) and not any("<img" in text for text in texts)
    figure = drawn(chart)
    assert HOSTILE in [text.get_text() for text in figure.legends[0].get_texts()]
    assert not any(text.get_parse_math() for text in figure.legends[0].get_texts())


def test_a_name_that_matplotlib_would_hide_is_in_the_legend():
    assert "_mine" in [text.get_text() for text in drawn(curve(point("_mine"))).legends[0].get_texts()]


def test_plotly_knows_every_key_and_both_renderers_every_colour_and_marker():
    import plotly.graph_objects as go

    style = (ASSETS / "report.css").read_text()
    for colour in figures.COLOURS:
        assert style.count(f"--{colour}: ") == 2, "light and dark"
    for number in range(charts.HUES):
        assert f"hue-{number}" in figures.COLOURS
    for number in range(charts.SHADES):
        assert f"shade-{number}" in figures.COLOURS
    assert set(charts.MARKERS) < set(figures.MARKERS)
    glyphs = (ASSETS / "report.js").read_text().split("GLYPHS = {")[1].split("}")[0]
    assert all(f"{marker}:" in glyphs.replace('"', "") for marker in figures.MARKERS)
    for chart in (curve(point("steer", chosen=True), grids=GRID), FOREST, paper_charts.latency(LATENCY)):
        page = spec(chart)
        go.Figure({"data": page["data"], "layout": page["layout"]})


# --- a sweep's own curve --------------------------------------------------------------------------------------------


def summary(policy, setting="", flops=5.0, split="test"):
    return Summary("b", split, policy, setting, 1, 40, 0.8, 0.7, 0.9, flops, 2 * flops, 0.5, math.nan, 1.0)


def saved(root, rows, chosen=()):
    run = RunFolder.create(root, "sweep", {}, [0])
    named = {"little": "small", "large": "large", "steer": "steer"}
    run.update(cells=[{"name": f"b/test/{label}/seed0", "policy": {"name": name}} for label, name in named.items()])
    run.update(benchmarks=[{"benchmark": "b", "split": "test"}])
    figures.save_curve(run, rows, chosen)
    return [run.read_file(f"curve.{kind}") for kind in ("png", "svg")]


def test_a_sweep_saves_its_curve_through_the_run_folder_with_the_same_bytes(tmp_path):
    rows = [summary("little", flops=1.0), summary("large", flops=9.0), summary("steer", "gamma=0.5")]
    rows += [summary("steer", f"gamma={g}", split="validation") for g in (0.3, 0.5)]
    chosen = [("b", "steer", "gamma=0.5")]
    first, second = saved(tmp_path / "a", rows, chosen), saved("memory://curves/run", rows, chosen)
    assert first == second and first[0].startswith(b"\x89PNG")
    text = first[1].decode()
    for said in ("b (test; thin lines: validation)", "random_query (the bar)", "little", "steer"):
        assert f"<!-- {said} -->" in text


def test_without_test_the_curve_shows_validation_alone(tmp_path):
    rows = [summary("little", split="validation"), summary("large", flops=9.0, split="validation")]
    assert "<!-- b (validation) -->" in saved(tmp_path / "run", rows)[1].decode()
