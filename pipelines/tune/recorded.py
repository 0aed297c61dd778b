"""The settings that a sweep has measured, as candidates for a plan.

It reads the run folder of `steer sweep` or `steer run`, or a plain folder with `traces.parquet` and, for the policies
behind the cells' names, the `sweep.yaml` that it was run with.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

from pipelines.report.frames import load as load_frames
from pipelines.report.frames import rows_of
from steer.config.policy import BAR
from steer.config.thresholds import THRESHOLDS
from steer.plans.handover import Answers
from steer.statistics.frames import KEYS
from steer.storage.filesystem import open_filesystem
from steer.storage.run_folder import RunFolder

_CELL = re.compile(
    r"(?P<benchmark>[^/]+)/(?P<split>[^/]+)/(?P<label>.+?)(?:/(?P<setting>[\w.]+=[^/]+))?/seed(?P<seed>\d+)"
)
"""Name of a cell: benchmark/split/label[/setting]/seedN."""
_VALUES = ["correct", "flops_full", "flops_paper"]
TRACE_COLUMNS = ["cell", "question_id", "sample", "seed", *_VALUES]
Setting = tuple[str, str]
"""Label and setting, as a sweep's rows are named."""


class Recorded(NamedTuple):
    traces: pd.DataFrame
    """A line a trace: `KEYS`, question_id, sample, seed, correct, flops_full, flops_paper."""
    policies: dict[Setting, dict[str, Any]]
    """The configuration of each setting, as far as it is known."""
    described: dict[str, Any]
    """`run.json`; empty if there is none."""


def read_recorded(folder: str) -> Recorded:
    """Read the traces of a sweep. FileNotFoundError if there are none, ValueError if they are no sweep's."""
    if "://" not in folder and not (Path(folder) / "run.json").exists():
        return _plain(Path(folder))
    run = RunFolder.open(folder)
    described = run.describe()
    rows = rows_of(described)
    policies = {
        (rows[cell["name"]].policy, rows[cell["name"]].setting): dict(cell["policy"]) for cell in described["cells"]
    }
    return Recorded(load_frames(run, described), policies, described)


def _plain(folder: Path) -> Recorded:
    file = folder / "traces.parquet"
    if not file.exists():
        raise FileNotFoundError(f"{folder} holds neither run.json nor traces.parquet: give the --out folder of a sweep")
    filesystem, path, _ = open_filesystem(file)
    try:
        traces = pd.read_parquet(path, columns=TRACE_COLUMNS)
    except ValueError as failure:
        raise ValueError(f"{file} is no table of traces: {' '.join(str(failure).split())[:200]}") from None
    parsed = traces["cell"].str.extract(_CELL.pattern)
    if unnamed := sorted(set(traces["cell"][parsed["benchmark"].isna()])):
        raise ValueError(f"{file}: cell {unnamed[0]} is not named benchmark/split/label/setting/seedN as a sweep's are")
    traces["benchmark"], traces["split"] = parsed["benchmark"], parsed["split"]
    traces["policy"], traces["setting"] = parsed["label"], parsed["setting"].fillna("")
    traces["correct"] = traces["correct"].fillna(False).astype(bool)
    variants = _variants(folder / "sweep.yaml")
    policies = {}
    for label, setting in traces[["policy", "setting"]].drop_duplicates().itertuples(index=False):
        base = variants.get(label, {"name": label} if label in THRESHOLDS or label in BAR else None)
        if base is not None:
            key, equals, value = setting.partition("=")
            policies[label, setting] = {**base, **({key: float(value)} if equals else {})}
    return Recorded(traces, policies, {})


def _variants(file: Path) -> dict[str, dict[str, Any]]:
    """The policies of a sweep by their labels; empty if the file is not there."""
    if not file.exists():
        return {}
    held = yaml.safe_load(file.read_text(encoding="utf-8"))
    try:
        return {variant["label"]: dict(variant["policy"]) for variant in held["variants"]}
    except (TypeError, KeyError, ValueError):
        raise ValueError(f"{file} is no sweep's configuration: it needs variants, each with label and policy") from None


class OnSplit(NamedTuple):
    """The answers of each setting to the same questions of one benchmark and split."""

    benchmark: str
    split: str
    questions: tuple[str, ...]
    answers: dict[Setting, Answers]
    """[Q]; means over a question's answers."""
    first: dict[Setting, Answers]
    """[Q]; of each question the answer of the lowest seed and sample alone."""
    unfinished: tuple[Setting, ...]
    """Settings that did not answer every question that `small` and `large` answered."""

    def restricted(self, questions: set[str]) -> "OnSplit":
        """The same for some of the questions."""
        at_Q = np.array([question in questions for question in self.questions])
        answers, first = ({key: a.of(at_Q) for key, a in held.items()} for held in (self.answers, self.first))
        kept = tuple(question for question in self.questions if question in questions)
        return self._replace(questions=kept, answers=answers, first=first)


def on_split(recorded: Recorded, folder: str, benchmark: str | None = None, split: str = "validation") -> OnSplit:
    """The settings on one benchmark and split. ValueError, with the remedy, if it was not run or not by the bar's two
    models."""
    traces = recorded.traces
    found = sorted({str(b) for b in traces["benchmark"][traces["split"].astype(str) == split]})
    if benchmark is None and len(found) > 1:
        raise ValueError(f"{folder} has {split} questions of {', '.join(found)}: name one with --benchmark")
    if not found or (benchmark is not None and benchmark not in found):
        of = f" of {benchmark}" if benchmark else ""
        raise ValueError(f"{folder} has no answers to {split} questions{of}: a plan is chosen on those of a sweep")
    name = benchmark or found[0]
    mine = traces[(traces["split"].astype(str) == split) & (traces["benchmark"].astype(str) == name)]
    by_setting = {
        (str(label), str(setting)): rows.sort_values(["seed", "sample"])
        for (label, setting), rows in mine.groupby(KEYS[2:], observed=True, sort=False)
    }
    ends = {model: _bar_label(recorded, by_setting, model) for model in ("small", "large")}
    for model, setting in ends.items():
        if setting is None:
            raise ValueError(f"{folder} has no {split} answers by policy {model}: run the sweep with it, for the bar")
    shared = set.intersection(*(set(by_setting[key]["question_id"]) for key in ends.values() if key is not None))
    if not shared:
        raise ValueError(f"{folder}: small and large answered no {split} question in common")
    questions = tuple(sorted(shared))
    whole = {key: rows for key, rows in by_setting.items() if shared <= set(rows["question_id"])}
    left = tuple(key for key in by_setting if key not in whole)
    answers = {key: _answers(rows.groupby("question_id")[_VALUES].mean(), questions) for key, rows in whole.items()}
    first = {key: _answers(rows.groupby("question_id")[_VALUES].first(), questions) for key, rows in whole.items()}
    return OnSplit(name, split, questions, answers, first, left)


def _answers(by_question: pd.DataFrame, questions: tuple[str, ...]) -> Answers:
    values = by_question.loc[list(questions), _VALUES].astype(float)
    return Answers(*(values[name].to_numpy() for name in _VALUES))


def _bar_label(recorded: Recorded, settings: Mapping[Setting, Any], model: str) -> Setting | None:
    return next((key for key in settings if recorded.policies.get(key, {}).get("name") == model), None)


def settings_of(
    recorded: Recorded, answers: Mapping[Setting, Answers]
) -> dict[str, list[tuple[float, dict[str, Any], Answers]]]:
    """The routed settings as `steer.plans.candidates.measured` takes them, a family for each label.

    Settings whose policy is not known cannot be planned and are left out."""
    settings: dict[str, list[tuple[float, dict[str, Any], Answers]]] = {}
    for key, found in answers.items():
        policy = recorded.policies.get(key)
        if policy is not None and policy["name"] not in BAR:
            level = float(key[1].partition("=")[2] or 0.0)
            settings.setdefault(key[0], []).append((level, policy, found))
    return settings


def alone(recorded: Recorded, answers: Mapping[Setting, Answers], model: str) -> Answers:
    """The answers of policy `small` or `large`."""
    key = _bar_label(recorded, answers, model)
    assert key is not None, "on_split refuses a sweep without the bar's models"
    return answers[key]
