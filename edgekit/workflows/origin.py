"""What a bundle says of its origin: its own version, the base model and its licence, a date if one is given."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from edgekit.errors import EdgekitError
from edgekit.plain_file import read_text
from edgekit.policy.folder import policy_folder
from edgekit.policy.hub import is_hub_name
from edgekit.train.config import load_run_config
from edgekit.warm_start.bases import PACKAGED, builtin_base

FIRST_VERSION = "1"
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}")
_FRONT_MATTER = re.compile(r"\A---\n.*?^license:[ \t]*[\"']?([\w.+ -]{1,64}?)[\"']?[ \t]*$.*?^---$", re.M | re.S)
"""Of a model card on the hub."""


def origin_of(
    run: Path, version: str = FIRST_VERSION, licence: str | None = None, date: str | None = None
) -> dict[str, str]:
    """The manifest's words on the origin of a bundle of ``run``; what is not known is left out, and no path is in it.

    ``version`` is the bundle's own, ``licence`` the base model's where its card does not say it, ``date`` a time as
    SOURCE_DATE_EPOCH has it, in seconds. Raises :class:`EdgekitError` for a version or a date that is none.
    """
    if not _VERSION.fullmatch(version):
        why = "It has up to 64 letters, digits, dots, dashes, underscores and pluses"
        raise EdgekitError(f"no version: {version!r}. {why}. Give one as 3 or 2026.11.1.")
    origin = {"bundle_version": version}
    base = _base_of(run)
    if base is not None:
        origin |= _named(base)
    if licence is not None:
        origin["base_licence"] = " ".join(licence.split())[:200]
    if date is not None:
        origin["date"] = _day(date)
    return origin


def _base_of(run: Path) -> str | None:
    folder = policy_folder(run)
    if folder.resolve() == builtin_base().resolve():
        return "builtin"
    configs = [place / "config.yaml" for place in (run, folder.parent) if (place / "config.yaml").is_file()]
    return load_run_config(configs[0]).base if configs else None


def _named(base: str) -> dict[str, str]:
    """The base's name, its revision and its licence, as far as they are known without asking a network."""
    if base == "builtin":
        return {"base": base, "base_licence": "Apache-2.0"}
    if base in PACKAGED:
        return {"base": base, "base_revision": f"sha256:{PACKAGED[base].sha256}", "base_licence": PACKAGED[base].terms}
    if is_hub_name(base):
        name, _, revision = base.partition("@")
        return {"base": name} | ({"base_revision": revision} if revision else {})
    folder = Path(base)
    name = folder.parent.name if folder.name == "policy" else folder.name  # a run is called by its own name
    licence = _card_licence(folder)
    return {"base": name} | ({"base_licence": licence} if licence else {})


def _card_licence(folder: Path) -> str | None:
    try:
        found = _FRONT_MATTER.search(read_text(folder / "README.md"))
    except (OSError, ValueError):
        return None
    return found[1] if found else None


def _day(seconds: str) -> str:
    try:
        return f"{datetime.fromtimestamp(int(seconds), UTC):%Y-%m-%d}"
    except (ValueError, OverflowError, OSError):
        why = "It is not a number of seconds since 1970"
        raise EdgekitError(f"no date: SOURCE_DATE_EPOCH={seconds!r}. {why}. Unset it, or give one.") from None
