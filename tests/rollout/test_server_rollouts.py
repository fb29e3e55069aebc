"""Rollouts from a server: a real HTTP server on this machine speaks vLLM's endpoints and samples a real policy."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from edgekit.cli.app import run_command
from edgekit.cloud.oracle import OracleCloud
from edgekit.errors import EdgekitError
from edgekit.policy.checkpoint import Policy, load_policy, load_vocabulary, save_policy
from edgekit.policy.model import ModelConfig, PolicyModel
from edgekit.policy.tokens import ANSWER_CLOSE, END, MARKER, build_tokenizer, padded_vocabulary_size
from edgekit.rollout.server import RolloutServer, server_address
from edgekit.routing.decoder import RoutingDecoder
from edgekit.routing.spec import Marker, RoutingSpec
from edgekit.tasks import get_task
from edgekit.train.batches import collate, samples_of
from edgekit.train.config import load_config
from edgekit.train.loop import train
from edgekit.train.loss import response_log_probs

KEY = "sk-very-secret"


class Server(ThreadingHTTPServer):
    """What vLLM does with the requests edgekit sends; ``mode`` makes it misbehave."""

    policy: Policy
    mode = "good"
    seen: list[tuple[str, dict[str, Any]]]
    log_probs: dict[tuple[int, ...], float]
    """Of each prompt with each response it sent: what its own sampling said."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @torch.inference_mode()
    def sample(self, body: dict[str, Any]) -> list[list[int]]:
        rows = torch.tensor([body["prompt"]] * body["n"])
        generator = torch.Generator().manual_seed(body["seed"])
        responses: list[list[int]] = [[] for _ in rows]
        ended, totals = torch.zeros(len(rows), dtype=torch.bool), torch.zeros(len(rows))
        while not ended.all() and len(rows[0]) < len(body["prompt"]) + body["max_tokens"]:
            logits = self.policy.model(rows)[:, -1]
            for token_id, bias in body.get("logit_bias", {}).items():
                logits[:, int(token_id)] += bias
            log_probs = (logits / body["temperature"]).log_softmax(-1)
            tokens = torch.multinomial(log_probs.exp(), 1, generator=generator)
            totals += log_probs.gather(1, tokens)[:, 0] * ~ended
            for row in (~ended).nonzero()[:, 0].tolist():
                responses[row].append(int(tokens[row]))
                self.log_probs[(*body["prompt"], *responses[row])] = float(totals[row])
            ended |= torch.isin(tokens[:, 0], torch.tensor(body["stop_token_ids"]))
            rows = torch.cat([rows, tokens], dim=1)
        return responses


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.reply({"object": "list", "data": [{"id": "served", "object": "model", "created": 0, "owned_by": "me"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or "{}")
        self.server.seen.append((self.path, body | {"key": self.headers["Authorization"]}))
        mode = self.server.mode
        if self.path == "/collective_rpc" and mode != "no new weights":
            self.server.policy.model = load_policy(Path(body["kwargs"]["weights_path"])).model
            self.reply({"results": [None]})
        elif self.path == "/reset_prefix_cache":
            self.reply(None)
        elif self.path == "/v1/completions" and mode != "broken":
            ids = self.server.sample(body)[: 1 if mode == "too few" else None]
            read = {"prompt_token_ids": [1, *body["prompt"]] if mode == "other prompt" else body["prompt"]}
            read = {} if mode == "no ids" else read
            choices = [
                {
                    "index": i,
                    "text": "",
                    "finish_reason": "stop",
                    **({} if mode == "no ids" else {"token_ids": each}),
                    **read,
                }
                for i, each in reversed(list(enumerate(ids)))
            ]
            self.reply({"id": "x", "object": "text_completion", "created": 0, "model": "served", "choices": choices})
        else:
            self.reply({"error": {"message": f"no such thing for {KEY}"}}, 500 if mode == "broken" else 404)

    def reply(self, data: Any, status: int = 200) -> None:
        text = b"" if data is None else b"[" if self.server.mode == "torn" else json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if text else "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        return


def random_policy(seed: int, folder: Path) -> Policy:
    """A policy of random weights, of whose tokens those that can end a response are likely."""
    tokenizer = build_tokenizer()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    marker, end = tokenizer.token_to_id(MARKER), tokenizer.token_to_id(END)
    routing = RoutingSpec(marker=Marker(text=MARKER, token_ids=((marker,),)), stop_token_ids=(end,), max_new_tokens=8)
    torch.manual_seed(seed)
    model = PolicyModel(ModelConfig(padded_vocabulary_size(tokenizer), 16, 32, 2, 2, 1, 8, 64))
    model.model.embed_tokens.weight.data.mul_(0.3)
    ends = torch.tensor([marker, end, *(tokenizer.token_to_id(text) for text in ("<answer>", ANSWER_CLOSE))])
    with torch.no_grad():  # every hidden state leans towards them
        model.model.norm.weight[0] = 6.0
        model.model.embed_tokens.weight[:, 0] = 0.4
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
        model.lm_head.weight[ends, 0] = 1.2
    model.config = ModelConfig(**{**vars(model.config), "tie_word_embeddings": False})
    return Policy(model.eval(), tokenizer, routing, load_vocabulary(folder / "tokenizer.json", routing))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.policy, server.seen, server.log_probs = random_policy(0, tmp_path / "served"), [], {}
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_what_the_server_samples_has_the_probability_the_trainer_computes(server: Server) -> None:
    policy, client = server.policy, RolloutServer("served", server.url, KEY)
    prompts = [policy.encode(text) for text in ("3 5 7 -> 22", "2 4 -> 8")]
    groups = client.sample_groups(policy, prompts, 40, temperature=0.8, seed=3)
    assert [group.prompt_ids for group in groups] == [tuple(prompt) for prompt in prompts]
    asked = [body for path, body in server.seen if body["n"] == 40]
    assert {tuple(body["prompt"]) for body in asked} == {tuple(prompt) for prompt in prompts}
    assert all(body["model"] == "served" and body["key"] == f"Bearer {KEY}" for body in asked)
    assert all((body["top_p"], body["top_k"], body["repetition_penalty"]) == (1.0, 0, 1.0) for body in asked)
    rows = policy.model.without_token.tolist()
    assert rows
    assert all(body["logit_bias"] == dict.fromkeys(map(str, rows), -100) for body in asked)
    compared = 0
    for group in groups:
        samples = samples_of(0, group, [1.0] * len(group.responses))
        with torch.no_grad():
            here = response_log_probs(policy.model, collate(samples), 0.8).tolist()
        for response, log_prob in zip(group.responses, here, strict=True):
            if not _went_on(policy, response):  # written in one request
                assert log_prob == pytest.approx(server.log_probs[(*group.prompt_ids, *response.token_ids)], abs=1e-4)
                compared += 1
    assert compared > 40


def _went_on(policy: Policy, response: Any) -> bool:
    """Whether a token at which a server stops stands before the response's end."""
    stops = {policy.tokenizer.token_to_id(text) for text in (MARKER, ANSWER_CLOSE)}
    return any(token in stops for token in response.token_ids[:-1])


def test_a_stop_token_that_decides_nothing_does_not_end_the_response(server: Server) -> None:
    policy, client = server.policy, RolloutServer("served", server.url)
    (group,) = client.sample_groups(policy, [policy.encode("2 4 -> 8")], 200, temperature=1.0, seed=1)
    for response in group.responses:
        decoder = RoutingDecoder(policy.routing, policy.vocabulary)
        ended = [decoder.push(token) is not None and decoder.done for token in response.token_ids]
        assert not any(ended[:-1])
        assert ended[-1] or len(response.token_ids) == 8
    assert any(_went_on(policy, response) for response in group.responses)
    assert {response.reason for response in group.responses} >= {"marker", "no_answer"}


def test_an_answer_within_a_thought_does_not_end_the_response(server: Server) -> None:
    policy, client = server.policy, RolloutServer("served", server.url)
    policy.routing = policy.routing.model_copy(update={"prompt_template": "{prompt}<think>"})
    (group,) = client.sample_groups(policy, [policy.encode("2 4 -> 8")], 60, temperature=1.0, seed=1)
    close = policy.tokenizer.token_to_id(ANSWER_CLOSE)
    assert any(close in response.token_ids[:-1] for response in group.responses)
    for response in group.responses:
        assert response.answer is None
        last = response.token_ids[-1]
        assert len(response.token_ids) == 8 or last in policy.routing.stop_token_ids or response.reason == "marker"


def test_the_server_s_draws_depend_on_seed_and_prompt_number_alone(server: Server) -> None:
    policy, client = server.policy, RolloutServer("served", server.url)
    prompts = [policy.encode(text) for text in ("3 5 7 -> 22", "2 4 -> 8")]
    whole = client.sample_groups(policy, prompts, 5, temperature=1.0, seed=3)
    assert client.sample_groups(policy, prompts[1:], 5, temperature=1.0, seed=3, first=1) == whole[1:]
    assert client.sample_groups(policy, prompts, 5, temperature=1.0, seed=4) != whole


def test_a_training_run_gives_the_server_its_weights_before_each_step(server: Server, tmp_path: Path) -> None:
    base, run = tmp_path / "base", tmp_path / "run"
    server.policy.routing = server.policy.routing.model_copy(update={"prompt_template": "{prompt}\n"})
    save_policy(random_policy(1, base), base)  # what the server holds at first is another model
    overrides = [f"base={base}", f"rollouts=vllm:served@{server.url}", "steps=3", "prompts_per_step=4", "eval_n=0"]
    config = load_config("quick", [*overrides, "train_pool=8", "learning_rate=0.01"])
    before: list[PolicyModel] = []

    def sampled(body: dict[str, Any]) -> list[list[int]]:
        if not before or before[-1] is not server.policy.model:
            before.append(server.policy.model)
        return Server.sample(server, body)

    server.sample = sampled  # type: ignore[method-assign]
    train(config, run, cloud=OracleCloud(get_task("countdown")))
    orders = [path for path, _ in server.seen if path != "/v1/completions"]
    assert orders == ["/collective_rpc", "/reset_prefix_cache"] * 3
    assert len(before) == 3
    heads = [model.lm_head.weight for model in before]
    assert torch.equal(heads[0], load_policy(base).model.lm_head.weight)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    moved = [line["grad_norm"] > 0 for line in lines]
    assert [not torch.equal(a, b) for a, b in itertools.pairwise(heads)] == moved[:2]
    assert not (run / "served_policy").exists()


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("no ids", "its reply holds no token_ids, which vLLM has from 0.10.2"),
        ("too few", "it sent 1 responses where 4 were asked for"),
        ("other prompt", "it read another prompt than it was sent"),
        ("broken", r"it answered with status 500, .*no such thing for \*\*\*"),
        ("torn", "its reply cannot be read"),
    ],
)
def test_a_server_that_misbehaves_is_named_and_the_key_is_not(server: Server, mode: str, why: str) -> None:
    server.mode = mode
    client = RolloutServer("served", server.url, KEY)
    with pytest.raises(EdgekitError, match=rf"rollouts failed: served at http.*\. {why}") as caught:
        client.sample_groups(server.policy, [[1, 2]], 4, temperature=1.0, seed=0)
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "mode", "why"),
    [
        ("other", "good", "it serves served"),
        ("served", "no new weights", "it takes no new weights, set VLLM_SERVER_DEV_MODE=1 for it"),
        ("served", "gone", "it cannot be reached"),
    ],
)
def test_a_server_that_cannot_be_used_ends_the_command_in_one_line(
    server: Server, model: str, mode: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.mode = mode
    url = "http://127.0.0.1:9/v1" if mode == "gone" else server.url
    settings = [f"rollouts=vllm:{model}@{url}", "steps=1", "prompts_per_step=2", "train_pool=4"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    assert run_command(["train", "quick", "--out", str(tmp_path / "run"), *arguments]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert errors == [f"error: rollouts failed: {model} at {url}. {why}. Check the server, its model and its address."]


def test_where_rollouts_come_from_is_checked_with_the_config() -> None:
    assert server_address("local") is None
    name = "vllm:org/model@v2@http://host:8000/v1/"
    assert server_address(name) == ("org/model@v2", "http://host:8000/v1")
    for bad in ("vllm:model", "vllm:@http://host/v1", "vllm:model@host:8000", "sglang:m@http://host/v1"):
        with pytest.raises(EdgekitError, match=r"rollouts: .* is not local or vllm:MODEL@http"):
            load_config("quick", [f"rollouts={bad}"])
