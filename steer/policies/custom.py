"""Policies that users bring: `policy: {name: custom, object: "my_policy:Sceptic", options: {...}}` (docs/policies.md).

The object is imported wherever the policy is needed: in the driver, which refuses a bad one before a model is loaded,
and in the router. Invariants: a refusal names the key and the remedy. Every answer of `decide` is checked, since a
group carries out any act that it is given.
"""

import difflib
import importlib
import os
import sys
import traceback
from typing import Any

import numpy as np

from steer.config.policy import CustomPolicy
from steer.policies.base import Act, Acts, Floats, Indices, Policy, Signal, View
from steer.traces import AGGREGATES, MEASURES

PROTOCOL = (
    *("whole", "ahead", "finishes", "measure", "also", "scored_by_small", "drafts", "signal", "barrier"),
    *("decide", "mixtures"),
)
"""What an object must have to be a `Policy`."""
ACTS = [int(act) for act in Act]


def load_policy(config: CustomPolicy) -> Policy:
    """A new policy object. Raises ValueError if it cannot be imported or called, or is no `Policy`."""
    made = _make(_import_object(config.object), config)
    key = f"policy.object = {config.object!r}"
    lacking = [name for name in PROTOCOL if not hasattr(made, name)]
    if lacking:
        raise ValueError(
            f"{key}: what it returns lacks {', '.join(lacking)}: derive it from ByConfidence, DraftAndVerify or Blind "
            "of steer.policies, or write the protocol steer.policies.Policy in full (docs/policies.md)"
        )
    if made.drafts not in ("never", "first", "every"):
        raise ValueError(f"{key}: drafts is {made.drafts!r}: make it never, first or every")
    for name in ("measure", "also"):
        held = getattr(made, name)
        if held is not None and held not in range(len(MEASURES)):
            raise ValueError(f"{key}: {name} is {held!r}: make it None or an index into {', '.join(MEASURES)}")
    if (aggregate := getattr(made, "aggregate", "mean")) not in AGGREGATES:
        raise ValueError(f"{key}: aggregate is {aggregate!r}: make it one of {', '.join(AGGREGATES)}")
    if (so_far := getattr(made, "so_far", None)) not in (None, "min", "mean"):
        raise ValueError(f"{key}: so_far is {so_far!r}: make it None, min or mean")
    if not isinstance(made.signal, Signal | None):
        raise ValueError(f"{key}: signal is {made.signal!r}: make it None or a steer.policies.Signal")
    return Checked(made, config.object)


def custom_classes(config: CustomPolicy) -> tuple[type, ...]:
    """The class of the user's policy, and those that it lists as `journal_classes`. Raises ValueError as `load_policy`
    does, and if the list is none of classes."""
    made = _make(_import_object(config.object), config)
    listed = getattr(made, "journal_classes", ())
    if not isinstance(listed, tuple | list) or not all(isinstance(cls, type) for cls in listed):
        raise ValueError(
            f"policy.object = {config.object!r}: journal_classes is {listed!r}: make it a tuple of the classes whose "
            "objects the policy holds"
        )
    return type(made), *listed


class Checked:
    """A user's policy whose acts are checked."""

    def __init__(self, policy: Policy, name: str):
        self._policy, self._name = policy, name
        self.whole, self.ahead, self.finishes = policy.whole, policy.ahead, policy.finishes
        self.measure, self.also, self.scored_by_small = policy.measure, policy.also, policy.scored_by_small
        self.drafts, self.signal, self.barrier = policy.drafts, policy.signal, policy.barrier
        # Younger than the protocol: policies may leave these out.
        self.peeks = getattr(policy, "peeks", False)
        self.aggregate, self.so_far = getattr(policy, "aggregate", "mean"), getattr(policy, "so_far", None)
        self.by_length = getattr(policy, "by_length", None)

    def mixtures(self) -> list[dict[str, Any]]:
        return self._policy.mixtures()

    def decide(self, view: View, ready_N: Indices) -> tuple[Acts, Floats]:
        """Raises ValueError for an answer that a group cannot carry out."""
        answer = self._policy.decide(view, ready_N)
        if not isinstance(answer, tuple) or [np.shape(part) for part in answer] != [ready_N.shape] * 2:
            raise ValueError(f"{self._name}: decide must return (acts, posteriors), an array of {len(ready_N)} each")
        acts_N, posterior_N = np.asarray(answer[0]), np.asarray(answer[1], float)
        wrong_N = ~np.isin(acts_N, ACTS)
        if wrong_N.any():
            raise ValueError(f"{self._name}: decide answered {acts_N[wrong_N][0]!r}, which is no steer.policies.Act")
        if ((acts_N == Act.REWRITE) & ~view.draft_L[ready_N]).any():
            raise ValueError(f"{self._name}: decide answered REWRITE where view.draft_L is false: there is no draft")
        if self.signal is None and (acts_N == Act.SIGNAL).any():
            raise ValueError(f"{self._name}: decide answered SIGNAL, but the policy's signal is None")
        return acts_N.astype(np.int8), posterior_N


def _import_object(name: str) -> Any:
    """The class or function that `module:Class` names."""
    module_name, colon, attribute = name.partition(":")
    key = f"policy.object = {name!r}"
    if not colon or not module_name or not attribute.isidentifier():
        raise ValueError(f"{key}: not of the form module:Class, for example my_policy:Sceptic for my_policy.py")
    if os.getcwd() not in sys.path:  # Ray's workers have it there, the `steer` program does not
        sys.path.append(os.getcwd())
    importlib.invalidate_caches()  # a notebook may have written the file just now
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as failure:
        if failure.name is None or not f"{module_name}.".startswith(f"{failure.name}."):
            raise ValueError(
                f"{key}: {module_name} does not import: {_said(failure)}; install what it needs"
            ) from failure
        raise ValueError(
            f"{key}: no module {failure.name} in {os.getcwd()} or on PYTHONPATH: start in the folder that holds it, "
            "or install it (with ray job submit it must be in --working-dir)"
        ) from failure
    except Exception as failure:
        raise ValueError(f"{key}: {module_name} does not import: {_said(failure)}; mend it") from failure
    if not hasattr(module, attribute):
        near = difflib.get_close_matches(attribute, dir(module), 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else "name a class or function of it"
        raise ValueError(f"{key}: {module_name} has no {attribute}; {hint}")
    return getattr(module, attribute)


def _make(factory: Any, config: CustomPolicy) -> Policy:
    """Call the class or function with the options. Raises ValueError, with its error, if the call fails."""
    if not callable(factory):
        raise ValueError(f"policy.object = {config.object!r}: is a {type(factory).__name__}: name a class or function")
    try:
        made: Policy = factory(**config.options)
    except Exception as failure:
        call = f"{config.object.partition(':')[2]}({', '.join(f'{k}={v!r}' for k, v in config.options.items())})"
        raise ValueError(
            f"policy.options: {call} failed: {_said(failure)}; mend policy.options or the class"
        ) from failure
    return made


def _said(failure: Exception) -> str:
    """What failed and where, since the user sees no traceback."""
    last = traceback.extract_tb(failure.__traceback__)[-1]
    place = "" if last.filename == __file__ or "importlib" in last.filename else f" ({last.filename}:{last.lineno})"
    return f"{type(failure).__name__}: {failure}{place}"
