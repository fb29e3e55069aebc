"""Draws the Android app's screens on this host; render-on-host.sh, which compiles them first, says how.

Usage: render.py BUNDLE OUT JAVA... records the artifact's logits for every conformance prompt in its host simulator,
serves the task's exact solver as an OpenAI-compatible cloud on this machine, lets JAVA... use the app over both, and
leaves OUT/screens.html. The logits are those of the path without the marker: a call only ends that path earlier.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from edgekit.bundle.load import Bundle, open_bundle
from edgekit.cloud.oracle import OracleCloud
from edgekit.errors import EdgekitError
from edgekit.routing.decode_loop import DecodeSession, decode
from edgekit.simulate import open_simulator
from edgekit.tasks import Task, get_task

SCREENS = {
    "device": "Answered on the device",
    "consent": "The policy calls: may this prompt leave?",
    "cloud": "Answered by the cloud",
    "self-test": "The self-test, as far as the screen reaches",
}
FOOTER = (
    "No phone's picture: the app's own screens and core, laid out by a stand-in for Compose and drawn by a browser. "
    "Recorded logits in the runtime's place; ms are this host's, without a runtime."
)


def record(bundle: Bundle, out: Path) -> None:
    """Write logits.f32, float32 rows of vocab_size, and logits.json, which says which are whose."""
    facts = bundle.manifest.model
    model = open_simulator(bundle.manifest.target, bundle.artifact, facts.context_length, facts.prefill_chunk)
    rows: list[np.ndarray] = []
    cases = []
    for case in bundle.conformance():
        ids, first = list(case.prompt_token_ids), len(rows)
        session = DecodeSession(bundle.routing, bundle.vocabulary, len(ids), facts.context_length, -np.inf, logits=rows)
        decision = decode(model, ids, session)
        cases.append({"prompt_token_ids": ids, "token_ids": list(decision.token_ids), "first_row": first})
    name, version = model.runtime.split()[:2]
    about = {"vocab_size": facts.vocab_size, "runtime": f"recorded {name}", "runtime_version": version}
    (out / "logits.json").write_text(json.dumps({**about, "cases": cases}))
    (out / "logits.f32").write_bytes(np.stack(rows).astype("<f4").tobytes())


def serve(task: Task, folder: Path) -> ThreadingHTTPServer:
    """A server on a free port of this machine: a chat by the task's exact solver, and the files of the bundle."""
    oracle = OracleCloud(task)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            problem = task.parse(request["messages"][-1]["content"])
            text = f"<answer>{oracle.answer(problem)}</answer>" if problem else "I do not know"
            body = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            file = folder / self.path.removeprefix("/downloaded/")
            begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
            body = file.read_bytes()[begin:]
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: what was asked shows on the screens."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def first_prompt(bundle: Bundle, reason: str) -> str:
    """The first prompt that is decided for ``reason``. Raises EdgekitError if there is none."""
    cases = bundle.conformance()
    for case in cases:
        if bundle.expected(case).reason == reason:
            return case.prompt
    raise EdgekitError(f"no case with reason {reason}: the bundle's {len(cases)} conformance cases. Export more cases.")


def render(folder: Path, out: Path, java: Sequence[str]) -> None:
    """Use the app and put what it showed on one page."""
    bundle = open_bundle(folder)
    prompts = [first_prompt(bundle, "answer"), first_prompt(bundle, "marker")]
    out.mkdir(parents=True, exist_ok=True)
    record(bundle, out)
    server = serve(get_task(bundle.manifest.provenance["task"]), folder)
    url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        subprocess.run([*java, str(folder), str(out), url, *prompts], check=True)
    finally:
        server.shutdown()
    figures = [
        f"<figure><figcaption>{caption}</figcaption>{(out / f'{name}.html').read_text()}</figure>"
        for name, caption in SCREENS.items()
    ]
    head = Path(__file__).with_name("page.html").read_text()
    (out / "screens.html").write_text(f"{head}{''.join(figures)}</main>\n<footer>{FOOTER}</footer>\n")


if __name__ == "__main__":
    try:
        render(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
    except EdgekitError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except subprocess.CalledProcessError as error:
        sys.exit(str(error))
