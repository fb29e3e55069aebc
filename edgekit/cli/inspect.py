"""``edgekit inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from edgekit.cli.terminal import JsonOption, out, print_json


def inspect(
    bundle: Annotated[Path, typer.Argument(help="A bundle: a folder, or an archive made by pack.")],
    json: JsonOption = False,
) -> None:
    """Show a bundle's manifest, recipe, routing and integrity; exit code 2 if a file has changed.

    Example: edgekit inspect out/demo/onnx
    """
    from edgekit.bundle.app import unread_tokenizer
    from edgekit.bundle.archive import opened_bundle

    with opened_bundle(bundle) as opened:
        lacking = unread_tokenizer(opened.path)
    manifest, routing = opened.manifest.model_dump(mode="json"), opened.routing.model_dump(mode="json")
    if json:
        print_json({"integrity": "ok", "unread_tokenizer": lacking, "manifest": manifest, "routing": routing})
        return
    table = Table(title=str(bundle), show_header=False)
    provenance = opened.manifest.provenance
    share = routing["calibrated_call_fraction"]
    calibrated = "not calibrated" if share is None else f"calibrated to {100 * share:.1f} % calls"
    rows = {
        "version": f"{provenance.get('bundle_version', 'not given')} {provenance.get('date', '')}".strip(),
        "base": f"{provenance.get('base', 'not recorded')}; licence: {provenance.get('base_licence', 'not recorded')}",
        "target": f"{opened.manifest.target} ({opened.manifest.runtime.name} {opened.manifest.runtime.version})",
        "recipe": f"{manifest['recipe'].get('name')}: {manifest['recipe'].get('description')}",
        "model": ", ".join(f"{key} {value}" for key, value in manifest["model"].items()),
        "marker": f"{routing['marker']['text']} {routing['marker']['token_ids']}",
        "marker bias": f"{routing['marker_bias']:.3f}, {calibrated}",
        "phone apps": "read its tokenizer" if lacking is None else f"cannot read its tokenizer: {lacking}",
        "integrity": f"{len(manifest['files'])} files, every size and sha256 as in the manifest",
        "size": f"{sum(entry['size'] for entry in manifest['files'].values()) / 1e6:.2f} MB",
    }
    for key, value in rows.items():
        table.add_row(key, value)
    out.print(table)
