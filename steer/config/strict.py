"""The base of every configuration model: unknown keys are refused, values never change, fields have docstrings.

Numbers are finite, and integers have bounds: what a run writes into its tables or hands to vLLM must fit there, and is
refused here if it does not, before anything starts.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

SEEDS = 2**63
"""Seeds are below this number: the tables' columns and vLLM have 64 bits, one of them for the sign."""
COUNTS = 2**31
"""Counts are below this number: the tables' columns have 32 bits, one of them for the sign."""

Seed = Annotated[int, Field(ge=0, lt=SEEDS)]
Count = Annotated[int, Field(ge=1, lt=COUNTS)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)
