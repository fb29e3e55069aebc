"""One function of an ML Program as a list of numpy calls, run over its states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import EdgekitError
from edgekit.simulate.coreml.half import as_half
from edgekit.simulate.coreml.package import FLOAT16, TensorType

Array = NDArray[Any]
States = dict[str, Array]
"""State name -> its array, halves held as float32; programs write into it, or replace it."""


@dataclass
class Step:
    """One operation: ``run`` of the values at ``inputs`` gives those at ``outputs``, or a state is read or written."""

    name: str
    inputs: list[int]
    outputs: list[int]
    types: list[TensorType]
    run: Callable[..., Any] | None = None
    reads: str | None = None
    writes: str | None = None
    frees: list[int] = field(default_factory=list)
    """Values nothing reads after this step."""


@dataclass
class Program:
    """A function ready to run. ``inputs``, ``outputs`` and ``states`` give the types it takes and yields."""

    name: str
    inputs: dict[str, TensorType] = field(default_factory=dict)
    states: dict[str, TensorType] = field(default_factory=dict)
    outputs: dict[str, TensorType] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    """Constants at their slots, None at the others."""
    slots: dict[str, int] = field(default_factory=dict)
    _checked: bool = False

    def slot(self, name: str) -> int:
        """The place of a value, made on first use."""
        if name not in self.slots:
            self.slots[name] = len(self.values)
            self.values.append(None)
        return self.slots[name]

    def zero_states(self) -> States:
        """Fresh states, as Core ML hands them out."""
        return {name: np.zeros(type_.shape, type_.held) for name, type_ in self.states.items()}

    def run(self, inputs: dict[str, Array], states: States) -> dict[str, Array]:
        """Execute on ``inputs`` by name, reading and writing ``states``; returns the outputs by name.

        Inputs and outputs have the types the program declares. Raises EdgekitError naming the operation
        that failed, or that did not yield its declared type.
        """
        values = list(self.values)
        for name, type_ in self.inputs.items():
            values[self.slots[name]] = self._given(name, type_, inputs[name])
        with np.errstate(over="ignore"):  # a half that overflows is infinity on the device too
            for step in self.steps:
                if step.run is not None:
                    self._execute(step, values)
                elif step.reads is not None:
                    values[step.outputs[0]] = states[step.reads]
                elif step.writes is not None:
                    self._write(step, values[step.inputs[0]], states)
                for slot in step.frees:
                    values[slot] = None
        self._checked = True
        return {name: values[self.slots[name]].astype(type_.dtype) for name, type_ in self.outputs.items()}

    def _given(self, name: str, type_: TensorType, given: Array) -> Array:
        if given.shape != type_.shape or given.dtype != type_.dtype:
            raise EdgekitError(
                f"bad input {name} of {self.name}: {given.dtype} {given.shape}. "
                f"It takes {np.dtype(type_.dtype)} {type_.shape}. Pass that."
            )
        return as_half(given) if type_.code == FLOAT16 else given

    def _write(self, step: Step, written: Array, states: States) -> None:
        assert step.writes is not None
        if not self._checked:
            check_types(step, (written,), self.name)
        if written is not states[step.writes]:  # else it was updated in place
            states[step.writes] = written.copy()  # a new array: what was read before keeps the old one

    def _execute(self, step: Step, values: list[Any]) -> None:
        assert step.run is not None
        try:
            result = step.run(*[values[slot] for slot in step.inputs])
        except (ValueError, IndexError, TypeError) as error:
            raise EdgekitError(
                f"Core ML program failed: {step.name} of {self.name}. {error}. Check the inputs, or export again."
            ) from None
        if len(step.outputs) == 1:
            values[step.outputs[0]] = result
            results: tuple[Any, ...] = (result,)
        else:
            results = result
            for slot, part in zip(step.outputs, results, strict=True):
                values[slot] = part
        if not self._checked:  # shapes and types are fixed, so the first run tells for all
            check_types(step, results, self.name)


def check_types(step: Step, results: tuple[Any, ...], function: str) -> None:
    """Raise EdgekitError if ``results`` are not of the types the step declares."""
    for type_, result in zip(step.types, results, strict=True):
        if result.shape != type_.shape or result.dtype != type_.held:
            raise EdgekitError(
                f"simulator and program disagree: {step.name} of {function} gave {result.dtype} {result.shape}. "
                f"The program says {np.dtype(type_.dtype)} {type_.shape}. Report it to edgekit."
            )
