"""Hugging Face folders of every family: the same logits as transformers', and a routing policy made of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from family_cases import CASES, make_model
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from edgekit.policy.adopt import adopt
from edgekit.policy.checkpoint import load_model, load_policy, read_config, save_policy
from edgekit.policy.families import FAMILIES
from edgekit.policy.kv_cache import KVCache, step
from edgekit.policy.tokens import ANSWER_CLOSE, ANSWER_OPEN, MARKER, build_tokenizer
from edgekit.routing.vocabulary import Vocabulary

transformers = pytest.importorskip("transformers")


def assert_alike(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Equal to 1e-4 of the largest number."""
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-4


def tokens(count: int, rows: int = 2) -> torch.Tensor:
    return torch.randint(0, 96, (rows, count), generator=torch.Generator().manual_seed(2))


def test_every_family_has_a_case() -> None:
    assert {name.split()[0] for name in CASES} == set(FAMILIES)


@pytest.mark.parametrize("name", CASES)
def test_logits_equal_transformers(name: str, tmp_path: Path) -> None:
    theirs, ours = make_model(name, tmp_path), load_model(tmp_path)
    with torch.inference_mode():
        for count in (5, 200):  # the windows are shorter, and so are some first trainings' contexts
            assert_alike(ours(tokens(count)), theirs(tokens(count)).logits)


@pytest.mark.parametrize("name", CASES)
def test_a_cache_filled_in_steps_gives_the_logits_of_the_whole(name: str, tmp_path: Path) -> None:
    make_model(name, tmp_path)
    model = load_model(tmp_path)
    ids = tokens(40)
    cache = KVCache(model.config, 2, 40)
    cache.padding = torch.tensor([0, 6])
    with torch.inference_mode():
        whole = model(ids, cache.padding)
        for begin, end in ((0, 17), (17, 30), (30, 31), (31, 40)):
            assert_alike(step(model, ids[:, begin:end], cache), whole[:, end - 1])
        assert_alike(model(ids[1:, 6:])[0], whole[1, 6:])


@pytest.mark.parametrize("name", CASES)
def test_an_adopted_policy_reads_the_same_in_transformers_and_here(name: str, tmp_path: Path) -> None:
    make_model(name, tmp_path, vocab_size=1000)
    build_tokenizer().save(str(tmp_path / "tokenizer.json"))
    policy = adopt(tmp_path, max_new_tokens=8)
    folder = tmp_path / "policy"
    folder.mkdir()
    save_policy(policy, folder)
    again = load_policy(folder)
    assert again.model.config == policy.model.config
    assert json.loads((folder / "config.json").read_text())["model_type"] == name.split()[0]
    for name_, tensor in again.model.state_dict().items():
        assert torch.equal(tensor, policy.model.state_dict()[name_])
    ids = torch.tensor([again.encode("3 5 7 -> 22") * 4])
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.inference_mode():
        assert_alike(again.model(ids), theirs(ids).logits)


def test_shards_rope_parameters_and_half_precision_are_read(tmp_path: Path) -> None:
    theirs = make_model("llama 3.2", tmp_path)
    theirs.half().save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    (tmp_path / "model.safetensors").unlink(missing_ok=True)
    data = json.loads((tmp_path / "config.json").read_text())
    before = read_config(tmp_path / "config.json")
    if "rope_parameters" in data:  # as transformers 5 writes it, read here in the older form
        parameters = data.pop("rope_parameters")
        data |= {"rope_theta": parameters.pop("rope_theta"), "rope_scaling": parameters}
    else:
        data["rope_parameters"] = {**data.pop("rope_scaling"), "rope_theta": data.pop("rope_theta")}
    (tmp_path / "config.json").write_text(json.dumps(data))
    assert read_config(tmp_path / "config.json") == before
    for parameter, name in zip(load_model(tmp_path).state_dict().values(), theirs.state_dict(), strict=True):
        assert torch.equal(parameter, theirs.state_dict()[name].float())


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
    make_model("qwen2", tmp_path, vocab_size=size, eos_token_id=tokenizer.token_to_id("<|im_end|>"))
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
