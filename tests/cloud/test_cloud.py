"""Clouds: the oracle's fixed mistakes, and a real HTTP server that behaves, fails, or stalls."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from edgekit.cloud.choose import parse_cloud
from edgekit.cloud.openai_client import OpenAICloud, final_answer
from edgekit.cloud.oracle import OracleCloud
from edgekit.errors import EdgekitError
from edgekit.tasks import get_task

TASK = get_task("countdown")
PROBLEMS = TASK.problems("test", 200, 0)
KEY = "sk-very-secret"


class Server(ThreadingHTTPServer):
    mode = "good"
    seen: list[dict]
    gave_up: threading.Event


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append(body | {"key": self.headers["Authorization"]})
        mode = self.server.mode
        if mode == "slow":
            self.server.gave_up.wait(60)
        content = "Thinking <answer>1</answer>, no: <answer> 3 * 7 </answer> done"
        reply = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": content}}]})
        data = {"garbage": "<html>hello", "empty": '{"choices": []}', "torn": '{"choices": ['}.get(mode, reply).encode()
        try:
            self.send_response(500 if mode == "500" else 401 if mode == "401" else 200)
            self.send_header("Content-Type", "text/html" if mode == "garbage" else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            return  # the client gave up waiting

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.seen, server.gave_up = [], threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.gave_up.set()
    server.shutdown()
    server.server_close()


def cloud_at(server: Server) -> OpenAICloud:
    patience = 1 if server.mode == "slow" else 60
    return OpenAICloud("m", f"http://127.0.0.1:{server.server_port}/v1", KEY, timeout=patience)


def test_the_reply_s_last_answer_is_taken_and_the_prompt_and_key_are_sent(server: Server) -> None:
    assert cloud_at(server).answer(PROBLEMS[0]) == "3 * 7"
    request = server.seen[0]
    assert request["messages"][-1]["content"] == PROBLEMS[0].prompt
    assert request["key"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("mode", "why", "requests"),
    [("500", "status 500", 2), ("401", "status 401", 1), ("slow", "in time", 2), ("garbage", "cannot be read", 1),
     ("empty", "cannot be read", 1), ("torn", "cannot be read", 1)],
)  # fmt: skip
def test_a_bad_server_is_one_line_without_the_key(server: Server, mode: str, why: str, requests: int) -> None:
    server.mode = mode
    with pytest.raises(EdgekitError, match=why) as error:
        cloud_at(server).answer(PROBLEMS[0])
    assert KEY not in str(error.value)
    assert "\n" not in str(error.value)
    assert len(server.seen) == requests


def test_no_server_is_one_line() -> None:
    with pytest.raises(EdgekitError, match="cannot be reached"):
        OpenAICloud("m", "http://127.0.0.1:9/v1", KEY, timeout=1).answer(PROBLEMS[0])


def test_text_without_delimiters_is_the_answer_itself() -> None:
    assert final_answer(" 3 * 7\n") == "3 * 7"
    assert final_answer("a <answer>4") == "4"


def test_the_oracle_is_right_always_or_wrong_on_the_same_share_every_time() -> None:
    assert all(TASK.grade(p, OracleCloud(TASK).answer(p)) for p in PROBLEMS)
    first, second = ([TASK.grade(p, OracleCloud(TASK, 0.8).answer(p)) for p in PROBLEMS] for _ in range(2))
    assert first == second
    assert 0.7 < sum(first) / len(first) < 0.9
    assert first != [TASK.grade(p, OracleCloud(TASK, 0.8, seed=1).answer(p)) for p in PROBLEMS]


def test_clouds_are_named_on_the_command_line() -> None:
    assert parse_cloud("none", TASK, {}) is None
    assert parse_cloud("oracle", TASK, {}).accuracy == 1.0
    assert parse_cloud("oracle:0.9", TASK, {}).accuracy == 0.9
    cloud = parse_cloud("openai:org/m@http://127.0.0.1:1/v1", TASK, {"EDGEKIT_CLOUD_API_KEY": KEY})
    assert (cloud.model, cloud.base_url, cloud._key) == ("org/m", "http://127.0.0.1:1/v1", KEY)


@pytest.mark.parametrize(
    "text", ["", "orcale", "oracle:", "oracle:2", "oracle:nan", "openai:m", "openai:@http://x", "none:1"]
)
def test_an_unknown_cloud_is_refused(text: str) -> None:
    with pytest.raises(EdgekitError, match="Use oracle"):
        parse_cloud(text, TASK, {})
