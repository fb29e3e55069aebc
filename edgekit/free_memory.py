"""Memory that long work need not hold: what it has freed, and kernels for shapes that do not come again."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress

KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
KERNELS = "64"
"""A step of decoding takes a dozen at a time."""


def keep_few_kernels() -> None:
    """Have oneDNN and torch's layer above it keep :data:`KERNELS` each, unless the environment says otherwise.

    For each shape of a bfloat16 product on a CPU they make a kernel of half a megabyte and more, and keep 1,024 each.
    In rollouts and updates nearly every batch has another shape. Read when the first such product is taken, not after.
    """
    for name in KERNEL_CACHES:
        os.environ.setdefault(name, KERNELS)


def release_free_memory() -> None:
    """Return what glibc's heap holds free; does nothing under another C library.

    Activations differ in size from step to step, so blocks freed by one seldom fit the next: on a model of 135 M
    parameters the heap grew by 45 MB (supervised) to 100 MB (reinforcement) a step.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
