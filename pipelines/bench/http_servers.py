"""The servers that `steer bench serve` measures: each is a process tree of its own that is started, paused and ended
from here.

Invariant: however the block of a server ends, none of its processes is left, and none is left stopped.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from pipelines.arguments import API_KEY
from pipelines.run.session import StartFailed
from steer.config.run import ModelConfig, PoolConfig

HOST = "127.0.0.1"
LOADED_S = 600.0
"""Seconds in which a server must have loaded its models."""
GONE_S = 90.0
"""Seconds that a server has to end by itself: more than an endpoint waits for live requests."""
LOOK_S = 0.5
"""Seconds between two looks at a loading server."""
ERROR_CHARS = 3000
"""How much of a failed server's output is shown."""
PLAIN_MODEL = "large"
"""What plain vLLM calls its model."""
PLAIN_MODULE = "vllm.entrypoints.openai.api_server"
"""Starts what `vllm serve` starts. The console script asks for the metadata of a package called `vllm`, and vLLM's
build for CPUs is called otherwise, so there it ends with an error."""


class Server:
    """A running server and the processes that it started."""

    def __init__(self, process: subprocess.Popen, port: int):
        self._process = process
        self.url = f"http://{HOST}:{port}"

    def processes(self) -> list[psutil.Process]:
        """The process and all that it has started, its own first."""
        try:
            own = psutil.Process(self._process.pid)
            return [own, *own.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def busy_cores(self, seconds: float) -> float:
        """Cores that the processes keep busy over the next `seconds`."""
        before = _cpu_seconds(self.processes())
        time.sleep(seconds)
        after = _cpu_seconds(self.processes())
        return sum(used - before.get(process, 0.0) for process, used in after.items()) / seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the processes (SIGSTOP) as long as the block runs, so that they take nothing from what is measured."""
        stopped = self.processes()
        try:
            _signal(stopped, signal.SIGSTOP)
            yield
        finally:
            _signal(stopped, signal.SIGCONT)

    def wait_until_loaded(self, what: str, output: Path) -> None:
        """Raises StartFailed, with the end of the output, if the server ends or does not load."""
        until_s = time.monotonic() + LOADED_S
        while time.monotonic() < until_s:
            if self._process.poll() is not None:
                raise StartFailed(f"{what} ended with exit code {self._process.returncode}:\n{_end_of(output)}")
            with suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health", timeout=10.0).status_code == 200:
                    return
            time.sleep(LOOK_S)
        raise StartFailed(f"{what} has not loaded within {LOADED_S:g} s:\n{_end_of(output)}")

    def end(self) -> None:
        """End the server as Ctrl-C does, then what is left of it."""
        left = self.processes()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(GONE_S)
        left = [process for process in {*left, *self.processes()} if process.is_running()]
        _signal(left, signal.SIGKILL)
        psutil.wait_procs(left, GONE_S)
        self._process.wait()


@contextmanager
def running(what: str, command: Sequence[str], environment: Mapping[str, str], port: int) -> Iterator[Server]:
    """A loaded server. `environment`: beside this process's own, of which the key of an endpoint is left out."""
    inherited = {name: value for name, value in os.environ.items() if name != API_KEY}
    with tempfile.TemporaryDirectory(prefix="steer-bench-serve-") as folder:
        output = Path(folder, "output")
        with output.open("wb") as sink:
            process = subprocess.Popen(
                command,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**inherited, **environment},
                start_new_session=True,  # Ctrl-C reaches this process alone, which ends the servers one by one.
            )
            server = Server(process, port)
            try:
                server.wait_until_loaded(what, output)
                yield server
            finally:
                server.end()


@contextmanager
def endpoint(sets: Sequence[str]) -> Iterator[Server]:
    """`steer serve` with these `KEY=VALUE` of its configuration."""
    port = free_port()
    command = [sys.executable, "-m", "pipelines.cli", "serve", "--port", str(port)]
    for item in sets:
        command += ["--set", item]
    with running("steer serve", command, {}, port) as server:
        yield server


@contextmanager
def plain_server(model: ModelConfig, pool: PoolConfig) -> Iterator[Server]:
    """`vllm serve` of one model, as `PLAIN_MODEL`, with a replica's engine arguments and environment."""
    from actors.engine.arguments import set_environment

    before = dict(os.environ)
    try:
        set_environment(pool.gpus)
        set_by_it = {name: value for name, value in os.environ.items() if before.get(name) != value}
        from pipelines.bench.plain_engine import as_replica

        arguments = as_replica(model, pool)
    finally:
        os.environ.clear()
        os.environ.update(before)
    set_by_it.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)  # The server's engine is a process of its own in any case.
    port = free_port()
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", PLAIN_MODULE, *flags(arguments)]
    command += ["--host", HOST, "--port", str(port), "--served-model-name", PLAIN_MODEL, "--disable-uvicorn-access-log"]
    with running("vllm serve", command, set_by_it, port) as server:
        yield server


def flags(arguments: Mapping[str, Any]) -> list[str]:
    """Keyword arguments of `vllm.EngineArgs` as `vllm serve` takes them.

    None is left to vLLM, and so is a function, which no command line can carry (`hf_overrides` of models whose
    checkpoint vLLM reads as another class).
    """
    found: list[str] = []
    for key, value in arguments.items():
        name = key.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, dict | list):
            found += [f"--{name}", json.dumps(value)]
        elif value is not None and not callable(value):
            found += [f"--{name}", str(value)]
    return found


def free_port() -> int:
    """A port of `HOST` that nobody listens on."""
    with socket.socket() as tried:
        tried.bind((HOST, 0))
        return int(tried.getsockname()[1])


def _cpu_seconds(processes: Sequence[psutil.Process]) -> dict[psutil.Process, float]:
    found = {}
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            found[process] = times.user + times.system
    return found


def _signal(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _end_of(output: Path) -> str:
    return output.read_text(errors="replace")[-ERROR_CHARS:]
