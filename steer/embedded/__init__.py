"""The tiny pair that ships with the project: two benchmarks, a tokenizer, and four models trained on a CPU.

`small` and `large` are the pair; `prm` and `judge` rate its drafts for the policies `rsd` and `spec_reason`.
"""

from pathlib import Path
from typing import Literal

JUDGE_PROMPT = "Right?"
"""What the embedded judge was trained to be asked, as a user turn after the steps: 9 for a right last step, 0 for a
wrong one."""


def weights_path(name: Literal["small", "large", "prm", "judge", "probe"]) -> Path:
    """The folder of a shipped model, as transformers and vLLM load it."""
    return Path(__file__).parent / "weights" / name
