"""What `ray job submit` gives for a run that is done, failed, wrongly configured or stopped (docs/reliability.md).
The jobs run on a cluster of their own, with simulated engines."""

import json
import subprocess
import time
import urllib.error
import urllib.request

import pytest
import yaml
from job_cluster import BIN, job_cluster, submission
from paths import ROOT
from patience import PATIENCE_S

from steer.storage.run_folder import RunFolder

pytestmark = pytest.mark.ray

RUN = ["python", "-m", "pipelines.cli", "run", "pipelines/configs/run-embedded.yaml", "--set", "benchmark.limit=4"]


@pytest.fixture(scope="module")
def cluster():
    with job_cluster() as started:
        yield started


def submit(cluster, name, *command):
    """(exit code, what it printed) of `ray job submit`, which waits for the job's end."""
    address, environment = cluster
    options = {"cwd": ROOT, "env": environment, "text": True, "timeout": PATIENCE_S}
    done = subprocess.run(
        submission(address, *command, name=name), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
    )
    return done.returncode, done.stdout


def described(cluster, name):
    """(status, exit code of the entrypoint) by the job server of the cluster; (None, None) if it has no such job."""
    address, environment = cluster
    request = urllib.request.Request(
        f"{address}/api/jobs/{name}", headers={"Authorization": f"Bearer {environment['RAY_AUTH_TOKEN']}"}
    )
    try:
        with urllib.request.urlopen(request) as answer:
            job = json.load(answer)
    except urllib.error.HTTPError:
        return None, None
    return job["status"], job["driver_exit_code"]


def simulated(folder, **engine):
    """A pair file whose engines have these options."""
    model = {"parameters": 1.0, "engine": engine}
    path = folder / "pair.yaml"
    path.write_text(yaml.safe_dump({size: {"path": f"simulated:{size}", **model} for size in ("small", "large")}))
    return f"pair={path}"


def test_a_finished_run_ends_with_0(cluster, tmp_path):
    code, _ = submit(cluster, "done", *RUN, "--set", "pair=simulated", "--out", str(tmp_path / "run"))
    assert (code, *described(cluster, "done")) == (0, "SUCCEEDED", 0)
    assert RunFolder.open(tmp_path / "run").read("traces").num_rows == 4


def test_a_wrong_configuration_ends_with_1_and_the_job_says_2(cluster, tmp_path):
    command = [
        "bash",
        "cluster/entrypoint.sh",
        *RUN,
        "--set",
        "pools.small.replica=2",
        "--resume",
        str(tmp_path / "run"),
    ]
    code, printed = submit(cluster, "wrong", *command)
    assert (code, *described(cluster, "wrong")) == (1, "FAILED", 2)
    assert "steer: " in printed and "runs again" not in printed


def test_a_failed_run_is_tried_again_and_ends_with_1(cluster, tmp_path):
    command = ["env", "STEER_RETRIES=1", "STEER_RETRY_WAIT_S=0", "bash", "cluster/entrypoint.sh", *RUN]
    command += ["--set", simulated(tmp_path, unusable=True), "--resume", str(tmp_path / "run")]
    code, printed = submit(cluster, "failed", *command)
    assert (code, *described(cluster, "failed")) == (1, "FAILED", 1)
    assert printed.count("the models did not start") >= 2 and "(1 of 1)" in printed


def test_a_stopped_run_is_no_failure_and_is_not_tried_again(cluster, tmp_path):
    address, environment = cluster
    folder = tmp_path / "run"
    command = ["env", "STEER_RETRY_WAIT_S=0", "bash", "cluster/entrypoint.sh", *RUN, "--resume", str(folder)]
    slow = [*command, "--set", simulated(tmp_path, row_s=PATIENCE_S)]
    options = {"cwd": ROOT, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    waiting = subprocess.Popen(submission(address, *slow, name="stopped"), **options)
    until(lambda: (folder / "run.json").exists())
    subprocess.run([BIN / "ray", "job", "stop", "--address", address, "stopped"], timeout=PATIENCE_S, **options)
    assert waiting.wait(PATIENCE_S) == 0  # `ray job submit` takes a stopped job for no failure
    assert described(cluster, "stopped") == ("STOPPED", None)


def until(true):
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, true
        time.sleep(0.1)
