"""A fresh `ray start --head` that jobs are submitted to, with a token of its own."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from patience import PATIENCE_S
from ports import free_ports

BIN = Path(sys.executable).parent


@contextmanager
def job_cluster() -> Iterator[tuple[str, dict[str, str]]]:
    """(dashboard's address, environment for its clients). The cluster ends with the block."""
    gcs, dashboard, client, agent = free_ports(4)
    # Not tmp_path: Ray's sockets lie in it, and a socket's path may have 107 characters.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    # Ray's own patience with its dashboard is a minute, after which it goes on without.
    environment["RAY_DASHBOARD_STARTUP_TIMEOUT_S"] = str(PATIENCE_S)
    # As cluster/rayjob.yaml has it: Ray's 3 s are too short for a run that ends itself.
    environment["RAY_JOB_STOP_WAIT_TIME_S"] = str(PATIENCE_S)
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
    try:
        assert any("Ray runtime started" in line for line in process.stdout), (
            "ray start ended before the cluster was up"
        )
        yield f"http://127.0.0.1:{dashboard}", environment
    finally:
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(tree, timeout=5)
        for left in alive:
            left.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def submission(address: str, *command: str, name: str = "") -> list:
    """Arguments of `ray job submit` of a command, from the repository's root."""
    submit = [BIN / "ray", "job", "submit", "--address", address, "--working-dir", "."]
    named = ["--submission-id", name] if name else []
    return [*submit, *named, "--runtime-env", "cluster/runtime_env.yaml", "--", *command]
