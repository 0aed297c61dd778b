"""The identity of the models that a run used, for the plans that are made from it."""

from collections.abc import Mapping
from typing import Any

from actors.engine.checkpoint import model_fingerprint
from steer.plans.plan import ModelIdentity


def identity(path: str, parameters: float | None = None) -> ModelIdentity:
    """The model at a path, a hub id or `embedded:NAME`. Its weights are told by their content where they are on this
    machine; where they are not, its path alone tells it."""
    try:
        weights = model_fingerprint(path)
    except (ValueError, OSError):  # huggingface_hub raises an OSError for a model that is not in its cache
        weights = None
    return ModelIdentity(path=path, weights=weights, parameters=parameters)


def models_of(described: Mapping[str, Any]) -> dict[str, ModelIdentity]:
    """Both models of a run, from its `run.json`. Empty: it does not name them."""
    pair = described.get("config", {}).get("pair")
    if not isinstance(pair, Mapping):
        return {}
    engines = described.get("engines", {})
    return {
        role: identity(pair[role]["path"], engines.get(role, {}).get("parameters", pair[role].get("parameters")))
        for role in ("small", "large")
    }
