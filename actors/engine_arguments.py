"""What a vLLM engine is started with: environment, engine arguments, where the weights are and how many there are.

The defaults are the measured ones (docs: design notes on vLLM); a model's `engine:` entry overrides every one of them.
"""

import json
import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from actors.confidence_hook import HOOK_LOGPROBS, PUBLIC_LOGPROBS, needs_hook
from steer.cards import Shape, card_arguments, known_shape
from steer.config import ModelConfig, PoolConfig

EMBEDDED_PREFIX = "embedded:"
CPU_BLOCK_SIZE_TOKENS = 32
"""The smallest KV block that vLLM takes on a CPU: at its default of 128 short steps cost 1.64x one pass, not 1.18x."""
CPU_BATCHED_TOKENS = 8192
"""Prompt tokens that one CPU engine step takes at most; or the context, where that is longer: no prompt is split."""
OTHER_PARTS = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")
"""How the weights of a Gemma-3 checkpoint begin that the language model does not use."""


def set_environment(gpus: float) -> None:
    """Set what vLLM reads when it is imported; call before that. What the user has set stays, all but the first."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # the replica's own thread drives the engine
    defaults = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
    if gpus > 0:
        defaults["VLLM_USE_V2_MODEL_RUNNER"] = "0"  # the confidence hook knows the V1 sampler
    else:
        # Eager start-up takes 13 s against 30 to 44 s compiled; compiled decoding is 0 to 26 % faster.
        defaults |= {"TORCH_COMPILE_DISABLE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def model_folder(path: str) -> str:
    """The folder of `embedded:small` and `embedded:large`; any other path or Hub id as it is."""
    if not path.startswith(EMBEDDED_PREFIX):
        return path
    from steer.embedded import weights_path

    size = path.removeprefix(EMBEDDED_PREFIX)
    if size not in ("small", "large"):
        raise ValueError(f"model path {path!r}: the embedded models are embedded:small and embedded:large")
    return str(weights_path(size))


def engine_arguments(model: ModelConfig, pool: PoolConfig, measures: Sequence[str]) -> dict:
    """Keyword arguments of `vllm.EngineArgs`. ValueError if the model does not fit the pool's cards."""
    hook = needs_hook(measures)
    config = _hf_config(model)
    arguments = {
        "model": model_folder(model.path),
        "dtype": model.dtype,
        "max_model_len": model.max_model_len,
        "max_num_seqs": pool.max_num_seqs,
        "max_logprobs": max(HOOK_LOGPROBS, PUBLIC_LOGPROBS),
        "logprobs_mode": "raw_logits",
        "enable_prefix_caching": True,
        # A bfloat16 head quantises logits to steps of .125 to .25.
        "hf_overrides": {"head_dtype": "float32"},
        # No memory for images: what is routed is text.
        "language_model_only": True,
        "disable_log_stats": True,
        "seed": 0,
    }
    if hook:
        arguments["worker_extension_cls"] = "actors.confidence_hook.ConfidenceHook"
    if pool.card_gb is not None:
        arguments |= card_arguments(known_shape(model.path) or model_shape(model, config), model, pool)
    if pool.gpus > 0:
        if pool.gpus > 1:
            arguments["tensor_parallel_size"] = int(pool.gpus)
    else:
        arguments |= {
            "dtype": "float32" if model.dtype == "auto" else model.dtype,
            "block_size": CPU_BLOCK_SIZE_TOKENS,
            "enforce_eager": True,
            # A seeded request whose prompt is split kills the CPU engine ("CPU Generator does not use offset").
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(CPU_BATCHED_TOKENS, _context_tokens(model, config)),
            # It would compute one token past every step's end.
            "async_scheduling": False,
        }
    arguments["hf_overrides"] |= model.engine.get("hf_overrides") or {}
    arguments |= {name: value for name, value in model.engine.items() if name != "hf_overrides"}
    if config.model_type == "gemma3":
        from actors.gemma_text import text_part

        arguments["hf_overrides"] = partial(text_part, arguments["hf_overrides"])
    elif "text_config" in config.sub_configs:
        # vLLM builds the language model from the nested part alone, which would not see the head's dtype.
        nested = {"head_dtype": arguments["hf_overrides"]["head_dtype"]}
        arguments["hf_overrides"]["text_config"] = nested | arguments["hf_overrides"].get("text_config", {})
    return arguments


def count_parameters(path: str) -> float:
    """Parameters of the checkpoint, from its safetensors headers; weights that are tied count once, Gemma-3's vision
    tower not at all.

    Quantised checkpoints pack several weights into one number: give `parameters:` for those. ValueError if there is no
    safetensors file.
    """
    folder = Path(model_folder(path))
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(path, allow_patterns=["*.safetensors*"], local_files_only=True))
    index = folder / "model.safetensors.index.json"
    if index.exists():
        files = sorted(folder / name for name in set(json.loads(index.read_text())["weight_map"].values()))
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{path} has no safetensors file to count the parameters of: give the model's `parameters:`")
    return float(sum(_file_parameters(file) for file in files))


def _file_parameters(file: Path) -> int:
    """Weights in one safetensors file, whose header is a length of 8 bytes and then JSON."""
    with file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    skipped = ("__metadata__", *OTHER_PARTS)
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if not name.startswith(skipped))


def _hf_config(model: ModelConfig):
    """The checkpoint's configuration as vLLM reads it (from the hub if need be)."""
    from vllm.transformers_utils.config import get_config

    trusted = model.engine.get("trust_remote_code", False)
    return get_config(model_folder(model.path), trusted, revision=model.engine.get("revision"))


def model_shape(model: ModelConfig, config) -> Shape:
    """What a model that `steer.cards` does not list needs of a card's memory."""
    text = config.get_text_config()
    heads = text.num_attention_heads
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    window = getattr(text, "sliding_window", None) if "sliding_attention" in kinds else None
    return Shape(
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
