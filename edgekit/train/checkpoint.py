"""Checkpoints: trained weights and Adam's moments as safetensors, the step as JSON, a whole directory or none."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn

from edgekit.atomic_write import new_directory
from edgekit.errors import BundleError
from edgekit.plain_file import read_text
from edgekit.policy.model import PolicyModel
from edgekit.policy.optimizer_state import restore_state, save_state
from edgekit.record_lines import is_number

KEEP = 2
_STEP = re.compile(r"step_([1-9][0-9]{0,11})", re.ASCII)
VERSION = 1


def checkpoint_steps(folder: Path) -> list[int]:
    """The steps of the checkpoints under ``folder``, rising."""
    names = (_STEP.fullmatch(path.name) for path in folder.glob("step_*") if (path / "state.json").exists())
    return sorted(int(name[1]) for name in names if name is not None)


def save_checkpoint(
    folder: Path, step: int, model: PolicyModel, optimizer: torch.optim.Adam, call_price: float
) -> None:
    """Write ``folder``/step_N and remove all but the newest :data:`KEEP`. ``call_price``: the algorithm's state."""
    with new_directory(folder / f"step_{step}", marker_file="state.json") as new:
        save_state(new, _trained(model), optimizer)
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
        call_price = state.get("call_price", 0.0)
        if state["version"] > VERSION:
            raise ValueError(f"version {state['version']} is newer than {VERSION}")
        if state["step"] != step:
            raise ValueError(f"it is of step {state['step']}")
        if isinstance(call_price, bool) or not is_number(call_price):
            raise ValueError("its call_price is no number")
        restore_state(path, _trained(model), optimizer)
        return float(call_price)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BundleError(
            f"unreadable checkpoint: {path}. {reason}. Remove it to resume from the one before."
        ) from None


def _trained(model: PolicyModel) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
