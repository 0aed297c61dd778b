"""What a judge reads after a draft, and how its answer becomes a number (SpecReason, arXiv 2504.07891).

A user turn asks the judge for a digit. The judge writes nothing: the replica reads the logits of the ten digits at the
first position of the answer. With p the softmax over these ten logits alone, the signal is sum_d d p(d); a greedy judge
answers the likeliest digit instead.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from actors.engine.tokenizer import Tokenizer


class Judge:
    def __init__(self, tokenizer: Tokenizer, model: str):
        """`model`: the model's path, which errors name."""
        self._tokenizer = tokenizer
        self._model = model
        self._turns: dict[str, list[int]] = {}
        """Token ids of the judge's turn, by the question that it asks."""

    @cached_property
    def digits(self) -> list[int]:
        """Token ids of "0" to "9", without a space in front. ValueError if a digit is not a single token."""
        tokens = [self._tokenizer.encode_fixed(str(digit)) for digit in range(10)]
        several = [str(digit) for digit, ids in enumerate(tokens) if len(ids) != 1]
        if several:
            raise ValueError(
                f"{self._model} has no single token for the digit {', '.join(several)}: name another model as `judge:`"
            )
        return [ids[0] for ids in tokens]

    def input_ids(self, prefix: Sequence[int], question: str) -> list[int]:
        """Token ids of the prefix, without an end of sequence, then of a user turn with the question.

        ValueError if the chat template has no place for that turn.
        """
        turn = self._turns.get(question)
        if turn is None:
            turn = self._turns[question] = self._tokenizer.encode_turn(question)
        end = len(prefix)
        while end and prefix[end - 1] in self._tokenizer.eos_ids:
            end -= 1  # the turn begins with its own end of sequence
        return [*prefix[:end], *turn]

    def rating(self, logits_10: Sequence[float], greedy: bool) -> float:
        """The rating, 0 to 9, from the logits of `digits`: the expected digit or, if `greedy`, the likeliest."""
        z = np.asarray(logits_10, np.float64)
        if greedy:
            return float(z.argmax())
        p = np.exp(z - z.max())
        return float(p @ np.arange(10) / p.sum())
