"""The configuration of a sweep: benchmarks, policies with their threshold grids, and what runs on which split.

Invariant: thresholds are chosen on `validation` alone. On `test` only the chosen setting runs, unless `test_grid` or
`on_test` asks for the whole grid, whose best setting is a separate figure, labelled best on test.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from steer.config.policy import BAR, PolicyConfig
from steer.config.run import BenchmarkConfig, PairConfig, PoolsConfig, RoutingOptions
from steer.config.strict import COUNTS, NO_TRUTH_VALUE, SEEDS, Count, Seed, Strict
from steer.config.thresholds import setting_of, standard_grid, threshold_key, with_threshold

Objective = Literal["cheapest_within", "accuracy", "budget"]


class Variant(Strict):
    """One row of the comparison: a policy, whose threshold the sweep chooses."""

    label: str
    """Name of the variant in tables and in `summary.json`."""
    policy: PolicyConfig
    grid: tuple[float, ...] | None = None
    """Thresholds to try. None: the policy's own grid. A policy without a threshold has no grid."""
    groups: Count | None = None
    """K of Table 3 for this variant. None: the benchmark's."""
    on_validation: bool = True
    """False: the variant has no threshold to choose and runs on test alone."""
    on_test: Literal["chosen", "grid", "never"] | None = None
    """What runs on test: the chosen threshold, the whole grid, or nothing. None: what `test_grid` says."""

    @model_validator(mode="after")
    def _grid_fits(self) -> Self:
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
        """(text, policy) for every setting of the grid. A policy without a grid has one setting."""
        values = self.grid or standard_grid(self.policy)
        policies = [with_threshold(self.policy, value) for value in values] or [self.policy]
        return [(setting_of(policy.model_dump()), policy) for policy in policies]

    @property
    def is_bar(self) -> bool:
        """Whether the policy belongs to the bar, which others are compared with. The bar needs every setting on every
        split, so none is chosen."""
        return self.policy.name in BAR


def _standard() -> tuple[Variant, ...]:
    """The default variants: `steer` with its defaults, with each measure and with each other preset, and the policies
    that it is compared with."""
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
    """The configuration of `steer sweep`."""

    benchmarks: Annotated[tuple[BenchmarkConfig, ...], Field(min_length=1)] = (
        BenchmarkConfig(name="chain_math"),
        BenchmarkConfig(name="hops"),
    )
    """`split` and `limit` of these are not read, because the sweep has its own."""
    validation_questions: Annotated[int, Field(ge=2, lt=COUNTS), NO_TRUTH_VALUE] | None = 400
    """Validation questions of each benchmark. None: all."""
    test_questions: Annotated[int, Field(ge=2, lt=COUNTS), NO_TRUTH_VALUE] | None = None
    """Test questions of each benchmark. None: all."""
    pair: str | PairConfig = "embedded"
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)] = Field(default_factory=_standard)
    routing: RoutingOptions = RoutingOptions()
    pools: PoolsConfig = PoolsConfig()
    journal: bool = True
    """Write the live traces to the sweep's folder after every round, so that `--resume` goes on from there."""
    seed: Seed = 0
    """The first sampling seed. The others follow it."""
    validation_seeds: Count = 1
    test_seeds: Count = 3
    """Sampling seeds of each question on a split. The unit of the confidence interval is a question, not a sample."""
    objective: Objective = "cheapest_within"
    """How a setting is chosen on validation: the cheapest within `tolerance` of the grid's best accuracy, the most
    accurate, or the most accurate within `budget`."""
    tolerance: Annotated[float, Field(ge=0.0)] = 1.0
    """How many points of accuracy (%) below the best `cheapest_within` accepts."""
    budget: Annotated[float, Field(gt=0.0)] | None = None
    """Most FLOPs a question (`flops_paper`, in 1e12) that the objective `budget` allows."""
    test: bool = True
    """Run the chosen settings on test. False: validation alone, because a choice of defaults must not see test."""
    test_grid: bool = False
    """Run the whole grid on test, too, for the figure labelled best on test, which the paper reports."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        labels = [v.label for v in self.variants]
        doubled = sorted({label for label in labels if labels.count(label) > 1})
        if doubled:
            raise ValueError(f"variants share the label {', '.join(doubled)}: give each its own")
        names = [b.name for b in self.benchmarks]
        if len(set(names)) < len(names):
            raise ValueError("a benchmark is named twice: give each entry of benchmarks its own name")
        if (self.objective == "budget") != (self.budget is not None):
            raise ValueError("budget (1e12 FLOPs a question) and objective: budget go together: set both or neither")
        refuse_seeds_that_do_not_fit(self.seed, max(self.validation_seeds, self.test_seeds))
        return self

    def seeds(self, split: str) -> list[int]:
        count = self.validation_seeds if split == "validation" else self.test_seeds
        return [self.seed + i for i in range(count)]

    def questions(self, split: str) -> int | None:
        return self.validation_questions if split == "validation" else self.test_questions


def refuse_seeds_that_do_not_fit(first: int, count: int) -> None:
    """Raise ValueError if the last of `count` seeds from `first` on is none."""
    if first + count > SEEDS:
        raise ValueError(f"seed = {first}: the {count} seeds from it on must be less than 2^63; set seed lower")
