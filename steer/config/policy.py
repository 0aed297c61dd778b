"""The typed configuration of a policy: one pydantic model for each policy, told apart by `name`.

Invariant: a configuration that validates can be built; `custom` and `frozen_path` alone are checked when they are read.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from steer.config.strict import NO_TRUTH_VALUE, Strict

Measure = Literal["max_logit", "entropy", "max_prob", "margin"]
Aggregate = Literal["mean", "min", "window", "tenth"]
Unit = Annotated[float, Field(ge=0.0, le=1.0)]
"""A share or a probability."""


class SmallPolicy(Strict):
    name: Literal["small"] = "small"
    """The small model alone, in one pass."""


class LargePolicy(Strict):
    name: Literal["large"] = "large"
    """The large model alone, in one pass."""


class RandomStepPolicy(Strict):
    name: Literal["random_step"] = "random_step"
    p: Unit = 0.5
    """Probability that a step is written by the large model."""


class RandomQueryPolicy(Strict):
    name: Literal["random_query"] = "random_query"
    p: Unit = 0.5
    """Probability that a whole question goes to the large model."""


class Scored(Strict):
    """The keys of every policy that routes by a step's confidence."""

    measure: Measure = "max_prob"
    """The confidence measure that the policy routes by (docs/method.md, Confidence)."""
    scored_by: Literal["small", "producer"] = "small"
    """The model that scores a step: always the small one, or the one that wrote it."""
    aggregate: Aggregate = "mean"
    """How the chosen tokens make a step's score: their mean (Eq. 7), the least sure token, the lowest mean of 16 tokens
    in a row, or the mean of the lowest tenth."""
    so_far: Literal["min", "mean"] | None = None
    """Route by the least or the mean of the trace's scores up to this step. None: by this step's score alone."""
    by_length: tuple[float, float] | None = None
    """(a, b): a step of n chosen tokens is scored by its score less a + b ln n, what is expected of that length. The
    least of many tokens is low by itself. `steer tune` fits the two."""
    refine: Literal["first", "every", "never"] = "first"
    """Which unsure steps of the small model are discarded and rewritten by the large one: step 0 alone (the paper's
    first-step refinement), every step, or none. `true` and `false` mean `first` and `never`."""
    ahead: bool = False
    """The small model writes to the end in one pass, and the policy decides on its steps one after another. The steps
    from the first unsure one on are thrown away. This costs their tokens and saves, for every step, a request and
    reading the trace again."""

    @field_validator("refine", mode="before")
    @classmethod
    def _refine_as_a_word(cls, value: object) -> object:
        return {True: "first", False: "never"}.get(value, value) if isinstance(value, bool) else value


class MixtureOptions(Scored):
    """How the mixture is fitted and read."""

    also: Measure | None = None
    """A second measure with mixtures of its own. The lower of the two posteriors counts."""
    scope: Literal["pooled", "per_model"] = "pooled"
    """One mixture for all traces, or one for each model that wrote the step."""
    fit_from: Literal["live", "bank", "all_steps", "frozen"] = "live"
    """Scores that the mixture is fitted on. `live`: those of the live traces at this step. `bank`: the run's recent
    ones at this step index. `all_steps`: the run's recent ones at any step, so that a group of sure traces alone is not
    split in halves. `frozen`: none, since the mixture is read from a file."""
    frozen_path: str | None = None
    """Path or URL of the mixtures that an earlier run saved: its `mixtures/` folder. Needed by `fit_from: frozen`."""
    monotone: bool = True
    """Clamp the posterior so that more confidence never means a lower posterior. False is Eq. 9 to the letter."""
    min_fit: Annotated[int, Field(ge=2), NO_TRUTH_VALUE] = 8
    """With fewer ongoing traces than this, a mixture is fitted on all that have answered."""

    @field_validator("frozen_path", mode="before")
    @classmethod
    def _path_or_url(cls, value: object) -> object:
        if isinstance(value, Path) or (isinstance(value, str) and "://" not in value):
            return str(Path(value))
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.also == self.measure:
            raise ValueError(f"also: {self.also} is the measure already: name another one or leave also out")
        if self.fit_from == "frozen" and self.frozen_path is None:
            raise ValueError("fit_from: frozen needs frozen_path: the mixtures/ folder of an earlier run")
        return self


PAPER: dict[str, Any] = {
    "measure": "max_logit",
    "also": None,
    "scored_by": "producer",
    "aggregate": "mean",
    "so_far": None,
    "by_length": None,
    "decide": None,
    "scope": "pooled",
    "fit_from": "live",
    "monotone": False,
    "refine": "first",
    "ahead": False,
    "hysteresis": 0.0,
}
"""What `preset: paper` fixes: Algorithm 1 as it is printed."""


STEPWISE: dict[str, Any] = {
    "measure": "max_prob",
    "aggregate": "mean",
    "decide": None,
    "fit_from": "live",
    "refine": "first",
    "ahead": False,
    "hysteresis": 0.0,
}
"""The defaults of `preset: stepwise`: each step by itself, as in Algorithm 1, but scored by the small model."""


MIXTURE: dict[str, Any] = {
    "measure": "max_logit",
    "aggregate": "min",
    "decide": "mixture",
    "fit_from": "all_steps",
    "refine": "every",
    "ahead": True,
    "hysteresis": 1.0,
}
"""The defaults of `preset: mixture`: the best settings by the mixture on the embedded pairs (docs/findings.md)."""
PRESETS: dict[str, dict[str, Any]] = {"stepwise": STEPWISE, "mixture": MIXTURE}
OF_MIXTURE = ("also", "scope", "fit_from", "frozen_path", "monotone", "min_fit", "hysteresis")
"""Keys that only the mixture reads: a policy that gives one decides by the mixture unless it says otherwise."""


class SteerPolicy(MixtureOptions):
    """By default gamma is the share of the traces that go to the large model. docs/findings.md says why."""

    name: Literal["steer"] = "steer"
    gamma: Unit = 0.5
    """With `decide: budget` the share of the traces that go to the large model. With `mixture` a step goes there where
    the posterior of the confident component is below gamma."""
    decide: Literal["mixture", "budget", "threshold"] | None = "budget"
    """What is compared with what. `mixture`: the mixture's posterior with gamma (Eq. 10). `budget`: the score with a
    quantile of the run's recent scores at this step index, so that gamma is a cost. `threshold`: the score with
    `thresholds`, which `steer tune` chooses. Null, and a policy that gives a key of the mixture: `mixture`."""
    thresholds: Annotated[tuple[float, ...], Field(min_length=1)] | None = None
    """`decide: threshold`: the least sure score at each step index. The last one holds for all later steps."""
    hands_back: bool | None = None
    """`decide: budget` or `threshold`: a trace that the large model writes returns to the small one once a step of it
    is sure. None: it does not, and the large model writes to the end. With `mixture` see `hysteresis`."""
    aggregate: Aggregate = "tenth"
    """How the chosen tokens make a step's score: their mean (Eq. 7), the least sure token, the lowest mean of 16 tokens
    in a row, or the mean of the lowest tenth."""
    refine: Literal["first", "every", "never"] = "every"
    """Which unsure steps of the small model are discarded and rewritten by the large one: step 0 alone (the paper's
    first-step refinement), every step, or none. `true` and `false` mean `first` and `never`."""
    fit_from: Literal["live", "bank", "all_steps", "frozen"] = "all_steps"
    """Scores that the mixture is fitted on. `live`: those of the live traces at this step. `bank`: the run's recent
    ones at this step index. `all_steps`: the run's recent ones at any step, so that a group of sure traces alone is not
    split in halves. `frozen`: none, since the mixture is read from a file."""
    ahead: bool = True
    """The small model writes to the end in one pass, and the policy decides on its steps one after another."""
    hysteresis: Unit = 1.0
    """A trace that the large model writes returns to the small one only if its posterior reaches gamma + hysteresis. If
    that sum is above 1, it never returns, and the large model writes to the end in one pass."""
    preset: Literal["none", "paper", "stepwise", "mixture"] = "none"
    """`paper` is Algorithm 1 to the letter (max_logit, producer, pooled, live, literal posterior, refinement of step 0)
    and fixes these keys. `stepwise` decides on every step by itself (max_prob by the small model, mean over tokens,
    live, no hysteresis, nothing written ahead). `mixture` hands a trace over once by one mixture over all steps
    (max_logit, least token, written ahead). Of both, keys that are given win."""

    @model_validator(mode="after")
    def _rule_has_its_keys(self) -> Self:
        if (self.decide == "threshold") != (self.thresholds is not None):
            raise ValueError("decide: threshold and thresholds: [..] go together: set both or neither")
        if self.decide in ("budget", "threshold") and self.also is not None:
            raise ValueError(f"also: {self.also}: a second measure needs the mixture; remove also or decide")
        if self.decide in (None, "mixture") and self.hands_back is not None:
            raise ValueError("hands_back: with the mixture set hysteresis, 1 never to return, or decide: budget")
        return self

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, data: Any) -> Any:
        preset = data.get("preset") if isinstance(data, dict) else None
        if preset == "paper":
            clash = sorted(k for k, v in PAPER.items() if k in data and data[k] != v)
            if clash:
                raise ValueError(f"preset: paper fixes {', '.join(clash)}: remove them or the preset")
            return {**data, **PAPER}
        if preset in PRESETS:
            return {**PRESETS[preset], **data}
        if isinstance(data, dict) and "decide" not in data and any(data.get(key) is not None for key in OF_MIXTURE):
            return {**data, "decide": "mixture"}
        return data


class PercentilePolicy(Scored):
    name: Literal["percentile"] = "percentile"
    percent: Annotated[float, Field(ge=0.0, le=100.0)] = 50.0
    """The lowest `percent` of the live traces at each step go to the large model."""


class FirstTokenEntropyPolicy(Strict):
    name: Literal["first_token_entropy"] = "first_token_entropy"
    tau: Annotated[float, Field(ge=0.0)] = 0.5
    """The large model takes the step when the small model's first-token entropy (nats) is above tau."""


class RsdPolicy(Strict):
    """Reward-guided speculation (arXiv 2501.19324): every step is drafted, and rewritten where its reward is low."""

    name: Literal["rsd"] = "rsd"
    threshold: Unit = 0.7
    """A draft stays if the process reward model gives it at least this probability."""


class SpecReasonPolicy(Strict):
    """Speculative reasoning (arXiv 2504.07891): every step is drafted, and rewritten where the judge rates it low."""

    name: Literal["spec_reason"] = "spec_reason"
    threshold: Annotated[float, Field(ge=0.0, le=9.0)] = 7.0
    """A draft stays if the judge rates it at least this, from 0 to 9."""
    read: Literal["expectation", "greedy"] = "expectation"
    """What the rating is: the expectation over the ten digits, or the likeliest digit."""


class QueryRouterPolicy(Strict):
    """Routing of whole questions by the small model's own prompt states (arXiv 2410.04707)."""

    name: Literal["query_router"] = "query_router"
    threshold: Unit = 0.5
    """The small model gets a question if it solves it, by the probe, with at least this probability."""


class CustomPolicy(Strict):
    """A policy of one's own (docs/policies.md)."""

    name: Literal["custom"] = "custom"
    object: str
    """`module:Class` or `module:function`. Called with the options, it returns a `steer.policies.Policy`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of that call."""
    threshold: str | None = None
    """The option that names the rows and that a sweep's `grid` varies. None: the policy has one setting."""

    @model_validator(mode="after")
    def _threshold_is_a_number(self) -> Self:
        value = 0 if self.threshold is None else self.options.get(self.threshold, 0)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"options.{self.threshold} is {value!r}: a threshold is a number")
        return self


PolicyConfig = Annotated[
    SmallPolicy
    | LargePolicy
    | RandomStepPolicy
    | RandomQueryPolicy
    | SteerPolicy
    | PercentilePolicy
    | FirstTokenEntropyPolicy
    | RsdPolicy
    | SpecReasonPolicy
    | QueryRouterPolicy
    | CustomPolicy,
    Field(discriminator="name"),
]


BAR = ("small", "random_query", "large")
"""Names of the policies that make up the bar: what routing is compared with on the same benchmark and split."""
