"""What training goes on from: weights and Adam's moments as tensors by name, and back, bit for bit, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor, nn

from edgekit.plain_file import open_plain
from edgekit.policy.tensor_file import save_tensors
from edgekit.policy.weights import is_finite

WEIGHTS_FILE, MOMENTS_FILE = "weights.safetensors", "optimizer.safetensors"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
LARGEST_STEP = 1e12


def save_state(folder: Path, trained: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Write both files into ``folder``. Raises OSError where the system refuses."""
    moments = {
        f"{name}:{key}": value.detach().contiguous()
        for name, parameter in trained.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    save_tensors({name: parameter.detach().contiguous() for name, parameter in trained.items()}, folder / WEIGHTS_FILE)
    save_tensors(moments, folder / MOMENTS_FILE)


def restore_state(folder: Path, trained: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Put the files in ``folder`` back into ``trained`` and ``optimizer``; where they cannot be, nothing is changed.

    Raises ValueError for files that are not those of ``trained``, or hold what training never made; OSError and
    SafetensorError for files that cannot be read.
    """
    weights, moments = _tensors(folder / WEIGHTS_FILE), _tensors(folder / MOMENTS_FILE)
    if others := sorted(weights.keys() ^ trained.keys()):
        raise ValueError(f"its weights {'have' if others[0] in weights else 'lack'} {others[0]}")
    kept: dict[str, dict[str, Tensor]] = {}
    for key, moment in moments.items():
        name, _, kind = key.rpartition(":")
        kept.setdefault(name, {})[kind] = moment
    for name, found in kept.items():
        if name not in trained or found.keys() != set(MOMENTS):
            raise ValueError(f"its moments of {name} are not those of what is trained")
        _check_moments(trained[name], found, name)
    for name, parameter in trained.items():
        _check_like(parameter, weights[name], name)
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(weights[name])
    for name, found in kept.items():
        optimizer.state[trained[name]] = {key: found[key].to(trained[name].device) for key in MOMENTS}


def _tensors(path: Path) -> dict[str, Tensor]:
    with open_plain(path) as file:
        return load(file.read())


def _check_like(parameter: Tensor, stored: Tensor, name: str) -> None:
    if stored.shape != parameter.shape:
        raise ValueError(f"{name} is {tuple(stored.shape)} instead of {tuple(parameter.shape)}")
    if stored.dtype != parameter.dtype:
        raise ValueError(f"{name} is {stored.dtype} instead of {parameter.dtype}")
    if not is_finite(stored):
        raise ValueError(f"{name} holds what are no finite numbers")


def _check_moments(parameter: Tensor, moments: Mapping[str, Tensor], name: str) -> None:
    steps, mean, square = (moments[key] for key in MOMENTS)
    for moment in (mean, square):
        _check_like(parameter, moment, name)
    if bool((square < 0).any()):
        raise ValueError(f"{name} has squares below 0")
    if steps.shape or not steps.is_floating_point() or not 1 <= float(steps) < LARGEST_STEP:
        raise ValueError(f"{name} has no number of steps")
