"""Draws the app's screens on a Linux host: its own sources and core, run over stand-ins for Apple's modules.

Usage: draw.py BUNDLE OUT [--picture FILE.png]. BUNDLE is a Core ML bundle of a task with a solver. What is decided is
decided by the app's core from logits that edgekit's simulator gives here; the cloud is a server on this host that
answers with the task's exact solver. OUT gets each screen as an HTML fragment, and the page they make.
"""

from __future__ import annotations

import argparse
import html
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np

from edgekit.bundle.conformance import AnyCase
from edgekit.bundle.load import Bundle, open_bundle
from edgekit.bundle.manifest import MANIFEST, describe_file
from edgekit.errors import BundleError, EdgekitError
from edgekit.routing.decode_loop import DecodeSession, decode
from edgekit.simulate import open_simulator
from edgekit.tasks import get_task
from edgekit.tasks.base import Task

HERE = Path(__file__).parent
CANNOT_RUN = 77
SCREENS = {
    "kept": "A prompt answered on the phone",
    "consent": "The policy calls for help: may it leave?",
    "handed_off": "Sent: answered by the cloud",
    "self_test": "The self-test",
}
NOTE = (
    "No phone's picture: the app's own screens, model and core, laid out by a stand-in for SwiftUI and drawn by "
    "Chromium on Linux. Fonts and controls differ on a phone. The logits were recorded in edgekit's simulator and are "
    "played back; the milliseconds are this host's. The cloud is a server here that answers by the task's solver."
)


class CannotRenderError(EdgekitError):
    """This host lacks what rendering needs."""


def record(bundle: Bundle, cases: Sequence[AnyCase], folder: Path) -> None:
    """Write what the simulator gives for each case's prompt with the marker forbidden: a call only ends it earlier."""
    facts = bundle.manifest.model
    model = open_simulator(bundle.manifest.target, bundle.artifact, facts.context_length, facts.prefill_chunk)
    rows: list[np.ndarray] = []
    written = []
    for case in cases:
        ids = case.prompt_token_ids
        first = len(rows)
        session = DecodeSession(bundle.routing, bundle.vocabulary, len(ids), facts.context_length, -np.inf, logits=rows)
        decision = decode(model, ids, session)
        written.append({"prompt_token_ids": ids, "token_ids": decision.token_ids, "first_row": first})
    head = {
        "manifest_sha256": describe_file(bundle.path / MANIFEST).sha256,
        "vocab_size": facts.vocab_size,
        "cases": written,
    }
    (folder / "recording.json").write_text(json.dumps(head))
    (folder / "recording.f32").write_bytes(np.stack(rows).astype("<f4").tobytes())


@contextmanager
def solver_server(task: Task) -> Iterator[tuple[str, list[str]]]:
    """An OpenAI-compatible server on this host that answers by ``task.solve``: its address, and the prompts it got."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body["messages"][-1]["content"])
            problem = task.parse(asked[-1])
            text = f"<answer>{task.solve(problem)}</answer>" if problem else "I do not know"
            reply = json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
        server.shutdown()


def steps(kept: str, called: str, address: str) -> list[tuple[str, ...]]:
    """What a user does, in the words of the stand-in's host; each waits for the screen, never for a number."""
    return [
        ("await", "button", "Ask"),
        ("enter", "Prompt", kept),
        ("press", "Ask"),
        ("await", "text", "this phone"),
        ("await", "button", "Ask"),
        ("draw", "kept.html"),
        ("tab", "Settings"),
        ("enter", "Model", "solver"),
        ("enter", "https://host/v1", address),
        ("press", "Apply"),
        ("await", "text", "Settings taken over."),
        ("tab", "Ask"),
        ("enter", "Prompt", called),
        ("press", "Ask"),
        ("await", "button", "Send"),
        ("draw", "consent.html"),
        ("press", "Send"),
        ("await", "text", "the cloud"),
        ("await", "button", "Ask"),
        ("draw", "handed_off.html"),
        ("tab", "Settings"),
        ("press", "Never send"),  # holds from now on, Apply or not
        ("tab", "Ask"),
        ("press", "Ask"),
        ("await", "text", "you kept the prompt here"),
        ("await", "button", "Ask"),
        ("draw", "never.html"),
        ("tab", "Self-test"),
        ("press", "Run"),
        ("await", "button", "Export the report"),
        ("await", "button", "Run"),
        ("draw", "self_test.html"),
    ]


def render(folder: Path, out: Path) -> list[str]:
    """Write every screen's HTML to ``out``; returns the prompts that reached the cloud.

    Raises :class:`CannotRenderError` without a Swift toolchain, EdgekitError if the app does not compile, a screen does
    not show what a step waits for, or the bundle has no case of both kinds.
    """
    bundle = open_bundle(folder)
    cases = bundle.conformance()
    reasons = {bundle.expected(case).reason: case.prompt for case in reversed(cases)}
    if bundle.manifest.target != "coreml" or not {"answer", "marker"} <= set(reasons):
        why = "It has to be for Core ML, with a kept and a called case"
        raise EdgekitError(f"no bundle to render: {folder}. {why}. Export the demo's policy for coreml.")
    with tempfile.TemporaryDirectory() as made, solver_server(get_task("countdown")) as (address, asked):
        recording = Path(made)
        record(bundle, cases, recording)
        script = recording / "steps"
        taken = steps(reasons["answer"], reasons["marker"], address)
        script.write_text("".join("\t".join(step) + "\n" for step in taken))
        command = [HERE.parent / "render-on-host.sh", folder, recording, script, out]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        fault = CannotRenderError if done.returncode == CANNOT_RUN else EdgekitError
        raise fault(said[-4000:])
    (out / "page.html").write_text(page(out))
    return asked


def page(out: Path) -> str:
    """The screens side by side, each under what it shows, and below them what they are not."""
    figures = "".join(
        f"<figure><figcaption>{html.escape(title)}</figcaption>{(out / f'{name}.html').read_text()}</figure>"
        for name, title in SCREENS.items()
    )
    style = (HERE / "page.css").read_text()
    head = f'<!doctype html><meta charset="utf-8"><style>{style}</style>'
    return f"{head}<main>{figures}</main><p>{html.escape(NOTE)}</p>\n"


def photograph(source: Path, picture: Path) -> None:
    """Chromium's picture of the page."""
    size = ["--force-device-scale-factor=1.5", "--window-size=1480,800", "--hide-scrollbars"]
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", *size, f"--screenshot={picture.resolve()}"]
    picture.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([*command, source.resolve().as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    try:
        render(given.bundle, given.out)
    except BundleError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    except EdgekitError as error:
        raise SystemExit(str(error)) from None
    if given.picture:
        photograph(given.out / "page.html", given.picture)
