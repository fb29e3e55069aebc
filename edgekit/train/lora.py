"""Low-rank adapters by peft: few weights are trained, and the policy that results is an ordinary one.

The run's policy always holds plain weights, with the adapters merged in: rollouts, evaluation and the saved folder
never see one. What is trained is a twin that shares every weight but the adapted ones, which it keeps as they were.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from edgekit.errors import BackendMissing, EdgekitError, install_hint
from edgekit.policy.model import PolicyModel
from edgekit.train.config import TrainConfig


def with_adapters(model: PolicyModel, config: TrainConfig) -> PolicyModel:
    """A twin of ``model`` whose linears named in ``config.lora_targets`` carry adapters, the only trained weights.

    It computes what ``model`` does until it is trained. Raises :class:`EdgekitError` if no linear has such a name, or
    the rank is larger than that of one.
    """
    try:
        import peft
    except ImportError:
        raise BackendMissing(f"cannot add adapters: peft is not installed. {install_hint('lora')}.") from None
    linears = dict(_linears(model, config.lora_targets))
    adapted = {id(module.weight) for module in linears.values()}
    if not adapted:
        raise EdgekitError(
            f"unknown lora_targets: {', '.join(config.lora_targets)}. The model has no such linear. "
            "Use names such as q_proj, v_proj, gate_proj."
        )
    name, smallest = min(linears.items(), key=lambda named: min(named[1].weight.shape))
    if (config.lora_rank or 0) > (most := min(smallest.weight.shape)):
        rows, columns = smallest.weight.shape
        why = f"{name} is {rows} x {columns}, whose rank is at most {most}"
        raise EdgekitError(f"bad lora_rank: {config.lora_rank}. {why}. Choose at most {most}, or leave it out.")
    shared: dict[int, Tensor] = {id(p): p for p in model.parameters() if id(p) not in adapted}
    twin = copy.deepcopy(model, shared)
    adapters = peft.LoraConfig(
        r=config.lora_rank or 0,
        lora_alpha=config.lora_alpha,
        target_modules=list(config.lora_targets),
        bias="none",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # the adapters' first halves are random
        peft.inject_adapter_in_model(adapters, twin)
    return twin


@torch.no_grad()
def merge_adapters(twin: PolicyModel, model: PolicyModel) -> None:
    """Give the plain ``model`` the weights that ``twin`` computes with."""
    from peft.tuners.lora import Linear

    for name, module in twin.named_modules():
        if isinstance(module, Linear):
            (adapter,) = module.active_adapters
            kept, plain = module.get_base_layer(), model.get_submodule(name)
            assert isinstance(kept, nn.Linear)
            assert isinstance(plain, nn.Linear)
            plain.weight.copy_(kept.weight + module.get_delta_weight(adapter))


def _linears(model: PolicyModel, names: tuple[str, ...]) -> Iterator[tuple[str, nn.Linear]]:
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear) and path.rsplit(".", 1)[-1] in names:
            yield path, module
