"""What a sweep evaluates: the policies with their threshold grids, and the cells of the grid by split.

Invariant: thresholds are chosen on `validation` only; `test` sees the chosen setting (and the grid too only where
`test_grid` asks for the separately labelled best-on-test figure).
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from steer.config.policy import PolicyConfig
from steer.config.run import BenchmarkConfig, PairConfig, PoolsConfig, RoutingOptions
from steer.config.strict import Strict
from steer.config.thresholds import THRESHOLDS, setting_of, threshold_key, with_threshold

Objective = Literal["cheapest_within", "accuracy", "budget"]


class Variant(Strict):
    """One row of the comparison: a policy, whose threshold the sweep chooses."""

    label: str
    """Name of the row in tables and in `summary.json`."""
    policy: PolicyConfig
    grid: tuple[float, ...] | None = None
    """Thresholds to try; none: the policy's own grid. A policy without a threshold has none."""
    groups: Annotated[int, Field(ge=1)] | None = None
    """K of Table 3 for this row; none: the benchmark's."""
    on_validation: bool = True
    """False: no threshold is to be chosen, and the row runs on test alone."""
    on_test: Literal["chosen", "grid", "never"] | None = None
    """What runs on test: the threshold that validation chose, the whole grid, or nothing; none: as `test_grid` says."""

    @model_validator(mode="after")
    def _grid_fits(self):
        if self.grid is not None and threshold_key(self.policy.model_dump()) is None:
            remedy = "name it, one of its options, as threshold:" if self.policy.name == "custom" else "remove grid"
            raise ValueError(f"policy {self.policy.name} has no threshold: {remedy}")
        if not self.on_validation and len(self.settings()) > 1:
            raise ValueError(
                f"{self.label}: on_validation: false leaves {len(self.settings())} thresholds without a choice"
            )
        if self.grid == ():
            raise ValueError("grid is empty: name at least one threshold or leave grid out")
        self.settings()
        return self

    def settings(self) -> list[tuple[str, PolicyConfig]]:
        """Every setting of the grid as (text, policy); a policy without a grid is one setting."""
        values = self.grid or THRESHOLDS.get(self.policy.name, (None, ()))[1]
        policies = [with_threshold(self.policy, value) for value in values] or [self.policy]
        return [(setting_of(policy.model_dump()), policy) for policy in policies]

    @property
    def is_bar(self) -> bool:
        """`small`, `large` and `random_query` are the bar that others are measured against: the bar needs every
        setting on every split, so nothing is chosen."""
        return self.policy.name in ("small", "large", "random_query")


def _standard() -> tuple[Variant, ...]:
    """The product's default, the paper's literal reading, each measure, and what they are compared with."""
    measures = [
        {"label": f"steer {measure}", "policy": {"name": "steer", "measure": measure}}
        for measure in ("max_logit", "entropy", "max_prob")
    ]
    plain = ["small", "large", "random_query", "random_step", "first_token_entropy", "percentile"]
    rows = [
        *({"label": name, "policy": {"name": name}} for name in plain),
        {"label": "steer", "policy": {"name": "steer"}},
        *measures,
        *(
            {"label": f"steer {preset}", "policy": {"name": "steer", "preset": preset}}
            for preset in ("stepwise", "paper")
        ),
    ]
    variants = [Variant.model_validate(row) for row in rows]
    product = next(v for v in variants if v.label == "steer")
    return tuple(v for v in variants if v is product or v.policy != product.policy)


class SweepConfig(Strict):
    """A whole `steer sweep`."""

    benchmarks: Annotated[tuple[BenchmarkConfig, ...], Field(min_length=1)] = (
        BenchmarkConfig(name="chain_math"),
        BenchmarkConfig(name="hops"),
    )
    """`split` and `limit` of these are not read: the sweep has its own."""
    validation_questions: Annotated[int, Field(ge=2)] | None = 400
    """Questions a benchmark on `validation`, from its start; none: all."""
    test_questions: Annotated[int, Field(ge=2)] | None = None
    """Questions a benchmark on `test`; none: all."""
    pair: str | PairConfig = "embedded"
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)] = Field(default_factory=_standard)
    routing: RoutingOptions = RoutingOptions()
    pools: PoolsConfig = PoolsConfig()
    journal: bool = True
    """Keep the live traces in the sweep's folder after every round, so that `--resume` goes on from there."""
    seed: Annotated[int, Field(ge=0)] = 0
    """The first sampling seed; the others follow it."""
    validation_seeds: Annotated[int, Field(ge=1)] = 1
    test_seeds: Annotated[int, Field(ge=1)] = 3
    """Sampling seeds of every question on a split; the interval takes a question, not a sample, as its unit."""
    objective: Objective = "cheapest_within"
    """How a setting is chosen on validation: the cheapest within `tolerance` of the grid's best accuracy, the most
    accurate, or the most accurate under `budget`."""
    tolerance: Annotated[float, Field(ge=0.0)] = 1.0
    """Points of accuracy (%) below the best that `cheapest_within` accepts."""
    budget: Annotated[float, Field(gt=0.0)] | None = None
    """`flops_paper` a question (1e12) that `budget` allows."""
    test: bool = True
    """Run the chosen settings on test; false: validation alone, which a choice of defaults must not look beyond."""
    test_grid: bool = False
    """Run the whole grid on test too, for the figure labelled best on test (what the paper reports)."""

    @model_validator(mode="after")
    def _fits_together(self):
        labels = [v.label for v in self.variants]
        doubled = sorted({label for label in labels if labels.count(label) > 1})
        if doubled:
            raise ValueError(f"variants share the label {', '.join(doubled)}: give each its own")
        names = [b.name for b in self.benchmarks]
        if len(set(names)) < len(names):
            raise ValueError("a benchmark is named twice: give each entry of benchmarks its own name")
        if (self.objective == "budget") != (self.budget is not None):
            raise ValueError("budget (1e12 FLOPs a question) and objective: budget go together: set both or neither")
        return self

    def seeds(self, split: str) -> list[int]:
        count = self.validation_seeds if split == "validation" else self.test_seeds
        return [self.seed + i for i in range(count)]

    def questions(self, split: str) -> int | None:
        return self.validation_questions if split == "validation" else self.test_questions
