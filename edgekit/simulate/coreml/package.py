"""Read a .mlpackage as Core ML would: manifest, specification, and the weights file beside it."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import mmap
import struct
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import BackendMissing, BundleError, install_hint
from edgekit.plain_file import DOCUMENT_BYTES, open_plain, read_bytes

Array = NDArray[Any]

NEWEST_SPECIFICATION = 9  # iOS 18
MANIFEST_FILE = "Manifest.json"
SPECIFICATION = "com.apple.CoreML/model.mlmodel"
WEIGHTS = "com.apple.CoreML/weights/weight.bin"
"""Under Data: the two files beside the manifest. Nothing else of a package is read, whatever it names."""
WEIGHTS_NAME = "@model_path/weights/weight.bin"
LARGEST_SPECIFICATION = 256_000_000
LARGEST_IMMEDIATE = 2**20
"""Numbers of a constant that is not in the weights file, where one may stand for all."""
LARGEST_TENSOR = 2**31
_BLOB_SENTINEL = 0xDEADBEEF
_BLOB_HEADER = struct.Struct("<IIQQQ")  # sentinel, type, bytes, offset, padding bits

FLOAT16, FLOAT32, BOOL, STRING, INT8, INT16, INT32, INT4, UINT8, UINT16 = 10, 11, 1, 2, 21, 22, 23, 25, 31, 32
UINT4 = 35
NUMPY_TYPES: dict[int, type] = {
    BOOL: np.bool_,
    FLOAT16: np.float16,
    FLOAT32: np.float32,
    INT4: np.int8,
    INT8: np.int8,
    INT16: np.int16,
    INT32: np.int32,
    UINT8: np.uint8,
    UINT4: np.uint8,
    UINT16: np.uint16,
}
_BLOB_TYPES = {1: FLOAT16, 2: FLOAT32, 3: UINT8, 4: INT8, 6: INT16, 7: UINT16, 8: INT4, 11: UINT4, 14: INT32}


@dataclass(frozen=True)
class TensorType:
    """An ML Program tensor type; int4 values are held in int8 arrays."""

    code: int
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> type:
        """The numpy type of its values at the program's edge."""
        return NUMPY_TYPES[self.code]

    @property
    def held(self) -> type:
        """The numpy type the simulator keeps it in: halves are held as float32."""
        return np.float32 if self.code == FLOAT16 else NUMPY_TYPES[self.code]


@dataclass
class Package:
    """A parsed .mlpackage: its ML Program's protobuf, and its weights read on demand."""

    path: Path
    program: Any
    dequantized: dict[tuple[Any, ...], Array] = field(default_factory=dict)
    """Compressed weights in float32 by :meth:`stored_key`, shared by the functions that load from this package."""
    _weights: memoryview | None = None
    _wide: dict[tuple[str, int], Array] = field(default_factory=dict)

    @property
    def functions(self) -> list[str]:
        """Names of the program's functions."""
        return sorted(self.program.functions)

    def value(self, value: Any) -> Any:
        """The content of a protobuf Value: an array, a string, or a list of strings.

        Raises BundleError for what the weights file does not hold, or a type outside the tables.
        """
        type_ = tensor_type(value.type, str(self.path), strings=True)
        if value.WhichOneof("value") == "blobFileValue":
            return self._blob(value.blobFileValue.fileName, value.blobFileValue.offset, type_)
        tensor = value.immediateValue.tensor
        kind = tensor.WhichOneof("value")
        if type_.count > LARGEST_IMMEDIATE:
            raise BundleError(
                f"bad constant in {self.path}: {type_.shape}, {type_.count:,} numbers beside the weights. "
                "Export the bundle again."
            )
        if kind is None:
            return np.zeros(type_.shape, type_.dtype)
        held = getattr(tensor, kind).values
        if kind == "strings":
            return held[0] if not type_.shape else list(held)
        if kind == "bytes":
            return _unpack(held, type_, str(self.path))
        flat: Array = np.array(held, type_.dtype)
        if flat.size == 1:  # a lone value stands for all of them
            return np.full(type_.shape, flat[0], type_.dtype)
        return flat.reshape(type_.shape)

    def held(self, value: Any) -> Any:
        """:meth:`value` as the simulator holds it: halves as float32, widened once for each blob."""
        found = value.type.tensorType.dataType == FLOAT16
        if not found:
            return self.value(value)
        file = value.blobFileValue
        key = (file.fileName, file.offset)
        if not file.fileName:
            return self.value(value).astype(np.float32)
        if key not in self._wide:
            self._wide[key] = self.value(value).astype(np.float32)
        return self._wide[key]

    def stored_key(self, op: Any) -> tuple[Any, ...]:
        """Equal for operations of one type on the same constants of the weights file."""
        parts: list[Any] = [op.type]
        for name in sorted(op.inputs):
            for binding in op.inputs[name].arguments:
                file = binding.value.blobFileValue
                parts += [name, file.fileName, file.offset] if file.fileName else [binding.SerializeToString()]
        return tuple(parts)

    def _blob(self, name: str, offset: int, type_: TensorType) -> Array:
        if name != WEIGHTS_NAME:
            raise BundleError(
                f"bad weights: {self.path} names the file {name!r}. It has {WEIGHTS_NAME}. Do not use it."
            )
        if self._weights is None:
            self._weights = _mapped(self.path / "Data" / WEIGHTS)
        data = self._weights
        where = f"bad weights: {self.path} {name} at byte {offset}"
        if offset + _BLOB_HEADER.size > len(data):
            raise BundleError(f"{where}. The file ends before it. Export the bundle again.")
        sentinel, code, size, start, _ = _BLOB_HEADER.unpack_from(data, offset)
        if sentinel != _BLOB_SENTINEL or _BLOB_TYPES.get(code) != type_.code:
            raise BundleError(f"{where}. Its header does not announce this tensor. Export the bundle again.")
        if start + size > len(data):
            raise BundleError(f"{where}. The file ends before it. Export the bundle again.")
        return _unpack(data[start : start + size], type_, where)


def open_package(path: Path) -> Package:
    """Read ``path`` (a .mlpackage folder). Raises BundleError if it is not an iOS 18 ML Program."""
    try:
        manifest = json.loads(_read(path / MANIFEST_FILE, DOCUMENT_BYTES))
        named = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
    except (KeyError, TypeError, ValueError, RecursionError):
        raise BundleError(f"not a Core ML package: {path}. Its {MANIFEST_FILE} is damaged. Export it again.") from None
    if named != SPECIFICATION:
        raise BundleError(
            f"not an edgekit package: {path}. Its {MANIFEST_FILE} names {named!r}, not {SPECIFICATION}. Do not use it."
        )
    file = path / "Data" / SPECIFICATION
    from_bytes = _schema().Model.FromString
    try:
        model = from_bytes(_read(file, LARGEST_SPECIFICATION))
    except Exception as error:  # protobuf's DecodeError lives in whichever implementation is installed
        raise BundleError(f"not a Core ML model: {file}. {error}. Export it again.") from None
    if model.specificationVersion > NEWEST_SPECIFICATION:
        raise BundleError(
            f"Core ML model too new: {file} has specification {model.specificationVersion}. "
            f"The simulator knows up to {NEWEST_SPECIFICATION}. Update edgekit."
        )
    if model.WhichOneof("Type") != "mlProgram":
        raise BundleError(f"not an ML Program: {file} is a {model.WhichOneof('Type')}. Export it again.")
    return Package(path, model.mlProgram)


def tensor_type(type_: Any, where: str, *, strings: bool = False) -> TensorType:
    """The tensor type in a protobuf ValueType (a state's wrapped one); BundleError if it is none we know."""
    kind = type_.WhichOneof("type")
    if kind == "stateType":
        return tensor_type(type_.stateType.wrappedType, where)
    if kind == "listType" and strings:
        return TensorType(STRING, (type_.listType.length.constant.size,))
    code = type_.tensorType.dataType
    if kind != "tensorType" or (code not in NUMPY_TYPES and not (strings and code == STRING)):
        raise BundleError(f"unknown Core ML type: {kind} {code} in {where}. Report it to edgekit.")
    dimensions = type_.tensorType.dimensions
    if any(d.WhichOneof("dimension") != "constant" for d in dimensions):
        raise BundleError(f"dynamic shape in {where}. The simulator runs fixed shapes. Export it again.")
    made = TensorType(code, tuple(d.constant.size for d in dimensions))
    if made.count > LARGEST_TENSOR:
        raise BundleError(f"too large: {made.shape} in {where}. A tensor has at most 2^31 numbers. Export it again.")
    return made


def _unpack(data: bytes | memoryview, type_: TensorType, where: str) -> Array:
    count, size = type_.count, len(data)
    wanted = -(-count // 2) if type_.code in (INT4, UINT4) else count * np.dtype(type_.dtype).itemsize
    if size != wanted:
        raise BundleError(f"{where}: {size} bytes where the program wants {wanted}. Export the bundle again.")
    if type_.code == INT4:
        packed = np.frombuffer(data, np.uint8)
        flat: Array = np.empty(2 * packed.size, np.int8)
        # The low half comes first. Shifting left and back right as int8 extends the sign.
        flat[0::2] = (packed << 4).view(np.int8) >> 4
        flat[1::2] = packed.view(np.int8) >> 4
        flat = flat[:count]
    elif type_.code == UINT4:
        packed = np.frombuffer(data, np.uint8)
        flat = np.stack([packed & 15, packed >> 4], axis=-1).reshape(-1)[:count]
    else:
        flat = np.frombuffer(data, type_.dtype)
    return flat.reshape(type_.shape)


def _read(path: Path, limit: int) -> bytes:
    try:
        return read_bytes(path, limit)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise BundleError(f"cannot read {path}: {why}. Export the bundle again.") from None


def _mapped(path: Path) -> memoryview:
    """The file's bytes without reading them all: pages come, and may go, as weights are unpacked."""
    try:
        with open_plain(path) as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise BundleError(f"cannot read {path}. {error}. Export the bundle again.") from None


def _schema() -> types.ModuleType:
    """coremltools' protobuf classes for a model, without importing coremltools (8 s, and torch with it)."""
    name = "edgekit_coreml_proto"
    if name not in sys.modules:
        found = importlib.util.find_spec("coremltools")
        if found is None or found.origin is None:
            raise BackendMissing(
                f"cannot read Core ML packages: coremltools is not installed. {install_hint('coreml')}."
            )
        package = types.ModuleType(name)
        package.__path__ = [str(Path(found.origin).parent / "proto")]
        sys.modules[name] = package
    return importlib.import_module(f"{name}.Model_pb2")
