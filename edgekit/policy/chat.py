"""A model's chat format as a prompt template: its own Jinja template, rendered once around ``{prompt}``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from tokenizers import Tokenizer

from edgekit.errors import BundleError
from edgekit.policy.json_file import read_json

PROMPT = "{prompt}"
_KNOWN_FORMATS = {
    "<|im_start|>": "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n",
    "<|start_header_id|>": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{prompt}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "[INST]": "<s>[INST] {prompt} [/INST]",
}
"""How each family writes a conversation, by a token that only that family has; for folders without a template."""
_PLAIN_FORMAT = "{prompt}\n"


def chat_prompt(folder: Path, tokenizer: Tokenizer, instruction: str | None = None) -> str:
    """The text before a response, with ``{prompt}`` where the user's prompt goes.

    ``instruction`` is the system message, or stands before the prompt where the model knows none. Raises
    :class:`BundleError` if the folder's template cannot be rendered.
    """
    source = _own_template(folder)
    asked = PROMPT if instruction is None else f"{instruction}\n\n{PROMPT}"
    if source is None:
        known = (form for token, form in _KNOWN_FORMATS.items() if tokenizer.token_to_id(token) is not None)
        return next(known, _PLAIN_FORMAT).replace(PROMPT, asked)
    user = {"role": "user", "content": PROMPT}
    attempts = [[user]] if instruction is None else [[{"role": "system", "content": instruction}, user]]
    attempts.append([{"role": "user", "content": asked}])
    reason = "it drops the prompt"
    for messages in attempts:
        try:
            text = _render(source, messages, _special_tokens(folder))
        except ValueError as error:
            reason = " ".join(str(error).split())[:200]
            continue
        if text.count(PROMPT) == 1 and (instruction is None or instruction in text):
            return text
    raise BundleError(f"bad chat template: {folder}. {reason}. Remove chat_template, and a known format is used.")


def _own_template(folder: Path) -> str | None:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    found = _settings(folder).get("chat_template")
    if isinstance(found, list):  # several, by name
        found = {each["name"]: each["template"] for each in found}.get("default")
    return found


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    return read_json(path) if path.is_file() else {}


def _special_tokens(folder: Path) -> dict[str, str]:
    settings = _settings(folder)
    named = {name: settings.get(name) for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
    return {name: token["content"] if isinstance(token, dict) else token or "" for name, token in named.items()}


def _render(source: str, messages: list[dict[str, str]], special_tokens: dict[str, str]) -> str:
    """``messages`` written by the template ``source``, up to where the assistant begins. Raises ValueError.

    No date is given: a template that would write today's writes its default.
    """
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> NoReturn:
        raise ValueError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = refuse
    try:
        template = environment.from_string(source)
        return template.render(messages=messages, add_generation_prompt=True, **special_tokens)
    except (TemplateError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None
