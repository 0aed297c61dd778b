"""The tiny pair that ships with the project: two benchmarks, a tokenizer, two models and a probe trained on a CPU."""

from pathlib import Path
from typing import Literal


def weights_path(name: Literal["small", "large", "probe"]) -> Path:
    """The folder of a shipped model, as transformers and vLLM load it, or of the probe of `query_router`."""
    return Path(__file__).parent / "weights" / name
