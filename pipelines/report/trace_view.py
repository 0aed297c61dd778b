"""A bounded sample of a run's traces for the page's trace view: steps in order, with discarded drafts in their place.

What models wrote is hostile. It leaves this module only as JSON values, which `embedded` writes. The page's script puts
them into the document as text nodes inside `<bdi>`, never as HTML.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset as pads

from pipelines.report.charts import measure_label, row_label
from pipelines.report.frames import read
from steer.statistics.frames import SCORES, by_row
from steer.storage.run_folder import RunFolder

MOST_TRACES = 60
MOST_STEPS = 200
"""Steps shown of one trace; the rest is counted."""
MOST_CHARACTERS = 2000
"""Shown of one text; the rest is counted."""
STEP_COLUMNS = (
    *("cell", "trace_id", "step", "attempt", "model", "accepted", "text", "tokens", "posterior", "decision"),
    *("replica", "finish", *SCORES),
)
TRACE_COLUMNS = (
    *("cell", "trace_id", "prompt", "gold", "extracted", "correct", "rule", "status", "error", "difficulty"),
    *("grader", "tokens_small", "tokens_large", "tokens_discarded", "flops_signal"),
)


def sample(traces: pd.DataFrame, most: int = MOST_TRACES, seed: int = 0) -> pd.DataFrame:
    """At most `most` traces, drawn by seed and spread evenly over the rows.

    Within a row they alternate between its kinds: right or wrong, mixed or of one model, with or without a discarded
    draft."""
    drawn = traces.assign(_draw=np.random.default_rng(seed).permutation(len(traces)))
    ranked = []
    for number, (_, mine) in enumerate(by_row(drawn)):
        mine = mine.sort_values("_draw")
        mixed = (mine["steps_large"] > 0) & (mine["steps_large"] < mine["steps"])
        kinds = [mine["correct"], mixed, mine["tokens_discarded"] > 0]
        # The first of each kind, then the second of each. Mixed ones come first, since they show routing at work.
        turn = mine.groupby(kinds, sort=False).cumcount() * 4 + (~mixed) * 2 + mine["correct"]
        mine = mine.assign(_turn=turn).sort_values(["_turn", "_draw"])
        ranked.append(mine.assign(_turn=range(len(mine)), _row=number))
    chosen = pd.concat(ranked).sort_values(["_turn", "_row"], kind="stable").head(most)
    return chosen.sort_values(["_row", "_turn"]).drop(columns=["_draw", "_turn", "_row"])


def records(run: RunFolder, run_name: str, chosen: pd.DataFrame) -> list[dict[str, Any]]:
    """JSON values of the chosen traces (lines of `frames.load`), in their order."""
    if not len(chosen):
        return []
    wanted = pads.field("cell").isin(_unique(chosen["cell"])) & pads.field("trace_id").isin(_unique(chosen["trace_id"]))
    heads = {(t["cell"], t["trace_id"]): t for t in read(run, "traces", TRACE_COLUMNS, wanted).to_pylist()}
    steps: dict[tuple, list[dict]] = {key: [] for key in heads}
    table = read(run, "steps", STEP_COLUMNS, wanted).sort_by([("step", "ascending"), ("attempt", "ascending")])
    for step in table.to_pylist():
        steps.setdefault((step["cell"], step["trace_id"]), []).append(step)
    found = []
    for row, mine in by_row(chosen):
        for t in mine.itertuples():
            key = (str(t.cell), t.trace_id)
            found.append({"run": run_name, "row": row_label(row), **_head(heads[key]), "steps": _steps(steps[key])})
    return found


def _head(trace: dict[str, Any]) -> dict[str, Any]:
    kept = ("trace_id", "cell", "difficulty", "grader", "rule", "status")
    numbers = ("tokens_small", "tokens_large", "tokens_discarded", "flops_signal")
    cut = {name: _cut(trace[name]) for name in ("prompt", "gold", "extracted", "error")}
    values = {name: _number(trace.get(name)) for name in numbers}
    return {name: trace[name] for name in kept} | cut | values | {"correct": bool(trace["correct"])}


def _steps(steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = [
        {
            "step": step["step"] + 1,
            "model": step["model"],
            "kept": bool(step["accepted"]),
            "text": _cut(step["text"]),
            "scores": [
                [measure_label(*names), value]
                for name, names in SCORES.items()
                if names[1] != "policy" and (value := _number(step.get(name))) is not None
            ],
            **{name: _number(step.get(name)) for name in ("confidence", "posterior", "signal")},
            **{name: step[name] for name in ("tokens", "decision", "replica", "finish")},
        }
        for step in steps[:MOST_STEPS]
    ]
    if len(steps) > MOST_STEPS:
        shown.append({"more": len(steps) - MOST_STEPS})
    return shown


def _cut(text: str | None) -> dict[str, Any]:
    """The head of a text, and how many characters were left out."""
    text = text or ""
    return {"head": text[:MOST_CHARACTERS], "more": max(len(text) - MOST_CHARACTERS, 0)}


def _number(value: float | None) -> float | None:
    """The value with five significant digits; None if there is no finite one."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.5g}")


def _unique(values: pd.Series) -> list[str]:
    return [str(v) for v in values.unique()]


def embedded(value: Any) -> str:
    """JSON that no browser reads as markup inside a `<script type="application/json">`.

    `<`, `>`, `&` and the two line separators are written as escapes, so that `</script` and `<!--` cannot occur."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
