"""The Core ML simulator: each operation against torch, and refusal of what it does not know."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edgekit.errors import BundleError, EdgekitError
from edgekit.simulate.coreml.half import round_to_half
from edgekit.simulate.coreml.loader import load_program
from edgekit.simulate.coreml.package import Package, open_package

pytestmark = pytest.mark.skipif(importlib.util.find_spec("coremltools") is None, reason="coremltools is not installed")
CODES = {"float16": 10, "float32": 11, "bool": 1, "int8": 21, "int16": 22, "int32": 23, "uint8": 31, "uint16": 32}
RANDOM = np.random.default_rng(0)


def schema() -> Any:
    from edgekit.simulate.coreml import package

    package._schema()
    return importlib.import_module("edgekit_coreml_proto.MIL_pb2")


def set_type(proto: Any, dtype: str, shape: tuple[int, ...]) -> None:
    proto.tensorType.dataType = CODES[dtype]
    proto.tensorType.rank = len(shape)
    for size in shape:
        proto.tensorType.dimensions.add().constant.size = size


def set_value(proto: Any, value: Any) -> None:
    if isinstance(value, str):
        proto.type.tensorType.dataType = 2
        proto.immediateValue.tensor.strings.values.append(value)
        return
    value = np.asarray(value)
    value = value.astype(np.int32) if value.dtype == np.int64 else value
    set_type(proto.type, str(value.dtype), value.shape)
    tensor = proto.immediateValue.tensor
    if value.dtype == np.int32:
        tensor.ints.values.extend(value.reshape(-1).tolist())
    elif value.dtype == np.bool_:
        tensor.bools.values.extend(value.reshape(-1).tolist())
    elif value.dtype == np.float32:
        tensor.floats.values.extend(value.reshape(-1).tolist())
    else:
        tensor.bytes.values = value.tobytes()


class Maker:
    """Writes a one-function ML Program."""

    def __init__(self) -> None:
        self.program = schema().Program()
        self.function = self.program.functions["main"]
        self.function.opset = "CoreML8"
        self.block = self.function.block_specializations["CoreML8"]

    def input(self, name: str, dtype: str, shape: tuple[int, ...], *, state: bool = False) -> None:
        given = self.function.inputs.add(name=name)
        set_type(given.type.stateType.wrappedType if state else given.type, dtype, shape)

    def operation(self, kind: str, outputs: dict[str, tuple[str, tuple[int, ...]]], **inputs: Any) -> None:
        """Inputs that are str starting with % name values; lists of them are variadic; others are constants."""
        op = self.block.operations.add(type=kind)
        for name, given in inputs.items():
            several = isinstance(given, list) and given and isinstance(given[0], str)
            for one in given if several else [given]:
                binding = op.inputs[name].arguments.add()
                if isinstance(one, str) and one.startswith("%"):
                    binding.name = one[1:]
                else:
                    set_value(binding.value, one)
        for name, (dtype, shape) in outputs.items():
            set_type(op.outputs.add(name=name).type, dtype, shape)

    def load(self, *outputs: str) -> Any:
        self.block.outputs.extend(outputs)
        return load_program(Package(Path("made.mlpackage"), self.program), "main")


def run(kind: str, arrays: dict[str, Any], constants: dict[str, Any], *results: tuple[str, tuple[int, ...]]) -> Any:
    """Execute one operation on ``arrays``; ``results`` are the declared output types."""
    maker = Maker()
    for name, array in arrays.items():
        maker.input(name, str(array.dtype), array.shape)
    declared = {f"out{i}": result for i, result in enumerate(results)}
    maker.operation(kind, declared, **{name: f"%{name}" for name in arrays}, **constants)
    out = maker.load(*declared).run(arrays, {})
    return out["out0"] if len(results) == 1 else tuple(out.values())


def half(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float16)


def wide(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x).float()


def same_half(got: np.ndarray, expected: torch.Tensor) -> None:
    """Equal to the float32 result rounded once to float16 (one unit in the last place for libm's sake)."""
    assert got.dtype == np.float16
    np.testing.assert_allclose(got.astype(np.float32), expected.half().float().numpy(), rtol=1.1e-3, atol=1e-6)


def test_elementwise_half_results_are_rounded_to_half() -> None:
    x, y = half(2, 5), half(1, 5)
    for kind, function in (("add", torch.add), ("sub", torch.sub), ("mul", torch.mul), ("real_div", torch.div)):
        same_half(run(kind, {"x": x, "y": y}, {}, ("float16", (2, 5))), function(wide(x), wide(y)))
    one = np.array([1.0], np.float16)
    assert run("add", {"x": one}, {"y": np.array([2.0**-12], np.float16)}, ("float16", (1,)))[0] == 1.0
    big = np.array([300.0], np.float16)  # 300^2 is beyond float16: the device would overflow too
    with np.errstate(over="ignore"):
        assert np.isinf(run("pow", {"x": big}, {"y": np.float16(2)}, ("float16", (1,)))[0])


def test_unary_functions_and_norm_pieces_match_torch() -> None:
    x = half(3, 8)
    cases = {
        "silu": F.silu,
        "relu": F.relu,
        "sigmoid": torch.sigmoid,
        "cos": torch.cos,
        "sin": torch.sin,
        "exp": torch.exp,
    }
    for kind, function in cases.items():
        same_half(run(kind, {"x": x}, {}, ("float16", (3, 8))), function(wide(x)))
    mean = run("reduce_mean", {"x": x}, {"axes": [-1], "keep_dims": True}, ("float16", (3, 1)))
    same_half(mean, wide(x).mean(-1, keepdim=True))
    positive = np.abs(x)
    rsqrt = run("rsqrt", {"x": positive}, {"epsilon": np.float32(0.25)}, ("float16", (3, 8)))
    same_half(rsqrt, torch.rsqrt(wide(positive) + 0.25))
    extreme = np.array([-60000.0, 60000.0], np.float16)
    assert run("silu", {"x": extreme}, {}, ("float16", (2,))).tolist() == [0.0, 59_968 + 32]


def test_products_match_torch_and_accumulate_wide() -> None:
    x, weight, bias = half(1, 3, 64), half(8, 64), half(8)
    got = run("linear", {"x": x}, {"weight": weight, "bias": bias}, ("float16", (1, 3, 8)))
    same_half(got, F.linear(wide(x), wide(weight), wide(bias)))
    many = np.ones((1, 4096), np.float16)  # a float16 accumulator would stick at 2048
    assert run("linear", {"x": many}, {"weight": many}, ("float16", (1, 1)))[0, 0] == 4096
    x, y = half(2, 3, 4), half(2, 5, 4)
    got = run("matmul", {"x": x, "y": y}, {"transpose_y": True}, ("float16", (2, 3, 5)))
    same_half(got, wide(x) @ wide(y).transpose(1, 2))


@pytest.mark.parametrize("masked", [True, False])
def test_attention_matches_torch(masked: bool) -> None:
    query, key, value = half(1, 2, 3, 16), half(1, 2, 5, 16), half(1, 2, 5, 16)
    mask = np.arange(5)[None, :] <= np.arange(3)[:, None] + 1
    arrays = {"query": query, "key": key, "value": value} | ({"attn_mask": mask} if masked else {})
    got = run("scaled_dot_product_attention", arrays, {}, ("float16", (1, 2, 3, 16)))
    torch_mask = torch.from_numpy(mask) if masked else None
    expected = F.scaled_dot_product_attention(wide(query), wide(key), wide(value), attn_mask=torch_mask)
    np.testing.assert_allclose(got.astype(np.float32), expected.numpy(), atol=2e-3)


def test_rearranging_operations_follow_torch() -> None:
    x = RANDOM.integers(-9, 9, (2, 4, 6)).astype(np.int32)
    given = {"x": x}
    t = torch.from_numpy(x)
    cases = [
        (run("reshape", given, {"shape": [4, -1]}, ("int32", (4, 12))), t.reshape(4, -1)),
        (run("transpose", given, {"perm": [2, 0, 1]}, ("int32", (6, 2, 4))), t.permute(2, 0, 1)),
        (run("expand_dims", given, {"axes": [0]}, ("int32", (1, 2, 4, 6))), t.unsqueeze(0)),
        (run("tile", given, {"reps": [1, 2, 1]}, ("int32", (2, 8, 6))), t.tile(1, 2, 1)),
    ]
    for got, expected in cases:
        np.testing.assert_array_equal(got, expected.numpy())
    first, second = run("split", given, {"split_sizes": [1, 5], "axis": -1}, ("int32", (2, 4, 1)), ("int32", (2, 4, 5)))
    np.testing.assert_array_equal(np.concatenate([first, second], -1), x)
    window = {
        "begin": [0, -1, 1],
        "end": [1, 1, 5],
        "stride": [1, 1, 2],
        "end_mask": [True, True, False],
        "squeeze_mask": [False, True, False],
    }
    np.testing.assert_array_equal(run("slice_by_index", given, window, ("int32", (2, 2))), x[:, -1, 1:5:2])


def test_gather_and_casts() -> None:
    table, ids = half(10, 4), np.array([[3, 0]], np.uint16)
    got = run("gather", {"x": table, "indices": ids}, {"axis": 0, "batch_dims": 0}, ("float16", (1, 2, 4)))
    np.testing.assert_array_equal(got, table[ids])
    with pytest.raises(EdgekitError, match=r"gather out0.*outside 0\.\.9"):
        run("gather", {"x": table, "indices": ids + np.uint16(9)}, {"axis": 0}, ("float16", (1, 2, 4)))
    x = np.array([-1.7, 2.9], np.float32)
    assert run("cast", {"x": x}, {"dtype": "int32"}, ("int32", (2,))).tolist() == [-1, 2]


def test_blockwise_weights_are_values_times_their_blocks_scale() -> None:
    maker = Maker()
    maker.input("x", "float16", (1, 4))
    data = np.array([[1, -2, 3, 4], [5, 6, -7, 8]], np.int8)
    scale = np.array([[0.5, 2.0], [1.0, 0.25]], np.float16)
    maker.operation("constexpr_blockwise_shift_scale", {"w": ("float16", (2, 4))}, data=data, scale=scale)
    maker.operation("linear", {"y": ("float16", (1, 2))}, x="%x", weight="%w")
    program = maker.load("y")
    rows = [program.run({"x": np.eye(4, dtype=np.float16)[i : i + 1]}, {})["y"][0].tolist() for i in range(4)]
    assert rows == [[0.5, 5.0], [-1.0, 6.0], [6.0, -1.75], [8.0, 2.0]]


def test_palettized_weights_look_up_their_groups_table() -> None:
    maker = Maker()
    maker.input("x", "float16", (1, 3))
    indices = np.array([[0, 1, 2], [3, 2, 1], [0, 0, 3], [1, 2, 3]], np.uint8)
    lut = np.array([[1, 2, 3, 4], [0.5, -1, 0.25, 8]], np.float16).reshape(2, 1, 4, 1)
    maker.operation("constexpr_lut_to_dense", {"w": ("float16", (4, 3))}, indices=indices, lut=lut)
    maker.operation("linear", {"y": ("float16", (1, 4))}, x="%x", weight="%w")
    program = maker.load("y")
    columns = [program.run({"x": np.eye(3, dtype=np.float16)[i : i + 1]}, {})["y"][0].tolist() for i in range(3)]
    assert columns == [[1, 4, 0.5, -1], [2, 3, 0.5, 0.25], [3, 2, 8, 8]]


def test_wide_halves_round_exactly_as_numpys_halves() -> None:
    bits = RANDOM.integers(0, 2**32, 200_000, dtype=np.uint32).view(np.float32)
    edges = np.float32([0, np.inf, -np.inf, 65519.996, 65520, -65520, 2**-24, 2**-25, 1.5 * 2**-24, 2**-14, 1 + 2**-11])
    near = np.concatenate([RANDOM.normal(size=100_000), RANDOM.normal(size=100_000) * 1e-5]).astype(np.float32)
    for numbers in (np.concatenate([bits, edges, near]), edges):  # the SIMD way and numpy's own
        with np.errstate(over="ignore", invalid="ignore"):
            expected = numbers.astype(np.float16).astype(np.float32)
            np.testing.assert_array_equal(round_to_half(numbers.copy()), expected)


def test_a_value_read_before_a_states_update_keeps_the_old_numbers() -> None:
    """An update in place is only for a state nobody else has read."""
    maker = Maker()
    maker.input("new", "float16", (1, 1))
    maker.input("cache", "float16", (2, 1), state=True)
    whole = ("float16", (2, 1))
    maker.operation("read_state", {"old": whole}, input="%cache")
    ends = {"begin": np.int32([0, 0]), "end": np.int32([1, 1])}
    maker.operation("slice_update", {"next": whole}, x="%old", update="%new", **ends)
    maker.operation("write_state", {}, input="%cache", data="%next")
    maker.operation("add", {"both": whole}, x="%old", y="%next")
    program = maker.load("both")
    states = program.zero_states()
    assert program.run({"new": np.float16([[3]])}, states)["both"].tolist() == [[3], [0]]
    assert program.run({"new": np.float16([[5]])}, states)["both"].tolist() == [[8], [0]]


def test_states_are_written_read_back_and_kept_between_runs() -> None:
    maker = Maker()
    maker.input("new", "float16", (1, 1))
    maker.input("begin", "int32", (2,))
    maker.input("end", "int32", (2,))
    maker.input("cache", "float16", (3, 1), state=True)
    kept = ("float16", (3, 1))
    maker.operation("read_state", {"old": kept}, input="%cache")
    maker.operation("slice_update", {"next": kept}, x="%old", update="%new", begin="%begin", end="%end")
    maker.operation("write_state", {}, input="%cache", data="%next")
    maker.operation("read_state", {"now": kept}, input="%cache")
    program = maker.load("now")
    states = program.zero_states()
    for slot, number in ((0, 1.5), (2, 2.5)):
        begin = np.array([slot, 0], np.int32)
        given = {"new": np.array([[number]], np.float16), "begin": begin, "end": begin + np.int32(1)}
        now = program.run(given, states)["now"]
    assert now.tolist() == [[1.5], [0.0], [2.5]]
    given["begin"], given["end"] = np.array([3, 0], np.int32), np.array([4, 1], np.int32)
    with pytest.raises(EdgekitError, match="slice_update next"):
        program.run(given, states)


def test_unknown_operations_and_parameters_are_named() -> None:
    maker = Maker()
    maker.input("x", "float16", (4,))
    maker.operation("erf", {"y": ("float16", (4,))}, x="%x")
    with pytest.raises(EdgekitError, match="unknown Core ML operation: erf in main"):
        maker.load("y")
    x = half(2, 2)
    with pytest.raises(EdgekitError, match=r"add out0.*parameter wrap"):
        run("add", {"x": x, "y": x}, {"wrap": True}, ("float16", (2, 2)))
    with pytest.raises(EdgekitError, match=r"cast out0.*dtype fp8"):
        run("cast", {"x": x}, {"dtype": "fp8"}, ("float16", (2, 2)))
    with pytest.raises(EdgekitError, match=r"gather out0.*batch_dims"):
        run("gather", {"x": x, "indices": np.zeros(2, np.int32)}, {"batch_dims": 1}, ("float16", (2,)))


def test_a_result_of_another_type_than_declared_is_an_error() -> None:
    x = half(2, 2)
    with pytest.raises(EdgekitError, match="simulator and program disagree: add out0"):
        run("add", {"x": x, "y": x.astype(np.float32)}, {}, ("float16", (2, 2)))


def test_what_is_not_a_package_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot read"):
        open_package(tmp_path / "none.mlpackage")
    (tmp_path / "Manifest.json").write_text("{}")
    with pytest.raises(BundleError, match=r"Manifest\.json is damaged"):
        open_package(tmp_path)
