"""The stages of the pipeline after the groups are read: route each group, grade its traces, commit them.

Between the stages, a row of the dataset is a *parcel*: traces that are committed together, nested in one table cell.
Ray Data cuts blocks by bytes alone. With one trace a row, finished traces would wait until a block is full.

Invariant: every question of a group leaves `RouteGroup` exactly once, or the run stops.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import ray
from ray.data.datasource import Datasink, WriteResult

from pipelines.run.routers import Routers
from steer.config.policy import PolicyConfig
from steer.config.run import RoutingOptions
from steer.grading import NO_RESPONSE, grade
from steer.storage.one_cell import from_one_cell, in_one_cell
from steer.storage.questions import split_by_error, trace_ids
from steer.storage.run_folder import Committed, CommittedRows, RunFolder
from steer.storage.schemas import GRADED_SCHEMA, MIXTURE_KEYS, MIXTURE_STRUCT, ROUTED_SCHEMA, VERDICT_FIELDS
from steer.traces import Status

COMMIT_S = 5.0
"""Most seconds between two commits of a group's finished traces. Fewer would lose less with the driver, but make more
files."""
COMMIT_TRACES = 1024
"""Finished traces are committed as soon as a group has this many."""
COMMIT_BYTES = 64 * 2**20
"""Or as soon as they have this many bytes: a parcel is one table cell, which cannot hold 2 GiB of text."""


@dataclass(frozen=True)
class CellJob:
    """How the groups of a cell are routed."""

    policy: PolicyConfig
    routing: RoutingOptions
    tokens: str
    seed: int


@dataclass(frozen=True)
class AdmittedGroup:
    """A group as it was admitted."""

    name: str
    cell: str
    questions: pa.Table
    """As QUESTIONS_SCHEMA, but for columns that the version which admitted it did not have."""

    @classmethod
    def read(cls, row: pa.Table) -> "AdmittedGroup":
        """`row`: one row of GROUPS_SCHEMA."""
        return cls(row["group_id"][0].as_py(), row["cell"][0].as_py(), from_one_cell(row["questions"]))


class RouterLost(Exception):
    """A router died. The traces that it had not handed on are in its journal. (Ray's own exception does not get
    through Ray Data.)"""


class RouteGroup:
    """Ray Data's stateful callable: takes a group and yields parcels of routed traces as they come.

    It is a plain generator, and runs in as many threads of one actor as groups are in flight. (Ray 2.60 collects all
    that an async generator yields for a batch before it passes on the first: a group's traces would come out at its end
    only.)
    """

    def __init__(self, routers: Routers, jobs: dict[str, CellJob], committed: ray.ObjectRef):
        """`jobs`: by cell. `committed`: the `CommittedRows` of the run's tables before this pipeline began."""
        self._routers, self._jobs = routers, jobs
        self._committed: CommittedRows = ray.get(committed)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        group = AdmittedGroup.read(batch)
        job = self._jobs[group.cell]
        committed = self._committed.of(group.name)
        awaited = Counter(i for i in trace_ids(group.questions) if i not in committed.trace_ids)
        for routed in self._routed(group, job, committed):
            awaited.subtract(routed["trace_id"].to_pylist())
            yield as_parcel(routed)
        wrong = [trace for trace, count in awaited.items() if count]
        if wrong:
            raise RuntimeError(
                f"group {group.name}: {len(wrong)} traces were not answered exactly once, among them {wrong[0]}"
            )

    def _routed(self, group: AdmittedGroup, job: CellJob, committed: Committed) -> Iterator[pa.Table]:
        good, bad = split_by_error(group.questions)
        unwritten = [i not in committed.trace_ids for i in trace_ids(bad)]
        if any(unwritten):
            yield error_rows(bad.filter(pa.array(unwritten)), group, job.seed)
        if left_to_ask(group, committed):
            # All questions, also committed ones, because the journal holds the group as it was admitted.
            for routed in self._from_router(good.drop_columns(["error"]), group, job, committed.trace_ids):
                yield without_mixtures(routed, committed.mixtures)

    def _from_router(
        self, questions: pa.Table, group: AdmittedGroup, job: CellJob, committed: frozenset[str]
    ) -> Iterator[pa.Table]:
        from actors.router.router import Job

        message = Job(group.cell, group.name, job.policy, job.routing, job.tokens, job.seed)
        stream = self._routers.route(questions, message, committed)
        pending: list[pa.Table] = []
        due = time.monotonic() + COMMIT_S
        while True:
            wait_s = max(due - time.monotonic(), 0) if pending else None
            if ray.wait([stream], timeout=wait_s)[0]:
                try:
                    pending.append(ray.get(next(stream)).cast(ROUTED_SCHEMA))
                except StopIteration:
                    break
                except ray.exceptions.RayActorError as death:
                    raise RouterLost(f"a router died: {death}") from None
            if pending and (time.monotonic() >= due or _full(pending)):
                yield pa.concat_tables(pending)
                pending, due = [], time.monotonic() + COMMIT_S
        if pending:
            yield pa.concat_tables(pending)


def _full(pending: list[pa.Table]) -> bool:
    """Whether these finished traces should be committed now."""
    traces = sum(table.num_rows for table in pending)
    return traces >= COMMIT_TRACES or sum(table.get_total_buffer_size() for table in pending) >= COMMIT_BYTES


def left_to_ask(group: AdmittedGroup, committed: Committed) -> int:
    """How many of the group's questions can be asked and have no committed row. Of the questions, `id`, `sample` and
    `error` are enough."""
    good, _ = split_by_error(group.questions)
    return sum(i not in committed.trace_ids for i in trace_ids(good))


def without_mixtures(routed: pa.Table, committed: frozenset[tuple]) -> pa.Table:
    """Rows of `ROUTED_SCHEMA` without the mixtures that are committed, given as values of `MIXTURE_KEYS`. A router that
    goes on from its journal hands these on again."""
    if not committed:
        return routed
    kept = [
        [row for row in rows if tuple(row[key] for key in MIXTURE_KEYS) not in committed]
        for rows in routed["mixture_rows"].to_pylist()
    ]
    where = routed.schema.get_field_index("mixture_rows")
    return routed.set_column(where, "mixture_rows", pa.array(kept, pa.list_(MIXTURE_STRUCT)))


def as_parcel(traces: pa.Table) -> pa.Table:
    """One row that holds these traces."""
    return pa.table({"traces": in_one_cell(traces)})


def error_rows(questions: pa.Table, group: AdmittedGroup, seed: int) -> pa.Table:
    """Rows of `ROUTED_SCHEMA` for questions that cannot be asked. They cost nothing and count as wrong."""
    n = questions.num_rows
    given = {
        "trace_id": trace_ids(questions),
        "question_id": questions["id"],
        "cell": [group.cell] * n,
        "group_id": [group.name] * n,
        "seed": [seed] * n,
        "status": [Status.ERROR.value] * n,
        "text": [""] * n,
        "closing_tag": [""] * n,
        "thought_cut": [False] * n,
        "signal_role": [None] * n,
        "usd_tokens": [None] * n,
        "step_rows": [[]] * n,
        "mixture_rows": [[]] * n,
    }
    columns = {
        field.name: given.get(field.name, questions[field.name] if field.name in questions.column_names else [0] * n)
        for field in ROUTED_SCHEMA
    }
    return pa.table(columns, schema=ROUTED_SCHEMA)


def grade_parcel(parcel: pa.Table) -> pa.Table:
    """Add the columns of `VERDICT_FIELDS` to every trace of a parcel, and the seconds that this took to the parcel."""
    started = time.monotonic()
    traces = with_verdicts(from_one_cell(parcel["traces"]))
    graded = as_parcel(traces.select(GRADED_SCHEMA.names))
    return graded.append_column("grading_s", pa.array([time.monotonic() - started]))


def with_verdicts(traces: pa.Table) -> pa.Table:
    """Grade traces. The verdicts are added to them, or replace the verdicts that they have."""
    columns = (traces[name].to_pylist() for name in ("status", "text", "gold", "grader", "labels", "closing_tag"))
    verdicts = [
        NO_RESPONSE if status == Status.ERROR else grade(text, gold, grader, json.loads(labels), closing_tag or "")
        for status, text, gold, grader, labels, closing_tag in zip(*columns, strict=True)
    ]
    for name, kind in VERDICT_FIELDS:
        values = pa.array([getattr(verdict, name) for verdict in verdicts], kind)
        where = traces.schema.get_field_index(name)
        traces = traces.append_column(name, values) if where < 0 else traces.set_column(where, name, values)
    return traces


class RunFolderSink(Datasink[float]):
    """Commits every parcel by itself and tells the group's router, whose journal need not keep it any longer."""

    def __init__(self, run: RunFolder, routers: Routers):
        self._run, self._routers = run, routers
        self.grading_s = 0.0
        """Seconds that grading took, summed over all parcels. Set when all are written."""

    def write(self, blocks, ctx) -> float:
        """Commit these parcels. Returns the seconds that grading them took."""
        grading_s = 0.0
        for parcels in blocks:
            for i in range(parcels.num_rows):
                traces = from_one_cell(parcels.slice(i, 1)["traces"]).cast(GRADED_SCHEMA)
                self._run.commit(traces)
                grading_s += parcels["grading_s"][i].as_py()
                cell, group = traces["cell"][0].as_py(), traces["group_id"][0].as_py()
                self._routers.committed(cell, group, traces["trace_id"].to_pylist())
        return grading_s

    def on_write_complete(self, write_result: WriteResult[float]) -> None:
        self.grading_s = sum(write_result.write_returns)
