"""The two models that rate the embedded pair's drafts, and what they read: a process reward model and a judge.

Invariants: both are the large model, whose layers stay as they are, and two layers more; both tell at one place of a
step whether it is right; weight names are those of Qwen2.5-Math-PRM and of Qwen2.
"""

import random
from collections.abc import Callable
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
from steer.embedded.train import Qwen2

KNOWN = DIMENSIONS["large"].hidden_size
COPY = slice(KNOWN, KNOWN + 32)
SCRATCH = slice(KNOWN + 32, DIMENSIONS["signal"].hidden_size)
"""Of the residual stream: what the large model uses, a copy of the token's embedding, and room for the new layers. At
its last layer the stream has length 700 and the embedding 2: without the copy the token itself is told in 95 of 100
places only, and right from wrong not even in those (AUROC .92 to 1.0 at levels 3 and 4; with it above .998)."""
LOUD = ((COPY, 130.0), (SCRATCH, 50.0))
"""Weights of the new layers' norms there, which bring both to the size of the rest."""
LOOK_BACK = (4, 6.5)
"""Fastest rotary frequencies, and the size of the biases on them, that make a head attend to the token before (.99)."""
NOTHING, WRONG, RIGHT, AUXILIARY_WRONG, AUXILIARY_RIGHT = -1, 0, 1, 2, 3
"""What is to be told at a token: nothing; the signal itself; or, for the auxiliary head, whether the text so far is true."""
FIRST_ERROR_SHARE = 0.5
"""So often the judge is trained on the first wrong step of a response that has one, else on any of its steps. The steps
after it teach little: they are nearly all wrong."""


@dataclass(frozen=True, slots=True)
class Rated:
    """A response with its labels; `first` is the first step that counts in a validation figure."""

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
    """One input and, for each of its tokens, what is to be told there."""

    ids: list[int]
    targets: list[int]


def padded(rows: list[TrainingRow]) -> tuple[Tensor, Tensor]:
    """(ids, targets) of rows, padded on the right, which a causal model never sees."""
    width = max(len(row.ids) for row in rows)
    ids_BT = torch.tensor([row.ids + [0] * (width - len(row.ids)) for row in rows])
    return ids_BT, torch.tensor([row.targets + [NOTHING] * (width - len(row.ids)) for row in rows])


class SignalModel(Qwen2):
    """What both have in common: the large model, two layers more, and an auxiliary head that is thrown away after training.

    The large model knows a step's next token in its last layer. So the first new layer compares it with the one written
    after it, and the second gathers what was found in all tokens. the auxiliary head trains the first: it tells from it, at each
    token, whether a step is the true one so far. From the signal alone neither was learnt in 1.5 M tokens.
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
                written.register_hook(_rows_only(SCRATCH))  # new layers write there alone
        for norm in self._norms():
            norm.weight.requires_grad_(False)
        self._look_back(self.old)

    @property
    def new_layers(self) -> nn.ModuleList:
        """The one that compares and the one that gathers."""
        return self.model.layers[self.old :]

    def _norms(self) -> list[nn.Module]:
        """Of the new layers, and the last."""
        pairs = ((layer.input_layernorm, layer.post_attention_layernorm) for layer in self.new_layers)
        return [*(norm for pair in pairs for norm in pair), self.model.norm]

    @torch.no_grad()
    def _widen(self, known: dict[str, Tensor]) -> None:
        """The large model's weights, with zeros for what is new; norms take the mean of squares over more elements."""
        wider = (KNOWN / DIMENSIONS["signal"].hidden_size) ** 0.5
        mine = dict(self.named_parameters())
        for name, weight in known.items():
            if weight.dim() == 2:
                mine[name].zero_()[: weight.shape[0], : weight.shape[1]] = weight
            else:
                mine[name][: len(weight)] = weight * (wider if "norm" in name else 1)
        embedding, old = mine["model.embed_tokens.weight"], known["model.embed_tokens.weight"]
        # The separator stands where the large model knows a blank line.
        embedding[len(old) :, :KNOWN] = old[self.tokenizer.encode(STEP_DELIMITER).ids[0]]
        directions = torch.randn(len(embedding), 32, generator=torch.Generator().manual_seed(0))
        # As long as the token's embedding, so that the first norm stays what it was but for a factor.
        embedding[:, COPY] = F.normalize(directions) * embedding[:, :KNOWN].norm(dim=1, keepdim=True)
        self.model.layers[0].input_layernorm.weight *= 2**0.5
        for norm in self._norms():
            norm.weight[:KNOWN] = wider
            for part, weight in LOUD:
                norm.weight[part] = weight

    @torch.no_grad()
    def _look_back(self, layer: int) -> None:
        """Biases under which the first head of a layer attends to the token before: rotary phases of one step apart."""
        count, length = LOOK_BACK
        attention, half = self.model.layers[layer].self_attn, DIMENSIONS["signal"].head_dim // 2
        attention.k_proj.bias[:count] = length
        attention.q_proj.bias[:count] = length * self.cos[1, :count]
        attention.q_proj.bias[half : half + count] = -length * self.sin[1, :count]
        attention.o_proj.weight[SCRATCH, : 2 * half] = torch.eye(2 * half)

    def layered(self, ids_BT: Tensor) -> tuple[Tensor, Tensor]:
        """What the auxiliary head reads, the normed output of the last layer but one, and the hidden states; both [B, T, H]."""
        length = ids_BT.shape[1]
        cos, sin = self.cos[:length], self.sin[:length]
        with torch.no_grad():
            x = self.model.embed_tokens(ids_BT)
            for layer in self.model.layers[: self.old]:
                x = layer(x, cos, sin, None)
        compare, gather = self.new_layers
        x = compare(x, cos, sin, None)
        return gather.input_layernorm(x), self.model.norm(gather(x, cos, sin, None))

    def step_targets(self, response: Rated, step: int) -> tuple[list[int], list[int]]:
        """(ids, targets) of a step's text without its blank line; targets up to the first wrong token of a response."""
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


def _rows_only(rows: slice | list[int]) -> Callable[[Tensor], Tensor]:
    """A hook under which a matrix is trained in these rows alone (Muon, too, leaves rows without a gradient alone)."""

    def kept(gradient: Tensor) -> Tensor:
        part = torch.zeros_like(gradient)
        part[rows] = gradient[rows]
        return part

    return kept


class RewardModel(SignalModel):
    """The head of Qwen2.5-Math-PRM, read at the separator after every step."""

    def __init__(self) -> None:
        super().__init__(tokenizer.build((tokenizer.STEP_SEPARATOR,)))
        hidden = DIMENSIONS["signal"].hidden_size
        self.score = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2))
        self.separator = self.tokenizer.token_to_id(tokenizer.STEP_SEPARATOR)

    def rows(self, responses: list[Rated], rng: random.Random | None = None) -> list[TrainingRow]:
        """One row for each response, with a reward for every step that counts."""
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
        return self.score(hidden_NH).log_softmax(-1)

    def ratings(self, hidden_NH: Tensor) -> Tensor:
        """Rewards [N], 0 to 1."""
        return self.log_probabilities(hidden_NH)[:, 1].exp()


class Judge(SignalModel):
    """A language model, whose next token after the judge's turn is 9 for a right last step, 0 for a wrong one."""

    def __init__(self) -> None:
        super().__init__(tokenizer.build())
        self.digits = [self.tokenizer.token_to_id(str(digit)) for digit in range(10)]
        # Two rows of the head say it all; Muon would make steps of the same size of the others' noise.
        self.lm_head = nn.Linear(DIMENSIONS["signal"].hidden_size, self.tokenizer.get_vocab_size(), bias=False)
        nn.init.zeros_(self.lm_head.weight)
        self.lm_head.weight.register_hook(_rows_only([self.digits[0], self.digits[9]]))
        self.blank_line = self.tokenizer.encode(STEP_DELIMITER).ids
        self.turn = self.tokenizer.encode(tokenizer.JUDGE_TURN).ids

    def rows(self, responses: list[Rated], rng: random.Random | None = None) -> list[TrainingRow]:
        """One row for each step that counts; with `rng`, for training, for one step of each response."""
        rows = []
        for response in responses:
            judged = range(response.first, len(response.steps))
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
        return self.lm_head(hidden_NH).log_softmax(-1)[:, [self.digits[0], self.digits[9]]]

    def ratings(self, hidden_NH: Tensor) -> Tensor:
        """Expected digits [N], divided by 9."""
        return self.lm_head(hidden_NH)[:, self.digits].softmax(-1) @ torch.arange(10.0) / 9


SIGNALS = {"prm": RewardModel, "judge": Judge}
