"""Every Arrow schema of STEER, in the order of a question's way: asked, routed, graded, stored.

Invariants: the router yields `ROUTED_SCHEMA`, grading adds `VERDICT_FIELDS`, and the sink splits `GRADED_SCHEMA` into
the three tables of `SCHEMAS`, each with the columns of the run. FLOPs are in units of 1e12.
"""

from dataclasses import fields

import pyarrow as pa

from steer.traces import MEASURES, Question, score_columns

# --- asked ------------------------------------------------------------------------------------------------------------

QUESTION_STRUCT = pa.struct(
    [(field.name, pa.int32() if field.name == "sample" else pa.string()) for field in fields(Question)]
    + [("error", pa.string())]
)
"""A question: the fields of `Question`, and the reason if it cannot be asked."""

QUESTIONS_SCHEMA = pa.schema(list(QUESTION_STRUCT))
"""Questions as the benchmark is read, before groups are cut: a row for each question and sample."""

GROUPS_SCHEMA = pa.schema([("cell", pa.string()), ("group_id", pa.string()), ("questions", pa.list_(QUESTION_STRUCT))])
"""What Ray Data hands the router, and the table `questions/`: a row for each group, so that no group is ever split over
two calls."""

# --- routed -----------------------------------------------------------------------------------------------------------

TOKEN_STRUCT = pa.struct([*((measure, pa.float32()) for measure in MEASURES), ("chosen", pa.bool_())])
"""The measures of one token, and whether its step's scores are taken over it (`routing.token_scores`)."""

STEP_STRUCT = pa.struct(
    [
        ("step", pa.int32()),
        ("attempt", pa.int32()),
        ("model", pa.string()),
        ("accepted", pa.bool_()),
        ("finish", pa.string()),
        ("text", pa.string()),
        ("thought", pa.bool_()),
        ("tokens", pa.int32()),
        ("prompt_tokens", pa.int32()),
        ("cached_tokens", pa.int32()),
        *((name, pa.float64()) for scorer in ("small", "large") for name in score_columns(scorer)),
        ("confidence", pa.float64()),
        ("posterior", pa.float64()),
        ("signal", pa.float64()),
        ("signal_seconds", pa.float64()),
        ("routing_seconds", pa.float64()),
        ("decision", pa.string()),
        ("replica", pa.string()),
        ("seconds", pa.float64()),
        *((f"token_scores_{scorer}", pa.list_(TOKEN_STRUCT)) for scorer in ("small", "large")),
    ]
)
"""A step: the fields of `steer.traces.Step`, with a column for each score and scorer, and whether it is thought."""

MIXTURE_STRUCT = pa.struct(
    [
        ("group_id", pa.string()),
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
"""A fit of one mixture: `steer.mixture.fit.StepFit.rows`, and its group."""

TRACE_FIELDS = [
    ("trace_id", pa.string()),
    ("cell", pa.string()),
    ("group_id", pa.string()),
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
    ("closing_tag", pa.string()),
    ("thought_cut", pa.bool_()),
    ("steps", pa.int32()),
    ("steps_large", pa.int32()),
    ("steps_thought", pa.int32()),
    ("tokens_small", pa.int32()),
    ("tokens_large", pa.int32()),
    ("tokens_discarded", pa.int32()),
    ("tokens_thought", pa.int32()),
    ("prompt_tokens", pa.int32()),
    ("prefill_small", pa.int32()),
    ("prefill_large", pa.int32()),
    ("cached_tokens", pa.int32()),
    ("tokens_signal", pa.int32()),
    ("signal_role", pa.string()),
    ("flops_paper", pa.float64()),
    ("flops_signal", pa.float64()),
    ("flops_full", pa.float64()),
    ("usd_tokens", pa.float64()),
    ("error", pa.string()),
]
"""A finished trace before grading: `steer.traces.Trace`, its question and its FLOPs."""

_ROWS_OF_TRACE = [("step_rows", pa.list_(STEP_STRUCT)), ("mixture_rows", pa.list_(MIXTURE_STRUCT))]
"""What rides on a trace until all three tables are written in one commit: its steps, and on the first trace of a batch
the mixtures fitted since the batch before."""

ROUTED_SCHEMA = pa.schema([*TRACE_FIELDS, *_ROWS_OF_TRACE])
"""What the router yields: finished traces, with their steps and the new mixtures nested."""

# --- graded -----------------------------------------------------------------------------------------------------------

VERDICT_FIELDS = [
    ("extracted", pa.string()),
    ("correct", pa.bool_()),
    ("rule", pa.string()),
    ("f1", pa.float64()),
]
"""What grading adds to a trace."""

_AFTER_TEXT = [name for name, _ in TRACE_FIELDS].index("text") + 1

_GRADED_FIELDS = [*TRACE_FIELDS[:_AFTER_TEXT], *VERDICT_FIELDS, *TRACE_FIELDS[_AFTER_TEXT:]]
"""The verdict stands right after the answer's text."""

GRADED_SCHEMA = pa.schema([*_GRADED_FIELDS, *_ROWS_OF_TRACE])
"""What the sink is given: rows of `traces/` without the columns of the run, with their steps and the new mixtures
nested."""

# --- stored -----------------------------------------------------------------------------------------------------------

RUN_FIELDS = pa.schema(
    [
        ("run_id", pa.string()),
        ("started_at", pa.timestamp("us", "UTC")),
        ("model_small", pa.string()),
        ("model_large", pa.string()),
    ]
)
"""Columns that say in every row of `traces/` which run it belongs to. They are added where rows are committed."""

_NAMED_RUN = [RUN_FIELDS.field(name) for name in ("run_id", "started_at")]
"""Of them what the other tables have."""

TRACES_SCHEMA = pa.schema([*RUN_FIELDS, *_GRADED_FIELDS])
"""The table `traces/`."""

STEP_KEYS = ("cell", "group_id", "trace_id", "question_id", "sample", "benchmark")
"""Columns of a trace that each of its steps repeats."""

STEPS_SCHEMA = pa.schema([*_NAMED_RUN, *(GRADED_SCHEMA.field(name) for name in STEP_KEYS), *STEP_STRUCT])
"""The table `steps/`: a row for each step that was decided on, kept or discarded."""

MIXTURES_SCHEMA = pa.schema([*_NAMED_RUN, ("cell", pa.string()), *MIXTURE_STRUCT])
"""The table `mixtures/`: a row for each mixture that was fitted or reused."""

MIXTURE_KEYS = ("step", "draft", "scope", "measure", "n", "rule", "fit_ms")
"""Columns that tell the fits of one group apart."""

EVENTS_SCHEMA = pa.schema(
    [
        ("time", pa.timestamp("us", tz="UTC")),
        ("what", pa.string()),
        ("role", pa.string()),
        ("replica", pa.string()),
        ("node", pa.string()),
        ("reason", pa.string()),
    ]
)
"""The table `events/`: a row for each thing that happened to a replica (`steer.events`). The driver writes it."""

SCHEMAS = {"traces": TRACES_SCHEMA, "steps": STEPS_SCHEMA, "mixtures": MIXTURES_SCHEMA}
"""Schema of each table of a run, by its folder."""

ORDER = {
    "traces": ("cell", "benchmark", "question_id", "sample"),
    "steps": ("cell", "benchmark", "question_id", "sample", "step", "attempt"),
    "mixtures": ("cell", "group_id", "step", "scope", "n", "mean_confident", "mean_unsure"),
}
"""Columns by which each table is sorted when it is read, since its parts come in any order. Within a step the mixtures
of drafts come first."""
