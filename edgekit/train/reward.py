"""The hierarchical reward: a right local answer pays more than a good hand-off, which pays more than form."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.errors import ConfigError
from edgekit.routing.decoder import Decision
from edgekit.routing.spec import RoutingSpec


@dataclass(frozen=True)
class Outcome:
    """What one response came to. ``called`` excludes right and well-formed; ``tokens``: its length, at least 1;
    ``answered``: it holds an answer between its delimiters."""

    called: bool
    correct: bool
    well_formed: bool
    tokens: int
    answered: bool = False


@dataclass(frozen=True)
class RewardScale:
    """alpha_a (right local answer), alpha_c (call the cloud answers rightly), alpha_f (form), alpha_e (early call).

    A call after t of at most T tokens that the cloud answers rightly pays alpha_c + alpha_e * (1 - t / T): never
    as much as a right local answer, and more the less of the attempt is spent. The paper's reward has alpha_e 0.
    """

    alpha_a: float = 1.0
    alpha_c: float = 0.25
    alpha_f: float = 0.0
    alpha_e: float = 0.0

    def __post_init__(self) -> None:
        problems = reward_problems(self.alpha_a, self.alpha_c, self.alpha_f, self.alpha_e)
        if problems:
            raise ConfigError("reward", problems)

    def reward(self, outcome: Outcome, cloud_correct: bool, token_budget: int) -> float:
        """The reward of one response; ``cloud_correct`` says whether the cloud answers its prompt rightly.

        ``token_budget`` is T, the most tokens the response could have had.
        """
        if outcome.called:
            early = self.alpha_e * (1 - outcome.tokens / token_budget)
            return self.alpha_c + early if cloud_correct else 0.0
        right = self.alpha_a if outcome.correct else 0.0
        form = self.alpha_f if outcome.well_formed else 0.0
        return right + form


def reward_problems(alpha_a: float, alpha_c: float, alpha_f: float, alpha_e: float) -> list[str]:
    """What is wrong with a reward hierarchy; empty if nothing is."""
    problems = []
    if not alpha_a > alpha_c > alpha_f >= 0:
        problems.append(f"alpha_a > alpha_c > alpha_f >= 0 does not hold for {alpha_a}, {alpha_c}, {alpha_f}")
    if not (alpha_e >= 0 and alpha_a > alpha_c + alpha_e):
        problems.append(f"alpha_e {alpha_e}: an early call must pay 0 or more, and less than alpha_a in all")
    return problems


def emitted_call(decision: Decision) -> bool:
    """True if the policy itself asked for the cloud.

    A response cut off without an answer may be handed off by the phone too, but it earns nothing here:
    otherwise rambling on would pay like asking.
    """
    return decision.reason == "marker"


def well_formed(decision: Decision, spec: RoutingSpec) -> bool:
    """True if the response ends in one non-empty answer that stands alone on its line.

    The answer is the decoder's, and so is what opened it: in a thought, its delimiters are text like any other.
    """
    if not decision.answer or spec.answer.open in decision.answer:
        return False
    before, _, answer = decision.text.rpartition(spec.answer.open)
    return "\n" not in answer and not before.rpartition("\n")[2].strip()
