"""Takes error rows out of a run's tables, so that a resume asks their questions again.

    RUN/retry.json   the rows that are being taken out, while that lasts

Invariants: a row is taken out with all its steps, before its question is asked again. A kill at any moment doubles and
loses nothing: `retry.json` is there before the first row goes and until the last is gone, and the next resume goes on
from it. Rows that are gone are questions without a row, which every resume asks. What they cost stays in `run.json`
(`retried`).
"""

import json
from collections import Counter
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from steer.error_kinds import ErrorKind, error_kind
from steer.storage.one_cell import from_one_cell
from steer.storage.questions import split_by_error, trace_ids
from steer.storage.run_folder import RunFolder
from steer.traces import Status

FILE = "retry.json"
COSTS = (
    *("tokens_small", "tokens_large", "prefill_small", "prefill_large", "tokens_signal"),
    *("flops_paper", "flops_full", "usd_tokens"),
)
"""Columns of `traces/` that are summed over the rows that are taken out."""

Groups = set[tuple[str, str]]
"""(cell, group)."""


def mark_errors(run: RunFolder, kinds: Collection[ErrorKind]) -> dict[str, int]:
    """Mark the error rows of these kinds: `take_out_marked` removes them. Returns how many error rows of each kind the
    run has. Marks nothing if there are none of `kinds`."""
    columns = ["cell", "group_id", "trace_id", "status", "error", *COSTS]
    rows = run.read_unsorted("traces", columns=columns)
    rows = rows.filter(pc.equal(rows["status"], Status.ERROR.value))
    unaskable = _unaskable(run, set(rows["cell"].to_pylist()))
    keys = list(zip(rows["cell"].to_pylist(), rows["trace_id"].to_pylist(), strict=True))
    errors = zip(keys, rows["error"].to_pylist(), strict=True)
    kind_L = [error_kind(error or "", key in unaskable) for key, error in errors]
    wanted_L = [kind in kinds for kind in kind_L]
    if any(wanted_L):
        doomed = rows.filter(pa.array(wanted_L))
        note = {
            "at": datetime.now(UTC).isoformat(),
            "kinds": dict(Counter(kind.value for kind in kind_L if kind in kinds)),
            "traces": doomed.num_rows,
            **{name: pc.sum(doomed[name]).as_py() or 0 for name in COSTS},
        }
        listed = doomed.select(["cell", "group_id", "trace_id"]).to_pydict()
        run.write_file(FILE, json.dumps({"note": note, "rows": listed}).encode())
    return dict(Counter(kind.value for kind in kind_L))


def take_out_marked(run: RunFolder, forget: Callable[[Groups], None]) -> dict[str, Any] | None:
    """Take the marked rows out of the tables, also where an earlier call was cut off. Returns the entry of `run.json`
    (`retried`) about them; None: no row is marked.

    `forget`: removes the journal's logs of these groups. A log holds the group as it was admitted, with the error rows
    as ended traces. Call this only while no other process writes.
    """
    data = run.read_file(FILE)
    if data is None:
        return None
    marked = json.loads(data)
    rows, note = marked["rows"], marked["note"]
    run.update(finished=None)
    forget(set(zip(rows["cell"], rows["group_id"], strict=True)))
    run.remove_traces(pa.table({"cell": rows["cell"], "trace_id": rows["trace_id"]}))
    retried = run.describe().get("retried", [])
    if all(earlier["at"] != note["at"] for earlier in retried):
        run.update(retried=[*retried, note])
    run.remove_file(FILE)
    return dict(note)


def _unaskable(run: RunFolder, cells: Collection[str]) -> set[tuple[str, str]]:
    """(cell, trace id) of the questions of these cells that cannot be asked."""
    parts: dict[str, list[str]] = {}
    for cell in run.describe()["cells"]:
        if cell["name"] in cells:
            parts.setdefault(cell["part"], []).append(cell["name"])
    found: set[tuple[str, str]] = set()
    for part, names in parts.items():
        for row in run.read_groups(part, names, ("id", "sample", "error")):
            _, bad = split_by_error(from_one_cell(row["questions"]))
            found.update((row["cell"][0].as_py(), trace_id) for trace_id in trace_ids(bad))
    return found
