"""The hybrid server, met by the official client and by those who mean it no good."""

from __future__ import annotations

import functools
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from serve.clients import client_of, cloud_at, one
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from edgekit.cli.app import run_command
from edgekit.cloud.request import Message
from edgekit.hybrid.device import Device
from edgekit.hybrid.session import HandOffRules
from edgekit.policy.checkpoint import load_policy
from edgekit.routing.turns import Turn, TurnFormat
from edgekit.workflows.source import open_device

SAID = "Thinking <answer>1</answer>, no: <answer> 3 * 7 </answer> done"


WORDS_OF_PYDANTIC = re.compile("Input should|String should|List should|Field required|Extra inputs|constrained|valid ")


def test_the_official_client_works_unchanged(serve: Any, server: Any, prompts: dict[bool, str]) -> None:
    served = serve(cloud_at(server))
    client = client_of(served)
    kept = client.chat.completions.create(model="any", messages=one(prompts[False]), temperature=0.7)
    assert kept.model_extra is not None
    assert kept.model_extra["edgekit"]["route"] == "local"
    assert kept.choices[0].message.content == served.session.ask(prompts[False]).text
    assert not server.seen
    called = client.chat.completions.with_raw_response.create(model="any", messages=one(prompts[True]))
    assert called.headers["x-edgekit-route"] == "cloud"
    assert called.parse().choices[0].message.content == SAID
    assert [model.id for model in client.models.list()] == ["tiny"]


def test_a_stream_shows_the_device_s_tokens_then_the_cloud_s_and_never_the_marker(
    serve: Any, server: Any, device: Device, prompts: dict[bool, str]
) -> None:
    served = serve(cloud_at(server))
    chunks = list(client_of(served).chat.completions.create(model="x", messages=one(prompts[True]), stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    decision = device.decide(device.prompt_ids([Message("user", prompts[True])]))
    assert text.endswith(SAID)
    assert text.removesuffix(SAID).rstrip("\n") == decision.text.rstrip("\n")
    assert device.routing.marker.text not in text
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert (chunks[-1].model_extra or {})["edgekit"]["reason"] == "marker"


def events_of(client: openai.OpenAI, prompt: str) -> list[dict[str, Any]]:
    stream = client.chat.completions.create(
        model="x", messages=one(prompt), stream=True, extra_body={"edgekit": {"events": True}}
    )
    return [
        {**(chunk.model_extra or {}).get("edgekit", {}), "text": chunk.choices[0].delta.content, "id": chunk.id}
        for chunk in stream
    ]


def test_who_asks_for_events_sees_which_side_wrote_what(serve: Any, server: Any, prompts: dict[bool, str]) -> None:
    events = events_of(client_of(serve(cloud_at(server))), prompts[True])
    at = next(index for index, event in enumerate(events) if event.get("event") == "hand_off")
    assert all(event.get("side") == "device" for event in events[1:at])
    assert "".join(event["text"] for event in events[at + 1 :] if event.get("side") == "cloud") == SAID
    sent = events[at]["request"]
    assert {key: server.seen[0][key] for key in sent} == sent


def test_a_plain_client_s_stream_is_one_text_where_the_cloud_fails(
    serve: Any, server: Any, prompts: dict[bool, str]
) -> None:
    server.modes = ["status:500"]
    served = serve(cloud_at(server))
    chunks = list(client_of(served).chat.completions.create(model="x", messages=one(prompts[True]), stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    facts = (chunks[-1].model_extra or {})["edgekit"]
    assert (facts["route"], facts["reason"], facts["unsure"]) == ("local", "offline", True)
    assert text == served.session.ask(prompts[True]).text


@pytest.mark.parametrize("says", [True, False])
def test_consent_is_asked_for_and_the_word_is_kept(
    serve: Any, server: Any, prompts: dict[bool, str], says: bool
) -> None:
    served = serve(cloud_at(server), HandOffRules(consent="ask"))
    body = {"messages": one(prompts[True]), "stream": True, "edgekit": {"events": True}}
    with httpx2.stream("POST", f"{served.url}/v1/chat/completions", json=body, timeout=30) as reply:
        seen = []
        for line in reply.iter_lines():
            if not line.startswith("data: {"):
                continue
            seen.append(json.loads(line[6:]))
            if seen[-1].get("edgekit", {}).get("event") == "consent":
                assert not server.seen
                word = httpx2.post(f"{served.url}/v1/edgekit/consent/{seen[-1]['id']}", json={"allow": says})
                assert word.status_code == 200
    assert seen[-1]["edgekit"]["reason"] == ("marker" if says else "consent")
    assert len(server.seen) == says
    nobody = httpx2.post(f"{served.url}/v1/edgekit/consent/{seen[-1]['id']}", json={"allow": True})
    assert nobody.status_code == 404


def test_consent_that_nobody_gives_is_a_no(serve: Any, server: Any, prompts: dict[bool, str]) -> None:
    served = serve(cloud_at(server), HandOffRules(consent="ask"), consent_s=0.2)
    assert events_of(client_of(served), prompts[True])[-1]["reason"] == "consent"
    plain = client_of(served).chat.completions.create(model="x", messages=one(prompts[True]))
    assert (plain.model_extra or {})["edgekit"]["reason"] == "consent"
    assert not server.seen


def test_small_pieces_are_sent_at_once(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies came 40 ms late: Nagle's delay of the body, until the client acknowledged the head."""
    at_once, made = [], HttpToolsProtocol.connection_made

    def look(self: HttpToolsProtocol, transport: Any) -> None:
        made(self, transport)
        at_once.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(HttpToolsProtocol, "connection_made", look)
    httpx2.get(f"{serve().url}/healthz")
    assert at_once == [1]


@pytest.mark.parametrize(
    ("send", "status"),
    [
        ({"content": b"{"}, 400),
        ({"json": {}}, 400),
        ({"json": {"messages": []}}, 400),
        ({"json": {"messages": [{"role": "user"}]}}, 400),
        ({"json": {"messages": [{"role": "tool", "content": "x"}]}}, 400),
        ({"json": {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}}, 400),
        ({"json": {"messages": [{"role": "user", "content": "x"}], "n": 2}}, 400),
        ({"json": {"messages": [{"role": "user", "content": "x"}] * 65}}, 400),
        ({"json": {"messages": [{"role": "user", "content": "x" * 200_001}]}}, 400),
        ({"json": {"messages": [{"role": "user", "content": "x"}], "edgekit": {"unknown": 1}}}, 400),
        ({"content": b'{"messages": ' + b"[" * 100_000}, 400),
        ({"content": b'"' + b"x" * 1_100_000 + b'"'}, 413),
        ({"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415),
        ({"json": {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}}, 400),
    ],
)
def test_a_bad_request_is_one_line(serve: Any, send: dict[str, Any], status: int) -> None:
    served = serve()
    headers = {"Content-Type": "application/json", **send.get("headers", {})}
    reply = httpx2.post(f"{served.url}/v1/chat/completions", **{**send, "headers": headers})
    assert reply.status_code == status
    assert "\n" not in reply.json()["error"]["message"]
    assert not WORDS_OF_PYDANTIC.search(reply.json()["error"]["message"])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "messages: is missing"),
        ({"messages": []}, "messages: has 0 entries, fewer than 1"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role: 'tool' is not one of"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages.0.content: 7 is not a text and 7 is not a list"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages.0.content.0.type: 'image_url'",
        ),
        ({"messages": one("x"), "max_tokens": 0}, "max_tokens: 0 is less than 1"),
        ({"messages": one("x"), "edgekit": {"event": True}}, "edgekit.event: unknown key; did you mean events?"),
        ({"messages": one("x" * 200_001)}, "messages.0.content: has more than 200,000 characters"),
        ([], "body: [] is not a mapping of keys to values"),
    ],
)
def test_a_bad_request_is_told_in_plain_words(serve: Any, body: Any, said: str) -> None:
    message = httpx2.post(f"{serve().url}/v1/chat/completions", json=body).json()["error"]["message"]
    assert said in message, message
    assert not WORDS_OF_PYDANTIC.search(message), message


@pytest.mark.parametrize(
    "prompt", ["", "\x00", "\x1b[31mred", "[/bold]", "x" * 100_000, "<script>alert(1)</script>", "é" * 500]
)
def test_any_prompt_is_answered(serve: Any, server: Any, prompt: str) -> None:
    reply = client_of(serve(cloud_at(server))).chat.completions.create(model="x", messages=one(prompt))
    assert isinstance(reply.choices[0].message.content, str)


def test_other_hosts_other_sites_and_other_keys_are_refused(serve: Any) -> None:
    served = serve(api_key="the right one")
    url = f"{served.url}/v1/models"
    right = {"Authorization": "Bearer the right one"}
    assert httpx2.get(url, headers=right).status_code == 200
    assert httpx2.get(url).status_code == 401
    assert httpx2.get(url, headers={"Authorization": "Bearer the wrong one"}).status_code == 401
    assert httpx2.get(url, headers={**right, "Host": "evil.example"}).status_code == 421
    assert httpx2.get(url, headers={**right, "Host": "[::1"}).status_code == 421
    assert httpx2.get(url, headers={**right, "Origin": "http://["}).status_code == 403
    assert httpx2.get(url, headers={**right, "Origin": "https://evil.example"}).status_code == 403
    assert httpx2.get(f"{served.url}/healthz").json() == {"status": "ok"}
    page = httpx2.get(served.url)
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "access-control-allow-origin" not in page.headers


def test_a_key_beyond_ascii_opens_as_the_bytes_that_it_is(serve: Any) -> None:
    key = "s\u00e9kret"
    url = f"{serve(api_key=key).url}/v1/models"
    for given, status in ((key.encode(), 200), (b"sekret", 401), (key.encode("latin-1"), 401)):
        headers = [(b"authorization", b"Bearer " + given)]
        assert httpx2.get(url, headers=headers).status_code == status


def test_an_address_that_is_taken_is_one_line(
    tiny_policy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = [str(tiny_policy_folder), "--port", port, "--state", str(tmp_path), "--cloud", "none"]
        assert run_command(["serve", *arguments]) == 2
    line = f"error: cannot listen: 127.0.0.1:{port}. Address already in use. Give another --host or --port."
    assert capsys.readouterr().err.splitlines()[-1] == line


@pytest.mark.slow
def test_the_command_serves_until_ctrl_c(tiny_policy_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgekit", "serve", str(tiny_policy_folder), "--port", "0", "--cloud", "none"]
    # A shell's background jobs ignore SIGINT and hand that down; a person at a terminal does not.
    listen = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        [*command, "--state", str(tmp_path)], stderr=subprocess.PIPE, text=True, preexec_fn=listen
    ) as serving:
        try:
            assert serving.stderr is not None
            told = (re.search(r"http://\S+/", line) for line in serving.stderr)  # a slow start says more than that
            url = next(found[0] for found in told if found)
            with urllib.request.urlopen(f"{url}healthz", timeout=60) as reply:
                assert reply.status == 200
            serving.send_signal(signal.SIGINT)
            assert serving.wait(60) == 130
            assert serving.stderr.read().startswith("error: interrupted. ")
        finally:
            serving.kill()


def test_several_turns_are_rendered_by_the_policy_s_template(serve: Any, tiny_policy_folder: Path) -> None:
    policy = load_policy(tiny_policy_folder)
    policy.turns = TurnFormat(begin="", to_assistant="\n", to_user="\n", reply="\n")
    served = serve(device=open_device(policy))
    said = [("user", "3 5 7 -> 22"), ("assistant", "<answer>3 * 5 + 7</answer>"), ("user", "2 3 -> 6")]
    turns: list[Any] = [{"role": role, "content": content} for role, content in said]
    reply = client_of(served).chat.completions.create(model="x", messages=turns)
    parts = policy.turns.parts([Turn(*each) for each in said])
    ids = policy.prompt_tokenizer.encode(parts, policy.routing.delimiters)
    assert reply.choices[0].message.content == served.session.device.decide(ids, marker_bias=float("-inf")).text
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == len(ids)
    for wrong in ([turns[1]], turns[:2], [turns[0], turns[2]], [{"role": "system", "content": "x"}, turns[0]]):
        with pytest.raises(openai.BadRequestError, match=r"take turns|knows none"):
            client_of(served).chat.completions.create(model="x", messages=wrong)
