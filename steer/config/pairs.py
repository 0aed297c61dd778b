"""The model pairs that STEER knows by name, and pairs that users write as a YAML file (docs/pairs.md).

FLOPs are charged with nominal parameter counts. These are the ones in the models' names, as in the paper; the embedded
pairs' parameters are counted when they load.
"""

from pathlib import Path

import yaml
from pydantic import ValidationError

from steer.config.run import ModelConfig, PairConfig, ThoughtTags
from steer.config.secrets import with_secrets
from steer.embedded import JUDGE_PROMPT

MATH_CONTEXT_TOKENS = 4096
"""The context Qwen2.5-Math was trained for. Prompt and answer share it. An answer that fills it ends as `length`."""
CONTEXT_TOKENS = 16_384
"""How much is used of the 32,768 tokens of Qwen2.5 and the 131,072 of Gemma-3. MuSiQue's passages take several thousand
tokens and an answer 4,096. Twice their sum leaves room for longer prompts, and one sequence still fits the cache of a
24 GB GPU."""

THINKING_CONTEXT_TOKENS = 32_768
"""How much is used of the 40,960 tokens of Qwen3 and the 131,072 of the R1 distillations, prompt, thought and answer
together: both makers report figures of responses of up to 32,768 tokens."""

SIMULATED = "simulated:"
"""Prefix of model paths that name a simulated engine, which answers by rule (`actors/simulated/instant.py`)."""


def _qwen(hub_id: str, parameters: float, context: int) -> ModelConfig:
    return ModelConfig(path=f"Qwen/{hub_id}", parameters=parameters, max_model_len=context)


def _gemma(hub_id: str, parameters: float) -> ModelConfig:
    return ModelConfig(path=f"google/{hub_id}", parameters=parameters, system_role=False, max_model_len=CONTEXT_TOKENS)


def _qwen3(size: str, parameters: float) -> ModelConfig:
    return ModelConfig(
        path=f"Qwen/Qwen3-{size}",
        parameters=parameters,
        max_model_len=THINKING_CONTEXT_TOKENS,
        template={"enable_thinking": True},
        thinks=ThoughtTags(),
    )


def _r1_distill(size: str, parameters: float) -> ModelConfig:
    """Its makers want no system turn: all instructions go into the user turn."""
    return ModelConfig(
        path=f"deepseek-ai/DeepSeek-R1-Distill-Qwen-{size}",
        parameters=parameters,
        system_role=False,
        max_model_len=THINKING_CONTEXT_TOKENS,
        thinks=ThoughtTags(),
    )


PAIRS = {
    "embedded": PairConfig(
        small=ModelConfig(path="embedded:small", dtype="float32"),
        large=ModelConfig(path="embedded:large", dtype="float32"),
        prm=ModelConfig(path="embedded:prm", dtype="float32"),
        judge=ModelConfig(path="embedded:judge", dtype="float32"),
        judge_prompt=JUDGE_PROMPT,
        probe="embedded:probe",
    ),
    "embedded-mixed": PairConfig(
        small=ModelConfig(path="embedded:mixed/small", dtype="float32"),
        large=ModelConfig(path="embedded:mixed/large", dtype="float32"),
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
    "qwen2.5-coder": PairConfig(
        small=_qwen("Qwen2.5-Coder-0.5B-Instruct", 0.5e9, CONTEXT_TOKENS),
        large=_qwen("Qwen2.5-Coder-1.5B-Instruct", 1.5e9, CONTEXT_TOKENS),
    ),
    "qwen3": PairConfig(small=_qwen3("1.7B", 1.7e9), large=_qwen3("8B", 8e9)),
    "qwen3-4b-32b": PairConfig(small=_qwen3("4B", 4e9), large=_qwen3("32B", 32e9)),
    "r1-distill": PairConfig(small=_r1_distill("1.5B", 1.5e9), large=_r1_distill("7B", 7e9)),
    "r1-distill-7b-32b": PairConfig(small=_r1_distill("7B", 7e9), large=_r1_distill("32B", 32e9)),
}
"""`embedded` and `embedded-mixed` ship with STEER. `simulated` needs no model: it tries out a cluster and a run's
failures at no cost. The weights of the others come from the hub or its local cache."""


def load_pair(pair: str | PairConfig) -> PairConfig:
    """The pair of a known name or of a YAML file. The file may give a model's folder relative to itself.

    Raises ValueError, listing the known names, if the name is neither a known pair nor a readable YAML file.
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
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
        read = PairConfig.model_validate(with_secrets(given, f"pair file {path}"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"pair file {path} is not YAML: {error}") from None
    except ValidationError as error:
        raise ValueError(f"pair file {path}: it must hold small: and large:, each with path:\n{error}") from None
    models = {name: getattr(read, name) for name in ("small", "large", "prm", "judge")}
    found = {name: _beside(path, model) for name, model in models.items() if model is not None}
    return read.model_copy(update=found)


def _beside(file: Path, model: ModelConfig) -> ModelConfig:
    """`model` with its path resolved relative to the pair file, if there is such a folder."""
    folder = file.parent / model.path
    return model.model_copy(update={"path": str(folder.resolve())}) if folder.is_dir() else model
