"""`steer` with simulated engines, as a program: python tests/ray/simulated_steer.py run ... (same arguments, same exit
codes)."""

import sys
from functools import partial

import pipelines.paper
import pipelines.run
import pipelines.sweep
from actors.simulated import SimulatedReplica
from pipelines import cli

if __name__ == "__main__":
    pipelines.run.run_one = partial(pipelines.run.run_one, replica_class=SimulatedReplica)
    pipelines.paper.run_paper = partial(pipelines.paper.run_paper, replica_class=SimulatedReplica)
    pipelines.sweep.run_sweep = partial(pipelines.sweep.run_sweep, replica_class=SimulatedReplica)
    sys.exit(cli.main())
