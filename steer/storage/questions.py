"""Questions as Arrow tables, in which they travel from a benchmark to the router.

Invariant: a question stays Arrow from the task that reads it until the router admits it.
"""

from collections.abc import Sequence
from dataclasses import fields

import pyarrow as pa
import pyarrow.compute as pc

from steer.storage.schemas import QUESTIONS_SCHEMA
from steer.traces import Question

QUESTION_COLUMNS = tuple(field.name for field in fields(Question))
"""The columns that are sent to the router."""


def question_table(questions: Sequence[Question], errors: Sequence[str] | None = None) -> pa.Table:
    """A table of QUESTIONS_SCHEMA. `errors`: for each question why it cannot be asked, "" if it can; None: all can."""
    columns = {name: [getattr(question, name) for question in questions] for name in QUESTION_COLUMNS}
    return pa.table({**columns, "error": errors or [""] * len(questions)}, schema=QUESTIONS_SCHEMA)


def to_questions(table: pa.Table) -> list[Question]:
    """The rows as objects, without the column `error`."""
    table = with_all_columns(table)
    columns = (table[name].to_pylist() for name in QUESTION_COLUMNS)
    return [Question(*values) for values in zip(*columns, strict=True)]


def with_all_columns(table: pa.Table) -> pa.Table:
    """The table with every column of QUESTIONS_SCHEMA: an earlier version may have written it without the newest."""
    for field in QUESTIONS_SCHEMA:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.array([""] * table.num_rows, field.type))
    return table.select(QUESTIONS_SCHEMA.names)


def trace_ids(table: pa.Table) -> list[str]:
    """`Question.trace_id` of each row."""
    samples = table["sample"].to_pylist()
    return [f"{id}#{sample}" for id, sample in zip(table["id"].to_pylist(), samples, strict=True)]


def split_by_error(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """(questions that can be asked, those that cannot)."""
    good = pc.equal(table["error"], "")
    return table.filter(good), table.filter(pc.invert(good))
