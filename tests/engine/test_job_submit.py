"""`ray job submit` of the main job against a cluster of its own, with the embedded pair."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from paths import ROOT
from patience import PATIENCE_S
from ports import free_ports

from steer.storage.run_folder import RunFolder

pytestmark = [pytest.mark.ray, pytest.mark.engine]

BIN = Path(sys.executable).parent


@pytest.fixture
def head():
    """(dashboard's address, environment for its clients) of a fresh `ray start --head`, which is ended afterwards."""
    gcs, dashboard, client, agent = free_ports(4)
    # Not tmp_path: Ray's sockets lie in it, and a socket's path may have 107 characters.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    # Ray asks for a token from 2.59 on: this cluster has one of its own, which ends with it.
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    # Ray's own patience with its dashboard is a minute, after which it goes on without.
    environment["RAY_DASHBOARD_STARTUP_TIMEOUT_S"] = str(PATIENCE_S)
    environment["PATH"] = f"{BIN}{os.pathsep}{environment['PATH']}"
    ports = {
        "port": gcs,
        "dashboard-port": dashboard,
        "ray-client-server-port": client,
        "dashboard-agent-listen-port": agent,
    }
    options = [f"--{name}={port}" for name, port in ports.items()]
    command = [BIN / "ray", "start", "--head", "--block", "--num-cpus=4", "--disable-usage-stats", *options]
    command += ["--dashboard-host=127.0.0.1", f"--temp-dir={folder}", "--object-store-memory=300000000"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in process.stdout:
        if "Ray runtime started" in line:
            break
    else:
        pytest.fail("ray start ended before the cluster was up")
    yield f"http://127.0.0.1:{dashboard}", environment
    tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(tree, timeout=5)
    for left in alive:
        left.kill()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)


def test_the_main_job_runs_as_a_submitted_job_with_a_policy_of_the_working_directory(head, tmp_path):
    address, environment = head
    out = tmp_path / "run"
    job = ["python", "-m", "pipelines.cli", "run", "pipelines/configs/run-embedded.yaml"]
    job += ["--set", "benchmark.limit=8", "--set", "seed=5", "--out", str(out)]
    job += ["--set", "policy={name: custom, object: 'tests.turns:Turns'}"]
    submit = [BIN / "ray", "job", "submit", "--address", address, "--working-dir", "."]
    submit += ["--runtime-env", "cluster/runtime_env.yaml", "--", "env", "STEER_GIT_COMMIT=81700ec", *job]
    done = subprocess.run(submit, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
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
