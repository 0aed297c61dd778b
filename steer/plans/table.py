"""The prefix table: small's answer to each question, and large's completion from every step boundary of it.

With it every policy that hands a trace over once is priced without generating again: the small model's steps and their
scores say where the policy would hand over, and the completion from that boundary says what would come of it.

Axes: `_Q` questions, `_K` steps of small's answer, from 0. Rows of `_QK` are padded behind a question's last step: with
NaN in scores, with 0 or False elsewhere. Invariant: question q has `steps_Q[q]` >= 1 steps, and a completion from the
boundary before each of them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from steer.storage.filesystem import open_filesystem
from steer.storage.run_folder import RunFolder
from steer.storage.schemas import SCHEMAS
from steer.traces import MEASURES

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Column = npt.NDArray[Any]

AGGREGATES = {"mean": "{}_small", "min": "{}_min_small", "window": "{}_window_small", "tenth": "{}_tenth_small"}
"""How token scores become a step's score, with the column of `steps/` that holds it."""

COUNTED = "scored_tokens_small"
"""Column of `steps/` with the number of tokens that the scores are taken over."""
_CELL = re.compile(r"(?P<of>.*?)(?:^|/)(?:(?P<small>small)|large@(?P<step>\d+))(?:/seed(?P<seed>\d+))?")
"""Name of a cell: `small` or `large@K`, after its benchmark and split and before its seed where those are named."""


@dataclass(frozen=True)
class PrefixTable:
    questions: tuple[str, ...]
    """Question ids [Q], sorted."""
    steps_Q: Ints
    """Steps of small's answer."""
    tokens_QK: Floats
    """Tokens of each step."""
    scored_QK: Floats
    """Tokens of each step that its scores are taken over; NaN where it was not recorded."""
    scores: dict[tuple[str, str], Floats]
    """By measure and aggregate: a score for each step [Q, K]. Larger is surer. NaN where it was not measured."""
    small_correct_Q: Bools
    small_prompt_Q: Floats
    """Prompt tokens, which the small model reads once."""
    large_correct_QK: Bools
    """Whether small's steps before step k, completed by the large model, are right. Column 0: the large model alone."""
    large_tokens_QK: Floats
    large_prompt_QK: Floats
    """Tokens of prompt and prefix, all of which the large model reads at a hand-over."""
    n_small: float
    """Parameter count N."""
    n_large: float
    benchmark: str = ""
    left_out: tuple[tuple[str, int], ...] = ()
    """Why questions of the run are not in the table, and how many for each reason."""

    def __len__(self) -> int:
        return len(self.questions)

    @property
    def inside_QK(self) -> Bools:
        """Which entries are steps, not padding."""
        inside: Bools = np.arange(self.tokens_QK.shape[1]) < self.steps_Q[:, None]
        return inside

    def take(self, chosen: npt.ArrayLike) -> "PrefixTable":
        """The table of some questions: positions or a mask [Q]. Questions may be repeated."""
        at = np.arange(len(self))[np.asarray(chosen)]
        arrays = {name: value[at] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        names = tuple(self.questions[i] for i in at)
        scores = {key: score_QK[at] for key, score_QK in self.scores.items()}
        return replace(self, questions=names, scores=scores, **arrays)


def read_prefix_table(root: str, of: str | None = None) -> PrefixTable:
    """Read the table from the run folder that `steer prefixes` wrote.

    `of`: how the names of the cells that are read begin: the benchmark, or benchmark and split
    (`chain_math/validation`). It is needed only if the run has several. A question with a failed or missing completion,
    or without recorded steps, is left out and counted. Raises FileNotFoundError if there is no run, and ValueError if
    it does not hold a prefix table.
    """
    run = RunFolder.open(root)
    described = run.describe()
    if described.get("kind") != "prefixes":
        raise ValueError(
            f"{root} is a run of `steer {described.get('kind')}`, not a prefix table: give the --out folder of "
            "`steer prefixes`"
        )
    n_small, n_large = (_parameters(root, described, role) for role in ("small", "large"))
    traces, steps = (_read(run, table) for table in ("traces", "steps"))
    cells = _cells(root, pc.unique(traces["cell"]).to_pylist(), of)
    small = _of_cell(traces, cells[-1])
    ids, first = np.unique(_text(small["question_id"]), return_index=True)
    if len(ids) < small.num_rows:
        raise ValueError(f"{root}: cell {cells[-1]} answers a question twice: a prefix table needs one answer of each")
    small = small.take(first)
    answered_Q = _answered(small)
    steps_Q, at, numbers, steps = _placed(ids, _of_cell(steps, cells[-1]))
    K = int(steps_Q.max(initial=0))
    if not K:
        raise ValueError(f"{root}: steps/ holds no steps of cell {cells[-1]}: run `steer prefixes` again")

    def by_step(values: Floats, empty: float) -> Floats:
        padded_QK = np.full((len(ids), K), empty)
        padded_QK[at, numbers] = values
        return padded_QK

    completed_QK = np.zeros((len(ids), K), bool)
    correct_QK = np.zeros((len(ids), K), bool)
    tokens_QK, prompt_QK = np.zeros((len(ids), K)), np.zeros((len(ids), K))
    for step in range(K):
        if step in cells:
            rows = _of_cell(traces, cells[step])
            q = np.searchsorted(ids, _text(rows["question_id"])).clip(max=len(ids) - 1)
            rows, q = _known(rows, ids, q)
            completed_QK[q, step] = _answered(rows)
            correct_QK[q, step] = _bools(rows["correct"])
            tokens_QK[q, step] = _counts(root, "traces", rows, "tokens_large")
            prompt_QK[q, step] = _counts(root, "traces", rows, "prompt_tokens")
    needed_QK = np.arange(K) < steps_Q[:, None]
    whole_Q = (completed_QK | ~needed_QK).all(axis=1)
    reasons_Q = {
        "the small model's answer failed": ~answered_Q,
        "no steps of the small model's answer": answered_Q & (steps_Q == 0),
        "a completion failed or is missing": answered_Q & (steps_Q > 0) & ~whole_Q,
    }
    keep_Q = answered_Q & (steps_Q > 0) & whole_Q
    if not keep_Q.any():
        why = "; ".join(f"{reason}: {int(mask_Q.sum())}" for reason, mask_Q in reasons_Q.items())
        raise ValueError(f"{root}: no question has all of its completions ({why}): resume `steer prefixes` there")
    table = PrefixTable(
        questions=tuple(ids.tolist()),
        steps_Q=steps_Q,
        tokens_QK=by_step(_counts(root, "steps", steps, "tokens"), 0.0),
        scored_QK=by_step(_floats(steps[COUNTED]), np.nan),
        scores={key: by_step(_floats(steps[column]), np.nan) for key, column in _measured(steps)},
        small_correct_Q=_bools(small["correct"]),
        small_prompt_Q=_counts(root, "traces", small, "prompt_tokens"),
        large_correct_QK=correct_QK & needed_QK,
        large_tokens_QK=np.where(needed_QK, tokens_QK, 0.0),
        large_prompt_QK=np.where(needed_QK, prompt_QK, 0.0),
        n_small=n_small,
        n_large=n_large,
        benchmark=str(small["benchmark"][0].as_py()),
        left_out=tuple((reason, int(mask_Q.sum())) for reason, mask_Q in reasons_Q.items() if mask_Q.any()),
    )
    if not table.scores:
        columns = ", ".join(column.format("max_logit") for column in AGGREGATES.values())
        raise ValueError(f"{root}: steps/ holds no scores by the small model (columns {columns} and so on)")
    return table.take(keep_Q)


def _parameters(root: str, described: dict[str, Any], role: str) -> float:
    try:
        return float(described["engines"][role]["parameters"])
    except (KeyError, TypeError):
        raise ValueError(
            f"{root}/run.json has no engines.{role}.parameters, which FLOPs are charged by: let `steer prefixes` finish"
        ) from None


def _read(run: RunFolder, table: str) -> pa.Table:
    """All columns of a table as its parts hold them; null where a part lacks one."""
    filesystem, path, _ = open_filesystem(run.root)
    parts = run.parts(table)
    held = [pads.dataset(part, format="parquet", filesystem=filesystem).schema for part in parts]
    schema = pa.unify_schemas([SCHEMAS[table], *held], promote_options="permissive")
    return pads.dataset(parts, schema, format="parquet", filesystem=filesystem).to_table()


def _counts(root: str, table: str, rows: pa.Table, column: str) -> Floats:
    """A column of counts. ValueError if some are null: without them nothing can be priced."""
    counts = _floats(rows[column])
    if np.isnan(counts).any():
        raise ValueError(f"{root}/{table}: column {column} is empty in some rows: run `steer prefixes` again")
    return counts


def _cells(root: str, names: list[str], of: str | None) -> dict[int, str]:
    """The names of the cells: by K of `large@K`, and by -1 that of `small`."""
    found: dict[str, dict[int, str]] = {}
    for name in names:
        if match := _CELL.fullmatch(name):
            key = -1 if match["small"] else int(match["step"])
            cells = found.setdefault(match["of"].strip("/"), {})
            if key in cells:
                raise ValueError(f"{root}: cells {cells[key]} and {name} differ in their seed: a table needs one seed")
            cells[key] = name
    if of is not None:
        found = {key: cells for key, cells in found.items() if f"{key}/".startswith(f"{of.strip('/')}/")}
    if len(found) != 1:
        what = f"prefixes of {', '.join(sorted(found))}" if found else "no cells small and large@0, large@1, .."
        raise ValueError(f"{root}/traces holds {what}: name one benchmark and split that it has prefixes of")
    (cells,) = found.values()
    for key, name in ((-1, "small"), (0, "large@0")):
        if key not in cells:
            raise ValueError(f"{root}/traces has no cell {name}: resume `steer prefixes` there")
    return cells


def _placed(ids: Column, steps: pa.Table) -> tuple[Ints, Ints, Ints, pa.Table]:
    """Steps of each question [Q]; question and step number of each row; and the rows of known questions.

    A question whose step numbers are not 0, 1, .. each once has 0 steps."""
    q = np.searchsorted(ids, _text(steps["question_id"])).clip(max=len(ids) - 1)
    steps, q = _known(steps, ids, q)
    numbers = _floats(steps["step"]).astype(np.int64)
    counted_Q = np.bincount(q, minlength=len(ids))
    last_Q = np.full(len(ids), -1)
    np.maximum.at(last_Q, q, numbers)
    distinct_Q = np.bincount(np.unique(np.stack([q, numbers], 1), axis=0)[:, 0], minlength=len(ids))
    steps_Q = np.where((counted_Q == last_Q + 1) & (distinct_Q == counted_Q), counted_Q, 0)
    whole = steps_Q[q] > 0
    return steps_Q, q[whole], numbers[whole], steps.filter(pa.array(whole))


def _known(rows: pa.Table, ids: Column, q: Ints) -> tuple[pa.Table, Ints]:
    """The rows whose question is in `ids`, and their position there."""
    known = ids[q] == _text(rows["question_id"])
    return rows.filter(pa.array(known)), q[known]


def _measured(steps: pa.Table) -> Iterator[tuple[tuple[str, str], str]]:
    """Measure and aggregate of each score column that holds a number, with its name."""
    for measure in MEASURES:
        for aggregate, column in AGGREGATES.items():
            name = column.format(measure)
            if name in steps.column_names and np.isfinite(_floats(steps[name])).any():
                yield (measure, aggregate), name


def _of_cell(rows: pa.Table, cell: str) -> pa.Table:
    return rows.filter(pc.equal(rows["cell"], cell))


def _answered(rows: pa.Table) -> Bools:
    """Whether a trace ended without an error."""
    return np.array([status != "error" for status in rows["status"].to_pylist()], bool)


def _text(column: pa.ChunkedArray) -> Column:
    return np.array(column.to_pylist(), str)


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.array(column.to_pandas().to_numpy(np.float64, na_value=np.nan))


def _bools(column: pa.ChunkedArray) -> Bools:
    """A null verdict counts as wrong."""
    return np.array(pc.fill_null(column, False).to_pylist(), bool)
