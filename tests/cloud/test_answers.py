"""What clouds answered is kept: one payment a prompt, whoever asks, whatever dies."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from edgekit.cloud.answers import AnswerStore, KeptCloud
from edgekit.cloud.bill import bill_of
from edgekit.cloud.openai_client import CallLimits, OpenAICloud
from edgekit.cloud.request import CloudError, CloudRequest, Message, Price, Usage
from edgekit.errors import EdgekitError
from edgekit.tasks import get_task

PROBLEMS = get_task("countdown").problems("train", 5, 0)
REQUEST = CloudRequest("http://a", "m", (Message("user", "hello"),))
PROCESS = """
import sys, time
from pathlib import Path
from edgekit.cloud.answers import AnswerStore
from edgekit.cloud.request import CloudRequest, Message

def ask(request):
    with open(sys.argv[2], "a") as asked:
        asked.write("x")
    time.sleep(0.5)
    return "answer", None

request = CloudRequest("http://a", "m", (Message("user", "hello"),))
print(AnswerStore(Path(sys.argv[1])).once(request, ask))
"""


def kept(server: Any, file: Path, **limits: float) -> KeptCloud:
    given = CallLimits(**{"seconds": 20.0, "retries": 0, **limits})
    return KeptCloud(OpenAICloud("m", server.url, "sk-secret", limits=given), AnswerStore(file))


def test_each_prompt_is_paid_once_by_whoever_asks(server: Any, tmp_path: Path) -> None:
    file = tmp_path / "new" / "answers.sqlite"
    first = [kept(server, file).answer(problem) for problem in PROBLEMS]
    assert [kept(server, file).answer(problem) for problem in PROBLEMS] == first == ["3 * 7"] * 5
    assert len(server.seen) == 5
    assert file.stat().st_mode & 0o077 == 0
    assert AnswerStore(file).has_asked(server.url)
    assert not AnswerStore(file).has_asked("http://other")
    assert b"sk-secret" not in file.read_bytes()
    other = KeptCloud(OpenAICloud("other", server.url, "k", limits=CallLimits(retries=0)), AnswerStore(file))
    other.answer(PROBLEMS[0])
    assert len(server.seen) == 6  # another model is another answer


def test_what_failed_is_not_kept_and_asked_again(server: Any, tmp_path: Path) -> None:
    server.modes = ["status:500", "html", "good"]
    cloud = kept(server, tmp_path / "answers.sqlite")
    for _ in range(2):
        with pytest.raises(CloudError):
            cloud.answer(PROBLEMS[0])
    assert cloud.answer(PROBLEMS[0]) == "3 * 7"


def test_threads_that_want_the_same_wait_for_one_answer(tmp_path: Path) -> None:
    store, asked = AnswerStore(tmp_path / "answers.sqlite"), []
    together = threading.Barrier(8)

    def ask(request: CloudRequest) -> tuple[str, Usage | None]:
        asked.append(request)
        time.sleep(0.05)
        return "answer", Usage(1, 2)

    def want(_: int) -> str:
        together.wait()
        return store.once(REQUEST, ask)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(want, range(8))) == {"answer"}
    assert len(asked) == 1


@pytest.mark.slow
def test_processes_that_want_the_same_pay_once_and_a_kill_blocks_nobody(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", PROCESS, str(tmp_path / "answers.sqlite"), str(tmp_path / "asked")]
    killed = subprocess.Popen(arguments)
    while not (tmp_path / "asked").exists():
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    children = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [child.communicate(timeout=120)[0] for child in children] == ["answer\n"] * 3
    assert (tmp_path / "asked").read_text() == "xx"  # the killed one's, and one for the three


def test_a_file_that_cannot_be_used_is_one_line_before_anything_is_asked(tmp_path: Path) -> None:
    file = tmp_path / "answers.sqlite"
    file.write_bytes(b"no database" * 100)
    with pytest.raises(EdgekitError, match="answers file unusable"):
        AnswerStore(file).once(REQUEST, lambda _: pytest.fail("asked"))


def test_a_bill_counts_what_is_left_to_ask(server: Any, tmp_path: Path) -> None:
    cloud = kept(server, tmp_path / "answers.sqlite")
    assert bill_of(cloud, PROBLEMS).calls == 5
    cloud.answer(PROBLEMS[0])
    bill = bill_of(cloud, PROBLEMS, price=Price(2.0, 8.0))
    assert (bill.calls, bill.kept) == (4, 1)
    assert bill_of(cloud, PROBLEMS, most=2).calls == 2
    sent = [message.content for problem in PROBLEMS for message in cloud.request_of(problem).messages]
    assert bill.prompt_tokens == pytest.approx(0.8 * sum(map(len, sent)) / 4, abs=2)
    assert "at most 4 prompts, 1 more are answered already" in bill.sentence()
    assert "$8 for a million tokens" in bill.sentence()
