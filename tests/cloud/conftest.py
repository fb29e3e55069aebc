"""A server on loopback for the tests of clouds."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def _misbehaving() -> Any:
    name = "edgekit_tests_misbehaving"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("misbehaving.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture
def server() -> Iterator[Any]:
    """A server that behaves until ``server.modes`` says otherwise."""
    with _misbehaving().misbehaving_server() as server:
        yield server
