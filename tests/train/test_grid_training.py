"""Reinforcement learning on a grid: unbiased for the policy that acts, and what comes out is its own artifact."""

from __future__ import annotations

import copy
import itertools
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from edgekit.cloud.oracle import OracleCloud
from edgekit.errors import ConfigError
from edgekit.policy.activations import RoundingLinear, plain_inputs
from edgekit.policy.checkpoint import Policy, load_policy, save_policy, state_tensors
from edgekit.policy.grid import FLOATS
from edgekit.policy.model import PolicyModel
from edgekit.policy.reference import decode_batch
from edgekit.policy.traits import ModelConfig
from edgekit.quantize.grid import GridWeights, lies_on_grid
from edgekit.quantize.qat import QatConfig, finetune
from edgekit.quantize.quantized import quantize_policy
from edgekit.recipes.lookup import find_recipe
from edgekit.recipes.quant_recipe import QuantRecipe, QuantRule
from edgekit.tasks import get_task
from edgekit.train.advantage import group_advantages
from edgekit.train.batches import Sample, collate
from edgekit.train.config import load_config
from edgekit.train.health import findings_at_end
from edgekit.train.loop import train
from edgekit.train.loss import policy_gradient_loss, response_log_probs
from edgekit.train.metrics import StepMetrics, read_metrics
from edgekit.train.moved import MovedIntegers
from edgekit.train.run_directory import read_run_config
from edgekit.train.start import start_of, starting_policy, untrained_policy

TASK = get_task("countdown")
CLOUD = OracleCloud(TASK)
TINY = ["steps=3", "prompts_per_step=6", "group_size=3", "train_pool=24", "checkpoint_every=2", "eval_n=4"]
PROMPT = (1, 2)
# Every response of at most two tokens: 0 ends it, 3 is the marker.
OUTCOMES = [(0,), (3,), *((first, second) for first in (1, 2) for second in range(4))]
REWARDS = torch.tensor([0.0, 0.25, 1.0, 0.0, 0.2, 0.25, 0.7, 1.0, 0.0, 0.5], dtype=torch.float64)


def toy_model() -> PolicyModel:
    """A float64 policy over four tokens."""
    torch.manual_seed(0)
    model = PolicyModel(ModelConfig(4, 8, 8, 1, 2, 1, 4, 16)).double()
    for parameter in model.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return model


def log_probs_of(model: PolicyModel) -> torch.Tensor:
    return response_log_probs(model, collate([Sample(0, PROMPT, y, 0.0) for y in OUTCOMES]), 0.8)


def gradient_of(loss: torch.Tensor, module: torch.nn.Module) -> torch.Tensor:
    """What a backward pass of ``loss`` leaves in ``module``'s parameters."""
    module.zero_grad()
    torch.autograd.backward(loss)
    return torch.cat([p.grad.flatten().double() for p in module.parameters() if p.grad is not None])


def expected_estimate(grid: GridWeights, acting: torch.Tensor) -> torch.Tensor:
    """The expectation of minus the latent gradient over every pair of responses that ``acting`` probabilities draw."""
    log_probs, total = log_probs_of(grid.model), torch.zeros(())
    for pair in itertools.product(range(len(OUTCOMES)), repeat=2):
        rows = list(pair)
        advantages = group_advantages(REWARDS[rows][None])[0]
        total = total + acting[rows].prod() * policy_gradient_loss(log_probs[rows], advantages, 1)
    return -gradient_of(total, grid.latent)


@pytest.mark.parametrize("activations", ["float", "int8", "int8_block"])
def test_the_estimator_is_unbiased_for_the_policy_that_acts_on_the_grid(activations: str) -> None:
    """Its expectation is the gradient of the expected reward in the grid's own weights, handed to the latent ones.

    Where activations are rounded, that gradient passes through their rounding as if it were the identity.
    """
    model, floats = toy_model(), toy_model()
    rules = [{"match": "*", "bits": 4, "group_size": 8}]
    grid = GridWeights(model, QuantRecipe.model_validate({"rules": rules, "activations": activations}))
    acting = log_probs_of(model).detach().exp()
    assert acting.sum().item() == pytest.approx(1.0)
    exact = gradient_of((log_probs_of(model).exp() * REWARDS).sum(), grid.latent)
    if activations == "float":  # no straight-through step is left in it: it is an ordinary model's gradient
        plain = copy.deepcopy(model)
        plain_inputs(plain)
        ordinary = gradient_of((log_probs_of(plain).exp() * REWARDS).sum(), plain)
        torch.testing.assert_close(exact, ordinary, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(expected_estimate(grid, acting), exact, rtol=1e-9, atol=1e-12)
    # Responses of the float policy behind the grid would follow another gradient.
    elsewhere = expected_estimate(grid, log_probs_of(floats).detach().exp())
    assert (elsewhere - exact).norm() > 0.05 * exact.norm()


@pytest.mark.parametrize("recipe", ["onnx_int4", "executorch_int4_decisions", "coreml_int4_decisions"])
def test_a_run_on_a_grid_ends_in_its_own_artifact_and_resumes_bit_for_bit(recipe: str, tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    config = load_config("quick", [*TINY, f"quantize={recipe}", "learning_rate=1e-3"])
    train(config, whole, cloud=CLOUD)

    def stop(metrics: StepMetrics) -> None:
        if metrics.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, stopped, cloud=CLOUD, on_step=stop)
    train(read_run_config(stopped), stopped, cloud=CLOUD, resume=True)
    latents = "checkpoints/step_3/weights.safetensors"
    for name in ("metrics.jsonl", "policy/model.safetensors", "policy/grid.json", latents):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes(), name
    policy, rules = load_policy(whole / "policy"), find_recipe(recipe, None).quantize
    assert policy.grid is not None
    assert policy.grid.recipe == recipe
    assert lies_on_grid(policy.model, rules)
    latent = load_file(whole / latents)["model.layers.0.mlp.up_proj.weight"]
    shown = policy.model.get_parameter("model.layers.0.mlp.up_proj.weight")
    assert 0 < float((latent - shown).detach().abs().max()) < 0.1
    behind = load_policy(whole / "policy" / FLOATS)
    assert behind.grid is None
    assert torch.equal(latent, behind.model.get_parameter("model.layers.0.mlp.up_proj.weight"))
    assert 0 < read_metrics(whole)[-1]["moved"] < 0.5
    # Not even a recipe that rounds by GPTQ needs calibration prompts any more: there is nothing left to round.
    quantized = quantize_policy(policy, rules)
    prompts = [policy.encode(problem.prompt) for problem in TASK.problems("validation", 24, 0)]
    assert decode_batch(policy, prompts) == decode_batch(quantized, prompts)
    # The update computes the very probabilities that the rollouts were drawn by.
    assert all(step["gap_largest"] < 1e-3 for step in read_metrics(whole))


def test_a_run_may_start_from_a_policy_on_a_grid_on_another_one_or_in_floats(tmp_path: Path) -> None:
    first = tmp_path / "first"
    slow = ["learning_rate=1e-9", "quantize=executorch_int4"]
    train(load_config("quick", [*TINY, "steps=1", *slow]), first, cloud=CLOUD)
    assert read_metrics(first)[-1]["moved"] == 0.0
    assert [finding.kind for finding in findings_at_end(read_metrics(first), "gapg")] == ["unmoved"]
    base = f"base={first / 'policy'}"
    for name, settings in (("other", ["quantize=onnx_int4"]), ("floats", [])):
        run = tmp_path / name
        train(load_config("quick", [*TINY, "steps=1", base, *settings]), run, cloud=CLOUD)
        assert ("moved" in read_metrics(run)[-1]) == (name == "other")
        policy = load_policy(run / "policy")
        rounds = any(isinstance(module, RoundingLinear) for module in policy.model.modules())
        assert (policy.grid is not None) == rounds == (name == "other")
        assert lies_on_grid(policy.model, find_recipe("onnx_int4", None).quantize) == (name == "other")


def test_training_on_starts_from_the_floats_behind_a_fine_tuned_policy_if_they_are_kept_and_the_grid_is_its_own(
    tiny_policy_folder: Path, tiny_prompts: list[str], tmp_path: Path
) -> None:
    recipe, folder = find_recipe("executorch_int4", None), tmp_path / "policy"
    settings = QatConfig(steps=2, rows=4)
    tuned, floats = finetune(load_policy(tiny_policy_folder), recipe.quantize, tiny_prompts[:4], settings)
    save_policy(tuned, folder, floats)
    on_grid, behind = state_tensors(tuned.model), state_tensors(floats)

    def start(*settings: str) -> tuple[dict[str, torch.Tensor], Policy]:
        config = load_config("quick", [f"base={folder}", *settings])
        where, grid = start_of(config)
        return state_tensors(starting_policy(config, where, grid).model), untrained_policy(config, where, grid)

    def same(ours: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
        return ours.keys() == others.keys() and all(torch.equal(ours[name], others[name]) for name in ours)

    weights, acting = start("quantize=executorch_int4")
    assert same(weights, behind)
    assert not same(behind, on_grid)
    assert same(state_tensors(acting.model), on_grid)
    tokens = torch.tensor([[3, 4, 5, 90, 7]])
    assert torch.equal(acting.model(tokens), tuned.model(tokens))
    for elsewhere in ([], ["quantize=onnx_int8"]):
        assert same(start(*elsewhere)[0], on_grid)
    shutil.rmtree(folder / FLOATS)
    weights, acting = start("quantize=executorch_int4")
    assert same(weights, on_grid)
    assert same(state_tensors(acting.model), on_grid)


def test_an_integer_has_moved_once_its_float_rounds_to_another_whatever_became_of_the_scale() -> None:
    weight = torch.linspace(-7.0, 7.0, 64).view(2, 32)
    rules = [QuantRule(match="*", bits=4, group_size=32), QuantRule(match="*", bits=8)]
    integers = MovedIntegers([(weight, rules[0]), (weight.clone(), rules[1])])
    weight[0] *= 4.0
    assert integers.share() == 0.0
    weight[1, 5] += 1.0
    assert integers.share() == 1 / 128


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["quantize=int3"], "unknown recipe: int3"),
        (["quantize=onnx_fp32"], "no grid to train on"),
        (["quantize=coreml_palette4"], "palettes have no fixed grid"),
        (["quantize=onnx_int4", "lora_rank=4"], "leave lora_rank out"),
        (["quantize=onnx_int4", "rollouts=vllm:m@http://h/v1"], "server does not round activations"),
    ],
)
def test_a_grid_that_cannot_be_trained_on_is_refused_before_any_work(settings: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load_config("quick", settings)


def test_a_recipe_file_of_ones_own_is_kept_as_it_was_when_the_run_began(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    mine, run = tmp_path / "mine.yaml", tmp_path / "run"
    text = "name: mine\ndescription: x\ntarget: onnx\nprecision: int8\nquantize: {rules: [{match: '*', bits: 8}]}\n"
    mine.write_text(text)
    monkeypatch.chdir(tmp_path)
    config = load_config("quick", [*TINY, "steps=2", "checkpoint_every=1", "quantize=mine.yaml"])

    def stop(metrics: StepMetrics) -> None:
        if metrics.step == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, run, cloud=CLOUD, on_step=stop)
    mine.unlink()
    monkeypatch.chdir("/")
    train(read_run_config(run), run, cloud=CLOUD, resume=True)
    grid = load_policy(run / "policy").grid
    assert grid is not None
    assert grid.quantize.rules[0].bits == 8
