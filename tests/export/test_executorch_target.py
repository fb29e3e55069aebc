"""The ExecuTorch file computes what the quantized model computes, in XNNPACK."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from export.random_models import random_model
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from edgekit.errors import BundleError
from edgekit.export.capture import capture
from edgekit.policy.model import ModelConfig
from edgekit.policy.reference import ReferenceModel
from edgekit.quantize.quantized import quantize_model
from edgekit.recipes.export_recipe import ExportRecipe, load_recipe

pytest.importorskip("executorch")

from edgekit.export.targets import to_executorch
from edgekit.export.targets.executorch_attention import FusedAttention
from edgekit.export.targets.executorch_graph import rewrite
from edgekit.simulate import on_executorch

RECIPES = Path(__file__).parents[2] / "export_recipes"
LLAMA = ModelConfig(300, 64, 128, 2, 4, 2, 16, 128)
QWEN = ModelConfig(300, 64, 96, 1, 4, 2, 16, 128, attention_bias=True, qk_norm="head", tie_word_embeddings=False)


def small_recipe(precision: str) -> ExportRecipe:
    return load_recipe(RECIPES / f"executorch_{precision}.yaml").model_copy(update={"context_length": 128})


def check_equal(config: ModelConfig, precision: str, folder: Path) -> bytes:
    recipe = small_recipe(precision)
    quantized = quantize_model(random_model(config), recipe.quantize)
    path = to_executorch.lower(quantized, recipe, folder)
    artifact = on_executorch.open_artifact(path, recipe.context_length, recipe.prefill_chunk)
    reference = ReferenceModel(quantized)
    differences = []
    for first in range(8):  # each over the cache of the one before
        artifact.reset()
        reference.reset()
        prompt = [5, 17, 250, 3, 99, 120, 121, 42, 7][first:]
        differences.append(np.abs(artifact.prefill(prompt) - reference.prefill(prompt)).max())
        for token in (first, 299 - first):
            differences.append(np.abs(artifact.decode(token) - reference.decode(token)).max())
    # An activation on the edge between two integers may round the other way: a step of 1/255, here and in the cache.
    assert np.median(differences) < 1e-4
    assert max(differences) < 0.1
    return path.read_bytes()


@pytest.mark.slow
def test_int4_with_biases_and_qk_norms_equals_the_quantized_model(tmp_path: Path) -> None:
    check_equal(QWEN, "int4", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("config", [LLAMA, QWEN], ids=["llama", "qwen"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_other_precisions_equal_the_quantized_model(config: ModelConfig, precision: str, tmp_path: Path) -> None:
    check_equal(config, precision, tmp_path)


def test_rewriting_keeps_integers_and_scales_and_shares_rounded_inputs() -> None:
    from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401  registers the operators captured

    recipe = small_recipe("int4")
    quantized = quantize_model(random_model(LLAMA), recipe.quantize)
    captured = capture(quantized, 128, FusedAttention())
    head = [node for node in captured.graph.nodes if "quantized_linear" in str(node.target)][-1]
    assert head.args[0].meta["val"].shape == (1, LLAMA.hidden_size)  # of T tokens the last one's row
    rewritten = rewrite(captured, 128)
    for name, expected in quantized.state_dict().items():
        if "layers" in name and name.endswith((".values", ".scales")):
            assert torch.equal(rewritten.state_dict[f"policy.{name}"], expected), name
    targets = [str(node.target) for node in rewritten.graph.nodes]
    assert not any("edgekit" in target for target in targets)
    # q, k, v share one rounded input and gate, up another: 4 of 7 linears a layer round, and the head.
    assert sum("quantize_per_token.default" in t and "dequantize" not in t for t in targets) == 2 * 4 + 1


def test_one_delegate_a_block_and_nothing_but_attention_between(tmp_path: Path) -> None:
    data = check_equal(LLAMA, "int4", tmp_path)
    assert b"quantized_decomposed::dequantize" not in data  # every integer linear is in a delegate, none runs outside
    assert data.count(b"XnnpackBackend") == LLAMA.num_hidden_layers + 2  # one more before the head's last token


def test_the_file_answers_what_executorchs_own_runners_ask(tmp_path: Path) -> None:
    recipe = small_recipe("int4")
    phases: list[str] = []
    model = quantize_model(random_model(LLAMA), recipe.quantize)
    path = to_executorch.lower(model, recipe, tmp_path, stop_token_ids=(2, 7), say=phases.append)
    on_executorch.open_artifact(path, 128, 16)  # registers the kernels
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(path)
    answers = {name: program.load_method(name).execute([]) for name in program.method_names if name != "forward"}
    assert answers == {
        "get_vocab_size": [300],
        "get_n_layers": [2],
        "get_max_context_len": [128],
        "get_max_seq_len": [127],
        "get_eos_ids": [2, 7],
        "use_kv_cache": [True],
        "use_sdpa_with_kv_cache": [True],
        "enable_dynamic_shape": [True],
    }
    assert len(phases) == 4


def test_a_prompt_that_fills_the_context_is_split(tmp_path: Path) -> None:
    recipe = small_recipe("fp32")
    model = random_model(LLAMA)
    artifact = on_executorch.open_artifact(to_executorch.lower(model, recipe, tmp_path), 128, 16)
    prompt = [index % 300 for index in range(128)]
    np.testing.assert_allclose(artifact.prefill(prompt), ReferenceModel(model).prefill(prompt), atol=1e-4)


def test_four_bit_embeddings_are_read_by_the_runtimes_own_kernel(tmp_path: Path) -> None:
    assert b"embedding_4bit" in check_equal(LLAMA, "int4_head8", tmp_path)


def test_executorchs_own_text_runner_generates_and_stops_with_the_file(tmp_path: Path) -> None:
    alphabet = [chr(code) for code in range(33, 127)]  # one token a character: what the runner prints is its ids
    tokenizer = Tokenizer(BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = ByteLevel(add_prefix_space=False), ByteLevelDecoder()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    recipe = small_recipe("fp32")
    model = random_model(dataclasses.replace(LLAMA, vocab_size=len(alphabet)))
    reference, expected = ReferenceModel(model), []
    logits = reference.prefill([alphabet.index(letter) for letter in "abc"])
    while len(expected) < 6:
        expected.append(int(logits.argmax()))
        logits = reference.decode(expected[-1])
    stop = expected[-1]
    path = to_executorch.lower(model, recipe, tmp_path, stop_token_ids=(stop,))
    on_executorch.open_artifact(path, 128, 16)  # registers the kernels
    from executorch.extension.llm.runner import GenerationConfig, TextLLMRunner

    pieces: list[str] = []
    settings = GenerationConfig(max_new_tokens=20, temperature=0.0, echo=False)
    TextLLMRunner(str(path), str(tmp_path / "tokenizer.json")).generate("abc", settings, token_callback=pieces.append)
    assert "".join(pieces).startswith("".join(alphabet[i] for i in expected[: expected.index(stop)]))
    assert len("".join(pieces)) <= expected.index(stop) + 1


LOWER_AND_HASH = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from export.test_executorch_target import lower_and_hash
print(lower_and_hash(Path(sys.argv[2])))
"""


def lower_and_hash(folder: Path) -> str:
    recipe = small_recipe("int4")
    path = to_executorch.lower(quantize_model(random_model(LLAMA), recipe.quantize), recipe, folder)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.slow
def test_identical_inputs_give_identical_bytes_whatever_the_hash_seed(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", LOWER_AND_HASH, str(Path(__file__).parents[1]), str(tmp_path)]
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    environment = {**os.environ, "PYTHONHASHSEED": other}
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert output.split()[-1] == lower_and_hash(tmp_path)


def test_a_damaged_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "model.pte").write_bytes(b"not a model")
    with pytest.raises(BundleError, match=r"cannot load .*model\.pte"):
        on_executorch.open_artifact(tmp_path / "model.pte", 128, 16)
