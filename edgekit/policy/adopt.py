"""Make a routing policy of a Hugging Face model folder: the marker and the answer's delimiters as single tokens.

The three tokens take the ids of reserved tokens where the tokenizer has some, else of the embedding's rows
beyond the tokenizer, else of new rows. Their embeddings start as the mean of what their text is spelled with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgekit.errors import BundleError, ErrorKind
from edgekit.plain_file import TOKENIZER_BYTES
from edgekit.policy.chat import ChatFormat, begin_of_text, chat_format, token_text
from edgekit.policy.checkpoint import EMBEDDING, HEAD, Policy, load_model, model_of
from edgekit.policy.json_file import read_json
from edgekit.policy.model import PolicyModel
from edgekit.policy.tokens import ANSWER_CLOSE, ANSWER_OPEN, MARKER
from edgekit.routing.prompt_tokens import read_tokenizer, tokenizer_of
from edgekit.routing.spec import AnswerFormat, Marker, RoutingSpec
from edgekit.routing.tokenizer_kinds import IDS, require_kind
from edgekit.routing.vocabulary import Vocabulary

NEW_TOKENS = (MARKER, ANSWER_OPEN, ANSWER_CLOSE)
# Tokens that stand for nothing: the families' own reserves, and SmolLM's marks of code data it no longer sees.
_RESERVED = re.compile(
    r"<\|reserved_special_token_\d+\|>|\[control_\d+\]|<unused\d+>|<jupyter_(?:code|output|script)>|<empty_output>"
)
ROW_MULTIPLE = 32
MOST_NEW_ROWS = 2**16


def adopt(
    folder: Path,
    *,
    max_new_tokens: int,
    on_no_answer: str = "cloud",
    prompt_template: str | None = None,
    instruction: str | None = None,
    template_arguments: Mapping[str, Any] | None = None,
) -> Policy:
    """The policy of the Hugging Face model in ``folder``; nothing is written.

    ``prompt_template`` None means the model's own chat format, with ``instruction`` as its system message and
    ``template_arguments`` given to its template; one that is given begins with what the tokenizer puts before every
    text. Raises :class:`BundleError` for a model, tokenizer, chat template or stop token that edgekit cannot use.
    """
    tokenizer_path = folder / "tokenizer.json"
    _require_tokenizer(folder)
    data = read_json(tokenizer_path, TOKENIZER_BYTES)
    require_kind(data, tokenizer_path)
    model = load_model(folder)
    plain = read_tokenizer(tokenizer_path)
    ids = place_tokens(data, NEW_TOKENS)
    model = with_rows(model, _token_ids(data))
    _spell(model, {token_id: plain.encode(text, add_special_tokens=False).ids for text, token_id in ids.items()})
    try:
        tokenizer = tokenizer_of(json.dumps(data))
    except ValueError as error:
        raise BundleError(f"unusable tokenizer: {tokenizer_path}. With the marker: {error}. Take another.") from None
    if prompt_template is None:
        form = chat_format(folder, tokenizer, instruction, template_arguments)
    else:
        begin = begin_of_text(tokenizer)
        form = ChatFormat(prompt_template if prompt_template.startswith(begin) else begin + prompt_template)
    routing = RoutingSpec.model_validate(
        {
            "marker": Marker(text=MARKER, token_ids=((ids[MARKER],),)),
            "answer": AnswerFormat(open=ANSWER_OPEN, close=ANSWER_CLOSE),
            "stop_token_ids": stop_tokens(folder, data, form.end_of_turn),
            "max_new_tokens": max_new_tokens,
            "prompt_template": form.template,
            "prompt_trim": form.trim,
            "on_no_answer": on_no_answer,
        }
    )
    vocabulary = Vocabulary.from_tokenizer_data(data, visible=routing.delimiters)
    return Policy(model, tokenizer, routing, vocabulary, turns=form.turns)


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


def with_rows(model: PolicyModel, token_ids: set[int]) -> PolicyModel:
    """``model`` itself if it has a row for each of ``token_ids``, else one grown to the next multiple of 32 above.

    A token that had no row starts as the mean of all rows; rows that no token has are 0.
    Raises :class:`BundleError` for ids so far beyond the rows that they are another model's.
    """
    config, rows = model.config, max(token_ids) + 1
    if rows <= config.vocab_size:
        return model
    if rows > config.vocab_size + MOST_NEW_ROWS:
        raise BundleError(
            f"bad tokenizer: token {rows - 1}, but the model has {config.vocab_size} rows. It is not this model's. "
            "Give the model's own tokenizer.json."
        )
    size = -(-rows // ROW_MULTIPLE) * ROW_MULTIPLE
    new = torch.tensor(sorted(each for each in token_ids if each >= config.vocab_size))
    tensors = dict(model.state_dict())
    for name in (EMBEDDING, HEAD):
        table = torch.cat([tensors[name], torch.zeros(size - config.vocab_size, config.hidden_size)])
        table[new] = tensors[name].mean(dim=0)
        tensors[name] = table
    return model_of(replace(config, vocab_size=size), tensors)


def _token_ids(data: dict[str, Any]) -> set[int]:
    """Every id that the tokenizer.json ``data`` has a token for."""
    return {*data["model"]["vocab"].values(), *(token["id"] for token in data.get("added_tokens", []))}


@torch.no_grad()
def _spell(model: PolicyModel, pieces: dict[int, list[int]]) -> None:
    tables: list[Tensor] = [model.model.embed_tokens.weight]
    if not model.config.tie_word_embeddings:
        tables.append(model.lm_head.weight)
    for table in tables:
        for token_id, spelled in pieces.items():
            table[token_id] = table[spelled].mean(dim=0)


def stop_tokens(folder: Path, data: dict[str, Any], end_of_turn: str | None) -> tuple[int, ...]:
    """Where a response ends: at the template's end of turn, first, and at every end of text that the folder names.

    ``data`` is its tokenizer.json. Raises :class:`BundleError` if nothing is named, or an id that is none,
    or only ids that the tokenizer lacks, so that nothing would ever end.
    """
    added = {token["content"]: token["id"] for token in data.get("added_tokens", [])}
    found = [] if end_of_turn is None else [added.get(end_of_turn)]
    for name in ("generation_config.json", "config.json"):
        if (folder / name).is_file():
            eos = read_json(folder / name).get("eos_token_id")
            found += eos if isinstance(eos, list) else [eos]
    settings = folder / "tokenizer_config.json"
    if settings.is_file():
        found.append(added.get(token_text(read_json(settings).get("eos_token")) or ""))
    named = [token_id for token_id in found if token_id is not None]
    strange = [each for each in named if isinstance(each, bool) or not isinstance(each, int) or not 0 <= each < IDS]
    if strange:
        raise BundleError(f"bad stop token: {strange[0]!r:.60} in {folder}. eos_token_id is a token's id. Correct it.")
    ids = tuple(dict.fromkeys(named))
    if not ids:
        raise BundleError(f"no stop token: {folder}. config.json has no eos_token_id. Add it.")
    if not _token_ids(data).intersection(ids):
        raise BundleError(
            f"bad stop token: {ids[0]} in {folder}. The tokenizer has no such token. Correct eos_token_id."
        )
    return ids


SLOW = "from transformers import AutoTokenizer as T; T.from_pretrained('{folder}').save_pretrained('{folder}')"
OTHER_TOKENIZERS = {
    "tokenizer.model": SLOW,
    "vocab.json": SLOW,
    "tekken.json": "from transformers.integrations.mistral import convert_tekken_tokenizer as c; "
    "c('{folder}/tekken.json').save_pretrained('{folder}')",
}
"""Files that hold a tokenizer in another form, and the Python that makes a tokenizer.json of it."""


def _require_tokenizer(folder: Path) -> None:
    """Raise :class:`BundleError` if ``folder`` has no tokenizer.json, saying what it has and what converts that."""
    if (folder / "tokenizer.json").is_file():
        return
    found = next((name for name in OTHER_TOKENIZERS if (folder / name).is_file()), None)
    if found is None:
        raise BundleError(f"no tokenizer: {folder}. It has no tokenizer.json. Check the folder.", ErrorKind.ABSENT)
    command = OTHER_TOKENIZERS[found].format(folder=folder)
    raise BundleError(
        f'no tokenizer.json: {folder}. It has {found}. Convert it: python -c "{command}".', ErrorKind.ABSENT
    )
