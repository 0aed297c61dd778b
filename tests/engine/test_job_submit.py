"""`ray job submit` of the main job against a cluster of its own, with the embedded pair."""

import subprocess

import pytest
from job_cluster import job_cluster, submission
from paths import ROOT
from patience import PATIENCE_S

from steer.storage.run_folder import RunFolder

pytestmark = [pytest.mark.ray, pytest.mark.engine]


@pytest.fixture
def head():
    with job_cluster() as cluster:
        yield cluster


def test_the_main_job_runs_as_a_submitted_job_with_a_policy_of_the_working_directory(head, tmp_path):
    address, environment = head
    out = tmp_path / "run"
    job = ["python", "-m", "pipelines.cli", "run", "pipelines/configs/run-embedded.yaml"]
    job += ["--set", "benchmark.limit=8", "--set", "seed=5", "--out", str(out)]
    job += ["--set", "policy={name: custom, object: 'tests.turns:Turns'}"]
    options = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True, "timeout": PATIENCE_S}
    done = subprocess.run(submission(address, "env", "STEER_GIT_COMMIT=81700ec", *job), **options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    traces = RunFolder.open(out).read("traces")
    assert traces.num_rows == 8 and set(traces["status"].to_pylist()) <= {"answered", "length"}
    assert set(traces["seed"].to_pylist()) == {5}
    assert RunFolder.open(out).describe()["git_commit"] == "81700ec", "what was uploaded has no .git"
    steps = RunFolder.open(out).read("steps")
    assert {(n % 2, model) for n, model in zip(steps["step"].to_pylist(), steps["model"].to_pylist(), strict=True)} == {
        (0, "large"),
        (1, "small"),
    }
