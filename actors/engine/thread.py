"""The base of every replica: one engine in one process, behind one private thread.

The thread loads the engine and runs its loop (`inbox -> admit -> advance -> answers`). The methods are async and never
touch the engine. Any exception in the thread after loading ends the process, so that nobody waits for a dead engine:
the router's calls fail, and its replica set starts a successor. No replica is restarted in place. If the model cannot
be loaded, `describe` raises instead and the process stays, because a new process could not load the model either.
Loading begins with the first call of `describe`: the weights are downloaded before, by `download`, and take their time.
"""

import asyncio
import os
import queue
import re
import socket
import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from actors.engine.arguments import set_environment
from actors.engine.checkpoint import DownloadFailed, count_parameters, download, model_folder
from actors.engine.in_flight import Answer, Outbox, in_columns
from steer.config.run import ModelConfig, PoolConfig
from steer.config.secrets import hidden, remember
from steer.messages import CallAnswers, EngineInfo, StepBatch, StepResults

ADMIT, CUT = "admit", "cut"
"""What the inbox asks of the engine's thread."""


class EngineThread(ABC):
    """A subclass says how the engine is loaded (`_load`)."""

    def __init__(self, name: str, model: ModelConfig, pool: PoolConfig, measures: tuple[str, ...]):
        """`measures`: of `steer.traces.MEASURES`."""
        remember(model.engine)
        self._name = name
        self._model = model
        self._pool = pool
        self._measures = tuple(measures)
        self._inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._outbox = Outbox()
        self._loaded: Future[EngineInfo] = Future()
        self._busy_s = 0.0
        self._busy_since_s: float | None = None
        self._thread = threading.Thread(target=self._main, name=f"engine-{name}", daemon=True)

    async def download(self) -> None:
        """Have the model's weights on this machine: those of a Hub id are downloaded, any other path is left alone.
        RuntimeError with the reason and the remedy if they cannot be had."""
        try:
            await asyncio.to_thread(download, self._model.path, self._model.engine)
        except DownloadFailed as failure:
            reason = f"replica {self._name} cannot download {self._model.path}: {failure}"
            # Its text is in the reason; as a cause Ray would print it unhidden.
            raise RuntimeError(hidden(reason)) from None

    def __repr__(self) -> str:
        """The name of the actor in Ray's logs and dashboard."""
        return self._name

    async def describe(self) -> EngineInfo:
        """Wait until the model is loaded; the first call begins to load it. RuntimeError with the reason if it cannot
        be."""
        if self._thread.ident is None:  # not begun; no other call comes between, because all are on one event loop
            self._thread.start()
        return await asyncio.shield(asyncio.wrap_future(self._loaded))

    async def submit(self, call: int, batch: StepBatch) -> None:
        """Take a batch in. Every row is answered to its end in the messages of `answers`.

        Without `batch.flush_s`, all answers come in one message, when the last row is done.
        """
        await self.describe()
        self._inbox.put((ADMIT, self._outbox.open(call, batch)))

    async def cut(self, rows: list[tuple[int, int]]) -> None:
        """Have writing rows, given by call and position in its batch, stop. Each is answered with the finish
        `cut`, unless it has ended by itself meanwhile."""
        self._inbox.put((CUT, rows))

    async def answers(self) -> AsyncIterator[list[CallAnswers]]:
        """Yield messages with the answers to all calls, for a while. Then ask again: nothing is lost in between."""

        def columns(answers: list[Answer]) -> StepResults:
            return in_columns(answers, self._name, self._busy_now_s())

        async for message in self._outbox.messages(columns):
            yield message

    def _busy_now_s(self) -> float:
        """Seconds since loading in which the engine had work."""
        since_s = self._busy_since_s
        return self._busy_s + (time.monotonic() - since_s if since_s is not None else 0.0)

    # --- the engine's thread ----------------------------------------------------------------------------------------

    @abstractmethod
    def _load(self):
        """Load the engine. Returns its loop (`EngineLoop`, or a class with the same methods) and its `EngineInfo`.
        Called once, in the thread."""

    def _main(self) -> None:
        try:
            loop, info = self._load()
        except Exception as error:
            print(hidden(traceback.format_exc()), file=sys.stderr)
            reason = f"replica {self._name} cannot load {self._model.path}: {type(error).__name__}: {error}"
            self._loaded.set_exception(RuntimeError(hidden(reason)))
            return
        self._loaded.set_result(info)
        try:
            while True:
                self._read_inbox(loop)
                if loop.unfinished:
                    loop.advance()
        except BaseException:
            print(hidden(traceback.format_exc()), file=sys.stderr, flush=True)
            os._exit(1)

    def _read_inbox(self, loop) -> None:
        """Carry out the tasks in the inbox. If the engine has no work, wait for a task."""
        while True:
            idle = not loop.unfinished
            if idle and self._busy_since_s is not None:
                self._busy_s, self._busy_since_s = self._busy_now_s(), None
            try:
                task, what = self._inbox.get(block=idle)
            except queue.Empty:
                return
            if self._busy_since_s is None:
                self._busy_since_s = time.monotonic()
            if task == ADMIT:
                loop.admit(what)
                continue
            for call, index in what:
                in_flight = self._outbox.find(call)
                if in_flight is not None:
                    loop.cut(in_flight, index)

    def _info(self, fingerprint: str, max_model_len: int, measures: tuple[str, ...]) -> EngineInfo:
        import torch
        import transformers
        import vllm

        return EngineInfo(
            replica=self._name,
            model=model_folder(self._model.path),
            parameters=self._model.parameters or count_parameters(self._model.path),
            tokenizer=fingerprint,
            max_model_len=max_model_len,
            measures=measures,
            pid=os.getpid(),
            node=socket.gethostname(),
            versions={module.__name__: module.__version__ for module in (vllm, torch, transformers)},
        )


DRIVERS = {12: "525.60.13", 13: "580.65.06"}
"""The oldest NVIDIA driver for Linux on which every minor version of this CUDA runs, by NVIDIA's table."""
DRIVER_FILE = Path("/proc/driver/nvidia/version")
"""Where the loaded driver's kernel module says its version."""


def prepare_process(pool: PoolConfig) -> None:
    """Set the environment up, before anything of vLLM is imported.

    RuntimeError if the pool asks for GPUs and this process can use none; it names a driver that is too old.
    """
    set_environment(pool.gpus)
    import torch

    if pool.gpus > 0 and not torch.cuda.is_available():
        driver = DRIVER_FILE.read_text() if DRIVER_FILE.exists() else ""
        raise RuntimeError(no_gpu(torch.version.cuda, driver))


def started_engine(arguments: dict[str, Any], pool: PoolConfig):
    """A `vllm.LLMEngine` with these arguments of `vllm.EngineArgs`.

    With `pool.engine_metrics` vLLM's own metrics go to the metrics page of the node, as the router's do.
    """
    import vllm

    if not pool.engine_metrics:
        return vllm.LLMEngine.from_engine_args(vllm.EngineArgs(**arguments))
    from vllm.v1.metrics.ray_wrappers import RayPrometheusStatLogger

    counted = vllm.EngineArgs(**arguments | {"disable_log_stats": False})
    return vllm.LLMEngine.from_engine_args(counted, stat_loggers=[RayPrometheusStatLogger])


def no_gpu(cuda: str | None, driver: str) -> str:
    """Why torch, built for CUDA version `cuda` (None: for the CPU), can use no GPU, and the remedy.

    `driver` is the text of `DRIVER_FILE`, empty if no driver is loaded.
    """
    if cuda is None:
        return (
            "the pool asks for GPUs and this node's torch is a CPU build: run `bash cluster/install.sh PYTHON gpu` "
            "there, or set `gpus: 0`"
        )
    needed = DRIVERS.get(int(cuda.split(".")[0]))
    found = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", driver)
    if found is None:
        return (
            f"the pool asks for GPUs and this node has no NVIDIA driver loaded; torch's CUDA {cuda} needs "
            f"{needed or 'one that fits it'} or later: install it, place the pool on GPU nodes by its `label`, or set "
            "`gpus: 0`"
        )
    if needed and _numbers(found[0]) < _numbers(needed):
        return (
            f"the NVIDIA driver of this node is {found[0]}, and torch's CUDA {cuda} needs {needed} or later: update "
            "the driver (a cloud: choose a newer GPU image), then start the node again"
        )
    return (
        f"the pool asks for GPUs and this process sees none, with NVIDIA driver {found[0]} and torch's CUDA {cuda}: "
        "check that the container or the scheduler hands its GPUs on (`nvidia-smi` there), or set `gpus: 0`"
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
