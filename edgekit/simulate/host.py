"""This host as a device: predict an artifact's decode speed from parts measured without it, then measure it.

A device estimate takes its rates from a table; here they are measured, so the way of counting can be checked. Two
probes, random models with the artifact's layer shapes and recipe but a quarter and half of its layers, give what a
layer costs in this runtime and what a step costs besides (head, embedding, the Python around it). Each probe is
loaded as often as it takes to reach the artifact's size, and its copies take turns, so that their weights come from
as far away as the artifact's would. Nor can a layer cost less than its bytes over the memory's measured bandwidth:

    step = rest + layers * max(layer, layer bytes / bandwidth)
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit.errors import EdgekitError
from edgekit.progress import Progress
from edgekit.routing.step_model import StepModel
from edgekit.simulate.turns import Turns, take_turns
from edgekit.simulate.workload import Workload

TimeTurns = Callable[[Sequence[Any], list[int], int], Turns]
"""(copies of a model, prompt, decode steps) -> what they took; see :func:`~edgekit.simulate.turns.take_turns`."""

FASTEST = 5
"""Steps that count. Other processes only ever slow a step down, and a long step more surely than a short one."""

TOLERANCE = 0.25
"""How far a prediction may lie from the measurement, as a share of it."""


@dataclass(frozen=True)
class HostCheck:
    """A prediction and the measurement beside it: both of the fastest steps, of a machine left alone."""

    prompt_tokens: int
    predicted_tokens_per_s: float
    measured_tokens_per_s: float
    predicted_over_measured: float
    median_tokens_per_s: float
    """The artifact's median step. Far below the measured speed, other processes took the cores meanwhile."""
    bandwidth_gb_s: float
    threads: int
    """Cores that a decode step keeps busy; the bandwidth was measured with as many."""
    layer_us: float
    rest_us: float
    memory_bound: bool
    """Whether reading the weights takes longer than a layer did in the probes."""

    @property
    def holds(self) -> bool:
        return abs(self.predicted_over_measured - 1) <= TOLERANCE


@dataclass
class StepTimes:
    """Decode steps of one model: seconds, and processor seconds per second."""

    seconds: list[float] = field(default_factory=list)
    cores: list[float] = field(default_factory=list)

    def add(self, turns: Turns) -> None:
        """Count the steps of ``turns`` too."""
        self.seconds += turns.seconds
        self.cores += turns.cores

    @property
    def threads(self) -> int:
        """Cores that the fastest steps kept busy."""
        fastest = sorted(zip(self.seconds, self.cores, strict=True))[:FASTEST]
        return max(1, round(statistics.median(cores for _, cores in fastest)))

    @property
    def undisturbed(self) -> float:
        """Median seconds of the fastest steps."""
        return statistics.median(sorted(self.seconds)[:FASTEST])


def probe_depths(layers: int) -> tuple[int, int]:
    """How many layers the two probes have. Raises :class:`EdgekitError` for a model too shallow to predict."""
    if layers < 4:
        raise EdgekitError(
            f"nothing to predict: {layers} layers. The probes need fewer than the model has, and two sizes. "
            "Use a model with four layers or more."
        )
    return layers // 4, layers // 2


def memory_bandwidth(size: int, threads: int, passes: int = 5) -> float:
    """Bytes a second that ``threads`` read from ``size`` bytes, again and again: the sum of each one's median piece.

    A piece is a MB, looked at for its maximum: one pass over memory, little arithmetic, seldom preempted.
    """
    parts = np.array_split(np.ones(max(size // 4, threads), np.float32), threads)
    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(lambda part: _read_rate(part, passes), parts))


def _read_rate(part: np.ndarray, passes: int) -> float:
    pieces = np.array_split(part, max(1, part.nbytes // 2**20))
    times = []
    for _ in range(passes):
        for piece in pieces:
            begin = time.perf_counter()
            piece.max()
            times.append(time.perf_counter() - begin)
    return part.nbytes / len(pieces) / statistics.median(times)


def predict_step(work: Workload, probes: Mapping[int, float], bandwidth: float) -> tuple[float, float, float]:
    """Seconds of (a decode step, one of its layers, the rest) from the probes' step seconds by depth."""
    (shallow, shallow_s), (deep, deep_s) = sorted(probes.items())
    layer = max((deep_s - shallow_s) / (deep - shallow), 0.0)
    rest = max(shallow_s - shallow * layer, 0.0)
    layer_bytes = (work.weight_bytes - work.head_bytes) / work.layers
    layer = max(layer, layer_bytes / bandwidth)
    return rest + work.layers * layer, layer, rest


def check_host(
    work: Workload,
    model: StepModel,
    probes: Mapping[int, Sequence[StepModel]],
    prompt: list[int],
    steps: int,
    rounds: int = 9,
    on_progress: Progress | None = None,
    time_turns: TimeTurns = take_turns,
) -> HostCheck:
    """Measure ``probes`` (copies, by depth), bandwidth and ``model`` in turns; predict from the first two only.

    ``time_turns`` times the models where they are.
    """
    warm, times, probed = StepTimes(), StepTimes(), {depth: StepTimes() for depth in probes}
    for copies in (*probes.values(), [model]):
        time_turns(copies, prompt, len(copies))
    warm.add(time_turns([model], prompt, min(steps, 16)))
    threads = warm.threads
    bandwidths = []
    for round_number in range(rounds):
        bandwidths.append(memory_bandwidth(work.weight_bytes, threads))
        for depth, copies in probes.items():
            probed[depth].add(time_turns(copies, prompt, steps))
        times.add(time_turns([model], prompt, steps))
        if on_progress is not None:
            on_progress(round_number + 1, rounds)
    bandwidth = statistics.median(bandwidths)
    seconds = {depth: probe.undisturbed for depth, probe in probed.items()}
    step, layer, rest = predict_step(work, seconds, bandwidth)
    layer_bytes = (work.weight_bytes - work.head_bytes) / work.layers
    return HostCheck(
        prompt_tokens=len(prompt),
        predicted_tokens_per_s=1 / step,
        measured_tokens_per_s=1 / times.undisturbed,
        predicted_over_measured=times.undisturbed / step,
        median_tokens_per_s=1 / statistics.median(times.seconds),
        bandwidth_gb_s=bandwidth / 1e9,
        threads=threads,
        layer_us=layer * 1e6,
        rest_us=rest * 1e6,
        memory_bound=layer <= layer_bytes / bandwidth,
    )
