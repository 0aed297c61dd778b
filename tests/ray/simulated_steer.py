"""`steer` with simulated engines, as a program: python tests/ray/simulated_steer.py run ... (same arguments, same exit
codes). Its experiment tries two thresholds a method, so that it takes half as long."""

import sys
from functools import partial

from actors.simulated.instant import SimulatedReplica
from pipelines import cli
from pipelines.report.paper import rows
from pipelines.run import run
from pipelines.sweep import paper, sweep

if __name__ == "__main__":
    rows.GRIDS = {policy: grid[::2][:2] for policy, grid in rows.GRIDS.items()}
    rows.GROUP_GRID, rows.PERCENTILES = rows.GROUP_GRID[:2], rows.PERCENTILES[:2]
    run.run_one = partial(run.run_one, replica_class=SimulatedReplica)
    paper.run_paper = partial(paper.run_paper, replica_class=SimulatedReplica)
    sweep.run_sweep = partial(sweep.run_sweep, replica_class=SimulatedReplica)
    sys.exit(cli.main())
