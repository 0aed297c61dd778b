"""Keys of a configuration that have somebody's code loaded.

A run that goes on from its folder alone takes its configuration from there. Whoever can write to the folder must not
choose code for the cluster, so such keys count only if the user gives the configuration himself.

Invariant: an engine argument that is not known to be harmless counts as one that loads code.
"""

from typing import Any

from steer.config.pairs import PAIRS

_TEXTS = {
    *("dtype", "kv_cache_dtype", "quantization", "revision", "tokenizer_revision", "hf_token", "attention_backend"),
    *("mamba_cache_dtype", "mamba_ssm_cache_dtype", "block_size", "cpu_offload_params"),
}
"""Engine arguments whose text names no code: kinds of numbers, versions of a checkpoint, kernels that vLLM has."""
_CHOICES = {
    "load_format": {"auto", "safetensors", "dummy", "hf"},
    "tokenizer_mode": {"auto", "slow", "hf", "mistral"},
    "distributed_executor_backend": {"mp", "ray", "uni"},
}
"""The same of arguments that can name a class or a plugin, too."""


def code_keys(config: dict[str, Any]) -> list[str]:
    """Dotted keys of a run's configuration, as values of JSON, that have code loaded."""
    found = []
    policy, pair = config.get("policy"), config.get("pair")
    if isinstance(policy, dict) and policy.get("name") == "custom":
        found.append("policy.object")
    if isinstance(pair, str) and pair not in PAIRS:
        found.append("pair")
    for role, model in pair.items() if isinstance(pair, dict) else ():
        engine = model.get("engine") if isinstance(model, dict) else None
        for name, value in engine.items() if isinstance(engine, dict) else ():
            if not _is_harmless(name, value):
                found.append(f"pair.{role}.engine.{name}")
    return found


def _is_harmless(name: str, value: Any) -> bool:
    if value is None or value is False:
        return True
    if isinstance(value, str):
        return name in _TEXTS or value in _CHOICES.get(name, ())
    # Numbers and switches choose among what vLLM has. `trust_remote_code` and what may be called like it do not.
    return isinstance(value, bool | int | float) and not ("trust" in name or "code" in name)
