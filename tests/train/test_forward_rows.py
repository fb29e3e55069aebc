"""Responses per pass of the update: as ever where memory allows, fewer where it does not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgekit.policy.model import PolicyModel
from edgekit.policy.traits import ModelConfig
from edgekit.train import forward_rows
from edgekit.train.batches import Sample, batches, collate, most_tokens
from edgekit.train.config import TrainConfig
from edgekit.train.forward_rows import activation_bytes, free_bytes
from edgekit.train.loss import response_log_probs

SHAPES = [(192, 4, 9, 3, 16), (512, 4, 8, 8, 16), (512, 4, 3, 1, 64)]


def model_of(shape: tuple[int, int, int, int, int]) -> PolicyModel:
    inner, layers, heads, keys, dim = shape
    return PolicyModel(ModelConfig(64, heads * dim, inner, layers, heads, keys, dim, 128))


def samples(count: int) -> list[Sample]:
    return [Sample(i // 4, (1,) * (20 + i // 4), (2,) * (5 + i), 1.0) for i in range(count)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_backward_pass_keeps_no_more_than_is_reckoned_and_not_much_less(
    shape: tuple[int, int, int, int, int], bfloat16: bool
) -> None:
    model, batch = model_of(shape), collate([Sample(i, (1,) * 20, (2,) * 30, 1.0) for i in range(4)])
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: list[Tensor] = []
    with (
        torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x),  # type: ignore[func-returns-value]
        torch.autocast("cpu", torch.bfloat16, enabled=bfloat16),
    ):
        response_log_probs(model, batch, 1.0)
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in kept}
    found = sum(size for address, size in storages.items() if address not in own) / (4 * 50)
    assert found < activation_bytes(model.config, checkpointing=False) < 1.7 * found


def test_rows_are_the_usual_ones_unless_memory_forbids(monkeypatch: pytest.MonkeyPatch) -> None:
    model, some = model_of(SHAPES[0]), samples(24)
    assert free_bytes(torch.device("cpu")) is None or free_bytes(torch.device("cpu")) > 1e6
    assert forward_rows.forward_rows(TrainConfig(), model, some) == 128
    assert forward_rows.forward_rows(TrainConfig(rows_per_forward=7), model, some) == 7
    a_token = activation_bytes(model.config, checkpointing=False)
    for tokens in (2000, 700, 300, 100, 1):
        monkeypatch.setattr(forward_rows, "free_bytes", lambda _, tokens=tokens: int(a_token * tokens / 0.5) + 1)
        rows = forward_rows.forward_rows(TrainConfig(), model, some)
        assert rows == 1 or most_tokens(some, rows) <= tokens
        assert rows == 128 or most_tokens(some, 2 * rows) > tokens
    monkeypatch.setattr(forward_rows, "free_bytes", lambda _: None)
    assert forward_rows.forward_rows(TrainConfig(), model, some) == 128


def test_the_most_tokens_are_those_of_the_largest_batch() -> None:
    for rows in (1, 5, 8, 100):
        sizes = [batch.prompts.numel() + batch.responses.numel() for batch in batches(samples(24), rows)]
        assert most_tokens(samples(24), rows) == max(sizes)
    assert most_tokens([], 4) == 0
