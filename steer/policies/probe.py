"""The probe of `query_router`: from the small model's state at the end of a prompt, the probability that it solves the
question (after arXiv 2410.04707).

A logistic regression or a perceptron with one hidden layer, in numpy:

    p = sigmoid(x w + b)   or   p = sigmoid(act(x w1 + b1) w2 + b2)

A probe is a folder of `probe.safetensors` (these arrays, float32) and `probe.json` (what it was trained on).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass as checked
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

WEIGHTS_FILE, CARD_FILE = "probe.safetensors", "probe.json"
_REMEDY = "train it with `steer train-router`"


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class ProbeCard:
    """`probe.json`."""

    hidden_size: int
    """Width of the states that it reads."""
    layers: tuple[int, ...]
    """Width of the hidden layer, `[]` for a logistic regression."""
    model: str
    """Fingerprint of the model whose states it reads (`actors.engine.arguments.model_fingerprint`)."""
    seeds: tuple[int, ...]
    """Seeds of its training."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Of the hidden layer."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of the arrays. ValueError if there is more than one hidden layer."""
        if not self.layers:
            return {"w": (self.hidden_size,), "b": ()}
        if len(self.layers) > 1:
            raise ValueError(f"a probe has one hidden layer at most, not {list(self.layers)}")
        (width,) = self.layers
        return {"w1": (self.hidden_size, width), "b1": (width,), "w2": (width,), "b2": ()}


@dataclass(frozen=True)
class Probe:
    """ValueError if the arrays are not those that the card says."""

    card: ProbeCard
    weights: dict[str, np.ndarray]

    def __post_init__(self):
        shapes = {name: array.shape for name, array in self.weights.items()}
        if shapes != self.card.shapes():
            raise ValueError(f"a probe of hidden_size {self.card.hidden_size} and layers {list(self.card.layers)} has "
                             f"the arrays {self.card.shapes()}, not {shapes}")  # fmt: skip

    def solves(self, states_NH: np.ndarray) -> np.ndarray:
        """States [N, hidden_size] -> probabilities float64 [N]; NaN of a state that is NaN."""
        if states_NH.ndim != 2 or states_NH.shape[1] != self.card.hidden_size:
            raise ValueError(f"the probe reads states of {self.card.hidden_size} numbers, not {states_NH.shape}")
        x, w = states_NH.astype(np.float64), {name: a.astype(np.float64) for name, a in self.weights.items()}
        if not self.card.layers:
            logit = x @ w["w"] + w["b"]
        else:
            z = x @ w["w1"] + w["b1"]
            logit = (np.tanh(z) if self.card.activation == "tanh" else np.maximum(z, 0.0)) @ w["w2"] + w["b2"]
        return 0.5 * (1.0 + np.tanh(0.5 * logit))  # the sigmoid, without its overflow

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({n: np.array(a, np.float32, order="C") for n, a in self.weights.items()}, folder / WEIGHTS_FILE)
        (folder / CARD_FILE).write_text(json.dumps(asdict(self.card), indent=2) + "\n")


def load_probe(folder: Path) -> Probe:
    """ValueError with the file and the remedy if it is not there or not a probe."""
    card_file, weights_file = folder / CARD_FILE, folder / WEIGHTS_FILE
    for file in (card_file, weights_file):
        if not file.is_file():
            raise ValueError(f"there is no {file}: {_REMEDY}, and give the pair `probe: FOLDER`")
    try:
        card = ProbeCard(**json.loads(card_file.read_text()))
        return Probe(card, load_file(weights_file))
    except (ValidationError, SafetensorError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} holds no probe that can be read: {error}; {_REMEDY} again") from error


def check_fits(probe: Probe, folder: Path, hidden_size: int, model: str) -> None:
    """ValueError if the probe reads the states of another model. `model`: the fingerprint of the one at hand."""
    if probe.card.hidden_size != hidden_size:
        raise ValueError(
            f"the probe {folder} reads states of {probe.card.hidden_size} numbers and the small model's have "
            f"{hidden_size}: {_REMEDY} on this model"
        )
    if probe.card.model != model:
        raise ValueError(
            f"the probe {folder} was trained on a model of fingerprint {probe.card.model} and the small model's is "
            f"{model}: {_REMEDY} on this model"
        )


EMBEDDED_PROBE = "embedded:probe"


PROBE_KEY = "probe"
"""Engine entry of a QUERY model: folder of the probe; the replica takes it out before vLLM sees it."""
