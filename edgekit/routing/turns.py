"""turns.json: how a policy's own chat template writes a conversation, as data that anything can follow.

It is read off the template once, when a policy is made (:mod:`edgekit.policy.turns`): nothing of a bundle is run. What
the user and the assistant said is data here too, told apart from the template's words.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from edgekit.atomic_write import write_file
from edgekit.errors import BundleError, EdgekitError, ErrorKind
from edgekit.json_document import DocumentFault, check_document
from edgekit.plain_file import read_bytes
from edgekit.routing.prompt_tokens import Part
from edgekit.routing.spec import THOUGHT_CLOSE, Trim, trimmed

TURNS = "turns.json"
TURNS_VERSION = 2


class BadTurns(EdgekitError):
    """A conversation that the policy's template cannot write."""


class Turn(NamedTuple):
    """What one side said; ``role``: system, user or assistant."""

    role: str
    content: str


class TurnFormat(BaseModel):
    """The template's own words around a conversation: a system message if there is one, then user and assistant in
    turns, the user last.

    ``begin`` stands before the first user message; ``begin_system`` and ``end_system`` around a system message of the
    user's, up to the first user message (None: the template knows none). ``to_assistant`` stands between a user's
    message and the assistant's, ``to_user`` between that and the next, ``reply`` after the last.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: int = Field(default=TURNS_VERSION, ge=1, le=TURNS_VERSION)
    begin: str
    begin_system: str | None = None
    end_system: str = ""
    to_assistant: str
    to_user: str
    reply: str
    system_trim: Trim = "none"
    user_trim: Trim = "none"
    assistant_trim: Trim = "none"
    drops_blank_system: bool = False
    """Whether a system message of which ``system_trim`` leaves nothing goes without a trace: one that is joined to an
    instruction or to the prompt goes with what joins them."""
    drops_thoughts: bool = False
    """Whether what an assistant thought, up to the last ``</think>``, is left out."""

    def parts(self, turns: Sequence[Turn]) -> list[Part]:
        """What the policy continues for ``turns``. Raises :class:`BadTurns` for any other order of roles."""
        system, said = (turns[0], turns[1:]) if turns and turns[0].role == "system" else (None, turns)
        self._check(system, said)
        content = "" if system is None else trimmed(system.content, self.system_trim)
        if system is None or self.begin_system is None or (self.drops_blank_system and not content):
            parts = [_own(self.begin)]
        else:
            parts = [_own(self.begin_system), Part(content, is_user=True), _own(self.end_system)]
        for place, turn in enumerate(said):
            if place:
                parts.append(_own(self.to_assistant if turn.role == "assistant" else self.to_user))
            parts.append(Part(self._written(turn), is_user=True))
        return [*parts, _own(self.reply)]

    def _check(self, system: Turn | None, said: Sequence[Turn]) -> None:
        if system is not None and self.begin_system is None:
            raise BadTurns("system message: this policy's chat template knows none. Leave it out.")
        expected = ["user" if place % 2 == 0 else "assistant" for place in range(len(said))]
        if len(said) % 2 == 0 or [turn.role for turn in said] != expected:
            raise BadTurns(
                "bad turns: their order. After a system message, if any, user and assistant take turns, the user "
                "last. Send them so."
            )

    def _written(self, turn: Turn) -> str:
        if turn.role == "user":
            return trimmed(turn.content, self.user_trim)
        content = turn.content
        if self.drops_thoughts and THOUGHT_CLOSE in content:
            content = content.rpartition(THOUGHT_CLOSE)[2].lstrip("\n")
        return trimmed(content, self.assistant_trim)

    def save(self, folder: Path) -> None:
        """Write turns.json atomically."""
        write_file(folder / TURNS, self.model_dump_json(indent=2) + "\n")


def load_turns(folder: Path) -> TurnFormat | None:
    """Read ``folder``'s turns.json; None if it has none. Raises :class:`BundleError` naming its faults."""
    path = folder / TURNS
    try:
        return check_document(read_bytes(path), TurnFormat, newest=TURNS_VERSION)
    except FileNotFoundError:
        return None
    except DocumentFault as fault:
        advice = "Update edgekit" if fault.kind is ErrorKind.NEWER else "Export the bundle again"
        raise BundleError(f"bad {TURNS}: {path}. {fault}. {advice}.", fault.kind) from None
    except (OSError, ValueError) as error:
        raise BundleError(f"unreadable {TURNS}: {path}. {error}. Export the bundle again.") from None


def _own(text: str) -> Part:
    return Part(text, is_user=False)
