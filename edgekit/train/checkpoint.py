"""Checkpoints: trained weights and Adam's moments as safetensors, the step as JSON, a whole directory or none."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from edgekit.atomic_write import new_directory
from edgekit.errors import BundleError
from edgekit.plain_file import open_plain, read_text
from edgekit.policy.model import PolicyModel
from edgekit.policy.tensor_file import save_tensors
from edgekit.policy.weights import is_finite

KEEP = 2
VERSION = 1


def checkpoint_steps(folder: Path) -> list[int]:
    """The steps of the checkpoints under ``folder``, rising."""
    names = (path.name.removeprefix("step_") for path in folder.glob("step_*") if (path / "state.json").exists())
    return sorted(int(name) for name in names if name.isdigit())


def save_checkpoint(
    folder: Path, step: int, model: PolicyModel, optimizer: torch.optim.Adam, call_price: float
) -> None:
    """Write ``folder``/step_N and remove all but the newest :data:`KEEP`. ``call_price``: the algorithm's state."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    moments = {}
    for name, parameter in trained.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            moments[f"{name}:{key}"] = value.detach().contiguous()
    weights = {name: parameter.detach().contiguous() for name, parameter in trained.items()}
    with new_directory(folder / f"step_{step}", marker_file="state.json") as new:
        save_tensors(weights, new / "weights.safetensors")
        save_tensors(moments, new / "optimizer.safetensors")
        (new / "state.json").write_text(json.dumps({"version": VERSION, "step": step, "call_price": call_price}) + "\n")
    for old in checkpoint_steps(folder)[:-KEEP]:
        # Its state goes first: without it the directory no longer counts as a checkpoint.
        (folder / f"step_{old}" / "state.json").unlink()
        shutil.rmtree(folder / f"step_{old}")


def load_checkpoint(folder: Path, step: int, model: PolicyModel, optimizer: torch.optim.Adam) -> float:
    """Put step_N back into ``model`` and ``optimizer``, bit for bit; returns the call price.

    Raises :class:`BundleError` if it cannot.
    """
    path = folder / f"step_{step}"
    try:
        state = json.loads(read_text(path / "state.json"))
        weights = _tensors(path / "weights.safetensors")
        moments = _tensors(path / "optimizer.safetensors")
        if state["version"] > VERSION:
            raise ValueError(f"version {state['version']} is newer than {VERSION}")
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if not parameter.requires_grad:
                    continue
                parameter.copy_(_like(parameter, weights[name], name))
                if f"{name}:step" in moments:
                    kept = {key: moments[f"{name}:{key}"] for key in ("step", "exp_avg", "exp_avg_sq")}
                    optimizer.state[parameter] = {
                        key: (_like(parameter, moment, name) if key != "step" else moment).to(parameter.device)
                        for key, moment in kept.items()
                    }
        if not math.isfinite(call_price := float(state.get("call_price", 0.0))):
            raise ValueError("its call_price is not finite")
        return call_price
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BundleError(
            f"unreadable checkpoint: {path}. {reason}. Remove it to resume from the one before."
        ) from None


def _tensors(path: Path) -> dict[str, Tensor]:
    with open_plain(path) as file:
        return load(file.read())


def _like(parameter: Tensor, stored: Tensor, name: str) -> Tensor:
    """``stored``, if it can be the ``parameter`` of that name, or one of its moments. Raises ValueError."""
    if stored.shape != parameter.shape:
        raise ValueError(f"{name} is {tuple(stored.shape)} instead of {tuple(parameter.shape)}")
    if not stored.is_floating_point() or not is_finite(stored):
        raise ValueError(f"{name} holds what are no finite numbers")
    return stored
