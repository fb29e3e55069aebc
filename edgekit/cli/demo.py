"""``edgekit demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edgekit.cli.terminal import JsonOption, out, print_json

if TYPE_CHECKING:
    from edgekit.bundle.app import Placement


def demo(
    platform: Annotated[Literal["android", "ios"], typer.Argument(help="Which app.")],
    bundle: Annotated[Path, typer.Argument(help="A bundle directory.")],
    device: Annotated[bool, typer.Option("--device", help="Push it to the connected Android phone too (adb).")] = False,
    app: Annotated[Path | None, typer.Option(help="The app's project; default android_demo or ios_demo.")] = None,
    json: JsonOption = False,
) -> None:
    """Put a bundle into the phone app, once it is whole and the app's runtime reads it, and say what comes next.

    Example: edgekit demo android out/demo/onnx
    """
    from edgekit.workflows.place import place

    placed = place(platform, bundle, app=app, push=device)
    project, placement, pushed = placed.project, placed.placement, placed.pushed
    steps = _android_steps(project, bundle, pushed) if platform == "android" else _ios_steps(project, bundle, placement)
    if json:
        told = {"runtime": placement.runtime, "runtime_version": placement.runtime_version, "pushed": pushed}
        print_json({"platform": platform, "placed": str(placement.folder), **told, "next": steps})
        return
    version = f" {placement.runtime_version}" if placement.runtime_version else ""
    out.print(f"{placed.files} files checked; {placement.runtime}{version} reads them", soft_wrap=True)
    out.print(f"placed: {placement.folder}" + (f"; on the phone: {pushed}" if pushed else ""), soft_wrap=True)
    for number, step in enumerate(steps, start=1):
        out.print(f"{number}. {step}", soft_wrap=True)


def _android_steps(project: Path, bundle: Path, pushed: str | None) -> list[str]:
    build = f"Open {project} in Android Studio and run app on a phone."
    return [
        "Restart the app on the phone; it takes the pushed bundle." if pushed else build,
        "Ask on the first page; run the self-test on its own page and export its report, or fetch it: "
        "adb pull /sdcard/Android/data/ai.edgekit.demo/files/device-report.json",
        f"edgekit verify {bundle} --device-report FILE",
    ]


def _ios_steps(project: Path, bundle: Path, placement: Placement) -> list[str]:
    package = f"Add EdgeONNX or EdgeExecuTorch to the app in Xcode; it is built without {placement.runtime} (README)."
    return [
        f"Open {project}/App/EdgekitDemo.xcodeproj in Xcode 16 or newer and choose your team under Signing.",
        *([] if placement.runtime_version else [package]),
        "Run EdgekitDemo on a phone; run the self-test on its own page and share its report.",
        f"edgekit verify {bundle} --device-report FILE",
    ]
