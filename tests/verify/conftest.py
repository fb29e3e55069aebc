"""A tiny policy, its prompts, and a copy of its bundle to damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgekit.policy.checkpoint import Policy, load_policy
from edgekit.tasks.base import Problem


@pytest.fixture(scope="module")
def policy(tiny_policy_folder: Path) -> Policy:
    return load_policy(tiny_policy_folder)


@pytest.fixture
def damaged(tiny_bundle_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle_folder, tmp_path / "bundle"))


@pytest.fixture(scope="module")
def problems(tiny_prompts: list[str]) -> list[Problem]:
    return [Problem(str(number), prompt, "tiny") for number, prompt in enumerate(tiny_prompts)]
