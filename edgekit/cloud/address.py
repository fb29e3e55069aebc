"""Where a server is that a user names: split from the model's name and checked before anything is sent there."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

LONGEST = 2000
CREDENTIALS = "holds credentials"
_PLACE = re.compile(r"(?P<model>.+)@(?P<address>https?://.*)", re.DOTALL)


def model_and_address(text: str) -> tuple[str, str] | None:
    """(model, address) of ``MODEL@http://HOST...``; None for anything else. A model's name may hold an @ too."""
    found = _PLACE.fullmatch(text)
    return None if found is None else (found["model"], found["address"].rstrip("/"))


def address_fault(address: str) -> str | None:
    """What keeps ``address`` from being http(s)://HOST[:PORT][/PATH], or None; quotes nothing secret."""
    import httpx2 as httpx

    if len(address) > LONGEST:
        return f"has {len(address):,} characters"
    if not address.isprintable() or " " in address:
        return "holds a character that no address has"
    try:
        parts = urlsplit(address)
        if parts.username is not None or parts.password is not None:
            return CREDENTIALS
        is_place = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        httpx.URL(address)
    except (ValueError, httpx.InvalidURL):
        is_place = False
    if not is_place:
        return "is none"
    return "has a query or a fragment" if "?" in address or "#" in address else None
