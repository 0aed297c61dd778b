"""What a vLLM engine is started with: the environment variables and the keyword arguments of `vllm.EngineArgs`.

The defaults were measured (docs/engine.md). A model's `engine:` entry overrides every one of them.
"""

import os
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec

from actors.engine.checkpoint import SKYWORK_PRM, count_parameters, model_folder, weights_bytes
from actors.engine.vllm_hooks import HOOK_LOGPROBS, PUBLIC_LOGPROBS, needs_hook
from steer.config.run import ModelConfig, PoolConfig
from steer.costs.gpu_memory import BYTES, ModelDimensions, known_dimensions, memory_arguments
from steer.costs.gpu_share import share_arguments, whole_card_tokens
from steer.policies.probe import PROBE_KEY

CPU_BLOCK_SIZE_TOKENS = 32
"""Tokens of a KV block on a CPU, the smallest that vLLM takes there. A trace written in short steps takes 1.18 times as
long as in one pass; with vLLM's default of 128 it takes 1.64 times as long."""
CPU_BATCHED_TOKENS = 8192
"""Most prompt tokens of one engine step on a CPU. A model with a longer context gets its context instead, so that no
prompt is split."""
STREAM_TOKENS = 4
"""Tokens of a row that writes on which vLLM hands over at a time. Handing over each by itself takes a third of a CPU
engine's time on the embedded pair; a step is seen up to so many tokens after its end."""
CPU_CACHE_BYTES = 2**30
"""KV cache on a CPU. A model's `engine:` entry overrides it. VLLM_CPU_KVCACHE_SPACE (GiB) overrides both."""
NOMINAL_AND_MORE = 1.1
"""Parameters of a model by those in its name, which leave out a part: Qwen2.5-7B has 7.6e9."""


def set_environment(gpus: float) -> None:
    """Set the variables that vLLM reads when it is imported. Call this before the import.

    A variable that the user has set keeps its value, except VLLM_ENABLE_V1_MULTIPROCESSING.
    """
    set_needed_environment(gpus)
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # the replica's own thread runs the engine
    if gpus > 0:
        os.environ.setdefault("VLLM_USE_V2_MODEL_RUNNER", "0")  # the confidence hook fits the V1 sampler
    else:
        # Eager start-up takes 13 s, compiled 30 to 44 s. Compiled decoding is 0 to 26 % faster.
        os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")


def set_needed_environment(gpus: float) -> None:
    """Set only those variables without which vLLM does not start here, or writes a lot to the log."""
    defaults = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
    if gpus > 0 and find_spec("flashinfer") is None:
        defaults["VLLM_USE_FLASHINFER_SAMPLER"] = "0"  # vLLM takes it by default, and fails without the package
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def engine_arguments(model: ModelConfig, pool: PoolConfig, measures: Sequence[str]) -> dict:
    """Keyword arguments of `vllm.EngineArgs` for a model that writes.

    ValueError if the model does not fit the pool's GPUs.
    """
    arguments = {
        "max_logprobs": max(HOOK_LOGPROBS, PUBLIC_LOGPROBS),
        "logprobs_mode": "raw_logits",
        "stream_interval": STREAM_TOKENS,
    }
    if needs_hook(measures):
        arguments["worker_extension_cls"] = "actors.engine.vllm_hooks.SamplerHooks"
    return _arguments(model, pool, arguments)


def pooling_arguments(model: ModelConfig, pool: PoolConfig, rewards: bool) -> dict:
    """Keyword arguments of `vllm.EngineArgs` for vLLM's pooling runner, which generates nothing.

    With `rewards` the model is a process reward model, and the output is a score of each label at every token.
    Otherwise it is a language model, and the output is its state at the last token, after the final norm. ValueError if
    the model does not fit the pool's GPUs.
    """
    from vllm.config import PoolerConfig

    if rewards:
        # vLLM's own choice for these models, STEP, turns the prefix cache off: every reward would compute all kept
        # steps again.
        pooler = PoolerConfig(tok_pooling_type="ALL")
        return _arguments(model, pool, {"runner": "pooling", "pooler_config": pooler})
    pooler = PoolerConfig(seq_pooling_type="LAST", use_activation=False)
    return _arguments(model, pool, {"runner": "pooling", "convert": "embed", "pooler_config": pooler})


def hf_config(model: ModelConfig):
    """The checkpoint's configuration as vLLM reads it, downloaded from the Hub if it is not on this machine."""
    from vllm.transformers_utils.config import get_config

    trusted = model.engine.get("trust_remote_code", False)
    return get_config(model_folder(model.path), trusted, revision=model.engine.get("revision"))


def model_dimensions(model: ModelConfig, config) -> ModelDimensions:
    """Dimensions of a model that `steer.costs.gpu_memory` does not list, read from its configuration."""
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


def _arguments(model: ModelConfig, pool: PoolConfig, arguments: dict) -> dict:
    """`arguments` with everything that follows from the model and the pool alone."""
    config = hf_config(model)
    arguments = {
        "model": model_folder(model.path),
        "dtype": model.dtype,
        "max_model_len": model.max_model_len,
        "max_num_seqs": pool.max_num_seqs,
        "enable_prefix_caching": True,
        # A bfloat16 head rounds logits to multiples of .125 to .25.
        "hf_overrides": {"head_dtype": "float32"},
        # STEER routes text: vLLM need not set memory aside for images.
        "language_model_only": True,
        "disable_log_stats": True,
        "seed": 0,
        **arguments,
    }
    if pool.card_gb is not None:
        arguments |= memory_arguments(known_dimensions(model.path) or model_dimensions(model, config), model, pool)
    elif pool.gpus > 0:
        arguments |= _card_arguments(model, pool, config, writes="runner" not in arguments)
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
            # Asynchronous scheduling would compute one token past the end of every step.
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
        # vLLM builds the language model from the nested `text_config` alone, so the head's dtype is set there too.
        nested = {"head_dtype": arguments["hf_overrides"]["head_dtype"]}
        arguments["hf_overrides"]["text_config"] = nested | arguments["hf_overrides"].get("text_config", {})
    return arguments


def card_bytes() -> int | None:
    """Memory of the GPU that this process sees first, without starting CUDA. None if vLLM sees none."""
    from vllm.platforms import current_platform

    return int(current_platform.get_device_total_memory()) if current_platform.is_cuda_alike() else None


def _card_arguments(model: ModelConfig, pool: PoolConfig, config, writes: bool) -> dict:
    """Arguments that follow from the memory of the card. `writes`: the engine computes logits over the vocabulary."""
    card = card_bytes()
    if pool.gpus >= 1:
        if card is None or not writes:
            return {}
        vocabulary = config.get_text_config().vocab_size
        tokens = whole_card_tokens(card, vocabulary, model, pool, _context_tokens(model, config))
        return {"max_num_batched_tokens": tokens}
    if card is None:
        raise ValueError(
            f"{model.path} is to get gpus: {pool.gpus:g}, and vLLM sees no GPU in its process: install vLLM's CUDA "
            "build and a driver that fits it, or set gpus to 0 to run on the CPU"
        )
    weights, parameters = _weights(model)
    counted = model.model_copy(update={"parameters": parameters})
    shape = known_dimensions(model.path) or model_dimensions(counted, config)
    return share_arguments(card, weights, shape, model, pool, writes)


def _weights(model: ModelConfig) -> tuple[float, float]:
    """(bytes, parameters) of a model's weights, from its checkpoint if it is on this machine. ValueError, with the
    remedy, if nothing says how large the model is."""
    number_bytes = BYTES[model.dtype]
    try:
        return weights_bytes(model.path, number_bytes), count_parameters(model.path)
    except (ValueError, OSError):  # The hub's is not here yet, or its weights are in other files or made up.
        shape = known_dimensions(model.path)
        divided = {"kv_cache_memory_bytes", "gpu_memory_utilization"} & set(model.engine)
        if shape is None and model.parameters is None and not divided:
            raise ValueError(
                f"{model.path}: its checkpoint is not on this machine or has no safetensors file, so the memory of its "
                "weights is not known: give the model's parameters:, or kv_cache_memory_bytes under its engine:"
            ) from None
        parameters = shape.parameters if shape is not None else NOMINAL_AND_MORE * (model.parameters or 0)
        return number_bytes * parameters, parameters


def _context_tokens(model: ModelConfig, config) -> int:
    """The model's context, at least as long as the one that vLLM will choose."""
    given = model.engine.get("max_model_len", model.max_model_len)
    if given is not None:
        return int(given)
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or 0)
