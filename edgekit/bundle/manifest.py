"""manifest.json: what a bundle is, what it was made from, and the hash of every file in it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field, ValidationError

from edgekit.errors import BundleError, ErrorKind
from edgekit.json_document import DocumentFault, check_document, first_faults
from edgekit.plain_file import open_plain, read_bytes
from edgekit.recipes.export_recipe import ExportRecipe
from edgekit.recipes.targets import TargetName

BUNDLE_FORMAT: Final = "edgekit-bundle"
BUNDLE_VERSION = 1
MANIFEST, ROUTING, TOKENIZER = "manifest.json", "routing.json", "tokenizer.json"

# Far beyond any model a phone runs, and far below what would exhaust a reader that believes them.
Width = Annotated[int, Field(gt=0, le=2**24)]
Count = Annotated[int, Field(gt=0, le=2**16)]


class FileEntry(BaseModel):
    """One file's content, pinned."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0, le=2**48)


class ModelFacts(BaseModel):
    """What a runtime must know of the model."""

    vocab_size: Width
    layers: Count
    hidden_size: Width
    parameters: int = Field(gt=0, le=2**48)
    context_length: Width
    prefill_chunk: Width
    # What estimates of speed and memory count with; bundles made before these were recorded lack them.
    intermediate_size: Width | None = None
    attention_heads: Count | None = None
    key_value_heads: Count | None = None
    head_dim: Width | None = None
    tied_embeddings: bool | None = None


class RuntimeFacts(BaseModel):
    """The phone runtime the artifact is made for."""

    name: str
    version: str
    """The version on the host that made it."""
    oldest: str | None = None
    """The oldest version that runs it, "1.23"; for Core ML, of iOS. Bundles made before this was known lack it."""


class Numbers(BaseModel):
    """What a weight's numbers are: 4 or 8 bits in groups of so many inputs (0: a scale per channel), or floats."""

    bits: int = Field(ge=1, le=32)
    group_size: int = Field(ge=0, le=2**24)


class FallbackFacts(BaseModel):
    """Weights whose names ``match``: what the recipe asked for, what they were given, and the reason."""

    match: str
    asked: Numbers
    given: Numbers
    reason: str


class Manifest(BaseModel):
    """manifest.json. It holds no machine path or secret, and no time but a given one: equal inputs, equal manifests."""

    format: Literal["edgekit-bundle"]
    version: int = Field(ge=1, le=BUNDLE_VERSION)
    target: TargetName
    artifact: str
    precision: str
    recipe: dict[str, Any]
    """As it was applied: with a rule of its own for each weight of ``fallbacks``."""
    fallbacks: list[FallbackFacts] = []
    """Weights that the recipe's groups did not divide; bundles made before it had to divide them lack the key."""
    model: ModelFacts
    runtime: RuntimeFacts
    files: dict[str, FileEntry]
    provenance: dict[str, str]
    """``edgekit`` (its version), ``task``, ``policy_sha256``; as far as known ``bundle_version``, ``base``,
    ``base_revision``, ``base_licence`` and ``date``. Words for people, but for ``task``: it may name a built-in one."""

    @property
    def artifact_bytes(self) -> int:
        """Size of the artifact: its file, or all in its folder, and what lies beside it under a name that goes on."""
        return sum(entry.size for name, entry in self.files.items() if name.startswith(self.artifact))

    @property
    def cache(self) -> str:
        """How the artifact's KV cache holds keys and values by ``recipe``, also by one that nothing here reads."""
        quantize = self.recipe.get("quantize")
        return str(quantize.get("cache", "float")) if isinstance(quantize, dict) else "float"

    def export_recipe(self) -> ExportRecipe:
        """``recipe``, read. Raises :class:`BundleError` if it is none."""
        try:
            return ExportRecipe.model_validate(self.recipe)
        except ValidationError as error:
            why = f"bad recipe in {MANIFEST}: {first_faults(error, ExportRecipe)}. Export the bundle again."
            raise BundleError(why, ErrorKind.BAD_FIELD) from None

    def to_json(self) -> str:
        """The file's text: keys in a fixed order, file names sorted."""
        data = self.model_dump(mode="json")
        data["files"] = dict(sorted(data["files"].items()))
        return json.dumps(data, indent=2) + "\n"


_TOLD = {
    ErrorKind.NOT_JSON: "unreadable manifest: {path}. {fault}. Export the bundle again.",
    ErrorKind.WRONG_FORMAT: "not a bundle: {folder}. Its " + MANIFEST + " is another file: {fault}. Check the path.",
    ErrorKind.NEWER: "newer bundle: {folder}. Its {fault}. Update edgekit.",
    ErrorKind.BAD_FIELD: "bad manifest: {path}. {fault}. Export the bundle again.",
}


def read_manifest(folder: Path) -> Manifest:
    """Read a bundle's manifest. Raises :class:`BundleError`: absent, newer, or wrong (every fault named)."""
    path = folder / MANIFEST
    try:
        manifest = check_document(read_bytes(path), Manifest, newest=BUNDLE_VERSION, document_format=BUNDLE_FORMAT)
    except (FileNotFoundError, NotADirectoryError):
        why = f"It has no {MANIFEST}. Check the path."
        raise BundleError(f"not a bundle: {folder}. {why}", ErrorKind.ABSENT) from None
    except OSError as error:
        raise BundleError(f"unreadable manifest: {path}. {error.strerror}. Export the bundle again.") from None
    except DocumentFault as fault:
        raise BundleError(_TOLD[fault.kind].format(folder=folder, path=path, fault=fault), fault.kind) from None
    except ValueError as error:  # no plain file, or too large
        raise BundleError(f"unreadable manifest: {path}. {error}. Export the bundle again.") from None
    outside = [name for name in [*manifest.files, manifest.artifact] if not is_inside(name)]
    if outside:
        raise BundleError(
            f"bad manifest: {path}. It names files outside the bundle: {outside[0]!r}. Do not use it.",
            ErrorKind.BAD_FIELD,
        )
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
    with open_plain(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(sha256=digest, size=path.stat().st_size)
