"""Runs artifacts of every shipped ONNX recipe in other versions of ONNX Runtime and says which of them suffice.

Usage: .venv/bin/python tests/export/try_onnxruntime.py 1.22.1 1.23.2 1.24.2

Each version is installed into a temporary folder by pip. Exit code 1 if an artifact fails in a version from which on
edgekit says that it runs (``runtime.oldest`` of a manifest).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

import edgekit
from edgekit.errors import ConfigError
from edgekit.export.plan import fit_to_model
from edgekit.export.targets import get_lowering
from edgekit.policy.model import PolicyModel
from edgekit.policy.reference import ReferenceModel
from edgekit.policy.rope import Rope
from edgekit.policy.traits import LayerTraits, ModelConfig
from edgekit.quantize.quantized import quantize_model
from edgekit.recipes.lookup import find_recipe, named_recipes

CONTEXT, PROMPT = 128, 17
LLAMA = ModelConfig(300, 64, 128, 2, 4, 2, 16, CONTEXT)
ALL = replace(
    LLAMA,
    layers=(LayerTraits(window=9), LayerTraits(rope=None)),
    activation="gelu_tanh",
    qk_norm="head",
    output_norms=True,
    attention_bias=True,
    output_bias=True,
    mlp_bias=True,
    embedding_scale=7.0,
    attention_scale=0.1,
    residual_scale=0.5,
    logit_divisor=3.0,
    tie_word_embeddings=False,
)
MODELS = {
    "llama": LLAMA,
    "qwen2": ModelConfig(320, 128, 192, 2, 4, 2, 32, CONTEXT, attention_bias=True),
    "qwen3": ModelConfig(320, 128, 192, 2, 4, 2, 64, CONTEXT, qk_norm="head", tie_word_embeddings=False),
    "every trait": ALL,
    "width norms": replace(ALL, qk_norm="width", input_norms=False, activation="relu2"),
    "a part turns": replace(LLAMA, ropes=(Rope(dims=8),), activation="gelu"),
    "heads of 24": replace(LLAMA, head_dim=24),
    "heads of 12": replace(LLAMA, head_dim=12, activation="quick_gelu"),
}
FAR = 0.2
"""Logits of integer arithmetic differ by some hundredths where an activation lies between two integers."""
RUN = """
import json, sys
from pathlib import Path
import numpy as np
from edgekit.simulate.on_onnxruntime import open_artifact
for folder in map(Path, sys.argv[2:]):
    try:
        ids, model = json.loads((folder / "ids.json").read_text()), open_artifact(folder / "model.onnx", 128, 16)
        model.reset()
        made = [model.prefill(ids[:17]), *(model.decode(token) for token in ids[17:])]
        said = float(np.abs(np.stack(made) - np.load(folder / "logits.npy")).max())
    except Exception as error:
        said = " ".join(str(error).split())[:200]
    print(json.dumps({folder.name: said}), flush=True)
"""


def make(folder: Path) -> dict[str, str]:
    """Lower random models by each recipe into folders of their own; returns the oldest version each should run in."""
    oldest = {}
    for recipe_name in sorted(name for name in named_recipes() if name.startswith("onnx_")):
        for kind, config in MODELS.items():
            torch.manual_seed(0)
            model = PolicyModel(config).eval().requires_grad_(False)
            try:
                recipe, _ = fit_to_model(model, find_recipe(recipe_name, "onnx"))
            except ConfigError:
                continue  # heads that the standard layout cannot fill up
            nearest = recipe.quantize.model_copy(update={"rounding": "nearest"})
            quantized = quantize_model(model, nearest)
            out = folder / f"{recipe_name}.{kind}"
            out.mkdir()
            get_lowering("onnx").lower(quantized, recipe, out)
            oldest[out.name] = get_lowering("onnx").oldest_runtime(quantized, recipe)
            reference = ReferenceModel(quantized)
            ids = np.random.default_rng(0).integers(0, config.vocab_size, 30).tolist()
            logits = [reference.prefill(ids[:PROMPT]), *(reference.decode(token) for token in ids[PROMPT:])]
            np.save(out / "logits.npy", np.stack(logits))
            (out / "ids.json").write_text(json.dumps(ids))
    return oldest


def run(version: str, artifacts: list[Path], folder: Path) -> dict[str, float | str]:
    """Artifact -> its largest logit difference in that version, or why it does not run; a crash is one too."""
    packages = folder / version
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(packages)]
    subprocess.run([*pip, f"onnxruntime=={version}"], check=True)
    path = os.pathsep.join([str(packages), str(Path(edgekit.__file__).parents[1])])
    command = [sys.executable, "-c", RUN, version, *map(str, artifacts)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    results: dict[str, float | str] = {artifact.name: "the runtime crashed" for artifact in artifacts}
    for line in done.stdout.splitlines():
        results |= json.loads(line)
    return results


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")[:2]))


def main() -> int:
    wrong = 0
    with TemporaryDirectory() as scratch:
        artifacts = Path(scratch, "artifacts")
        artifacts.mkdir()
        oldest = make(artifacts)
        for version in sys.argv[1:]:
            for name, said in run(version, sorted(artifacts.iterdir()), Path(scratch)).items():
                fits = isinstance(said, float) and said < FAR
                promised = numbers(version) >= numbers(oldest[name])
                wrong += promised and not fits
                verdict = "runs" if fits else f"FAILS: {said}"
                print(f"{version}: {name} {verdict} (edgekit says {oldest[name]} or newer)")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
