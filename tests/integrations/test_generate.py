"""Decisions in transformers' ``generate()`` and in optimum are those of the decode loop, prompt for prompt."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgekit.errors import BundleError
from edgekit.evaluate.answers import PolicyDecider, StepDecider
from edgekit.policy.checkpoint import load_policy
from edgekit.routing.decoder import Decision
from edgekit.simulate import open_simulator

transformers = pytest.importorskip("transformers")

from edgekit.integrations.generate import OptimumPolicy, RoutingProcessor  # noqa: E402

PROMPTS = [f"{a} {b} {a * b % 17 + 2} -> {a + 3 * b}" for a in range(1, 15) for b in range(2, 17)][:200]


def same(one: Decision, other: Decision) -> bool:
    return (one.route, one.reason, one.text, one.answer, one.token_ids) == (
        other.route, other.reason, other.text, other.answer, other.token_ids,
    )  # fmt: skip


@pytest.mark.parametrize("bias", [None, 3.0, float("-inf")])
def test_transformers_makes_the_decode_loop_s_decisions(tiny_policy_folder: Path, bias: float | None) -> None:
    policy = load_policy(tiny_policy_folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_policy_folder)
    expected = PolicyDecider(policy).decide(PROMPTS, bias)
    ids = [policy.encode(prompt) for prompt in PROMPTS]
    width = max(map(len, ids))
    rows = torch.tensor([[0] * (width - len(each)) + each for each in ids])
    mask = torch.tensor([[0] * (width - len(each)) + [1] * len(each) for each in ids])
    context = policy.model.config.max_position_embeddings
    processor = RoutingProcessor(policy.routing, policy.vocabulary, [len(each) for each in ids], context, bias)
    model.generate(
        rows,
        attention_mask=mask,
        logits_processor=[processor],
        stopping_criteria=[processor.ends()],
        max_new_tokens=policy.routing.max_new_tokens,
        do_sample=False,
    )
    decided = processor.decisions()
    assert all(same(one, other) for one, other in zip(decided, expected, strict=True))
    if bias is None:
        assert {decision.route for decision in decided} == {"local", "cloud"}


@pytest.fixture(scope="module")
def bundle(tiny_policy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx")
    from edgekit.export.pipeline import export
    from edgekit.recipes.lookup import find_recipe

    folder = tmp_path_factory.mktemp("standard") / "bundle"
    return export(tiny_policy_folder, find_recipe("onnx_int4_standard", "onnx"), folder, prompts=[])


@pytest.mark.slow
def test_optimum_makes_the_decode_loop_s_decisions(bundle: Path) -> None:
    pytest.importorskip("optimum.onnxruntime")
    policy = OptimumPolicy(bundle)
    facts, opened = policy.bundle.manifest.model, policy.bundle
    model = open_simulator("onnx", opened.artifact, facts.context_length, facts.prefill_chunk)
    expected = StepDecider(model, opened.routing, opened.vocabulary, opened.encode).decide(PROMPTS)
    assert all(same(policy.decide(prompt), other) for prompt, other in zip(PROMPTS, expected, strict=True))


def test_a_bundle_of_another_layout_is_refused_in_one_line(tiny_bundle_folder: Path) -> None:
    pytest.importorskip("optimum.onnxruntime")
    with pytest.raises(BundleError, match="onnx_int4_standard"):
        OptimumPolicy(tiny_bundle_folder)
