"""Core ML: one .mlpackage (ML Program, iOS 18) with a prefill and a decode function over one KV state."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from edgekit.errors import BackendMissing, EdgekitError
from edgekit.export.capture import capture
from edgekit.export.recipe import ExportRecipe
from edgekit.export.targets.coreml_operators import edge_operators
from edgekit.policy.model import PolicyModel

ARTIFACT = "model.mlpackage"


def missing() -> str | None:
    """None if coremltools is installed, else a sentence saying how to get it."""
    if importlib.util.find_spec("coremltools") is None:
        return "coremltools is not installed. Run: pip install 'edgekit[coreml]'."
    return None


def runtime() -> dict[str, str]:
    """The phone runtime the artifact is made for, and what makes it."""
    return {"name": "Core ML (iOS 18)", "version": f"coremltools {importlib.metadata.version('coremltools')}"}


def lower(model: PolicyModel, recipe: ExportRecipe, folder: Path) -> Path:
    """Write ``folder/model.mlpackage`` from the quantized ``model``; returns its path.

    Functions ``prefill`` (token_ids (1, prefill_chunk)) and ``decode`` (token_ids (1, 1)) share the
    weights and the float16 states key_0, value_0, ...; both take int32 token_ids and position (1,)
    and return logits (1, vocab) float32.

    Raises BackendMissing without coremltools, EdgekitError for a recipe Core ML cannot run.
    """
    absent = missing()
    if absent:
        raise BackendMissing(f"cannot export to Core ML: {absent}")
    if recipe.quantize.activations != "float":
        raise EdgekitError(
            f"recipe {recipe.name} does not fit Core ML: activations {recipe.quantize.activations}. "
            "Its linears take float inputs. Use activations: float."
        )
    if recipe.prefill_chunk >= recipe.context_length:
        raise EdgekitError(
            f"recipe {recipe.name} does not fit Core ML: prefill_chunk {recipe.prefill_chunk} of a context of "
            f"{recipe.context_length}. A chunk must leave room to answer. Lower prefill_chunk."
        )
    target = folder / ARTIFACT
    with tempfile.TemporaryDirectory(dir=folder, prefix=".coreml.") as scratch, _quiet():
        parts = {"prefill": recipe.prefill_chunk, "decode": 1}
        try:
            for name, tokens in parts.items():
                _convert(model, recipe, tokens, Path(scratch, f"{name}.mlpackage"))
            _join(list(parts), Path(scratch), target)
        except (NotImplementedError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise EdgekitError(
                f"Core ML conversion failed: recipe {recipe.name}. {reason}. Report it to edgekit with the recipe."
            ) from error
    return target


def _convert(model: PolicyModel, recipe: ExportRecipe, tokens: int, path: Path) -> None:
    """Convert the decoder for ``tokens`` tokens a call into a package with the one function ``main``."""
    import coremltools as ct
    import numpy as np

    program = capture(model, recipe.context_length, tokens=tokens, stateful=True).run_decompositions({})
    precision = ct.precision.FLOAT16 if recipe.compute == "float16" else ct.precision.FLOAT32
    with edge_operators(recipe.compute):
        converted = ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS18,
            compute_precision=precision,
            skip_model_load=True,
            inputs=[
                ct.TensorType(name="token_ids", shape=(1, tokens), dtype=np.int32),
                ct.TensorType(name="position", shape=(1,), dtype=np.int32),
            ],
            outputs=[ct.TensorType(name="logits", dtype=np.float32)],
        )
    converted.save(str(path))


def _join(names: list[str], scratch: Path, target: Path) -> None:
    """Join single-function packages into one whose functions share equal weights."""
    from coremltools.models.utils import MultiFunctionDescriptor, save_multifunction

    functions = MultiFunctionDescriptor()
    for name in names:
        functions.add_function(str(scratch / f"{name}.mlpackage"), "main", name)
    functions.default_function_name = "decode"
    if target.exists():
        shutil.rmtree(target)
    save_multifunction(functions, str(target))
    # coremltools leaves the specification readable by its owner only, and a phone does not need its notes.
    for file in target.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    (target / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep coremltools' progress bars and its notes about this host off the terminal; errors still raise."""
    levels = {name: logging.getLogger(name).level for name in ("coremltools", "torch.utils._pytree")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
