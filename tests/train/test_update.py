"""The update: chunks, batches, checkpointing and adapters change what it costs, not what it computes."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from edgekit.cloud.oracle import OracleCloud
from edgekit.errors import EdgekitError
from edgekit.policy.checkpoint import Policy, load_policy
from edgekit.policy.device import open_device
from edgekit.policy.model import PolicyModel, bfloat16_copy
from edgekit.policy.reference import decode_batch
from edgekit.rollout.sampler import sample_groups
from edgekit.tasks import get_task
from edgekit.train import head
from edgekit.train.batches import Sample
from edgekit.train.config import TrainConfig, load_config
from edgekit.train.head import chosen_log_probs
from edgekit.train.loop import train
from edgekit.train.metrics import StepMetrics
from edgekit.train.update import PolicyUpdate
from edgekit.warm_start.bases import builtin_base

TINY = ["steps=4", "prompts_per_step=6", "group_size=3", "train_pool=24", "checkpoint_every=2", "eval_n=0"]
LORA = ["lora_rank=4", "learning_rate=1e-2"]


@pytest.fixture
def policy() -> Policy:
    return load_policy(builtin_base())


def some_samples(n: int = 24) -> list[Sample]:
    """Responses of many lengths to a few prompts of many lengths; every fourth teaches nothing."""
    source = random.Random(1)
    prompts = [tuple(source.randrange(600) for _ in range(length)) for length in (3, 9, 14)]
    return [
        Sample(
            group := source.randrange(3),
            prompts[group],
            tuple(source.randrange(600) for _ in range(source.randint(1, 20))),
            source.uniform(-1, 1) if i % 4 else 0.0,
        )
        for i in range(n)
    ]


def gradients(model: PolicyModel, samples: list[Sample], **changes: object) -> dict[str, torch.Tensor]:
    """The gradient that a step of an update with ``changes`` to the config follows, by parameter."""
    model = copy.deepcopy(model)
    config = TrainConfig(grad_clip=None, **changes)  # type: ignore[arg-type]
    PolicyUpdate(model, config).apply(samples, 3, 0.0)
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


# --- the head in tiles ------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 40),
    vocabulary=st.integers(2, 70),
    width=st.integers(1, 9),
    at_once=st.integers(1, 2000),
    temperature=st.sampled_from([1.0, 0.6, 1.7]),
    seed=st.integers(0, 99),
)
def test_log_probs_in_tiles_and_their_gradients_are_the_plain_ones(
    rows: int, vocabulary: int, width: int, at_once: int, temperature: float, seed: int
) -> None:
    random_source = torch.Generator().manual_seed(seed)
    numbers = {"generator": random_source, "dtype": torch.float64}
    hidden = torch.randn(rows, width, **numbers).requires_grad_()
    weight = torch.randn(vocabulary, width, **numbers).requires_grad_()
    ids = torch.randint(vocabulary, (rows,), generator=random_source)
    upstream = torch.randn(rows, **numbers)
    without = torch.randperm(vocabulary, generator=random_source)[: seed % vocabulary]
    without = without[~torch.isin(without, ids)]
    logits = (hidden @ weight.t()) / temperature
    kept = torch.ones(vocabulary, dtype=torch.bool).index_fill(0, without, False)
    plain = logits.masked_fill(~kept, -torch.inf).log_softmax(-1)[torch.arange(rows), ids]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(head, "LOGITS_AT_ONCE", {"cpu": at_once})
        patch.setattr(head, "ROWS_AT_ONCE", 1 + at_once % 17)
        patch.setattr(head, "FEWEST_COLUMNS", 1 + at_once % 5)
        chunked = chosen_log_probs(hidden, weight, ids, temperature, without)
        torch.testing.assert_close(chunked, plain, rtol=1e-11, atol=1e-11)
        got = torch.autograd.grad(chunked, (hidden, weight), upstream)
    expected = torch.autograd.grad(plain, (hidden, weight), upstream)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("at_once", "is_tiled"), [(20_000, True), (10**9, False)])
def test_no_tensor_of_all_logits_is_ever_kept_or_made(
    policy: Policy, monkeypatch: pytest.MonkeyPatch, at_once: int, is_tiled: bool
) -> None:
    monkeypatch.setattr(head, "LOGITS_AT_ONCE", {"cpu": at_once})
    monkeypatch.setattr(head, "ROWS_AT_ONCE", at_once // 32)
    monkeypatch.setattr(head, "FEWEST_COLUMNS", 32)
    samples = some_samples(200)
    tokens = sum(len(sample.response_ids) for sample in samples if sample.advantage)
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    with Watch():
        gradients(policy.model, samples, rows_per_forward=200)
    assert tokens > 1000
    assert (largest < tokens * policy.model.config.vocab_size) == is_tiled


# --- what must not change the gradient --------------------------------------------------------------


def test_checkpointing_gives_the_same_gradient_to_the_last_bit_and_keeps_less(policy: Policy) -> None:
    kept = {}

    def measured(**changes: object) -> dict[str, torch.Tensor]:
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            result = gradients(policy.model, some_samples(), **changes)
        kept[bool(changes)] = sum(sizes.values())
        return result

    plain, again = measured(), measured(gradient_checkpointing=True)
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    assert len(plain) == len(again) > 10
    assert kept[True] < 0.5 * kept[False]


@pytest.mark.parametrize("rows", [1, 5, 7])
def test_batches_add_up_to_the_gradient_of_one(policy: Policy, rows: int) -> None:
    whole = gradients(policy.model.double(), some_samples())
    parts = gradients(policy.model, some_samples(), rows_per_forward=rows)
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-9, atol=1e-12)


def test_bfloat16_moves_the_gradient_little_and_leaves_the_weights_float32(policy: Policy) -> None:
    exact, rounded = (gradients(policy.model, some_samples(), bfloat16=on) for on in (False, True))
    assert {gradient.dtype for gradient in rounded.values()} == {torch.float32}
    left = torch.cat([gradient.flatten() for gradient in exact.values()])
    right = torch.cat([gradient.flatten() for gradient in rounded.values()])
    assert 0 < (left - right).norm() < 0.03 * left.norm()


def test_the_bfloat16_copy_computes_what_autocast_does(policy: Policy) -> None:
    ids = torch.tensor([[5, 9, 200, 31]])
    twin = bfloat16_copy(policy.model)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(twin(ids), policy.model(ids))
    assert twin.model.embed_tokens.weight is policy.model.model.embed_tokens.weight
    assert twin.model.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16


# --- adapters ---------------------------------------------------------------------------------------


def test_adapters_alone_are_trained_and_merged_the_policy_decides_the_same(policy: Policy) -> None:
    before = {name: parameter.clone() for name, parameter in policy.model.named_parameters()}
    update = PolicyUpdate(policy.model, load_config("quick", LORA))
    prompts = [policy.encode(problem.prompt) for problem in get_task("countdown").problems("validation", 30, 0)]
    base = decode_batch(policy, prompts)
    for _ in range(3):
        update.apply(some_samples(), 3, 1e-2)
    assert {name.split(".")[-3] for name, p in update.weights.model.named_parameters() if p.requires_grad} == {
        "lora_A",
        "lora_B",
    }
    for name, parameter in policy.model.named_parameters():
        adapted = name.split(".")[-2] in update.config.lora_targets
        assert torch.equal(parameter, before[name]) is not adapted, name
    merged = decode_batch(policy, prompts)
    unmerged = decode_batch(Policy(update.weights.model, policy.tokenizer, policy.routing, policy.vocabulary), prompts)
    decisions = [[(d.route, d.token_ids) for d in decided] for decided in (merged, unmerged, base)]
    assert decisions[0] == decisions[1] != decisions[2]
    margins = [[d.marker_margin for d in decided] for decided in (merged, unmerged)]
    assert margins[0] == pytest.approx(margins[1], abs=1e-3)


def test_the_adapters_gradient_is_the_merged_weights_chained_through_them(policy: Policy) -> None:
    """dL/dB = scale * dL/dW A^T: what peft computes is the gradient of the policy we deploy."""
    update = PolicyUpdate(policy.model, load_config("quick", LORA))
    update.apply(some_samples(), 3, 1e-2)
    full = gradients(policy.model, some_samples())["model.layers.1.mlp.up_proj.weight"]
    update.config = update.config.model_copy(update={"grad_clip": None})
    update.apply(some_samples(), 3, 0.0)
    layer = update.weights.model.get_submodule("model.layers.1.mlp.up_proj")
    (first, second), scale = (layer.lora_A["default"].weight, layer.lora_B["default"].weight), 32.0 / 4
    chained = scale * full @ first.t()
    # Float32 sums in two orders: small entries are as inexact as large ones.
    torch.testing.assert_close(second.grad, chained, rtol=1e-3, atol=1e-4 * float(chained.detach().abs().max()))


def test_a_rank_above_that_of_an_adapted_matrix_is_refused(policy: Policy) -> None:
    smallest = min(min(policy.model.get_submodule(f"model.layers.0.self_attn.{n}_proj").weight.shape) for n in "qv")
    targets = "lora_targets=[q_proj, v_proj]"
    PolicyUpdate(policy.model, load_config("quick", [f"lora_rank={smallest}", targets]))
    for rank in (smallest + 1, 10**6):
        with pytest.raises(EdgekitError, match=f"bad lora_rank: {rank}.*Choose at most {smallest}, or leave it out"):
            PolicyUpdate(policy.model, load_config("quick", [f"lora_rank={rank}", targets]))


def test_unknown_targets_and_a_missing_gpu_are_named(policy: Policy) -> None:
    with pytest.raises(EdgekitError, match="unknown lora_targets: wings"):
        PolicyUpdate(policy.model, load_config("quick", [*LORA, "lora_targets=[wings]"]))
    if not torch.cuda.is_available():
        with pytest.raises(EdgekitError, match="no device: cuda"):
            open_device("cuda")
        assert open_device("auto").type == "cpu"


def test_a_run_with_adapters_goes_on_bit_for_bit_from_a_checkpoint_of_adapters_alone(tmp_path: Path) -> None:
    config = load_config("quick", [*TINY, *LORA, "bfloat16=true", "gradient_checkpointing=true"])
    cloud = OracleCloud(get_task("countdown"))
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(config, whole, cloud=cloud)

    def stop(metrics: StepMetrics) -> None:
        if metrics.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, stopped, cloud=cloud, on_step=stop)
    train(config, stopped, cloud=cloud, resume=True)
    for name in ("metrics.jsonl", "policy/model.safetensors", "checkpoints/step_4/weights.safetensors"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes(), name
    steps = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert any(step["grad_norm"] > 0 for step in steps)
    sizes = [
        (whole / name).stat().st_size for name in ("checkpoints/step_4/weights.safetensors", "policy/model.safetensors")
    ]
    assert sizes[0] < 0.2 * sizes[1]
    assert load_policy(whole / "policy").encode("3 5 7 -> 22")


# --- rollouts ---------------------------------------------------------------------------------------


def test_bfloat16_rollouts_come_from_the_bfloat16_policy_and_repeat(policy: Policy) -> None:
    prompts = [policy.encode(problem.prompt) for problem in get_task("countdown").problems("train", 8, 0)]
    first, second = (sample_groups(policy, prompts, 4, temperature=1.0, seed=2, bfloat16=True) for _ in range(2))
    assert first == second
    assert {parameter.dtype for parameter in policy.model.parameters()} == {torch.float32}
