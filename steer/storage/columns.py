"""Rows as today's tables have them, whatever version of STEER wrote them.

A part of an earlier version may call a column by another name, lack columns, and hold NaN. Invariants: what `conformed`
returns has the columns of a schema, the run's own columns (`RUN_FIELDS`) are filled in, and a number that was not
measured is null, never NaN: SQL engines sort NaN above every number and average it.
"""

from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from steer.storage.schemas import RUN_FIELDS

EARLIER_NAMES = {"group_id": "group"}
"""What earlier versions called a column. (`group` is a reserved word of SQL.)"""

RunValues = Callable[[], Mapping[str, Any]]
"""Gives the values of `RUN_FIELDS`. They are asked for only if rows lack them: reading `run.json` is a request."""


def run_id(described: Mapping[str, Any]) -> str:
    """The id of a run, from its `run.json`. For a run that an earlier version made, it follows from what never changes
    there, so that the id is the same after the folder was moved, and at every reading."""
    held = described.get("id")
    if held:
        return str(held)
    fixed = "\0".join(str(described.get(key)) for key in ("started", "host", "kind", "seeds", "git_commit"))
    return f"earlier-{blake2b(fixed.encode(), digest_size=8).hexdigest()}"


def model_names(described: Mapping[str, Any]) -> dict[str, str | None]:
    """Columns `model_small` and `model_large`: path or hub id of the pair's models, from `run.json`."""
    pair = described.get("config", {}).get("pair")
    entries = pair if isinstance(pair, dict) else {}
    return {f"model_{role}": (entries.get(role) or {}).get("path") for role in ("small", "large")}


def with_earlier_names(schema: pa.Schema) -> pa.Schema:
    """The schema with the earlier names of its columns, too: what has to be read of a part of any version."""
    earlier = [pa.field(EARLIER_NAMES[f.name], f.type) for f in schema if f.name in EARLIER_NAMES]
    return pa.schema([*schema, *earlier])


def conformed(rows: pa.Table, schema: pa.Schema, values: RunValues) -> pa.Table:
    """The rows with the columns of a schema. What an earlier version did not write is null, but for the columns of the
    run."""
    columns = []
    for field in schema:
        column = _named(rows, field)
        if column.null_count and field.name in RUN_FIELDS.names:
            value = values()[field.name]
            column = column if value is None else pc.fill_null(column, pa.scalar(value, field.type))
        columns.append(without_nan(column))
    return pa.Table.from_arrays(columns, schema=schema)


def _named(rows: pa.Table, field: pa.Field) -> pa.ChunkedArray:
    """A column by its name of today and by its earlier one: parts of two versions may be in one table."""
    names = [name for name in (field.name, EARLIER_NAMES.get(field.name)) if name in rows.column_names]
    if not names:
        return pa.chunked_array([pa.nulls(rows.num_rows, field.type)])
    held = [rows[name].cast(field.type) for name in names]
    return pc.coalesce(*held) if len(held) > 1 else held[0]


def without_nan(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column with null for NaN, inside of lists and structs too."""
    if not _has_floats(column.type):
        return column
    return pa.chunked_array([_without_nan(chunk) for chunk in column.chunks], column.type)


def _has_floats(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind):
        return _has_floats(kind.value_type)
    if pa.types.is_struct(kind):
        return any(_has_floats(kind.field(i).type) for i in range(kind.num_fields))
    return bool(pa.types.is_floating(kind))


def _without_nan(array: pa.Array) -> pa.Array:
    kind = array.type
    if not _has_floats(kind):
        return array
    if pa.types.is_list(kind):
        # A copy of the offsets: an array that is a slice of another one cannot be given together with a mask.
        offsets = pa.array(array.offsets.to_numpy())
        return pa.ListArray.from_arrays(offsets, _without_nan(array.values), type=kind, mask=array.is_null())
    if pa.types.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        held = [_without_nan(array.field(i)) for i in range(kind.num_fields)]
        return pa.StructArray.from_arrays(held, fields=fields, mask=array.is_null())
    nan = pc.is_nan(array)
    return pc.if_else(nan, pa.scalar(None, kind), array) if pc.any(nan).as_py() else array
