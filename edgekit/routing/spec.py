"""routing.json: everything a phone needs to decode a policy's text and see its decision."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from edgekit.atomic_write import write_file
from edgekit.errors import BundleError, ErrorKind
from edgekit.json_document import DocumentFault, TokenId, check_document
from edgekit.plain_file import read_bytes
from edgekit.routing.prompt_tokens import Part

ROUTING_VERSION = 2
PROMPT = "{prompt}"
MOST_PROMPTS = 8
"""How often a template may repeat the prompt: what it makes of a long one must not fill the memory."""
Trim = Literal["none", "both", "start", "end"]
TRIMS: tuple[Trim, ...] = ("none", "both", "start", "end")
WHITE_SPACE = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""What a trimmed prompt neither begins nor ends with: what Python's str.strip drops, which Jinja's trim is."""
Share = Annotated[float, Field(ge=0, le=1)]

THOUGHT_OPEN, THOUGHT_CLOSE = "<think>", "</think>"
"""What a policy thinks stands between them."""


class Marker(BaseModel):
    """The call-for-cloud marker: its text, and the token id sequences that count as emitting it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    text: str = Field(min_length=1)
    token_ids: tuple[Annotated[tuple[TokenId, ...], Field(min_length=1)], ...] = Field(min_length=1)


class AnswerFormat(BaseModel):
    """How an answer stands in the text: between ``open`` and ``close``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    open: str = Field(default="<answer>", min_length=1)
    close: str = Field(default="</answer>", min_length=1)


class CalibrationFacts(BaseModel):
    """On what the marker bias was fitted to ``calibrated_call_fraction``.

    ``n`` problems of a task's split, drawn with ``seed``; ``reached_fraction`` of them call at ``marker_bias``, the
    bias that came of it. ``interval``: the 95 % confidence interval of the share that calls among such problems.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    task: str
    split: str
    n: int = Field(gt=0, lt=2**31)
    seed: int = Field(ge=-(2**53), le=2**53)
    reached_fraction: float = Field(ge=0, le=1)
    interval: tuple[Share, Share]
    marker_bias: float


class RoutingSpec(BaseModel):
    """The routing-token decoder's data (contract: routing.json).

    Version 1 has no ``calibration`` or ``prompt_trim``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: int = Field(default=ROUTING_VERSION, ge=1, le=ROUTING_VERSION)
    marker: Marker
    answer: AnswerFormat = AnswerFormat()
    stop_token_ids: tuple[TokenId, ...]
    max_new_tokens: int = Field(gt=0, lt=2**31)
    prompt_template: str = Field(default=PROMPT, pattern=re.escape(PROMPT))
    prompt_trim: Trim = "none"
    """At which ends of a prompt white space is dropped before it is put into the template."""
    marker_bias: float = 0.0
    calibrated_call_fraction: float | None = None
    calibration: CalibrationFacts | None = None
    on_no_answer: Literal["cloud", "local"] = "cloud"

    @field_validator("prompt_template")
    @classmethod
    def _repeats_little(cls, template: str) -> str:
        if (times := template.count(PROMPT)) > MOST_PROMPTS:
            raise ValueError(f"{PROMPT} stands in it {times:,} times, more than {MOST_PROMPTS}")
        return template

    def uncalibrated(self) -> RoutingSpec:
        """The same at its natural threshold: what a bias was fitted to says nothing about another policy."""
        return self.model_copy(update={"marker_bias": 0.0, "calibrated_call_fraction": None, "calibration": None})

    def parts(self, prompt: str) -> list[Part]:
        """What the policy continues for the user's ``prompt``: the template around it, told apart from it."""
        prompt = trimmed(prompt, self.prompt_trim)
        words = [Part(text, is_user=False) for text in self.prompt_template.split(PROMPT)]
        return words[:1] + [part for word in words[1:] for part in (Part(prompt, is_user=True), word)]

    def render(self, prompt: str) -> str:
        """The same as one text."""
        return "".join(part.text for part in self.parts(prompt))

    @property
    def begins_in_thought(self) -> bool:
        """Whether the prompt template leaves a thought open, so that a response begins within it."""
        _, _, before_response = self.prompt_template.rpartition(PROMPT)
        return before_response.rfind(THOUGHT_OPEN) > before_response.rfind(THOUGHT_CLOSE)

    @property
    def delimiters(self) -> tuple[str, ...]:
        """The texts that the decoder must see, special tokens or not: the marker, an answer's and a thought's ends."""
        return (self.marker.text, self.answer.open, self.answer.close, THOUGHT_OPEN, THOUGHT_CLOSE)

    def save(self, path: Path) -> None:
        """Write routing.json atomically."""
        write_file(path, self.model_dump_json(indent=2) + "\n")


def trimmed(prompt: str, trim: Trim) -> str:
    """``prompt`` without white space at the ends that ``trim`` names."""
    start = prompt.lstrip(WHITE_SPACE) if trim in ("both", "start") else prompt
    return start.rstrip(WHITE_SPACE) if trim in ("both", "end") else start


def load_routing(path: Path) -> RoutingSpec:
    """Read routing.json. Raises :class:`BundleError` naming its faults."""
    try:
        return check_document(read_bytes(path), RoutingSpec, newest=ROUTING_VERSION)
    except FileNotFoundError:
        why = "Not an edgekit policy or bundle. Check the path."
        raise BundleError(f"no routing.json: {path}. {why}", ErrorKind.ABSENT) from None
    except OSError as error:
        raise BundleError(f"unreadable routing.json: {path}. {error.strerror}. Check the path.") from None
    except DocumentFault as fault:
        advice = "Update edgekit" if fault.kind is ErrorKind.NEWER else "Export the bundle again"
        raise BundleError(f"bad routing.json: {path}. {fault}. {advice}.", fault.kind) from None
    except ValueError as error:  # no plain file, or too large
        raise BundleError(f"unreadable routing.json: {path}. {error}. Check the path.") from None
