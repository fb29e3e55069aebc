"""Opening a bundle: format, files and hashes checked first, then its tokenizer and routing data. No torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from tokenizers import Tokenizer

from edgekit.atomic_write import finish_replacement
from edgekit.bundle.conformance import CONFORMANCE, AnyCase, read_conformance
from edgekit.bundle.manifest import MANIFEST, ROUTING, TOKENIZER, Manifest, read_manifest
from edgekit.errors import BundleError, ErrorKind, listed
from edgekit.plain_file import open_plain
from edgekit.routing.decoder import Decision
from edgekit.routing.prompt_encoder import PromptEncoder, encoder_of
from edgekit.routing.prompt_tokens import read_tokenizer
from edgekit.routing.spec import RoutingSpec, load_routing
from edgekit.routing.turns import TURNS, TurnFormat, load_turns
from edgekit.routing.vocabulary import Vocabulary, load_vocabulary

LEFT_BY_SYSTEMS = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
"""What Finder and Explorer leave in folders that they show; nothing reads it, so it does no harm."""
MOST_FAULTS = 1000
"""Where looking for more that does not belong to a bundle ends."""
READ_ON_OPENING = frozenset({ROUTING, TOKENIZER, TURNS})
BLOCK = 2**23
"""Bytes hashed at once: few enough blocks that hashing seldom waits for the interpreter to be free."""


@dataclass(frozen=True)
class Bundle:
    """An opened bundle."""

    path: Path
    manifest: Manifest
    tokenizer: Tokenizer
    routing: RoutingSpec
    vocabulary: Vocabulary
    turns: TurnFormat | None = None
    archive: Path | None = None
    """What it was unpacked from, for a while, if from anything."""

    @property
    def name(self) -> str:
        """What its user calls it: the folder, or the archive."""
        return str(self.archive or self.path)

    @property
    def artifact(self) -> Path:
        """The model file (or package folder) for the target's runtime."""
        return self.path / self.manifest.artifact

    def encode(self, prompt: str) -> list[int]:
        """Token ids of the rendered ``prompt``, ready for prefill."""
        return self.prompt_tokenizer.encode(self.routing.parts(prompt), self.routing.delimiters)

    @cached_property
    def prompt_tokenizer(self) -> PromptEncoder:
        """``tokenizer`` for prompts, in which user text is data."""
        return encoder_of(self.tokenizer)

    def conformance(self) -> list[AnyCase]:
        """The recorded cases."""
        return read_conformance(self.path / CONFORMANCE)

    def expected(self, case: AnyCase) -> Decision:
        """What a faithful device decides of ``case``, at the bias of its replay."""
        return case.expected(self.routing, self.vocabulary)


def open_bundle(path: Path, check: bool = True) -> Bundle:
    """Open the bundle at ``path``; ``check`` False skips sizes and hashes (a large artifact, already checked).

    Raises :class:`BundleError` for anything that is not a whole, unchanged bundle this version can read.
    """
    finish_replacement(path)
    manifest = read_manifest(path)
    if faults := misplaced(path, manifest, sizes=check):
        raise _damaged(path, faults)
    hashed = manifest.files.keys() if check else set()
    with ThreadPoolExecutor(1) as beside:
        # What is read here is read once its hash is right. The artifact's is computed meanwhile, on another core, and
        # nobody is told of the bundle before that is right too.
        others = beside.submit(_changed, path, manifest, hashed - READ_ON_OPENING)
        if faults := _changed(path, manifest, hashed & READ_ON_OPENING):
            raise _damaged(path, [*faults, *others.result()])
        opened = _read(path, manifest)
    if faults := others.result():
        raise _damaged(path, faults)
    return opened


def _damaged(path: Path, faults: list[str]) -> BundleError:
    return BundleError(f"damaged bundle: {path}. {listed(faults)}. Export the bundle again.")


def _read(path: Path, manifest: Manifest) -> Bundle:
    """The bundle, from files that are as the manifest says."""
    routing = load_routing(path / ROUTING)
    tokenizer_path = path / TOKENIZER
    vocabulary = load_vocabulary(tokenizer_path, routing)
    tokenizer = read_tokenizer(tokenizer_path)
    size = manifest.model.vocab_size
    used = [vocabulary.largest_id, *routing.stop_token_ids, *(each for ids in routing.marker.token_ids for each in ids)]
    if max(used) >= size:
        why = f"Token {max(used)}, but the model has {size}"
        raise BundleError(f"bad token ids: {path}. {why}. Export the bundle again.", ErrorKind.BAD_FIELD)
    return Bundle(path, manifest, tokenizer, routing, vocabulary, load_turns(path))


def misplaced(path: Path, manifest: Manifest, *, sizes: bool = True) -> list[str]:
    """What lies in the folder otherwise than its manifest says: absent, no plain file, of another size, or unlisted."""
    present, faults = _walk(path, set(manifest.files) | {MANIFEST})
    for name, entry in sorted(manifest.files.items()):
        if name not in present:
            faults.append(f"{name} is missing")
        elif sizes and present[name] != entry.size:
            faults.append(f"{name} has {present[name]} bytes instead of {entry.size}")
    faults += [f"the manifest lacks {name}" for name in (ROUTING, TOKENIZER, CONFORMANCE) if name not in manifest.files]
    if not any(name == manifest.artifact or name.startswith(manifest.artifact + "/") for name in manifest.files):
        faults.append(f"the manifest lacks the artifact {manifest.artifact}")
    return faults


def _changed(path: Path, manifest: Manifest, names: Collection[str]) -> list[str]:
    """Those of the files ``names`` whose bytes are not the manifest's."""
    changed = [name for name in sorted(names) if _sha256(path / name) != manifest.files[name].sha256]
    return [f"{name} has changed (sha256 differs)" for name in changed]


def _sha256(path: Path) -> str:
    digest, block = hashlib.sha256(), bytearray(max(1, min(BLOCK, path.stat().st_size)))
    view = memoryview(block)
    with open_plain(path) as file:
        while size := file.readinto(view):
            digest.update(view[:size])
    return digest.hexdigest()


def _walk(folder: Path, known: Collection[str]) -> tuple[dict[str, int], list[str]]:
    """(size of each plain file that is known, what else lies in ``folder``); links are not followed."""
    folders = {str(parent) for name in known for parent in PurePosixPath(name).parents}
    sizes: dict[str, int] = {}
    faults: list[str] = []
    left = ["."]
    while left and len(faults) <= MOST_FAULTS:
        inside = left.pop()
        for entry in os.scandir(folder / inside):
            name = entry.name if inside == "." else f"{inside}/{entry.name}"
            if entry.is_symlink():
                faults.append(f"{name} is a link")
            elif entry.name in LEFT_BY_SYSTEMS and name not in known and entry.is_file():
                continue
            elif entry.is_dir():
                if name in folders:
                    left.append(name)
                else:
                    faults.append(f"{name}/ is not in the manifest")
            elif name not in known:
                faults.append(f"{name} is not in the manifest")
            elif not entry.is_file():
                faults.append(f"{name} is no plain file")
            else:
                sizes[name] = entry.stat().st_size
    return sizes, sorted(faults)
