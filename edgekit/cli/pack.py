"""``edgekit pack``."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.terminal import JsonOption, out, print_json
from edgekit.errors import EdgekitError

PASSWORD_VARIABLE = "EDGEKIT_SIGNING_PASSWORD"


def pack(
    bundle: Annotated[Path, typer.Argument(help="A bundle directory.")],
    archive: Annotated[Path, typer.Option("--out", help="The ZIP to write.")],
    sign: Annotated[
        Path | None, typer.Option(help=f"Your minisign secret key; its password is asked, or {PASSWORD_VARIABLE}'s.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Pack a bundle, once it is whole, into one ZIP to hand over: the same bundle gives the same bytes.

    `edgekit verify` and `edgekit inspect` open it as it is. With --sign the signature is written beside it, which
    `edgekit verify --signed-by` and minisign check.

    Example: edgekit pack out/demo/onnx --out countdown-1.zip --sign minisign.key
    """
    from edgekit.bundle.archive import pack_archive
    from edgekit.bundle.manifest import describe_file
    from edgekit.bundle.signature import sign_archive, signature_file, signing_key

    earlier = signature_file(archive)
    was_signed = earlier.exists()

    with ExitStack() as held:
        key = held.enter_context(signing_key(sign, partial(_password, sign))) if sign is not None else None
        entry = describe_file(pack_archive(bundle, archive))
        signature = sign_archive(archive, key) if key is not None else None
    if json:
        told = {"archive": str(archive), "sha256": entry.sha256, "bytes": entry.size}
        print_json(told | ({"signature": str(signature)} if signature else {}))
        return
    out.print(f"archive: {archive} ({entry.size / 1e6:.2f} MB, sha256 {entry.sha256})", soft_wrap=True)
    if signature is not None:
        out.print(f"signature: {signature}", soft_wrap=True)
    elif was_signed and not earlier.exists():
        out.print(f"removed: {earlier}. It was not of this archive. --sign makes one.", soft_wrap=True)


def _password(key: Path) -> str:
    given = os.environ.get(PASSWORD_VARIABLE)
    if given is None and not (sys.stdin and sys.stdin.isatty()):
        raise EdgekitError(f"no password: {key}. The key has one, and nobody can be asked. Set {PASSWORD_VARIABLE}.")
    return given if given is not None else typer.prompt(f"Password of {key}", hide_input=True, err=True)
