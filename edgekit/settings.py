"""What users write in YAML, as models: unknown keys, infinities, and true or false for a number are refused."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Settings(BaseModel):
    """A mapping of settings; each is described by the text under it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_flag_for_a_number(cls, value: Any, place: ValidationInfo) -> Any:
        """Pydantic takes true for 1."""
        if isinstance(value, bool) and place.field_name is not None:
            annotation = cls.model_fields[place.field_name].annotation
            kinds = {annotation, *get_args(annotation)}
            if bool not in kinds and kinds & {int, float}:
                raise ValueError(f"{str(value).lower()} is not a number")
        return value
