"""Finished traces as the Arrow table that the router yields (`ROUTED_SCHEMA`), built column by column."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from steer.costs.flops import UNIT, flops_full, flops_paper
from steer.storage.schemas import MIXTURE_STRUCT, ROUTED_SCHEMA, STEP_STRUCT, TRACE_FIELDS
from steer.traces import MEASURES, Model, Role, Step, Trace

_MODEL_LABELS = tuple(model.label for model in Model)


def routed_table(traces: Sequence[Trace], mixtures: Sequence[dict[str, Any]], parameters: Sequence[float]) -> pa.Table:
    """A row for each of `traces`, with nested steps. `mixtures` (MIXTURE_STRUCT rows) ride on the first row.

    `parameters`: the nominal parameter counts by `Role`, from which the FLOPs (units of 1e12) follow; 0 for a role that
    the run does not have.
    """
    n_small, n_large = parameters[Role.SMALL], parameters[Role.LARGE]
    signal_tokens_LO = np.array([t.tokens_signal for t in traces], np.float64).reshape(-1, len(Role))
    flops_signal_L = 2.0 * signal_tokens_LO @ np.asarray(parameters, np.float64) / UNIT
    small_L = np.array([t.tokens_small for t in traces])
    large_L = np.array([t.tokens_large for t in traces])
    prefill_small_L = np.array([t.prefill_small for t in traces])
    prefill_large_L = np.array([t.prefill_large for t in traces])
    columns = {
        "trace_id": [t.question.trace_id for t in traces],
        "cell": [t.cell for t in traces],
        "group": [t.group for t in traces],
        "question_id": [t.question.id for t in traces],
        **{
            name: [getattr(t.question, name) for t in traces]
            for name in ("sample", "benchmark", "subset", "difficulty", "grader", "gold", "labels", "prompt")
        },
        **{
            name: [getattr(t, name) for t in traces]
            for name in ("seed", "text", "tokens_discarded", "prompt_tokens", "cached_tokens", "error")
        },
        "status": [str(t.status) for t in traces],
        "steps": [sum(s.accepted for s in t.steps) for t in traces],
        "steps_large": [sum(s.accepted and s.model == Model.LARGE for s in t.steps) for t in traces],
        "tokens_small": small_L,
        "tokens_large": large_L,
        "prefill_small": prefill_small_L,
        "prefill_large": prefill_large_L,
        "flops_paper": flops_paper(small_L, large_L, n_small, n_large),
        "tokens_signal": signal_tokens_LO.sum(axis=1).astype(np.int64),
        "flops_signal": flops_signal_L,
        "flops_full": flops_full(small_L, large_L, n_small, n_large, prefill_small_L, prefill_large_L) + flops_signal_L,
    }
    arrays = [pa.array(columns[name], kind) for name, kind in TRACE_FIELDS]
    mixture_rows = [list(mixtures)] + [[]] * (len(traces) - 1) if traces else []
    arrays += [_step_lists(traces), pa.array(mixture_rows, pa.list_(MIXTURE_STRUCT))]
    return pa.Table.from_arrays(arrays, schema=ROUTED_SCHEMA)


def _step_lists(traces: Sequence[Trace]) -> pa.Array:
    """The steps of each trace, as a list of STEP_STRUCT for each row."""
    steps = [s for t in traces for s in t.steps]
    offsets = np.concatenate([[0], np.cumsum([len(t.steps) for t in traces])]).astype(np.int32)
    columns = {name: [getattr(s, name) for s in steps] for name in Step._fields}
    columns["model"] = [_MODEL_LABELS[s.model] for s in steps]
    for scorer in ("small", "large"):
        scored = [getattr(s, f"by_{scorer}") for s in steps]
        for i, measure in enumerate(MEASURES):
            columns[f"{measure}_{scorer}"] = [None if by is None else by[i] for by in scored]
    arrays = [pa.array(columns[field.name], field.type) for field in STEP_STRUCT]
    struct = pa.StructArray.from_arrays(arrays, fields=list(STEP_STRUCT))
    return pa.ListArray.from_arrays(pa.array(offsets), struct)
