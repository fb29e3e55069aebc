"""routing.json: everything a phone needs to decode a policy's text and see its decision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgekit.atomic_write import write_file
from edgekit.errors import BundleError

ROUTING_VERSION = 1


class Marker(BaseModel):
    """The call-for-cloud marker: its text, and the token id sequences that count as emitting it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    text: str = Field(min_length=1)
    token_ids: tuple[tuple[int, ...], ...] = Field(min_length=1)


class AnswerFormat(BaseModel):
    """How an answer stands in the text: between ``open`` and ``close``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    open: str = Field(default="<answer>", min_length=1)
    close: str = Field(default="</answer>", min_length=1)


class RoutingSpec(BaseModel):
    """The routing-token decoder's data (contract: routing.json)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: int = ROUTING_VERSION
    marker: Marker
    answer: AnswerFormat = AnswerFormat()
    stop_token_ids: tuple[int, ...]
    max_new_tokens: int = Field(gt=0)
    prompt_template: str = "{prompt}"
    marker_bias: float = 0.0
    calibrated_call_fraction: float | None = None
    on_no_answer: Literal["cloud", "local"] = "cloud"

    @model_validator(mode="after")
    def _check(self) -> RoutingSpec:
        if self.version > ROUTING_VERSION:
            raise ValueError(f"version {self.version} is newer than {ROUTING_VERSION}, update edgekit")
        if any(not ids for ids in self.marker.token_ids):
            raise ValueError("marker.token_ids holds an empty sequence")
        if "{prompt}" not in self.prompt_template:
            raise ValueError("prompt_template lacks {prompt}")
        return self

    def render(self, prompt: str) -> str:
        """The text the policy continues for the user's ``prompt``."""
        return self.prompt_template.replace("{prompt}", prompt)

    def save(self, path: Path) -> None:
        """Write routing.json atomically."""
        write_file(path, self.model_dump_json(indent=2) + "\n")


def load_routing(path: Path) -> RoutingSpec:
    """Read routing.json; raises :class:`BundleError` naming every fault."""
    try:
        return RoutingSpec.model_validate(json.loads(path.read_text()))
    except FileNotFoundError:
        raise BundleError(f"no routing.json: {path}. Not an edgekit policy or bundle. Check the path.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"unreadable routing.json: {path}. {error}. Export the bundle again.") from None
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise BundleError(f"bad routing.json: {path}. {faults}. Export the bundle again.") from None
