"""Read one function of a package into a :class:`Program`: constants computed, operations bound, states traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgekit.errors import BundleError, EdgekitError
from edgekit.simulate.coreml.half import round_to_half
from edgekit.simulate.coreml.operations import OPERATIONS, RETYPING, ROUNDED
from edgekit.simulate.coreml.package import FLOAT16, FLOAT32, Array, Package, TensorType, tensor_type
from edgekit.simulate.coreml.program import Program, Step, check_types

STATE_OPERATIONS = ("read_state", "write_state")


def load_program(package: Package, function: str) -> Program:
    """Prepare a function of ``package``; constants and what depends on constants alone is computed here.

    What one function dequantized, another one of the same package shares. Raises EdgekitError naming
    every operation the simulator does not know, before any runs, and BundleError for a program that makes no sense.
    """
    try:
        return _load(package, function)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise BundleError(f"malformed program: {function} of {package.path}. {why}. Export it again.") from None


def _load(package: Package, function: str) -> Program:
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
    loader = _Loader(package, Program(function), _sole_readers(block))
    for given in spec.inputs:
        loader.add_input(given)
    for op in block.operations:
        if op.type == "const":
            loader.add_constant(op)
        elif op.type in STATE_OPERATIONS:
            loader.add_state_step(op)
        else:
            loader.add_step(op)
    program = loader.program
    program.outputs = {name: loader.known(name) for name in block.outputs}
    _drop_unused(program)
    _free_early(program)
    return program


class _Loader:
    """A program being read: the constants and types of the values so far."""

    def __init__(self, package: Package, program: Program, overwritable: set[str]) -> None:
        self.package, self.program, self.overwritable = package, program, overwritable
        self.constants: dict[str, Any] = {}
        self.types: dict[str, TensorType] = {}

    def add_input(self, given: Any) -> None:
        is_state = given.type.WhichOneof("type") == "stateType"
        type_ = tensor_type(given.type, given.name)
        (self.program.states if is_state else self.program.inputs)[given.name] = type_
        self.define(given.name, type_)
        self.program.slot(given.name)

    def define(self, name: str, type_: TensorType) -> None:
        """A value made now. Raises BundleError if there is one of that name."""
        if name in self.types:
            raise BundleError(f"value made twice: {name} in {self.program.name}. One of them is lost. Export it again.")
        self.types[name] = type_

    def known(self, name: str) -> TensorType:
        """The type of a value made before. Raises BundleError if there is none."""
        if name not in self.types:
            raise BundleError(f"unknown value: {name} in {self.program.name}. Nothing makes it. Export it again.")
        return self.types[name]

    def add_constant(self, op: Any) -> None:
        output, value = op.outputs[0], op.attributes["val"]
        self.constants[output.name] = self.package.held(value)
        if value.type.WhichOneof("type") == "tensorType" and not isinstance(self.constants[output.name], str | list):
            self.types[output.name] = tensor_type(output.type, output.name)

    def add_state_step(self, op: Any) -> None:
        program = self.program
        state = op.inputs["input"].arguments[0].name
        if state not in program.states:
            raise BundleError(f"unknown state: {state} in {program.name}. The function declares none. Export it again.")
        if op.type == "read_state":
            output = op.outputs[0]
            self.define(output.name, tensor_type(output.type, output.name))
            step = Step(op.type, [], [program.slot(output.name)], [self.types[output.name]], reads=state)
        else:
            source = op.inputs["data"].arguments[0].name
            self.known(source)
            slot = program.slot(source)
            program.values[slot] = self.constants.get(source)
            step = Step(f"write_state {state}", [slot], [], [program.states[state]], writes=state)
        program.steps.append(step)

    def add_step(self, op: Any) -> None:
        program = self.program
        types = [tensor_type(output.type, output.name) for output in op.outputs]
        if op.type.startswith("constexpr_"):
            self._add_expression(op, types[0])
            self.define(op.outputs[0].name, types[0])
            return
        node = _OperationNode(self, op)
        run = self._bind(node, types)
        step = Step(node.name, [], [], types, run)
        if all(constant for _, constant, _ in node.arguments):
            results = run(*[value for _, _, value in node.arguments])
            self._keep(step, op, results if len(op.outputs) > 1 else (results,))
            self._define_outputs(op, types)
            return
        for argument, constant, value in node.arguments:
            if not constant:
                self.known(argument)
            slot = program.slot(argument)
            if constant:
                program.values[slot] = value
            step.inputs.append(slot)
        self._define_outputs(op, types)
        step.outputs = [program.slot(output.name) for output in op.outputs]
        program.steps.append(step)

    def _define_outputs(self, op: Any, types: list[TensorType]) -> None:
        for output, type_ in zip(op.outputs, types, strict=True):
            self.define(output.name, type_)

    def _add_expression(self, op: Any, type_: TensorType) -> None:
        """A compressed weight: dequantized once for all functions of the package."""
        key = self.package.stored_key(op)
        if key not in self.package.dequantized:
            node = _OperationNode(self, op)
            run = self._bind(node, [type_])
            self.package.dequantized[key] = run(*[value for _, _, value in node.arguments])
        step = Step(f"{op.type} {op.outputs[0].name}", [], [], [type_])
        self._keep(step, op, (self.package.dequantized[key],))

    def _keep(self, step: Step, op: Any, results: tuple[Array, ...]) -> None:
        check_types(step, results, self.program.name)
        self.constants.update({output.name: result for output, result in zip(op.outputs, results, strict=True)})

    def _bind(self, node: _OperationNode, types: list[TensorType]) -> Callable[..., Any]:
        run = OPERATIONS[node.op.type](node)
        ignored = sorted(set(node.op.inputs) - node.used)
        if ignored:
            raise node.refuse(f"parameter {', '.join(ignored)}")
        floats = {t.code for t in (*types, *node.types) if t is not None and t.code in (FLOAT16, FLOAT32)}
        if len(floats) > 1 and node.op.type not in RETYPING:
            raise EdgekitError(
                f"simulator and program disagree: {node.name} of {self.program.name} mixes float16 and float32. "
                "Core ML wants one type. Report it to edgekit."
            )
        if types[0].code == FLOAT16 and node.op.type in ROUNDED:
            return lambda *values: round_to_half(run(*values))
        return run


class _OperationNode:
    """The view of one operation that a builder gets (:class:`edgekit.simulate.coreml.node.Node`)."""

    def __init__(self, loader: _Loader, op: Any) -> None:
        self.loader, self.op = loader, op
        self.name = f"{op.type} {op.outputs[0].name}"
        self.used: set[str] = set()
        self.arguments: list[tuple[str, bool, Any]] = []  # (value's name, whether constant, the constant)
        self.types: list[TensorType | None] = []

    def has(self, name: str) -> bool:
        return name in self.op.inputs

    def take(self, name: str) -> None:
        self._need(name)
        if len(self.op.inputs[name].arguments) != 1:
            raise self.refuse(f"several tensors as {name}")
        self.take_all(name)

    def take_all(self, name: str) -> None:
        self._need(name)
        constants = self.loader.constants
        for index, binding in enumerate(self.op.inputs[name].arguments):
            if binding.WhichOneof("binding") == "value":
                inline = f"{self.op.outputs[0].name}.{name}.{index}"
                self.arguments.append((inline, True, self.loader.package.held(binding.value)))
                self.types.append(tensor_type(binding.value.type, inline))
            else:
                self.arguments.append((binding.name, binding.name in constants, constants.get(binding.name)))
                self.types.append(self.loader.types.get(binding.name))

    def constant(self, name: str, default: Any = ...) -> Any:
        if not self.has(name) and default is not ...:
            return default
        self._need(name)
        binding = self.op.inputs[name].arguments[0]
        if binding.WhichOneof("binding") == "value":
            return self.loader.package.held(binding.value)
        if binding.name not in self.loader.constants:
            raise self.refuse(f"a {name} computed at run time")
        return self.loader.constants[binding.name]

    def may_overwrite(self, name: str) -> bool:
        return self.op.inputs[name].arguments[0].name in self.loader.overwritable

    def refuse(self, why: str) -> EdgekitError:
        return EdgekitError(
            f"cannot simulate Core ML operation: {self.name}. It has {why}. "
            "Teach edgekit/simulate/coreml/operations.py, or change the export."
        )

    def _need(self, name: str) -> None:
        if not self.has(name):
            raise self.refuse(f"no {name}")
        self.used.add(name)


def _sole_readers(block: Any) -> set[str]:
    """Values that are a state read, updated by one slice_update and written back to the state.

    If a state is read once before its only write, and that read feeds the update alone, nothing can tell
    an update in place from a copy: a cache of megabytes is not copied for each token.
    """
    readers: dict[str, int] = {}
    for op in block.operations:
        for given in op.inputs.values():
            for binding in given.arguments:
                readers[binding.name] = readers.get(binding.name, 0) + 1
    reads: dict[str, list[str]] = {}  # state -> values read from it before its first write
    updates = {op.outputs[0].name: op for op in block.operations if op.type == "slice_update"}
    writes: dict[str, list[str]] = {}
    for op in block.operations:
        if op.type == "read_state":
            state = op.inputs["input"].arguments[0].name
            if state not in writes:
                reads.setdefault(state, []).append(op.outputs[0].name)
        elif op.type == "write_state":
            state, data = (op.inputs[name].arguments[0].name for name in ("input", "data"))
            writes.setdefault(state, []).append(data)
    sole = set()
    for state, written in writes.items():
        update = updates.get(written[0])
        before = reads.get(state, [])
        if update is None or len(written) != 1 or len(before) != 1 or readers[before[0]] != 1:
            continue
        if update.inputs["x"].arguments[0].name == before[0] and before[0] not in block.outputs:
            sole.add(before[0])
    return sole


def _drop_unused(program: Program) -> None:
    """Forget steps nothing reads, such as a state's value before a whole write."""
    needed = {program.slot(name) for name in program.outputs}
    kept: list[Step] = []
    for step in reversed(program.steps):
        if step.writes is not None or needed.intersection(step.outputs):
            needed.update(step.inputs)
            kept.append(step)
    program.steps = kept[::-1]


def _free_early(program: Program) -> None:
    """Let each value go after its last reader: the next one then lands in memory still in the CPU's cache."""
    held = {program.slot(name) for name in program.outputs}
    for step in reversed(program.steps):
        step.frees = [slot for slot in {*step.inputs, *step.outputs} if slot not in held]
        held.update(step.frees)
