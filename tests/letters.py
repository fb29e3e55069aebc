"""A random policy over a few letters, with every way to end a response among its tokens."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from edgekit.policy.checkpoint import Policy, load_vocabulary
from edgekit.policy.model import ModelConfig, PolicyModel
from edgekit.routing.spec import Marker, RoutingSpec

A, B, LINE, OPEN, CLOSE, MARKER, END = range(7)


def letters_policy(folder: Path, rows: int = 7, context: int = 32) -> Policy:
    """A random policy over seven tokens, with every way to end a response among them; ``rows`` beyond have no token."""
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1, "\u010a": 2}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ("<answer>", "</answer>")])
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in ("<call>", "<end>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    marker = Marker(text="<call>", token_ids=((MARKER,),))
    routing = RoutingSpec(marker=marker, stop_token_ids=(END,), max_new_tokens=6)
    torch.manual_seed(0)
    model = PolicyModel(ModelConfig(rows, 16, 16, 2, 2, 1, 8, context))
    model.model.embed_tokens.weight.data.mul_(0.3)  # flat enough that every kind of response turns up
    return Policy(model.eval(), tokenizer, routing, load_vocabulary(folder / "tokenizer.json", routing))
