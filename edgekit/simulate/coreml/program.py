"""Load one function of an ML Program into a list of numpy calls, and run it over its states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import BundleError, EdgekitError
from edgekit.simulate.coreml.operations import OPERATIONS
from edgekit.simulate.coreml.package import Package, TensorType, tensor_type

Array = NDArray[Any]
States = dict[str, Array]
"""State name -> its array; arrays are replaced by writes, never changed in place."""

STATE_OPERATIONS = ("read_state", "write_state")


@dataclass
class _Step:
    """One operation: ``run`` of the values at ``inputs`` gives those at ``outputs``, or a state is read or written."""

    name: str
    inputs: list[int]
    outputs: list[int]
    types: list[TensorType]
    run: Callable[..., Any] | None = None
    reads: str | None = None
    writes: str | None = None


@dataclass
class Program:
    """A function ready to run. ``inputs`` and ``states`` give the types it expects."""

    name: str
    inputs: dict[str, TensorType] = field(default_factory=dict)
    states: dict[str, TensorType] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    _slots: dict[str, int] = field(default_factory=dict)
    _values: list[Any] = field(default_factory=list)
    _steps: list[_Step] = field(default_factory=list)
    _checked: bool = False

    def zero_states(self) -> States:
        """Fresh states, as Core ML hands them out."""
        return {name: np.zeros(type_.shape, type_.dtype) for name, type_ in self.states.items()}

    def run(self, inputs: dict[str, Array], states: States) -> dict[str, Array]:
        """Execute on ``inputs`` by name, reading and writing ``states``; returns the outputs by name.

        Raises EdgekitError naming the operation that failed, or that did not yield its declared type.
        """
        values = list(self._values)
        for name, type_ in self.inputs.items():
            given = inputs[name]
            if given.shape != type_.shape or given.dtype != type_.dtype:
                raise EdgekitError(
                    f"bad input {name} of {self.name}: {given.dtype} {given.shape}. "
                    f"It takes {np.dtype(type_.dtype)} {type_.shape}. Pass that."
                )
            values[self._slots[name]] = given
        for step in self._steps:
            if step.reads is not None:
                values[step.outputs[0]] = states[step.reads]
            elif step.writes is not None:
                written = values[step.inputs[0]]
                if not self._checked:
                    _check_types(step, (written,), self.name)
                states[step.writes] = written
            elif step.run is not None:
                self._execute(step, step.run, values)
        self._checked = True
        return {name: values[self._slots[name]] for name in self.outputs}

    def _execute(self, step: _Step, run: Callable[..., Any], values: list[Any]) -> None:
        try:
            result = run(*[values[slot] for slot in step.inputs])
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
            _check_types(step, results, self.name)

    def slot(self, name: str) -> int:
        """The place of a value, made on first use."""
        if name not in self._slots:
            self._slots[name] = len(self._values)
            self._values.append(None)
        return self._slots[name]


def load_program(package: Package, function: str) -> Program:
    """Prepare a function of ``package``; constants and what depends on constants alone is computed here.

    Raises EdgekitError naming every operation the simulator does not know, before any runs.
    """
    if function not in package.program.functions:
        raise BundleError(f"no function {function} in {package.path}. It has {package.functions}. Export it again.")
    spec = package.program.functions[function]
    block = spec.block_specializations[spec.opset]
    known = {*OPERATIONS, *STATE_OPERATIONS, "const"}
    unknown = sorted({op.type for op in block.operations if op.type not in known})
    if unknown:
        raise EdgekitError(
            f"unknown Core ML operation: {', '.join(unknown)} in {function} of {package.path}. "
            "The simulator does not guess. Add it to edgekit/simulate/coreml/operations.py."
        )
    program = Program(function)
    for given in spec.inputs:
        kind = program.states if given.type.WhichOneof("type") == "stateType" else program.inputs
        kind[given.name] = tensor_type(given.type, given.name)
        program.slot(given.name)
    constants: dict[str, Any] = {}
    for op in block.operations:
        if op.type == "const":
            constants[op.outputs[0].name] = package.value(op.attributes["val"])
        elif op.type in STATE_OPERATIONS:
            _add_state_step(program, op, constants)
        else:
            _add_step(program, package, op, constants)
    program.outputs = list(block.outputs)
    _drop_unused(program)
    return program


def _add_state_step(program: Program, op: Any, constants: dict[str, Any]) -> None:
    state = op.inputs["input"].arguments[0].name
    if state not in program.states:
        raise BundleError(f"unknown state: {state} in {program.name}. The function declares none. Export it again.")
    if op.type == "read_state":
        types = [tensor_type(output.type, output.name) for output in op.outputs]
        program._steps.append(_Step(op.type, [], [program.slot(op.outputs[0].name)], types, reads=state))
        return
    source = op.inputs["data"].arguments[0].name
    slot = program.slot(source)
    if source in constants:
        program._values[slot] = constants[source]
    program._steps.append(_Step(f"write_state {state}", [slot], [], [program.states[state]], writes=state))


def _add_step(program: Program, package: Package, op: Any, constants: dict[str, Any]) -> None:
    name = f"{op.type} {op.outputs[0].name}"
    node = _OperationNode(package, op, constants, name)
    run = OPERATIONS[op.type](node)
    ignored = sorted(set(op.inputs) - node.used)
    if ignored:
        raise node.refuse(f"parameter {', '.join(ignored)}")
    types = [tensor_type(output.type, output.name) for output in op.outputs]
    step = _Step(name, [], [], types, run)
    if all(constant for _, constant, _ in node.arguments):
        results = run(*[value for _, _, value in node.arguments])
        results = results if len(op.outputs) > 1 else (results,)
        _check_types(step, results, program.name)
        constants.update({output.name: result for output, result in zip(op.outputs, results, strict=True)})
        return
    for argument, constant, value in node.arguments:
        slot = program.slot(argument)
        if constant:
            program._values[slot] = value
        step.inputs.append(slot)
    step.outputs = [program.slot(output.name) for output in op.outputs]
    program._steps.append(step)


def _check_types(step: _Step, results: tuple[Any, ...], function: str) -> None:
    for type_, result in zip(step.types, results, strict=True):
        if result.shape != type_.shape or result.dtype != type_.dtype:
            raise EdgekitError(
                f"simulator and program disagree: {step.name} of {function} gave {result.dtype} {result.shape}. "
                f"The program says {np.dtype(type_.dtype)} {type_.shape}. Report it to edgekit."
            )


def _drop_unused(program: Program) -> None:
    """Forget steps nothing reads, such as a state's value before a whole write."""
    needed = {program.slot(name) for name in program.outputs}
    kept: list[_Step] = []
    for step in reversed(program._steps):
        if step.writes is not None or needed.intersection(step.outputs):
            needed.update(step.inputs)
            kept.append(step)
    program._steps = kept[::-1]


class _OperationNode:
    """The view of one operation that a builder gets (:class:`edgekit.simulate.coreml.operations.Node`)."""

    def __init__(self, package: Package, op: Any, constants: dict[str, Any], name: str) -> None:
        self.package, self.op, self.constants, self.name = package, op, constants, name
        self.used: set[str] = set()
        self.arguments: list[tuple[str, bool, Any]] = []  # (value's name, whether constant, the constant)

    def has(self, name: str) -> bool:
        return name in self.op.inputs

    def take(self, name: str) -> None:
        self._need(name)
        if len(self.op.inputs[name].arguments) != 1:
            raise self.refuse(f"several tensors as {name}")
        self.take_all(name)

    def take_all(self, name: str) -> None:
        self._need(name)
        for index, binding in enumerate(self.op.inputs[name].arguments):
            if binding.WhichOneof("binding") == "value":
                inline = f"{self.op.outputs[0].name}.{name}.{index}"
                self.arguments.append((inline, True, self.package.value(binding.value)))
            else:
                self.arguments.append((binding.name, binding.name in self.constants, self.constants.get(binding.name)))

    def constant(self, name: str, default: Any = ...) -> Any:
        if not self.has(name) and default is not ...:
            return default
        self._need(name)
        binding = self.op.inputs[name].arguments[0]
        if binding.WhichOneof("binding") == "value":
            return self.package.value(binding.value)
        if binding.name not in self.constants:
            raise self.refuse(f"a {name} computed at run time")
        return self.constants[binding.name]

    def refuse(self, why: str) -> EdgekitError:
        return EdgekitError(
            f"cannot simulate Core ML operation: {self.name}. It has {why}. "
            "Teach edgekit/simulate/coreml/operations.py, or change the export."
        )

    def _need(self, name: str) -> None:
        if not self.has(name):
            raise self.refuse(f"no {name}")
        self.used.add(name)
