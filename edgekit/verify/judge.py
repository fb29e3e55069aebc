"""The verdict: what an artifact must keep, so that a user loses nothing. Pure functions, no model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.errors import EdgekitError
from edgekit.evaluate.intervals import paired_interval, tango_interval
from edgekit.verify.forced import Replay
from edgekit.verify.parity import NEAR_MARGIN, Hop

REPLAYED_CHOICES, FULL_PRECISION_CHOICES = 0.99, 0.999
"""The share of replayed choices that must agree; for a recipe without integers the second."""
LEAST_REPLAYED = 0.97
"""So many must agree however unsteady the reference is: one that agrees with itself on fewer proves nothing."""
MARGIN_SCALE = 0.02
"""By so much may the marker's margins be larger or smaller on the whole: a head scaled as a whole chooses the same."""
MOST_PROMPTS = 10**7


@dataclass(frozen=True)
class Thresholds:
    """What an artifact must reach. Raises :class:`EdgekitError` for a value that is no share.

    ``min_replayed_choices``: of the steps of the quantized reference's own text; None: 99 % or what the reference's
    noise floor leaves (see :func:`least_replayed`), without integers 99.9 %.
    ``max_call_change`` and ``max_accuracy_loss``: what the share of calls may move by, and overall accuracy fall by,
    where chance does not explain it (the paired 95 % interval excludes 0). ``min_agreement`` and
    ``min_lowering_agreement``: decisions when both write freely, in all and in the lowering hop; judged only if asked
    for, since in a long text one near tie early on makes another attempt of the rest.
    """

    min_replayed_choices: float | None = None
    max_call_change: float = 0.02
    max_accuracy_loss: float = 0.01
    min_agreement: float | None = None
    min_lowering_agreement: float | None = None
    near_margin: float = NEAR_MARGIN

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            most = math.inf if name == "near_margin" else 1.0
            if value is not None and not (0 <= value <= most and math.isfinite(value)):
                raise EdgekitError(f"bad threshold: {name} {value}. It is a share. Give a number from 0 to 1.")


@dataclass(frozen=True)
class Change:
    """A share of the prompts for which something holds, before and after, and the paired change with its interval."""

    before: float
    after: float
    gained: int
    lost: int
    n: int

    @classmethod
    def of(cls, before: Sequence[bool], after: Sequence[bool]) -> Change:
        """The change between two lists about the same n >= 1 prompts."""
        pairs = list(zip(before, after, strict=True))
        n, gained, lost = len(pairs), sum(b and not a for a, b in pairs), sum(a and not b for a, b in pairs)
        return cls(sum(before) / n, sum(after) / n, gained, lost, n)

    @property
    def value(self) -> float:
        """After less before."""
        return (self.gained - self.lost) / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The paired 95 % interval of the change."""
        return paired_interval(self.gained, self.lost, self.n)

    @property
    def is_significant(self) -> bool:
        """Whether the interval excludes 0."""
        low, high = self.interval
        return low > 0 or high < 0

    def prompts_to_see(self, size: float) -> int:
        """How many prompts would narrow the interval to +-``size``, if as large a share of them changed."""
        changed, few, many = (self.gained + self.lost) / self.n, 1, MOST_PROMPTS
        while few < many:
            n = (few + many) // 2
            each = round(changed * n / 2)
            if paired_half_width(each, n) <= size:
                many = n
            else:
                few = n + 1
        return few

    def to_json(self) -> dict[str, Any]:
        """The change as JSON data."""
        return {
            "reference": self.before, "artifact": self.after, "change": self.value, "interval": list(self.interval),
            "gained": self.gained, "lost": self.lost,
        }  # fmt: skip


def paired_half_width(each: int, n: int) -> float:
    """Half the width of the score interval of no net change, ``each`` of ``n`` having changed either way."""
    return tango_interval(each, each, n)[1]


def find_faults(
    overall: Hop,
    lowering: Hop,
    replay: Replay | None,
    changes: dict[str, tuple[Change, Change, Change]],
    limits: Thresholds,
    floor: Replay | None = None,
) -> list[str]:
    """Every requirement not met, each line beginning with the hop at fault.

    ``changes``: "calls" and, where it is known, "accuracy": in all, in the quantization hop, in the lowering hop.
    ``floor``: the replay of the quantized reference with its norms scaled by 1 + 1e-6, where there is one.
    """
    faults = []
    if replay is not None:
        least = least_replayed(limits, floor)
        if replay.choice_agreement < least:
            share = f"{100 * replay.choice_agreement:.2f} % of {replay.steps} replayed choices agree"
            faults.append(f"lowering: {share}, {100 * least:.4g} % must")
        if replay.broken:
            faults.append(f"lowering: {replay.broken} replayed decisions flipped far from the margin")
        if replay.max_abs_logit_diff is not None and not math.isfinite(replay.max_abs_logit_diff):
            faults.append("lowering: the artifact's logits are not those of the model")
        if replay.margin_scale is not None and _is_scaled(*replay.margin_scale):
            faults.append(f"lowering: the marker's margins are {replay.margin_scale[0]:.3g} times the reference's")
    if lowering.broken:
        faults.append(f"lowering: {lowering.broken} decisions flipped far from the margin after the same tokens")
    asked = limits.min_lowering_agreement
    if asked is not None and lowering.decision_agreement < asked:
        faults.append(f"lowering: decision agreement {lowering.decision_agreement:.3f} is below {asked:g}")
    calls = changes["calls"]
    if calls[0].is_significant and abs(calls[0].value) > limits.max_call_change:
        faults.append(f"{_blame(calls)}: the share of calls moved by {_told(calls[0])}")
    accuracy = changes.get("accuracy")
    if accuracy is not None and accuracy[0].is_significant and accuracy[0].value < -limits.max_accuracy_loss:
        faults.append(f"{_blame(accuracy)}: overall accuracy fell by {_told(accuracy[0])}")
    if limits.min_agreement is not None and overall.decision_agreement < limits.min_agreement:
        faults.append(
            f"{_blame(calls) if not faults else faults[0].split(':')[0]}: overall decision agreement "
            f"{overall.decision_agreement:.3f} is below {limits.min_agreement:g}"
        )
    return faults


def least_replayed(limits: Thresholds, floor: Replay | None) -> float:
    """The share of replayed choices that must agree; one that was asked for holds as it is.

    A policy that reasons under rounded activations may agree with itself on less than 99 % once anything rounds
    otherwise (``floor``). Its artifact cannot do better: then as many must agree as there, less what chance explains
    between two such shares (95 %).
    """
    if limits.min_replayed_choices is not None:
        return limits.min_replayed_choices
    if floor is None:
        return REPLAYED_CHOICES
    p = floor.choice_agreement
    by_chance = 1.96 * math.sqrt(2 * p * (1 - p) / max(1, floor.steps))
    return min(REPLAYED_CHOICES, max(LEAST_REPLAYED, p - by_chance))


def find_notes(
    calls: Change,
    accuracy: Change | None,
    limits: Thresholds,
    replay: Replay | None = None,
    floor: Replay | None = None,
) -> list[str]:
    """What a match does not prove: losses that so few prompts cannot show, and how many it would take.

    And that rounding alone moves more choices than may differ otherwise, where that is what let it pass.
    """
    notes = []
    if replay is not None and floor is not None and replay.choice_agreement < least_replayed(limits, None):
        notes.append(
            f"{100 * replay.choice_agreement:.2f} % of the replayed choices agree: no fault, for with its norms scaled "
            f"by 1 + 1e-6 the reference agrees with itself on {100 * floor.choice_agreement:.2f} %"
        )
    low, high = calls.interval
    if low < -limits.max_call_change or high > limits.max_call_change:
        notes.append(_too_few("the share of calls", calls, limits.max_call_change))
    if accuracy is not None and accuracy.interval[0] < -limits.max_accuracy_loss:
        notes.append(_too_few("overall accuracy", accuracy, limits.max_accuracy_loss))
    return notes


def _is_scaled(scale: float, error: float) -> bool:
    return abs(scale - 1) - 3 * error > MARGIN_SCALE


def _too_few(what: str, change: Change, size: float) -> str:
    low, high = change.interval
    need = change.prompts_to_see(size)
    return (
        f"{change.n} prompts do not show whether {what} changed by more than {_points(size)} "
        f"({100 * low:+.1f} to {100 * high:+.1f}): about {max(need, change.n + 1):,} would"
    )


def _points(size: float) -> str:
    return f"{100 * size:g} point" + ("" if math.isclose(size, 0.01) else "s")


def _told(change: Change) -> str:
    low, high = change.interval
    return f"{100 * change.value:+.1f} points (95 %: {100 * low:+.1f} to {100 * high:+.1f})"


def _blame(changes: tuple[Change, Change, Change]) -> str:
    """The hop in which more of it happened."""
    _, quantization, lowering = changes
    return "lowering" if abs(lowering.value) > abs(quantization.value) else "quantization"
