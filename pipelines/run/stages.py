"""The stages of the evaluation pipeline behind the reading of the groups: route each, grade its traces, commit them.

A row of the dataset between the stages is a *parcel*: traces that are committed together, nested in one cell. Ray Data
cuts blocks by bytes alone, so with rows of one trace each, finished traces would wait for a block to fill up.

Invariant: every question of a group leaves `RouteGroup` exactly once, or the run stops.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import ray
from ray.actor import ActorHandle
from ray.data.datasource import Datasink, WriteResult

from pipelines.run.ingest import in_one_cell
from steer.config.policy import PolicyConfig
from steer.config.run import RoutingOptions
from steer.grading import NO_RESPONSE, grade
from steer.storage.run_folder import Committed, RunFolder
from steer.storage.schemas import GRADED_SCHEMA, MIXTURE_KEYS, MIXTURE_STRUCT, ROUTED_SCHEMA, VERDICT_FIELDS
from steer.traces import Status

COMMIT_S = 5.0
"""Finished traces are committed at least this often: what a lost driver can cost, against the number of files."""
COMMIT_TRACES = 1024
"""...or as soon as there are so many."""

QUESTION_COLUMNS = ("id", "sample", "benchmark", "prompt", "gold", "grader", "subset", "difficulty", "labels", "system")
"""What the router is sent of a question."""


@dataclass(frozen=True)
class CellJob:
    """What all groups of a cell are routed by."""

    policy: PolicyConfig
    routing: RoutingOptions
    tokens: str
    seed: int


class RouterLost(Exception):
    """The router died; what it had not handed on is in its journal. (Ray's own exception does not survive its way
    through Ray Data.)"""


class RouteGroup:
    """Ray Data's stateful callable: a group in, parcels of routed traces out, as they come.

    A plain generator, called in as many threads of one actor as groups are in flight. (Ray 2.60 collects all that an
    async generator yields for a batch before it hands on the first: a group's traces would only come out at its end.)
    """

    def __init__(self, router: ActorHandle, jobs: dict[str, CellJob], committed: dict[str, Committed]):
        """`committed`: by group, what the run's tables held before this pipeline began."""
        self._router, self._jobs, self._committed = router, jobs, committed

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        (group,) = batch.to_pylist()
        job = self._jobs[group["cell"]]
        held = self._committed.get(group["group"], Committed())
        awaited = Counter(i for i in map(_trace_id, group["questions"]) if i not in held.trace_ids)
        for routed in self._routed(group, job, held):
            awaited.subtract(routed["trace_id"].to_pylist())
            yield as_parcel(routed)
        wrong = [trace for trace, count in awaited.items() if count]
        if wrong:
            raise RuntimeError(
                f"group {group['group']}: {len(wrong)} traces were not answered exactly once, among them {wrong[0]}"
            )

    def _routed(self, group: dict, job: CellJob, held: Committed) -> Iterator[pa.Table]:
        bad = [row for row in group["questions"] if row["error"] and _trace_id(row) not in held.trace_ids]
        if bad:
            yield error_rows(bad, group["cell"], group["group"], job.seed)
        if left_to_ask(group, self._committed):
            # All of them, since the journal knows the group as it was admitted.
            good = [row for row in group["questions"] if not row["error"]]
            questions = pa.Table.from_pylist([{name: row[name] for name in QUESTION_COLUMNS} for row in good])
            for routed in self._from_router(questions, group["cell"], group["group"], job, held.trace_ids):
                yield without_mixtures(routed, held.mixtures)

    def _from_router(
        self, questions: pa.Table, cell: str, group: str, job: CellJob, committed: frozenset[str]
    ) -> Iterator[pa.Table]:
        from actors.router.router import Job

        message = Job(cell, group, job.policy, job.routing, job.tokens, job.seed)
        stream = self._router.route.options(num_returns="streaming").remote(questions, message, committed)
        held: list[pa.Table] = []
        due = time.monotonic() + COMMIT_S
        while True:
            wait_s = max(due - time.monotonic(), 0) if held else None
            if ray.wait([stream], timeout=wait_s)[0]:
                try:
                    held.append(ray.get(next(stream)).cast(ROUTED_SCHEMA))
                except StopIteration:
                    break
                except ray.exceptions.RayActorError as death:
                    raise RouterLost(f"the router died: {death}") from None
            if held and (time.monotonic() >= due or sum(table.num_rows for table in held) >= COMMIT_TRACES):
                yield pa.concat_tables(held)
                held, due = [], time.monotonic() + COMMIT_S
        if held:
            yield pa.concat_tables(held)


def left_to_ask(group: dict, committed: dict[str, Committed]) -> list[str]:
    """Trace ids of a group's questions that can be asked and have no row yet."""
    held = committed.get(group["group"], Committed()).trace_ids
    return [i for i in (_trace_id(row) for row in group["questions"] if not row["error"]) if i not in held]


def _trace_id(question: dict) -> str:
    return f"{question['id']}#{question['sample']}"


def without_mixtures(routed: pa.Table, held: frozenset[tuple]) -> pa.Table:
    """`ROUTED_SCHEMA` rows without fits (values of `MIXTURE_KEYS`) that are committed: a router that goes on from its
    journal hands them on again."""
    if not held:
        return routed
    kept = [
        [row for row in rows if tuple(row[key] for key in MIXTURE_KEYS) not in held]
        for rows in routed["mixture_rows"].to_pylist()
    ]
    where = routed.schema.get_field_index("mixture_rows")
    return routed.set_column(where, "mixture_rows", pa.array(kept, pa.list_(MIXTURE_STRUCT)))


def as_parcel(traces: pa.Table) -> pa.Table:
    return pa.table({"traces": in_one_cell(traces)})


def from_parcel(parcel: pa.Table) -> pa.Table:
    return pa.Table.from_struct_array(parcel["traces"].combine_chunks().flatten())


def error_rows(questions: list[dict], cell: str, group: str, seed: int) -> pa.Table:
    """`ROUTED_SCHEMA` rows of questions that cannot be asked: they cost nothing and are wrong."""
    rows = []
    for question in questions:
        known = {name: question[name] for name in ROUTED_SCHEMA.names if name in question}
        row = dict.fromkeys((f.name for f in ROUTED_SCHEMA if pa.types.is_primitive(f.type)), 0)
        row |= {"step_rows": [], "mixture_rows": [], "text": "", "status": Status.ERROR.value}
        row |= {"cell": cell, "group": group, "seed": seed, "question_id": question["id"]}
        row |= {"trace_id": _trace_id(question), **known}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=ROUTED_SCHEMA)


def grade_parcel(parcel: pa.Table) -> pa.Table:
    """Adds the columns of `VERDICT_FIELDS` to every trace of a parcel, and to the parcel what that took."""
    started = time.monotonic()
    traces = with_verdicts(from_parcel(parcel))
    graded = as_parcel(traces.select(GRADED_SCHEMA.names))
    return graded.append_column("grading_s", pa.array([time.monotonic() - started]))


def with_verdicts(traces: pa.Table) -> pa.Table:
    """Traces of a run with their verdicts, new or in the place of those that are there."""
    columns = (traces[name].to_pylist() for name in ("status", "text", "gold", "grader", "labels"))
    verdicts = [
        NO_RESPONSE if status == Status.ERROR else grade(text, gold, grader, json.loads(labels))
        for status, text, gold, grader, labels in zip(*columns, strict=True)
    ]
    for name, kind in VERDICT_FIELDS:
        values = pa.array([getattr(verdict, name) for verdict in verdicts], kind)
        where = traces.schema.get_field_index(name)
        traces = traces.append_column(name, values) if where < 0 else traces.set_column(where, name, values)
    return traces


class RunFolderSink(Datasink[float]):
    """Commits every parcel by itself, and tells the router, whose journal lets go of it."""

    def __init__(self, run: RunFolder, router: ActorHandle):
        self._run, self._router = run, router
        self.grading_s = 0.0
        """Of all parcels; known when all are written."""

    def write(self, blocks, ctx) -> float:
        """Seconds that grading these parcels took."""
        grading_s = 0.0
        for parcels in blocks:
            for i in range(parcels.num_rows):
                traces = from_parcel(parcels.slice(i, 1)).cast(GRADED_SCHEMA)
                self._run.commit(traces)
                grading_s += parcels["grading_s"][i].as_py()
                self._router.committed.remote(traces["group"][0].as_py(), traces["trace_id"].to_pylist())
        return grading_s

    def on_write_complete(self, write_result: WriteResult[float]) -> None:
        self.grading_s = sum(write_result.write_returns)
