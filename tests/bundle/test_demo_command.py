"""`edgekit demo`: a whole bundle goes where the app expects it, and only if the app's runtime reads it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from edgekit.bundle.app import ANDROID_BUILD, ANDROID_VERSIONS, IOS_PROJECT, check_runtime, place_bundle
from edgekit.bundle.load import Bundle, open_bundle
from edgekit.bundle.manifest import RuntimeFacts
from edgekit.cli.app import run_command
from edgekit.errors import EdgekitError, ErrorKind

ROOT = Path(__file__).parents[2]


@pytest.fixture
def android(tmp_path: Path) -> Path:
    return copy_of(tmp_path, "android_demo", (ANDROID_VERSIONS, ANDROID_BUILD))


@pytest.fixture
def ios(tmp_path: Path) -> Path:
    return copy_of(tmp_path, "ios_demo", (IOS_PROJECT,))


@pytest.fixture(scope="module")
def bundle(tiny_bundle_folder: Path) -> Bundle:
    return open_bundle(tiny_bundle_folder)


def copy_of(folder: Path, project: str, files: tuple[str, ...]) -> Path:
    """The project's own version files, elsewhere."""
    for file in files:
        (folder / project / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / project / file, folder / project / file)
    return folder / project


def made_for(bundle: Bundle, target: str, runtime: str, version: str, oldest: str | None = None) -> Bundle:
    facts = {"target": target, "runtime": RuntimeFacts(name=runtime, version=version, oldest=oldest)}
    return replace(bundle, manifest=bundle.manifest.model_copy(update=facts))


def test_android_gets_the_bundle_whole_and_again_in_place_of_the_last(tiny_bundle_folder, android, capsys) -> None:
    arguments = ["demo", "android", str(tiny_bundle_folder), "--app", str(android)]
    assert run_command([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assets = android / "app/src/main/assets"
    assert (told["placed"], told["runtime"], told["pushed"]) == (str(assets / "bundle"), "onnxruntime", None)
    assert told["next"][-1] == f"edgekit verify {tiny_bundle_folder} --device-report FILE"
    assert open_bundle(assets / "bundle").manifest == open_bundle(tiny_bundle_folder).manifest
    assert (assets / "bundle/model.onnx").samefile(tiny_bundle_folder / "model.onnx")
    assert run_command(arguments) == 0
    assert [path.name for path in assets.iterdir()] == ["bundle"]
    assert "1. Open" in capsys.readouterr().out


def test_ios_keeps_several_bundles_by_name(bundle, ios) -> None:
    placed = place_bundle("ios", ios, bundle)
    assert placed.folder == ios / "App/Bundles" / bundle.path.name
    other = ios / "App/Bundles/other"
    shutil.copytree(bundle.path, other)
    assert place_bundle("ios", ios, open_bundle(other)).folder.samefile(other)  # already there
    assert len(list((ios / "App/Bundles").iterdir())) == 2


def test_a_damaged_bundle_goes_nowhere(tiny_bundle_folder, android, tmp_path, capsys) -> None:
    damaged = Path(shutil.copytree(tiny_bundle_folder, tmp_path / "damaged"))
    raw = bytearray((damaged / "model.onnx").read_bytes())
    raw[len(raw) // 2] ^= 1
    (damaged / "model.onnx").write_bytes(raw)
    assert run_command(["demo", "android", str(damaged), "--app", str(android)]) == 2
    assert "model.onnx has changed" in capsys.readouterr().err
    assert not (android / "app/src/main/assets").exists()


def test_something_else_in_the_place_is_not_replaced(bundle, android) -> None:
    mine = android / "app/src/main/assets/bundle/notes.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(EdgekitError, match="output exists"):
        place_bundle("android", android, bundle)
    assert mine.read_text() == "mine"


@pytest.mark.parametrize(
    ("target", "made", "oldest", "pinned", "fits"),
    [
        ("onnx", "1.31.1", None, "1.31.0", True),
        ("onnx", "1.22 or newer", None, "1.31.0", True),
        ("onnx", "1.32.0", None, "1.31.9", False),
        ("onnx", "2.0.0", None, "1.31.0", False),
        ("onnx", "1.31.1", "1.23", "1.24.2", True),
        ("onnx", "1.31.1", "1.23", "1.22.9", False),
        ("executorch", "1.4.0", None, "1.4.3", True),
        ("executorch", "1.4.0", None, "1.5.0", False),
        ("executorch", "1.4.0", None, "1.3.0", False),
        ("executorch", "1.5.1", "1.4", "1.4.0", True),
        ("executorch", "1.5.1", "1.4", "1.3.0", False),
    ],
)
def test_android_s_pinned_runtime_has_to_read_the_artifact(bundle, android, target, made, oldest, pinned, fits) -> None:
    name = {"onnx": "onnxruntime", "executorch": "executorch"}[target]
    (android / ANDROID_VERSIONS).write_text(f'[versions]\n{name} = "{pinned}"\n')
    other = made_for(bundle, target, name, made, oldest)
    if fits:
        assert check_runtime("android", android, other) == (name, pinned)
    else:
        with pytest.raises(EdgekitError, match=f"made with {name} {made} and needs .*, the app has {pinned}"):
            check_runtime("android", android, other)


def test_the_apps_of_this_checkout_read_what_this_checkout_exports(bundle) -> None:
    assert check_runtime("android", ROOT / "android_demo", bundle)[0] == "onnxruntime"
    program = made_for(bundle, "executorch", "executorch", version("executorch"), "1.4")
    assert check_runtime("android", ROOT / "android_demo", program)[0] == "executorch"
    package = made_for(bundle, "coreml", "Core ML (iOS 18)", "coremltools 9.0")
    assert check_runtime("ios", ROOT / "ios_demo", package)[0] == "Core ML"


def test_what_an_app_cannot_run_is_refused_in_one_line(bundle, android, ios) -> None:
    standard = replace(bundle, manifest=bundle.manifest.model_copy(update={"recipe": {"layout": "standard"}}))
    for platform, app, given, said in [
        ("android", android, made_for(bundle, "coreml", "Core ML (iOS 18)", "coremltools 9.0"), "not for Android"),
        ("ios", ios, made_for(bundle, "coreml", "Core ML (iOS 26)", "coremltools 9.0"), "needs iOS 26"),
        ("ios", ios, made_for(bundle, "coreml", "Core ML", "coremltools 9.0"), "says no iOS version"),
        ("android", android, standard, "layout is standard"),
        ("ios", ios, standard, "layout is standard"),
    ]:
        with pytest.raises(EdgekitError, match=said) as caught:
            check_runtime(platform, app, given)
        assert "\n" not in str(caught.value)
    (android / ANDROID_VERSIONS).write_text("[versions]\n")
    with pytest.raises(EdgekitError, match="no version of onnxruntime"):
        check_runtime("android", android, bundle)


def test_a_tokenizer_that_the_apps_do_not_read_is_refused_in_one_line(bundle, android, tmp_path) -> None:
    folder = Path(shutil.copytree(bundle.path, tmp_path / "other"))
    data = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**data, "normalizer": {"type": "Lowercase"}}))
    with pytest.raises(EdgekitError, match=r"do not read its tokenizer: normalizer\.type: Lowercase") as caught:
        check_runtime("android", android, replace(bundle, path=folder))
    assert caught.value.kind is ErrorKind.UNSUPPORTED


def test_bad_calls_exit_with_2(tiny_bundle_folder, android, tmp_path, capsys, monkeypatch) -> None:
    folder = str(tiny_bundle_folder)
    monkeypatch.setenv("PATH", str(tmp_path))
    for arguments, said in [
        (["android", folder, "--app", str(tmp_path)], "no android app"),
        (["android", str(tmp_path)], "not a bundle"),
        (["ios", folder, "--device"], "no --device for ios"),
        (["android", folder, "--app", str(android), "--device"], "no adb"),
        (["windows", folder], "windows"),
    ]:
        assert run_command(["demo", *arguments]) == 2
        assert said in capsys.readouterr().err


def stand_in_adb(folder: Path, phone: Path, *, connected: bool) -> None:
    """An adb whose phone is a folder."""
    body = f'shift; target="{phone}$(eval echo \\${{$#}})"; cp -r "$1" "$target"'
    shell = f'shift; exec sh -c "$(echo "$*" | sed "s#/sdcard#{phone}/sdcard#g")"'
    state = "echo device" if connected else "echo 'error: no devices/emulators found' >&2; exit 1"
    script = f'#!/bin/sh\ncase "$1" in\nget-state) {state};;\npush) {body};;\nshell) {shell};;\nesac\n'
    (folder / "adb").write_text(script)
    (folder / "adb").chmod(0o755)


def test_device_pushes_the_bundle_to_the_app_s_own_folder(tiny_bundle_folder, android, tmp_path, monkeypatch, capsys):
    tools, phone = tmp_path / "tools", tmp_path / "phone"
    tools.mkdir(), phone.mkdir()
    stand_in_adb(tools, phone, connected=True)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    arguments = ["demo", "android", str(tiny_bundle_folder), "--app", str(android), "--device"]
    for _ in range(2):
        assert run_command([*arguments, "--json"]) == 0
        pushed = json.loads(capsys.readouterr().out)["pushed"]
        assert pushed == "/sdcard/Android/data/ai.edgekit.demo/files/bundle"
        assert open_bundle(phone / pushed[1:]).manifest == open_bundle(tiny_bundle_folder).manifest
        assert [path.name for path in (phone / pushed[1:]).parent.iterdir()] == ["bundle"]
    stand_in_adb(tools, phone, connected=False)
    assert run_command(arguments) == 2
    assert "no devices/emulators found" in capsys.readouterr().err
