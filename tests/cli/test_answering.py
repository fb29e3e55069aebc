"""``edgekit run`` and ``edgekit chat``: streamed, one load for many prompts, no task needed, the run's own cloud."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgekit.cli.app import run_command
from edgekit.cli.streaming import Screen, printable
from edgekit.cloud.answers import AnswerStore, KeptCloud, answers_file
from edgekit.cloud.openai_client import OpenAICloud
from edgekit.hybrid.events import HybridAnswer
from edgekit.routing.turns import TurnFormat
from edgekit.tasks import get_task, name_task
from edgekit.workflows import source as opening
from edgekit.workflows.answer import Answering

SAID = "Thinking <answer>1</answer>, no: <answer> 3 * 7 </answer> done"
PLAIN_TURNS = TurnFormat(begin="", to_assistant="\n", to_user="\n", reply="\n")


@pytest.fixture
def run_folder(tiny_policy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    shutil.copytree(tiny_policy_folder, tmp_path / "run" / "policy")
    return tmp_path / "run"


def typed(monkeypatch: pytest.MonkeyPatch, text: str | bytes) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def trained_with(run: Path, **settings: str) -> None:
    (run / "config.yaml").write_text(yaml.safe_dump({"task": "countdown", "cloud": "oracle", **settings}))


def test_many_prompts_are_answered_with_one_load(
    run_folder: Path, tmp_path: Path, tiny_prompts: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    loads: list[Path] = []
    load = opening.load_policy
    monkeypatch.setattr(opening, "load_policy", lambda run: loads.append(run) or load(run))
    lines, rows = tmp_path / "prompts.txt", tmp_path / "prompts.jsonl"
    lines.write_text("\n".join([*tiny_prompts[:3], "", " "]))
    rows.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in tiny_prompts[:3]))
    told = []
    for source, stdin in ((str(lines), ""), (str(rows), ""), ("-", lines.read_text()), ("-", rows.read_text())):
        typed(monkeypatch, stdin)
        assert run_command(["run", str(run_folder), source, "--json"]) == 0
        answers = json.loads(capsys.readouterr().out)["answers"]
        assert [each["prompt"] for each in answers] == tiny_prompts[:3]
        told.append([(each["route"], each["answer"]) for each in answers])
    assert told == [told[0]] * 4
    assert len(loads) == 4
    assert run_command(["run", str(run_folder), str(lines)]) == 0
    assert capsys.readouterr().out.count("-> ") >= 3


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.jsonl", '{"prompt": "1 2 -> 3"}\n{"question": 7}\n', "line 2"),
        ("a.jsonl", "{", "line 1"),
        ("a.txt", "\n \n", "It is empty"),
        ("a.txt", b"\xff", "it is not UTF-8"),
    ],
)
def test_a_bad_list_of_prompts_is_one_line(
    run_folder: Path, tmp_path: Path, name: str, text: str | bytes, why: str, capsys: Any
) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert run_command(["run", str(run_folder), str(tmp_path / name)]) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize("command", [["run", "-"], ["chat"]])
@pytest.mark.parametrize(
    ("data", "why"), [(b"caf\xe9\n", "it is not UTF-8"), ("caf\u00e9\n".encode("utf-16"), "it is not UTF-8")]
)
def test_what_is_piped_in_and_is_no_text_is_one_line(
    run_folder: Path, command: list[str], data: bytes, why: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    typed(monkeypatch, data)
    verb, *prompt = command
    assert run_command([verb, str(run_folder), *prompt, "--cloud", "none"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("error: cannot read prompts: ")
    assert why in told


def test_a_line_without_end_is_not_read_whole(run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("edgekit.workflows.prompt_list.MOST_BYTES", 99)
    typed(monkeypatch, "a" * 1000)
    assert run_command(["chat", str(run_folder), "--cloud", "none"]) == 2
    assert "stdin, line 1. it has more than 99 bytes" in capsys.readouterr().err


def test_bytes_typed_that_are_no_text_are_asked_for_again(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    lines = iter([b"caf\xe9", b"1 2 -> 3", b""])

    def typing(_: str) -> str:
        line = next(lines).decode()
        if not line:
            raise EOFError
        return line

    typed(monkeypatch, "")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", typing)
    assert run_command(["chat", str(run_folder), "--cloud", "none"]) == 0
    told = capsys.readouterr()
    assert "That was not utf-8: type it again." in told.err
    assert told.out.count("-> ") == 1


@pytest.mark.parametrize(("command", "code"), [(["run", "-"], 2), (["chat"], 2), (["run", "1 2 -> 3"], 0)])
def test_a_closed_stdin_is_missed_only_where_it_is_read(
    run_folder: Path, command: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    verb, *prompt = command
    assert run_command([verb, str(run_folder), *prompt, "--cloud", "none"]) == code
    assert ("error: no input: stdin. It is closed." in capsys.readouterr().err) == (code == 2)


def test_words_are_written_as_they_come_and_the_hand_off_is_seen(
    run_folder: Path, server: Any, tiny_prompts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[str] = []
    for prompt in tiny_prompts:
        if server.seen:
            break
        writes.clear()
        monkeypatch.setattr(sys.stdout, "write", writes.append)
        assert run_command(["run", str(run_folder), prompt, "--cloud", f"openai:m@{server.url}"]) == 0
        monkeypatch.undo()
    text = "".join(writes)
    assert f"handed off to m at {server.url}]\nThinking" in text
    assert f"{SAID}\n-> 3 * 7 (wrong), by cloud: the policy called for the cloud" in text
    assert len(writes) > 8


def test_any_prompt_works_and_the_oracle_says_what_it_knows(run_folder: Path, capsys: Any) -> None:
    trained_with(run_folder, task="/nowhere/moved.jsonl#number")
    assert run_command(["run", str(run_folder), "What is the capital of France? " * 99, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["reason"], told["correct"]) == ("offline", None)
    assert "knows only prompts of countdown" in told["notice"]


def test_the_run_s_own_cloud_is_asked_once_this_user_has_asked_it_before(
    run_folder: Path, server: Any, capsys: Any
) -> None:
    trained_with(run_folder, cloud=f"openai:m@{server.url}")
    asking = ["run", str(run_folder), "9 " * 200, "--json"]
    assert run_command(asking) == 2
    assert f"--cloud openai:m@{server.url}" in capsys.readouterr().err
    assert not server.seen  # a stranger's run sends nothing anywhere
    cloud = KeptCloud(OpenAICloud("m", server.url, "k"), AnswerStore(answers_file()))
    cloud.answer(get_task("countdown").problems("train", 1, 0)[0])
    assert run_command(asking) == 0
    assert json.loads(capsys.readouterr().out)["text"] == SAID
    trained_with(run_folder, cloud="oracle:0.5")
    assert run_command(asking) == 0
    assert "oracle:0.5 cannot answer" in json.loads(capsys.readouterr().out)["notice"]


def test_a_chat_remembers_where_the_policy_reads_turns(
    run_folder: Path, server: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    said = "9 " * 200 + "\n\n" + "8 " * 200 + "\n/new\n" + "7 " * 200 + "\n"
    typed(monkeypatch, said)
    assert run_command(["chat", str(run_folder), "--cloud", f"openai:m@{server.url}"]) == 0
    assert [len(body["messages"]) for body in server.seen] == [2, 2, 2]
    assert "asked each question by itself" in capsys.readouterr().err
    server.seen.clear()
    PLAIN_TURNS.save(run_folder / "policy")
    typed(monkeypatch, said)
    assert run_command(["chat", str(run_folder), "--cloud", f"openai:m@{server.url}"]) == 0
    told = capsys.readouterr()
    assert "by itself" not in told.err
    assert told.out.count(SAID) == 3
    assert [len(body["messages"]) for body in server.seen] == [2, 4, 2]
    assert server.seen[1]["messages"][2] == {"role": "assistant", "content": SAID}


def test_without_a_cloud_no_socket_is_opened(run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    for name in ("connect", "connect_ex", "sendto", "bind"):
        monkeypatch.setattr(f"socket.socket.{name}", lambda *_: pytest.fail("a socket was used"))
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("a name was looked up"))
    for prompt in ("9 " * 200, "3 5 7 -> 22"):
        assert run_command(["run", str(run_folder), prompt, "--cloud", "none", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["route"] == "local"


def test_neither_model_steers_the_terminal() -> None:
    assert printable("\x1b[31mred\x07\r\n\tok é") == "\ufffd[31mred\ufffd\ufffd\n\tok é"


@pytest.mark.parametrize(("answer", "shown"), [(None, "no answer"), ("3 +\n5", "3 + 5"), ("8", "8")])
def test_the_last_line_of_an_answer_is_one_line_and_says_where_there_is_none(
    answer: str | None, shown: str, capsys: Any
) -> None:
    Screen().finish(HybridAnswer("local", "answer", answer or "", answer, 1.0, 3, 2, 5.0))
    told = capsys.readouterr().out
    assert told.startswith(f"-> {shown}, by local: the policy answered itself")
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("row", "said", "answer", "right"),
    [
        ({"answer": "8", "rule": "number"}, "That makes 8.", "8", True),
        ({"answer": "8", "rule": "number"}, "That makes 9, I think.", "9", False),
        ({"answer": "B", "rule": "choice"}, "It is (B), not A, so: B.", "B", True),
        ({"answer": "8"}, "No: <answer> 8 </answer> it is", "8", True),
    ],
)
def test_a_cloud_s_prose_is_read_and_graded_by_the_rule_of_the_problem(
    tmp_path: Path, row: dict[str, str], said: str, answer: str, right: bool
) -> None:
    class Session:
        def ask(self, prompt: str, on_event: Any = None) -> HybridAnswer:
            return HybridAnswer("cloud", "marker", said, said, 1.0, 3, 1, 5.0, cloud_ms=9.0)

    (tmp_path / "own.jsonl").write_text(json.dumps({"prompt": "3 and 5", **row}) + "\n")
    answering: Any = Answering(Session(), get_task(name_task(str(tmp_path / "own.jsonl"))))  # type: ignore[arg-type]
    assert (answering.ask("3 and 5").answer, answering.ask("3 and 5").correct) == (answer, right)
    assert answering.ask("4 and 5").correct is None
