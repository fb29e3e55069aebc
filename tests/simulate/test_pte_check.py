"""What a model.pte must not hold, put into a program of edgekit's own: refused before a runtime reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from export.random_models import random_model

from edgekit.errors import BundleError
from edgekit.policy.traits import ModelConfig
from edgekit.quantize.quantized import quantize_model
from edgekit.recipes.lookup import find_recipe
from edgekit.simulate.pte_check import LARGEST_BUFFERS, check_program

pytest.importorskip("executorch")

from executorch.exir._serialize._program import PTEFile, deserialize_pte_binary, serialize_pte_binary
from executorch.exir.schema import Instruction, JumpFalseCall

from edgekit.export.targets import to_executorch


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = find_recipe("executorch_int4", "executorch").model_copy(update={"context_length": 64})
    model = quantize_model(random_model(ModelConfig(300, 64, 96, 1, 4, 2, 16, 64)), recipe.quantize)
    return to_executorch.lower(model, recipe, tmp_path_factory.mktemp("honest"))


def jump(plan: Any) -> None:
    plan.chains[0].instructions.append(Instruction(JumpFalseCall(cond_value_index=0, destination_instruction=0)))


def kernel(plan: Any) -> None:
    plan.operators[0].name = "mine::run"


def delegate(plan: Any) -> None:
    plan.delegates[0].id = "MineBackend"


def memory(plan: Any) -> None:
    plan.non_const_buffer_sizes[-1] = LARGEST_BUFFERS + 1


def name(plan: Any) -> None:
    plan.name = "backward"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (jump, "it jumps"),
        (kernel, "unknown operator mine::run"),
        (delegate, "unknown delegate MineBackend"),
        (memory, "bytes of memory"),
        (name, "no method forward"),
    ],
)
def test_a_program_that_edgekit_would_not_write_is_refused(
    honest: Path, tmp_path: Path, change: Callable[[Any], None], told: str
) -> None:
    check_program(honest)
    program = deserialize_pte_binary(honest.read_bytes()).program
    path = tmp_path / "model.pte"
    path.write_bytes(bytes(serialize_pte_binary(PTEFile(program=program))))
    check_program(path)
    change(program.execution_plan[0])
    path.write_bytes(bytes(serialize_pte_binary(PTEFile(program=program))))
    with pytest.raises(BundleError, match=told):
        check_program(path)


def test_a_program_that_is_cut_is_refused(honest: Path, tmp_path: Path) -> None:
    path, data = tmp_path / "model.pte", honest.read_bytes()
    for length in (0, 8, 40, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(BundleError, match="cannot load"):
            check_program(path)
