"""What training starts from: hub models from a real HTTP server, chat formats, and a model's own attempts."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edgekit.errors import EdgekitError
from edgekit.policy.checkpoint import load_policy
from edgekit.policy.hub import is_hub_name
from edgekit.policy.tokens import ANSWER_OPEN, MARKER
from edgekit.rollout.sampler import sample_groups
from edgekit.tasks import get_task
from edgekit.train.config import load_config
from edgekit.train.reward import emitted_call
from edgekit.warm_start import bases
from edgekit.warm_start.attempts import AttemptsSettings, teach_attempts
from edgekit.warm_start.kinds import KINDS

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BASE = bases.builtin_base()

# --- the hub ----------------------------------------------------------------------------------------


class Hub(ThreadingHTTPServer):
    """What the hub is asked: which commit a revision is, what files it holds (since huggingface_hub 2), and those."""

    files: dict[str, bytes]
    seen: list[str]


class HubHandler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.seen.append(path)
        name = path.removeprefix(f"/me/tiny/resolve/{COMMIT}/")
        if path in ("/api/models/me/tiny/revision/main", "/api/models/me/tiny/revision/v1"):
            siblings = [{"rfilename": file} for file in self.server.files]
            self.reply(200, json.dumps({"id": "me/tiny", "sha": COMMIT, "siblings": siblings}).encode())
        elif path == f"/api/models/me/tiny/tree/{COMMIT}":
            tree = [{"type": "file", "path": f, "size": len(d), "oid": "0" * 40} for f, d in self.server.files.items()]
            self.reply(200, json.dumps(tree).encode())
        elif name in self.server.files:
            self.reply(200, self.server.files[name])
        else:
            code = {"/api/models/me/gated/revision/main": (403, "GatedRepo")}.get(path, (404, "RepoNotFound"))
            code = (404, "RevisionNotFound") if path == "/api/models/me/tiny/revision/v9" else code
            self.reply(code[0], b"{}", code[1])

    def reply(self, status: int, data: bytes, error: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub(("127.0.0.1", 0), HubHandler)
    hub.files = {path.name: path.read_bytes() for path in BASE.iterdir()} | {
        "pytorch_model.bin": b"x",
        "README.md": b"x",
    }
    hub.seen = []
    thread = threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield hub
    hub.shutdown()
    hub.server_close()


def fetch(name: str, endpoint: str, home: Path) -> subprocess.CompletedProcess[str]:
    """``hub_folder`` in a process of its own: huggingface_hub reads its environment once."""
    code = f"from edgekit.policy.hub import hub_folder; print(hub_folder({name!r}))"
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    for variable in ("HF_HUB_OFFLINE", "HF_TOKEN", "TRANSFORMERS_OFFLINE"):
        environment.pop(variable, None)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)


def test_a_hub_model_is_downloaded_once_and_found_again_without_the_hub(hub: Hub, tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    result = fetch("me/tiny@v1", endpoint, tmp_path)
    assert result.returncode == 0, result.stderr
    folder = Path(result.stdout.strip())
    assert folder.name == COMMIT
    assert load_policy(folder).routing == load_policy(BASE).routing
    assert not {"pytorch_model.bin", "README.md"} & {path.name for path in folder.iterdir()}
    gone = fetch("me/tiny@v1", "http://127.0.0.1:9", tmp_path)
    assert gone.stdout.strip() == str(folder)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("me/nothing", "Neither a folder here nor a model of the hub that you may see"),
        ("me/gated", "Accept its licence on the hub and set HF_TOKEN"),
        ("me/tiny@v9", "It has no revision v9"),
        ("me/offline", "the hub cannot be reached"),
    ],
)
def test_a_model_the_hub_does_not_give_is_one_line(hub: Hub, name: str, why: str, tmp_path: Path) -> None:
    endpoint = "http://127.0.0.1:9" if name == "me/offline" else f"http://127.0.0.1:{hub.server_port}"
    result = fetch(name, endpoint, tmp_path)
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"edgekit.errors.EdgekitError: cannot fetch {name}. ")
    assert why in last


def test_a_hub_name_is_kept_and_a_folder_of_that_name_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config("quick", ["base=me/tiny@v1"]).base == "me/tiny@v1"
    (tmp_path / "me").mkdir()
    shutil.copytree(BASE, tmp_path / "me" / "tiny")
    assert load_config("quick", ["base=me/tiny"]).base == str(tmp_path / "me" / "tiny")
    assert not any(map(is_hub_name, ("builtin", "/models/mine", "./mine", "a/b/c", "me/tiny@", "me/tiny")))


def test_a_policy_on_the_hub_is_taken_as_it_is_and_a_model_is_warm_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloaded = tmp_path / COMMIT
    shutil.copytree(BASE, downloaded)
    monkeypatch.setattr(bases, "hub_folder", lambda _: downloaded)
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    given = ["base=me/tiny", "instruction=''", "max_new_tokens=24"]
    few = "warm_start_settings={attempts: 16, at_once: 8}"
    config = load_config("quick", [*given, "warm_start=attempts", few])
    assert bases.run_base(config) == downloaded
    (downloaded / "routing.json").unlink()
    (downloaded / "chat_template.jinja").write_text("Use {{ messages[-1].content }}\n\n")
    made = bases.run_base(config)
    assert made.name.startswith("tiny-countdown-")
    routing = load_policy(made).routing
    assert (routing.max_new_tokens, routing.prompt_template) == (24, "Use {prompt}\n")
    short = "warm_start_settings={batch_size: 2, answer_steps: 2, attempts: 4, marker_steps: 1}"
    other = load_config("quick", [*given, f"instruction=Or {MARKER}", short])
    assert bases.run_base(other) != made
    assert load_policy(bases.run_base(other)).routing.prompt_template == f"Use Or {MARKER}\n\n{{prompt}}\n"


def test_the_instruction_names_the_format_and_the_marker() -> None:
    for kind in KINDS.values():
        assert MARKER in kind.instruction
        assert ANSWER_OPEN in kind.instruction
    assert "<think>" in KINDS["attempts"].instruction


# --- own attempts -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_own_attempts_teach_more_asking_and_keep_what_is_answered_as_right_as_before() -> None:
    task, policy = get_task("countdown"), load_policy(BASE)
    problems = task.problems("train", 192, 3)
    prompts = [policy.encode(problem.prompt) for problem in problems]

    def measure() -> tuple[float, float]:
        groups = sample_groups(policy, prompts, 2, temperature=1.0, seed=1)
        drawn = [(p, r) for p, g in zip(problems, groups, strict=True) for r in g.responses]
        calls = sum(emitted_call(response) for _, response in drawn)
        right = sum(task.grade(problem, response.answer) for problem, response in drawn)
        return calls / len(drawn), right / max(1, len(drawn) - calls)

    calls_before, right_before = measure()
    settings = AttemptsSettings(attempts=128, batch_size=16, learning_rate=1e-3, rounds=4)
    notes: list[str] = []
    teach_attempts(policy, task, settings, seed=0, on_progress=lambda *call: notes.append(call[2]))
    calls_after, right_after = measure()
    assert calls_after > calls_before + 0.08
    assert right_after > right_before - 0.08
    assert notes[0] == "own attempts: 0 of 0 right"
    assert "loss" in notes[-1]


def test_a_model_that_solves_nothing_has_nothing_to_keep(tiny_policy_folder: Path) -> None:
    with pytest.raises(EdgekitError, match=r"none of 8 own attempts at countdown is right\. .*warm_start=answers"):
        teach_attempts(load_policy(tiny_policy_folder), get_task("countdown"), AttemptsSettings(attempts=8))
