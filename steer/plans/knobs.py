"""The knob of a plan: what its user asks for."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from steer.config.strict import NO_TRUTH_VALUE, Strict

KnobName = Literal["budget", "accuracy_within", "risk"]


class Knob(Strict):
    name: KnobName
    """`budget`: the most accurate setting within this share of the large model's `flops_full`. `accuracy_within`: the
    cheapest setting that is at most this share of the questions less accurate than the large model. `risk`: the
    cheapest setting of which it is certified, at 95 % confidence, that at most this share of the questions is lost
    (wrong where the large model is right)."""
    value: Annotated[float, Field(gt=0.0, le=10.0), NO_TRUTH_VALUE]
    """As a share: 50 % is 0.5, one point of accuracy is 0.01."""

    @model_validator(mode="after")
    def _a_share(self) -> Self:
        if self.name != "budget" and self.value >= 1.0:
            raise ValueError(f"{self.name} {self.value:g}: a share below 1 is needed")
        return self

    def __str__(self) -> str:
        what = {
            "budget": "a budget of {:g} % of the large model's FLOPs",
            "accuracy_within": "accuracy within {:g} points of the large model's",
            "risk": "at most {:g} % of the questions lost against the large model",
        }
        return what[self.name].format(round(100.0 * self.value, 6))
