"""Prompts, and what clouds reply: every prompt is answered, every text is shown as text."""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
from hostile.counting import LONGEST_LINE, Survives
from hostile.generators import PROMPTS, RAW, damaged, prompts, swapped

from edgekit.cli.app import run_command
from edgekit.cli.harmless import harmless
from edgekit.cli.terminal import PlainConsole
from edgekit.cloud.answers import AnswerStore, KeptCloud
from edgekit.cloud.openai_client import CallLimits, OpenAICloud
from edgekit.cloud.request import Message
from edgekit.hybrid.session import HybridSession
from edgekit.tasks import TASKS, get_task
from edgekit.workflows.behind import chat_cloud
from edgekit.workflows.source import open_cloud, open_device

REPLY = {
    "id": "1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "<answer>3</answer>"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6},
}  # fmt: skip
EVIL = "[/x] [bold]b[/bold] :smile: \x1b]0;title\x07\x1b[2J\r\x08\x9b31m \u202egnp.exe\u2028 \ud800 \x7f"


def test_every_prompt_is_answered(tiny_bundle_folder: Path, survives: Survives) -> None:
    task = get_task("countdown")
    session = HybridSession(open_device(tiny_bundle_folder), chat_cloud(open_cloud("oracle:0.5", task), task))

    def attempt(prompt: str) -> None:
        answer = session.ask(prompt)
        assert answer.route in ("local", "cloud")
        json.dumps(answer.text)

    survives("text: prompts", prompts(120), attempt)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_takes_any_text_for_no_problem_or_one(name: str, survives: Survives) -> None:
    task = get_task(name)
    (honest,) = task.problems("test", 1, 0)

    def attempt(text: str) -> None:
        problem = task.parse(text)
        if problem is not None:
            task.solve(problem)
        task.grade(honest, text)

    survives("text: read as problems and as answers", prompts(90), attempt)


class Handler(BaseHTTPRequestHandler):
    """Sends what the test says."""

    reply: ClassVar[bytes] = b""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(self.reply)))
        self.end_headers()
        self.wfile.write(self.reply)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    """A server on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_every_reply_is_an_answer_or_one_line(address: str, survives: Survives) -> None:
    problem = get_task("countdown").problems("test", 1, 0)[0]
    events = b"".join(
        b"data: %s\n\n"
        % json.dumps(REPLY | {"choices": [{"index": 0, "delta": {"content": part}, "finish_reason": end}]}).encode()
        for part, end in (("<answer>", None), ("3</answer>", None), ("", "stop"))
    )  # fmt: skip

    def replies(source: bytes) -> Iterator[bytes]:
        yield from RAW
        for number in range(20):
            chance = random.Random(number)
            if source is events and chance.random() < 0.5:
                lines = [line for line in source.split(b"\n\n") if line]
                at = chance.randrange(len(lines))
                lines[at] = b"data: " + json.dumps(swapped(json.loads(lines[at][6:]), number)).encode()
                yield b"\n\n".join(lines) + b"\n\n"
            elif source is not events and number % 2:
                yield json.dumps(swapped(REPLY, number)).encode()
            else:
                yield damaged(source, number)

    def cloud() -> OpenAICloud:  # a new one: after failures in a row, a server is left alone
        return OpenAICloud("m", address, "key", limits=CallLimits(seconds=20, retries=0))

    def whole(data: bytes) -> None:
        Handler.reply = data
        assert isinstance(cloud().answer(problem), str)

    def streamed(data: bytes) -> None:
        Handler.reply = data
        asked = cloud()
        assert all(isinstance(piece, str) for piece in asked.send(asked.request((Message("user", "3"),))))

    survives("text: replies of a cloud", replies(json.dumps(REPLY).encode()), whole)
    survives("text: streamed replies of a cloud", replies(events), streamed)


def test_a_reply_is_kept_whatever_its_characters_and_refused_for_counts_that_are_none(
    address: str, tmp_path: Path, survives: Survives
) -> None:
    problem = get_task("countdown").problems("test", 1, 0)[0]
    store = AnswerStore(tmp_path / "answers.sqlite")

    def attempt(reply: dict[str, Any]) -> None:
        Handler.reply = json.dumps(reply).replace('"1e400"', "1e400").encode()
        store.path.unlink(missing_ok=True)
        assert KeptCloud(OpenAICloud("m", address, "key"), store).answer(problem) == "3"

    def said(text: str) -> dict[str, Any]:
        return REPLY | {"choices": [REPLY["choices"][0] | {"message": {"role": "assistant", "content": text}}]}  # type: ignore[index]

    texts = [f"{bad} <answer>3</answer>" for bad in ("\ud800", "\udc00\ud800", "\0", "\U0001f600", "a" * 10_000)]
    assert survives("text: replies that are kept", map(said, texts), attempt).refused == 0
    counts: list[Any] = [2**70, -1, "1e400", "x", None, [], {}, 2**31]
    replies = [REPLY | {"usage": REPLY["usage"] | {"prompt_tokens": each}} for each in counts]  # type: ignore[operator]
    survives("text: tokens that a cloud counts", replies, attempt, all_refused=True)


def test_nothing_that_is_shown_commands_a_terminal(survives: Survives) -> None:
    from rich.table import Table
    from rich.text import Text

    def attempt(text: str) -> None:
        stream = io.StringIO()
        console = PlainConsole(file=stream, force_terminal=True, width=10_000)
        table = Table(title=text)
        table.add_column(text)
        table.add_row(text)
        console.print(text, Text(text), table)
        with console.status(Text(text[:50])):
            pass
        shown = stream.getvalue()
        shown = re.sub("\x1b\\[(\\?25[lh]|2K|1A|[013]m|1;3m|32m)|\r", "", shown)  # what rich itself writes
        assert harmless(shown) == shown
        shown.encode()

    survives("text: shown in a terminal", [*PROMPTS, EVIL, EVIL * 20], attempt)
    console = PlainConsole(file=io.StringIO(), width=200)
    console.print("[bold]x[/bold] [/y] :smile:")
    assert console.file.getvalue() == "[bold]x[/bold] [/y] :smile:\n"  # type: ignore[attr-defined]


def test_commands_show_names_and_paths_as_they_are(
    tiny_bundle_folder: Path, tmp_path: Path, survives: Survives, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Path(shutil.copytree(tiny_bundle_folder, tmp_path / "[/x]\x1b[2J\u202e"))
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["recipe"] |= {"name": EVIL.replace("\ud800", ""), "description": EVIL.replace("\ud800", "")}
    manifest["provenance"]["task"] = EVIL.replace("\ud800", "")
    (bundle / "manifest.json").write_text(json.dumps(manifest))

    def attempt(command: list[str]) -> None:
        assert run_command(command) in (0, 2)
        told = capsys.readouterr()
        assert "unforeseen" not in told.err
        assert not set(told.out + told.err) & set("\x1b\x07\r\x08\x9b\u202e\u2028\x7f")

    here = str(bundle)
    commands = [
        ["inspect", here], ["inspect", here, "--json"], ["bench", here, "--device", "list"],
        ["bench", here, "--device", "pixel-9"],
        ["run", here, "3 5 7 -> 22" + EVIL, "--cloud", "none"], ["eval", here, "--n", "1", "--task", "countdown"],
        ["eval", here, "--n", "1"], ["verify", here + EVIL], ["train", EVIL], ["export", here, "--target", EVIL],
        ["demo", "android", here, "--app", here],
        ["calibrate", here, "--call-fraction", "0.3", "--task", "countdown", "--n", "20"],
        ["finetune", here, "--target", "onnx", "--out", here + "x"], ["experiment", EVIL],
    ]  # fmt: skip
    survives("text: shown by commands", commands, attempt)


def test_no_error_repeats_a_long_value_whole(
    tiny_bundle_folder: Path, tmp_path: Path, survives: Survives, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Path(shutil.copytree(tiny_bundle_folder, tmp_path / "bundle"))
    named = Path(shutil.copytree(tiny_bundle_folder, tmp_path / "named"))
    here, own, manifest = str(bundle), str(named), json.loads((bundle / "manifest.json").read_text())
    name = "a" * 3000 + "b" * 7000
    (named / "manifest.json").write_text(json.dumps(manifest | {"artifact": name}))

    def attempt(command: list[str]) -> None:
        assert run_command(command) == 2
        told = capsys.readouterr().err.splitlines()[-1]
        assert told.startswith("error: ")
        assert len(told) < LONGEST_LINE
        if " " not in command[1 if len(command) > 1 else 0]:
            assert max(map(len, told.split())) < 400  # so that what is wrong and what to do stay in sight

    commands = [
        command
        for long in (name, "\x07\x1b" * 5000, "ab " * 3000)
        for command in (
            [long], [f"--{long}"], ["inspect", long], ["train", long], ["train", "quick", "--set", f"task={long}"],
            ["train", "quick", "--set", f"{long}=1"], ["train", "quick", "--set", f"steps={long}"],
            ["bench", here, "--device", long],
        )
    ]  # fmt: skip
    commands += [
        ["eval", here, "--task", name, "--n", "1"], ["run", here, "1", "--cloud", name], ["inspect", own],
        ["run", here, "1", "--cloud", f"openai:m@http://{name}/v1"], ["verify", here, "--reference", name],
        ["pack", here, "--out", name], ["export", here, "--target", name, "--out", "x"], ["experiment", name],
    ]  # fmt: skip
    survives("text: long values in errors", commands, attempt)


def test_a_terminal_that_lacks_the_characters_is_no_failure(tiny_bundle_folder: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(tiny_bundle_folder, tmp_path / "\u4e2d\udc80"))
    command = [sys.executable, "-m", "edgekit", "inspect", str(bundle)]
    environment = {"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path)}
    ended = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert b"\\u4e2d" in ended.stdout
