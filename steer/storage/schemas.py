"""Every Arrow schema of STEER: what the router yields and what a run's folder holds."""

from dataclasses import fields

import pyarrow as pa

from steer.traces import MEASURES, Question

_F3 = [(f"{measure}_{scorer}", pa.float64()) for scorer in ("small", "large") for measure in MEASURES]


STEP_STRUCT = pa.struct(
    [
        ("step", pa.int32()),
        ("attempt", pa.int32()),
        ("model", pa.string()),
        ("accepted", pa.bool_()),
        ("finish", pa.string()),
        ("text", pa.string()),
        ("tokens", pa.int32()),
        ("prompt_tokens", pa.int32()),
        ("cached_tokens", pa.int32()),
        *_F3,
        ("confidence", pa.float64()),
        ("posterior", pa.float64()),
        ("signal", pa.float64()),
        ("signal_seconds", pa.float64()),
        ("routing_seconds", pa.float64()),
        ("decision", pa.string()),
        ("replica", pa.string()),
        ("seconds", pa.float64()),
    ]
)


MIXTURE_STRUCT = pa.struct(
    [
        ("group", pa.string()),
        ("step", pa.int32()),
        ("draft", pa.bool_()),
        ("scope", pa.string()),
        ("measure", pa.string()),
        ("n", pa.int32()),
        ("mean_confident", pa.float64()),
        ("mean_unsure", pa.float64()),
        ("sd_confident", pa.float64()),
        ("sd_unsure", pa.float64()),
        ("weight_confident", pa.float64()),
        ("weight_unsure", pa.float64()),
        ("rule", pa.string()),
        ("fit_ms", pa.float64()),
        ("inversions", pa.int32()),
    ]
)


TRACE_FIELDS = [
    ("trace_id", pa.string()),
    ("cell", pa.string()),
    ("group", pa.string()),
    ("question_id", pa.string()),
    ("sample", pa.int32()),
    ("seed", pa.int64()),
    ("benchmark", pa.string()),
    ("subset", pa.string()),
    ("difficulty", pa.string()),
    ("grader", pa.string()),
    ("gold", pa.string()),
    ("labels", pa.string()),
    ("prompt", pa.string()),
    ("text", pa.string()),
    ("status", pa.string()),
    ("steps", pa.int32()),
    ("steps_large", pa.int32()),
    ("tokens_small", pa.int32()),
    ("tokens_large", pa.int32()),
    ("tokens_discarded", pa.int32()),
    ("prompt_tokens", pa.int32()),
    ("prefill_small", pa.int32()),
    ("prefill_large", pa.int32()),
    ("cached_tokens", pa.int32()),
    ("tokens_signal", pa.int32()),
    ("flops_paper", pa.float64()),
    ("flops_signal", pa.float64()),
    ("flops_full", pa.float64()),
    ("error", pa.string()),
]
"""Columns of `traces/` before grading adds `extracted`, `correct`, `rule`. FLOPs are in units of 1e12."""


ROUTED_SCHEMA = pa.schema(
    [*TRACE_FIELDS, ("step_rows", pa.list_(STEP_STRUCT)), ("mixture_rows", pa.list_(MIXTURE_STRUCT))]
)
"""What the router yields: `traces/` rows with their steps nested; the mixtures fitted since the last yield ride on
the first row, so that one commit writes all three tables."""


VERDICT_FIELDS = [
    ("extracted", pa.string()),
    ("correct", pa.bool_()),
    ("rule", pa.string()),
    ("f1", pa.float64()),
]


_AFTER_TEXT = [name for name, _ in TRACE_FIELDS].index("text") + 1


TRACES_SCHEMA = pa.schema([*TRACE_FIELDS[:_AFTER_TEXT], *VERDICT_FIELDS, *TRACE_FIELDS[_AFTER_TEXT:]])


GRADED_SCHEMA = pa.schema(
    [*TRACES_SCHEMA, ("step_rows", pa.list_(STEP_STRUCT)), ("mixture_rows", pa.list_(MIXTURE_STRUCT))]
)
"""What the sink is given: `traces/` rows with their steps, and the mixtures fitted since the last commit, nested."""


STEP_KEYS = ("cell", "group", "trace_id", "question_id", "sample", "benchmark")
"""Columns of a trace that each of its steps repeats."""


STEPS_SCHEMA = pa.schema([TRACES_SCHEMA.field(name) for name in STEP_KEYS] + list(STEP_STRUCT))


MIXTURES_SCHEMA = pa.schema([("cell", pa.string()), *MIXTURE_STRUCT])


SCHEMAS = {"traces": TRACES_SCHEMA, "steps": STEPS_SCHEMA, "mixtures": MIXTURES_SCHEMA}


ORDER = {
    "traces": ("cell", "benchmark", "question_id", "sample"),
    "steps": ("cell", "benchmark", "question_id", "sample", "step", "attempt"),
    "mixtures": ("cell", "group", "step", "scope", "n", "mean_confident", "mean_unsure"),
}
"""By what each table is sorted when it is read: parts come in any order. Drafts' mixtures come first within a step."""


MIXTURE_KEYS = ("step", "draft", "scope", "measure", "n", "rule", "fit_ms")
"""What tells the fits of one group apart."""


QUESTION_STRUCT = pa.struct(
    [(field.name, pa.int32() if field.name == "sample" else pa.string()) for field in fields(Question)]
    + [("error", pa.string())]
)
"""A question as it lies in `questions/`: the fields of `Question`, and why it cannot be asked."""


QUESTIONS_SCHEMA = pa.schema(list(QUESTION_STRUCT))


GROUPS_SCHEMA = pa.schema([("cell", pa.string()), ("group", pa.string()), ("questions", pa.list_(QUESTION_STRUCT))])
"""One row a group: Ray Data hands the router one row, so that a group is never split over two calls."""
