"""The columns of the report's tables, and how their numbers are written on the page, as Markdown and as CSV.

CSV holds the raw numbers under their plain names (accuracies 0 to 1, 1e12 FLOPs). The page and Markdown hold rounded
numbers with units, and leave out a column that is empty in every row.
"""

import csv
import io
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd

from pipelines.report.printed import dollars, unit_at


class Column(NamedTuple):
    name: str
    """The column of the data frame."""
    head: str
    kind: str
    """How its values are written: `text`; `mark` (yes or no); `count`, `number`, `ratio`; `percent` and `share` (a
    value of 0 to 1, with a decimal and without); `points` (a difference of shares); `flops`; `usd`; `change` (a
    difference in percent of A's)."""
    meaning: str
    ends: tuple[str, str] | None = None
    """Columns that hold the ends of the value's interval. With them, the cell shows the interval instead."""


class Table(NamedTuple):
    slug: str
    title: str
    columns: tuple[Column, ...]
    frame: pd.DataFrame

    def shown(self) -> list[Column]:
        """Columns that are not empty in every row; run and split only where there are several."""
        return [c for c in self.columns if c.name in self.frame and _says(self.frame, c)]


WHERE = (
    Column("run", "run", "text", "folder of the run"),
    Column("benchmark", "benchmark", "text", "what was asked"),
    Column("split", "split", "text", "test, or validation, on which thresholds are chosen"),
)
ROW = (
    *WHERE,
    Column("policy", "policy", "text", "who decides which model writes"),
    Column("setting", "setting", "text", "the policy's threshold"),
)
CURVE = (
    *ROW,
    Column("chosen", "chosen", "mark", "✓: the threshold that validation chose"),
    Column("plan", "plan", "mark", "✓: a chosen plan, by its label"),
    Column("pareto", "Pareto", "mark", "✓: no other row is as accurate and as cheap (flops_full), and better in one"),
    Column("questions", "questions", "count", "questions asked"),
    Column(
        "clusters",
        "clusters",
        "count",
        "groups of questions that share a rule or a passage; the unit of intervals",
    ),
    Column("answers", "answers", "count", "answers: one for each question, sample and sampling seed"),
    Column("accuracy", "accuracy %", "percent", "share of right answers; a question without an answer is wrong"),
    Column("accuracy", "95 % interval", "percent", "of the accuracy", ("accuracy_low", "accuracy_high")),
    Column("above_bar", "above random_query", "points", "points of accuracy above random_query at equal flops_paper"),
    Column("flops_paper", "{unit}, paper", "flops", "FLOPs a question: 2N for each generated token (flops_paper)"),
    Column(
        "flops_full", "{unit}, full", "flops", "the same with prompts, re-prefill, scoring and signals (flops_full)"
    ),
    Column("of_large_paper", "% of large, paper", "share", "flops_paper as a share of large-only's"),
    Column("of_large_full", "% of large, full", "share", "flops_full as a share of large-only's"),
    Column("usd_tokens", "$/question", "usd", "US dollars a question by the prices of tokens (usd_tokens)"),
    Column("usd_tokens_correct", "$/right answer", "usd", "what all questions cost, by the number of right answers"),
    Column("of_large_usd", "% of large, $", "share", "dollars a question as a share of large-only's"),
    Column("share_large", "large steps %", "share", "share of the kept steps that the large model wrote"),
    Column("tokens_discarded", "discarded tokens", "number", "tokens of thrown-away drafts and probes, a question"),
    Column("unanswered", "no answer %", "percent", "answers that failed or ran into a limit"),
)
RECOVERED = (
    *WHERE,
    Column("policy", "policy", "text", "the curve: all settings of this policy that were run here"),
    Column("settings", "settings", "count", "how many of them lie between small and large in cost"),
    Column("apgr", "APGR", "ratio", "share of the gap from small to large recovered, mean over the cost between them"),
    Column("cpt_50", "CPT(50) %", "share", "least cost that recovers 50 % of the gap; 0: small, 100: large alone"),
    Column("cpt_80", "CPT(80) %", "share", "the same for 80 % of the gap"),
)
ORACLE = (
    *WHERE,
    Column("questions", "questions", "count", "questions that small and large both answered"),
    Column("accuracy", "accuracy %", "percent", "of each question's better model"),
    Column("accuracy", "95 % interval", "percent", "of the accuracy", ("accuracy_low", "accuracy_high")),
    Column("share_large", "to large %", "share", "share of the questions whose better model is the large one"),
    Column("flops_paper", "{unit}, paper", "flops", "FLOPs a question of the better models (flops_paper)"),
    Column("flops_full", "{unit}, full", "flops", "the same by flops_full"),
)
PUBLISHED = (
    WHERE[0],
    WHERE[1],
    Column("name", "result", "text", "what was published"),
    Column("accuracy", "accuracy %", "percent", "as published, on all questions"),
    Column("of_large_paper", "% of large, generated", "share", "its generated FLOPs as a share of its large model's"),
    Column("of_large_full", "% of large, with signals", "share", "the same with its reward model's passes"),
    Column("source", "source", "text", "where"),
)
_MEASURE = (
    Column("measure", "measure", "text", "what was measured; routed by: the score that the policy used"),
    Column("scorer", "scored by", "text", "the model whose logits were measured, or the policy"),
)
AUROC = (
    *ROW,
    *_MEASURE,
    Column("auroc", "AUROC", "ratio", "chance that a right trace scores above a wrong one"),
    Column("auroc", "95 % interval", "ratio", "of the AUROC, over questions", ("auroc_low", "auroc_high")),
    Column("n", "traces", "count", "traces with at least one scored step"),
    Column("right", "right", "count", "of them right"),
    Column("scored", "steps scored %", "share", "share of the kept steps that have this score"),
)
_POLICY_B = (
    Column("policy_b", "policy B", "text", "row of B"),
    Column("setting_b", "setting B", "text", "its threshold"),
)
_B_LESS_A = (
    Column("questions", "questions", "count", "questions that both answered"),
    Column("only_a", "only in A", "count", "questions that B lacks"),
    Column("only_b", "only in B", "count", "questions that A lacks"),
    Column("accuracy_a", "accuracy A %", "percent", "on the shared questions"),
    Column("accuracy_b", "accuracy B %", "percent", "on the shared questions"),
    Column("accuracy_difference", "B − A, points", "points", "difference of accuracy"),
    Column("accuracy_difference", "95 % interval", "points", "of the difference", ("accuracy_low", "accuracy_high")),
    *(
        column
        for count in ("paper", "full")
        for column in (
            Column(f"flops_{count}_a", f"{{unit}} A, {count}", "flops", f"flops_{count} of A, on the shared questions"),
            Column(f"flops_{count}_difference", f"B − A %, {count}", "change", f"flops_{count}, in % of A's"),
            Column(
                *(f"flops_{count}_difference", "95 % interval", "change", "of the difference"),
                (f"flops_{count}_low", f"flops_{count}_high"),
            ),
        )
    ),
)
DEATHS = (
    Column("run", "run", "text", "the run's folder"),
    Column("time", "time (UTC)", "text", "when it was noticed"),
    Column("what", "what", "text", "docs/tables.md says what each means"),
    Column("role", "pool", "text", "whose replica it was"),
    Column("replica", "replica", "text", "its name, as in steps/"),
    Column("node", "node", "text", "Ray's id of the node that it ran on"),
    Column("reason", "reason", "text", "as it was told"),
)
AGAINST = (*WHERE, *_POLICY_B, *_B_LESS_A)
COMPARISON = (
    Column("run_a", "run A", "text", "folder of the first run"),
    Column("run_b", "run B", "text", "folder of the other"),
    *WHERE,
    Column("policy_a", "policy A", "text", "row of A"),
    Column("setting_a", "setting A", "text", "its threshold"),
    *_POLICY_B,
    *_B_LESS_A,
)
CONFIDENCE = (
    *ROW,
    *_MEASURE,
    Column("axis", "axis", "text", "step: number from 1; relative: middle of a tenth of the trace, in %"),
    Column("x", "x", "count", "place on that axis"),
    Column("correct", "right", "mark", "✓: right traces"),
    Column("n", "scores", "count", "scores in this point"),
    *(Column(name, name, "number", "of the scores") for name in ("mean", "q25", "median", "q75")),
)
LARGE_SHARE = (
    *ROW,
    Column("difficulty", "difficulty", "text", "the benchmark's own"),
    Column("correct", "right", "mark", "✓: right traces"),
    Column("position", "position %", "count", "middle of a tenth of the trace"),
    Column("share_large", "large steps %", "percent", "share of the steps there that the large model wrote"),
    Column("steps", "steps", "number", "steps there; a step over two tenths counts in both, by its parts"),
    Column("traces", "traces", "count", "traces of that difficulty and verdict"),
)
TIME = (
    WHERE[0],
    Column("of", "of", "text", "the whole: a pool's replicas x wall time, the traces' seconds, or what works beside"),
    Column("part", "part", "text", "what was done"),
    Column("seconds", "seconds", "number", "summed over replicas, traces or tasks"),
    Column("share", "%", "percent", "of the whole; of the wall time for what is beside the engines"),
    Column("meaning", "what it is", "text", "what the seconds hold"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\n", "＝", "＋", "－", "＠")
"""What a formula of a spreadsheet begins with; the last four are the wide forms, which some read as the others."""
_ONLY_IF_SEVERAL = ("run", "split", "run_a", "run_b")
_ONLY_IF_NOT_ZERO = ("only_a", "only_b", "tokens_discarded", "unanswered")


def _says(frame: pd.DataFrame, column: Column) -> bool:
    values = frame[column.name]
    if column.name in _ONLY_IF_SEVERAL:
        return values.nunique() > 1
    if column.name in ("answers", "clusters"):
        return bool((values != frame["questions"]).any())
    if column.kind in ("text", "mark") or column.name in _ONLY_IF_NOT_ZERO:
        return bool(values.astype(bool).any())
    return bool(values.notna().any())


def unit_of(frame: pd.DataFrame) -> tuple[float, str]:
    """The unit of the dearest row: (size in 1e12 FLOPs, name)."""
    costs = [frame[name].max() for name in ("flops_paper", "flops_paper_a") if name in frame and len(frame)]
    return unit_at(max(costs, default=0.0))


def head(column: Column, table: Table) -> str:
    return column.head.format(unit=f"{unit_of(table.frame)[1]}/question")


def written(column: Column, row: Any, size: float) -> tuple[str, float | None]:
    """The text of a cell, and the number by which it is sorted; None: by its text. `row` comes from `itertuples`."""
    value = getattr(row, column.name)
    if column.kind == "text":
        return str(value), None
    if column.kind == "mark":
        return ("✓" if value else "–"), float(bool(value))
    scale = _scale(column, row, size)
    if column.ends:
        low, high = (getattr(row, end) * scale for end in column.ends)
        if math.isnan(low):
            return "–", -math.inf
        between = " to " if column.kind in ("points", "change") else "–"
        return between.join(_number(column.kind, end) for end in (low, high)), float(low)
    if value is None or math.isnan(value * scale):
        return "–", -math.inf
    return _number(column.kind, value * scale), float(value * scale)


def _scale(column: Column, row: Any, size: float) -> float:
    if column.kind in ("percent", "points", "share"):
        return 100.0
    if column.kind == "flops":
        return 1 / size
    if column.kind == "change":
        base = getattr(row, column.name.replace("_difference", "_a"))
        return 100 / base if base else math.nan
    return 1.0


def _number(kind: str, value: float) -> str:
    if kind in ("count", "share"):
        return f"{value:,.0f}"
    if kind == "percent":
        return f"{value:.1f}"
    if kind == "usd":
        return dollars(value)
    if kind == "ratio":
        return f"{value:.3f}"
    if kind in ("points", "change"):
        return f"{value:+.1f}".replace("-0.0", "+0.0").replace("-", "−")
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def markdown(table: Table) -> str:
    """A Markdown table. Pipes, tags and line ends are escaped, so that a name cannot break it."""
    columns, size = table.shown(), unit_of(table.frame)[0]
    lines = [f"# {table.title}", "", _line(head(c, table) for c in columns)]
    lines.append(_line("---" if c.kind == "text" else "---:" for c in columns))
    lines += [_line(written(c, row, size)[0] for c in columns) for row in table.frame.itertuples(index=False)]
    lines += ["", *dict.fromkeys(f"- {head(c, table)}: {c.meaning}" for c in columns)]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    safe = (
        " ".join(str(cell).split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;") for cell in cells
    )
    return "| " + " | ".join(safe) + " |"


def as_csv(table: Table) -> str:
    """Every column with its raw numbers. The ends of intervals have columns of their own."""
    names = list(dict.fromkeys(n for c in table.columns for n in (c.name, *(c.ends or ())) if n in table.frame))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in table.frame[names].itertuples(index=False):
        writer.writerow(_raw(value) for value in row)
    return out.getvalue()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _raw(value: Any) -> Any:
    """The value as it is written. A text that a spreadsheet would run as a formula gets an apostrophe before it; a text
    that is a number, such as a difficulty of -1, stays one."""
    if isinstance(value, str):
        # Python's writer does not quote a carriage return, and what follows it would be a row of its own.
        value = value.replace("\r\n", "\n").replace("\r", "\n")
        return f"'{value}" if value.startswith(_FORMULA) and not _is_number(value) else value
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value
