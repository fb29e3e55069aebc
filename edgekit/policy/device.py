"""Where a policy's model computes."""

from __future__ import annotations

from typing import Literal

import torch

from edgekit.errors import EdgekitError

DeviceName = Literal["auto", "cpu", "cuda"]
"""auto: a CUDA GPU where torch has one."""


def open_device(name: DeviceName) -> torch.device:
    """The device that ``name`` means here. Raises :class:`EdgekitError` if it is missing."""
    present = torch.cuda.is_available()
    if name == "cuda" and not present:
        raise EdgekitError("no device: cuda. torch finds no GPU here. Use device=cpu, or install torch with CUDA.")
    return torch.device("cuda" if present and name != "cpu" else "cpu")
