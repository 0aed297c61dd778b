"""How a process reward model reads a question and its steps: prompt, then each step with a separator after it.

The reward of a step is read at its separator, and all that comes later is invisible there; so the text ends with the
last separator, and the last position's output is the last step's reward. Which layout, an entry of `LAYOUTS`, is
decided by the checkpoint's architecture.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from actors.engine.checkpoint import SKYWORK_PRM
from actors.engine.prefixes import Prefixes
from actors.engine.tokenizer import Tokenizer, joined
from steer.messages import Piece, Prompt


class Layout(NamedTuple):
    prompt: Callable[[Tokenizer, Prompt], list[int]]
    separator: str
    label: int
    """Which of the outputs at the separator is the probability that the step is right."""


def _bare_prompt(tokenizer: Tokenizer, prompt: Prompt) -> list[int]:
    return tokenizer.encode(f"{tokenizer.bos_text}{joined(prompt)}\n")


LAYOUTS = {
    # Qwen2.5-Math-PRM: the chat template, `<extra_0>` after each step, softmax over (wrong, right).
    "Qwen2ForProcessRewardModel": Layout(Tokenizer.encode_prompt, "<extra_0>", 1),
    # Skywork-o1-Open-PRM: the question and its steps as plain text, a sigmoid. Its authors split responses at any
    # newline; RSD (arXiv 2501.19324), whose steps are ours, at the blank line.
    SKYWORK_PRM: Layout(_bare_prompt, "\n\n", 0),
}


def layout_of(architectures: Sequence[str], path: str) -> Layout:
    """ValueError if no process reward model of these architectures is known."""
    for architecture in architectures:
        if architecture in LAYOUTS:
            return LAYOUTS[architecture]
    raise ValueError(
        f"{path} is a {' / '.join(architectures) or 'model of no named architecture'}: process reward models are "
        f"{', '.join(LAYOUTS)} (docs/signals.md)"
    )


class RewardPrefixes(Prefixes):
    """Prefixes in a reward model's layout. `tokenizer` is that of the reward model itself."""

    def __init__(self, tokenizer: Tokenizer, layout: Layout, path: str):
        super().__init__(tokenizer)
        self._layout = layout
        self._separator = tokenizer.encode(layout.separator)
        if len(self._separator) != 1:
            raise ValueError(f"{path}: its tokenizer has no single token for the step separator {layout.separator!r}")

    def _encode(self, piece: Piece) -> Sequence[int]:
        if isinstance(piece, Prompt):
            return self._layout.prompt(self._tokenizer, piece)
        text = piece if isinstance(piece, str) else self._tokenizer.decode(piece)
        # The blank line that ended the step, and those that were merged into its start, belong to no step.
        return [*self._tokenizer.encode(text.strip("\n")), *self._separator]
