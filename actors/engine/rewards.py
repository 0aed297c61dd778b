"""How a process reward model reads a question and its steps: the prompt, then each step and a separator.

The output at a separator is the reward of the step before it. A causal model sees nothing of what comes later, so the
text ends with the last step's separator, and the output at the last position is that step's reward. The checkpoint's
architecture decides the layout (`LAYOUTS`).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from actors.engine.checkpoint import SKYWORK_PRM
from actors.engine.prefixes import Prefixes
from actors.engine.tokenizer import Tokenizer
from steer.messages import Piece, Prompt


class Layout(NamedTuple):
    prompt: Callable[[Tokenizer, Prompt], list[int]]
    """Token ids of the prompt."""
    separator: str
    """The text after each step, a single token."""
    label: int
    """Index of the output, among those at the separator, that is the probability that the step is right."""


LAYOUTS = {
    # Qwen2.5-Math-PRM: the chat template, `<extra_0>` after each step, a softmax over (wrong, right).
    "Qwen2ForProcessRewardModel": Layout(Tokenizer.encode_prompt, "<extra_0>", 1),
    # Skywork-o1-Open-PRM: the question and its steps as plain text, a sigmoid. Its authors split responses at every
    # newline. RSD (arXiv 2501.19324) splits at the blank line, as STEER does.
    SKYWORK_PRM: Layout(Tokenizer.encode_bare, "\n\n", 0),
}


def layout_of(architectures: Sequence[str], path: str) -> Layout:
    """The layout of a checkpoint with these architectures. ValueError if it is no known process reward model."""
    for architecture in architectures:
        if architecture in LAYOUTS:
            return LAYOUTS[architecture]
    raise ValueError(
        f"{path} is a {' / '.join(architectures) or 'model of no named architecture'}: process reward models are "
        f"{', '.join(LAYOUTS)} (docs/signals.md)"
    )


class RewardPrefixes(Prefixes):
    """Prefixes in a reward model's layout."""

    def __init__(self, tokenizer: Tokenizer, layout: Layout, path: str):
        """`tokenizer`: the reward model's own. ValueError if it has no single token for the layout's separator."""
        super().__init__(tokenizer)
        self._layout = layout
        self._separator = tokenizer.encode_fixed(layout.separator)
        if len(self._separator) != 1:
            raise ValueError(f"{path}: its tokenizer has no single token for the step separator {layout.separator!r}")

    def _encode(self, piece: Piece) -> Sequence[int]:
        if isinstance(piece, Prompt):
            return self._layout.prompt(self._tokenizer, piece)
        text = piece if isinstance(piece, str) else self._tokenizer.decode(piece)
        # The step's text has neither the blank line that ended it nor blank lines merged into its start.
        return [*self._tokenizer.encode(text.strip("\n")), *self._separator]
