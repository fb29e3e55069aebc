"""What users write in YAML, as models: unknown keys, infinities, whole numbers beyond 64 bits, and true or false for a
number are refused."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

MOST = 2**63 - 1
"""The largest whole number: no library below counts further."""


class Settings(BaseModel):
    """A mapping of settings; each is described by the text under it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_flag_and_no_giant(cls, value: Any, place: ValidationInfo) -> Any:
        """Pydantic takes true for 1, and an integer of any size."""
        kinds = _kinds(cls.model_fields[place.field_name].annotation) if place.field_name else []
        for each in value if isinstance(value, list | tuple) else [value]:
            if isinstance(each, bool) and bool not in kinds and (int in kinds or float in kinds):
                raise ValueError(f"{str(each).lower()} is not a number")
            if isinstance(each, int) and abs(each) > MOST:
                raise ValueError(f"a whole number in it is beyond {MOST}")
        return value


def _kinds(annotation: Any) -> list[Any]:
    """The types that a field's annotation is made of."""
    return [annotation, *(kind for part in get_args(annotation) for kind in _kinds(part))]
