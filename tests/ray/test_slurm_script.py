"""cluster/slurm.sh with several `ray start` on this machine: `srun` is a stand-in that runs its command here."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT
from patience import PATIENCE_S

from steer.storage.run_folder import RunFolder

pytestmark = pytest.mark.ray

SRUN = """#!/usr/bin/env bash
echo "$1" >> "$SRUN_CALLS"
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
RUN = ["python", "-m", "pipelines.cli", "run", "pipelines/configs/run-embedded.yaml", "--set", "pair=simulated"]


@pytest.fixture
def slurm(tmp_path):
    """The environment of a job with a head and a node a pool."""
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(SRUN)
    srun.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "RAY_AUTH_TOKEN")}
    return environment | {
        "PATH": f"{srun.parent}{os.pathsep}{os.environ['PATH']}",
        "SRUN_CALLS": str(tmp_path / "calls"),
        "STEER_BIN": str(Path(sys.executable).parent),
        "STEER_RAY_OPTIONS": "--num-cpus=2 --object-store-memory=100000000",
        "SLURM_JOB_ID": str(random.randrange(1_000)),
        "STEER_NODES_WAIT_S": str(PATIENCE_S // 3),
        "SLURM_SUBMIT_DIR": str(ROOT),
        "SLURM_JOB_NUM_NODES_HET_GROUP_1": "1",
        "SLURM_JOB_NUM_NODES_HET_GROUP_2": "1",
    }


def test_a_run_with_a_pool_a_group_finishes(slurm, tmp_path):
    labels = ["--set", "pools.small.label=small", "--set", "pools.large.label=large"]
    command = [*RUN, *labels, "--set", "benchmark.limit=4", "--resume", str(tmp_path / "run")]
    done = subprocess.run(
        ["bash", ROOT / "cluster" / "slurm.sh", *command],
        env=slurm,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stdout
    # A pool with a label runs on nodes with it alone: without both groups the run would have waited.
    assert RunFolder.open(tmp_path / "run").read("traces").num_rows == 4
    assert sorted((tmp_path / "calls").read_text().split()) == ["--het-group=1", "--het-group=2"]


def test_a_job_without_a_command_is_wrong_usage(slurm):
    done = subprocess.run(["bash", ROOT / "cluster" / "slurm.sh"], env=slurm, capture_output=True, text=True)
    assert done.returncode == 2 and "sbatch" in done.stderr
