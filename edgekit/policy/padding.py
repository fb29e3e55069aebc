"""Rows of unlike length as one tensor: prompts padded on the left, responses on the right."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pad_left(rows: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Token ids (n, T) int64 with 0 before each row, and how many of each row are padding (n,) int64."""
    width = max(len(row) for row in rows)
    padding = [width - len(row) for row in rows]
    ids = [[*[0] * missing, *row] for missing, row in zip(padding, rows, strict=True)]
    return torch.tensor(ids, device=device), torch.tensor(padding, device=device)


def pad_right(rows: Sequence[Sequence[float]], fill: float = 0) -> Tensor:
    """Rows (n, T) with ``fill`` after each: int64, bool or float32 as they are."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])


def real_places(rows: Sequence[Sequence[object]]) -> Tensor:
    """(n, T) bool: what of right-padded ``rows`` is no padding."""
    lengths = torch.tensor([len(row) for row in rows])
    return torch.arange(int(lengths.max()))[None, :] < lengths[:, None]
