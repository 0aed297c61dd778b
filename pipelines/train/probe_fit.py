"""Fit the probe of `query_router` to hidden states and soft labels, in PyTorch on the CPU."""

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from steer.policies.probe import Probe, ProbeCard

HELD_OUT = 0.2
"""Share of the questions that the probe is not trained on. The epoch with the least loss on them is kept."""
WIDTH = 32
"""Units of the probe's hidden layer."""
EPOCHS = 600
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-2


def fit_probe(states_QH: np.ndarray, solved_Q: np.ndarray, model: str, seed: int) -> tuple[Probe, dict]:
    """(the probe, figures about it on held-out questions).

    `states_QH`: float32; NaN rows are left out. `solved_Q`: share of rollouts that were right, 0 to 1. `model`:
    fingerprint of the model whose states they are. Raises ValueError if the share is the same for all questions.
    """
    known_Q = np.isfinite(states_QH).all(axis=1)
    states_QH, solved_Q = states_QH[known_Q], solved_Q[known_Q]
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(states_QH))
    held, learnt = np.split(order, [round(HELD_OUT * len(order))])
    if min(len(held), len(learnt)) < 2 or np.ptp(solved_Q[learnt]) == 0:
        raise ValueError(f"{len(states_QH)} questions, all solved alike, teach a probe nothing: give more questions")
    mean_H, sd_H = states_QH[learnt].mean(axis=0), states_QH[learnt].std(axis=0) + 1e-6
    x = torch.tensor((states_QH - mean_H) / sd_H, dtype=torch.float32)
    y = torch.tensor(solved_Q, dtype=torch.float32)
    best, loss = _trained(x, y, torch.tensor(learnt), torch.tensor(held), seed)
    # The scaling becomes part of the first layer, so that the probe reads unscaled states.
    w1 = best["w1"] / sd_H[:, None]
    weights = {"w1": w1, "b1": best["b1"] - mean_H @ w1, "w2": best["w2"], "b2": best["b2"]}
    card = ProbeCard(hidden_size=states_QH.shape[1], layers=(WIDTH,), model=model, seeds=(seed,))
    probe = Probe(card, {name: np.asarray(array, np.float32) for name, array in weights.items()})
    return probe, {
        "questions": len(states_QH),
        "solved": float(solved_Q.mean()),
        "held_out_questions": len(held),
        "held_out_auroc": _auroc(solved_Q[held], probe.solves(states_QH[held])),
        "held_out_bce": loss,
    }


def _trained(
    x: torch.Tensor, y: torch.Tensor, learnt: torch.Tensor, held: torch.Tensor, seed: int
) -> tuple[dict[str, np.ndarray], float]:
    """(the weights with the lowest binary cross-entropy on the held-out rows, that entropy in nats)."""
    generator = torch.Generator().manual_seed(seed)
    w1 = torch.randn(x.shape[1], WIDTH, generator=generator) * x.shape[1] ** -0.5
    w2 = torch.randn(WIDTH, generator=generator) * WIDTH**-0.5
    parameters = [w1, torch.zeros(WIDTH), w2, torch.zeros(())]
    for parameter in parameters:
        parameter.requires_grad_()
    optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    best: dict[str, np.ndarray] = {}
    lowest = float("inf")
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(_logits(x[learnt], *parameters), y[learnt]).backward()
        optimizer.step()
        with torch.no_grad():
            loss = F.binary_cross_entropy_with_logits(_logits(x[held], *parameters), y[held]).item()
        if loss < lowest:
            names = ("w1", "b1", "w2", "b2")
            lowest, best = loss, {n: p.detach().numpy().copy() for n, p in zip(names, parameters, strict=True)}
    return best, lowest


def _logits(x: torch.Tensor, w1: torch.Tensor, b1: torch.Tensor, w2: torch.Tensor, b2: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x @ w1 + b1) @ w2 + b2


def _auroc(solved_Q: np.ndarray, p_Q: np.ndarray) -> float | None:
    """AUROC of questions that were solved more often than not against the others. None: there is only one kind."""
    right_Q = solved_Q > 0.5
    return float(roc_auc_score(right_Q, p_Q)) if 0 < right_Q.sum() < len(right_Q) else None
