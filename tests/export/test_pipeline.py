"""The export pipeline: the plan is checked whole first, and nothing half-written is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import BackendMissing, BundleError, ConfigError, EdgekitError
from edgekit.export.pipeline import export
from edgekit.export.targets import TARGETS, get_target
from edgekit.recipes.lookup import find_recipe, named_recipes
from edgekit.simulate import SIMULATORS

RECIPE = find_recipe("onnx_fp32", "onnx").model_copy(update={"context_length": 64})


def test_every_target_has_a_simulator_and_a_default_recipe() -> None:
    assert set(TARGETS) == set(SIMULATORS)
    for target in TARGETS:
        assert find_recipe(None, target).target == target
        assert get_target(target).ARTIFACT.startswith("model.")


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
    rules = RECIPE.quantize.model_validate(
        {"rules": [{"match": "nothing.*", "bits": 8}, {"match": "*", "bits": 4, "group_size": 48}]}
    )
    recipe = RECIPE.model_copy(update={"quantize": rules})
    with pytest.raises(ConfigError) as error:
        export(tiny_policy_folder, recipe, tmp_path / "out", prompts=[])
    assert len(error.value.problems) == 2
    for part in ("matches no weight", "does not divide"):
        assert part in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_backend_is_said_before_any_work(tiny_policy_folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(get_target("onnx"), "missing", lambda: "onnx is not installed. pip install onnx")
    with pytest.raises(BackendMissing, match="pip install"):
        export(tiny_policy_folder, RECIPE, tmp_path / "out", prompts=[])


def test_an_interrupted_export_leaves_nothing_and_keeps_the_earlier_bundle(
    tiny_policy_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "manifest.json").write_text("earlier")

    def interrupted(*_: object, **__: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(get_target("onnx"), "lower", interrupted)
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
