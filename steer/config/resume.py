"""What may differ in the configuration of a run that is resumed: what says where and at what price it runs.

Invariant: everything that decides what is asked, what is written and how it is graded must agree. A key that only one
of the two configurations has counts as null, so that a run of an earlier version can be resumed.
"""

import copy
import re
from collections.abc import Iterator
from typing import Any

MAY_DIFFER = ("pools", "journal")
"""Keys that may differ, with all keys below them."""
MUST_AGREE = ("pools.measures",)
"""Keys below those of `MAY_DIFFER` that may not differ, unless more is measured now than by an earlier version."""
PLACING_KEYS = frozenset(
    {
        # The memory that an engine takes and how it divides it.
        *("gpu_memory_utilization", "kv_cache_memory_bytes", "num_gpu_blocks_override", "block_size", "swap_space"),
        *("cpu_offload_gb", "kv_offloading_size", "kv_offloading_backend"),
        # The GPUs and processes over which one model is spread.
        *("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "enable_expert_parallel"),
        *("distributed_executor_backend", "disable_custom_all_reduce", "max_parallel_loading_workers"),
        # How many rows and tokens are computed at once.
        *("max_num_seqs", "max_num_batched_tokens", "enable_chunked_prefill", "max_num_partial_prefills"),
        *("max_long_partial_prefills", "long_prefill_token_threshold", "scheduling_policy", "async_scheduling"),
        "stream_interval",
        # Whether kernels are compiled, and how.
        *("enforce_eager", "compilation_config", "cudagraph_capture_sizes", "max_cudagraph_capture_size"),
        # Where weights are downloaded to and how they are read, and what is logged.
        *("download_dir", "load_format", "model_loader_extra_config", "hf_token", "disable_log_stats"),
    }
)
"""Engine arguments of vLLM that may differ: the weights, their precision and the sampling do not depend on them. They
may change the last bits of a logit, as the rows that share a batch do, and so a token that was drawn near a tie. What
rounds weights or the KV cache (`quantization`, `kv_cache_dtype`, `dtype`), cuts a context or takes another checkpoint
is not among them, nor is the prefix cache, which the compute in `traces/` depends on."""
_PLACING = re.compile(rf"pair\.\w+\.engine\.({'|'.join(sorted(PLACING_KEYS))})(\..+)?")
_PRICE = re.compile(r"pair\.\w+\.usd_per_million_tokens(\..+)?")
_PRICE_KEYS = {"pair": "usd_per_million_tokens", "pools": "usd_per_gpu_hour"}


def refused_changes(was: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, earlier value, present value) of the differences with which a run cannot be resumed."""
    for key, earlier, present in changed(was, now):
        if key.startswith(MUST_AGREE):
            if not _measures_more(earlier, present):
                yield key, earlier, present
        elif not (
            key in MAY_DIFFER
            or key.startswith(tuple(f"{free}." for free in MAY_DIFFER))
            or _PLACING.fullmatch(key)
            or _PRICE.fullmatch(key)
        ):
            yield key, earlier, present


def changed(was: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, earlier value, present value) of every difference between two configurations as JSON values."""
    if isinstance(was, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*was, *now]):
            yield from changed(was.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif _are_objects(was) and _are_objects(now) and len(was) == len(now):
        for number, (earlier, present) in enumerate(zip(was, now, strict=True)):
            yield from changed(earlier, present, f"{key}.{number}")
    elif was != now:
        yield key, was, now


def with_prices(held: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """The configuration `held` with the prices of `wanted`: a run's dollars are those of the prices given last."""
    priced = copy.deepcopy(held)
    for section, name in _PRICE_KEYS.items():
        given, kept = wanted.get(section), priced.get(section)
        if not isinstance(given, dict) or not isinstance(kept, dict):
            continue
        for role, values in given.items():
            there = kept.get(role)
            if isinstance(values, dict) and isinstance(there, dict) and (name in there or values.get(name) is not None):
                there[name] = values.get(name)
    return priced


def _measures_more(was: Any, now: Any) -> bool:
    return isinstance(was, list) and isinstance(now, list) and set(was) < set(now)


def _are_objects(value: Any) -> bool:
    """Whether a value is a list of objects, such as a sweep's benchmarks and variants."""
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)
