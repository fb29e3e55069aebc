"""Shared fixtures: a tiny random policy whose marker margins are spread, as a Hugging Face folder."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from edgekit.evaluate.answers import PolicyDecider
from edgekit.evaluate.calibrate import apply_calibration, calibrate
from edgekit.policy.checkpoint import Policy, load_vocabulary, save_policy
from edgekit.policy.model import ModelConfig, PolicyModel
from edgekit.policy.tokens import END, MARKER, build_tokenizer, padded_vocabulary_size
from edgekit.routing.spec import Marker, RoutingSpec

pytest_plugins = ["hostile.counting", "real_tokenizers"]
TINY_PROMPTS = [f"{a} {a + b} {2 * b} -> {7 * a + b}" for a in range(1, 9) for b in range(3, 8)]
# A loaded machine takes its time: how long an example takes, or its making, says nothing about what must hold.
settings.register_profile("edgekit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edgekit")


@pytest.fixture(scope="session")
def tiny_policy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy folder with random weights, its marker bias set so that 40 % of TINY_PROMPTS call."""
    folder = tmp_path_factory.mktemp("tiny") / "policy"
    folder.mkdir()
    tokenizer = build_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    routing = RoutingSpec(
        marker=Marker(text=MARKER, token_ids=((tokenizer.token_to_id(MARKER),),)),
        stop_token_ids=(tokenizer.token_to_id(END),),
        max_new_tokens=16,
        prompt_template="{prompt}\n",
        on_no_answer="local",
    )
    size = padded_vocabulary_size(tokenizer)
    model = PolicyModel(ModelConfig(size, 32, 64, 2, 2, 1, 16, 64)).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.normal_(0.0, 0.5, generator=generator)
    policy = Policy(model, tokenizer, routing, load_vocabulary(folder / "tokenizer.json", routing))
    fitted = calibrate(PolicyDecider(policy), TINY_PROMPTS, 0.4)
    policy.routing = apply_calibration(routing, fitted)
    save_policy(policy, folder)
    return folder


@pytest.fixture(scope="session")
def tiny_prompts() -> list[str]:
    """Prompts for the tiny policy."""
    return list(TINY_PROMPTS)


@pytest.fixture(scope="session")
def tiny_bundle_folder(tiny_policy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny policy exported to ONNX in full precision; copy it before damaging it."""
    from edgekit.export.pipeline import export
    from edgekit.recipes.lookup import find_recipe

    recipe = find_recipe("onnx_fp32", "onnx").model_copy(update={"context_length": 64})
    out = tmp_path_factory.mktemp("bundle") / "onnx"
    return export(tiny_policy_folder, recipe, out, prompts=TINY_PROMPTS, task="tiny")


@pytest.fixture
def server() -> Iterator[Any]:
    """An OpenAI-compatible server on loopback that behaves until ``server.modes`` says otherwise."""
    name = "edgekit_tests_misbehaving"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / "cloud" / "misbehaving.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    with sys.modules[name].misbehaving_server() as server:
        yield server
