"""Handing a bundle over: made from a task of one's own, it is whole on a machine that has neither task nor run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgekit.bundle.conformance import ConformanceCase
from edgekit.bundle.load import open_bundle
from edgekit.cli.app import run_command
from edgekit.errors import EdgekitError
from edgekit.routing.spec import load_routing
from edgekit.tasks import name_task
from edgekit.tasks.recorded import Grading, grading_of, recorded_task
from edgekit.warm_start.bases import builtin_base
from edgekit.workflows.export import export
from edgekit.workflows.origin import origin_of

OWN = """
from edgekit.tasks import Problem

class Sums:
    name = "sums"
    {rule}
    def problems(self, split, n, seed):
        first = {{"train": 0, "validation": 100, "test": 200}}[split]
        return [Problem(str(k), f"{{k % 9}} 7 -> {{k}}", "one", {{"k": k}}) for k in range(first, first + min(n, 40))]
    def grade(self, problem, answer):
        return answer == self.solve(problem)
    def solve(self, problem):
        return str(problem.data["k"])
    def parse(self, prompt):
        return None

TASK = Sums()
"""


def own_jsonl(folder: Path) -> Path:
    path = folder / "problems.jsonl"
    rows = [{"prompt": f"{a} {b} -> {a + b}", "answer": f"{a} + {b}"} for a in range(1, 20) for b in range(1, 15)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def handed_over(tiny_policy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a JSONL task, where that file and the run are no more."""
    maker = tmp_path_factory.mktemp("maker-of-it")
    shutil.copytree(tiny_policy_folder, maker / "run" / "policy")
    task = own_jsonl(maker)
    (maker / "model").mkdir()
    (maker / "model" / "README.md").write_text("---\ntags: [x]\nlicense: mit\n---\nA model.\n")
    (maker / "run" / "config.yaml").write_text(f"base: {maker / 'model'}\ntask: {task}\n")
    made = export(
        maker / "run", "onnx", recipe="onnx_fp32", out=maker / "bundle", cases=24, version="2.1", date="86400"
    )
    here = tmp_path_factory.mktemp("elsewhere")
    shutil.move(made, here / "bundle")
    shutil.rmtree(maker)
    assert not [path for path in (here / "bundle").rglob("*") if path.is_file() and b"maker-of-it" in path.read_bytes()]
    return here / "bundle"


def test_cases_carry_the_reference_answer_and_its_rule(handed_over: Path) -> None:
    cases = open_bundle(handed_over).conformance()
    assert len(cases) == 24
    for case in cases:
        assert isinstance(case, ConformanceCase)
        assert case.grading_rule == "exact"
        a, b = case.prompt.split()[:2]
        assert case.reference_answer == f"{a} + {b}"


def test_manifest_and_readme_say_where_it_comes_from(handed_over: Path) -> None:
    provenance = open_bundle(handed_over).manifest.provenance
    told = {key: provenance[key] for key in ("bundle_version", "base", "base_licence", "date")}
    assert told == {"bundle_version": "2.1", "base": "model", "base_licence": "mit", "date": "1970-01-02"}
    assert provenance["task"].startswith("problems.jsonl#")
    readme = (handed_over / "README.md").read_text()
    for words in (
        f"Version 2.1, made with edgekit {provenance['edgekit']}, 1970-01-02",
        "Base model: model. Its licence: mit",
    ):
        assert words in readme
    assert f"Trained on: {provenance['task']}" in readme


def test_what_is_not_known_of_the_origin_is_left_out_and_what_is_no_version_or_date_refused(
    tiny_policy_folder: Path,
) -> None:
    assert origin_of(tiny_policy_folder) == {"bundle_version": "1"}
    assert origin_of(tiny_policy_folder, licence=" MIT\n")["base_licence"] == "MIT"
    assert origin_of(builtin_base()) == {"bundle_version": "1", "base": "builtin", "base_licence": "Apache-2.0"}
    for version in ("", "a b", "-1", "x" * 65, "1\n"):
        with pytest.raises(EdgekitError, match="no version"):
            origin_of(tiny_policy_folder, version)
    for date in ("", "yesterday", "9" * 40):
        with pytest.raises(EdgekitError, match="no date"):
            origin_of(tiny_policy_folder, date=date)


def test_it_verifies_by_its_own_readme_and_is_graded(handed_over: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(handed_over)
    command = next(line for line in Path("README.md").read_text().split("`") if line.startswith("edgekit verify"))
    assert run_command([*command.split()[1:], "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["outcome"] == "MATCH"
    assert report["n"] == 24
    # A cloud that is right whenever it is asked: what calls is right, and the tiny policy's own answers are not.
    assert report["overall_accuracy_artifact"] == pytest.approx(report["call_fraction_artifact"])


def test_it_is_run_evaluated_and_calibrated(handed_over: Path, capsys) -> None:
    prompt = open_bundle(handed_over).conformance()[0].prompt
    assert run_command(["run", str(handed_over), prompt, "--json"]) == 0
    capsys.readouterr()
    assert run_command(["eval", str(handed_over), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 24
    assert run_command(["calibrate", str(handed_over), "--call-fraction", "0.5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["n"], told["reached_fraction"]) == (24, 0.5)
    facts = load_routing(handed_over / "routing.json").calibration
    assert facts is not None
    assert (facts.split, facts.n) == ("recorded", 24)
    assert run_command(["verify", str(handed_over)]) == 0


def test_a_task_that_the_user_names_grades_instead(handed_over: Path, tmp_path: Path, capsys) -> None:
    rows = [json.loads(line) for line in own_jsonl(tmp_path).read_text().splitlines()]
    (tmp_path / "other.jsonl").write_text("".join(json.dumps({**row, "answer": "no"}) + "\n" for row in rows))
    command = ["verify", str(handed_over), "--task", str(tmp_path / "other.jsonl"), "--json"]
    assert run_command(command) == 0
    assert json.loads(capsys.readouterr().out)["overall_accuracy_artifact"] is not None
    (tmp_path / "foreign.jsonl").write_text(json.dumps({"prompt": "foreign", "answer": "1"}) + "\n")
    command = ["verify", str(handed_over), "--task", str(tmp_path / "foreign.jsonl"), "--json"]
    assert run_command(command) == 0
    assert json.loads(capsys.readouterr().out)["overall_accuracy_artifact"] is None


@pytest.mark.parametrize("rule", ["", 'rule = "number"'])
def test_a_task_that_is_a_program_is_graded_only_by_a_rule_that_it_names(
    tiny_policy_folder: Path, tmp_path: Path, capsys, rule: str
) -> None:
    (tmp_path / "own.py").write_text(OWN.format(rule=rule))
    name = name_task(str(tmp_path / "own.py"))
    made = export(tiny_policy_folder, "onnx", recipe="onnx_fp32", out=tmp_path / "b", task=name, cases=4)
    (tmp_path / "own.py").unlink()
    assert run_command(["verify", str(made), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["overall_accuracy_artifact"] is not None) == bool(rule)
    assert run_command(["verify", str(made)]) == 0
    assert ("not graded" in capsys.readouterr().out) == (not rule)
    if not rule:
        assert run_command(["eval", str(made)]) == 2
        assert "Name it: --task" in capsys.readouterr().err


def test_recorded_prompts_are_graded_each_by_its_own_rule_where_this_host_can() -> None:
    task = recorded_task("mixed", [("a", Grading("number", "0.5")), ("b", Grading("choice", "B"))])
    first, second = task.problems("test", 9, 0)
    by_prompt = {problem.prompt: problem for problem in (first, second)}
    assert task.grade(by_prompt["a"], "1/2")
    assert task.grade(by_prompt["b"], "(b)")
    assert not task.grade(by_prompt["b"], "1/2")
    assert task.parse("c") is None
    assert grading_of(task, by_prompt["b"]) == Grading("choice", "B")
    assert not Grading("astrology", "B").is_possible  # a rule of a newer version
    assert not Grading("number", "B").is_possible
