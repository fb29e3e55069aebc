"""Reading an experiment folder into arrays: results/*.json, runs/*/metrics.jsonl, experiment.yaml."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from edgekit.errors import EdgekitError
from edgekit.experiment.report.result_file import MadeDecisions, ResultFile
from edgekit.json_document import first_faults
from edgekit.plain_file import RECORD_BYTES, read_text
from edgekit.record_lines import read_records
from edgekit.yaml_document import read_yaml

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Decisions:
    """What was decided on the n test problems at one threshold; arrays of shape (n,).

    ``call_fraction`` is the share asked for, None at the policy's natural threshold. ``correct`` is after the
    hand-off. ``device_tokens`` are those generated before the answer or the hand-off.
    """

    call_fraction: float | None
    calls: Flags
    correct: Flags
    device_tokens: NDArray[np.int64]


@dataclass(frozen=True)
class Result:
    """One method trained and judged with one seed; arrays of shape (n,), in the order of ``ids``.

    ``scores``: higher is rather the cloud; +inf goes to the cloud whatever the threshold. ``trigger``: see
    :func:`edgekit.experiment.triggers.attack`; None where none was searched.
    """

    method: str
    seed: int
    algorithm: str | None
    task: str
    n_validation: int
    cloud_calls_in_training: int
    training_prompts: int
    ids: tuple[str, ...]
    difficulty: tuple[str, ...]
    local_correct: Flags
    cloud_correct: Flags
    scores: Floats
    budgets: dict[float, Decisions]
    natural: Decisions | None
    trigger: dict[str, Any] | None
    notes: str

    @property
    def routes(self) -> bool:
        """Whether any of the decisions made depends on the prompt: neither all kept nor all called."""
        made = [*self.budgets.values(), *([self.natural] if self.natural is not None else [])]
        return any(0 < int(decisions.calls.sum()) < len(self.ids) for decisions in made)


@dataclass(frozen=True)
class Experiment:
    """Everything the report is made of. ``methods[name][seed]`` and ``runs[algorithm][seed]``, seeds in order."""

    name: str
    config: dict[str, Any]
    methods: dict[str, dict[int, Result]]
    runs: dict[str, dict[int, list[dict[str, Any]]]]

    @property
    def seeds(self) -> list[int]:
        """Every seed some method has."""
        return sorted({seed for results in self.methods.values() for seed in results})

    @property
    def budgets(self) -> list[float]:
        """Every call fraction asked for, ascending."""
        return sorted({c for results in self.methods.values() for result in results.values() for c in result.budgets})

    @property
    def any_result(self) -> Result:
        """Some result, for what all of them share."""
        return next(iter(next(iter(self.methods.values())).values()))


def load_experiment(folder: Path) -> Experiment:
    """Read what is there; methods, seeds and runs may be missing.

    Raises :class:`EdgekitError` if there is no result, one cannot be read, or two were judged on different problems.
    """
    files = sorted((folder / "results").glob("*.json"))
    if not files:
        raise EdgekitError(f"nothing to report: {folder}. It holds no results/*.json. Run the experiment first.")
    results = sorted((_read_result(file) for file in files), key=lambda result: (result.method, result.seed))
    methods: dict[str, dict[int, Result]] = {}
    for result in results:
        other = results[0]
        if other.ids != result.ids:
            raise EdgekitError(
                f"results differ in their problems: {other.method}-seed{other.seed} and "
                f"{result.method}-seed{result.seed}. "
                "They cannot be compared. Delete one of the two and run the experiment again."
            )
        if result.seed in methods.setdefault(result.method, {}):
            who = f"{result.method} seed {result.seed}"
            raise EdgekitError(f"two results: {who} in {folder}. Only one can be meant. Delete the other's file.")
        methods[result.method][result.seed] = result
    config = folder / "experiment.yaml"
    try:
        settings = read_yaml(config) if config.exists() else {}
    except (OSError, ValueError) as error:
        raise EdgekitError(f"bad configuration: {config}. {error}. Restore it.") from None
    settings = settings if isinstance(settings, dict) else {}
    return Experiment(folder.resolve().name, settings, methods, _read_runs(folder / "runs"))


def _read_result(file: Path) -> Result:
    try:
        data = ResultFile.model_validate(json.loads(read_text(file, RECORD_BYTES)))
    except (OSError, RecursionError, ValueError) as error:
        why = first_faults(error, ResultFile) if isinstance(error, ValidationError) else str(error)
        raise EdgekitError(f"bad result: {file}. {why}. Delete it and run the experiment again.") from None
    test = data.test
    return Result(
        method=data.method,
        seed=data.seed,
        algorithm=data.algorithm,
        task=data.task,
        n_validation=data.n_validation,
        cloud_calls_in_training=data.cloud_calls_in_training,
        training_prompts=data.training_prompts,
        ids=tuple(test.ids),
        difficulty=tuple(map(str, test.difficulty)),
        local_correct=np.array(test.local_correct, np.bool_),
        cloud_correct=np.array(test.cloud_correct, np.bool_),
        scores=np.array([np.inf if score is None else score for score in test.scores], np.float64),
        budgets={each.call_fraction: _decisions(each) for each in data.budgets},
        natural=_decisions(data.natural) if data.natural is not None else None,
        trigger=data.trigger.model_dump() if data.trigger is not None else None,
        notes=data.notes or "",
    )


def _decisions(made: MadeDecisions) -> Decisions:
    return Decisions(
        made.call_fraction,
        np.array(made.calls, np.bool_),
        np.array(made.correct, np.bool_),
        np.array(made.device_tokens, np.int64),
    )


def _read_runs(folder: Path) -> dict[str, dict[int, list[dict[str, Any]]]]:
    """The lines of runs/ALGORITHM-seedS/metrics.jsonl; a line torn by a crash ends its run there."""
    runs: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for file in sorted(folder.glob("*-seed*/metrics.jsonl")):
        match = re.fullmatch(r"(.+)-seed(\d+)", file.parent.name)
        steps = [record for _, record in read_records(file, "step")]
        if match and steps:
            runs.setdefault(match[1], {})[int(match[2])] = steps
    return {algorithm: dict(sorted(seeds.items())) for algorithm, seeds in sorted(runs.items())}
