"""A model's folder in Hugging Face layout: config, float32 weights and tokenizer, as transformers and vLLM load it.

Invariant: a folder is complete once `config.json` is there, which is written last.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from steer.embedded import tokenizer


@dataclass(frozen=True)
class Shape:
    """The sizes of a Qwen2 model, named as in its config.json."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int = 32
    """vLLM's CPU attention takes 32 or 64, among others, but not 16."""
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-6


SHAPES = {
    "small": Shape(32, 48, 3, 2, 1),
    "large": Shape(128, 288, 4, 4, 1),
}


def save(folder: Path, shape: Shape, weights: dict[str, np.ndarray]) -> None:
    built = tokenizer.build()
    tokenizer.save(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    ids = {"pad_token_id": built.token_to_id(tokenizer.PAD), "eos_token_id": built.token_to_id(tokenizer.EOS)}
    # vLLM's Qwen2 takes hidden_size / heads for the head size, whatever `head_dim` says. Its Llama reads `head_dim`
    # and, with biases on q, k and v, is the same function. transformers goes by `model_type`: Qwen2 either way.
    fits = shape.hidden_size == shape.num_attention_heads * shape.head_dim
    config = {
        "architectures": ["Qwen2ForCausalLM" if fits else "LlamaForCausalLM"],
        **({} if fits else {"qkv_bias": True}),
        "model_type": "qwen2",
        **asdict(shape),
        "vocab_size": built.get_vocab_size(),
        "max_position_embeddings": tokenizer.MAX_LENGTH_TOKENS,
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "use_cache": True,
        "use_sliding_window": False,
        "torch_dtype": "float32",
        "bos_token_id": None,
        **ids,
    }
    generation = {"do_sample": True, "temperature": 0.7, **ids}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
