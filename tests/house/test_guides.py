"""The guides of CONTRIBUTING and of docs/models.md, performed on a copy of the package as they are written: files, a
line in a table, commands.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from family_cases import SIZES

import edgekit
from edgekit.policy.tokens import build_tokenizer

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
GUIDES = Path(__file__).parent / "guides"
SMALL = ("steps=1", "prompts_per_step=4", "group_size=2", "eval_n=0", "train_pool=20", "checkpoint_every=1")
"""Settings of a training that is over in a moment."""
RUN = """
import json, sys
from edgekit.cli.app import run_command
for arguments in json.loads(sys.argv[1]):
    code = run_command(arguments)
    if code:
        sys.exit(f"{arguments} ended with {code}")
"""

ADOPT = """
import sys
from pathlib import Path
from edgekit.policy.adopt import adopt
from edgekit.policy.checkpoint import save_policy
folder = Path(sys.argv[2])
folder.mkdir()
save_policy(adopt(Path(sys.argv[1]), max_new_tokens=8), folder)
"""
COMPARE = """
import sys, torch
from pathlib import Path
from transformers import AutoModelForCausalLM
from edgekit.policy.checkpoint import load_model
theirs, ours = AutoModelForCausalLM.from_pretrained(sys.argv[1]).eval(), load_model(Path(sys.argv[1]))
with torch.inference_mode():
    for length in (5, 200):
        tokens = torch.randint(0, ours.config.vocab_size, (2, length))
        print(float((ours(tokens) - theirs(tokens).logits).abs().max() / ours(tokens).abs().max()))
"""


class Clone:
    """A copy of the package and its recipes, to be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(Path(edgekit.__file__).parent, folder / "edgekit", ignore=skip)
        shutil.copytree(ROOT / "export_recipes", folder / "export_recipes")

    def add(self, guide: str) -> None:
        """Put the files of ``guide``'s example where they belong."""
        shutil.copytree(GUIDES / guide, self.folder, dirs_exist_ok=True)

    def add_line(self, file: str, table: str, line: str, imported: str = "") -> None:
        """Add ``line`` to the ``table`` in ``file``, and what it needs ``imported``."""
        path = self.folder / file
        text, opening = path.read_text(), re.compile(rf"^{table}\b.*{{$", re.MULTILINE)
        assert len(opening.findall(text)) == 1
        text = opening.sub(lambda found: f"{found[0]}\n    {line}", text)
        first = "from __future__ import annotations\n"
        path.write_text(text.replace(first, f"{first}{imported}\n") if imported else text)

    def run(self, *commands: list[str]) -> list[dict[str, Any]]:
        """Run ``edgekit`` commands with the changed package; returns what those with --json print."""
        return [json.loads(line) for line in self.perform(RUN, json.dumps(commands)).splitlines() if line[:1] == "{"]

    def perform(self, program: str, *arguments: str) -> str:
        """What ``program`` prints, run with the changed package."""
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "ignore", "-c", program, *arguments]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path / "clone")


def guide(title: str) -> str:
    """The section of CONTRIBUTING.md."""
    sections = re.split(r"^## (.*)$", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)
    return sections[sections.index(title) + 1]


@pytest.mark.parametrize(("title", "example", "name"), [
    ("Add a target", "target", "arrays"),
    ("Add a method to the experiment", "router", "prompt_length"),
])  # fmt: skip
def test_a_guide_names_the_files_of_its_example_and_nothing_else(title: str, example: str, name: str) -> None:
    paths = re.findall(r"`((?:edgekit|export_recipes)/[\w/]*NAME\w*\.\w+)`", guide(title))
    folder = GUIDES / example
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix in (".py", ".yaml")}
    assert {path.replace("NAME", name) for path in paths} == files


def test_a_target_added_as_written_exports_verifies_answers_and_is_estimated(clone: Clone, tmp_path: Path) -> None:
    clone.add("target")
    table, imported = "edgekit/recipes/targets/__init__.py", "from edgekit.recipes.targets import arrays"
    clone.add_line(table, "TARGETS", '"arrays": arrays.TARGET,', imported)
    policy, bundle = str(clone.folder / "edgekit/policy/base"), str(tmp_path / "bundle")
    task = ["--task", "countdown"]
    doctor, export, verify, _, estimate, found = clone.run(
        ["doctor", "--json"],
        ["export", policy, "--target", "arrays", "--out", bundle, "--cases", "6", *task, "--json"],
        ["verify", bundle, "--reference", policy, "--n", "20", "--min-agreement", "0.5", "--json"],
        ["run", bundle, "3 5 -> 8", "--json"],
        ["bench", bundle, "--device", "pixel-9", "--json"],
        ["inspect", bundle, "--json"],
    )
    assert [row["export"] and row["run"] for row in doctor["targets"] if row["target"] == "arrays"] == [True]
    assert (export["recipe"], export["fallbacks"]) == ("arrays_int4_decisions", [])
    assert (verify["outcome"], verify["runtime"].split()[0]) == ("MATCH", "numpy")
    assert verify["max_abs_logit_diff"] < 1e-3
    assert estimate["decode_tokens_per_s"] > 0
    assert found["manifest"]["runtime"] == {**found["manifest"]["runtime"], "name": "numpy", "oldest": "1.26"}


def test_a_task_added_as_written_trains_and_is_evaluated(clone: Clone, tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/tasks.md").read_text(), re.DOTALL)
    (clone.folder / "edgekit/tasks/sums.py").write_text(program)
    clone.add_line("edgekit/tasks/__init__.py", "TASKS", '"sums": "sums.TASK",')
    run, more = str(tmp_path / "run"), ("group_size=8", "prompts_per_step=16")  # enough that some earn more than others
    *_, evaluated = clone.run(
        ["train", "quick", "--set=task=sums", *(f"--set={each}" for each in (*SMALL, *more)), "--out", run],
        ["eval", run, "--n", "10", "--json"],
    )
    assert evaluated["n"] == 10
    assert evaluated["cloud_accuracy"] in (None, 1.0)


def test_a_router_added_as_written_is_fitted_judged_and_reported(clone: Clone, tmp_path: Path) -> None:
    clone.add("router")
    imported = "from edgekit.experiment.routers.prompt_length import PROMPT_LENGTH"
    table = "edgekit/experiment/routers/__init__.py"
    clone.add_line(table, "ROUTERS", '"prompt_length": PROMPT_LENGTH,', imported)
    exam = ("methods=[task_only, prompt_length]", "call_fractions=[0.2]", "n_validation=40", "n_test=20")
    tiny = [f"--set={each}" for each in (*exam, "n_router_train=10", *(f"overrides.{each}" for each in SMALL))]
    out = tmp_path / "experiment"
    *_, printed = clone.run(["experiment", "quick", "--out", str(out), "--json", *tiny])
    judged = {row["method"]: row for row in printed["results"]}
    assert set(judged) == {"task_only", "prompt_length"}
    assert "prompt length" in (out / "report" / "index.html").read_text()


def test_a_recipe_added_as_written_exports_and_its_worth_is_verified(clone: Clone, tmp_path: Path) -> None:
    policy, bundle = str(clone.folder / "edgekit/policy/base"), str(tmp_path / "bundle")
    recipe = str(GUIDES / "recipe" / "onnx_int4_down8.yaml")
    export, verify = clone.run(
        ["export", policy, "--target", "onnx", "--recipe", recipe, "--out", bundle, "--task", "countdown",
         "--cases", "6", "--no-calibrate", "--json"],
        ["verify", bundle, "--reference", policy, "--n", "20", "--min-agreement", "0.5", "--json"],
    )  # fmt: skip
    assert export["recipe"] == "onnx_int4_down8"
    assert verify["quantization"]["decision_agreement"] > 0.5


def test_a_family_added_as_written_computes_what_transformers_does_and_is_exported(
    clone: Clone, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/models.md").read_text(), re.DOTALL)
    assert len(program.splitlines()) < 80
    (clone.folder / "edgekit/policy/families/seed_oss.py").write_text(program)
    table = clone.folder / "edgekit/policy/families/__init__.py"
    table.write_text(table.read_text().replace("FAMILIES = (", 'FAMILIES = ("seed_oss", '))
    model, policy, bundle = tmp_path / "model", str(tmp_path / "policy"), str(tmp_path / "bundle")
    sizes = {**SIZES, "vocab_size": 1000, "head_dim": 16, "attention_out_bias": True}
    theirs = transformers.SeedOssForCausalLM(transformers.SeedOssConfig(**sizes))
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    theirs.save_pretrained(model)
    build_tokenizer().save(str(model / "tokenizer.json"))
    assert all(float(share) < 1e-4 for share in clone.perform(COMPARE, str(model)).split())
    clone.perform(ADOPT, str(model), policy)
    export, verify = clone.run(
        ["export", policy, "--target", "onnx", "--recipe", "onnx_fp32", "--out", bundle, "--task", "countdown",
         "--cases", "4", "--no-calibrate", "--json"],
        ["verify", bundle, "--reference", policy, "--n", "8", "--json"],
    )  # fmt: skip
    assert export["recipe"] == "onnx_fp32"
    assert verify["outcome"] == "MATCH"
