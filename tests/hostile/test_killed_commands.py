"""Commands killed at their file-system events: what is there is whole, the next one works, nothing is left over."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile.counting import Count, Survives
from hostile.kill_at import run_until
from hostile.short_runs import SETTINGS, same, weights

from edgekit.bundle.app import ANDROID_BUILD, ANDROID_VERSIONS, IOS_PROJECT, place_bundle
from edgekit.bundle.load import open_bundle
from edgekit.folder_lock import PREFIX
from edgekit.policy.checkpoint import load_policy
from edgekit.recipes.lookup import find_recipe
from edgekit.routing.spec import load_routing
from edgekit.warm_start.bases import builtin_base

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads the names of open files from /proc"),
]
PROJECT = Path(__file__).parents[2]


class Killed:
    """Kills ``work`` in ``root`` at ``samples`` of its events, evenly among them, and has it done again each time.

    EDGEKIT_KILLS=9999 in the environment kills it at every event.
    """

    def __init__(self, survives: Survives, kind: str, root: Path, samples: int) -> None:
        self.survives, self.kind, self.root = survives, f"kill: {kind}", root
        self.samples = int(os.environ.get("EDGEKIT_KILLS", samples))

    def everywhere(self, start: Callable[[], None], work: Callable[[], None], whole: Callable[[], None]) -> None:
        """``start`` makes what was there before; ``whole`` checks what is there after a kill, and after the end."""
        self._begin(start)
        ended = run_until(lambda: work() or 0, self.root)
        assert ended.code == 0, self._output()
        events = len(ended.events)
        chosen = sorted({1 + round(at * (events - 1) / (self.samples + 1)) for at in range(1, self.samples + 1)})
        chosen = chosen if self.samples < events else [*range(1, events + 1)]
        for last in chosen:
            self._begin(start)
            assert run_until(lambda: work() or 0, self.root, last).killed
            whole()
            again = run_until(lambda: work() or 0, self.root)
            assert again.code == 0, f"after {ended.events[last - 1]}: {self._output()}"
            whole()
            left = [str(path) for path in self.root.rglob(f"{PREFIX}*")]
            assert left == [], f"after {ended.events[last - 1]}"
        self.survives.add(self.kind, Count(len(chosen)))
        print(f"{self.kind}: {len(chosen)} of {events} events")

    def _begin(self, start: Callable[[], None]) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)
        start()

    def _output(self) -> str:
        return (self.root.parent / "output.txt").read_text()[-2000:]


def test_training_goes_on_to_the_very_weights(tmp_path: Path, survives: Survives) -> None:
    from edgekit.workflows.train import train

    run, seen = tmp_path / "root" / "run", []

    def work() -> None:
        if (run / "config.yaml").is_file():
            train(out=run, resume=True)
        else:
            train("quick", run, settings=SETTINGS)

    def whole() -> None:
        if (run / "policy").exists():
            seen.append(weights(run / "policy"))
            assert same(seen[0], seen[-1])
            assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [1, 2]

    Killed(survives, "train", run.parent, 2).everywhere(lambda: None, work, whole)
    assert len(seen) >= 2
    assert not same(seen[0], weights(builtin_base()))


def test_an_export_leaves_the_old_bundle_or_the_new(
    tiny_policy_folder: Path, tiny_bundle_folder: Path, tmp_path: Path, survives: Survives
) -> None:
    from edgekit.workflows.export import export

    out, before = tmp_path / "root" / "bundle", len(open_bundle(tiny_bundle_folder).conformance())
    recipe = find_recipe("onnx_fp32", "onnx").model_copy(update={"context_length": 64})

    def work() -> None:
        export(tiny_policy_folder, "onnx", recipe=recipe, out=out, task="countdown", calibrate=False, cases=2)

    def whole() -> None:
        assert len(open_bundle(out).conformance()) in (2, before)

    Killed(survives, "export", out.parent, 3).everywhere(lambda: shutil.copytree(tiny_bundle_folder, out), work, whole)
    assert len(open_bundle(out).conformance()) == 2 != before


def test_fine_tuning_leaves_no_run_or_a_whole_one(tiny_policy_folder: Path, tmp_path: Path, survives: Survives) -> None:
    from edgekit.workflows.finetune import finetune

    out, seen = tmp_path / "root" / "run", []

    def work() -> None:
        finetune(tiny_policy_folder, "onnx", out, task="countdown", prompts=4, steps=2, rows=2)

    def whole() -> None:
        if out.exists():
            seen.append(weights(out / "policy"))
            assert same(seen[0], seen[-1])

    Killed(survives, "finetune", out.parent, 2).everywhere(lambda: None, work, whole)
    assert len(seen) >= 2


def test_an_experiment_goes_on_to_the_very_results(tmp_path: Path, survives: Survives) -> None:
    from edgekit.workflows.experiment import compare_methods

    out, seen = tmp_path / "root" / "experiment", []
    chosen = [
        "methods=[task_only, cloud_only]", "call_fractions=[0.5]", "n_validation=8", "n_test=4",
        "seeds=[0]", *(f"overrides.{each}" for each in SETTINGS),
    ]  # fmt: skip

    def work() -> None:
        if (out / "experiment.yaml").is_file():
            compare_methods(out=out, resume=True)
        else:
            compare_methods(out=out, settings=chosen)

    def whole() -> None:
        if (out / "report" / "index.html").exists():
            seen.append({path.name: path.read_bytes() for path in (out / "results").iterdir()})
            assert seen[0] == seen[-1]

    Killed(survives, "experiment", out.parent, 2).everywhere(lambda: None, work, whole)
    assert len(seen) >= 2


def test_calibrating_a_run_leaves_one_bias_or_the_other(tmp_path: Path, survives: Survives) -> None:
    from edgekit.workflows.calibrate import calibrate

    folder = tmp_path / "root" / "policy"
    before = load_routing(builtin_base() / "routing.json").marker_bias
    seen = set()

    def whole() -> None:
        seen.add(load_policy(folder).routing.marker_bias)

    def work() -> None:
        calibrate(folder, 0.3, task="countdown", n=20)

    Killed(survives, "calibrate", folder.parent, 8).everywhere(
        lambda: shutil.copytree(builtin_base(), folder), work, whole
    )
    assert len(seen | {before}) == 2


@pytest.mark.parametrize("platform", ["android", "ios"])
def test_a_placed_bundle_is_the_old_one_or_the_new_one(
    platform: str, tiny_bundle_folder: Path, tmp_path: Path, survives: Survives
) -> None:
    app = tmp_path / "root" / f"{platform}_demo"
    files = (ANDROID_VERSIONS, ANDROID_BUILD) if platform == "android" else (IOS_PROJECT,)
    placed = app / ("app/src/main/assets/bundle" if platform == "android" else f"App/Bundles/{tiny_bundle_folder.name}")

    def start() -> None:
        for file in files:
            (app / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / app.name / file, app / file)
        shutil.copytree(tiny_bundle_folder, placed)

    def work() -> None:
        place_bundle(platform, app, open_bundle(tiny_bundle_folder))  # type: ignore[arg-type]

    Killed(survives, f"demo {platform}", app.parent, 12).everywhere(start, work, lambda: open_bundle(placed) and None)
