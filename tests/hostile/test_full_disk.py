"""A disk that is full."""

from __future__ import annotations

import errno
import resource
import sys
from pathlib import Path

import pytest
import torch
from hostile.kill_at import run_until

from edgekit.policy.tensor_file import save_tensors


@pytest.mark.skipif(sys.platform != "linux", reason="reads the names of open files from /proc")
def test_tensors_that_find_no_room_are_the_system_s_own_error(tmp_path: Path) -> None:
    def save() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            save_tensors({"x": torch.zeros(100_000)}, tmp_path / "root" / "x.safetensors")
        except OSError as error:
            return error.errno or 0
        return 0

    (tmp_path / "root").mkdir()
    assert run_until(save, tmp_path / "root").code == errno.EFBIG
