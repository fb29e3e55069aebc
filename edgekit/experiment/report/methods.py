"""What each method is called, what it is, and how it is drawn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Okabe and Ito's colours. A method's colour is its family's; line style and marker tell members apart, in print too.
BLUE, SKY, GREEN, ORANGE, VERMILLION, PURPLE = "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7"
INK, MUTED, GRID = "#1B1F24", "#6B7280", "#D9DDE3"

CANDIDATE = "gapg"
"""The method under test: every other is compared with it."""


@dataclass(frozen=True)
class Style:
    """How a method is shown. ``line`` is matplotlib's; ``what`` one phrase for the legend of methods."""

    label: str
    colour: str
    line: str | tuple[int, tuple[float, ...]]
    marker: str
    what: str


DASHED, DOTTED, DASHDOT = (0, (5, 2)), (0, (1.2, 1.6)), (0, (6, 2, 1.2, 2))

STYLES = {
    "gapg": Style("GAPG", BLUE, "-", "o", "group-level policy gradient with adaptive prompt filtering"),
    "gapg_early": Style("GAPG, early asking", BLUE, DASHED, "p", "GAPG, a hand-off paid more the earlier it comes"),
    "da_grpo": Style("DA-GRPO", SKY, DASHDOT, "s", "a dual variable prices each call during training"),
    "collaboration_dr_grpo": Style(
        "Collab. Dr.GRPO", PURPLE, "-", "^", "the hierarchical reward, a Dr.GRPO update, no filtering"
    ),
    "collaboration_grpo": Style(
        "Collab. GRPO", PURPLE, DASHED, "v", "the hierarchical reward, a GRPO update, no filtering"
    ),
    "verdict_on_gapg": Style("GAPG's verdict", SKY, DASHED, "<", 'GAPG\'s policy; how sure it is of its own "no"'),
    "probe_on_gapg": Style("Probe on GAPG", SKY, DOTTED, "X", "GAPG's policy; a linear probe on its last hidden state"),
    "warm_start": Style("Warm start only", GREEN, DOTTED, "o", "the policy before any reinforcement, by its marker"),
    "answer_router": Style("Answer router", VERMILLION, "-", "D", "task-tuned; a classifier reads the finished answer"),
    "prompt_router": Style("Prompt router", VERMILLION, DASHED, "d", "task-tuned; a classifier reads the prompt"),
    "hidden_probe": Style("Hidden-state probe", GREEN, "-", "X", "task-tuned; a linear probe on the last hidden state"),
    "hidden_probe_prompt": Style(
        "Hidden probe, prompt", GREEN, DASHED, "P", "task-tuned; the same probe before the attempt, on the prompt"
    ),
    "own_verdict": Style("Own verdict", ORANGE, "-", "<", 'task-tuned; how sure it is of its own "no"'),
    "token_entropy": Style("Token entropy", ORANGE, DASHDOT, "h", "task-tuned; a threshold on the tokens' entropy"),
    "sample_agreement": Style(
        "Sample agreement", ORANGE, DASHED, "H", "task-tuned; five more samples, as many as answer otherwise decide"
    ),
    "naive_offloading": Style("Naive offloading", MUTED, DOTTED, "x", "task-tuned; a random share is handed off"),
    "task_only": Style("Task tuning only", MUTED, "-", "_", "task-tuned; nothing is handed off"),
    "oracle_router": Style("Oracle router", INK, DASHED, "+", "task-tuned; knows which answers are wrong"),
    "cloud_only": Style("Cloud only", INK, "-", "*", "everything is handed off"),
}

BOUNDS = ("task_only", "cloud_only", "oracle_router")
"""Not rivals: they make no choice, or know the answers."""

_VARIANT_LOOKS = [
    (colour, line, marker)
    for line, marker in ((DASHED, "8"), (DASHDOT, "<"), (DOTTED, ">"))
    for colour in (VERMILLION, GREEN, PURPLE, ORANGE, SKY)
]


def style(method: str) -> Style:
    """The method's style; a variant the table does not know has a look that its name decides."""
    if method in STYLES:
        return STYLES[method]
    base = next((name for name in STYLES if method.startswith(f"{name}_")), None)
    if base is None:
        return Style(method.replace("_", " "), GREEN, DASHDOT, "8", "as configured")
    colour, line, marker = _VARIANT_LOOKS[sum(map(ord, method)) % len(_VARIANT_LOOKS)]
    suffix = method[len(base) + 1 :].replace("_", " ")
    return Style(f"{STYLES[base].label}, {suffix}", colour, line, marker, "a variant, as configured")


def is_variant(method: str) -> bool:
    """Whether this is the method under test under other settings, rather than a rival."""
    return method.startswith(f"{CANDIDATE}_")


def in_order(methods: Iterable[str]) -> list[str]:
    """The methods as the report lists them: the candidate, its variants, the rivals, the bounds."""
    known = list(STYLES)

    def place(method: str) -> tuple[int, str]:
        if method in known:
            return (known.index(method) * 2, method)
        return (1 if is_variant(method) else 2 * known.index("naive_offloading") - 1, method)

    return sorted(methods, key=place)
