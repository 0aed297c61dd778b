"""The tiny pair that ships with the project: two benchmarks, a tokenizer, and two models trained on a CPU."""

from pathlib import Path
from typing import Literal


def weights_path(size: Literal["small", "large"]) -> Path:
    """The folder of a shipped model, as transformers and vLLM load it."""
    return Path(__file__).parent / "weights" / size
