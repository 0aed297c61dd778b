"""The base of every configuration model: unknown keys are refused, values never change, fields have docstrings.

Numbers are finite, and integers have bounds: what a run writes into its tables or hands to vLLM must fit there, and is
refused here if it does not, before anything starts.
"""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

SEEDS = 2**63
"""Seeds are below this number: the tables' columns and vLLM have 64 bits, one of them for the sign."""
COUNTS = 2**31
"""Counts are below this number: the tables' columns have 32 bits, one of them for the sign."""


def _no_truth_value(value: object) -> object:
    """Python counts `True` as 1, and YAML reads `yes` and `on` as true."""
    if isinstance(value, bool):
        raise ValueError("this is a truth value, and a number is needed")
    return value


NO_TRUTH_VALUE = BeforeValidator(_no_truth_value)
Seed = Annotated[int, Field(ge=0, lt=SEEDS), NO_TRUTH_VALUE]
Count = Annotated[int, Field(ge=1, lt=COUNTS), NO_TRUTH_VALUE]
Text = Annotated[str, Field(min_length=1)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)
