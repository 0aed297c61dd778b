"""One Ray Data pipeline: read groups of questions -> route -> grade -> commit to the run's folder.

Ray Data does the streaming input, the back-pressure and the commit. The router does the loop over steps, which Ray Data
cannot express.

Invariant: no stage asks for a CPU. The engines may hold all CPUs, and a stage that waited for one would stop the run.
"""

import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset, TaskPoolStrategy
from ray.util.annotations import RayDeprecationWarning

from pipelines.run.cells import (
    Cell,
    cut_into_groups,
    group_name,
    group_tables,
    groups_in_flight,
    refuse_uncuttable,
)
from pipelines.run.ingest import TablesSource, quiet_context
from pipelines.run.routers import Groups, Routers
from pipelines.run.session import beside_driver
from pipelines.run.stages import AdmittedGroup, CellJob, RouteGroup, RunFolderSink, grade_parcel, left_to_ask
from steer.config.shares import split_evenly
from steer.storage.parts import MANY_PARTS
from steer.storage.run_folder import CommittedRows, RunFolder

GRADERS_PER_CPU = 0.5
"""Most grading tasks for each CPU of the cluster. To grade a trace takes well under a millisecond."""
MERGE_S = 30.0
"""Seconds between two looks whether there are parts to merge. A look lists three folders."""
LEFT_PARTS = 16
"""Small parts of a table that are merged at the end of a pipeline. Fewer are left as they are."""
_ASKED = ("id", "sample", "error")
"""Fields of a question that say whether it is still to be asked."""


def evaluate(cells: Sequence[Cell], routers: Routers, run: RunFolder) -> float:
    """Route every question of every cell, grade it and commit it to the run's tables.

    Returns, when all are committed, the seconds that grading took, summed over its tasks. May be called again for other
    cells of the same run. Questions whose rows the run's tables hold already are not routed again. Raises ValueError
    for cells that cannot be cut into groups, and what the router raises if a pool is gone for good.
    """
    admitted = {cell["name"] for cell in run.describe()["cells"]}
    new = [cell for cell in cells if cell.name not in admitted]
    for cell in new:
        refuse_uncuttable(cell)
    old = [cell.name for cell in cells if cell.name in admitted]
    committed, left = _look.remote(run, _parts(run, old))
    if new:
        ray.get(_write_groups.remote(run, new))
    described = run.describe()["cells"]
    parts = _parts(run, [cell.name for cell in cells])
    routers = routers.of_run(described)
    routers.expect(ray.get(left) | _expected(new, described))
    jobs = {cell.name: CellJob(cell.policy, cell.routing, cell.tokens, cell.seed) for cell in cells}
    in_flight = groups_in_flight(cells, [entry for entry in described if entry["name"] in jobs])
    with DataContext.current(_context()):
        # `ray.data.read_parquet` would not do: both of Ray 2.60's readers look at the files in tasks that need a CPU,
        # whatever `num_cpus` says.
        readers = [partial(run.read_groups, part, held) for part, held in parts.items()]
        groups = TablesSource(readers).dataset(local=False)
        graded = _routed(groups, routers, jobs, in_flight, committed).map_batches(
            grade_parcel, batch_format="pyarrow", batch_size=1, num_cpus=0, compute=TaskPoolStrategy(_graders())
        )
        sink = RunFolderSink(run, routers)
        with _parts_merged(run):
            graded.write_datasink(sink, ray_remote_args={"num_cpus": 0}, concurrency=_graders())
    return sink.grading_s


@contextmanager
def _parts_merged(run: RunFolder) -> Iterator[None]:
    """Merge the tables' small parts in tasks of their own while the block runs, and what is left when it has ended.

    A merge that fails is tried again later. It stops no run, because the parts that it would have merged are whole: the
    commits report a full disk.
    """
    over = threading.Event()
    merging: list[ray.ObjectRef] = []

    def merge() -> None:
        while not over.wait(MERGE_S):
            merging[:] = [_merge_parts.remote(run)]
            _await_merge(merging[0])

    thread = threading.Thread(target=merge, name="merge parts", daemon=True)
    thread.start()
    try:
        yield
        over.set()
        thread.join()
        _await_merge(_merge_parts.remote(run, LEFT_PARTS))
    finally:
        # Whoever goes on with the run cleans its folder, and nobody else may write there by then.
        over.set()
        for task in merging:
            ray.cancel(task, force=True)
        thread.join()


def _await_merge(task: ray.ObjectRef) -> None:
    try:
        ray.get(task)
    except ray.exceptions.TaskCancelledError:
        pass
    except ray.exceptions.RayError as failure:
        reason = getattr(failure, "cause", None) or failure
        print(f"steer: small parts are not merged and stay as they are: {reason}", file=sys.stderr, flush=True)


@ray.remote(num_cpus=0, max_retries=0)
def _merge_parts(run: RunFolder, least: int = MANY_PARTS) -> None:
    run.merge_parts(least)


def _parts(run: RunFolder, cells: Sequence[str]) -> dict[str, list[str]]:
    """Names of the cells by the part of `questions/` that holds their groups."""
    parts: dict[str, list[str]] = {}
    for cell in run.describe()["cells"]:
        if cell["name"] in cells:
            parts.setdefault(cell["part"], []).append(cell["name"])
    return parts


@ray.remote(num_cpus=0, num_returns=2)
def _look(run: RunFolder, parts: dict[str, list[str]]) -> tuple[CommittedRows, Groups]:
    """What the tables hold of these cells, and how many traces of each of their groups a router is still to be asked
    for. In a task, because the driver needs neither ids nor questions."""
    committed = run.committed([name for cells in parts.values() for name in cells])
    rows = (AdmittedGroup.read(row) for part, cells in parts.items() for row in run.read_groups(part, cells, _ASKED))
    return committed, {(group.cell, group.name): left_to_ask(group, committed.of(group.name)) for group in rows}


def _expected(cells: Sequence[Cell], described: Sequence[dict[str, Any]]) -> Groups:
    """How many traces of each of these new cells' groups a router will be asked for. The sum of a cell is exact. Which
    groups have the questions that cannot be asked is not known yet: they are taken to be spread evenly."""
    groups = {entry["name"]: entry["groups"] for entry in described}
    return {
        (cell.name, group_name(cell.name, number)): split_evenly(
            len(cell.rows) - cell.rows.bad, number, groups[cell.name]
        )
        for cell in cells
        for number in range(groups[cell.name])
    }


@ray.remote(num_cpus=0)
def _write_groups(run: RunFolder, cells: list[Cell]) -> None:
    """Write the groups from a task, so that the questions do not pass through the driver."""
    cut = [(cell, cut_into_groups(cell)) for cell in cells]
    run.write_groups(group_tables(cut), [_described(cell, len(parts)) for cell, parts in cut])


def _routed(
    groups: Dataset,
    routers: Routers,
    jobs: dict[str, CellJob],
    in_flight: int,
    committed: ray.ObjectRef,
) -> Dataset:
    threads = ActorPoolStrategy(
        size=1,
        max_concurrent_calls_per_actor=in_flight,
        max_tasks_in_flight_per_actor=in_flight,
        enable_true_multi_threading=True,
    )
    with warnings.catch_warnings():
        # Ray 2.60 warns of remote arguments that map_batches does not name: `max_restarts` and `max_task_retries`.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        return groups.map_batches(
            RouteGroup,
            fn_constructor_args=(routers, jobs, committed),
            batch_size=1,
            batch_format="pyarrow",
            compute=threads,
            num_cpus=0,
            label_selector=beside_driver(),
            # Ray must not route a group again that is half done: the supervisor does, from the journal.
            max_restarts=0,
            max_task_retries=0,
        )


def _graders() -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1) * GRADERS_PER_CPU))


def _context() -> DataContext:
    context = quiet_context()
    # One row a block: before the router a group, behind it a parcel. Rows are never split, so the least size does it.
    context.target_max_block_size = 1
    warnings.filterwarnings("ignore", message="The maximum number of concurrent tasks")
    return context


def _described(cell: Cell, groups: int) -> dict[str, Any]:
    return {
        "name": cell.name,
        "policy": cell.policy.model_dump(mode="json"),
        "routing": cell.routing.model_dump(mode="json"),
        "tokens": cell.tokens,
        "seed": cell.seed,
        "groups": groups,
        "traces": len(cell.rows),
    }
