"""vLLM alone, as a measure for the engines behind the router: whole answers, no steps, no scores.

Two ways to start it: `as_default` leaves everything to vLLM but what this machine needs, and `as_replica` takes the
environment and the engine arguments of a replica.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import psutil
import ray

from steer.config.run import ModelConfig, PoolConfig, RoutingOptions
from steer.messages import Prompt
from steer.policies.probe import PROBE_KEY

WAYS = ("default", "replica")
DEFAULT_SEQUENCES = 1024
"""Sequences that `vllm.LLM` batches at once on a large card, if it is left to choose."""
DEFAULT_PART = 0.9
"""Part of its share that the cache of an engine started as default is worked out from: its larger batches take more
activations than a replica's."""
GONE_S = 60.0
"""Seconds in which the processes of a stopped engine must have ended and given their memory back."""


class PlainEngine:
    """One `vllm.LLM`. `way`: of `WAYS`."""

    def __init__(self, model: ModelConfig, pool: PoolConfig, way: str):
        from actors.engine.arguments import set_environment, set_needed_environment

        if way == "replica":
            set_environment(pool.gpus)
        else:
            set_needed_environment(pool.gpus)
        import vllm

        self._llm = vllm.LLM(**(as_replica if way == "replica" else as_default)(model, pool))
        self._sampling = vllm.SamplingParams
        self._system_role = model.system_role
        self._template = model.template or {}

    def generate(self, prompts: Sequence[Prompt], routing: RoutingOptions, seeded: bool) -> tuple[int, float, int]:
        """Answer the prompts that leave room in the context. Returns (generated tokens, seconds, prompts left out).

        `seeded`: each request has its seed, as in a run.
        """
        chats = [chat for chat in map(self._messages, prompts) if self._has_room(chat)]
        sampling = [
            self._sampling(
                temperature=routing.temperature,
                top_p=routing.top_p,
                max_tokens=routing.max_new_tokens,
                seed=i if seeded else None,
            )
            for i in range(len(chats))
        ]
        started = time.monotonic()
        outputs = self._llm.chat(chats, sampling, use_tqdm=False, chat_template_kwargs=self._template)
        seconds = time.monotonic() - started
        return sum(len(o.outputs[0].token_ids) for o in outputs), seconds, len(prompts) - len(chats)

    def _messages(self, prompt: Prompt) -> list[dict[str, str]]:
        from actors.engine.tokenizer import joined

        if prompt.system and not self._system_role:
            return [{"role": "user", "content": joined(prompt)}]
        system = [{"role": "system", "content": prompt.system}] if prompt.system else []
        return [*system, {"role": "user", "content": prompt.user}]

    def _has_room(self, chat: list[dict[str, str]]) -> bool:
        """Whether a token can follow the prompt. vLLM refuses the whole call if one of its prompts is too long."""
        tokenizer = self._llm.get_tokenizer()
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **self._template)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return len(ids) < self._llm.llm_engine.model_config.max_model_len

    def processes(self) -> list[int]:
        """Ids of this process and of those that vLLM started."""
        return [os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))]

    def close(self) -> None:
        """Stop vLLM's own processes, which would outlive this one for some seconds."""
        with suppress(Exception):  # Not every version has it, and an engine in this process ends with it.
            self._llm.llm_engine.engine_core.shutdown()


def as_replica(model: ModelConfig, pool: PoolConfig) -> dict:
    """Engine arguments of a replica that measures nothing."""
    from actors.engine.arguments import engine_arguments

    return engine_arguments(model, pool, ("max_logit",)) | {"logprobs_mode": "raw_logprobs"}


def as_default(model: ModelConfig, pool: PoolConfig) -> dict:
    """The model, its `engine:` entry, and what vLLM does not start without beside a neighbour or on a CPU."""
    from actors.engine.arguments import CPU_BATCHED_TOKENS, CPU_CACHE_BYTES, engine_arguments, model_folder

    needed = {}
    if pool.gpus <= 0:
        # By itself vLLM takes nine tenths of the machine's memory, and a seeded prompt that is split ends the engine.
        needed = {
            "kv_cache_memory_bytes": CPU_CACHE_BYTES,
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": CPU_BATCHED_TOKENS,
        }
    elif pool.gpus < 1:
        part = pool.model_copy(update={"gpus": DEFAULT_PART * pool.gpus, "max_num_seqs": DEFAULT_SEQUENCES})
        divided = engine_arguments(model, part, ("max_logit",))
        needed = {
            name: divided[name] for name in ("gpu_memory_utilization", "kv_cache_memory_bytes") if name in divided
        }
    elif pool.gpus > 1:
        needed = {"tensor_parallel_size": int(pool.gpus)}
    return {
        "model": model_folder(model.path),
        "dtype": model.dtype,
        "max_model_len": model.max_model_len,
        **needed,
        **{name: value for name, value in model.engine.items() if name != PROBE_KEY},
    }


@contextmanager
def plain_engines(model: ModelConfig, pool: PoolConfig) -> Iterator[dict[str, ray.actor.ActorHandle]]:
    """By way: a started engine, for as long as the block runs. All of `WAYS` that do not start are left out, with a
    word on why. When the block ends, their memory is free again."""
    actor = ray.remote(PlainEngine).options(num_cpus=1, num_gpus=pool.gpus)
    started = {way: actor.remote(model, pool, way) for way in WAYS}
    processes: list[int] = []
    try:
        for way, engine in list(started.items()):
            try:
                processes += ray.get(engine.processes.remote())
            except ray.exceptions.RayError as failure:
                print(f"plain vLLM, way {way}, of {model.path} does not start: {failure}", flush=True)
                del started[way]
        yield dict(started)
    finally:
        for engine in started.values():
            with suppress(ray.exceptions.RayError):
                ray.get(engine.close.remote(), timeout=GONE_S)
            ray.kill(engine)
        _wait_until_gone(processes)


def _wait_until_gone(processes: Sequence[int]) -> None:
    """Wait until these processes have ended. Those of other machines count as ended."""
    deadline_s = time.monotonic() + GONE_S
    while any(map(_runs, processes)) and time.monotonic() < deadline_s:
        time.sleep(0.2)


def _runs(process: int) -> bool:
    try:
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
