"""Core ML: one .mlpackage (ML Program, iOS 18) with a prefill and a decode function over one KV state."""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit.chatter import logged_chatter
from edgekit.errors import EdgekitError
from edgekit.policy.model import ModelConfig, PolicyModel
from edgekit.progress import Say
from edgekit.recipes.export_recipe import ExportRecipe
from edgekit.recipes.targets.coreml import TARGET


def problems(config: ModelConfig, recipe: ExportRecipe) -> list[str]:  # noqa: ARG001
    """None that the target's record does not know: an ML Program takes any sizes."""
    return []


def lower(
    model: PolicyModel,
    recipe: ExportRecipe,
    folder: Path,
    *,
    stop_token_ids: Sequence[int] = (),  # noqa: ARG001  no place for them in this format
    say: Say | None = None,  # noqa: ARG001  short enough to say nothing
) -> Path:
    """Write ``folder/model.mlpackage`` from the quantized ``model``; returns its path.

    Functions ``prefill`` (token_ids (1, prefill_chunk)) and ``decode`` (token_ids (1, 1)) share the
    weights and the float16 states key_0, value_0, ...; both take int32 token_ids and position (1,)
    and return logits (1, vocab) float32 of their last token. Equal inputs give equal bytes.

    Raises EdgekitError where coremltools refuses the program.
    """
    target = folder / TARGET.artifact
    with tempfile.TemporaryDirectory(dir=folder, prefix=".coreml.") as scratch, logged_chatter():
        package = Path(scratch, TARGET.artifact)
        try:
            _write_package(_program(model, recipe), package)
        except (NotImplementedError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise EdgekitError(
                f"Core ML conversion failed: recipe {recipe.name}. {reason}. Report it to edgekit with the recipe."
            ) from error
        if target.exists():
            shutil.rmtree(target)
        package.replace(target)
    return target


def oldest_runtime(model: PolicyModel, recipe: ExportRecipe) -> str:  # noqa: ARG001
    """The iOS that the program is converted for: states and blockwise weights came with it (and with macOS 15)."""
    return "18"


def _program(model: PolicyModel, recipe: ExportRecipe) -> Any:
    """The coremltools Program with both functions."""
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil import Program

    from edgekit.export.targets.coreml_graph import DecoderGraph
    from edgekit.export.targets.coreml_weights import DecoderWeights

    Builder.name_count.clear()  # operations are numbered through a process's life; equal programs need equal names
    weights = DecoderWeights(model, recipe.compute == "float16")
    program = Program()
    for name, tokens in (("prefill", recipe.prefill_chunk), ("decode", 1)):
        program.add_function(name, DecoderGraph(model, weights, recipe, tokens).build())
    program.default_function_name = "decode"
    program.export_as_multifunction = True
    return program


def _write_package(program: Any, path: Path) -> None:
    """Serialize ``program`` as the .mlpackage ``path``.

    coremltools' own writer names the parts by random UUIDs and lets protobuf order its maps by hash; here
    the names follow from the parts' paths and the maps are sorted, so equal programs give equal bytes.
    """
    import coremltools as ct
    from coremltools.converters.mil.backend.mil.load import load

    author = "com.apple.CoreML"
    weights = path / "Data" / author / "weights"
    weights.mkdir(parents=True)
    specification = load(program, str(weights), specification_version=ct.target.iOS18, convert_to="mlprogram")
    model = path / "Data" / author / "model.mlmodel"
    model.write_bytes(specification.SerializeToString(deterministic=True))
    entries = {
        name: {"author": author, "description": description, "name": name, "path": f"{author}/{name}"}
        for name, description in (
            ("model.mlmodel", "CoreML Model Specification"),
            ("weights", "CoreML Model Weights"),
        )
    }
    names = {name: str(uuid.uuid5(uuid.NAMESPACE_URL, entry["path"])).upper() for name, entry in entries.items()}
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": {names[name]: entry for name, entry in entries.items()},
        "rootModelIdentifier": names["model.mlmodel"],
    }
    (path / "Manifest.json").write_text(json.dumps(manifest, indent=4) + "\n")
