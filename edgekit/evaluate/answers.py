"""Getting decisions from a policy or an artifact, and answers from the cloud."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from edgekit.cloud.client import Cloud, answer_all
from edgekit.cloud.oracle import OracleCloud
from edgekit.errors import EdgekitError, ErrorKind
from edgekit.evaluate.metrics import EvalReport, check_calibration, expected_cloud, summarize
from edgekit.evaluate.records import record
from edgekit.progress import Progress
from edgekit.routing.decision_rule import SOLO, largest_margin
from edgekit.routing.decode_loop import DecodeSession, decode, device_failed, has_room, too_long
from edgekit.routing.decoder import Decision
from edgekit.routing.replay import decision_at
from edgekit.routing.spec import RoutingSpec
from edgekit.routing.step_model import StepModel
from edgekit.routing.vocabulary import Vocabulary
from edgekit.tasks.answered import gather_references
from edgekit.tasks.base import Problem, Task

if TYPE_CHECKING:
    from edgekit.policy.checkpoint import Policy

FAILURES = (ErrorKind.DEVICE_FAILED, ErrorKind.BAD_LOGITS)
"""What a model's runtime may do to one prompt, and not to the next."""


class Decider(Protocol):
    """Something that decides prompts greedily."""

    @property
    def routing(self) -> RoutingSpec:
        """Its routing data."""

    @property
    def vocabulary(self) -> Vocabulary:
        """What its token ids spell."""

    def decide(
        self, prompts: Sequence[str], marker_bias: float | None = None, on_progress: Progress | None = None
    ) -> list[Decision]:
        """A decision per prompt; ``marker_bias`` None means routing.json's, -inf forbids calling by marker.

        A prompt that is too long for the context is handed over, with that as its reason.
        """


@dataclass
class PolicyDecider:
    """A torch policy, decoded in batches of ``batch_size``; ``context_length`` None means the model's own."""

    policy: Policy
    context_length: int | None = None
    batch_size: int = 128

    @property
    def routing(self) -> RoutingSpec:
        """The policy's routing data."""
        return self.policy.routing

    @property
    def vocabulary(self) -> Vocabulary:
        """The policy's vocabulary."""
        return self.policy.vocabulary

    def decide(
        self, prompts: Sequence[str], marker_bias: float | None = None, on_progress: Progress | None = None
    ) -> list[Decision]:
        """See :class:`Decider`."""
        from edgekit.policy.reference import decode_batch

        context = self.context_length or self.policy.model.config.context_length
        decisions: list[Decision] = []
        for begin in range(0, len(prompts), self.batch_size):
            ids = [self.policy.encode(prompt) for prompt in prompts[begin : begin + self.batch_size]]
            fitting = [each for each in ids if has_room(len(each), context)]
            decided = iter(
                decode_batch(
                    self.policy, fitting, marker_bias=marker_bias, context_length=context, batch_size=self.batch_size
                )
            )
            decisions += [next(decided) if has_room(len(each), context) else too_long(len(each)) for each in ids]
            if on_progress is not None:
                on_progress(len(decisions), len(prompts))
        return decisions


@dataclass
class StepDecider:
    """A step model (an artifact in its simulator) with its bundle's tokenizer, one prompt after another.

    ``hand_over_failures``: a prompt on which the model fails is handed over, with that as its reason, as the hybrid
    runtime does, unless it fails on all. Otherwise its error is raised.
    """

    model: StepModel
    spec: RoutingSpec
    vocabulary: Vocabulary
    encode: Callable[[str], list[int]]
    hand_over_failures: bool = False

    @property
    def routing(self) -> RoutingSpec:
        """The bundle's routing data."""
        return self.spec

    def decide(
        self, prompts: Sequence[str], marker_bias: float | None = None, on_progress: Progress | None = None
    ) -> list[Decision]:
        """See :class:`Decider`."""
        return self.decide_ids([self.encode(prompt) for prompt in prompts], marker_bias, on_progress)

    def decide_ids(
        self, prompts: Sequence[Sequence[int]], marker_bias: float | None = None, on_progress: Progress | None = None
    ) -> list[Decision]:
        """The same for prompts given as token ids."""
        context, decisions, failure = self.model.context_length, [], None
        for ids in prompts:
            if has_room(len(ids), context):
                session = DecodeSession(self.spec, self.vocabulary, len(ids), context, marker_bias)
                try:
                    decisions.append(decode(self.model, ids, session))
                except EdgekitError as error:
                    if not self.hand_over_failures or error.kind not in FAILURES:
                        raise
                    failure = error
                    decisions.append(device_failed(len(ids)))
            else:
                decisions.append(too_long(len(ids)))
            if on_progress is not None:
                on_progress(len(decisions), len(prompts))
        if failure is not None and all(decision.reason == "device_failed" for decision in decisions):
            raise failure
        return decisions


def decide_both(
    source: Decider, prompts: Sequence[str], marker_bias: float | None = None, on_progress: Progress | None = None
) -> tuple[list[Decision], list[Decision]]:
    """(as it decides at ``marker_bias``, None: its own; what each prompt becomes if nothing is handed off by marker).

    Decoded once, with the marker forbidden: the other follows from the margins.
    """
    solo = source.decide(prompts, SOLO, on_progress)
    bias = source.routing.marker_bias if marker_bias is None else marker_bias
    return [decision_at(decision, bias, source.routing, source.vocabulary) for decision in solo], solo


def call_scores(solo: Sequence[Decision]) -> list[float]:
    """How readily each prompt calls: its largest margin; +inf where it goes to the cloud for want of an answer."""
    return [math.inf if decision.called else largest_margin(decision.margins, 0.0) for decision in solo]


def cloud_correct(
    decisions: Sequence[Decision], problems: Sequence[Problem], task: Task, cloud: Cloud | None
) -> list[bool | None]:
    """Whether the cloud answers each prompt rightly; None for a kept one that nobody asks a real cloud about.

    Without a cloud nothing is answered rightly; the oracle costs nothing, so it is asked everything. Raises
    :class:`EdgekitError` if the cloud cannot be had.
    """
    if cloud is None:
        return [False] * len(decisions)
    asks_all = isinstance(cloud, OracleCloud)
    asked = [row for row, decision in enumerate(decisions) if decision.called or asks_all]
    answers = dict(zip(asked, answer_all(cloud, [problems[row] for row in asked]), strict=True))
    return [task.grade(p, answers[row]) if row in answers else None for row, p in enumerate(problems)]


@dataclass(frozen=True)
class Evaluation:
    """A report and, per problem, whether its solo answer is right, how readily it calls, how likely the cloud is right.

    ``scores``: see :func:`call_scores`. ``cloud_right``: see :func:`edgekit.evaluate.metrics.expected_cloud`.
    ``records``: a problem and what became of it, as JSON data (see :func:`edgekit.evaluate.records.record`).
    """

    report: EvalReport
    local_correct: list[bool]
    scores: list[float]
    cloud_right: list[float]
    records: list[dict[str, Any]]
    judged: list[bool] | None = None
    """What a judge says of the same answers, if one was asked."""


def evaluate(
    source: Decider,
    task: Task,
    problems: Sequence[Problem],
    cloud: Cloud | None,
    *,
    routing: RoutingSpec | None = None,
    on_progress: Progress | None = None,
    judge: Task | None = None,
) -> Evaluation:
    """Decide ``problems`` and report; ``routing`` None means the source's own, else its bias and calibration count.

    ``judge`` grades the device's answers too.

    Raises :class:`EdgekitError` if there is no problem, or the cloud cannot be had.
    """
    if not problems:
        raise EdgekitError("nothing to evaluate: 0 problems. A report needs at least one. Raise --n.")
    routing = routing or source.routing
    prompts, bias = [problem.prompt for problem in problems], routing.marker_bias
    natural, solo = decide_both(source, prompts, bias, on_progress)
    gather_references(task, problems)
    local = [task.grade(problem, decision.answer) for problem, decision in zip(problems, solo, strict=True)]
    there = cloud_correct(natural, problems, task, cloud)
    check = check_calibration(routing, sum(decision.called for decision in natural), len(natural))
    report = summarize(natural, local, there, routing, bias, check)
    judged = None if judge is None else [judge.grade(p, d.answer) for p, d in zip(problems, solo, strict=True)]
    scores = call_scores(solo)
    records = [
        {
            "id": problem.id, "prompt": problem.prompt, **record(decision, cloud_is if decision.called else alone),
            "right_alone": alone, "cloud_right": cloud_is, "margin": score if math.isfinite(score) else None,
        }
        for problem, decision, alone, cloud_is, score in zip(problems, natural, local, there, scores, strict=True)
    ]  # fmt: skip
    return Evaluation(report, local, scores, expected_cloud(there), records, judged)
