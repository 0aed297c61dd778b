"""What a vLLM engine is started with: environment, engine arguments, where the weights are and how many there are.

The defaults are the measured ones (docs: design notes on vLLM); a model's `engine:` entry overrides every one of them.
"""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

from actors.confidence_hook import HOOK_LOGPROBS, PUBLIC_LOGPROBS, needs_hook
from steer.config import ModelConfig, PoolConfig

EMBEDDED_PREFIX = "embedded:"
CPU_BLOCK_SIZE_TOKENS = 32
"""The smallest KV block that vLLM takes on a CPU: at its default of 128 short steps cost 1.64x one pass, not 1.18x."""
CPU_BATCHED_TOKENS = 8192
"""Prompt tokens that one CPU engine step takes at most; or the context, where that is longer: no prompt is split."""


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
    """Keyword arguments of `vllm.EngineArgs`."""
    hook = needs_hook(measures)
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
        "disable_log_stats": True,
        "seed": 0,
    }
    if hook:
        arguments["worker_extension_cls"] = "actors.confidence_hook.ConfidenceHook"
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
            "max_num_batched_tokens": max(CPU_BATCHED_TOKENS, _context_tokens(model)),
            # It would compute one token past every step's end.
            "async_scheduling": False,
        }
    overrides = dict(model.engine)
    if isinstance(overrides.get("hf_overrides"), dict):
        overrides["hf_overrides"] = {**arguments["hf_overrides"], **overrides["hf_overrides"]}
    return {**arguments, **overrides}


def count_parameters(path: str) -> float:
    """Parameters of the checkpoint, from its safetensors headers; weights that are tied count once.

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
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def _context_tokens(model: ModelConfig) -> int:
    """The context that vLLM will choose, or more."""
    given = model.engine.get("max_model_len", model.max_model_len)
    if given is not None:
        return int(given)
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(
        model_folder(model.path), trust_remote_code=model.engine.get("trust_remote_code", False)
    )
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or 0)
