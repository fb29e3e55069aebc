"""What an operation's builder is given, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from numpy.typing import NDArray

Array = NDArray[Any]
Function = Callable[..., Any]
"""(arrays, in the order taken) -> the output array, or a tuple of several."""


class Node(Protocol):
    """One operation being built. What a builder neither takes nor reads is refused afterwards."""

    def take(self, name: str) -> None:
        """Make a tensor input the next argument of the function."""

    def take_all(self, name: str) -> None:
        """The same for every tensor of a variadic input."""

    def has(self, name: str) -> bool:
        """Whether the operation gives this input."""

    def constant(self, name: str, default: Any = ...) -> Any:
        """A constant's value, numpy (halves as float32) or str; ``default`` if absent, EdgekitError if required."""

    def may_overwrite(self, name: str) -> bool:
        """Whether the tensor input is a state that this operation alone reads, before the state is written back."""

    def refuse(self, why: str) -> Exception:
        """The error to raise for a parameter value the simulator cannot honour."""


Builder = Callable[[Node], Function]
"""Reads an operation's constant parameters once, at load time, and returns a function of its other inputs."""
