"""Hugging Face folders of every family: the same logits as transformers', and a routing policy made of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from edgekit.errors import BundleError
from edgekit.policy.adopt import adopt
from edgekit.policy.checkpoint import load_model, load_policy, read_config, save_policy
from edgekit.policy.tokens import ANSWER_CLOSE, ANSWER_OPEN, MARKER, build_tokenizer
from edgekit.routing.vocabulary import Vocabulary

transformers = pytest.importorskip("transformers")

SIZES = {
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "eos_token_id": 5,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"rope_theta": 5000.0}),
    "llama 3.2": ("Llama", {"rope_theta": 500.0, "rope_scaling": LLAMA3, "tie_word_embeddings": True}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {"head_dim": 20}),
    "mistral": ("Mistral", {"head_dim": 16, "sliding_window": None}),
}


def make(name: str, folder: Path, **changes: Any) -> Any:
    """A random model of a family, saved by transformers."""
    family, options = FAMILIES[name]
    torch.manual_seed(1)
    config = getattr(transformers, f"{family}Config")(**{**SIZES, **options, **changes})
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_equal_transformers(name: str, tmp_path: Path) -> None:
    theirs, ours = make(name, tmp_path), load_model(tmp_path)
    tokens = torch.randint(0, 96, (2, 90), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        torch.testing.assert_close(ours(tokens), theirs(tokens).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_an_adopted_policy_reads_the_same_in_transformers_and_here(name: str, tmp_path: Path) -> None:
    make(name, tmp_path, vocab_size=1000)
    build_tokenizer().save(str(tmp_path / "tokenizer.json"))
    policy = adopt(tmp_path, max_new_tokens=8)
    folder = tmp_path / "policy"
    folder.mkdir()
    save_policy(policy, folder)
    again = load_policy(folder)
    assert again.model.config == policy.model.config
    tokens = torch.tensor([again.encode("3 5 7 -> 22") * 4])
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.inference_mode():
        torch.testing.assert_close(again.model(tokens), theirs(tokens).logits, rtol=1e-4, atol=1e-4)


def test_shards_rope_parameters_and_half_precision_are_read(tmp_path: Path) -> None:
    theirs = make("llama 3.2", tmp_path)
    theirs.half().save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    (tmp_path / "model.safetensors").unlink(missing_ok=True)
    data = json.loads((tmp_path / "config.json").read_text())
    before = read_config(tmp_path / "config.json")
    data["rope_parameters"] = {**data.pop("rope_scaling"), "rope_theta": data.pop("rope_theta")}
    (tmp_path / "config.json").write_text(json.dumps(data))
    assert read_config(tmp_path / "config.json") == before
    for parameter, name in zip(load_model(tmp_path).state_dict().values(), theirs.state_dict(), strict=True):
        assert torch.equal(parameter, theirs.state_dict()[name].float())


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    make("llama", tmp_path)
    path = tmp_path / "config.json"
    data = json.loads(path.read_text())
    for change, message in (
        ({"model_type": "gpt2"}, "unsupported model: gpt2"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "unsupported rope scaling: yarn"),
    ):
        path.write_text(json.dumps({**data, **change}))
        with pytest.raises(BundleError, match=message):
            load_model(tmp_path)
    path.write_text(json.dumps({key: value for key, value in data.items() if key != "hidden_size"}))
    with pytest.raises(BundleError, match="lacks hidden_size"):
        load_model(tmp_path)


# --- the tokens of routing --------------------------------------------------------------------------


def plain_tokenizer(*special: str) -> Tokenizer:
    tokenizer = Tokenizer.from_str(build_tokenizer().to_str())
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = []
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    return tokenizer


@pytest.mark.parametrize("place", ["reserved tokens", "rows beyond the tokenizer", "new rows"])
def test_the_three_tokens_find_a_place(place: str, tmp_path: Path) -> None:
    reserved = ["<jupyter_code>", "<jupyter_output>", "<empty_output>"] if place == "reserved tokens" else []
    tokenizer = plain_tokenizer("<|im_start|>", "<|im_end|>", *reserved)
    size = tokenizer.get_vocab_size() + (40 if place == "rows beyond the tokenizer" else 0)
    make("qwen2", tmp_path, vocab_size=size, eos_token_id=tokenizer.token_to_id("<|im_end|>"))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    policy = adopt(tmp_path, max_new_tokens=8)
    ids = [policy.tokenizer.encode(text, add_special_tokens=False).ids for text in (MARKER, ANSWER_OPEN, ANSWER_CLOSE)]
    assert all(len(each) == 1 for each in ids)
    assert policy.routing.marker.token_ids == (tuple(ids[0]),)
    assert [policy.vocabulary[each[0]].decode() for each in ids] == [MARKER, ANSWER_OPEN, ANSWER_CLOSE]
    assert (policy.tokenizer.get_vocab_size() == tokenizer.get_vocab_size()) == bool(reserved)
    grown = policy.model.config.vocab_size
    assert (grown > size and grown % 32 == 0) if place == "new rows" else grown == size
    assert policy.routing.stop_token_ids == (tokenizer.token_to_id("<|im_end|>"),)
    assert policy.encode("3 5") == tokenizer.encode("<|im_start|>user\n3 5<|im_end|>\n<|im_start|>assistant\n").ids
    table = policy.model.model.embed_tokens.weight
    spelled = tokenizer.encode(ANSWER_OPEN).ids
    torch.testing.assert_close(table[ids[1][0]], table[spelled].mean(0))
    assert policy.model.lm_head.weight is table


def test_a_sentencepiece_vocabulary_spells_its_bytes() -> None:
    pieces = ["<unk>", "<0x0A>", "\u2581", "a", "\u2581a"]
    tokenizer = Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(pieces)}, [("\u2581", "a")], byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    vocabulary = Vocabulary.from_tokenizer_data(json.loads(tokenizer.to_str()))
    ids = tokenizer.encode("a a\na").ids
    assert b"".join(vocabulary[token_id] for token_id in ids) == b"a a\na"
