"""A pretrained model made into a routing policy: teaching the answer's format and the marker."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch

from edgekit.errors import ConfigError, EdgekitError
from edgekit.policy.checkpoint import Policy, load_policy, state_tensors
from edgekit.policy.reference import decode_batch
from edgekit.tasks import get_task
from edgekit.train.config import load_config
from edgekit.warm_start.answers import AnswersSettings, answer_example, attempt, marker_example, teach_answers
from edgekit.warm_start.bases import builtin_base, run_base
from edgekit.warm_start.supervised import fit, learned_logits

BASE = builtin_base()
TASK = get_task("arithmetic")
SPLITS = ("train", "validation", "test")
SHORT = {"batch_size": 8, "answer_steps": 3, "attempts": 12, "marker_steps": 3}


@pytest.fixture
def policy(tiny_policy_folder: Path) -> Policy:
    return load_policy(tiny_policy_folder)


def test_padded_rows_give_each_examples_own_logits(policy: Policy) -> None:
    batch = [answer_example(policy, TASK, problem) for problem in TASK.problems("train", 5, 0)]
    with torch.inference_mode():
        logits, targets = learned_logits(policy.model, batch)
        begin = 0
        for example in batch:
            count = sum(example.learned)
            alone = policy.model(torch.tensor([example.ids]))[0, -count - 1 : -1]
            torch.testing.assert_close(logits[begin : begin + count], alone, rtol=1e-4, atol=1e-4)
            assert tuple(targets[begin : begin + count].tolist()) == example.ids[-count:]
            begin += count
    assert begin == len(targets)


def test_examples_learn_the_response_alone_and_the_marker_as_one_token(policy: Policy) -> None:
    problem = TASK.problems("train", 1, 0)[0]
    prompt = len(policy.encode(problem.prompt))
    answer, marker = answer_example(policy, TASK, problem), marker_example(policy, problem)
    assert answer.learned[:prompt] == (0,) * prompt
    assert all(answer.learned[prompt:])
    assert marker.ids[prompt:] == policy.routing.marker.token_ids[0]


def test_fitting_lowers_the_loss_and_leaves_float32_weights(policy: Policy) -> None:
    batch = [answer_example(policy, TASK, problem) for problem in TASK.problems("train", 8, 0)]
    losses = [loss for _, loss in fit(policy.model, [batch] * 40, 40, 3e-3)]
    assert losses[-1] < 0.6 * losses[0]
    assert {parameter.dtype for parameter in policy.model.parameters()} == {torch.float32}


def test_the_same_seed_teaches_the_same_weights(policy: Policy) -> None:
    made = []
    for seed in (0, 0, 1):
        taught = copy.deepcopy(policy)
        seen: list[int] = []
        settings = AnswersSettings(**SHORT)
        teach_answers(taught, TASK, settings, seed=seed, on_progress=lambda done, *_, seen=seen: seen.append(done))
        assert seen == [1, 2, 3, 3, 4, 5, 6]
        made.append(state_tensors(taught.model))
    assert all(torch.equal(tensor, made[1][name]) for name, tensor in made[0].items())
    assert any(not torch.equal(tensor, made[2][name]) for name, tensor in made[0].items())


def test_a_single_training_problem_is_too_few(policy: Policy, tmp_path: Path) -> None:
    lines = [{"prompt": f"1 + {n}", "answer": str(1 + n), "split": split} for n, split in enumerate(SPLITS)]
    (tmp_path / "one.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    with pytest.raises(EdgekitError, match=r"too few training problems: 1. .* Give 2 or more."):
        teach_answers(policy, get_task(str(tmp_path / "one.jsonl")), AnswersSettings(**SHORT))


def test_the_marker_follows_the_policys_own_failures(policy: Policy) -> None:
    # Random weights never answer rightly, so nearly every attempt teaches the marker.
    problems = TASK.problems("train", 20, 0)
    assert not any(attempt(policy, TASK, problems, 0))
    settings = AnswersSettings(batch_size=8, answer_steps=1, attempts=40, marker_steps=100, marker_learning_rate=5e-3)
    teach_answers(policy, TASK, settings)
    decisions = decode_batch(policy, [policy.encode(problem.prompt) for problem in problems], marker_bias=0.0)
    assert sum(decision.reason == "marker" for decision in decisions) > 15


def test_any_model_folder_is_a_base_warm_started_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**sizes, vocab_size=1000, eos_token_id=7))
    model.save_pretrained(tmp_path / "mine")
    shutil.copy(BASE / "tokenizer.json", tmp_path / "mine")
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    given = [f"base={tmp_path / 'mine'}", "task=arithmetic", f"warm_start_settings={SHORT}"]
    seen: list[str] = []
    folder = run_base(load_config("quick", given), lambda *call: seen.append(call[2]))
    assert len(seen) > 5
    assert folder.is_relative_to(tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name]  # nothing unfinished stays
    assert load_policy(folder).routing.marker.token_ids[0][0] < 1000
    seen.clear()
    assert run_base(load_config("quick", given), lambda *call: seen.append(call[2])) == folder
    assert seen == ["reading the model"]
    assert run_base(load_config("quick", [*given, "seed=1"])) != folder
    assert run_base(load_config("quick", [f"base={folder}", "task=arithmetic"])) == folder


def test_settings_are_checked_whole_before_any_work() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("quick", ["base=smollm2", "warm_start_settings={answer_steps: 0, sttps: 3}"])
    assert "answer_steps" in str(caught.value)
    assert "sttps" in str(caught.value)
    with pytest.raises(ConfigError, match="builtin is not warm-started"):
        load_config("quick", ["warm_start_settings={answer_steps: 3}"])
    with pytest.raises(ConfigError, match="arithmetic is not a kind of countdown"):
        load_config("quick", ["base=smollm2", "warm_start=traces", "task=arithmetic"])
