"""A model's folder in Hugging Face layout (config, weights and tokenizer), which transformers and vLLM can load.

Invariant: `config.json` is written last, so a folder that holds it is complete.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from steer.embedded import tokenizer
from steer.embedded.tokenizer import EOS, PAD, token_id


@dataclass(frozen=True)
class Dimensions:
    """The sizes of a Qwen2 model, named as in its config.json."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int = 32
    """vLLM's CPU attention supports 32 and 64, among others, but not 16."""
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-6


DIMENSIONS = {
    "small": Dimensions(32, 48, 3, 2, 1),
    "large": Dimensions(128, 288, 4, 4, 1),
    # The large model with two more layers and a wider residual stream (signals.py).
    "signal": Dimensions(192, 288, 6, 6, 1),
}

_AS_LLAMA = {"architectures": ["LlamaForCausalLM"], "qkv_bias": True}
# The architecture of Qwen2.5-Math-PRM. vLLM always gives it two classes; transformers has only its base model.
_PROCESS_REWARDS = {"architectures": ["Qwen2ForProcessRewardModel"], "num_labels": 2}


def save(folder: Path, shape: Dimensions, weights: dict[str, Tensor], rewards: bool = False) -> None:
    """Write a language model, or with `rewards` a process reward model, which has a head `score` and a step separator.

    The weights are stored in their own dtype. The config always asks for float32 computation.
    """
    extra = (tokenizer.STEP_SEPARATOR,) if rewards else ()
    built = tokenizer.build(extra)
    tokenizer.save(folder, extra)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    ids = {"pad_token_id": token_id(built, PAD), "eos_token_id": token_id(built, EOS)}
    # vLLM's Qwen2 ignores `head_dim` and takes hidden_size / heads as the head size. Its Llama reads `head_dim` and,
    # with biases on q, k and v, is the same function. transformers goes by `model_type`, which is Qwen2 either way.
    fits = shape.hidden_size == shape.num_attention_heads * shape.head_dim
    language_model = {"architectures": ["Qwen2ForCausalLM"]} if fits else _AS_LLAMA
    config = {
        **(_PROCESS_REWARDS if rewards else language_model),
        "model_type": "qwen2",
        **asdict(shape),
        "vocab_size": built.get_vocab_size(),
        "max_position_embeddings": tokenizer.MAX_LENGTH_TOKENS,
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "tie_word_embeddings": not rewards and "lm_head.weight" not in weights,
        "use_cache": True,
        "use_sliding_window": False,
        "torch_dtype": "float32",
        "bos_token_id": None,
        **ids,
    }
    generation = {"do_sample": True, "temperature": 0.7, **ids}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
