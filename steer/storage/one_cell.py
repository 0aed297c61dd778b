"""A whole table in one table cell, so that Ray Data never splits its rows."""

import pyarrow as pa


def in_one_cell(rows: pa.Table) -> pa.ListArray:
    """The rows as one list of structs."""
    structs = rows.combine_chunks().to_struct_array()
    return pa.ListArray.from_arrays([0, len(structs)], pa.concat_arrays(structs.chunks))


def from_one_cell(cell: pa.ChunkedArray) -> pa.Table:
    """The table that `in_one_cell` was given. `cell`: a column with one row."""
    return pa.Table.from_struct_array(cell.combine_chunks().flatten())
