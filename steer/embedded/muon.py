"""The optimiser for the matrices of the embedded models."""

from collections import defaultdict

import torch
from torch import Tensor, nn


class Muon(torch.optim.Optimizer):
    """Momentum with updates that Newton-Schulz iterations make orthogonal (Jordan et al. 2024). For matrices only."""

    def __init__(self, parameters: list[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        by_shape = defaultdict(list)
        for parameter in parameters:
            by_shape[parameter.shape].append(parameter)
        groups = [{"params": same} for same in by_shape.values()]
        super().__init__(groups, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # no closure: `fit` computes the loss
        for group in self.param_groups:
            updates = []
            for parameter in group["params"]:
                state = self.state[parameter]
                velocity = state.setdefault("velocity", torch.zeros_like(parameter))
                velocity.lerp_(parameter.grad, 1 - group["momentum"])
                updates.append(parameter.grad.lerp(velocity, group["momentum"]))
            rows, columns = updates[0].shape
            scale = group["lr"] * max(1.0, rows / columns) ** 0.5
            for parameter, update in zip(group["params"], _orthogonal(torch.stack(updates)), strict=True):
                parameter.add_(update, alpha=-scale)


def _orthogonal(x: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrices of a stack, roughly: singular values end between about 0.7 and 1.2."""
    wide: Tensor = x if x.shape[1] <= x.shape[2] else x.mT
    wide = wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = wide @ wide.mT
        wide = 3.4445 * wide + (-4.7750 * gram + 2.0315 * gram @ gram) @ wide
    return wide if x.shape[1] <= x.shape[2] else wide.mT
