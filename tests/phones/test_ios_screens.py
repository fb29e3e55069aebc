"""The iOS app's own screens and model, compiled over stand-ins for Apple's modules, show what the core decided."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from edgekit.bundle.load import open_bundle
from edgekit.bundle.manifest import MANIFEST, describe_file
from edgekit.export.pipeline import export
from edgekit.recipes.lookup import find_recipe
from edgekit.routing.decoder import Decision
from edgekit.tasks import get_task

ROOT = Path(__file__).parents[2]
CASES = "conformance.jsonl"
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Told:
    """A case, and what a faithful phone decides of it."""

    id: str
    prompt: str
    decision: Decision


def draw() -> ModuleType:
    """The script, loaded by its path."""
    spec = importlib.util.spec_from_file_location("draw", ROOT / "ios_demo" / "Preview" / "draw.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["draw"] = module
    spec.loader.exec_module(module)
    return module


def bundle_with_a_wrong_case(folder: Path) -> tuple[list[Told], str]:
    """The shipped policy for Core ML, its cases, and the id of the one whose answer was then changed in the bundle."""
    prompts = [problem.prompt for problem in get_task("countdown").problems("test", 10, 0)]
    made = export(
        ROOT / "edgekit/policy/base", find_recipe("coreml_int4", "coreml"), folder, prompts=prompts, task="countdown"
    )
    opened = open_bundle(made)
    before = [Told(case.id, case.prompt, opened.expected(case)) for case in opened.conformance()]
    cases = [json.loads(line) for line in (made / CASES).read_text().splitlines()]
    wrong = cases[[told.decision.answer is not None for told in before].index(True, 1)]
    wrong["quantized_reference"]["answer"] = "0"
    (made / CASES).write_text("".join(json.dumps(case) + "\n" for case in cases))
    manifest = json.loads((made / MANIFEST).read_text())
    manifest["files"][CASES] = describe_file(made / CASES).model_dump(mode="json")
    (made / MANIFEST).write_text(json.dumps(manifest))
    return before, wrong["id"]


def texts(screen: Path, kind: str) -> list[str]:
    """The words of each element of ``kind``, with all inside it."""
    found = ElementTree.fromstring(screen.read_text()).iter("div")
    return [" | ".join(element.itertext()) for element in found if kind in (element.get("class") or "").split()]


def rows(screen: Path) -> Iterator[tuple[str, str]]:
    """Each labelled row as its label and value, the newest prompt's last."""
    yield from reversed(list(zip(texts(screen, "label"), texts(screen, "value"), strict=True)))


def told(case: Told) -> str:
    """How the self-test describes it."""
    decision = case.decision
    return f"{case.id} | {decision.route}, {decision.reason}, {decision.answer or 'no answer'}"


def test_the_screens_show_what_the_core_decided(tmp_path: Path) -> None:
    pytest.importorskip("coremltools", reason="coremltools is not installed")
    script = draw()
    folder, out = tmp_path / "coreml", tmp_path / "screens"
    cases, wrong = bundle_with_a_wrong_case(folder)
    try:
        asked = script.render(folder, out)
    except script.CannotRenderError as error:
        pytest.skip(str(error).splitlines()[-1])
    kept, called = (next(c for c in cases if c.decision.reason == why) for why in ("answer", "marker"))

    shown = dict(rows(out / "kept.html"))
    assert texts(out / "kept.html", "field") == [kept.prompt]
    assert texts(out / "kept.html", "monospaced") == [kept.decision.text]
    assert (shown["Side"], shown["Answer"]) == ("this phone", kept.decision.answer)
    assert shown["Marker's margin"] == f"{kept.decision.marker_margin:.2f}"

    (message,) = texts(out / "consent.html", "message")
    assert message.startswith(f"{called.prompt}\n\nIt goes to http://127.0.0.1:")
    assert texts(out / "consent.html", "monospaced") == [called.decision.text, kept.decision.text]
    assert "Always to this server" in texts(out / "consent.html", "button")
    assert asked == [called.prompt]
    shown = dict(rows(out / "handed_off.html"))
    assert (shown["Side"], shown["Why"]) == ("the cloud", "the policy asked for help")
    task = get_task("countdown")
    problem = task.parse(called.prompt)
    assert problem
    assert texts(out / "handed_off.html", "monospaced") == [shown["Answer"], kept.decision.text]
    assert shown["Answer"] == task.solve(problem)
    assert f'aria-label="Answer: {shown["Answer"]}"' in (out / "handed_off.html").read_text()
    assert shown["Calls left"] == "5 of 6 in 20 prompts"

    shown = dict(rows(out / "never.html"))
    assert (shown["Side"], shown["Why"]) == ("this phone", "you kept the prompt here")
    assert shown["Calls left"] == "5 of 6 in 20 prompts"

    found = dict(rows(out / "self_test.html"))
    assert found == {told(case): "MISMATCH" if case.id == wrong else "MATCH" for case in cases}
    assert texts(out / "self_test.html", "footer") == [f"{len(cases) - 1} MATCH, 1 MISMATCH"]
