"""How far a judge may be believed: its verdicts beside a task's own labels. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.evaluate.intervals import wilson_interval


@dataclass(frozen=True)
class JudgeAgreement:
    """On ``n`` answers judge and label agree as often as ``agreement`` says; ``interval``: its 95 % interval (Wilson).

    ``kappa`` is Cohen's: 0 for a judge that says yes as often, whatever the answer. None where chance alone would
    agree on all. ``too_kind``: answers that are wrong and found good; ``too_strict``: right and not found good.
    """

    n: int
    agreement: float
    interval: tuple[float, float]
    kappa: float | None
    too_kind: int
    too_strict: int

    def sentence(self) -> str:
        """The same for people."""
        low, high = self.interval
        kappa = "" if self.kappa is None else f", kappa {self.kappa:.2f}"
        return (
            f"the judge agrees with the labels on {self.agreement:.1%} of {self.n} answers ({low:.1%} to {high:.1%}, "
            f"95 %{kappa}): {self.too_kind} wrong ones found good, {self.too_strict} right ones not."
        )


def agreement_of(labels: Sequence[bool], verdicts: Sequence[bool]) -> JudgeAgreement:
    """The agreement of ``verdicts`` with ``labels``, at least one of each."""
    n, pairs = len(labels), list(zip(labels, verdicts, strict=True))
    same = sum(label == verdict for label, verdict in pairs)
    right, good = sum(labels) / n, sum(verdicts) / n
    chance = right * good + (1 - right) * (1 - good)
    return JudgeAgreement(
        n=n,
        agreement=same / n,
        interval=wilson_interval(same, n),
        kappa=(same / n - chance) / (1 - chance) if chance < 1 else None,
        too_kind=sum(verdict and not label for label, verdict in pairs),
        too_strict=sum(label and not verdict for label, verdict in pairs),
    )
