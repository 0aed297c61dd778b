"""One vLLM engine in one process: writes, scores and probes the next steps of batches of traces.

The class is plain; `actors/pool.py` makes it a Ray actor. One private thread loads the engine and drives it
(`queue -> admit -> advance -> answers`); the methods are async over it and never touch vLLM. Any exception of that
thread after loading ends the process, so that Ray starts another and nobody waits for a dead engine; a model that does
not load raises in `describe` instead, since a new process would not load it either.
"""

import asyncio
import contextlib
import os
import queue
import socket
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator
from concurrent.futures import Future

import numpy as np

from actors import confidence_hook
from actors.bodies import Bodies
from actors.engine_arguments import count_parameters, engine_arguments, model_folder, set_environment
from actors.requests import Requests
from actors.stepper import Answer, Stepper, Ticket
from actors.vocabulary import Vocabulary
from steer.config import ModelConfig, PoolConfig
from steer.traces import Finish
from steer.work import EngineInfo, StepBatch, StepResults


class EngineReplica:
    """See the module. `measures`: of `steer.traces.MEASURES`; `("max_logit",)` alone needs only vLLM's public API."""

    def __init__(self, name: str, model: ModelConfig, pool: PoolConfig, measures: tuple[str, ...]):
        self._name = name
        self._model = model
        self._pool = pool
        self._measures = tuple(measures)
        self._hook = confidence_hook.needs_hook(self._measures)
        self._inbox: queue.SimpleQueue[tuple[str, Ticket]] = queue.SimpleQueue()
        self._loaded: Future[EngineInfo] = Future()
        self._busy_s = 0.0
        self._busy_since_s: float | None = None
        threading.Thread(target=self._main, name=f"engine-{name}", daemon=True).start()

    async def describe(self) -> EngineInfo:
        """Waits until the model is loaded; RuntimeError with the reason if it cannot be."""
        return await asyncio.shield(asyncio.wrap_future(self._loaded))

    async def run(self, batch: StepBatch) -> AsyncIterator[StepResults]:
        """Answer every row once: in one message, or with `flush_s` in one about every so many seconds that has rows.

        Closing the generator early withdraws the rows that are still open.
        """
        await self.describe()
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def on_done() -> None:
            with contextlib.suppress(RuntimeError):  # the reader's loop is closed: nobody waits any more
                loop.call_soon_threadsafe(done.set)

        ticket = Ticket(batch, on_done)
        if not batch.key_B:
            done.set()
        self._inbox.put(("admit", ticket))
        try:
            while not done.is_set():
                try:
                    await asyncio.wait_for(done.wait(), batch.flush_s)
                except TimeoutError:
                    answers = ticket.take()
                    if answers:
                        yield self._results(answers)
            answers = ticket.take()
            if answers or not batch.key_B:
                yield self._results(answers)
        finally:
            if not done.is_set():
                self._inbox.put(("withdraw", ticket))

    async def busy(self) -> float:
        """Seconds in which this engine had work since it was loaded."""
        return self._busy_now_s()

    def _results(self, answers: list[Answer]) -> StepResults:
        row_R, finish_R, text_R, ids_R, tokens_R, prompt_R, cached_R, scores_R, seconds_R, error_R = (
            zip(*answers, strict=True) if answers else ((),) * len(Answer._fields)
        )
        return StepResults(
            row_R=list(row_R),
            finish_R=[str(finish) for finish in finish_R],
            text_R=list(text_R),
            ids_R=list(ids_R),
            tokens_R=list(tokens_R),
            prompt_tokens_R=list(prompt_R),
            cached_tokens_R=list(cached_R),
            scores_R3=np.array(scores_R, np.float64).reshape(-1, 3),
            seconds_R=list(seconds_R),
            error_R={r: error_R[r] for r, finish in enumerate(finish_R) if finish == Finish.ERROR},
            replica=self._name,
            busy_s=self._busy_now_s(),
        )

    def _busy_now_s(self) -> float:
        since_s = self._busy_since_s
        return self._busy_s + (time.monotonic() - since_s if since_s is not None else 0.0)

    # --- the engine's thread ----------------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            stepper, info = self._load()
        except Exception as error:
            traceback.print_exc()
            reason = f"replica {self._name} cannot load {self._model.path}: {type(error).__name__}: {error}"
            self._loaded.set_exception(RuntimeError(reason))
            return
        self._loaded.set_result(info)
        try:
            while True:
                self._take_in(stepper)
                if stepper.unfinished:
                    stepper.advance()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    def _take_in(self, stepper: Stepper) -> None:
        """Carry out what waits in the inbox; without work, wait for some."""
        while True:
            idle = not stepper.unfinished
            if idle and self._busy_since_s is not None:
                self._busy_s, self._busy_since_s = self._busy_now_s(), None
            try:
                task, ticket = self._inbox.get(block=idle)
            except queue.Empty:
                return
            if self._busy_since_s is None:
                self._busy_since_s = time.monotonic()
            if task == "admit":
                stepper.admit(ticket)
            else:
                stepper.withdraw(ticket)

    def _load(self) -> tuple[Stepper, EngineInfo]:
        """Start vLLM. Heavy imports come after the environment that they read."""
        set_environment(self._pool.gpus)
        import torch
        import transformers
        import vllm

        if self._pool.gpus > 0 and not torch.cuda.is_available():
            raise RuntimeError(
                "the pool asks for GPUs and this process sees none: set `gpus: 0`, or install CUDA's vllm"
            )
        confidence_hook.speed_up_logprobs()
        arguments = engine_arguments(self._model, self._pool, self._measures)
        engine = vllm.LLMEngine.from_engine_args(vllm.EngineArgs(**arguments))
        if self._hook:
            confidence_hook.install(engine)
        tokenizer = engine.get_tokenizer()
        vocabulary = Vocabulary(tokenizer, _eos_ids(engine, tokenizer), self._model.system_role)
        max_model_len = engine.model_config.max_model_len
        stepper = Stepper(engine, Requests(engine, self._hook), vocabulary, Bodies(vocabulary), max_model_len)
        return stepper, EngineInfo(
            replica=self._name,
            model=model_folder(self._model.path),
            parameters=self._model.parameters or count_parameters(self._model.path),
            tokenizer=vocabulary.fingerprint(),
            max_model_len=max_model_len,
            measures=self._measures,
            pid=os.getpid(),
            node=socket.gethostname(),
            versions={module.__name__: module.__version__ for module in (vllm, torch, transformers)},
        )


def _eos_ids(engine, tokenizer) -> set[int]:
    """Every id that ends a sequence: the tokenizer's, and those of the generation config (Qwen2.5 has two)."""
    given = engine.model_config.try_get_generation_config().get("eos_token_id")
    ids = set(given if isinstance(given, (list, tuple)) else [given])
    return {i for i in ids | {tokenizer.eos_token_id} if i is not None}
