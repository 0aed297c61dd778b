"""The tiny pairs that ship with the project: three benchmarks, a tokenizer, and six models trained on a CPU.

`small` and `large` are the pair of `chain_math` and `hops`. `prm` and `judge` rate its drafts for the policies `rsd`
and `spec_reason`. `probe` is the classifier on the small model's prompt states for the policy `query_router`.
`mixed/small` and `mixed/large` are the pair of `mixed_chain`.
"""

from pathlib import Path
from typing import Literal

JUDGE_PROMPT = "Right?"
"""The user turn that follows the steps in the embedded judge's training. The judge answers 9 if the last step is right,
and 0 if it is wrong."""


def weights_path(name: Literal["small", "large", "prm", "judge", "probe", "mixed/small", "mixed/large"]) -> Path:
    """The folder of a shipped model, which transformers and vLLM can load; for `probe`, of the classifier."""
    return Path(__file__).parent / "weights" / name
