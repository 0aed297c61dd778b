"""Known model pairs by name, and pairs of one's own from a YAML file.

Nominal parameter counts (what FLOPs are charged with) are the models' names', as in the paper; the embedded pair's are
counted when it loads.
"""

from pathlib import Path

import yaml
from pydantic import ValidationError

from steer.config import ModelConfig, PairConfig

PAIRS = {
    "embedded": PairConfig(small=ModelConfig(path="embedded:small"), large=ModelConfig(path="embedded:large")),
    "qwen2.5-math": PairConfig(
        small=ModelConfig(path="Qwen/Qwen2.5-Math-1.5B-Instruct", parameters=1.5e9),
        large=ModelConfig(path="Qwen/Qwen2.5-Math-7B-Instruct", parameters=7e9),
    ),
    "qwen2.5": PairConfig(
        small=ModelConfig(path="Qwen/Qwen2.5-1.5B-Instruct", parameters=1.5e9),
        large=ModelConfig(path="Qwen/Qwen2.5-7B-Instruct", parameters=7e9),
    ),
    "gemma-3": PairConfig(
        small=ModelConfig(path="google/gemma-3-4b-it", parameters=4e9, system_role=False),
        large=ModelConfig(path="google/gemma-3-12b-it", parameters=12e9, system_role=False),
    ),
}
"""`embedded` ships with STEER; the others' weights come from the hub or its local cache."""


def load_pair(pair: str | PairConfig) -> PairConfig:
    """Raises ValueError, with the names there are, for a name that is neither a known pair nor a readable YAML file."""
    if isinstance(pair, PairConfig):
        return pair
    if pair in PAIRS:
        return PAIRS[pair]
    path = Path(pair)
    if not path.is_file():
        raise ValueError(
            f"pair: {pair}: no known pair and no file; known pairs are {', '.join(PAIRS)}. For models of your own "
            "write a YAML file with small: {path: ...} and large: {path: ...}, or put these under pair:"
        )
    try:
        return PairConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"pair file {path} is not YAML: {error}") from None
    except ValidationError as error:
        raise ValueError(f"pair file {path}: it must hold small: and large:, each with path:\n{error}") from None
