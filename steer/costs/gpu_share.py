"""The GPU memory of one engine: what it holds beside the KV cache, and the vLLM arguments that follow.

An engine with a part of a card (`gpus` below 1) gets its cache as a number of bytes (`share_arguments`). vLLM's own way
is to measure how much memory of the card became used while it loaded. That counts a neighbour that loads at the same
time. With `kv_cache_memory_bytes` vLLM measures nothing; `gpu_memory_utilization` is then only what must be free at the
start. An engine with whole cards keeps vLLM's way.

Both kinds get `max_num_batched_tokens`, because vLLM sets no memory aside for the logits of a scoring pass. Those are
float32 matrices [batched tokens, vocabulary].

This is arithmetic: the caller says how large the card and the weights are.
"""

from dataclasses import dataclass
from math import ceil, floor
from typing import Any

from steer.config.run import ModelConfig, PoolConfig
from steer.costs.gpu_memory import BYTES, CUDA_GIB, GIB, LOGITS_COPIES, WORK_GIB, ModelDimensions

MARGIN = 0.03
"""Part of each share that nobody gets. The driver reports up to 1 % more than CUDA can give, and freed blocks of
unequal sizes leave gaps."""
SAMPLING_COPIES = 8
"""float32 matrices [sequences, vocabulary] that are alive at once while vLLM samples with top-p: logits, a copy for the
scores, sorted values and their indices (64 bits), two softmaxes, a cumulative sum. vLLM runs this once when it starts,
with `max_num_seqs` rows."""
SCORING_SHARE = 0.1
"""Part of a share that the logits of a scoring pass may take. On half of an 80 GB card with a vocabulary of 152,000
this makes some 1,500 tokens, enough to keep the card busy while it reads prompts."""
BATCH_STEP_TOKENS = 256
"""`max_num_batched_tokens` is a multiple of this."""
MOST_BATCHED_TOKENS = 8192
"""Upper bound of `max_num_batched_tokens`. A longer batch of prompt tokens makes no card faster, but the rows that
write wait for it."""
VLLM_UTILIZATION = 0.92
"""vLLM's default of `gpu_memory_utilization` (0.26 to 0.32)."""
PARALLEL_GIB = 1.0
"""Memory of a card that CUDA and NCCL take before vLLM starts counting, with several cards: an estimate."""


@dataclass(frozen=True)
class Share:
    """How an engine divides its part of a card, in bytes."""

    given: float
    """All of it, without the margin."""
    weights: float
    logits: float
    """The larger one of a scoring pass's and of sampling's."""
    overhead: float
    """CUDA itself, CUDA graphs and activations."""
    longest: float
    """KV cache of one sequence that fills the context."""
    batched_tokens: int

    @property
    def cache(self) -> float:
        """What is left for the KV cache. Negative if the rest alone is too large."""
        return self.given - self.weights - self.logits - self.overhead

    @property
    def fits(self) -> bool:
        """Whether the cache holds one sequence that fills the context. vLLM refuses to start with less."""
        return self.cache > 0 and self.cache >= self.longest


def share_arguments(
    card_bytes: int, weights_bytes: float, shape: ModelDimensions, model: ModelConfig, pool: PoolConfig, writes: bool
) -> dict[str, Any]:
    """vLLM engine arguments for one engine on a part of a card (`pool.gpus` below 1).

    `card_bytes`: the memory of the whole card. `writes`: false for engines that compute no logits over the vocabulary.
    What the model's `engine:` entry says of memory is not refused. ValueError, with the need, the share and the remedy,
    if the model does not fit.
    """
    shared = share(card_bytes, weights_bytes, shape, model, pool, writes)
    arguments: dict[str, Any] = {"max_num_batched_tokens": shared.batched_tokens} if writes else {}
    own_bytes, own_part = "kv_cache_memory_bytes" in model.engine, "gpu_memory_utilization" in model.engine
    if own_part and not own_bytes:
        return arguments  # vLLM is to measure, within the user's part.
    arguments["gpu_memory_utilization"] = _free_at_start(card_bytes, shared)
    if own_bytes:
        return arguments
    if not shared.fits:
        raise ValueError(_refusal(card_bytes, shared, model, pool))
    return arguments | {"kv_cache_memory_bytes": int(shared.cache)}


def share(
    card_bytes: int, weights_bytes: float, shape: ModelDimensions, model: ModelConfig, pool: PoolConfig, writes: bool
) -> Share:
    """How the part is divided. Where the cache would be too small, scoring passes get no more than sampling needs."""
    given = card_bytes * pool.gpus * (1 - MARGIN)
    sequences = _sequences(model, pool)
    context = model.engine.get("max_model_len") or model.max_model_len or shape.context_tokens
    least = _least_tokens(sequences * SAMPLING_COPIES // LOGITS_COPIES, model, context)
    chosen = max(least, affordable_tokens(SCORING_SHARE * given, shape.vocabulary))
    own = model.engine.get("max_num_batched_tokens")
    for tokens in (own,) if own else (chosen, least):
        logits = max(LOGITS_COPIES * tokens, SAMPLING_COPIES * sequences) * shape.vocabulary * 4 if writes else 0
        divided = Share(
            given=given,
            weights=weights_bytes,
            logits=logits,
            overhead=(CUDA_GIB + WORK_GIB) * GIB,
            longest=shape.cache_gib(context, 1, BYTES[model.dtype]) * GIB,
            batched_tokens=tokens,
        )
        if divided.fits:
            break
    return divided


def whole_card_tokens(card_bytes: int, vocabulary: int, model: ModelConfig, pool: PoolConfig, context: int) -> int:
    """`max_num_batched_tokens` of a writing engine that has whole cards, each of `card_bytes`.

    The logits of a scoring pass then fit what vLLM leaves free of each card. They may always be as many as those that
    vLLM samples from, for which it sets memory aside when it starts.
    """
    before = PARALLEL_GIB if pool.gpus > 1 else CUDA_GIB
    spare = card_bytes * (1 - model.engine.get("gpu_memory_utilization", VLLM_UTILIZATION)) - before * GIB
    return max(_least_tokens(_sequences(model, pool), model, context), affordable_tokens(spare, vocabulary))


def affordable_tokens(spare_bytes: float, vocabulary: int) -> int:
    """Tokens of a scoring pass whose logits stay within `spare_bytes`: a multiple of `BATCH_STEP_TOKENS`, or 0."""
    tokens = max(0, floor(spare_bytes / (LOGITS_COPIES * vocabulary * 4)))
    return min(MOST_BATCHED_TOKENS, tokens // BATCH_STEP_TOKENS * BATCH_STEP_TOKENS)


def _sequences(model: ModelConfig, pool: PoolConfig) -> int:
    return int(model.engine.get("max_num_seqs", pool.max_num_seqs))


def _least_tokens(tokens: int, model: ModelConfig, context: int) -> int:
    """At least `tokens`, and the whole context where the user forbids to split a prompt: vLLM takes no less there."""
    return max(tokens, context) if model.engine.get("enable_chunked_prefill") is False else tokens


def _free_at_start(card_bytes: int, shared: Share) -> float:
    """`gpu_memory_utilization`, rounded down: vLLM refuses to start if less than this part of the card is free. CUDA
    has taken its memory by then."""
    return max(0.01, floor(100 * (shared.given - CUDA_GIB * GIB) / card_bytes) / 100)


def _refusal(card_bytes: int, shared: Share, model: ModelConfig, pool: PoolConfig) -> str:
    need = shared.weights + shared.logits + shared.overhead + shared.longest
    part = ceil(100 * need / (card_bytes * (1 - MARGIN))) / 100
    ways = [f"set gpus to {part:g}"] if part < 1 else ["set gpus to 1" if part < 1.05 else "take a larger card"]
    if shared.cache > 0:
        ways.append("lower the model's max_model_len")
    if shared.logits > GIB:
        ways.append("lower max_num_seqs")
    ways.append("give kv_cache_memory_bytes under the model's engine: to divide the memory yourself")
    return (
        f"{model.path} needs {need / GIB:.1f} GiB of a GPU ({shared.weights / GIB:.1f} for weights, "
        f"{shared.logits / GIB:.1f} for logits, {shared.overhead / GIB:.1f} for CUDA, its graphs and activations, "
        f"{shared.longest / GIB:.1f} for one sequence that fills the context), and gpus: {pool.gpus:g} is a share of "
        f"{shared.given / GIB:.1f} GiB of this card's {card_bytes / GIB:.1f}; {', or '.join(ways)}"
    )
