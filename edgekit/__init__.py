"""edgekit: teach an on-device language model when to call the cloud, and keep that true on the phone.

    import edgekit

    run = edgekit.train(out="out/run")
    bundle = edgekit.export(run, "onnx", out="out/onnx")
    report = edgekit.verify(bundle, reference=run)

What the commands do, with the same defaults, returning values and raising :class:`EdgekitError`. Each name is loaded
when it is first used, so that importing edgekit costs no torch.
"""

from __future__ import annotations

import sys
from types import ModuleType

from edgekit.version import __version__ as __version__

TYPE_CHECKING = False  # type checkers take it for true; nothing is imported here that a command would wait for
if TYPE_CHECKING:
    from typing import Any

    from edgekit.errors import EdgekitError
    from edgekit.workflows.answer import answer
    from edgekit.workflows.calibrate import calibrate
    from edgekit.workflows.export import export
    from edgekit.workflows.source import load_policy, open_bundle
    from edgekit.workflows.train import train
    from edgekit.workflows.verify import verify

__all__ = ["EdgekitError", "answer", "calibrate", "export", "load_policy", "open_bundle", "train", "verify"]

_LOADED_FROM = {
    "EdgekitError": "edgekit.errors",
    "answer": "edgekit.workflows.answer",
    "calibrate": "edgekit.workflows.calibrate",
    "export": "edgekit.workflows.export",
    "load_policy": "edgekit.workflows.source",
    "open_bundle": "edgekit.workflows.source",
    "train": "edgekit.workflows.train",
    "verify": "edgekit.workflows.verify",
}


def __getattr__(name: str) -> Any:
    if name not in _LOADED_FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    globals()[name] = value = getattr(import_module(_LOADED_FROM[name]), name)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


class _FrontDoor(ModuleType):
    """This module: ``edgekit.train`` is the function, though importing ``edgekit.train.loop`` would rebind the name.

    Python sets each subpackage as an attribute of its package once it is imported, over whatever has its name. The
    rooms are reached by ``from edgekit.train.loop import ...``.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _LOADED_FROM and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _FrontDoor
