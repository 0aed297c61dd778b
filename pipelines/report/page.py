"""The report's page: one HTML file that fetches nothing.

Styles, script, plotly's library and all data are inlined, and the page's own Content-Security-Policy forbids every
request. Names and texts of runs are hostile: they enter the page through `html.escape` here, or as JSON (`embedded`).
"""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pipelines.report.tables import Table, head, unit_of, written
from pipelines.report.totals import GpuDollars, retried_line
from pipelines.report.trace_view import embedded
from steer.config.secrets import masked
from steer.statistics.auroc import AUROC_RESAMPLES
from steer.statistics.frames import MIN_SCORES
from steer.statistics.intervals import RESAMPLES

ASSETS = Path(__file__).parent / "assets"
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
INTERVALS = (
    "Intervals are 95 %. The unit is the question, or the cluster of questions that share a rule or a passage (where a "
    "table has the column clusters): Wilson's interval where each unit has one answer, else a "
    f"bootstrap over units ({RESAMPLES:,} resamples); AUROC by a bootstrap over units ({AUROC_RESAMPLES}), "
    f"differences by a paired bootstrap over units ({RESAMPLES:,}). They cover the noise of questions and "
    "sampling, not another benchmark, and are not widened for the number of rows compared."
)


def page(title: str, made: str, sections: Sequence[tuple[str, str, str]], data: dict[str, Any]) -> str:
    """The whole file. `sections`: (id, heading, HTML of the body). `made`: when it was made; two reports of the same
    runs differ in nothing else."""
    from plotly.offline import get_plotlyjs

    links = "".join(f'<li><a href="#{name}">{escaped(heading)}</a></li>' for name, heading, _ in sections)
    bodies = "".join(
        f'<section id="{name}" aria-labelledby="h-{name}"><h2 id="h-{name}">{escaped(heading)}</h2>{body}</section>'
        for name, heading, body in sections
    )
    style, script = ((ASSETS / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escaped(title)}</title>
<style>{style}</style>
</head>
<body>
<main>
<header><h1><bdi>{escaped(title)}</bdi></h1><p class="muted">STEER report, made {escaped(made)}</p>
<nav aria-label="Sections"><ul>{links}</ul></nav></header>
<noscript><p class="warning">Charts, sorting and the trace view need JavaScript. The tables are below.</p></noscript>
{bodies}
</main>
<script type="application/json" id="report-data">{embedded(data)}</script>
<script id="plotly">{get_plotlyjs()}</script>
<script>{script}</script>
</body>
</html>
"""


def escaped(text: Any) -> str:
    return html.escape(str(text), quote=True)


def note() -> str:
    """The footnote on intervals."""
    return f'<p class="note">{escaped(INTERVALS)}</p>'


def table(shown: Table) -> str:
    """A sortable table, and below it what its columns mean. It scrolls in its own box, so that the page does not."""
    columns, size = shown.shown(), unit_of(shown.frame)[0]
    number = [c.kind != "text" for c in columns]
    heads = "".join(
        f'<th scope="col"{" class=n" * n} title="{escaped(c.meaning)}"><button type="button">{escaped(head(c, shown))}'
        "</button></th>"
        for c, n in zip(columns, number, strict=True)
    )
    lines = []
    for row in shown.frame.itertuples(index=False):
        cells = []
        for column, n in zip(columns, number, strict=True):
            text, value = written(column, row, size)
            at = "" if value is None else f' data-v="{_sort_key(value)}"'
            cells.append(f"<td class=n{at}>{escaped(text)}</td>" if n else f"<td><bdi>{escaped(text)}</bdi></td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    means = dict.fromkeys((head(c, shown), c.meaning) for c in columns)
    explained = "".join(f"<dt>{escaped(h)}</dt><dd>{escaped(m)}</dd>" for h, m in means)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escaped(shown.title)}"><table class="sortable" '
        f'id="table-{shown.slug}"><thead><tr>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
        f'<details><summary>What the columns mean</summary><dl class="means">{explained}</dl></details>'
    )


def _sort_key(value: float) -> str:
    return "-Infinity" if value == float("-inf") else f"{value:.6g}"


def charts(drawn: Sequence[tuple[str, str]], rows: int = 0) -> str:
    """A group of charts that share one legend. `drawn`: (key in the data's `charts`, heading). `rows`: of a chart with
    rows, their number, by which it grows."""
    height = f' style="height:{110 + 44 * rows}px"' if rows else ""
    figures = "".join(
        f'<figure><h4><bdi>{escaped(name)}</bdi></h4><div class="chart" data-chart="{escaped(key)}" role="img" '
        f'aria-label="{escaped(name)}"{height}></div></figure>'
        for key, name in drawn
    )
    return f'<div class="chartgroup"><div class="legend"></div><div class="charts">{figures}</div></div>'


def setting_section() -> str:
    """One row of the report, closely. The script fills it from the data's `details`."""
    return f"""<p>Choose a row: how its confidence runs in right and in wrong traces, where in a trace the large model
writes, and how well each measure tells right from wrong. Rows whose answers are one step each are not listed.</p>
<div class="pickers"><label>setting<select id="pick-row"></select></label></div>
<h3>Confidence of right and wrong traces</h3>
<p class="note">Line: mean over the kept steps there. Band: the middle half. Points of fewer than {MIN_SCORES} scores
are left out; entropies are negated, so that more is always surer.</p>
<div class="pickers"><label>measure<select id="pick-measure"></select></label>
<label>along<select id="pick-axis"><option value="step">step</option>
<option value="relative">position in the trace</option></select></label></div>
<div class="legend" id="legend-confidence"></div>
<figure><div class="chart" id="detail-confidence" role="img" aria-label="confidence by step"></div></figure>
<div id="part-share"><h3>Where the large model writes</h3>
<p class="note">Share of the kept steps that the large model wrote, by the tenth of the trace and by difficulty, where
at least {MIN_SCORES} traces were right, or wrong.</p>
<div class="legend" id="legend-share-right"></div>
<div class="charts"><figure><h4>right traces</h4><div class="chart" id="detail-share-right" role="img"
aria-label="share of large steps, right traces"></div></figure>
<figure><h4>wrong traces</h4><div class="chart" id="detail-share-wrong" role="img"
aria-label="share of large steps, wrong traces"></div></figure></div></div>
<h3>AUROC of each measure</h3>
<p class="note" id="part-auroc-none">None: fewer than {MIN_SCORES} of this row's scored traces are right, or wrong.</p>
<figure><div class="chart" id="detail-auroc" role="img" aria-label="AUROC of each measure"></div></figure>"""


def traces_section(count: int, most: int) -> str:
    return f"""<p>{count} traces, drawn by seed so that right and wrong ones, mixed and one-model ones are there
(at most {most}). Point at a step's head for all of its scores.</p>
<p class="key"><span><span class="swatch small"></span>small model</span>
<span><span class="swatch large"></span>large model</span>
<span><span class="swatch dropped"></span><s>discarded draft</s></span></p>
<div class="pickers"><label>setting<select id="pick-cell"></select></label>
<label>question<select id="pick-trace"></select></label>
<button type="button" id="trace-before">← previous</button><button type="button" id="trace-after">next →</button>
<span class="muted" id="trace-place" aria-live="polite"></span></div>
<div id="trace"></div>"""


def run_section(name: str, described: dict[str, Any], gpus: GpuDollars | None = None) -> str:
    """What was run: models, benchmarks with their split rule, seeds, versions, commit, machine, and configuration.
    `gpus`: what its GPUs cost."""
    facts = [("folder", name), ("kind", described["kind"]), *_models(described)]
    for b in described.get("benchmarks", []):
        refused = f", {b['refused']} could not be asked" if b["refused"] else ""
        facts.append(("benchmark", f"{b['benchmark']}, {b['split']}: {b['traces']:,} traces{refused} ({b['rule']})"))
    facts.append(("seeds", ", ".join(map(str, described["seeds"]))))
    took = f", {described['seconds']:,.0f} s" if described.get("seconds") else ""
    facts.append(("started", f"{described['started']}{took}"))
    facts.append(("commit", described.get("git_commit") or "not from a git tree"))
    facts.append(("machine", described.get("host", "")))
    facts.append(("versions", ", ".join(f"{k} {v}" for k, v in described["versions"].items())))
    if gpus is not None:
        facts.append(("cost by GPU-hours", gpus.text()))
    for note in described.get("retried") or []:
        facts.append(("retried", retried_line(note)))
    for again in described.get("regraded") or []:
        facts.append(("regraded", ", ".join(f"{k} {v}" for k, v in again.items())))
    listed = "".join(f"<dt>{escaped(k)}</dt><dd><bdi>{escaped(v)}</bdi></dd>" for k, v in facts)
    warning = ""
    if not described.get("finished"):
        warning = '<p class="warning">This run did not end: its tables hold what was finished, not every question.</p>'
    config = yaml.safe_dump(masked(described["config"]), sort_keys=False, allow_unicode=True)
    return (
        f'{warning}<dl class="facts">{listed}</dl><details><summary>The whole configuration</summary>'
        f'<pre tabindex="0">{escaped(config)}</pre></details>'
    )


def _models(described: dict[str, Any]) -> list[tuple[str, str]]:
    """The models of the pair, each with its size if the engines told it."""
    pair, engines = described["config"].get("pair") or {}, described.get("engines") or {}
    if isinstance(pair, str):
        return [("pair", pair)]
    found = []
    for role, model in pair.items():
        path = model.get("path") if isinstance(model, dict) else model if role == "probe" else None
        size = (engines.get(role) or {}).get("parameters")
        if path:
            found.append((f"{role} model" if role != "probe" else role, f"{path}{_size(size)}"))
    return found


def _size(parameters: float | None) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if parameters and parameters >= size:
            return f", {parameters / size:.3g} {unit} parameters"
    return ""
