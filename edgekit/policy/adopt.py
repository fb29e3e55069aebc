"""Make a routing policy of a Hugging Face model folder: the marker and the answer's delimiters as single tokens.

The three tokens take the ids of reserved tokens where the tokenizer has some, else of the embedding's rows
beyond the tokenizer, else of new rows. Their embeddings start as the mean of what their text is spelled with.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgekit.errors import BundleError
from edgekit.policy.chat import chat_prompt
from edgekit.policy.checkpoint import Policy, load_model
from edgekit.policy.json_file import read_json
from edgekit.policy.model import PolicyModel
from edgekit.policy.tokens import ANSWER_CLOSE, ANSWER_OPEN, MARKER
from edgekit.routing.prompt_tokens import tokenizer_of
from edgekit.routing.spec import AnswerFormat, Marker, RoutingSpec
from edgekit.routing.tokenizer_kinds import require_kind
from edgekit.routing.vocabulary import Vocabulary

NEW_TOKENS = (MARKER, ANSWER_OPEN, ANSWER_CLOSE)
# Tokens that stand for nothing: the families' own reserves, and SmolLM's marks of code data it no longer sees.
_RESERVED = re.compile(
    r"<\|reserved_special_token_\d+\|>|\[control_\d+\]|<unused\d+>|<jupyter_(?:code|output|script)>|<empty_output>"
)
ROW_MULTIPLE = 32


def adopt(
    folder: Path,
    *,
    max_new_tokens: int,
    on_no_answer: str = "cloud",
    prompt_template: str | None = None,
    instruction: str | None = None,
) -> Policy:
    """The policy of the Hugging Face model in ``folder``; nothing is written.

    ``prompt_template`` None means the model's own chat format, with ``instruction`` as its system message. Raises
    :class:`BundleError` for a model, tokenizer, chat template or stop token that edgekit cannot use.
    """
    tokenizer_path = folder / "tokenizer.json"
    data = read_json(tokenizer_path)
    require_kind(data, tokenizer_path)
    model = load_model(folder)
    plain = tokenizer_of(json.dumps(data))
    ids = place_tokens(data, NEW_TOKENS)
    model = with_rows(model, max(ids.values()) + 1)
    _spell(model, {token_id: plain.encode(text, add_special_tokens=False).ids for text, token_id in ids.items()})
    tokenizer = tokenizer_of(json.dumps(data))
    routing = RoutingSpec.model_validate(
        {
            "marker": Marker(text=MARKER, token_ids=((ids[MARKER],),)),
            "answer": AnswerFormat(open=ANSWER_OPEN, close=ANSWER_CLOSE),
            "stop_token_ids": _stop_tokens(folder),
            "max_new_tokens": max_new_tokens,
            "prompt_template": prompt_template or chat_prompt(folder, tokenizer, instruction),
            "on_no_answer": on_no_answer,
        }
    )
    vocabulary = Vocabulary.from_tokenizer_data(data, visible=routing.delimiters)
    return Policy(model, tokenizer, routing, vocabulary)


def place_tokens(data: dict[str, Any], texts: tuple[str, ...]) -> dict[str, int]:
    """Make ``texts`` single tokens of the tokenizer.json ``data``, in place; returns their ids."""
    added: list[dict[str, Any]] = data.setdefault("added_tokens", [])
    vocabulary: dict[str, int] = data["model"]["vocab"]
    present = {token["content"]: token["id"] for token in added}
    reserved = [token for token in added if _RESERVED.fullmatch(token["content"])]
    missing = [text for text in texts if text not in present]
    taken = reserved[len(reserved) - len(missing) :] if len(reserved) >= len(missing) else []
    following = max([*vocabulary.values(), *present.values()]) + 1
    for index, text in enumerate(missing):
        if taken:
            token = taken[index]
            if token["content"] in vocabulary:
                vocabulary[text] = vocabulary.pop(token["content"])
            token.update(content=text, special=text == MARKER, normalized=False)
        else:
            flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
            added.append({"id": following + index, "content": text, "special": text == MARKER, **flags})
    return {token["content"]: token["id"] for token in added if token["content"] in texts}


def with_rows(model: PolicyModel, rows: int) -> PolicyModel:
    """``model`` itself if its vocabulary holds ``rows``, else one grown to the next multiple of 32 above."""
    config = model.config
    if rows <= config.vocab_size:
        return model
    grown = PolicyModel(replace(config, vocab_size=-(-rows // ROW_MULTIPLE) * ROW_MULTIPLE))
    state = model.state_dict()
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        empty = torch.zeros(grown.config.vocab_size - config.vocab_size, config.hidden_size)
        state[name] = torch.cat([state[name], empty])
    grown.load_state_dict(state)
    return grown.eval()


@torch.no_grad()
def _spell(model: PolicyModel, pieces: dict[int, list[int]]) -> None:
    tables: list[Tensor] = [model.model.embed_tokens.weight]
    if not model.config.tie_word_embeddings:
        tables.append(model.lm_head.weight)
    for table in tables:
        for token_id, spelled in pieces.items():
            table[token_id] = table[spelled].mean(dim=0)


def _stop_tokens(folder: Path) -> tuple[int, ...]:
    for name in ("generation_config.json", "config.json"):
        if (folder / name).is_file():
            eos = read_json(folder / name).get("eos_token_id")
            if eos is not None:
                return tuple(eos) if isinstance(eos, list) else (eos,)
    raise BundleError(f"no stop token: {folder}. config.json has no eos_token_id. Add it.")
