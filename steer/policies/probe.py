"""The probe of `query_router`: a classifier on prompt states (after arXiv 2410.04707).

It reads the small model's hidden state at the end of a prompt and gives the probability that the model solves the
question. It is a logistic regression or a perceptron with one hidden layer, in NumPy:

    p = sigmoid(x w + b)   or   p = sigmoid(act(x w1 + b1) w2 + b2)

A probe is a folder of `probe.safetensors` (these arrays, float32) and `probe.json` (what it was trained on).
Invariant: a probe is only used on the model whose states it was trained on (`check_fits`).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass as checked
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

WEIGHTS_FILE, CARD_FILE = "probe.safetensors", "probe.json"
EMBEDDED_PROBE = "embedded:probe"
PROBE_KEY = "probe"
"""Engine entry of a QUERY model: the folder of the probe. The replica takes it out before vLLM sees it."""
_REMEDY = "train it with `steer train-router`"


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class ProbeCard:
    """What `probe.json` holds."""

    hidden_size: int
    """Width of the states that the probe reads."""
    layers: tuple[int, ...]
    """Width of the hidden layer, `[]` for a logistic regression."""
    model: str
    """Fingerprint of the model whose states the probe reads (`actors.engine.arguments.model_fingerprint`)."""
    seeds: tuple[int, ...]
    """Seeds of the training."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Activation of the hidden layer."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of the arrays. Raises ValueError if there is more than one hidden layer."""
        if not self.layers:
            return {"w": (self.hidden_size,), "b": ()}
        if len(self.layers) > 1:
            raise ValueError(f"a probe has one hidden layer at most, not {list(self.layers)}")
        (width,) = self.layers
        return {"w1": (self.hidden_size, width), "b1": (width,), "w2": (width,), "b2": ()}


@dataclass(frozen=True)
class Probe:
    """Raises ValueError if the arrays are not those that the card says."""

    card: ProbeCard
    weights: dict[str, npt.NDArray[np.float32]]

    def __post_init__(self) -> None:
        shapes = {name: array.shape for name, array in self.weights.items()}
        if shapes != self.card.shapes():
            raise ValueError(f"a probe of hidden_size {self.card.hidden_size} and layers {list(self.card.layers)} has "
                             f"the arrays {self.card.shapes()}, not {shapes}")  # fmt: skip

    def solves(self, states_QH: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Probabilities [Q] from one state a question, [Q, hidden_size]; NaN where a state is NaN."""
        if states_QH.ndim != 2 or states_QH.shape[1] != self.card.hidden_size:
            raise ValueError(f"the probe reads states of {self.card.hidden_size} numbers, not {states_QH.shape}")
        x, w = states_QH.astype(np.float64), {name: a.astype(np.float64) for name, a in self.weights.items()}
        if not self.card.layers:
            logit = x @ w["w"] + w["b"]
        else:
            z = x @ w["w1"] + w["b1"]
            logit = (np.tanh(z) if self.card.activation == "tanh" else np.maximum(z, 0.0)) @ w["w2"] + w["b2"]
        solved_Q: npt.NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * logit))  # the sigmoid, without its overflow
        return solved_Q

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({n: np.array(a, np.float32, order="C") for n, a in self.weights.items()}, folder / WEIGHTS_FILE)
        (folder / CARD_FILE).write_text(json.dumps(asdict(self.card), indent=2) + "\n")


def load_probe(folder: Path) -> Probe:
    """Read a probe. Raises ValueError, naming the file and the remedy, if there is none or it is broken."""
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
    """Raises ValueError if the probe reads another model's states. `model`: fingerprint of the small model at hand."""
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
