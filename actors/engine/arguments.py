"""What a vLLM engine is started with: environment, engine arguments, where the weights are and how many there are.

The defaults are the measured ones (docs: design notes on vLLM); a model's `engine:` entry overrides every one of them.
"""

import os
from collections.abc import Sequence
from functools import partial

from actors.engine.checkpoint import SKYWORK_PRM, count_parameters, model_folder
from actors.engine.vllm_hooks import HOOK_LOGPROBS, PUBLIC_LOGPROBS, needs_hook
from steer.config.run import ModelConfig, PoolConfig
from steer.costs.gpu_memory import ModelDimensions, known_dimensions, memory_arguments
from steer.policies.probe import PROBE_KEY

CPU_BLOCK_SIZE_TOKENS = 32
"""The smallest KV block that vLLM takes on a CPU: at its default of 128 short steps cost 1.64x one pass, not 1.18x."""
CPU_BATCHED_TOKENS = 8192
"""Prompt tokens that one CPU engine step takes at most; or the context, where that is longer: no prompt is split."""
CPU_CACHE_BYTES = 2**30
"""KV cache of an engine without a GPU, but for a model's own `engine` keys and VLLM_CPU_KVCACHE_SPACE (GiB)."""


def set_environment(gpus: float) -> None:
    """Set what vLLM reads when it is imported; call before that. What the user has set stays, all but the first."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # the replica's own thread drives the engine
    defaults = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
    if gpus > 0:
        defaults["VLLM_USE_V2_MODEL_RUNNER"] = "0"  # the confidence hook knows the V1 sampler
    else:
        # Eager start-up takes 13 s against 30 to 44 s compiled; compiled decoding is 0 to 26 % faster.
        defaults["TORCH_COMPILE_DISABLE"] = "1"
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def engine_arguments(model: ModelConfig, pool: PoolConfig, measures: Sequence[str]) -> dict:
    """Keyword arguments of `vllm.EngineArgs` for a model that writes. ValueError if it does not fit the
    pool's cards."""
    arguments = {"max_logprobs": max(HOOK_LOGPROBS, PUBLIC_LOGPROBS), "logprobs_mode": "raw_logits"}
    if needs_hook(measures):
        arguments["worker_extension_cls"] = "actors.engine.vllm_hooks.JudgeHook"
    return _arguments(model, pool, arguments)


def pooling_arguments(model: ModelConfig, pool: PoolConfig, rewards: bool) -> dict:
    """The same for a process reward model (`rewards`: a label's scores at every token), or for a language model whose
    state at the last token is read, after the final norm."""
    from vllm.config import PoolerConfig

    if rewards:
        # vLLM's own choice for these models, STEP, forgoes the prefix cache: kept steps would be computed again and
        # again.
        pooler = PoolerConfig(tok_pooling_type="ALL")
        return _arguments(model, pool, {"runner": "pooling", "pooler_config": pooler})
    pooler = PoolerConfig(seq_pooling_type="LAST", use_activation=False)
    return _arguments(model, pool, {"runner": "pooling", "convert": "embed", "pooler_config": pooler})


def _arguments(model: ModelConfig, pool: PoolConfig, arguments: dict) -> dict:
    """`arguments` with all that depends on model and pool and not on what is asked of them."""
    config = hf_config(model)
    arguments = {
        "model": model_folder(model.path),
        "dtype": model.dtype,
        "max_model_len": model.max_model_len,
        "max_num_seqs": pool.max_num_seqs,
        "enable_prefix_caching": True,
        # A bfloat16 head quantises logits to steps of .125 to .25.
        "hf_overrides": {"head_dtype": "float32"},
        # No memory for images: what is routed is text.
        "language_model_only": True,
        "disable_log_stats": True,
        "seed": 0,
        **arguments,
    }
    if pool.card_gb is not None:
        arguments |= memory_arguments(known_dimensions(model.path) or model_dimensions(model, config), model, pool)
    if pool.gpus > 0:
        if pool.gpus > 1:
            arguments["tensor_parallel_size"] = int(pool.gpus)
    else:
        arguments |= {
            "dtype": "float32" if model.dtype == "auto" else model.dtype,
            "block_size": CPU_BLOCK_SIZE_TOKENS,
            "enforce_eager": True,
            "kv_cache_memory_bytes": CPU_CACHE_BYTES,
            # A seeded request whose prompt is split kills the CPU engine ("CPU Generator does not use offset").
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(CPU_BATCHED_TOKENS, _context_tokens(model, config)),
            # It would compute one token past every step's end.
            "async_scheduling": False,
        }
    arguments["hf_overrides"] |= model.engine.get("hf_overrides") or {}
    arguments |= {name: value for name, value in model.engine.items() if name not in ("hf_overrides", PROBE_KEY)}
    if SKYWORK_PRM in (config.architectures or ()):
        from actors.engine.models.skywork_prm import with_value_head

        arguments["hf_overrides"] = partial(with_value_head, arguments["hf_overrides"])
    elif config.model_type == "gemma3":
        from actors.engine.models.gemma_text import text_part

        arguments["hf_overrides"] = partial(text_part, arguments["hf_overrides"])
    elif "text_config" in config.sub_configs:
        # vLLM builds the language model from the nested part alone, which would not see the head's dtype.
        nested = {"head_dtype": arguments["hf_overrides"]["head_dtype"]}
        arguments["hf_overrides"]["text_config"] = nested | arguments["hf_overrides"].get("text_config", {})
    return arguments


def hf_config(model: ModelConfig):
    """The checkpoint's configuration as vLLM reads it (from the hub if need be)."""
    from vllm.transformers_utils.config import get_config

    trusted = model.engine.get("trust_remote_code", False)
    return get_config(model_folder(model.path), trusted, revision=model.engine.get("revision"))


def model_dimensions(model: ModelConfig, config) -> ModelDimensions:
    """What a model that `steer.cards` does not list needs of a card's memory."""
    text = config.get_text_config()
    heads = text.num_attention_heads
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    window = getattr(text, "sliding_window", None) if "sliding_attention" in kinds else None
    return ModelDimensions(
        parameters=model.parameters or count_parameters(model.path),
        vocabulary=text.vocab_size,
        kv_heads=getattr(text, "num_key_value_heads", None) or heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // heads,
        full_layers=text.num_hidden_layers - kinds.count("sliding_attention"),
        window_layers=kinds.count("sliding_attention"),
        window_tokens=window or 0,
        context_tokens=_context_tokens(model, config),
    )


def _context_tokens(model: ModelConfig, config) -> int:
    """The context that vLLM will choose, or more."""
    given = model.engine.get("max_model_len", model.max_model_len)
    if given is not None:
        return int(given)
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or 0)
