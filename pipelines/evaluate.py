"""One Ray Data pipeline: read groups of questions -> route -> grade -> commit to the run's folder.

Ray Data gives streaming input, back-pressure and the commit; the router the loop over steps that it cannot express.
No stage asks for a CPU: the engines may hold every one of them, and a stage that waited for one would stop the run.
"""

import logging
import warnings
from collections.abc import Sequence
from functools import partial

import ray
from ray.actor import ActorHandle
from ray.data import ActorPoolStrategy, DataContext, Dataset, TaskPoolStrategy
from ray.util.annotations import RayDeprecationWarning

from pipelines.cells import Cell, group_tables, refuse_uncuttable
from pipelines.ingest import TablesSource, quiet_context
from pipelines.stages import CellJob, RouteGroup, RunFolderSink, grade_parcel
from pipelines.store import RunFolder

GRADERS_PER_CPU = 0.5
"""Grading tasks at most for a CPU of the cluster: a trace's grading takes well under a millisecond."""


def evaluate(cells: Sequence[Cell], router: ActorHandle, run: RunFolder) -> None:
    """Route every question of every cell, grade it, and commit it to the run's tables; returns when all are committed.

    May be called again for further cells of the same run. Raises ValueError for cells that cannot be cut or are in the
    run already, and what the router raises when a pool is gone for good.
    """
    for cell in cells:
        refuse_uncuttable(cell)
    part = ray.get(_write_groups.remote(run, list(cells), [_described(cell) for cell in cells]))
    router.expect.remote(sum(len(cell.rows) - cell.rows.bad for cell in cells))
    jobs = {cell.name: CellJob(cell.policy, cell.routing, cell.tokens, cell.seed) for cell in cells}
    in_flight = max(cell.routing.groups_in_flight for cell in cells)
    with DataContext.current(_context()):
        # Not `ray.data.read_parquet`: both readers of ray 2.60 look at the files in tasks that want a CPU, whatever
        # `num_cpus` says, and the engines may hold every one.
        groups = TablesSource([partial(run.read_groups, part)]).dataset(local=False)
        graded = _routed(groups, router, jobs, in_flight).map_batches(
            grade_parcel, batch_format="pyarrow", batch_size=1, num_cpus=0, compute=TaskPoolStrategy(_graders())
        )
        graded.write_datasink(RunFolderSink(run), ray_remote_args={"num_cpus": 0}, concurrency=_graders())


@ray.remote(num_cpus=0)
def _write_groups(run: RunFolder, cells: list[Cell], described: list[dict]) -> str:
    """In a task: the questions need not pass through the driver."""
    return run.write_groups(group_tables(cells), described)


def _routed(groups: Dataset, router: ActorHandle, jobs: dict[str, CellJob], in_flight: int) -> Dataset:
    threads = ActorPoolStrategy(
        size=1,
        max_concurrent_calls_per_actor=in_flight,
        max_tasks_in_flight_per_actor=in_flight,
        enable_true_multi_threading=True,
    )
    with warnings.catch_warnings():
        # Ray 2.60 warns of any remote argument that map_batches does not name, and has no name for these two.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        return groups.map_batches(
            RouteGroup,
            fn_constructor_args=(router, jobs),
            batch_size=1,
            batch_format="pyarrow",
            compute=threads,
            num_cpus=0,
            # A group that was routed half is not routed again behind the router's back.
            max_restarts=0,
            max_task_retries=0,
        )


def _graders() -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1) * GRADERS_PER_CPU))


def _context() -> DataContext:
    # What it warns of is meant so: no CPU is free, its own bars are off, there are fewer parcels than graders.
    context = quiet_context(logging.ERROR)
    # A block is a row: a group before the router, a parcel behind it. Rows are never split, so the least size does it.
    context.target_max_block_size = 1
    warnings.filterwarnings("ignore", message="The maximum number of concurrent tasks")
    return context


def _described(cell: Cell) -> dict:
    return {
        "name": cell.name,
        "policy": cell.policy.model_dump(mode="json"),
        "routing": cell.routing.model_dump(mode="json"),
        "tokens": cell.tokens,
        "seed": cell.seed,
        "groups": cell.groups,
        "traces": len(cell.rows),
    }
