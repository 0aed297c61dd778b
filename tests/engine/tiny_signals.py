"""Tiny random process reward models as the hub lays them out, and what plain transformers and torch say of them."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tiny_models import build, byte_tokenizer, messages
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Model

STEPS = ("one and two are three.\n\n", "three and three are six, ab\n\n", "so it is fifty-five\n\n")
SEPARATOR, BOS = "<extra_0>", "<bos>"


def encode(tokenizer, *texts):
    """Ids of the texts, each encoded by itself."""
    return [i for text in texts for i in tokenizer.encode(text, add_special_tokens=False).ids]


def signals(replica, batch):
    """What a batch without `flush_s` answers, float64 [B] in the order of its rows."""
    (answer,) = messages(replica, batch)
    return np.array(answer.signal_R)[np.argsort(answer.row_R)]


def prm_tokenizer():
    """Another numbering than the writing models have, as the real reward models' tokenizers may well be."""
    from tokenizers import AddedToken

    tokenizer = byte_tokenizer([("Ċ", "Ċ"), ("a", "b")], reverse=True)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in (SEPARATOR, BOS)])
    return tokenizer


def build_qwen_prm(folder, context=256):
    """Qwen2.5-Math-PRM: a perceptron `score` of two classes, no language model head."""
    weights = _base_weights(folder, prm_tokenizer(), "Qwen2ForProcessRewardModel", context)
    del weights["lm_head.weight"]
    hidden = weights["model.norm.weight"].shape[0]
    for name, shape in {"0": (hidden, hidden), "2": (2, hidden)}.items():
        weights[f"score.{name}.weight"] = torch.randn(shape) * 0.15
        weights[f"score.{name}.bias"] = torch.randn(shape[0]) * 0.1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def build_skywork_prm(folder, context=256):
    """Skywork-o1-Open-PRM: a linear value head beside the language model's head, in torch's own file format."""
    weights = _base_weights(folder, prm_tokenizer(), "Qwen2ForPrmModel", context, bos_token=BOS)
    weights["v_head.summary.weight"] = torch.randn(1, weights["model.norm.weight"].shape[0]) * 0.4
    weights["v_head.summary.bias"] = torch.full((1,), 0.3)
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    return folder


def _base_weights(folder, tokenizer, architecture, context, **tokens):
    build(folder, tokenizer, hidden=64, seed=5, context=context)
    for file, changes in (("config.json", {"architectures": [architecture]}), ("tokenizer_config.json", tokens)):
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    weights = load_file(folder / "model.safetensors")
    for name in weights:
        if name.endswith(("v_proj.weight", "o_proj.weight")):
            weights[name] *= 8.0  # a separator is always the same token: what is before it has to show
    return weights


def _weights(folder: Path):
    file = folder / "model.safetensors"
    return load_file(file) if file.exists() else torch.load(folder / "pytorch_model.bin")


def states(folder, ids):
    """[T, hidden]: after the final norm, by transformers in float32."""
    model = Qwen2Model(Qwen2Config.from_pretrained(folder)).float().eval()
    weights = {name.removeprefix("model."): w for name, w in _weights(folder).items() if name.startswith("model.")}
    model.load_state_dict(weights)
    with torch.no_grad():
        return model(torch.tensor([list(ids)])).last_hidden_state[0]


def qwen_reward(folder, ids):
    """Softmax over the two classes at the last of `ids`: the probability of the second."""
    w = {name: tensor for name, tensor in _weights(folder).items() if name.startswith("score.")}
    hidden = torch.relu(states(folder, ids)[-1] @ w["score.0.weight"].T + w["score.0.bias"])
    return torch.softmax(hidden @ w["score.2.weight"].T + w["score.2.bias"], -1)[1].item()


def skywork_reward(folder, ids):
    w = _weights(folder)
    value = states(folder, ids)[-1] @ w["v_head.summary.weight"][0] + w["v_head.summary.bias"][0]
    return torch.sigmoid(value).item()


def digit_logits(folder, ids, digits):
    """float64 [10]: of the tokens `digits` after `ids`, by transformers."""
    model = Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.tensor([list(ids)])).logits[0, -1, digits].double().numpy()


def expected_digit(logits_10):
    p = np.exp(logits_10 - logits_10.max())
    return float((p / p.sum()) @ np.arange(10))
