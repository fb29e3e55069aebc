"""A border between host and device on a machine that has no device: what was made here and what was moved there.

Where tensors of both meet in an operation, a GPU would refuse it, or copy in silence. A tensor made without a device
is the host's; one made on a ``torch.device``, or moved to one, is the device's, as is all that is computed from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

MAKES = frozenset({
    "tensor", "zeros", "ones", "empty", "full", "arange", "eye", "rand", "randn", "randint", "randperm", "linspace",
    "from_numpy", "as_tensor",
})  # fmt: skip
ACROSS = frozenset({"copy_", "is_same_size", "__get__", "__set__"})
"""May take one of each: copying is what they are for, or they read no numbers."""


class MixedDevicesError(AssertionError):
    """An operation of tensors from both sides."""


class Boundary(TorchFunctionMode):
    """Raises :class:`MixedDevicesError` where host and device meet; what exists before is the device's."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in MAKES:
            made = func(*args, **kwargs)
            made.is_host = not isinstance(kwargs.get("device"), torch.device)
            return made
        if name in ("to", "cpu") and isinstance(args[0], Tensor):
            return self._moved(name, func, args, kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        sides = {is_host(tensor) for tensor in tensors if tensor.dim()}
        if len(sides) > 1 and name not in ACROSS:
            raise MixedDevicesError(f"{name} of host and device: {[(is_host(t), tuple(t.shape)) for t in tensors]}")
        result = func(*args, **kwargs)
        if tensors and all(map(is_host, tensors)):
            for made in of_tensors(result):
                made.is_host = True
        return result

    def _moved(self, name: str, func: Any, args: Any, kwargs: Any) -> Tensor:
        places = [*args[1:], kwargs.get("device")]
        result = func(*args, **kwargs)
        to_device = any(isinstance(place, torch.device) for place in places)
        if to_device == is_host(args[0]) and (to_device or name == "cpu" or "cpu" in places):
            result = torch.ops.aten.alias(result) if result is args[0] else result
            result.is_host = not to_device
        elif is_host(args[0]):
            result.is_host = True
        return result


def is_host(tensor: Tensor) -> bool:
    """Whether ``tensor`` was made on the host."""
    return getattr(tensor, "is_host", False)


def of_tensors(result: Any) -> Iterator[Tensor]:
    """The tensors in what an operation gives."""
    return (leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
