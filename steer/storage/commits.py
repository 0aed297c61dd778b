"""What a commit writes: rows of `GRADED_SCHEMA`, split into the tables, and the name of their parts."""

import hashlib

import pyarrow as pa
import pyarrow.compute as pc

from steer.storage.schemas import MIXTURE_STRUCT, STEP_KEYS, STEP_STRUCT


def part_name(graded: pa.Table, retries: int) -> str:
    """Name of a commit's parts. It depends on the traces alone, so a commit that is tried again replaces its parts; but
    not those from before error rows were taken out."""
    digest = hashlib.blake2b(f"retry {retries}\0".encode() if retries else b"", digest_size=10)
    for cell, trace in sorted(zip(graded["cell"].to_pylist(), graded["trace_id"].to_pylist(), strict=True)):
        digest.update(f"{cell}\0{trace}\0".encode())
    return f"part-{digest.hexdigest()}"


def steps_of(graded: pa.Table) -> pa.Table:
    """The steps of traces, a row each, with the columns of their trace."""
    nested = graded["step_rows"].combine_chunks()
    keys = graded.select(STEP_KEYS).take(pc.list_parent_indices(nested))
    flat = pc.list_flatten(nested).flatten()
    return pa.Table.from_arrays([*keys.columns, *flat], names=[*STEP_KEYS, *(field.name for field in STEP_STRUCT)])


def mixtures_of(graded: pa.Table) -> pa.Table:
    """The mixtures that ride on traces, a row each."""
    nested = graded["mixture_rows"].combine_chunks()
    cells = graded["cell"].take(pc.list_parent_indices(nested))
    return pa.Table.from_arrays(
        [cells, *pc.list_flatten(nested).flatten()], names=["cell", *(field.name for field in MIXTURE_STRUCT)]
    )
