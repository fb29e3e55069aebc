"""Model folders from outside: configurations, weights' headers, tokenizers' settings, chat templates."""

from __future__ import annotations

import json
import random
import shutil
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile.counting import Survives
from hostile.generators import damaged, json_variants, swapped

from edgekit.errors import BundleError
from edgekit.policy import template_process
from edgekit.policy.adopt import adopt
from edgekit.policy.chat import chat_format
from edgekit.policy.checkpoint import load_model, load_policy
from edgekit.policy.grid import load_grid
from edgekit.routing.prompt_tokens import read_tokenizer

SIZES = (
    "max_position_embeddings", "num_hidden_layers", "vocab_size", "hidden_size", "intermediate_size",
    "num_attention_heads", "num_key_value_heads", "head_dim",
)  # fmt: skip
ABSURD = (10**7, 10**9, 2**24, 2**31, 2**63, 10**30)


@pytest.fixture
def model(tiny_policy_folder: Path, tmp_path: Path) -> Path:
    """A model folder to damage, with all the settings that folders from outside have."""
    folder = Path(shutil.copytree(tiny_policy_folder, tmp_path / "model"))
    end = json.loads((folder / "config.json").read_text())["eos_token_id"]
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
        "eos_token": {"content": "<|end|>"},
        "additional_special_tokens": ["<call>"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").write_text(json.dumps({"bos_token": "<s>", "pad_token": {"content": "p"}}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [end, 3], "temperature": 1.0}))
    return folder


@pytest.mark.parametrize("name", ["config.json", "routing.json"])
def test_a_policy_s_documents_are_used_or_refused(name: str, model: Path, survives: Survives) -> None:
    source = (model / name).read_bytes()

    def attempt(data: bytes) -> None:
        (model / name).write_bytes(data)
        load_policy(model).encode("3 5 -> 8")

    survives(f"model folder: {name}", json_variants(source, 60), attempt)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json", "generation_config.json"])
def test_what_stands_beside_a_model_is_used_or_refused(name: str, model: Path, survives: Survives) -> None:
    source = (model / name).read_bytes()

    def attempt(data: bytes) -> None:
        (model / name).write_bytes(data)
        adopt(model, max_new_tokens=4)

    survives(f"model folder: {name}", json_variants(source, 25), attempt)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tokenizer_config.json", {"additional_special_tokens": 5}),
        ("tokenizer_config.json", {"chat_template": [{"name": [], "template": "x"}]}),
        ("tokenizer_config.json", {"chat_template": "{{ messages[0].content }}\ud800"}),
        ("tokenizer_config.json", {"chat_template": "{{ bos_token }}{{ messages[0].content }}", "bos_token": "\ud800"}),
        ("generation_config.json", {"eos_token_id": [3, 2**40]}),
        ("generation_config.json", {"eos_token_id": [3, 10**400]}),
    ],
)
def test_settings_of_other_kinds_are_used_or_refused(name: str, change: dict[str, Any], model: Path) -> None:
    (model / name).write_text(json.dumps(json.loads((model / name).read_text()) | change))
    with suppress(BundleError):
        adopt(model, max_new_tokens=4)


def test_absurd_sizes_are_refused_before_memory_is_taken(model: Path, survives: Survives) -> None:
    honest = json.loads((model / "config.json").read_text())

    def attempt(case: tuple[str, int]) -> None:
        (model / "config.json").write_text(json.dumps(honest | {case[0]: case[1]}))
        with pytest.raises(BundleError):
            load_model(model)

    survives("model folder: absurd sizes", [(key, size) for key in SIZES for size in ABSURD], attempt)


def test_a_header_of_weights_that_lies_is_refused(model: Path, survives: Survives) -> None:
    path = model / "model.safetensors"
    whole = path.read_bytes()
    (size,) = struct.unpack("<Q", whole[:8])
    header, rest = json.loads(whole[8 : 8 + size]), whole[8 + size :]

    def attempt(number: int) -> None:
        chance = random.Random(number)
        if number % 3 == 0:
            text = json.dumps(swapped(header, number)).encode()
            path.write_bytes(struct.pack("<Q", len(text)) + text + rest)
        elif number % 3 == 1:
            path.write_bytes(struct.pack("<Q", chance.choice((0, 1, 2**32, 2**63, 2**64 - 1, size + 1))) + whole[8:])
        else:
            path.write_bytes(damaged(whole[: 8 + size], number) + rest)
        load_model(model)

    count = survives("model folder: header of weights", range(60), attempt)
    assert count.refused > count.tried / 2


def test_weights_as_a_pickle_are_read_without_running_it_or_refused(model: Path, survives: Survives) -> None:
    from safetensors.torch import load_file

    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    path, ran = model / "pytorch_model.bin", model / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (ran,)

    first = next(iter(tensors))
    odd: list[Any] = [
        [], 7, None, {1: 2}, {}, {**tensors, 3: tensors[first]}, {**tensors, first: None}, {**tensors, first: Evil()},
        {**tensors, first: tensors[first].to_sparse()}, {**tensors, first: tensors[first].to(torch.complex64)},
        {**tensors, first: tensors[first][:0]}, {**tensors, first: torch.empty(1).expand(2**40)}, Evil(),
    ]  # fmt: skip
    torch.save(tensors, path)
    whole = path.read_bytes()

    def attempt(case: Any) -> None:
        if isinstance(case, int) and case > 99:
            path.write_bytes(whole[:-6000] + damaged(whole[-6000:], case))
        else:
            torch.save(case, path)
        load_model(model)

    survives("model folder: pickled weights", [*odd, *range(100, 130)], attempt)
    assert not ran.exists()


def test_an_index_that_lies_is_refused(model: Path, survives: Survives) -> None:
    from safetensors import safe_open

    (model / "model.safetensors").rename(model / "part-1.safetensors")
    with safe_open(model / "part-1.safetensors", "pt") as reader:
        names = list(reader.keys())
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "part-1.safetensors")}
    source = json.dumps(index).encode()

    def attempt(data: bytes) -> None:
        (model / "model.safetensors.index.json").write_bytes(data)
        load_model(model)

    survives("model folder: index of shards", json_variants(source, 60), attempt)


def test_a_tokenizer_of_a_model_is_adopted_or_refused(model: Path, survives: Survives) -> None:
    source = (model / "tokenizer.json").read_bytes()

    def attempt(data: bytes) -> None:
        (model / "tokenizer.json").write_bytes(data)
        adopt(model, max_new_tokens=4).encode("3 5 -> 8")

    survives("model folder: tokenizer.json", json_variants(source, 40, seed=500), attempt)


def test_a_grid_is_used_or_refused(model: Path, survives: Survives) -> None:
    grid = {"version": 1, "recipe": "r", "quantize": {"rules": [{"match": "*", "bits": 4, "group_size": 32}]}}

    def attempt(data: bytes) -> None:
        (model / "grid.json").write_bytes(data)
        load_grid(model)

    survives("model folder: grid.json", json_variants(json.dumps(grid).encode(), 60), attempt)


TEMPLATES = (
    "{{ 1/0 }}", "{% if %}", "{{ messages[9].content }}", "{{ undefined.x.y }}", "{{ messages.__class__.__mro__ }}",
    "{{ ''.__class__ }}", "{{ cycler.__init__.__globals__ }}", "{{ self.__init__ }}", "{{ lipsum.__globals__['os'] }}",
    "{% include '/etc/passwd' %}", "{% extends 'x' %}", "{% import 'x' as y %}", "{{ raise_exception('no') }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{{ 10**10**10 }}", "{{ 'a' * 10**9 }}", "{{ [1] * 10**9 }}",
    "{{ '%1000000000d' % 1 }}", "{{ '{:>1000000000}'.format(1) }}", "{{ 'a'|center(1000000000) }}",
    "{{ 'a'.ljust(1000000000) }}",
    "{{ 'a'.zfill(1000000000) }}", "{{ ('a'*999999)|replace('', 'b'*999999) }}", "{{ 'a'|indent(1000000000) }}",
    "{% for a in range(9**5) %}{% for b in range(9**5) %}{% for c in range(9) %}{% endfor %}{% endfor %}{% endfor %}",
    "{% set x = namespace(v='aaaaaaaa') %}{% for i in range(60) %}{% set x.v = x.v + x.v %}{% endfor %}",
    "{% set x = namespace(v=[1]) %}{% for i in range(60) %}{% set x.v = x.v + x.v %}{% endfor %}",
    "{% set x = namespace(v=7) %}{% for i in range(60) %}{% set x.v = x.v * x.v %}{% endfor %}{{ x.v }}",
    "{{ messages|tojson(indent=1000000000) }}", "{{ range(99999)|list|tojson }}", "{{ messages|map('x')|list }}",
    "{{ strftime_now(messages) }}", "{{ strftime_now('%' * 99999) }}", "{{ messages[0].content|int ** 9 }}",
    "{{ '\ud800' }}", "\x00", "{{ 'x'|urlize }}", "{{ 'a'|wordwrap(0) }}", "{% set messages = 1 %}",
    "{{ dict(a=1)|xmlattr }}",
    "{{ messages[0].content.format(1) }}",
    "{{ messages[0].content|e }}", "{{ messages[0].content[::-1] }}", "{{ messages[0].content }}" * 3,
)  # fmt: skip


@pytest.mark.slow
def test_a_chat_template_of_any_kind_is_refused_in_its_time(
    model: Path, survives: Survives, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_process, "SECONDS", 2.0)
    tokenizer = read_tokenizer(model / "tokenizer.json")

    def attempt(template: str) -> None:
        (model / "chat_template.jinja").write_bytes(template.encode("utf-8", "surrogatepass"))
        with pytest.raises(BundleError, match="bad chat template"):
            chat_format(model, tokenizer)

    survives("model folder: chat template", TEMPLATES, attempt)


@pytest.mark.slow
def test_a_chat_template_that_is_slow_each_time_is_refused_after_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    loops = "{% for a in range(300) %}{% for b in range(1000) %}{% endfor %}{% endfor %}"
    honest = template_process.BoundedTemplate("{{ messages[0].content }}", {})
    monkeypatch.setattr(template_process, "SECONDS", 2.0)  # some fifty renderings, on a busy machine fewer
    slow = template_process.BoundedTemplate(loops, {})
    monkeypatch.setattr(template_process, "EACH_SECONDS", 0.0)

    def render_often() -> None:
        for _ in range(1000):
            slow.render([], add_generation_prompt=False)

    with pytest.raises(ValueError, match="for a few renderings"):
        render_often()
    for _ in range(100):
        assert honest.render([{"role": "user", "content": "x"}], add_generation_prompt=False) == "x"
