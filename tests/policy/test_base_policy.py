"""The shipped base policy: loads everywhere, solves some, calls some, and its recipe is deterministic."""

from __future__ import annotations

import random
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from edgekit.errors import EdgekitError
from edgekit.policy.checkpoint import Policy, load_policy, state_tensors
from edgekit.policy.reference import decode_batch
from edgekit.policy.tokens import build_tokenizer
from edgekit.tasks.countdown import TASK, split_of
from edgekit.warm_start.builtin import WarmStartConfig, make_base, new_policy, relabel

BASE = Path(str(files("edgekit.policy") / "base"))
TINY = WarmStartConfig(batch_size=16, trace_steps=30, attempts=60, attempt_steps=2)
PROBLEM = TASK.problem([3, 5, 7], 22)


@pytest.fixture(scope="module")
def base() -> Policy:
    return load_policy(BASE)


def test_base_is_small_and_quantizes_in_whole_groups(base: Policy) -> None:
    assert sum(parameter.numel() for parameter in base.model.parameters()) < 1_100_000
    for name, tensor in state_tensors(base.model).items():
        assert tensor.dim() == 1 or all(size % 32 == 0 for size in tensor.shape), name
    assert base.tokenizer.to_str() == build_tokenizer().to_str()


def test_base_solves_some_alone_and_calls_for_some(base: Policy) -> None:
    problems = TASK.problems("test", 300, 0)
    prompts = [base.encode(problem.prompt) for problem in problems]
    alone = decode_batch(base, prompts, marker_bias=float("-inf"))
    right = [TASK.grade(problem, decision.answer) for problem, decision in zip(problems, alone, strict=True)]
    assert 0.40 < sum(right) / 300 < 0.75
    free = decode_batch(base, prompts)
    called = [decision.reason == "marker" for decision in free]
    assert 0.1 < sum(called) / 300 < 0.7
    called_right = [ok for ok, calls in zip(right, called, strict=True) if calls]
    assert sum(called_right) / len(called_right) < 0.5 * sum(right) / 300


def test_transformers_reads_the_base_and_gives_its_logits(base: Policy) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(BASE).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(BASE)
    ids = base.encode("3 5 7 -> 22")
    assert tokenizer(base.routing.render("3 5 7 -> 22"), add_special_tokens=False)["input_ids"] == ids
    tokens = torch.tensor([ids])
    with torch.inference_mode():
        torch.testing.assert_close(theirs(tokens).logits, base.model(tokens), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_same_seed_makes_the_same_base(tmp_path: Path) -> None:
    made = []
    for index in range(2):
        seen: list[int] = []
        make_base(tmp_path / str(index), seed=0, config=TINY, on_progress=lambda done, *_, seen=seen: seen.append(done))
        assert seen == list(range(1, TINY.trace_steps + TINY.attempt_steps + 1))
        made.append(state_tensors(load_policy(tmp_path / str(index)).model))
    first, again = made
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    starts = [new_policy(seed, TINY).model.model.embed_tokens.weight for seed in (1, 2)]
    assert not torch.equal(starts[0], starts[1])


def test_a_first_round_too_short_to_attempt_anything_says_so(tmp_path: Path) -> None:
    config = WarmStartConfig(batch_size=4, trace_steps=1, attempts=4, attempt_steps=1)
    with pytest.raises(EdgekitError, match="nothing to learn from"):
        make_base(tmp_path / "base", seed=0, config=config)
    assert not (tmp_path / "base").exists()


@pytest.mark.parametrize(
    ("text", "verdict", "learned"),
    [
        ("3 * 5 = 15\n15 + 7 = 22\nno\n<answer>(3 * 5) + 7</answer>", "yes\n", "steps"),
        ("3 + 5 = 8\n8 + 7 = 22\nyes\n<answer>(3 + 5) + 7</answer>", "no\n", "ending"),
    ],
)
def test_attempts_are_relabelled_by_what_the_answer_is_worth(text: str, verdict: str, learned: str) -> None:
    routing = new_policy(0, TINY).routing
    trace = relabel(routing, PROBLEM, text, TINY, random.Random(0))
    assert trace is not None
    assert trace.ending.startswith(verdict)
    assert trace.learn == learned


def test_the_marker_follows_the_verdict() -> None:
    routing = new_policy(0, TINY).routing
    source = random.Random(0)
    shares = []
    for answer in ("(3 * 5) + 7", "(3 + 5) + 7"):
        text = f"3 + 5 = 8\nno\n<answer>{answer}</answer>"
        traces = [relabel(routing, PROBLEM, text, TINY, source) for _ in range(400)]
        shares.append(sum(trace is not None and routing.marker.text in trace.ending for trace in traces) / 400)
    assert shares[0] < 0.1
    assert 0.4 < shares[1] < 0.7


def test_an_attempt_without_a_verdict_is_left_out() -> None:
    routing = new_policy(0, TINY).routing
    assert relabel(routing, PROBLEM, "3 + 5 = 8\n<answer>3 + 5</answer>", TINY, random.Random(0)) is None
    assert relabel(routing, PROBLEM, "3 + 5 = 8\nyes\n<answer>3 + 5", TINY, random.Random(0)) is None


def test_the_warm_start_sees_training_problems_only() -> None:
    from edgekit.warm_start.builtin import _solver_batch

    for trace in _solver_batch(WarmStartConfig(), random.Random(3)):
        problem = TASK.parse(trace.prompt)
        assert problem is not None
        assert split_of(problem.data["numbers"], problem.data["target"]) == "train"
