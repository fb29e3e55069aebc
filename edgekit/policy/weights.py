"""The weights of a Hugging Face folder, found and read as transformers does, and checked before they are used."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from edgekit.errors import BundleError
from edgekit.policy.families.settings import named, quantized_model
from edgekit.policy.json_file import read_json

SINGLE, BIN = "model.safetensors", "pytorch_model.bin"
INDEX = ".index.json"
INDEX_BYTES = 64_000_000
UNREADABLE = (OSError, SafetensorError, RuntimeError, AttributeError, EOFError, LookupError, TypeError, ValueError)
"""What reading weights that are damaged, or are none, may raise."""
PRECEDENCE = (SINGLE, SINGLE + INDEX, BIN, BIN + INDEX)
"""The first of these that a folder has says where its weights are; others beside it are not read."""
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
BUFFERS = (torch.int64, torch.bool)
"""What positions and masks are kept in, beside the weights."""
_CONVERT = "M.from_pretrained('{folder}', {how}).save_pretrained('OUT')"
FOREIGN = {
    "*.gguf": _CONVERT.replace("{how}", "gguf_file='{file}'"),
    "tf_model.h5": _CONVERT.replace("{how}", "from_tf=True"),
    "flax_model.msgpack": _CONVERT.replace("{how}", "from_flax=True"),
}
"""Weights in other formats, and what makes a folder of them with M = transformers.AutoModelForCausalLM."""
ENDINGS = {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".npz", ".onnx", ".tflite", ".task", ".litertlm", ".pte"}
"""Of files that may be what a folder has for weights."""


@dataclass(frozen=True)
class WeightFiles:
    """Where a folder's weights are: ``source`` says so, a file of weights itself or the index of several."""

    source: Path
    shards: tuple[Path, ...]
    where: Mapping[str, Path] | None
    """The shard of each tensor, by the index; None: all tensors of the one file count."""

    def digest(self) -> str:
        """SHA-256 of the weights: the file's own, or of the list of the shards' names and hashes."""
        hashes = {}
        for shard in self.shards:
            with shard.open("rb") as file:
                hashes[shard.name] = hashlib.file_digest(file, "sha256").hexdigest()
        if self.where is None:
            return hashes[self.source.name]
        return hashlib.sha256("".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes)).encode()).hexdigest()


def find_weights(folder: Path) -> WeightFiles:
    """The weights that transformers would read. Raises :class:`BundleError` saying what was found instead."""
    source = next((folder / name for name in PRECEDENCE if (folder / name).is_file()), None)
    if source is None:
        raise BundleError(_no_weights(folder))
    if not source.name.endswith(INDEX):
        return WeightFiles(source, (source,), None)
    entries = read_json(source, INDEX_BYTES).get("weight_map")
    if not isinstance(entries, dict) or not all(isinstance(name, str) for name in entries.values()):
        raise BundleError(f"unreadable weights: {source}. It has no weight_map. Download the folder again.")
    if any(Path(name).name != name or not name or len(name) > 255 for name in entries.values()):
        raise BundleError(f"unreadable weights: {source}. It names files outside its folder. Check where it is from.")
    where = {tensor: folder / name for tensor, name in entries.items()}
    shards = tuple(sorted(set(where.values())))
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise BundleError(f"incomplete weights: {source}. The folder lacks {named(missing)}. Download it again.")
    return WeightFiles(source, shards, where)


def read_weights(
    files: WeightFiles, wanted: Mapping[str, torch.Size], copies: Mapping[str, str] | None = None
) -> dict[str, Tensor]:
    """The tensors of ``wanted`` (names and shapes) as float32, and none beside them.

    A file may also hold a tensor of ``copies``, which must then equal the one that it is a copy of. Raises
    :class:`BundleError` naming tensors that are missing, left over, of another shape, quantized or not finite.
    """
    tensors: dict[str, Tensor] = {}
    found: dict[str, Tensor] = {}
    faults, left, quantized = [], [], []
    for stored_name, tensor in _stored_tensors(files):
        name = stored_name if stored_name in wanted else f"model.{stored_name}"  # a folder of the bare decoder
        if tensor.dtype not in FLOATS and (name in wanted or tensor.dtype not in BUFFERS):
            quantized.append(f"{stored_name} ({str(tensor.dtype).removeprefix('torch.')})")
        elif name in wanted:
            fault = _fault(tensor, wanted[name])
            faults += [f"{name} {fault}"] if fault else []
            tensors[name] = tensor.float() if fault is None else tensor
        elif copies and stored_name in copies:
            found[stored_name] = tensor.float()
        elif not stored_name.endswith("rotary_emb.inv_freq"):
            left.append(stored_name)
    if quantized:
        raise BundleError(quantized_model(named(sorted(quantized)), files.source))
    missing = [name for name in wanted if name not in tensors]
    faults += [f"it lacks {named(missing)}"] if missing else []
    faults += [f"nothing reads its {named(sorted(left))}"] if left else []
    for name, tensor in found.items():
        original = tensors.get((copies or {})[name])
        if original is not None and not torch.equal(tensor, original):
            faults.append(f"{name} is not {(copies or {})[name]}, as tie_word_embeddings says")
    if faults:
        raise BundleError(
            f"unreadable weights: {files.source}. {named(faults, 4)}. Check that config.json belongs to them."
        )
    return tensors


def _fault(tensor: Tensor, shape: torch.Size) -> str | None:
    if tensor.shape != shape:
        return f"is {tuple(tensor.shape)} instead of {tuple(shape)}"
    if tensor.layout != torch.strided or tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        return "has not all the numbers that its shape says"
    read = tensor.float() if tensor.dtype == torch.float64 else tensor  # as what it is read
    return None if is_finite(read) else "holds numbers that are not finite"


def is_finite(tensor: Tensor) -> bool:
    """Whether every number is finite: one pass, and a second where a sum overflows."""
    return bool(tensor.sum(dtype=torch.float32).isfinite()) or bool(tensor.isfinite().all())


def _stored_tensors(files: WeightFiles) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors as they stand in the files, of an index those alone that it names."""
    for shard in files.shards:
        try:
            if shard.suffix == ".bin":
                stored = torch.load(shard, map_location="cpu", weights_only=True, mmap=True)
                names = [name for name, value in stored.items() if isinstance(name, str) and isinstance(value, Tensor)]
                yield from ((name, stored[name]) for name in names if _is_here(files, name, shard))
            else:
                with safe_open(shard, "pt") as reader:
                    names = [name for name in reader.keys() if _is_here(files, name, shard)]  # noqa: SIM118
                    yield from ((name, reader.get_tensor(name)) for name in names)
        except pickle.UnpicklingError:
            raise BundleError(
                f"unsafe weights: {shard}. Reading it would run code. Save the model as safetensors where you trust it."
            ) from None
        except UNREADABLE as error:
            reason = " ".join(str(error).split())[:160].rstrip(".")
            raise BundleError(f"unreadable weights: {shard}. {reason}. Download the file again.") from None


def _is_here(files: WeightFiles, name: str, shard: Path) -> bool:
    return files.where is None or files.where.get(name) == shard


def _no_weights(folder: Path) -> str:
    for pattern, how in FOREIGN.items():
        found = sorted(folder.glob(pattern))
        if found:
            command = how.format(folder=folder, file=found[0].name)
            return (
                f"no readable weights: {folder}. It has {found[0].name}. Convert it: "
                f'python -c "from transformers import AutoModelForCausalLM as M; {command}".'
            )
    own = sorted(file.name for file in folder.glob("consolidated*"))
    if own:
        return (
            f"no readable weights: {folder}. It has {named(own)}, the maker's own format. Use the folder that the "
            "maker publishes for transformers, or transformers' convert_*_weights_to_hf script for this family."
        )
    found = [file for pattern in ("*", "*/*") for file in folder.glob(pattern) if file.suffix in ENDINGS]
    others = sorted(file.relative_to(folder).as_posix() for file in found)
    instead = f"; it has {named(others)}, which edgekit does not read" if others else ""
    return f"no weights: {folder}. It has none of {', '.join(PRECEDENCE)}{instead}. Give the folder of the whole model."


def refuse_adapter(folder: Path) -> None:
    """Raise :class:`BundleError` if ``folder`` holds an adapter, alone or beside a model that it would change."""
    path = folder / "adapter_config.json"
    if not path.is_file():
        return
    adapter = read_json(path)
    if "peft_type" in adapter:
        kind, base = adapter["peft_type"], adapter.get("base_model_name_or_path")
        merge = (
            'python -c "from peft import AutoPeftModelForCausalLM as M; '
            f"M.from_pretrained('{folder}').merge_and_unload().save_pretrained('OUT')\""
        )
    else:  # MLX's, or another's
        kind, base = adapter.get("fine_tune_type", "adapter"), adapter.get("model")
        merge = "with the tool that made it (mlx_lm.fuse for one of MLX)"
    alone = not any((folder / name).is_file() for name in PRECEDENCE)
    otherwise = "" if alone else ", or remove adapter_config.json if the model beside it is meant"
    raise BundleError(
        f"adapter, not a model: {path} ({kind} on {base or 'an unnamed model'}). edgekit reads whole models. Merge it: "
        f"{merge}{otherwise}."
    )
