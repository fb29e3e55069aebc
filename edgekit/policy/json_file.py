"""JSON files of a model folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgekit.errors import BundleError
from edgekit.plain_file import DOCUMENT_BYTES, read_text


def read_json(path: Path, limit: int = DOCUMENT_BYTES) -> dict[str, Any]:
    """The JSON object in ``path``, of at most ``limit`` bytes. Raises :class:`BundleError` if there is none."""
    try:
        data = json.loads(read_text(path, limit))
    except FileNotFoundError:
        raise BundleError(f"no such file: {path}. Not a model folder. Check the path.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"unreadable JSON: {path}. {error}. Write the folder again.") from None
    if not isinstance(data, dict):
        raise BundleError(f"unreadable JSON: {path}. Not an object. Write the folder again.")
    return data
