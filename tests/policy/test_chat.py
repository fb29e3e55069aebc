"""Chat formats: the text that transformers' apply_chat_template gives, for every prompt; what a template may not do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from family_cases import make_model
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, processors

from edgekit.errors import BundleError
from edgekit.policy.adopt import adopt
from edgekit.policy.chat import ChatFormat, chat_format
from edgekit.policy.tokens import build_tokenizer
from edgekit.routing.prompt_tokens import read_tokenizer
from edgekit.routing.spec import TRIMS, WHITE_SPACE, Marker, RoutingSpec, trimmed

QWEN_LIKE = """
{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "user" %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
LLAMA_LIKE = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + date_string + "\\n\\n" }}
{{- system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
NO_SYSTEM = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}
{% endif %}{% for message in messages %}
{{ '<start_of_turn>' + message['role'] + '\\n' + message['content'] + '<end_of_turn>\\n' }}
{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""
GEMMA_LIKE = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first_user_prefix = messages[0]['content'] + '\\n\\n' -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\\n' + (first_user_prefix if loop.first else "") }}
    {{- message['content'] | trim }}{{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}"""
JSON_LIKE = """{% for m in messages %}<|im_start|>{{ m.role }}
{% generation %}{{ m.content }}{% endgeneration %}<|im_end|>
{% endfor %}{{ {"a": "<b>"} | tojson }}
{%- if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"""
TEMPLATES = {"qwen": QWEN_LIKE, "llama": LLAMA_LIKE, "gemma": GEMMA_LIKE, "json": JSON_LIKE, "no system": NO_SYSTEM}


def model_folder(folder: Path, template: Any, *, as_file: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    build_tokenizer().save(str(folder / "tokenizer.json"))
    written: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": {"content": "<|begin|>"}}
    if as_file:
        (folder / "chat_template.jinja").write_text(template)
    elif template is not None:
        written["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(written))
    return folder


def format_of(template: Any, folder: Path, instruction: str | None = None, **arguments: Any) -> ChatFormat:
    return chat_format(model_folder(folder, template), build_tokenizer(), instruction, arguments)


def routing(form: ChatFormat) -> RoutingSpec:
    return RoutingSpec(
        marker=Marker(text="<call>", token_ids=((1,),)),
        stop_token_ids=(2,),
        max_new_tokens=4,
        prompt_template=form.template,
        prompt_trim=form.trim,
    )


@pytest.mark.parametrize("instruction", [None, "Answer in <answer>."])
@pytest.mark.parametrize("name", TEMPLATES)
def test_every_prompt_is_written_as_transformers_writes_it(
    name: str, instruction: str | None, theirs: Any, tmp_path: Path
) -> None:
    form = format_of(TEMPLATES[name], tmp_path, instruction)
    spec = routing(form)
    knows_system = "{prompt}" not in (instruction or "") and name != "no system"

    @given(st.text(min_size=1) | st.text(alphabet=" \n\tab{}%<>&|'\"\u3000\u200b", min_size=1))
    @settings(max_examples=80, deadline=None)
    def holds(prompt: str) -> None:
        messages = [{"role": "user", "content": prompt}]
        if instruction and knows_system:
            messages.insert(0, {"role": "system", "content": instruction})
        elif instruction:
            messages = [{"role": "user", "content": f"{instruction}\n\n{prompt}"}]
        expected = theirs.apply_chat_template(
            messages, chat_template=TEMPLATES[name], tokenize=False, add_generation_prompt=True
        )
        assert spec.render(prompt) == expected

    holds()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("instruction", "arguments"), [(None, {}), ("Answer in <answer>.", {}), (None, {"enable_thinking": False})]
)
@pytest.mark.parametrize("name", ["qwen3", "llama3_1", "gemma3"])
def test_real_templates_are_written_as_transformers_writes_them(
    name: str, instruction: str | None, arguments: dict[str, Any], real_tokenizers: dict[str, Path]
) -> None:
    transformers = pytest.importorskip("transformers")
    folder = real_tokenizers[name].parent
    said = json.loads((folder / "tokenizer_config.json").read_text())
    begin = {"bos_token": said["bos_token"]} if said["bos_token"] else {}
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=build_tokenizer(), **begin)
    spec = routing(chat_format(folder, read_tokenizer(real_tokenizers[name]), instruction, arguments))

    @given(st.text(min_size=1) | st.text(alphabet=" \n\tab{}%<>&|'\"\u3000\u200b", min_size=1))
    @settings(max_examples=100, deadline=None)
    @example("<tool_response>7</tool_response>")
    @example(" {prompt} <|im_end|><end_of_turn><|eot_id|> ")
    def holds(prompt: str) -> None:
        system = [{"role": "system", "content": instruction}] if instruction else []
        expected = theirs.apply_chat_template(
            [*system, {"role": "user", "content": prompt}],
            chat_template=said["chat_template"],
            tokenize=False,
            add_generation_prompt=True,
            **arguments,
        )
        assert spec.render(prompt) == expected

    holds()


@given(st.text(alphabet=WHITE_SPACE + "ab\u200b\ufeff"))
def test_trimming_is_what_jinja_s_trim_does(prompt: str) -> None:
    assert trimmed(prompt, "both") == prompt.strip()
    assert trimmed(prompt, "start") == prompt.lstrip()
    assert trimmed(prompt, "end") == prompt.rstrip()


@pytest.mark.slow
def test_what_trims_is_found(tmp_path: Path) -> None:
    assert [format_of(template, tmp_path).trim for template in TEMPLATES.values()] == [
        "none", "both", "both", "none", "none",
    ]  # fmt: skip
    by_half = "{{ messages[0].content.rstrip() }}|"
    assert format_of(by_half, tmp_path).trim == "end"
    # An instruction in the user's own message is trimmed with it: the prompt's beginning is inside.
    no_system = GEMMA_LIKE.replace("first_user_prefix = messages[0]['content'] + '\\n\\n'", "x = raise_exception('no')")
    assert format_of(no_system, tmp_path, "Be brief.").trim == "end"
    assert set(TRIMS) == {"none", "both", "start", "end"}


def test_a_model_without_system_messages_reads_the_instruction_before_the_prompt(tmp_path: Path) -> None:
    several = [{"name": "tools", "template": "no"}, {"name": "default", "template": NO_SYSTEM}]
    text = format_of(several, tmp_path, "Be brief.").template
    assert text.startswith("<|begin|>")
    assert "<start_of_turn>user\nBe brief.\n\n{prompt}<end_of_turn>" in text
    assert format_of(None, tmp_path / "plain", "Be brief.").template == "Be brief.\n\n{prompt}\n"


def test_the_end_of_a_turn_is_what_the_template_writes_after_an_answer(tmp_path: Path) -> None:
    ends = [format_of(template, tmp_path).end_of_turn for template in (LLAMA_LIKE, GEMMA_LIKE, JSON_LIKE)]
    assert ends == ["<|eot_id|>", "<end_of_turn>", "<|im_end|>"]
    assert format_of(None, tmp_path / "plain").end_of_turn is None


@pytest.mark.slow
def test_arguments_reach_the_template_and_the_date_stands_still(tmp_path: Path) -> None:
    assert format_of(JSON_LIKE, tmp_path, enable_thinking=False).template.endswith("<think></think>")
    assert not format_of(JSON_LIKE, tmp_path).template.endswith("<think></think>")
    dated = format_of("{{ strftime_now('%d %b %Y') }} {{ messages[0].content }}", tmp_path)
    assert (dated.template, dated.date) == ("26 Jul 2024 {prompt}", "2024-07-26")
    assert format_of(LLAMA_LIKE, tmp_path).date is None
    with pytest.raises(BundleError, match="messages is no argument, edgekit gives it"):
        format_of(JSON_LIKE, tmp_path, messages=[])
    with pytest.raises(BundleError, match="unused template_arguments: enable_thinking"):
        format_of(None, tmp_path / "plain", enable_thinking=False)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{% for %}", "Expected an expression"),
        ("{{ messages[0].content.nothing() }}", "has no attribute"),
        ("{{ bos_token }}", "drops the prompt"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "calls itself without end"),
        ("{{ messages[0].content.upper() }}", "drops the prompt|changes the prompt"),
        ("{{ messages[0].content | replace('<', '[') }}", "changes the prompt's text"),
        ("{{ messages[0].content }}{{ messages[0].content }}", "more than once"),
        ("{{ messages[0].content[:200] }}", "changes the prompt's text"),
        ("{{ messages[0].content | e }}", "changes the prompt's text"),
        ("{{ messages[0].content.split() | join(' ') }}", "changes"),
        ("{{ messages[0].content.strip('\\n') }}", "changes white space"),
        ("{{ messages[0].content.strip(' ') }}", "changes white space"),
        ("{{ messages[0].content.split('</think>')[-1] }}", "changes the prompt's text"),
        ("{{ 'x' * 100000000 }}{{ messages[0].content }}", "more than 1,000,000"),
        ("{{ 9 ** 999999999 }}{{ messages[0].content }}", "more than 1,000,000"),
        ("{% for i in range(99999) %}{{ 'x' * 999 }}{% endfor %}{{ messages[0].content }}", "writes more than"),
        ("{{ messages.__class__.__mro__ }}{{ messages[0].content }}", "unsafe|undefined"),
        ("{{ messages[0].content + missing.name }}", "undefined"),
        ({"not": "text"}, "it is no text"),
    ],
)
def test_a_chat_template_that_cannot_be_used_is_one_line(template: Any, why: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="bad chat template: ") as caught:
        format_of(template, tmp_path)
    assert "\n" not in str(caught.value)
    assert re.search(why, str(caught.value)), caught.value


def test_a_template_file_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, None)
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe{{ messages }}")
    with pytest.raises(BundleError, match=r"chat_template\.jinja cannot be read"):
        chat_format(folder, build_tokenizer())


# --- in an adopted policy -----------------------------------------------------------------------------


def chat_model(folder: Path, template: str | None, *tokens: str, begin: bool = False, **config: Any) -> Tokenizer:
    """A tiny model whose tokenizer knows ``tokens`` too, and with ``begin`` puts a BOS before every text."""
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in ("<|begin|>", *tokens)])
    if begin:
        bos = ("<|begin|>", tokenizer.token_to_id("<|begin|>"))
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A", pair="<|begin|> $A $B", special_tokens=[bos]
        )
    make_model("llama", folder, vocab_size=tokenizer.get_vocab_size(), **config)
    model_folder(folder, template)
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


def test_without_a_template_a_prompt_begins_as_the_post_processor_begins_a_text(tmp_path: Path) -> None:
    tokenizer = chat_model(tmp_path, None, begin=True)
    policy = adopt(tmp_path, max_new_tokens=4)
    assert policy.encode("3 5") == tokenizer.encode("3 5\n", add_special_tokens=True).ids
    assert (
        adopt(tmp_path, max_new_tokens=4, prompt_template="Use {prompt}").encode("3") == tokenizer.encode("Use 3").ids
    )
    own = adopt(tmp_path, max_new_tokens=4, prompt_template="<|begin|>Use {prompt}")
    assert own.encode("3") == tokenizer.encode("Use 3").ids  # not twice


def test_a_template_has_the_word_on_how_a_prompt_begins(tmp_path: Path) -> None:
    chat_model(tmp_path, GEMMA_LIKE, "<start_of_turn>", "<end_of_turn>", begin=True)
    policy = adopt(tmp_path, max_new_tokens=4)
    assert policy.routing.prompt_template.startswith("<|begin|><start_of_turn>")
    assert policy.encode("  3 ") == policy.encode("3")


def test_a_response_ends_at_every_end_that_the_folder_names(tmp_path: Path) -> None:
    tokenizer = chat_model(tmp_path, JSON_LIKE, "<|im_start|>", "<|im_end|>", "<|stop|>", eos_token_id=5)
    written = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(written | {"eos_token": {"content": "<|stop|>"}}))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 5]}))
    end, stop = tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|stop|>")
    assert adopt(tmp_path, max_new_tokens=4).routing.stop_token_ids == (end, 7, 5, stop)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": ["</s>"]}))
    with pytest.raises(BundleError, match="bad stop token: '</s>'"):
        adopt(tmp_path, max_new_tokens=4)


def test_a_stop_token_that_can_never_come_is_refused(tmp_path: Path) -> None:
    chat_model(tmp_path, None, eos_token_id=99_999)
    with pytest.raises(BundleError, match=r"bad stop token: 99999 in .*\. The tokenizer has no such token"):
        adopt(tmp_path, max_new_tokens=4)
