"""A conversation with a real chat model, through the server: what its own template and transformers make of it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import openai
import pytest
import torch

from edgekit.errors import EdgekitError
from edgekit.policy.adopt import adopt
from edgekit.policy.smollm2 import smollm2_folder
from edgekit.workflows.source import open_device

transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.slow
NEW_TOKENS = 6
TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + "
    "message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""As SmolLM2-135M-Instruct's file holds it."""
SAID = [
    {"role": "user", "content": "My name is Ada."},
    {"role": "assistant", "content": "Hello Ada! How can I help you?"},
    {"role": "user", "content": "What is my name?"},
]
TOLD = [{"role": "system", "content": "You answer in one word."}, *SAID]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2 with its template, which caches that earlier versions made lack."""
    try:
        source = smollm2_folder()
    except EdgekitError as error:
        pytest.skip(f"SmolLM2 is not at hand: {error}")
    folder = tmp_path_factory.mktemp("smollm2")
    for file in source.iterdir():
        try:
            os.link(file, folder / file.name)
        except OSError:  # another disk
            shutil.copyfile(file, folder / file.name)
    settings = json.loads((source / "tokenizer_config.json").read_text())
    assert settings.setdefault("chat_template", TEMPLATE) == TEMPLATE
    (folder / "tokenizer_config.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("messages", [SAID, TOLD], ids=["its own system message", "the user's"])
def test_the_server_continues_a_conversation_as_transformers_does(folder: Path, serve: Any, messages: Any) -> None:
    policy = adopt(folder, max_new_tokens=NEW_TOKENS, on_no_answer="local")
    served = serve(device=open_device(policy))
    client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0, timeout=600)
    whole = client.chat.completions.create(model="x", messages=messages)
    chunks = list(client.chat.completions.create(model="x", messages=messages, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    with torch.inference_mode():
        row = theirs.generate(torch.tensor([ids]), max_new_tokens=NEW_TOKENS, do_sample=False)[0, len(ids) :]
    expected = tokenizer.decode(row, skip_special_tokens=True)
    assert whole.usage is not None
    assert whole.usage.prompt_tokens == len(ids)
    assert whole.choices[0].message.content == text == expected
    assert text
