"""What the heap holds free goes back to the system, and kernels for shapes that do not come again are not kept."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

import edgekit
from edgekit import free_memory
from edgekit.free_memory import FreeMemory

on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the heap of glibc")
RESIDENT = """
import resource
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
"""
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
before = resident()
release_free_memory()
print(before - resident())
"""
BETWEEN_STEPS = """
import ctypes
from edgekit import free_memory
free_memory.LEAST_GROWTH = 50_000_000
memory = free_memory.FreeMemory()
memory.keep_low()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def step(size):
    blocks = [libc.malloc(4000) for _ in range(size // 4000)]
    large = libc.malloc(size)
    for block in blocks:
        ctypes.memset(block, 1, 4000)
    ctypes.memset(large, 1, size)
    for block in (*blocks, large):
        libc.free(block)
    return resident()
"""
WHAT_A_STEP_FREES = (
    BETWEEN_STEPS
    + """
begin = resident()
print(step(40_000_000) - begin)
"""
)
WHAT_PILES_UP = (
    BETWEEN_STEPS
    + """
before = step(200_000_000)
memory.keep_low()
print(before - resident())
"""
)
EVER_NEW_SHAPES = """
from edgekit.free_memory import keep_few_kernels, release_free_memory
keep_few_kernels()
import torch
torch.set_num_threads(1)
weight = torch.zeros(1536, 576, dtype=torch.bfloat16)
for rows in range(100, 500):
    torch.nn.functional.linear(torch.zeros(rows, 576, dtype=torch.bfloat16), weight)
    if rows == 199:
        release_free_memory()
        before = resident()
release_free_memory()
print(resident() - before)
"""


@on_glibc
def test_freed_blocks_below_one_in_use_go_back_to_the_system() -> None:
    assert said_by(FRAGMENTED) > 150_000_000


@on_glibc
def test_what_a_step_frees_is_kept_for_the_next_and_what_piles_up_goes_back() -> None:
    assert said_by(WHAT_A_STEP_FREES) > 70_000_000
    assert said_by(WHAT_PILES_UP) > 350_000_000


@pytest.mark.parametrize(("most", "calls"), [
    (1 << 30, [(-3, 1 << 30), (-1, -1)]),
    (32 << 20, [(-3, 1 << 30), (-3, 32 << 20), (-1, -1)]),
    (0, [(-3, 1 << 30), (-3, 32 << 20)]),
])  # fmt: skip
def test_a_library_that_takes_no_high_threshold_gets_a_lower_one_or_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch, most: int, calls: list[tuple[int, int]]
) -> None:
    asked: list[tuple[int, int]] = []

    class Library:
        def mallopt(self, option: int, value: int) -> int:
            asked.append((option, value))
            return int(value <= most)

    monkeypatch.setattr(free_memory.ctypes, "CDLL", lambda _name: Library())
    monkeypatch.setattr(free_memory.sys, "platform", "linux")
    FreeMemory()
    assert asked == calls


def test_where_nobody_says_what_is_resident_each_step_gives_back(monkeypatch: pytest.MonkeyPatch) -> None:
    given_back: list[bool] = []
    monkeypatch.setattr(free_memory, "resident_bytes", lambda: 0)
    monkeypatch.setattr(free_memory, "release_free_memory", lambda: given_back.append(True))
    memory = FreeMemory()
    for _ in range(3):
        memory.keep_low()
    assert len(given_back) == 3


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux tells what is resident")
def test_products_of_ever_new_shapes_do_not_fill_the_memory() -> None:
    """Where a processor multiplies bfloat16 itself, 300 shapes took 210 MB."""
    assert said_by(EVER_NEW_SHAPES) < 30_000_000


def said_by(program: str) -> int:
    """The number that ``program`` prints in a process of its own."""
    root = str(Path(edgekit.__file__).parents[1])
    said = subprocess.run(
        [sys.executable, "-c", RESIDENT + program], capture_output=True, text=True, check=True, env={"PYTHONPATH": root}
    )
    return int(said.stdout)
