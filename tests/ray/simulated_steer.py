"""`steer` with simulated engines, as a program: python tests/ray/simulated_steer.py run ... (same arguments, same exit
codes)."""

import sys
from functools import partial

from actors.simulated.instant import SimulatedReplica
from pipelines import cli
from pipelines.run import run
from pipelines.sweep import paper, sweep

if __name__ == "__main__":
    run.run_one = partial(run.run_one, replica_class=SimulatedReplica)
    paper.run_paper = partial(paper.run_paper, replica_class=SimulatedReplica)
    sweep.run_sweep = partial(sweep.run_sweep, replica_class=SimulatedReplica)
    sys.exit(cli.main())
