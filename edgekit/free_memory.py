"""Memory that long work need not hold: what it has freed, and kernels for shapes that do not come again."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress

KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
KERNELS = "64"
"""A step of decoding takes a dozen at a time."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""
LEAST_GROWTH = 500_000_000
"""Bytes: less is not worth the pages that would have to come again."""


def keep_few_kernels() -> None:
    """Have oneDNN and torch's layer above it keep :data:`KERNELS` each, unless the environment says otherwise.

    For each shape of a bfloat16 product on a CPU they make a kernel of half a megabyte and more, and keep 1,024 each.
    In rollouts and updates nearly every batch has another shape. Read when the first such product is taken, not after.
    """
    for name in KERNEL_CACHES:
        os.environ.setdefault(name, KERNELS)


class FreeMemory:
    """For long work in steps: what a step has freed is kept for the next, and returned when it piles up.

    By default glibc returns each freed tensor of more than 32 MB, and the end of its heap, to the system, and gets them
    again as pages that are zeroed one by one: 300,000 in a training step of a model of 135 M parameters. But
    activations differ in size from step to step, so blocks freed by one seldom fit the next: there the heap grew by
    45 MB (supervised) to 100 MB (reinforcement) a step. Does nothing under another C library.
    """

    def __init__(self) -> None:
        self.usual: int | None = None
        if sys.platform == "linux":
            with suppress(OSError, AttributeError):
                libc = ctypes.CDLL(None)
                # Older ones refuse more than 32 MB, and keep whatever threshold they had once the other is set.
                if libc.mallopt(M_MMAP_THRESHOLD, 1 << 30) or libc.mallopt(M_MMAP_THRESHOLD, 32 << 20):
                    libc.mallopt(M_TRIM_THRESHOLD, -1)  # read as the largest number

    def keep_low(self) -> None:
        """To be called after each step. The first sets how much is usual; where nobody says it, each returns."""
        resident = resident_bytes()
        if not resident:
            release_free_memory()
        elif self.usual is None:
            self.usual = resident
        elif resident > self.usual + max(LEAST_GROWTH, self.usual // 4):
            release_free_memory()
            self.usual = None  # what the next step leaves is usual from then on


def resident_bytes() -> int:
    """How much of this process is in memory; 0 where the system does not say."""
    try:  # without pathlib: the command's first lines import this, and Ctrl-C is theirs only after them
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def release_free_memory() -> None:
    """Return what glibc's heap holds free; does nothing under another C library."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
