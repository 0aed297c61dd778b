"""Known model pairs by name, and pairs of one's own from a YAML file (docs/pairs.md).

Nominal parameter counts (what FLOPs are charged with) are the models' names', as in the paper; the embedded pair's are
counted when it loads.
"""

from pathlib import Path

import yaml
from pydantic import ValidationError

from steer.config.run import ModelConfig, PairConfig
from steer.embedded import JUDGE_PROMPT

MATH_CONTEXT_TOKENS = 4096
"""All that Qwen2.5-Math was trained for: prompt and answer share it, and an answer that reaches it ends as `length`."""
CONTEXT_TOKENS = 16_384
"""Of the 32,768 of Qwen2.5 and the 131,072 of Gemma-3: MuSiQue's passages take several thousand tokens and an answer
4,096; twice that is room for longer prompts, while one sequence stays within a 24 GB card's cache."""

SIMULATED = "simulated:"
"""Begins the path of a model that is none: its replicas answer by rule (`actors/simulated/instant.py`)."""


def _qwen(hub_id: str, parameters: float, context: int) -> ModelConfig:
    return ModelConfig(path=f"Qwen/{hub_id}", parameters=parameters, max_model_len=context)


def _gemma(hub_id: str, parameters: float) -> ModelConfig:
    return ModelConfig(path=f"google/{hub_id}", parameters=parameters, system_role=False, max_model_len=CONTEXT_TOKENS)


PAIRS = {
    "embedded": PairConfig(
        small=ModelConfig(path="embedded:small"),
        large=ModelConfig(path="embedded:large"),
        prm=ModelConfig(path="embedded:prm"),
        judge=ModelConfig(path="embedded:judge"),
        judge_prompt=JUDGE_PROMPT,
        probe="embedded:probe",
    ),
    "simulated": PairConfig(
        small=ModelConfig(path=f"{SIMULATED}small", parameters=1e6),
        large=ModelConfig(path=f"{SIMULATED}large", parameters=1e7),
    ),
    "qwen2.5-math": PairConfig(
        small=_qwen("Qwen2.5-Math-1.5B-Instruct", 1.5e9, MATH_CONTEXT_TOKENS),
        large=_qwen("Qwen2.5-Math-7B-Instruct", 7e9, MATH_CONTEXT_TOKENS),
    ),
    "qwen2.5": PairConfig(
        small=_qwen("Qwen2.5-1.5B-Instruct", 1.5e9, CONTEXT_TOKENS),
        large=_qwen("Qwen2.5-7B-Instruct", 7e9, CONTEXT_TOKENS),
    ),
    "gemma-3": PairConfig(small=_gemma("gemma-3-4b-it", 4e9), large=_gemma("gemma-3-12b-it", 12e9)),
}
"""`embedded` ships with STEER; `simulated` is no model: it tries out a cluster and a run's failures at no cost. The
others' weights come from the hub or its local cache."""


def load_pair(pair: str | PairConfig) -> PairConfig:
    """The pair of a known name or of a YAML file; a model's folder may be given relative to that file.

    Raises ValueError, with the names there are, for a name that is neither a known pair nor a readable YAML file.
    """
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
        read = PairConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"pair file {path} is not YAML: {error}") from None
    except ValidationError as error:
        raise ValueError(f"pair file {path}: it must hold small: and large:, each with path:\n{error}") from None
    models = {name: getattr(read, name) for name in ("small", "large", "prm", "judge")}
    found = {name: _beside(path, model) for name, model in models.items() if model is not None}
    return read.model_copy(update=found)


def _beside(file: Path, model: ModelConfig) -> ModelConfig:
    """`model` with its folder found from where the pair file lies, if there is such a folder."""
    folder = file.parent / model.path
    return model.model_copy(update={"path": str(folder.resolve())}) if folder.is_dir() else model
