"""Triggers: prefixes that make a method call, searched as an attacker would, and what a hard budget then does.

Whoever writes part of a prompt (a pasted page, a tool's reply) can waste another's calls. The search is greedy and sees
scores alone: at each of eight places, of some random tokens it takes the one that most raises the share of calls. It is
a lower bound of what an attacker reaches: one who sees gradients reaches more.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgekit.experiment.thresholds import hands_off
from edgekit.policy.checkpoint import Policy
from edgekit.tasks.base import Problem

PLACES = 8
"""Tokens of a prefix."""
SEARCH_PROMPTS = 16
"""Problems, none of the test's, on which a prefix is judged while it is searched."""
BURST = 20
"""Prompts whose calls a hard budget lets come at once."""

Score = Callable[[Sequence[Problem]], list[float]]
"""Scores (n,) of problems as a method's thresholds read them: +inf for one that calls whatever they are."""


@dataclass(frozen=True)
class Search:
    """How a prefix is searched: ``tries`` random tokens at each place, drawn by ``seed``."""

    tries: int
    seed: int


def prefixed(problems: Sequence[Problem], prefix: str) -> list[Problem]:
    """The same problems, graded as before, with ``prefix`` before what the policy reads."""
    return [replace(problem, prompt=f"{prefix} {problem.prompt}") for problem in problems]


def search_trigger(policy: Policy, problems: Sequence[Problem], score: Score, threshold: float, search: Search) -> str:
    """The prefix under which most of ``problems`` pass ``threshold``, ties broken by their mean finite score."""
    source = random.Random(f"trigger/{search.seed}")
    words = _words(policy)
    chosen: list[str] = []
    best = (-1.0, 0.0)
    for _ in range(PLACES):
        tried = []
        for word in source.sample(words, min(search.tries, len(words))):
            scores = score(prefixed(problems, "".join([*chosen, word]).strip()))
            finite = [value for value in scores if value != float("inf")]
            reached = sum(hands_off(scores, threshold)) / len(scores)
            tried.append(((reached, sum(finite) / max(1, len(finite))), word))
        top, word = max(tried)
        if top <= best:  # a longer prefix that does no more is no better
            break
        best = top
        chosen.append(word)
    return "".join(chosen).strip()


def attack(
    policy: Policy,
    problems: Sequence[Problem],
    test: Sequence[Problem],
    score: Score,
    scores: Sequence[float],
    thresholds: dict[float, float],
    local: Sequence[bool],
    cloud: Sequence[bool],
    search: Search,
) -> dict[str, Any]:
    """A trigger searched on ``problems``, and what it does to the calls on ``test`` at each of ``thresholds``.

    ``scores``, ``local`` and ``cloud`` (n,) are those of ``test`` as it is. ``honest_before`` and ``honest_after``: the
    accuracy on the test's own prompts under a hard budget of the call fraction, alone, and when after each of them
    comes one with the trigger and the budget is for both.
    """
    middle = sorted(thresholds.values())[len(thresholds) // 2]
    text = search_trigger(policy, problems[:SEARCH_PROMPTS], score, middle, search)
    raised = score(prefixed(test, text))
    budgets = []
    for fraction, threshold in thresholds.items():
        before, after = hands_off(scores, threshold), hands_off(raised, threshold)
        alone = granted(before, fraction)
        both = granted([call for pair in zip(before, after, strict=True) for call in pair], fraction)[::2]
        budgets.append(
            {
                "call_fraction": fraction,
                "calls_before": sum(before) / len(before),
                "calls_after": sum(after) / len(after),
                "honest_before": _accuracy(alone, local, cloud),
                "honest_after": _accuracy(both, local, cloud),
            }
        )
    return {"text": text, "tries": search.tries, "budgets": budgets}


def granted(calls: Sequence[bool], fraction: float) -> list[bool]:
    """Which of the ``calls``, in order of arrival, a hard budget lets through.

    It is a bucket, full at first, that holds ``fraction`` times :data:`BURST` calls and at least one. A prompt adds
    ``fraction`` of a call to it, a call takes one.
    """
    largest = max(1.0, fraction * BURST)
    left, through = largest, []
    for call in calls:
        left = min(largest, left + fraction)
        through.append(call and left >= 1)
        left -= through[-1]
    return through


def _words(policy: Policy) -> list[str]:
    """What single tokens spell, in order of their ids: printable, and no part of the marker or an added token."""
    vocabulary = policy.tokenizer.get_vocab(with_added_tokens=False)
    added = set(policy.tokenizer.get_added_tokens_decoder())
    spelled = (policy.tokenizer.decode([token]) for token in sorted(vocabulary.values()) if token not in added)
    return [text for text in spelled if text.strip() and text.isprintable() and "�" not in text]


def _accuracy(through: Sequence[bool], local: Sequence[bool], cloud: Sequence[bool]) -> float:
    right = [there if called else here for called, here, there in zip(through, local, cloud, strict=True)]
    return sum(right) / len(right)
