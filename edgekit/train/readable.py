"""Whether a base can read a task at all: its words are in the vocabulary, and prompts fit its context."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.errors import EdgekitError
from edgekit.policy.checkpoint import Policy
from edgekit.policy.tokens import build_tokenizer
from edgekit.tasks.base import Problem, Task

LOOKED_AT = 200
MOST_UNREADABLE = 0.1
"""The share of unreadable problems that is borne."""


def check_readable(policy: Policy, task: Task, problems: Sequence[Problem]) -> None:
    """Raises :class:`EdgekitError` if ``policy`` cannot read prompts and right answers of ``problems`` of ``task``.

    The built-in vocabulary spells any text byte by byte, but its model has seen numbers and signs only.
    """
    shown = problems[:LOOKED_AT]
    context, room = policy.model.config.context_length, policy.routing.max_new_tokens
    long = [problem for problem in shown if len(policy.encode(problem.prompt)) >= context]
    if len(long) > MOST_UNREADABLE * len(shown):
        raise EdgekitError(
            f"task not readable: {task.name}. {len(long)} of {len(shown)} prompts fill the base's context of {context} "
            f"tokens, and an answer may take {room} more. Give a base with a longer context: --set base=FOLDER."
        )
    if policy.tokenizer.get_vocab() != build_tokenizer().get_vocab():
        return
    spelled = [problem for problem in shown if _is_spelled(policy, problem.prompt + " " + task.solve(problem))]
    if len(spelled) > MOST_UNREADABLE * len(shown):
        raise EdgekitError(
            f"task not readable: {task.name}. {len(spelled)} of {len(shown)} problems have words, as "
            f"{' '.join(spelled[0].prompt.split())[:60]!r}, and the built-in policy knows numbers and signs only. "
            "Give a language model: --set base=FOLDER, a name on the hub, or smollm2."
        )


def _is_spelled(policy: Policy, text: str) -> bool:
    """Whether the built-in vocabulary has letters of ``text`` one byte at a time only."""
    pieces = policy.tokenizer.encode(text, add_special_tokens=False).tokens
    return any(len(piece) == 1 and piece.isalpha() and piece not in NO_LETTERS for piece in pieces)


NO_LETTERS = "\u0120\u010a"
"""The byte alphabet's stand-ins for a space and a line break."""
