"""The sections that only the report of `steer experiment paper` has: the paper's tables and figures."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipelines.report import figures, page
from pipelines.report.charts import Chart
from pipelines.report.numbers import Numbers
from pipelines.report.paper import charts as paper_charts
from pipelines.report.paper import frames as paper_frames
from pipelines.report.tables import AGAINST, CURVE, WHERE, Column
from pipelines.report.written import Written
from steer.statistics import paired

_BY_NAME = {column.head: column for column in CURVE}
_, _BENCHMARK, _SPLIT = WHERE
_POLICY = Column("policy", "method", "text", "who decides which model writes")
_CORE = (
    _BENCHMARK,
    _POLICY,
    *(_BY_NAME[head] for head in ("setting", "accuracy %", "95 % interval")),
)
METHODS = (
    *_CORE,
    *(_BY_NAME[head] for head in ("{unit}, paper", "% of large, paper")),
    Column("a_f", "A/F", "number", "accuracy (%) by flops_paper in 1e12 FLOPs a question: the paper's A/F"),
    *(_BY_NAME[head] for head in ("% of large, full", "above random_query", "large steps %", "discarded tokens")),
)
GROUPS = (
    *_CORE[:2],
    Column("groups", "K", "count", "groups the questions were cut into"),
    Column("group_size", "group size", "count", "questions of one group"),
    *_CORE[2:],
    *METHODS[5:9],
)
PERCENTILES = (
    _BENCHMARK,
    _SPLIT,
    Column("measure", "measure", "text", "confidence measure"),
    Column("scorer", "scored by", "text", "whose logits: small's always, or those of the model that wrote the step"),
    Column("percent", "percentile", "count", "this share of the live traces, the least confident, goes to large"),
    *_CORE[3:],
    *METHODS[5:7],
)
_TIMES = (("mean", "mean s"), ("p10", "10th percentile s"), ("median", "median s"), ("p90", "90th percentile s"))
LATENCY = (
    *_CORE[:2],
    Column("decisions", "decisions", "count", "steps after which something was decided"),
    *(Column(name, head, "number", "of routing_seconds over these") for name, head in _TIMES),
    Column("generation", "a step's generation s", "number", "mean time from asking for a step to its text"),
)
STEP_AUROC = (
    _BENCHMARK,
    Column("signal", "signal", "text", "a measure of the small model's logits, or what a policy asks another model"),
    Column("of", "step", "text", "whether this step is right (same), or the one after it will be (next)"),
    Column("auroc", "AUROC", "ratio", "chance that a right step has the higher signal than a wrong one"),
    Column("auroc", "95 % interval", "ratio", "over questions", ("auroc_low", "auroc_high")),
    Column("n", "steps", "count", "steps by the small model before which all is right"),
    Column("right", "right", "count", "of them right"),
)


@dataclass(frozen=True)
class Paper:
    """The frames of one experiment."""

    methods: pd.DataFrame
    best: pd.DataFrame
    groups: pd.DataFrame
    percentiles: pd.DataFrame
    against: pd.DataFrame
    """Each method against `steer`, question by question."""
    latency: pd.DataFrame
    step_auroc: pd.DataFrame


def measured(n: Numbers) -> Paper:
    return Paper(
        paper_frames.methods(n.curve),
        paper_frames.best_on_test(n.curve),
        paper_frames.groups(n.curve),
        paper_frames.percentiles(n.curve),
        paired.against(n.traces[n.traces["policy"].isin(paper_frames.METHODS)], "steer"),
        paper_frames.latency(n.run, n.traces),
        paper_frames.step_auroc(n.run, n.traces),
    )


def sections(paper: Paper, written: Written) -> None:
    """Add the paper's sections to the report."""
    table = written.table
    written.section(
        "paper-methods",
        "Tables 1 and 2: accuracy, compute, A/F",
        [
            "<p>Every method at the threshold that validation chose; <code>steer paper</code> is Algorithm 1 to the "
            "letter, <code>steer</code> this project's default.</p>",
            table("table-1-2", "Accuracy, FLOPs and A/F on test", METHODS, paper.methods),
            "<h3>Best on test</h3><p class='warning'>Threshold chosen on the test questions themselves, as the paper "
            "reports: optimistic.</p>",
            table("table-1-2-best-on-test", "Best threshold on test", METHODS, paper.best),
        ],
    )
    written.section(
        "paper-against",
        "Against steer: who is ahead",
        [
            "<p>A is <code>steer</code> at its chosen threshold, B each other method at its own, question by question. "
            "B is ahead where it is as accurate and the interval of its <code>flops_full</code> lies below 0, or where "
            "it costs no more and the interval of its accuracy lies above 0.</p>",
            table("against-steer", "Each method against steer", AGAINST, paper.against),
            page.note(),
        ],
    )
    written.section(
        "paper-groups",
        "Table 3: K groups",
        [
            "<p>The questions are cut into K groups that are routed independently; gamma is chosen on validation for "
            "each K.</p>",
            table("table-3", "Accuracy by number of groups", GROUPS, paper.groups),
        ],
    )
    body = ["<p>Accuracy on validation when the least confident share of each step goes to the large model.</p>"]
    for benchmark, rows in paper.percentiles.groupby("benchmark", sort=False, observed=True):
        written.chart(f"figure-3-{benchmark}", paper_charts.percentiles(rows))
        body.append(f"<h3>{page.escaped(benchmark)}</h3>{page.charts([(f'figure-3-{benchmark}', 'by percentile')])}")
    body.append(table("figure-3", "Accuracy by percentile", PERCENTILES, paper.percentiles))
    written.section("paper-percentiles", "Figure 3: which measure, whose logits", body)
    body = [
        "<p>What a routing decision took in this run: the small model's pass over a step of the large one, a probe, a "
        "reward model's, judge's or query probe's answer (each from asking to answer, under the run's load), and the "
        "policy's share of work. Waiting for others at a barrier is left out.</p>"
    ]
    for benchmark, rows in paper.latency.groupby("benchmark", sort=False, observed=True):
        key = f"figure-4-{benchmark}"
        written.chart(key, paper_charts.latency(rows))
        body.append(f"<h3>{page.escaped(benchmark)}</h3>{page.charts([(key, 'mean')], rows=len(rows))}")
    body.append(table("figure-4", "Routing latency of a step", LATENCY, paper.latency))
    written.section("paper-latency", "Figure 4: routing latency", body)
    if len(paper.step_auroc):
        said = (
            "<p>The small model writes every step, each signal looks on. Only steps before which all is right "
            "count; what is right the generator of the questions knows.</p>"
        )
        found = table("step-auroc", "AUROC of each signal for the same and the next step", STEP_AUROC, paper.step_auroc)
        written.section("paper-auroc", "AUROC of each signal, same and next step", [said, found, page.note()])


def drawn(paper: Paper) -> Iterator[tuple[str, Any]]:
    """(file name without suffix, figure) of the paper's own figures, each with a panel a benchmark."""
    kinds: tuple[tuple[str, pd.DataFrame, Callable[[pd.DataFrame], Chart]], ...] = (
        ("figure-3-percentiles", paper.percentiles, paper_charts.percentiles),
        ("figure-4-latency", paper.latency, paper_charts.latency),
        ("step-auroc", paper.step_auroc, paper_charts.step_auroc),
    )
    for name, frame, build in kinds:
        if len(frame):
            panels = [build(rows) for _, rows in frame.groupby("benchmark", sort=False, observed=True)]
            yield name, figures.sheet(panels, wide=2, size=figures.PAPER_INCHES)
