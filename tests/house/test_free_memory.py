"""What the heap holds free goes back to the system when it is asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import edgekit

# Small blocks come from the heap proper; the last one keeps its end in place, so freeing the others returns nothing.
FRAGMENTED = """
import ctypes
from edgekit.free_memory import release_free_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
blocks = [libc.malloc(4000) for _ in range(50_000)]
for block in blocks:
    ctypes.memset(block, 1, 4000)
for block in blocks[:-1]:
    libc.free(block)
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
before = resident()
release_free_memory()
print(before - resident())
"""


@pytest.mark.skipif(not Path("/lib64/ld-linux-x86-64.so.2").exists(), reason="the heap of glibc on x86-64")
def test_freed_blocks_below_one_in_use_go_back_to_the_system() -> None:
    root = str(Path(edgekit.__file__).parents[1])
    said = subprocess.run(
        [sys.executable, "-c", FRAGMENTED], capture_output=True, text=True, check=True, env={"PYTHONPATH": root}
    )
    assert int(said.stdout) > 150_000_000
