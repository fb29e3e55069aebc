"""The export pipeline: the plan is checked whole first, and nothing half-written is left."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from edgekit.bundle.load import open_bundle
from edgekit.bundle.manifest import read_manifest
from edgekit.errors import BackendMissing, BundleError, ConfigError, EdgekitError
from edgekit.export.pipeline import export
from edgekit.export.targets import get_lowering
from edgekit.recipes.fit import Fallback
from edgekit.recipes.lookup import find_recipe, named_recipes
from edgekit.recipes.quant_recipe import QuantRecipe
from edgekit.recipes.targets import TARGETS, Needs
from edgekit.simulate import get_simulator
from edgekit.verify.check import verify_bundle

RECIPE = find_recipe("onnx_fp32", "onnx").model_copy(update={"context_length": 64})


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_every_target_has_what_lowers_to_it_what_runs_it_and_recipes(name: str) -> None:
    lowering = get_lowering(name)
    assert callable(lowering.problems)
    assert callable(lowering.lower)
    assert callable(get_simulator(name).open_artifact)
    assert find_recipe(None, name).target == name
    assert {f"{name}_fp32", f"{name}_int4"} <= set(named_recipes())


def test_every_recipe_found_loads_under_its_own_name() -> None:
    assert named_recipes()
    for name, path in named_recipes().items():
        recipe = find_recipe(path, name.split("_")[0])
        assert recipe.name == name


@pytest.mark.parametrize(("name", "why"), [("onnx_int3", "unknown recipe"), ("coreml_int4", "wrong recipe")])
def test_an_unfit_recipe_name_is_refused(name: str, why: str) -> None:
    with pytest.raises(EdgekitError, match=why):
        find_recipe(name, "onnx")


def test_every_reason_against_a_recipe_is_listed_before_any_work(tiny_policy_folder: Path, tmp_path: Path) -> None:
    rules = [{"match": "nothing.*", "bits": 8}, {"match": "*", "bits": 4, "group_size": 8}]
    quantize = QuantRecipe.model_validate({"rules": rules, "activations": "int8"})
    recipe = RECIPE.model_copy(update={"quantize": quantize, "compute": "float16"})
    stages: list[str] = []
    with pytest.raises(ConfigError) as error:
        export(tiny_policy_folder, recipe, tmp_path / "out", prompts=[], on_stage=stages.append)
    assert len(error.value.problems) == 4
    for part in ("matches no weight", "groups of 8", "onnx takes float or int8_block", "compute: float16"):
        assert part in str(error.value)
    assert stages == []
    assert list(tmp_path.iterdir()) == []


def test_a_weight_that_groups_do_not_divide_is_told_of_and_listed_in_the_manifest(
    tiny_policy_folder: Path, tmp_path: Path
) -> None:
    recipe = find_recipe("onnx_int4", "onnx")
    assert recipe.quantize.rules[0].group_size == 64  # the policy's hidden states have 32 numbers
    told: list[Fallback] = []
    out = export(tiny_policy_folder, recipe, tmp_path / "out", prompts=["1 2 -> 3"], on_fallbacks=told.extend)
    manifest = read_manifest(out)
    assert told
    assert [entry.model_dump() for entry in manifest.fallbacks] == [fallback.to_json() for fallback in told]
    assert {rule.group_size for rule in manifest.export_recipe().quantize.rules} == {32, 64}
    assert verify_bundle(open_bundle(out), None, [], None, None).passed


def test_a_policy_in_shards_is_exported_with_a_hash_over_all_of_them(tiny_policy_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "policy"
    shutil.copytree(tiny_policy_folder, folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    where = {name: f"model-{number % 2}.safetensors" for number, name in enumerate(sorted(tensors))}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    recipe = find_recipe("onnx_fp32", "onnx").model_copy(update={"context_length": 32})
    hashes = set()
    for change in (0.0, 1.0):
        tensors["model.norm.weight"] += change
        for file in set(where.values()):
            save_file({name: tensors[name] for name in tensors if where[name] == file}, folder / file)
        out = export(folder, recipe, tmp_path / f"out {change}", prompts=["1 2 -> 3"])
        assert verify_bundle(open_bundle(out), None, [], None, None).passed
        hashes.add(read_manifest(out).provenance["policy_sha256"])
    assert len(hashes) == 2


def test_a_prompt_that_is_too_long_for_the_context_is_no_case(tiny_policy_folder: Path, tmp_path: Path) -> None:
    recipe = find_recipe("onnx_fp32", "onnx").model_copy(update={"context_length": 32})
    out = export(tiny_policy_folder, recipe, tmp_path / "out", prompts=["1 " * 40, "1 2 -> 3"])
    assert [case.prompt for case in open_bundle(out).conformance()] == ["1 2 -> 3"]


def test_a_missing_backend_is_said_before_any_work(tiny_policy_folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(TARGETS, "onnx", replace(TARGETS["onnx"], needs=Needs("absent", "absent", "onnx")))
    with pytest.raises(BackendMissing, match=r"cannot export to onnx: absent is not installed\. .*pip install"):
        export(tiny_policy_folder, RECIPE, tmp_path / "out", prompts=[])


def test_an_interrupted_export_leaves_nothing_and_keeps_the_earlier_bundle(
    tiny_policy_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "manifest.json").write_text("earlier")

    def interrupted(*_: object, **__: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(get_lowering("onnx"), "lower", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(tiny_policy_folder, RECIPE, out, prompts=["1 2 -> 3"])
    assert (out / "manifest.json").read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [out]


def test_someone_elses_folder_is_never_replaced(tiny_policy_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(EdgekitError, match="output exists"):
        export(tiny_policy_folder, RECIPE, tmp_path, prompts=[])


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a run or bundle"):
        export(tmp_path, RECIPE, tmp_path / "out", prompts=[])


@pytest.mark.slow
def test_the_same_inputs_give_the_same_manifest(
    tiny_policy_folder: Path, tiny_bundle_folder: Path, tiny_prompts: list[str], tmp_path: Path
) -> None:
    stages: list[str] = []
    out = export(tiny_policy_folder, RECIPE, tmp_path / "o", prompts=tiny_prompts, task="tiny", on_stage=stages.append)
    assert (out / "manifest.json").read_bytes() == (tiny_bundle_folder / "manifest.json").read_bytes()
    recording = ["recording decisions", "quantizing", "recording the quantized decisions"]
    assert stages == [*recording, "lowering to onnx", "packing"]
