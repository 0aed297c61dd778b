"""`steer search`: what hand-over-once policies would do on a prefix table, by cross-validation and without a model."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.report.printed import unit_at
from steer.config.load import refusals_as_settings_errors
from steer.plans.bar import Standing, bar_accuracy, standing
from steer.plans.candidates import Candidates, search
from steer.plans.choose import routed
from steer.plans.handover import Answers
from steer.plans.knobs import Knob
from steer.plans.table import PrefixTable, read_prefix_table
from steer.storage.run_folder import RunFolder

BUDGETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Budgets of the printed frontier, as shares of the large model's `flops_full`."""


@dataclass(frozen=True)
class Row:
    """A budget of the frontier."""

    budget: float
    setting: str
    """Family chosen on all questions; the standing is that of choices made without each fold."""
    policy: dict[str, Any]
    standing: Standing


def run_search(folder: str, folds: int = 5, seed: int = 0, of: str | None = None, json_path: str | None = None) -> str:
    """Search the prefix table in a folder, write `search.parquet` and `search.json` beside it, and return the text.

    `of`: benchmark and split, if the folder has several. `json_path`: another file for the frontier. Raises
    SettingsError for a folder without a prefix table and for a number of folds that its questions do not allow.
    """
    with refusals_as_settings_errors():
        table = read_prefix_table(folder, of)
        candidates = search(table, folds, seed)
    rows = frontier(candidates, seed)
    run = RunFolder.open(folder)
    buffer = pa.BufferOutputStream()
    pq.write_table(settings_table(candidates), buffer, compression="zstd")
    run.write_file("search.parquet", buffer.getvalue().to_pybytes())
    data = json.dumps(described(table, candidates, rows, folds, seed), indent=2) + "\n"
    run.write_file("search.json", data.encode())
    if json_path is not None:
        Path(json_path).write_text(data, encoding="utf-8")
    return printed(table, candidates, rows, folds)


def frontier(candidates: Candidates, seed: int = 0) -> list[Row]:
    """The best routed setting at each budget that a routed setting can meet."""
    rows = []
    for budget in BUDGETS:
        procedure = routed(candidates, Knob(name="budget", value=budget))
        if procedure.picked is not None:
            family, level = procedure.picked
            chosen = candidates.families[family]
            found = standing(procedure.held, candidates.small, candidates.large, seed)
            rows.append(Row(budget, chosen.name, chosen.policies[level], found))
    return rows


def settings_table(candidates: Candidates) -> pa.Table:
    """A row for each setting, by its held-out answers: family, level, policy (JSON), accuracy, flops_full, flops_paper,
    cost (share of large's flops_full), bar, above_bar."""
    small, large = candidates.small, candidates.large
    blocks = []
    for family in candidates.families:
        right, full, paper = (values.mean(axis=1) for values in family.held)
        bar = bar_accuracy(
            full, small.flops_full.mean(), small.correct.mean(), large.flops_full.mean(), large.correct.mean()
        )
        blocks.append(
            pa.table(
                {
                    "family": [family.name] * len(family.levels),
                    "level": list(family.levels),
                    "policy": [json.dumps(policy) for policy in family.policies],
                    "accuracy": right,
                    "flops_full": full,
                    "flops_paper": paper,
                    "cost": full / large.flops_full.mean(),
                    "bar": bar,
                    "above_bar": right - bar,
                }
            )
        )
    return pa.concat_tables(blocks).sort_by("flops_full")


def described(table: PrefixTable, candidates: Candidates, rows: list[Row], folds: int, seed: int) -> dict[str, Any]:
    """The frontier as JSON values."""
    return {
        "benchmark": table.benchmark,
        "questions": len(table),
        "left_out": dict(table.left_out),
        "folds": folds,
        "seed": seed,
        "settings": sum(len(family.levels) for family in candidates.families),
        "small": _mean(candidates.small),
        "large": _mean(candidates.large),
        "frontier": [
            {
                "budget": row.budget,
                "setting": row.setting,
                "policy": row.policy,
                **row.standing._asdict(),
                "is_above_bar": row.standing.is_above_bar,
            }
            for row in rows
        ],
    }


def _mean(answers: Answers) -> dict[str, float]:
    return {name: float(np.mean(values)) for name, values in answers._asdict().items()}


def printed(table: PrefixTable, candidates: Candidates, rows: list[Row], folds: int) -> str:
    """The frontier as text."""
    small, large = candidates.small, candidates.large
    settings = sum(len(family.levels) for family in candidates.families)
    size, unit = unit_at(float(large.flops_full.mean()))
    lines = [
        f"{table.benchmark}: {len(table)} questions, {settings:,} settings of {len(candidates.families)} families, "
        f"{folds} folds",
        *(f"left out: {count} ({reason})" for reason, count in table.left_out),
        f"small {_percent(small.correct.mean())} at {small.flops_full.mean() / size:.3g} {unit} a question, large "
        f"{_percent(large.correct.mean())} at {large.flops_full.mean() / size:.3g}",
        "",
        f"{'budget':>6}  {'cost':>5} {'95 %':>9}  {'accuracy':>8} {'95 %':>13}  {'vs coin':>7} {'95 %':>13}    setting",
    ]
    for row in rows:
        found = row.standing
        lines.append(
            f"{row.budget:6.0%}  {found.cost:5.0%} {_ends(found.cost_interval, '.0f'):>9}  {100 * found.accuracy:8.1f} "
            f"{_ends(found.accuracy_interval):>13}  {100 * found.above_bar:+7.1f} "
            f"{_ends(found.above_bar_interval, '+.1f'):>13}  {'*' if found.is_above_bar else ' '} {row.setting}"
        )
    notes = [
        "",
        "cost: % of the large model's flops_full. vs coin: points above sending random questions to the large model at "
        "that cost.",
        "*: above the coin with its 95 % interval. Every figure is from held-out questions, whose fold had no part in "
        "the choice.",
    ]
    if not any(row.standing.is_above_bar for row in rows):
        notes.append("No budget has a setting above the coin with its interval: routing does not pay here.")
    return "\n".join(lines + notes)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _ends(ends: tuple[float, float], form: str = ".1f") -> str:
    return " to ".join(f"{100 * end:{form}}" for end in ends)
