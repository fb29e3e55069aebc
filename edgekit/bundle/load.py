"""Opening a bundle: format, files and hashes checked first, then its tokenizer and routing data. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from edgekit.bundle.conformance import CONFORMANCE, ConformanceCase, read_conformance
from edgekit.bundle.manifest import MANIFEST, Manifest, describe_file, read_manifest
from edgekit.errors import BundleError
from edgekit.routing.spec import RoutingSpec, load_routing
from edgekit.routing.vocabulary import Vocabulary, load_vocabulary


@dataclass(frozen=True)
class Bundle:
    """An opened bundle."""

    path: Path
    manifest: Manifest
    tokenizer: Tokenizer
    routing: RoutingSpec
    vocabulary: Vocabulary

    @property
    def artifact(self) -> Path:
        """The model file (or package folder) for the target's runtime."""
        return self.path / self.manifest.artifact

    def encode(self, prompt: str) -> list[int]:
        """Token ids of the rendered ``prompt``, ready for prefill."""
        return self.tokenizer.encode(self.routing.render(prompt), add_special_tokens=False).ids

    def conformance(self) -> list[ConformanceCase]:
        """The recorded cases."""
        return read_conformance(self.path / CONFORMANCE)


def open_bundle(path: Path, check: bool = True) -> Bundle:
    """Open the bundle at ``path``; ``check`` False skips sizes and hashes (a large artifact, already checked).

    Raises :class:`BundleError` for anything that is not a whole, unchanged bundle this version can read.
    """
    manifest = read_manifest(path)
    faults = file_faults(path, manifest, hashes=check)
    if faults:
        raise BundleError(f"damaged bundle: {path}. {'; '.join(faults)}. Export the bundle again.")
    routing = load_routing(path / "routing.json")
    tokenizer_path = path / "tokenizer.json"
    vocabulary = load_vocabulary(tokenizer_path, routing)
    try:
        tokenizer = Tokenizer.from_file(str(tokenizer_path))
    except Exception as error:  # tokenizers raises bare Exception
        raise BundleError(f"unreadable tokenizer: {tokenizer_path}. {error}. Export the bundle again.") from None
    return Bundle(path, manifest, tokenizer, routing, vocabulary)


def file_faults(path: Path, manifest: Manifest, *, hashes: bool = True) -> list[str]:
    """Every way in which the folder differs from its manifest; empty if it does not."""
    faults = []
    for name, entry in sorted(manifest.files.items()):
        file = path / name
        if any(part.is_symlink() for part in (file, *file.parents) if part.is_relative_to(path) and part != path):
            faults.append(f"{name} is a link")
        elif not file.is_file():
            faults.append(f"{name} is missing")
        elif hashes and file.stat().st_size != entry.size:
            faults.append(f"{name} has {file.stat().st_size} bytes instead of {entry.size}")
        elif hashes and describe_file(file).sha256 != entry.sha256:
            faults.append(f"{name} has changed (sha256 differs)")
    present = {file.relative_to(path).as_posix() for file in path.rglob("*") if not file.is_dir()}
    faults += [f"{name} is not in the manifest" for name in sorted(present - set(manifest.files) - {MANIFEST})]
    needed = ("routing.json", "tokenizer.json", CONFORMANCE)
    faults += [f"the manifest lacks {name}" for name in needed if name not in manifest.files]
    if not any(name == manifest.artifact or name.startswith(manifest.artifact + "/") for name in manifest.files):
        faults.append(f"the manifest lacks the artifact {manifest.artifact}")
    return faults
