"""The two models that rate the embedded pair's drafts, a process reward model and a judge, and their inputs.

Invariants: both consist of the large model, whose layers stay unchanged, and two new layers; both predict at one token
of each step whether the step is right; their weight names are those of Qwen2.5-Math-PRM and of Qwen2.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from steer.embedded import tokenizer, weights_path
from steer.embedded.checkpoint import DIMENSIONS
from steer.embedded.labels import step_labels, true_steps
from steer.embedded.tasks import STEP_DELIMITER, Task
from steer.embedded.tokenizer import token_id
from steer.embedded.train import Layer, Qwen2, RMSNorm

KNOWN = DIMENSIONS["large"].hidden_size
COPY = slice(KNOWN, KNOWN + 32)
SCRATCH = slice(KNOWN + 32, DIMENSIONS["signal"].hidden_size)
"""Parts of the residual stream: the part that the large model uses, a copy of the token's embedding, and scratch space
for the new layers. At the large model's last layer the stream has norm 700 and the embedding has norm 2. Without the
copy, the token itself could be predicted at only 95 of 100 places, and right could not be told from wrong even at those
(AUROC 0.92 to 1.0 at levels 3 and 4; above 0.998 with the copy)."""
NORM_WEIGHTS = ((COPY, 130.0), (SCRATCH, 50.0))
"""Weights of the new layers' norms on these two parts. They scale both parts to the size of the rest."""
LOOK_BACK = (4, 6.5)
"""Number of fastest rotary frequencies, and size of the biases on them, with which a head attends to the previous token
(attention 0.99)."""
NOTHING, WRONG, RIGHT, AUXILIARY_WRONG, AUXILIARY_RIGHT = -1, 0, 1, 2, 3
"""The target at a token: none; the label of a step; or, for the auxiliary head, whether the text so far is true."""
FIRST_ERROR_SHARE = 0.5
"""Share of the responses with a wrong step for which the judge is trained on the first wrong step. For all others the
step is drawn at random. Steps after the first wrong one teach little, because nearly all of them are wrong."""


@dataclass(frozen=True, slots=True)
class Rated:
    """A response with its labels. `first` is the first step that counts in a validation figure."""

    benchmark: str
    level: int
    question: str
    steps: tuple[str, ...]
    rights: tuple[bool, ...]
    first: int = 0


def label(task: Task, steps: tuple[str, ...], first: int = 0) -> Rated:
    rights = tuple(step_labels(task.benchmark, task.question, steps))
    return Rated(task.benchmark, task.level, task.question, steps, rights, first)


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One input, with a target for each of its tokens."""

    ids: list[int]
    targets: list[int]


def padded(rows: list[TrainingRow]) -> tuple[Tensor, Tensor]:
    """Ids and targets of the rows, both [B, T], padded on the right. A causal model never attends to that padding."""
    width = max(len(row.ids) for row in rows)
    ids_BT = torch.tensor([row.ids + [0] * (width - len(row.ids)) for row in rows])
    return ids_BT, torch.tensor([row.targets + [NOTHING] * (width - len(row.ids)) for row in rows])


class SignalModel(Qwen2, ABC):
    """What both models share: the large model, two new layers, and an auxiliary head that is dropped after training.

    The large model predicts the next token of a step in its last layer. So the first new layer compares this prediction
    with the token that was written, and the second new layer gathers the results of all tokens. The auxiliary head
    trains the first new layer: at each token it predicts from that layer whether the step is the true one so far. From
    the labels of the steps alone, neither layer learnt its task within 1.5 M tokens.
    """

    def __init__(self, built: Tokenizer) -> None:
        super().__init__(DIMENSIONS["signal"], built.get_vocab_size())
        self.tokenizer = built
        self.auxiliary = nn.Linear(DIMENSIONS["signal"].hidden_size, 2)
        self.old = DIMENSIONS["large"].num_hidden_layers
        self._widen(load_file(weights_path("large") / "model.safetensors"))
        for part in (self.model.embed_tokens, *self.model.layers[: self.old]):
            part.requires_grad_(False)
        for layer in self.new_layers:
            for written in (layer.self_attn.o_proj.weight, layer.mlp.down_proj.weight):
                _train_rows_only(written, SCRATCH)  # new layers write to their scratch space alone
        for norm in self._norms():
            norm.weight.requires_grad_(False)
        self._look_back(self.old)

    @property
    def new_layers(self) -> list[Layer]:
        """The layer that compares and the layer that gathers."""
        return self.model.decoder_layers()[self.old :]

    @abstractmethod
    def rows(self, responses: list[Rated], rng: random.Random | None = None) -> list[TrainingRow]:
        """The inputs and targets of some responses; with `rng`, as training takes them."""

    @abstractmethod
    def log_probabilities(self, hidden_NH: Tensor) -> Tensor:
        """Log-probabilities [N, 2] of wrong and right."""

    @abstractmethod
    def ratings(self, hidden_NH: Tensor) -> Tensor:
        """Ratings [N], 0 to 1."""

    def _norms(self) -> list[RMSNorm]:
        """The norms of the new layers, and the final norm."""
        pairs = ((layer.input_layernorm, layer.post_attention_layernorm) for layer in self.new_layers)
        return [*(norm for pair in pairs for norm in pair), self.model.norm]

    @torch.no_grad()
    def _widen(self, known: dict[str, Tensor]) -> None:
        """Fill in the large model's weights, and zeros for what is new.

        The weights of the norms are rescaled, because they average the squares over more elements.
        """
        wider = (KNOWN / DIMENSIONS["signal"].hidden_size) ** 0.5
        mine = dict(self.named_parameters())
        for name, weight in known.items():
            if weight.dim() == 2:
                mine[name].zero_()[: weight.shape[0], : weight.shape[1]] = weight
            else:
                mine[name][: len(weight)] = weight * (wider if "norm" in name else 1)
        embedding, old = mine["model.embed_tokens.weight"], known["model.embed_tokens.weight"]
        # The separator takes the place of the blank line that the large model knows.
        embedding[len(old) :, :KNOWN] = old[self.tokenizer.encode(STEP_DELIMITER).ids[0]]
        directions = torch.randn(len(embedding), 32, generator=torch.Generator().manual_seed(0))
        # The copy has the norm of the token's embedding, so that the first layer norm changes only by a factor.
        embedding[:, COPY] = F.normalize(directions) * embedding[:, :KNOWN].norm(dim=1, keepdim=True)
        self.model.decoder_layers()[0].input_layernorm.weight.mul_(2**0.5)
        for norm in self._norms():
            norm.weight[:KNOWN] = wider
            for part, size in NORM_WEIGHTS:
                norm.weight[part] = size

    @torch.no_grad()
    def _look_back(self, layer: int) -> None:
        """Set the biases with which the first head of a layer attends to the previous token, one rotary step back."""
        count, length = LOOK_BACK
        attention, half = self.model.decoder_layers()[layer].self_attn, DIMENSIONS["signal"].head_dim // 2
        attention.k_proj.bias[:count] = length
        attention.q_proj.bias[:count] = length * self.cos[1, :count]
        attention.q_proj.bias[half : half + count] = -length * self.sin[1, :count]
        attention.o_proj.weight[SCRATCH, : 2 * half] = torch.eye(2 * half)

    def layered(self, ids_BT: Tensor) -> tuple[Tensor, Tensor]:
        """The input of the auxiliary head (the normed output of the last layer but one) and the hidden states.

        Both have shape [B, T, H].
        """
        length = ids_BT.shape[1]
        cos, sin = self.cos[:length], self.sin[:length]
        with torch.no_grad():
            x = self.model.embed_tokens(ids_BT)
            for layer in self.model.decoder_layers()[: self.old]:
                x = layer(x, cos, sin, None)
        compare, gather = self.new_layers
        x = compare(x, cos, sin, None)
        return gather.input_layernorm(x), self.model.norm(gather(x, cos, sin, None))

    def step_targets(self, response: Rated, step: int) -> tuple[list[int], list[int]]:
        """Ids and auxiliary targets of a step's text without its blank line.

        The targets end at the first wrong token of the response.
        """
        ids = self.tokenizer.encode(response.steps[step].removesuffix(STEP_DELIMITER)).ids
        true = true_steps(response.benchmark, response.question)
        if not all(response.rights[:step]) or step >= len(true):
            return ids, [NOTHING] * len(ids)
        truth = self.tokenizer.encode(true[step].removesuffix(STEP_DELIMITER)).ids
        same = next((i for i, (a, b) in enumerate(zip(ids, truth, strict=False)) if a != b), len(truth))
        targets = [AUXILIARY_RIGHT] * min(same, len(ids)) + [AUXILIARY_WRONG] * (same < len(ids))
        return ids, targets + [NOTHING] * (len(ids) - len(targets))

    def trained(self) -> dict[str, Tensor]:
        """The weights to be saved."""
        return {name: p for name, p in self.named_parameters() if not name.startswith("auxiliary.")}


def _train_rows_only(matrix: Tensor, rows: slice | list[int]) -> None:
    """Zero the gradient of all other rows, so that a matrix is trained in these rows only.

    Muon, too, leaves rows without a gradient unchanged.
    """

    def kept(gradient: Tensor) -> Tensor:
        part = torch.zeros_like(gradient)
        part[rows] = gradient[rows]
        return part

    matrix.register_hook(kept)  # type: ignore[no-untyped-call]  # torch does not annotate it


class RewardModel(SignalModel):
    """A signal model with the head of Qwen2.5-Math-PRM. Rewards are read at the separator after every step."""

    def __init__(self) -> None:
        super().__init__(tokenizer.build((tokenizer.STEP_SEPARATOR,)))
        hidden = DIMENSIONS["signal"].hidden_size
        self.score = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2))
        self.separator = token_id(self.tokenizer, tokenizer.STEP_SEPARATOR)

    def rows(self, responses: list[Rated], rng: random.Random | None = None) -> list[TrainingRow]:
        """One row for each response, with a target for every step that counts."""
        rows = []
        for response in responses:
            ids = self.tokenizer.encode(tokenizer.prompt_text(response.question)).ids
            targets = [NOTHING] * len(ids)
            for i, right in enumerate(response.rights):
                step_ids, step_targets = self.step_targets(response, i)
                ids += [*step_ids, self.separator]
                targets += [*step_targets, NOTHING if i < response.first else RIGHT if right else WRONG]
            rows.append(TrainingRow(ids, targets))
        return rows

    def log_probabilities(self, hidden_NH: Tensor) -> Tensor:
        """Log-probabilities [N, 2] of wrong and right."""
        log_probabilities_N2: Tensor = self.score(hidden_NH).log_softmax(-1)
        return log_probabilities_N2

    def ratings(self, hidden_NH: Tensor) -> Tensor:
        """Rewards [N], 0 to 1."""
        return self.log_probabilities(hidden_NH)[:, 1].exp()


class Judge(SignalModel):
    """A signal model whose next token after the judge's turn is 9 if the last step is right, and 0 if it is wrong."""

    def __init__(self) -> None:
        super().__init__(tokenizer.build())
        self.digits = [token_id(self.tokenizer, str(digit)) for digit in range(10)]
        # Only two rows of the head are trained: Muon would turn the noise of the others into steps of the same size.
        self.lm_head = nn.Linear(DIMENSIONS["signal"].hidden_size, self.tokenizer.get_vocab_size(), bias=False)
        nn.init.zeros_(self.lm_head.weight)
        _train_rows_only(self.lm_head.weight, [self.digits[0], self.digits[9]])
        self.blank_line = self.tokenizer.encode(STEP_DELIMITER).ids
        self.turn = self.tokenizer.encode(tokenizer.JUDGE_TURN).ids

    def rows(self, responses: list[Rated], rng: random.Random | None = None) -> list[TrainingRow]:
        """One row for each step that counts; with `rng` (for training), one row for one step of each response."""
        rows = []
        for response in responses:
            judged: Sequence[int] = range(response.first, len(response.steps))
            if rng is not None:
                wrong_first = not all(response.rights) and rng.random() < FIRST_ERROR_SHARE
                judged = [response.rights.index(False) if wrong_first else rng.choice(judged)]
            ids = self.tokenizer.encode(tokenizer.prompt_text(response.question)).ids
            targets = [NOTHING] * len(ids)
            for i in range(judged[-1] + 1):
                step_ids, step_targets = self.step_targets(response, i)
                blank_line = self.blank_line if response.steps[i].endswith(STEP_DELIMITER) else []
                ids, targets = ids + step_ids + blank_line, targets + step_targets + [NOTHING] * len(blank_line)
                if i in judged:
                    verdict = RIGHT if response.rights[i] else WRONG
                    rows.append(TrainingRow(ids + self.turn, [*targets, *[NOTHING] * (len(self.turn) - 1), verdict]))
        return rows

    def log_probabilities(self, hidden_NH: Tensor) -> Tensor:
        """Log-probabilities [N, 2] of the digits 0 and 9, among all tokens."""
        log_probabilities_NV: Tensor = self.lm_head(hidden_NH).log_softmax(-1)
        return log_probabilities_NV[:, [self.digits[0], self.digits[9]]]

    def ratings(self, hidden_NH: Tensor) -> Tensor:
        """Expected digits [N], divided by 9."""
        logits_NV: Tensor = self.lm_head(hidden_NH)
        return logits_NV[:, self.digits].softmax(-1) @ torch.arange(10.0) / 9


SIGNALS: dict[str, Callable[[], SignalModel]] = {"prm": RewardModel, "judge": Judge}
