"""Looking at a model.pte before ExecuTorch does: could edgekit have written it, and does it fit its file?"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from edgekit.errors import BundleError
from edgekit.plain_file import open_plain
from edgekit.simulate.flatbuffer import Table, root

METHOD = "forward"
NAMESPACES = frozenset({"aten", "llama", "quantized_decomposed", "dim_order_ops"})
"""Kernels of the runtime itself; what a method may call besides its delegates."""
DELEGATES = frozenset({"XnnpackBackend"})
LARGEST_BUFFERS = 2**33
"""Bytes of activations and caches that a method may plan."""
MOST_INSTRUCTIONS = 100_000

# program.fbs: fields by their place in their table.
PLANS, SEGMENTS = 1, 4
NAME, CHAINS, OPERATORS, CALLED_DELEGATES, BUFFER_SIZES = 0, 5, 6, 7, 8
INSTRUCTIONS, INSTRUCTION_KIND = 2, 0
KINDS = {1, 2, 3, 5}
"""Calls of a kernel, calls of a delegate, moves, releases. Instruction 4 jumps, and so may loop."""
HEADER = struct.Struct("<4sIQQ")  # magic, its length, bytes of the program, where its segments begin
MAGIC = b"eh00"


def check_program(path: Path) -> None:
    """Raise :class:`BundleError` unless ``path`` is a program such as edgekit writes, all of it in the file."""
    try:
        with open_plain(path) as file:
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        fault = _fault(whole)
    except OSError as error:
        fault = str(error.strerror)
    except (ValueError, struct.error) as error:
        fault = f"it holds {error}"
    if fault is not None:
        raise BundleError(f"cannot load {path}: {fault}. edgekit writes no such program. Export it again.")


def _fault(whole: memoryview) -> str | None:
    if len(whole) < 8 + HEADER.size or bytes(whole[8:12]) != MAGIC:
        return "it is no ExecuTorch program"
    _, _, size, segments = HEADER.unpack_from(whole, 8)
    if size > len(whole):
        return f"its program has {size:,} bytes, the file {len(whole):,}"
    program = root(whole[:size])
    for segment in program.tables(SEGMENTS):
        if segments + segment.number(0, 8) + segment.number(1, 8) > len(whole):
            return "a segment of it ends beyond the file"
    plans = program.tables(PLANS)
    if METHOD not in [plan.text(NAME) for plan in plans]:
        return f"it has no method {METHOD}"
    return next((fault for plan in plans if (fault := _plan_fault(plan)) is not None), None)


def _plan_fault(plan: Table) -> str | None:
    for operator in plan.tables(OPERATORS):
        name = operator.text(0)
        if name.partition("::")[0] not in NAMESPACES:
            return f"unknown operator {name[:80]}"
    for delegate in plan.tables(CALLED_DELEGATES):
        if delegate.text(0) not in DELEGATES:
            return f"unknown delegate {delegate.text(0)[:80]}"
    planned = sum(plan.numbers(BUFFER_SIZES, 8))
    if planned > LARGEST_BUFFERS:
        return f"it plans {planned:,} bytes of memory, more than {LARGEST_BUFFERS:,}"
    kinds = [step.number(INSTRUCTION_KIND, 1) for chain in plan.tables(CHAINS) for step in chain.tables(INSTRUCTIONS)]
    if len(kinds) > MOST_INSTRUCTIONS or not set(kinds) <= KINDS:
        return "it jumps" if len(kinds) <= MOST_INSTRUCTIONS else f"it has {len(kinds):,} instructions"
    return None
