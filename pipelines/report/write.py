"""`steer report RUN... --out DIR`: report.html, figures/*.png and .svg, tables/*.csv and .md of one run or several.

A run is never changed. docs/report.md says what each section shows.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.report import charts, figures, page, trace_view
from pipelines.report import tables as tabled
from pipelines.report.numbers import Numbers, measured
from pipelines.report.paper import section as paper_section
from pipelines.report.plotly_json import spec
from pipelines.report.references import published
from pipelines.report.tables import Table
from pipelines.report.time_spent import WALL, lines
from pipelines.report.totals import gpu_dollars
from pipelines.report.written import Written
from steer.config.load import SettingsError
from steer.events import What
from steer.statistics import paired
from steer.statistics.frames import KEYS, MIN_SCORES, ReportRow, by_row

DEATHS = (What.DIED, What.LEAVING_DIED, What.START_DIED, What.GIVEN_UP, What.ROUTER_LOST)
"""Events that the page lists."""
MOST_DEATHS = 50
"""Of these the last so many. The CSV table holds all."""
MOST_DETAILS = 80
"""Rows that can be chosen on the page: 20 kB each. The CSV tables hold all."""


def write_report(runs: Sequence[str | Path], out: str | Path) -> str:
    """Write the report into the new folder `out`; returns what to print.

    Raises SettingsError for a folder that is no run, a run without traces, runs that share no question, and an `out`
    that exists."""
    out = Path(out)
    if out.exists():
        raise SettingsError(f"{out} exists: choose another --out or remove it")
    numbers = [measured(name, root) for name, root in zip(names(runs), runs, strict=True)]
    compared = _compared(numbers)
    written = Written()
    papers = [paper_section.measured(n) for n in numbers if n.paper] if len(numbers) == 1 else []
    for paper in papers:
        paper_section.sections(paper, written)
    _accuracy(written, numbers)
    _comparison(written, compared, numbers)
    _against_large(written, numbers)
    details = _details(written, numbers)
    traces = _traces(written, numbers)
    time_section(written, numbers)
    deaths_section(written, numbers)
    for place, n in enumerate(numbers):
        written.section(
            f"run-{place}",
            "The run" if len(numbers) == 1 else f"Run {n.name}",
            [page.run_section(n.name, n.described, gpu_dollars(n.run, n.described))],
        )
    title = "STEER: " + " against ".join(n.name for n in numbers)
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    data = {"charts": written.charts, "details": details, "traces": traces}
    (out / "tables").mkdir(parents=True)
    (out / "figures").mkdir()
    (out / "report.html").write_text(page.page(title, made, written.sections, data), encoding="utf-8")
    for table in written.tables:
        (out / "tables" / f"{table.slug}.csv").write_text(tabled.as_csv(table), encoding="utf-8")
        (out / "tables" / f"{table.slug}.md").write_text(tabled.markdown(table), encoding="utf-8")
    with figures.drawing():
        for stem, figure in chain(_figures(numbers, compared), *map(paper_section.drawn, papers)):
            figures.save(out / "figures", stem, figure)
    return f"{out}: report.html figures/ tables/"


def names(runs: Sequence[str | Path]) -> list[str]:
    """The folders' names, made different where two are the same."""
    short = [Path(str(run).rstrip("/")).name or str(run) for run in runs]
    return [f"{name} ({i + 1})" if short.count(name) > 1 else name for i, name in enumerate(short)]


def _all(numbers: Sequence[Numbers], name: str) -> pd.DataFrame:
    return pd.concat([getattr(n, name).assign(run=n.name) for n in numbers], ignore_index=True)


def _accuracy(written: Written, numbers: Sequence[Numbers]) -> None:
    frame = _all(numbers, "curve")
    bar = (
        "The dashed line is the bar, sending random questions to the large model: a policy is worth its routing only "
        "above it. "
        if frame["bar"].notna().any()
        else ""
    )
    grids = "Thin lines are the thresholds tried on validation. " if frame["split"].nunique() > 1 else ""
    body = [
        "<p>Each point is one policy setting: right answers against what an answer costs. "
        f"{bar}Left, the FLOPs of generated tokens; right, with prompts, re-prefill and scoring passes too. {grids}"
        "A ring marks the Pareto set: no other setting is as accurate and as cheap. Point at a mark for its numbers; a "
        "name in the legend hides or shows its marks.</p>"
    ]
    for place, n in enumerate(numbers):
        for benchmark, split, points, grids in n.parts():
            references = n.references(benchmark, split)
            keys = []
            for count, said in (("flops_paper", "generated tokens only"), ("flops_full", "all computed tokens")):
                key = f"curve-{place}-{benchmark}-{split}-{count}"
                written.chart(key, charts.curve(points, grids, count, references[count]))
                keys.append((key, said))
            whose = f"{n.name}: " if len(numbers) > 1 else ""
            heading = f"{whose}{benchmark}, {split} split, {int(points['questions'].max()):,} questions"
            body.append(f"<h3><bdi>{page.escaped(heading)}</bdi></h3>{page.charts(keys)}")
    tests = frame[frame["split"] == "test"]
    shown = tests if len(tests) else frame
    body.append(f"<h3>{'Test split' if len(tests) else 'Every row'}</h3>")
    body += [page.table(Table("accuracy", "Accuracy and compute", tabled.CURVE, shown)), page.note()]
    rest = frame.drop(index=shown.index)
    if len(rest):
        inner = page.table(Table("accuracy-rest", "Accuracy and compute on validation", tabled.CURVE, rest))
        body.append(f"<details><summary>Validation split, {len(rest)} rows</summary>{inner}</details>")
    written.tables.append(Table("accuracy", "Accuracy and compute", tabled.CURVE, frame))
    body += _recovered(written, frame) + _oracles(written, numbers) + _published(written, numbers)
    written.section("accuracy", "Accuracy and compute", body)


def _recovered(written: Written, curve: pd.DataFrame) -> list[str]:
    """The table of APGR and CPT, a line a policy; nothing if no curve has them."""
    between = curve[curve["apgr"].notna()]
    if not len(between):
        return []
    keys = ["run", "benchmark", "split", "policy"]
    frame = between.groupby(keys, sort=False, observed=True, as_index=False)[["apgr", "cpt_50", "cpt_80"]].first()
    frame["settings"] = between.groupby(keys, sort=False, observed=True)["settings_between"].first().to_numpy()
    return [
        "<h3>How much of the gap each policy recovers</h3>",
        "<p>The curve of a policy runs from <code>small</code> through its settings to <code>large</code>, by "
        "<code>flops_full</code>. Random routing has APGR 0.5, CPT(50) 50 % and CPT(80) 80 %.</p>",
        written.table("gap-recovered", "How much of the gap each policy recovers", tabled.RECOVERED, frame),
    ]


def _oracles(written: Written, numbers: Sequence[Numbers]) -> list[str]:
    frame = _all(numbers, "oracles")
    if not len(frame):
        return []
    return [
        "<h3>The oracle</h3>",
        "<p>Each question goes to the model that is right on it, the cheaper where both are, the small one where none "
        "is. It knows the luck of sampling too, so with few answers a question no router will reach it.</p>",
        written.table("oracle", "The oracle of small and large", tabled.ORACLE, frame),
    ]


def _published(written: Written, numbers: Sequence[Numbers]) -> list[str]:
    """What others published for the pair and benchmarks of these runs."""
    lines = [
        {
            **{"run": n.name, "benchmark": benchmark, "name": mark.name, "accuracy": mark.accuracy},
            **{"of_large_paper": mark.of_large.get("flops_paper"), "of_large_full": mark.of_large.get("flops_full")},
            "source": mark.source,
        }
        for n in numbers
        for benchmark in dict.fromkeys(n.curve["benchmark"])
        for mark in published(n.described, benchmark)
    ]
    if not lines:
        return []
    return [
        "<h3>Published for this pair and benchmark</h3>",
        "<p>No measurement of this run: prompts, sampling and grading are the authors', and all questions were asked."
        "</p>",
        written.table("published", "Published for this pair and benchmark", tabled.PUBLISHED, pd.DataFrame(lines)),
    ]


def _compared(numbers: Sequence[Numbers]) -> pd.DataFrame | None:
    """The first run against each other; None with one run."""
    if len(numbers) == 1:
        return None
    first, blocks = numbers[0], []
    for other in numbers[1:]:
        found = paired.compare(first.traces, other.traces)
        if not len(found):
            raise SettingsError(
                f"{first.name} and {other.name} have no row on the same questions: compare runs of the same benchmark "
                "and split, or report each alone"
            )
        blocks.append(found.assign(run_a=first.name, run_b=other.name))
    return pd.concat(blocks, ignore_index=True)


def _comparison(written: Written, compared: pd.DataFrame | None, numbers: Sequence[Numbers]) -> None:
    if compared is None:
        return
    body = [
        f"<p>A is <bdi>{page.escaped(numbers[0].name)}</bdi>. Rows are held against each other question by question, "
        "on the questions and samples that both runs answered, so the questions' own difficulty cancels. Where an "
        "interval leaves out 0, the noise of questions and sampling alone hardly makes such a difference.</p>"
    ]
    for place, (name, mine) in enumerate(compared.groupby("run_b", sort=False)):
        heading = f"B is {name}: B − A, points of accuracy"
        written.chart(f"comparison-{place}", charts.differences(mine, heading))
        body.append(page.charts([(f"comparison-{place}", heading)], rows=len(mine)))
    body += [written.table("comparison", "The runs compared", tabled.COMPARISON, compared), page.note()]
    written.section("comparison", "The runs compared", body)


def _against_large(written: Written, numbers: Sequence[Numbers]) -> None:
    frame = pd.concat([paired.against(n.traces).assign(run=n.name) for n in numbers], ignore_index=True)
    if not len(frame):
        return
    said = (
        "<p>A is <code>large</code>, every question sent to the large model; B is each other row of the same run, "
        "question by question; the test split, or validation where a benchmark has no test.</p>"
    )
    title = "Against the large model alone"
    table = written.table("against-large", title, tabled.AGAINST, frame)
    written.section("against-large", title, [said, table, page.note()])


def _details(written: Written, numbers: Sequence[Numbers]) -> list[dict[str, Any]]:
    details = [detail for n in numbers for detail in _rows(n, len(numbers) > 1)][:MOST_DETAILS]
    if details:
        written.section("setting", "One setting, closely", [page.setting_section()])
    measures = _all(numbers, "auroc")
    if len(measures):
        said = (
            "<p>A trace's score is the mean over its kept steps that have one; AUROC is the chance that a right trace "
            f"scores above a wrong one (0.5: chance). Where fewer than {MIN_SCORES} scored traces are right, or wrong, "
            "there is none. Few scored steps (last column): the policy chose which were scored.</p>"
        )
        table = written.table("auroc", "AUROC of confidence measures", tabled.AUROC, measures)
        written.section("auroc", "Which measure tells right from wrong", [said, table, page.note()])
    for slug, title, columns, name in (
        ("confidence-by-step", "Confidence of right and wrong traces", tabled.CONFIDENCE, "confidence"),
        ("large-share", "Share of large steps by position and difficulty", tabled.LARGE_SHARE, "large_share"),
    ):
        frame = _all(numbers, name)
        if len(frame):
            written.tables.append(Table(slug, title, columns, frame))
    return details


def _rows(n: Numbers, several: bool) -> Iterator[dict[str, Any]]:
    """What the page shows of each row. Rows whose answers are one step each have no curve and are left out."""
    for row, _ in by_row(n.traces):
        confidence, share, area = (_of(f, row) for f in (n.confidence, n.large_share, n.auroc))
        measures = []
        for names_of, mine in confidence.groupby(["measure", "scorer"], sort=False):
            if mine["x"].nunique() > 1:
                axes = {axis: spec(charts.confidence(part, axis)) for axis, part in mine.groupby("axis")}
                measures.append({"name": charts.measure_label(*names_of), **axes})
        if not measures:
            continue
        difficulties = list(dict.fromkeys(share["difficulty"]))
        sides = {
            name: spec(charts.large_share(share, right, difficulties)) if (share["correct"] == right).any() else None
            for right, name, *_ in charts.VERDICTS
        }
        name = (f"{n.name} · " if several else "") + charts.row_label(row)
        yield {"name": name, "measures": measures, "auroc": spec(charts.auroc(area)) if len(area) else None, **sides}


def _of(frame: pd.DataFrame, row: ReportRow) -> pd.DataFrame:
    for key, value in zip(KEYS, row, strict=True):
        frame = frame[frame[key] == value]
    return frame


def _traces(written: Written, numbers: Sequence[Numbers]) -> list[dict[str, Any]]:
    most = max(trace_view.MOST_TRACES // len(numbers), 1)
    found = [r for n in numbers for r in trace_view.records(n.run, n.name, trace_view.sample(n.traces, most))]
    written.section("traces", "Traces, step by step", [page.traces_section(len(found), trace_view.MOST_TRACES)])
    return found


def time_section(written: Written, numbers: Sequence[Numbers]) -> None:
    """Add where the time went, if `run.json` of any run says it."""
    timed = [(n.name, n.described["time"]) for n in numbers if n.described.get("time")]
    if not timed:
        return
    walls = "; ".join(f"{name}: {spent[WALL][WALL]:,.1f} s" for name, spent in timed)
    frame = pd.DataFrame([{"run": name, **line._asdict()} for name, spent in timed for line in lines(spent)])
    said = (
        f"<p>Wall time: <bdi>{page.escaped(walls)}</bdi>. The parts of an engine pool add up to its replicas times the "
        "wall time, those of the traces to the seconds of all traces from being admitted to being retired. What works "
        "beside the engines overlaps with them and with itself.</p>"
    )
    title = "Where the time goes"
    written.section("time", title, [said, written.table("time", title, tabled.TIME, frame)])


def deaths_section(written: Written, numbers: Sequence[Numbers]) -> None:
    """Add which replicas and routers died, if any did."""
    rows = [{"run": n.name, **row} for n in numbers for row in n.run.read_events().to_pylist() if row["what"] in DEATHS]
    if not rows:
        return
    frame = pd.DataFrame(rows)
    frame["time"] = frame["time"].dt.strftime("%Y-%m-%d %H:%M:%S")
    title = "What died"
    written.tables.append(Table("deaths", title, tabled.DEATHS, frame))
    shown = page.table(Table("deaths", title, tabled.DEATHS, frame.tail(MOST_DEATHS)))
    more = f", the last {MOST_DEATHS} of them below" if len(frame) > MOST_DEATHS else ""
    said = f"<p>{len(frame):,} deaths and starts given up{more}. No row was lost by them.</p>"
    written.section("deaths", title, [said, shown])


def _figures(numbers: Sequence[Numbers], compared: pd.DataFrame | None) -> Iterator[tuple[str, Any]]:
    """(file name without suffix, figure). Each is drawn when the one before was saved and closed."""
    for n in numbers:
        whose = n.name if len(numbers) > 1 else ""
        longest = n.confidence.groupby(KEYS, observed=True)["x"].transform("nunique")
        kinds = (
            ("confidence-by-step", n.confidence[longest > 1], figures.confidence),
            ("large-share", n.large_share, figures.large_share),
            ("auroc", n.auroc, figures.auroc),
        )
        for benchmark, split, points, grids in n.parts():
            figure = figures.curve(f"{benchmark}, {split}", points, grids, n.references(benchmark, split))
            yield figures.stem("curve", whose, benchmark, split), figure
            for kind, frame, draw in kinds:
                mine = frame[(frame["benchmark"] == benchmark) & (frame["split"] == split)]
                if len(mine):
                    yield figures.stem(kind, whose, benchmark, split), draw(mine)
    if compared is not None:
        for (a, b), mine in compared.groupby(["run_a", "run_b"], sort=False):
            yield figures.stem("comparison", a, b), figures.differences(mine, f"B = {b} against A = {a}")
