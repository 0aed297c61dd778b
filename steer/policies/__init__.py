"""Routing policies behind one protocol (`base.Policy`); `make_policy` builds the one a configuration names."""

from steer.config.policy import MixtureOptions, PolicyConfig, Scored, SteerPolicy
from steer.mixture.bank import ScoreBank
from steer.mixture.fit import FitRule, Mixtures, StepFit
from steer.mixture.frozen import FrozenMixtures
from steer.mixture.gaussians import Mixture
from steer.policies.base import Act, Policy, Signal, StepScores, View
from steer.policies.blind import Blind
from steer.policies.by_confidence import ByConfidence
from steer.policies.by_score import ByBudget, ByThreshold
from steer.policies.coins import RandomQuery, RandomStep
from steer.policies.custom import Checked, custom_classes, load_policy
from steer.policies.draft_and_verify import DraftAndVerify
from steer.policies.first_token_entropy import FirstTokenEntropy
from steer.policies.one_model import OneModel
from steer.policies.percentile import Percentile
from steer.policies.query_router import RouteByQuestion
from steer.policies.signalled import SIGNALS
from steer.policies.steer import PARTS, Steer

__all__ = [
    "SIGNALS",
    "OWN_CLASSES",
    "Act",
    "Blind",
    "ByConfidence",
    "DraftAndVerify",
    "Policy",
    "Scored",
    "Signal",
    "View",
    "journal_classes",
    "make_policy",
]


OWN_CLASSES: tuple[type, ...] = (
    *(OneModel, RandomQuery, RandomStep, FirstTokenEntropy, Percentile, ByThreshold, ByBudget),
    *(Steer, *PARTS, DraftAndVerify, RouteByQuestion, Checked, Act, Signal, StepScores),
    *(Mixtures, StepFit, FitRule, Mixture, FrozenMixtures, SteerPolicy, MixtureOptions, Scored),
)
"""The classes of the objects that STEER's own policies hold. A user's policy has `journal_classes` besides."""


def journal_classes(config: PolicyConfig) -> tuple[type, ...]:
    """The classes of a user's policy: that of the object which the configuration names, and those which this class
    lists as its attribute `journal_classes`. None for STEER's own policies. Raises ValueError as `make_policy` does."""
    return custom_classes(config) if config.name == "custom" else ()


def _mixtures(config: MixtureOptions, measure: str, seed: int, bank: ScoreBank | None) -> Mixtures:
    frozen = None
    if config.fit_from == "frozen" and config.frozen_path is not None:
        frozen = FrozenMixtures.load(config.frozen_path, measure)
    return Mixtures(config, measure, bank, frozen, seed)


def make_policy(config: PolicyConfig, seed: int = 0, bank: ScoreBank | None = None) -> Policy:
    """A policy object for one group. The groups of a run and policy setting share `bank`.

    Raises ValueError if `custom` names no policy or `frozen_path` holds no usable mixtures.
    """
    match config.name:
        case "small":
            return OneModel(Act.SMALL)
        case "large":
            return OneModel(Act.LARGE)
        case "random_query":
            return RandomQuery(config.p)
        case "random_step":
            return RandomStep(config.p)
        case "first_token_entropy":
            return FirstTokenEntropy(config.tau)
        case "percentile":
            return Percentile(config)
        case "steer" if config.decide == "threshold":
            return ByThreshold(config)
        case "steer" if config.decide == "budget":
            return ByBudget(config, bank if bank is not None else ScoreBank())
        case "steer":
            measures = [config.measure] if config.also is None else [config.measure, config.also]
            return Steer(config, [_mixtures(config, measure, seed, bank) for measure in measures])
        case "rsd":
            return DraftAndVerify(config.threshold, SIGNALS[config.name])
        case "spec_reason":
            return DraftAndVerify(config.threshold, SIGNALS[config.name]._replace(greedy=config.read == "greedy"))
        case "query_router":
            return RouteByQuestion(config.threshold, SIGNALS[config.name])
        case "custom":
            return load_policy(config)
    raise ValueError(f"unknown policy {config.name!r}")
