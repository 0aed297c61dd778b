"""What a model needs of a GPU's memory, and the vLLM engine arguments that follow for GPUs of 24, 48 and 80 GB.

This is arithmetic on published dimensions, not measurement. It adds up the weights, the KV cache of the sequences in
flight, and the logits of a scoring pass, for which vLLM reserves no memory. `docs/pairs.md` shows the numbers for the
known pairs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import floor
from pathlib import PurePath
from typing import Any

from steer.config.run import ModelConfig, PairConfig, PoolConfig, PoolsConfig

GIB = 2**30
BYTES = {"auto": 2, "bfloat16": 2, "float16": 2, "float32": 4}
"""Bytes of a weight or a cached number, by `dtype`. The checkpoints of the known pairs are bfloat16."""
TYPICAL_TOKENS = 2048
"""Prompt and answer of one sequence in flight, from which the number of sequences at once follows. Most answers to
competition mathematics, and most multi-hop questions with their passages, stay below it. Where they do not, vLLM
queues."""
CUDA_GIB = 0.5
"""Memory that CUDA takes before vLLM starts counting: an estimate."""
WORK_GIB = 1.5
"""Activations at these batch sizes, and CUDA graphs: an estimate. vLLM measures them and takes them off the cache."""
LOGITS_COPIES = 4
"""float32 matrices [batched tokens, vocabulary] that are alive at once in a scoring pass: the logits, the softmax, its
argument, and with several GPUs the parts that are gathered."""


@dataclass(frozen=True)
class GpuSize:
    """What engine arguments are chosen by, for GPUs sold under one size."""

    usable_gib: float
    """Memory of the smallest GPU of that size."""
    batched_tokens: int
    """Prompt tokens of one engine step at most. They bound the logits of a scoring pass: at a vocabulary of 262,000
    each copy takes 1 GiB for every 1,000 tokens."""


GPU_SIZES = {24: GpuSize(22.0, 512), 48: GpuSize(44.5, 1024), 80: GpuSize(79.0, 2048)}
"""By size in GB. 24: L4 and A10G have 22.5 GiB, a 4090 has 24. 48: an L40S has 45, an A6000 has 48. 80: A100, H100."""


@dataclass(frozen=True)
class ModelDimensions:
    """The dimensions of a language model that determine its memory."""

    parameters: float
    """All parameters that are loaded. (FLOPs are charged with the nominal count of the model's name.)"""
    vocabulary: int
    kv_heads: int
    head_dim: int
    full_layers: int
    window_layers: int
    """Layers of sliding-window attention, which hold only the last `window_tokens` of a sequence."""
    window_tokens: int
    context_tokens: int
    """The longest sequence."""

    def weights_gib(self, gpus: int, number_bytes: int = 2) -> float:
        """Weights on each of `gpus` GPUs of tensor parallelism."""
        return self.parameters * number_bytes / gpus / GIB

    def cache_gib(self, tokens: int, gpus: int, number_bytes: int = 2) -> float:
        """KV cache of one sequence of `tokens` on each of `gpus` GPUs. A KV head that cannot be divided is copied."""
        held = self.full_layers * tokens + self.window_layers * min(tokens, self.window_tokens)
        heads = max(1, self.kv_heads // gpus)
        return 2 * held * heads * self.head_dim * number_bytes / GIB


DIMENSIONS = {
    "Qwen2.5-Math-1.5B-Instruct": ModelDimensions(1_543_714_304, 151_936, 2, 128, 28, 0, 0, 4096),
    "Qwen2.5-Math-7B-Instruct": ModelDimensions(7_615_616_512, 152_064, 4, 128, 28, 0, 0, 4096),
    "Qwen2.5-1.5B-Instruct": ModelDimensions(1_543_714_304, 151_936, 2, 128, 28, 0, 0, 32_768),
    "Qwen2.5-7B-Instruct": ModelDimensions(7_615_616_512, 152_064, 4, 128, 28, 0, 0, 32_768),
    "Qwen2.5-Coder-0.5B-Instruct": ModelDimensions(494_032_768, 151_936, 2, 64, 24, 0, 0, 32_768),
    "Qwen2.5-Coder-1.5B-Instruct": ModelDimensions(1_543_714_304, 151_936, 2, 128, 28, 0, 0, 32_768),
    "Qwen3-1.7B": ModelDimensions(1_720_574_976, 151_936, 8, 128, 28, 0, 0, 40_960),
    "Qwen3-4B": ModelDimensions(4_022_468_096, 151_936, 8, 128, 36, 0, 0, 40_960),
    "Qwen3-8B": ModelDimensions(8_190_735_360, 151_936, 8, 128, 36, 0, 0, 40_960),
    "Qwen3-32B": ModelDimensions(32_762_123_264, 151_936, 8, 128, 64, 0, 0, 40_960),
    "DeepSeek-R1-Distill-Qwen-1.5B": ModelDimensions(1_777_088_000, 151_936, 2, 128, 28, 0, 0, 131_072),
    "DeepSeek-R1-Distill-Qwen-7B": ModelDimensions(7_615_616_512, 152_064, 4, 128, 28, 0, 0, 131_072),
    "DeepSeek-R1-Distill-Qwen-32B": ModelDimensions(32_763_876_352, 152_064, 8, 128, 64, 0, 0, 131_072),
    "gemma-3-4b-it": ModelDimensions(3_880_263_168, 262_208, 4, 256, 5, 29, 1024, 131_072),
    "gemma-3-12b-it": ModelDimensions(11_766_034_176, 262_208, 8, 256, 8, 40, 1024, 131_072),
}
"""By the last part of the hub id. The counts of Gemma-3 leave out its vision tower (0.42e9), which is not loaded."""


def known_dimensions(path: str) -> ModelDimensions | None:
    """Dimensions of a hub id, or of a local snapshot in a folder of the model's name. None: not a known model."""
    return DIMENSIONS.get(PurePath(path).name)


@dataclass(frozen=True)
class MemoryPlan:
    """How the memory of one GPU is divided, in GiB."""

    given_gib: float
    """What vLLM may use. The rest is for CUDA and the logits of a scoring pass."""
    weights_gib: float
    cache_gib: float
    """What is left for the KV cache; negative if the weights alone are too large."""
    longest_gib: float
    """KV cache of one sequence that fills the context."""
    typical_gib: float
    """KV cache of one sequence of `TYPICAL_TOKENS`."""
    batched_tokens: int
    context_tokens: int

    @property
    def fits(self) -> bool:
        return self.cache_gib >= self.longest_gib

    @property
    def sequences(self) -> int:
        """Typical sequences that the cache holds at once."""
        return max(1, floor(self.cache_gib / self.typical_gib))


def memory_plan(shape: ModelDimensions, model: ModelConfig, pool: PoolConfig) -> MemoryPlan:
    """The memory of each of the `pool.gpus` GPUs of one replica, or of its part of a GPU if `pool.gpus` is below 1."""
    size, gpus, number_bytes = GPU_SIZES[_card_gb(pool)], max(1, round(pool.gpus)), BYTES[model.dtype]
    batched_tokens = model.engine.get("max_num_batched_tokens", size.batched_tokens)
    context = model.engine.get("max_model_len") or model.max_model_len or shape.context_tokens
    scoring_gib = LOGITS_COPIES * batched_tokens * shape.vocabulary * 4 / GIB
    given_gib = size.usable_gib * min(1.0, pool.gpus) - CUDA_GIB - scoring_gib
    weights_gib = shape.weights_gib(gpus, number_bytes)
    return MemoryPlan(
        given_gib=given_gib,
        weights_gib=weights_gib,
        cache_gib=given_gib - WORK_GIB - weights_gib,
        longest_gib=shape.cache_gib(context, gpus, number_bytes),
        typical_gib=shape.cache_gib(min(context, TYPICAL_TOKENS), gpus, number_bytes),
        batched_tokens=batched_tokens,
        context_tokens=context,
    )


def memory_arguments(shape: ModelDimensions, model: ModelConfig, pool: PoolConfig) -> dict[str, Any]:
    """vLLM engine arguments for one replica on `pool.gpus` GPUs of `pool.card_gb`.

    Raises ValueError, naming the remedy, if the weights leave no room for one sequence of the model's context.
    """
    _require_gpus(pool)
    planned = memory_plan(shape, model, pool)
    if not planned.fits:
        raise ValueError(
            f"{model.path} does not fit gpus: {pool.gpus:g} with card_gb: {pool.card_gb}: each card holds "
            f"{planned.weights_gib:.1f} GiB of weights, which leaves {max(0.0, planned.cache_gib):.1f} GiB for the "
            f"cache, where one sequence of {planned.context_tokens} tokens takes {planned.longest_gib:.1f}; "
            f"{_remedy(shape, model, pool)}"
        )
    arguments: dict[str, Any] = {
        "gpu_memory_utilization": floor(100 * planned.given_gib / GPU_SIZES[_card_gb(pool)].usable_gib) / 100,
        "max_num_batched_tokens": planned.batched_tokens,
        "max_num_seqs": min(pool.max_num_seqs, planned.sequences, planned.batched_tokens),
    }
    if pool.gpus < 1 and "gpu_memory_utilization" not in model.engine:
        # With a neighbour on the card vLLM is not to measure: it would count the neighbour's memory, too.
        arguments["kv_cache_memory_bytes"] = int(planned.cache_gib * GIB)
    return arguments


def memory_problems(pair: PairConfig, pools: PoolsConfig) -> Iterator[str]:
    """What `memory_arguments` will refuse, for the models whose dimensions are known without loading anything."""
    for name, model, pool in (("small", pair.small, pools.small), ("large", pair.large, pools.large)):
        if pool.card_gb is None:
            continue
        shape = known_dimensions(model.path)
        try:
            _require_gpus(pool)
            if shape is not None:
                memory_arguments(shape, model, pool)
        except ValueError as refusal:
            yield f"pools.{name}: {refusal}"


def _require_gpus(pool: PoolConfig) -> None:
    if pool.gpus <= 0:
        raise ValueError(f"card_gb is {pool.card_gb} but gpus is 0: set gpus to the cards that one replica gets")


def _card_gb(pool: PoolConfig) -> int:
    if pool.card_gb is None:
        raise ValueError("card_gb is not set: no memory can be planned without the size of the cards")
    return pool.card_gb


def _remedy(shape: ModelDimensions, model: ModelConfig, pool: PoolConfig) -> str:
    """What would fit: the smallest larger number of GPUs, the next larger size, or a shorter context."""
    more = [{"gpus": n} for n in (1, 2, 4, 8) if n > pool.gpus]
    larger = [{"card_gb": size} for size in GPU_SIZES if size > _card_gb(pool)]
    ways: list[str] = []
    for changes in (more, larger):
        fitting = [c for c in changes if memory_plan(shape, model, pool.model_copy(update=c)).fits]
        ways += [f"set {key} to {value}" for key, value in (fitting[0].items() if fitting else ())]
    if memory_plan(shape, model, pool).cache_gib > 0:
        ways.append("lower the model's max_model_len")
    return " or ".join(ways) or "take a smaller model"
