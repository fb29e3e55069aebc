"""Putting a bundle where a phone app finds it, once the app's runtime is known to read it.

The apps' own project files say which runtime versions they are built with; they are read, not repeated here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgekit.atomic_write import link_or_copy, new_directory
from edgekit.bundle.load import Bundle
from edgekit.bundle.manifest import MANIFEST, TOKENIZER, Manifest
from edgekit.errors import EdgekitError, ErrorKind
from edgekit.routing.tokenizer_kinds import phones_lack

Platform = Literal["android", "ios"]

PROJECTS: dict[Platform, str] = {"android": "android_demo", "ios": "ios_demo"}
ANDROID_VERSIONS = "gradle/libs.versions.toml"
ANDROID_BUILD = "app/build.gradle.kts"
IOS_PROJECT = "App/EdgekitDemo.xcodeproj/project.pbxproj"
ADB_TIMEOUT_S = 600


@dataclass(frozen=True)
class Placement:
    """Where a bundle was put, and the app's runtime that will read it: its name, and version if the app pins one."""

    folder: Path
    runtime: str
    runtime_version: str | None


def app_folder(platform: Platform, given: Path | None = None) -> Path:
    """The app's project: ``given``, or the one in this checkout. Raises :class:`EdgekitError` if it is not there."""
    name = PROJECTS[platform]
    candidates = [given] if given else [Path(name), Path(__file__).parents[2] / name]
    required = ANDROID_BUILD if platform == "android" else IOS_PROJECT
    for folder in candidates:
        if (folder / required).is_file():
            return folder
    raise EdgekitError(
        f"no {platform} app: {candidates[0]}. It has no {required}. Clone the repository, or give --app."
    )


def unread_tokenizer(bundle: Path) -> str | None:
    """What in the tokenizer of the bundle at ``bundle`` the apps do not read; None if they read it."""
    return phones_lack(bundle / TOKENIZER)


def check_runtime(platform: Platform, app: Path, bundle: Bundle) -> tuple[str, str | None]:
    """The app's runtime for ``bundle`` and its pinned version. Raises :class:`EdgekitError` if it cannot read it."""
    manifest = bundle.manifest
    lacking = unread_tokenizer(bundle.path)
    if lacking is not None:
        why = f"The apps do not read its tokenizer: {lacking}"
        raise EdgekitError(f"unreadable for the app: {bundle.path}. {why}.", ErrorKind.UNSUPPORTED)
    if manifest.target == "onnx" and manifest.recipe.get("layout", "fused") != "fused":
        why = f"Its layout is {manifest.recipe['layout']}, the app reads fused"
        raise EdgekitError(f"unreadable for the app: {bundle.path}. {why}. Export it with a recipe of layout fused.")
    return (
        _android_runtime(app, bundle.path, manifest) if platform == "android" else _ios_runtime(app, bundle, manifest)
    )


def _android_runtime(app: Path, path: Path, manifest: Manifest) -> tuple[str, str]:
    names = {"onnx": "onnxruntime", "executorch": "executorch"}
    if manifest.target not in names:
        why = f"Android runs {' and '.join(names)}"
        raise EdgekitError(f"not for Android: {path} is a {manifest.target} bundle. {why}. Export for one of them.")
    name = names[manifest.target]
    source = app / ANDROID_VERSIONS
    pinned = _pinned(source, rf'^{name}\s*=\s*"([^"]+)"', name)
    runtime, has = manifest.runtime, _numbers(pinned)
    oldest = _numbers(runtime.oldest or runtime.version)
    # A bundle that does not say how old a runtime may be was tried with its own minor version of ExecuTorch only.
    exact = name == "executorch" and runtime.oldest is None
    if has != oldest if exact else has < oldest:
        wanted = f"{oldest[0]}.{oldest[1]}" + ("" if exact else " or newer")
        raise EdgekitError(
            f"runtime too different: {path}. It was made with {name} {runtime.version} and needs {wanted}, the app has "
            f"{pinned}. Set {name} to {wanted} in {source}, or export it again with {pinned}."
        )
    return name, pinned


def _ios_runtime(app: Path, bundle: Bundle, manifest: Manifest) -> tuple[str, str | None]:
    if manifest.target != "coreml":
        return manifest.runtime.name, None
    source = app / IOS_PROJECT
    oldest = _pinned(source, r"IPHONEOS_DEPLOYMENT_TARGET = ([\d.]+);", "IPHONEOS_DEPLOYMENT_TARGET")
    needed = re.search(r"iOS (\d+)", manifest.runtime.name)
    if needed is None:
        why = f"Its manifest names the runtime {manifest.runtime.name!r}, which says no iOS version"
        raise EdgekitError(f"unreadable for the app: {bundle.path}. {why}. Export it again.")
    if int(needed[1]) > _numbers(oldest)[0]:
        why = f"It needs iOS {needed[1]}, the app is built for {oldest}"
        raise EdgekitError(f"runtime too old: {bundle.path}. {why}. Raise IPHONEOS_DEPLOYMENT_TARGET in {source}.")
    return "Core ML", f"iOS {oldest}"


def _pinned(source: Path, pattern: str, name: str) -> str:
    """The version that ``source`` gives ``name``."""
    try:
        found = re.search(pattern, source.read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        found = None
    if found is None:
        raise EdgekitError(f"no version of {name}: {source}. The app pins its runtimes there. Restore the file.")
    return found[1]


def _numbers(version: str) -> tuple[int, int]:
    """Major and minor of a version such as "1.31.1" or "1.22 or newer"."""
    found = re.match(r"(\d+)(?:\.(\d+))?", version)
    if found is None:
        raise EdgekitError(f"no version: {version!r}. It does not begin with a number. Export the bundle again.")
    return int(found[1]), int(found[2] or 0)


def place_bundle(platform: Platform, app: Path, bundle: Bundle) -> Placement:
    """Put ``bundle`` (opened, so its hashes hold) into the app's project, in place of what was there.

    Android: app/src/main/assets/bundle. iOS: App/Bundles/NAME, beside others. Files are hard links where the file
    system allows, else copies; the folder appears whole or not at all. What a kill leaves lies in the project's own
    folder, where no build takes it into the app, and the next call removes it.
    """
    runtime, version = check_runtime(platform, app, bundle)
    name = bundle.path.resolve().name
    folder = app / "app/src/main/assets/bundle" if platform == "android" else app / "App/Bundles" / name
    if folder.resolve() == bundle.path.resolve():
        return Placement(folder, runtime, version)
    with new_directory(folder, marker_file=MANIFEST, workspace=app) as new:
        for file in [*bundle.manifest.files, MANIFEST]:
            link_or_copy(bundle.path / file, new / file)
    return Placement(folder, runtime, version)


def push_bundle(app: Path, bundle: Bundle) -> str:
    """Copy ``bundle`` onto the one connected Android phone with adb; returns the folder there.

    The app takes it before the one it was built with. Raises :class:`EdgekitError` without adb, a phone or the app.
    """
    adb = shutil.which("adb")
    if adb is None:
        raise EdgekitError(
            "no adb: it is not on the PATH. --device needs it. Install Android's platform-tools, or leave --device out."
        )
    package = _pinned(app / ANDROID_BUILD, r'applicationId\s*=\s*"([\w.]+)"', "applicationId")
    folder = f"/sdcard/Android/data/{package}/files"
    _adb(adb, "get-state", advice="Connect one phone with USB debugging on; adb devices lists them.")
    _adb(adb, "shell", "rm", "-rf", f"{folder}/bundle.new", advice="Start the app once, then try again.")
    advice = "Install and start the app once, and see that the phone has room."
    _adb(adb, "shell", "mkdir", "-p", folder, advice=advice)
    _adb(adb, "push", str(bundle.path.resolve()), f"{folder}/bundle.new", advice=advice)
    swap = f"rm -rf {folder}/bundle && mv {folder}/bundle.new {folder}/bundle"
    _adb(adb, "shell", swap, advice=advice)
    return f"{folder}/bundle"


def _adb(adb: str, *arguments: str, advice: str) -> None:
    what = f"adb {arguments[0]}"
    try:
        result = subprocess.run([adb, *arguments], capture_output=True, text=True, timeout=ADB_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise EdgekitError(f"{what} failed: the phone. No answer in {ADB_TIMEOUT_S} s. {advice}") from None
    if result.returncode:
        said = (result.stderr or result.stdout).strip().splitlines() or ["it says nothing"]
        raise EdgekitError(f"{what} failed: the phone. {said[-1].removesuffix('.')}. {advice}")
