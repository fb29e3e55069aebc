"""``edgekit pack``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.terminal import JsonOption, out, print_json


def pack(
    bundle: Annotated[Path, typer.Argument(help="A bundle directory.")],
    archive: Annotated[Path, typer.Option("--out", help="The ZIP to write.")],
    json: JsonOption = False,
) -> None:
    """Pack a bundle, once it is whole, into one ZIP to hand over: the same bundle gives the same bytes.

    `edgekit verify` and `edgekit inspect` open it as it is; docs/deploy.md says how to sign it.

    Example: edgekit pack out/demo/onnx --out countdown-1.zip
    """
    from edgekit.bundle.archive import pack_archive
    from edgekit.bundle.manifest import describe_file

    entry = describe_file(pack_archive(bundle, archive))
    if json:
        print_json({"archive": str(archive), "sha256": entry.sha256, "bytes": entry.size})
        return
    out.print(f"archive: {archive} ({entry.size / 1e6:.2f} MB, sha256 {entry.sha256})", soft_wrap=True)
