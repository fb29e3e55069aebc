"""manifest.json: what a bundle is, what it was made from, and the hash of every file in it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from edgekit.errors import BundleError

BUNDLE_FORMAT = "edgekit-bundle"
BUNDLE_VERSION = 1
MANIFEST, ROUTING, TOKENIZER = "manifest.json", "routing.json", "tokenizer.json"


class FileEntry(BaseModel):
    """One file's content, pinned."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class ModelFacts(BaseModel):
    """What a runtime must know of the model."""

    vocab_size: int = Field(gt=0)
    layers: int = Field(gt=0)
    hidden_size: int = Field(gt=0)
    parameters: int = Field(gt=0)
    context_length: int = Field(gt=0)
    prefill_chunk: int = Field(gt=0)
    # What estimates of speed and memory count with; bundles made before these were recorded lack them.
    intermediate_size: int | None = Field(default=None, gt=0)
    attention_heads: int | None = Field(default=None, gt=0)
    key_value_heads: int | None = Field(default=None, gt=0)
    head_dim: int | None = Field(default=None, gt=0)
    tied_embeddings: bool | None = None


class RuntimeFacts(BaseModel):
    """The phone runtime the artifact is made for."""

    name: str
    version: str


class Manifest(BaseModel):
    """manifest.json. It holds no time, machine path or secret: the same inputs give the same manifest."""

    format: Literal["edgekit-bundle"] = "edgekit-bundle"
    version: int = BUNDLE_VERSION
    target: Literal["onnx", "executorch", "coreml"]
    artifact: str
    precision: str
    recipe: dict[str, Any]
    model: ModelFacts
    runtime: RuntimeFacts
    files: dict[str, FileEntry]
    provenance: dict[str, str]

    def to_json(self) -> str:
        """The file's text: keys in a fixed order, file names sorted."""
        data = self.model_dump(mode="json")
        data["files"] = dict(sorted(data["files"].items()))
        return json.dumps(data, indent=2) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Read a bundle's manifest. Raises :class:`BundleError`: absent, newer, or wrong (every fault named)."""
    path = folder / MANIFEST
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise BundleError(f"not a bundle: {folder}. It has no {MANIFEST}. Check the path.") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"unreadable manifest: {path}. {error}. Export the bundle again.") from None
    if not isinstance(data, dict) or data.get("format") != BUNDLE_FORMAT:
        raise BundleError(f"not a bundle: {folder}. {MANIFEST} is not an {BUNDLE_FORMAT}. Check the path.")
    version = data.get("version")
    if isinstance(version, int) and version > BUNDLE_VERSION:
        raise BundleError(f"newer bundle: {folder}. Format {version}, known up to {BUNDLE_VERSION}. Update edgekit.")
    try:
        manifest = Manifest.model_validate(data)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise BundleError(f"bad manifest: {path}. {faults}. Export the bundle again.") from None
    outside = [name for name in [*manifest.files, manifest.artifact] if not is_inside(name)]
    if outside:
        raise BundleError(f"bad manifest: {path}. It names files outside the bundle: {outside[0]!r}. Do not use it.")
    return manifest


def is_inside(name: str) -> bool:
    """True for a plain relative path that stays in its folder, written the one normal way."""
    parts = PurePosixPath(name).parts
    plain = bool(parts) and ".." not in parts and not PurePosixPath(name).is_absolute()
    return plain and "\\" not in name and "\0" not in name and ":" not in parts[0] and str(PurePosixPath(name)) == name


def describe_files(folder: Path) -> dict[str, FileEntry]:
    """Size and hash of every file under ``folder`` except the manifest, by relative POSIX path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): describe_file(path) for path in files}


def describe_file(path: Path) -> FileEntry:
    """Size and sha256 of one file, read in pieces."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(sha256=digest, size=path.stat().st_size)
