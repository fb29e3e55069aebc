"""How long work says how far it is. Library code calls these; what is shown, and where, is the caller's matter."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Hears that ``done`` of ``total`` steps are over, and in ``note`` what is going on."""

    def __call__(self, done: int, total: int, note: str = "", /) -> None: ...


class Say(Protocol):
    """Hears which stage begins, in work whose stages cannot be counted beforehand."""

    def __call__(self, stage: str, /) -> None: ...
