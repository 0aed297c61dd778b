"""Finished traces as the Arrow table that the router yields (`ROUTED_SCHEMA`), built column by column."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from steer.config.run import TokenPrices
from steer.costs.flops import UNIT, flops_full, flops_paper
from steer.costs.money import traces_usd
from steer.storage.schemas import MIXTURE_STRUCT, ROUTED_SCHEMA, STEP_STRUCT, TOKEN_STRUCT, TRACE_FIELDS
from steer.thoughts import answer_start
from steer.traces import SCORES, Model, Role, Step, Trace, score_columns

_MODEL_LABELS = tuple(model.label for model in Model)
_NOT_SCORED = (None,) * SCORES


def routed_table(
    traces: Sequence[Trace],
    mixtures: Sequence[dict[str, Any]],
    parameters: Sequence[float],
    prices: Mapping[Role, TokenPrices] | None = None,
) -> pa.Table:
    """A row for each of `traces`, with nested steps. `mixtures` (MIXTURE_STRUCT rows) ride on the first row.

    `parameters`: the nominal parameter counts by `Role`, from which the FLOPs (units of 1e12) follow; 0 for a role that
    the run does not have. `prices`: of the pair's models, from which the dollars follow (`steer.costs.money`).
    """
    n_small, n_large = parameters[Role.SMALL], parameters[Role.LARGE]
    signal_tokens_LO = np.array([t.tokens_signal for t in traces], np.float64).reshape(-1, len(Role))
    flops_signal_L = 2.0 * signal_tokens_LO @ np.asarray(parameters, np.float64) / UNIT
    small_L = np.array([t.tokens_small for t in traces])
    large_L = np.array([t.tokens_large for t in traces])
    prefill_small_L = np.array([t.prefill_small for t in traces])
    prefill_large_L = np.array([t.prefill_large for t in traces])
    steps = [step for trace in traces for step in trace.steps]
    offsets = np.cumsum([0, *(len(trace.steps) for trace in traces)], dtype=np.int32)
    # By `zip`: taking one field of every step after another takes twice as long.
    by_field = (
        dict(zip(Step._fields, zip(*steps, strict=True), strict=True)) if steps else dict.fromkeys(Step._fields, ())
    )
    accepted = np.array(by_field["accepted"], bool)
    thought = np.array([known for trace in traces for known in _thought(trace)], bool)
    tokens = np.array(by_field["tokens"], np.int64)
    steps_L = _counts(accepted, offsets)
    steps_large_L = _counts(accepted & (np.array(by_field["model"], np.int8) == Model.LARGE), offsets)
    signals = [_signal_role(t) for t in traces]
    columns = {
        "trace_id": [t.question.trace_id for t in traces],
        "cell": [t.cell for t in traces],
        "group_id": [t.group for t in traces],
        "question_id": [t.question.id for t in traces],
        **{
            name: [getattr(t.question, name) for t in traces]
            for name in ("sample", "benchmark", "subset", "difficulty", "grader", "gold", "labels", "prompt")
        },
        **{
            name: [getattr(t, name) for t in traces]
            for name in (
                *("seed", "text", "closing_tag", "thought_cut", "tokens_discarded", "prompt_tokens", "cached_tokens"),
                "error",
            )
        },
        "status": [str(t.status) for t in traces],
        "steps": steps_L,
        "steps_large": steps_large_L,
        "steps_thought": _counts(accepted & thought, offsets),
        "tokens_thought": _counts(tokens * (accepted & thought), offsets),
        "tokens_small": small_L,
        "tokens_large": large_L,
        "prefill_small": prefill_small_L,
        "prefill_large": prefill_large_L,
        "flops_paper": flops_paper(small_L, large_L, n_small, n_large),
        "tokens_signal": signal_tokens_LO.sum(axis=1).astype(np.int64),
        "signal_role": signals,
        "flops_signal": flops_signal_L,
        "flops_full": flops_full(small_L, large_L, n_small, n_large, prefill_small_L, prefill_large_L) + flops_signal_L,
        "usd_tokens": traces_usd(
            small_L, large_L, prefill_small_L, prefill_large_L, signal_tokens_LO.sum(axis=1), signals, prices or {}
        ),
    }
    arrays = [pa.array(columns[name], kind, from_pandas=name == "usd_tokens") for name, kind in TRACE_FIELDS]
    mixture_rows = [list(mixtures)] + [[]] * (len(traces) - 1) if traces else []
    arrays += [_step_lists({**by_field, "thought": thought}, offsets), pa.array(mixture_rows, pa.list_(MIXTURE_STRUCT))]
    return pa.Table.from_arrays(arrays, schema=ROUTED_SCHEMA)


def _signal_role(trace: Trace) -> str | None:
    """The role whose model gave a trace's signals: a policy asks for one kind alone. None: no signal was charged."""
    return next((role.label for role in Role if trace.tokens_signal[role]), None)


def _thought(trace: Trace) -> list[bool]:
    """Of each step of a trace whether it begins in the thought, by the whole text of the response."""
    if not trace.closing_tag:
        return [False] * len(trace.steps)
    answer = answer_start(trace.text, trace.closing_tag)
    thought, position = [], 0
    for step in trace.steps:
        thought.append(answer is None or position < answer)
        position += len(step.text) * step.accepted
    return thought


def _counts(counted: npt.NDArray[Any], offsets: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Sums of a number for each step (truth values count 1) over each trace. The steps of trace i lie from offset i to
    i+1."""
    up_to = np.concatenate([[0], np.cumsum(counted)])
    counts: npt.NDArray[np.int64] = np.diff(up_to[offsets])
    return counts


def _step_lists(by_field: Mapping[str, Any], offsets: npt.NDArray[np.int32]) -> pa.Array:
    """The steps of each trace, as a list of STEP_STRUCT for each row. `by_field`: values of all steps by field."""
    columns = {**by_field, "model": [_MODEL_LABELS[model] for model in by_field["model"]]}
    for scorer in ("small", "large"):
        scores = zip(*(by or _NOT_SCORED for by in by_field[f"by_{scorer}"]), strict=True)
        columns |= dict(zip(score_columns(scorer), scores, strict=False))
    tokens = {f"token_scores_{scorer}": _token_lists(by_field[f"tokens_by_{scorer}"]) for scorer in ("small", "large")}
    arrays = [
        tokens[field.name] if field.name in tokens else pa.array(columns.get(field.name, ()), field.type)
        for field in STEP_STRUCT
    ]
    struct = pa.StructArray.from_arrays(arrays, fields=list(STEP_STRUCT))
    return pa.ListArray.from_arrays(pa.array(offsets), struct)


def _token_lists(token_scores: Sequence[npt.NDArray[np.float32] | None]) -> pa.Array:
    """The measures of each step's tokens [T, 5] as a list of TOKEN_STRUCT a step; null where they were not kept."""
    kept = [step for step in token_scores if step is not None]
    if not kept:
        return pa.nulls(len(token_scores), pa.list_(TOKEN_STRUCT))
    *measures, chosen = np.concatenate(kept).T
    offsets = np.cumsum([0, *(0 if step is None else len(step) for step in token_scores)], dtype=np.int32)
    values = [pa.array(measure, pa.float32()) for measure in measures] + [pa.array(chosen > 0)]
    missing = pa.array([step is None for step in token_scores])
    struct = pa.StructArray.from_arrays(values, fields=list(TOKEN_STRUCT))
    return pa.ListArray.from_arrays(pa.array(offsets), struct, mask=missing)
