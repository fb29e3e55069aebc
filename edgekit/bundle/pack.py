"""Filling a bundle's folder around an artifact. The manifest is written last, over everything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.atomic_write import link_or_copy, new_directory, write_file
from edgekit.bundle.conformance import CONFORMANCE, AnyCase, conformance_text
from edgekit.bundle.manifest import (
    BUNDLE_FORMAT,
    BUNDLE_VERSION,
    MANIFEST,
    ROUTING,
    FallbackFacts,
    Manifest,
    ModelFacts,
    RuntimeFacts,
    describe_file,
    describe_files,
    read_manifest,
)
from edgekit.errors import BundleError
from edgekit.plain_file import TOKENIZER_BYTES, read_bytes
from edgekit.routing.spec import RoutingSpec
from edgekit.routing.turns import TURNS

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", TURNS)
LOADER_FILES = ("config.json", "generation_config.json", "special_tokens_map.json")
"""What Hugging Face's runtimes read beside the model; packed with the layout that they can run."""

README = """# edgekit bundle: {target}, {precision}

A language-model policy that answers by itself or calls for a cloud. Runtime: {runtime}.

- `{artifact}`: the model, {parameters:,} parameters, context of {context} tokens.
- `tokenizer.json`: text to token ids. `routing.json`: how to decode, and which tokens are the call for the cloud.
- `conformance.jsonl`: prompts with the decisions this bundle must make; replay them on the device.
- `manifest.json`: format, recipe, and the sha256 of every file.

{origin}

Check it: `edgekit verify .`
"""


def copy_document(source: Path, target: Path) -> None:
    """Copy what lies beside a model. Raises :class:`BundleError` if it is no plain file, or larger than any such is."""
    try:
        target.write_bytes(read_bytes(source, TOKENIZER_BYTES))
    except ValueError as error:
        raise BundleError(f"cannot read: {source}. {error}. Restore it, or remove it.") from None


@dataclass(frozen=True)
class BundleFacts:
    """What the manifest says besides the files."""

    target: str
    precision: str
    recipe: dict[str, Any]
    fallbacks: list[FallbackFacts]
    model: ModelFacts
    provenance: dict[str, str]


def pack(
    folder: Path,
    artifact: str,
    facts: BundleFacts,
    runtime: RuntimeFacts,
    *,
    policy_folder: Path,
    routing: RoutingSpec,
    cases: Sequence[AnyCase],
) -> Manifest:
    """Complete ``folder``, which holds the artifact already, to a bundle; the caller makes it appear whole."""
    standard = facts.recipe.get("layout") == "standard"
    for name in (*TOKENIZER_FILES, *(LOADER_FILES if standard else ())):
        if (policy_folder / name).exists():
            copy_document(policy_folder / name, folder / name)
    routing.save(folder / ROUTING)
    # Problems of a task that is not edgekit's own are nobody else's to read, until somebody ships the bundle.
    private = "@" in facts.provenance.get("task", "")
    write_file(folder / CONFORMANCE, conformance_text(cases), private=private)
    readme = README.format(
        target=facts.target,
        precision=facts.precision,
        runtime=f"{runtime.name} {runtime.version}",
        artifact=artifact,
        parameters=facts.model.parameters,
        context=facts.model.context_length,
        origin=_origin(facts.provenance),
    )
    write_file(folder / "README.md", readme)
    manifest = Manifest(
        format=BUNDLE_FORMAT,
        version=BUNDLE_VERSION,
        target=facts.target,
        artifact=artifact,
        precision=facts.precision,
        recipe=facts.recipe,
        fallbacks=facts.fallbacks,
        model=facts.model,
        runtime=runtime,
        files=describe_files(folder),
        provenance=facts.provenance,
    )
    write_file(folder / MANIFEST, manifest.to_json())
    return manifest


def _origin(provenance: Mapping[str, str]) -> str:
    """Where the bundle comes from, for people."""
    base = provenance.get("base", "not recorded")
    revision = f" ({provenance['base_revision']})" if "base_revision" in provenance else ""
    date = f", {provenance['date']}" if "date" in provenance else ""
    lines = (
        f"Version {provenance.get('bundle_version', 'not given')}, made with edgekit {provenance['edgekit']}{date}.",
        f"Base model: {base}{revision}. Its licence: {provenance.get('base_licence', 'not recorded')}.",
        f"Trained on: {provenance['task'] or 'not recorded'}.",
    )
    return "\n".join(f"- {line}" for line in lines)


def replace_routing(bundle: Path, routing: RoutingSpec) -> None:
    """Put a bundle with new routing data in the place of ``bundle``; every other file is the same one, linked.

    The old bundle is never touched: at every moment there is one whole bundle, the old or the new.
    """
    manifest = read_manifest(bundle)
    with new_directory(bundle, marker_file=MANIFEST) as new:
        for name in manifest.files:
            if name != ROUTING:
                link_or_copy(bundle / name, new / name)
        routing.save(new / ROUTING)
        files = manifest.files | {ROUTING: describe_file(new / ROUTING)}
        write_file(new / MANIFEST, manifest.model_copy(update={"files": files}).to_json())
