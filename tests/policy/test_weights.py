"""Weights are read as transformers reads them, and checked: names, shapes, kinds of number, finiteness."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from family_cases import make_model
from safetensors.torch import load_file, save_file

from edgekit.errors import BundleError
from edgekit.policy.checkpoint import load_model
from edgekit.policy.weights import find_weights

transformers = pytest.importorskip("transformers")
SINGLE = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_model("llama", tmp_path)
    return tmp_path


def theirs(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = transformers.AutoModelForCausalLM.from_pretrained(folder).state_dict()
    return state


def assert_read_alike(folder: Path) -> None:
    ours = load_model(folder).state_dict()
    for name, tensor in theirs(folder).items():
        assert torch.equal(ours[name], tensor.float()), name


def shard(folder: Path, *, changed: float = 0.0) -> None:
    """Two shards with an index beside what is there, the second's last tensor in the first too, with other numbers."""
    tensors = load_file(folder / SINGLE)
    names = sorted(tensors)
    halves = {"model-1.safetensors": names[: len(names) // 2], "model-2.safetensors": names[len(names) // 2 :]}
    for file, part in halves.items():
        stored = {name: tensors[name] + changed for name in part}
        if file == "model-1.safetensors":
            stored |= {names[-1]: torch.zeros_like(tensors[names[-1]]), "left.over": torch.ones(2)}
        save_file(stored, folder / file, metadata={"format": "pt"})
    where = {name: file for file, part in halves.items() for name in part}
    (folder / f"{SINGLE}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def test_shards_are_read_by_the_tensors_that_the_index_names(folder: Path) -> None:
    shard(folder, changed=0.5)
    (folder / SINGLE).unlink()
    assert_read_alike(folder)
    assert find_weights(folder).source.name == f"{SINGLE}.index.json"


def test_a_whole_file_has_precedence_over_an_old_index(folder: Path) -> None:
    shard(folder, changed=0.5)
    assert_read_alike(folder)
    assert find_weights(folder).source.name == SINGLE


def test_pickled_weights_are_read_without_running_them(folder: Path) -> None:
    torch.save(load_file(folder / SINGLE), folder / "pytorch_model.bin")
    expected = theirs(folder)
    (folder / SINGLE).unlink()
    for name, tensor in load_model(folder).state_dict().items():
        assert torch.equal(tensor, expected[name])
    torch.save({"weights": pytest.raises}, folder / "pytorch_model.bin")
    with pytest.raises(BundleError, match=r"unsafe weights: .*Reading it would run code"):
        load_model(folder)


def test_half_precision_and_the_bare_decoder_are_read(folder: Path) -> None:
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(folder / SINGLE).items()}
    save_file(tensors, folder / SINGLE, metadata={"format": "pt"})
    assert_read_alike(folder)
    make_model("llama", folder, tie_word_embeddings=True)
    whole = load_model(folder).state_dict()
    bare = {name.removeprefix("model."): tensor for name, tensor in load_file(folder / SINGLE).items()}
    save_file(bare, folder / SINGLE, metadata={"format": "pt"})
    for name, tensor in load_model(folder).state_dict().items():
        assert torch.equal(tensor, whole[name])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda t: t.pop("model.norm.weight"), "it lacks model.norm.weight"),
        (lambda t: t.update({"model.layers.0.self_attn.q_norm.weight": torch.ones(12)}), "nothing reads its .*q_norm"),
        (lambda t: t.update({"model.norm.weight": torch.ones(47)}), r"model.norm.weight is \(47,\) instead of \(48,\)"),
        (lambda t: t["model.norm.weight"].fill_(float("nan")), "model.norm.weight holds numbers that are not finite"),
        (lambda t: t["lm_head.weight"][3].fill_(float("inf")), "lm_head.weight holds numbers that are not finite"),
        (
            lambda t: t.update({"model.norm.weight": torch.full((48,), 1e300, dtype=torch.float64)}),
            "model.norm.weight holds numbers that are not finite",  # as float32
        ),
        (
            lambda t: t.update({"model.norm.weight": t["model.norm.weight"].to(torch.int8)}),
            r"quantized model: model.norm.weight \(int8\) in .*Give the unquantized model",
        ),
        (
            lambda t: t.update({"model.norm.weight": t["model.norm.weight"].to(torch.float8_e4m3fn)}),
            r"quantized model: model.norm.weight \(float8_e4m3fn\)",
        ),
        (
            lambda t: t.update({"model.norm.qweight": t.pop("model.norm.weight").to(torch.int32)}),
            r"quantized model: model.norm.qweight \(int32\)",  # GPTQ's, of which old config.json files do not tell
        ),
        (
            lambda t: t.update({"model.layers.0.position_ids": torch.arange(4)}),
            "nothing reads its model.layers.0.position_ids",
        ),
    ],
)
def test_tensors_at_fault_are_named(change: object, fault: str, folder: Path) -> None:
    tensors = load_file(folder / SINGLE)
    change(tensors)  # type: ignore[operator]
    save_file(tensors, folder / SINGLE, metadata={"format": "pt"})
    with pytest.raises(BundleError, match=fault) as raised:
        load_model(folder)
    assert "\n" not in str(raised.value)


def test_large_finite_numbers_are_finite(folder: Path) -> None:
    tensors = load_file(folder / SINGLE)
    tensors["model.norm.weight"].fill_(3e38)  # their sum is not
    save_file(tensors, folder / SINGLE, metadata={"format": "pt"})
    load_model(folder)


def test_a_tied_head_may_be_stored_if_it_is_the_embedding(tmp_path: Path) -> None:
    make_model("qwen2", tmp_path)
    tensors = load_file(tmp_path / SINGLE)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, tmp_path / SINGLE, metadata={"format": "pt"})
    assert_read_alike(tmp_path)
    tensors["lm_head.weight"] += 1
    save_file(tensors, tmp_path / SINGLE, metadata={"format": "pt"})
    with pytest.raises(
        BundleError, match=r"lm_head.weight is not model.embed_tokens.weight, as tie_word_embeddings says"
    ):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("weights.gguf", "It has weights.gguf. Convert it: .*gguf_file='weights.gguf'"),
        ("tf_model.h5", "from_tf=True"),
        ("consolidated.00.pth", "It has consolidated.00.pth, the maker's own format"),
        ("nothing.txt", "It has none of model.safetensors.*bin.index.json. Give the folder of the whole model"),
        ("adapter_model.safetensors", "it has adapter_model.safetensors, which edgekit does not read"),
        ("onnx/model.onnx", "it has onnx/model.onnx, which edgekit does not read"),
    ],
)
def test_other_formats_are_named_with_what_converts_them(file: str, line: str, folder: Path) -> None:
    (folder / SINGLE).unlink()
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_bytes(b"")
    with pytest.raises(BundleError, match=line):
        load_model(folder)


def test_damaged_files_and_indexes_are_one_line(folder: Path) -> None:
    (folder / SINGLE).write_bytes(b"not weights")
    with pytest.raises(BundleError, match=f"unreadable weights: .*{SINGLE}"):
        load_model(folder)
    (folder / SINGLE).unlink()
    index = folder / f"{SINGLE}.index.json"
    for content, fault in (
        ({"weight_map": {"a": "../outside.safetensors"}}, "outside its folder"),
        ({"weight_map": {"a": "gone.safetensors"}}, "lacks gone.safetensors"),
        ({}, "no weight_map"),
    ):
        index.write_text(json.dumps(content))
        with pytest.raises(BundleError, match=fault):
            load_model(folder)


def test_adapters_are_named_with_what_merges_them(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": "some/base"})
    )
    with pytest.raises(BundleError, match=r"LORA on some/base.*merge_and_unload.*, or remove adapter_config.json"):
        load_model(folder)
    (folder / "adapter_config.json").write_text(json.dumps({"fine_tune_type": "dora", "model": "some/base"}))
    with pytest.raises(BundleError, match=r"dora on some/base.*with the tool that made it"):
        load_model(folder)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    (folder / "config.json").unlink()
    (folder / SINGLE).unlink()
    with pytest.raises(BundleError, match=r"merge_and_unload\(\).save_pretrained\('OUT'\)\"\."):
        load_model(folder)
