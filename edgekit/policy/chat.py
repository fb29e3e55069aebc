"""A model's chat format as a prompt template: its own Jinja template, rendered once around ``{prompt}``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from edgekit.errors import BundleError
from edgekit.plain_file import read_text
from edgekit.policy.chat_template import TODAY, Message
from edgekit.policy.json_file import read_json
from edgekit.policy.template_process import BoundedTemplate
from edgekit.policy.turns import PROBES, SPACED, THINKING, turn_format
from edgekit.routing.spec import PROMPT, TRIMS, Trim, trimmed
from edgekit.routing.turns import TurnFormat

_KNOWN_FORMATS = {
    "<|im_start|>": ("<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>"),
    "<|start_header_id|>": (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{prompt}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|>",
    ),
    "[INST]": ("<s>[INST] {prompt} [/INST]", "</s>"),
}
"""How each family writes a conversation, by a token that only that family has, and what ends a turn in it; for folders
without a template."""
_PLAIN_FORMAT = "{prompt}\n"
SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
ANSWER = "{answer}"


@dataclass(frozen=True)
class ChatFormat:
    """How a model is asked: ``template`` is the text before a response, with ``{prompt}`` where the prompt goes.

    ``trim`` says at which ends of the prompt white space is dropped first. ``end_of_turn`` is the text of the token
    with which the assistant's turn ends, None if that is not known. ``date`` is what the template took for today, if it
    asked. ``turns`` is how it writes several turns, None if that is not known.
    """

    template: str
    trim: Trim = "none"
    end_of_turn: str | None = None
    date: str | None = None
    turns: TurnFormat | None = None


def chat_format(
    folder: Path,
    tokenizer: Tokenizer,
    instruction: str | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> ChatFormat:
    """The format of the model in ``folder``; for every prompt it gives the text of transformers' apply_chat_template.

    ``instruction`` is the system message, or stands before the prompt where the model knows none; ``arguments`` are
    given to the template (``enable_thinking``). Raises :class:`BundleError` if the folder's template cannot be used.
    """
    source = _own_template(folder)
    if source is None:
        if arguments:
            raise BundleError(
                f"unused template_arguments: {', '.join(arguments)}. {folder} has no chat template. Leave them out."
            )
        return _known_format(tokenizer, instruction)
    try:
        template = BoundedTemplate(source, _special_tokens(folder) | dict(arguments or {}))
    except ValueError as error:
        raise _unusable(folder, str(error)) from None
    reason = "it drops the prompt"
    for messages in _askings(instruction):
        try:
            found = _format_around(template, messages)
        except ValueError as error:
            reason = str(error)
            continue
        if instruction is None or instruction.strip() in found.template:
            return found
    raise _unusable(folder, reason)


def _askings(instruction: str | None) -> list[list[Message]]:
    """The conversations that may stand before a response, the better first; the prompt is ``{prompt}``."""
    user = {"role": "user", "content": PROMPT}
    if instruction is None:
        return [[user]]
    return [
        [{"role": "system", "content": instruction}, user],
        [{"role": "user", "content": f"{instruction}\n\n{PROMPT}"}],
    ]


def _format_around(template: BoundedTemplate, messages: Sequence[Message]) -> ChatFormat:
    """The format of ``messages``. Raises ValueError for a template that does more to a prompt than to trim it."""

    def render(prompt: str) -> str:
        *before, user = messages
        asked = {**user, "content": user["content"].replace(PROMPT, prompt)}
        return template.render([*before, asked], add_generation_prompt=True)

    text = render(PROMPT)
    if text.count(PROMPT) != 1:
        raise ValueError("it drops the prompt" if PROMPT not in text else "it writes the prompt more than once")
    before, after = text.split(PROMPT)
    if any(render(probe) != before + probe + after for probe in (*PROBES, THINKING) if probe not in SPACED):
        raise ValueError("it changes the prompt's text")
    spaced = {probe: render(probe) for probe in SPACED}
    trim = next(
        (each for each in TRIMS if all(spaced[probe] == before + trimmed(probe, each) + after for probe in SPACED)),
        None,
    )
    if trim is None:
        raise ValueError("it changes white space in the prompt")
    end = _end_of_turn(template, messages)
    turns = turn_format(template, messages, trim)
    return ChatFormat(text, trim, end, f"{TODAY:%Y-%m-%d}" if template.tells_date else None, turns)


def _end_of_turn(template: BoundedTemplate, messages: Sequence[Message]) -> str | None:
    """What the template writes after an answer, up to a white space."""
    try:
        text = template.render([*messages, {"role": "assistant", "content": ANSWER}], add_generation_prompt=False)
    except ValueError:
        return None
    following = text.rpartition(ANSWER)[2].split()
    return following[0] if following else None


def _known_format(tokenizer: Tokenizer, instruction: str | None) -> ChatFormat:
    asked = PROMPT if instruction is None else f"{instruction}\n\n{PROMPT}"
    known = (form for token, form in _KNOWN_FORMATS.items() if tokenizer.token_to_id(token) is not None)
    form, end = next(known, (_PLAIN_FORMAT, None))
    begin = begin_of_text(tokenizer)
    text = form.replace(PROMPT, asked)
    return ChatFormat(text if text.startswith(begin) else begin + text, end_of_turn=end)


def begin_of_text(tokenizer: Tokenizer) -> str:
    """The text of the tokens that the tokenizer's post-processor puts before every text; empty if it puts none."""
    ids = tokenizer.encode("a", add_special_tokens=True).ids
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    before = next((at for at in range(len(ids)) if ids[at : at + len(plain)] == plain), 0)
    return "".join(tokenizer.id_to_token(token_id) for token_id in ids[:before])


def _own_template(folder: Path) -> str | None:
    path = folder / "chat_template.jinja"
    if path.is_file():
        try:
            return read_text(path)
        except (OSError, ValueError) as error:
            raise _unusable(folder, f"{path.name} cannot be read ({error})") from None
    found = _settings(folder).get("chat_template")
    if isinstance(found, list):  # several, by name
        found = next((each.get("template") for each in found if _is_default(each)), None)
    if found is not None and not isinstance(found, str):
        raise _unusable(folder, "it is no text")
    return found


def _is_default(named: Any) -> bool:
    return isinstance(named, dict) and named.get("name") == "default"


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    return read_json(path) if path.is_file() else {}


def _special_tokens(folder: Path) -> dict[str, Any]:
    """The special tokens that a template knows by name, those that the folder names."""
    path = folder / "special_tokens_map.json"
    settings = (read_json(path) if path.is_file() else {}) | _settings(folder)
    named = {name: token_text(settings.get(name)) for name in SPECIAL_TOKENS}
    others = settings.get("additional_special_tokens")
    more = [text for token in (others if isinstance(others, list) else []) if (text := token_text(token))]
    return {name: text for name, text in named.items() if text} | ({"additional_special_tokens": more} if more else {})


def token_text(token: Any) -> str | None:
    """The text of a token as tokenizer_config.json has it: a string, or an object with its content."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _unusable(folder: Path, reason: str) -> BundleError:
    return BundleError(f"bad chat template: {folder}. {reason}. Remove chat_template, and a known format is used.")
