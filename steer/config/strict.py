"""The base of every configuration model: unknown keys are refused, values never change, fields have docstrings."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
