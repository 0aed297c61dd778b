"""What a judge reads after a draft and how its answer becomes a number (SpecReason, arXiv 2504.07891).

The judge is asked in a user turn for a digit. It writes none: the logits of the ten digits at the first position of its
answer are read. Signal = sum_d d p(d) with p the softmax over the ten alone, or the likeliest digit.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from actors.engine.tokenizer import Tokenizer


class Judge:
    """`model` is named in errors."""

    def __init__(self, tokenizer: Tokenizer, model: str):
        self._tokenizer = tokenizer
        self._model = model
        self._turns: dict[str, list[int]] = {}

    @cached_property
    def digits(self) -> list[int]:
        """The tokens of "0" to "9" without a space in front. ValueError if one of them is not a single token."""
        tokens = [self._tokenizer.encode(str(digit)) for digit in range(10)]
        several = [str(digit) for digit, ids in enumerate(tokens) if len(ids) != 1]
        if several:
            raise ValueError(
                f"{self._model} has no single token for the digit {', '.join(several)}: name another model as `judge:`"
            )
        return [ids[0] for ids in tokens]

    def reads(self, prefix: Sequence[int], prompt: str) -> list[int]:
        """The ids of a prefix, its end of sequence left out, and the judge's turn. ValueError if the chat template has no
        place for it."""
        turn = self._turns.get(prompt)
        if turn is None:
            turn = self._turns[prompt] = self._tokenizer.encode_turn(prompt)
        end = len(prefix)
        while end and prefix[end - 1] in self._tokenizer.eos_ids:
            end -= 1  # the turn brings its own
        return [*prefix[:end], *turn]

    def rating(self, logits_10: Sequence[float], greedy: bool) -> float:
        """0 to 9, of the logits of `digits`."""
        z = np.asarray(logits_10, np.float64)
        if greedy:
            return float(z.argmax())
        p = np.exp(z - z.max())
        return float(p @ np.arange(10) / p.sum())
