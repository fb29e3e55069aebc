"""Tasks from files and data sets: splits never meet, references grade right, faults are one line and exit code 2."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.cli.app import run_command
from edgekit.errors import EdgekitError
from edgekit.policy.checkpoint import load_policy
from edgekit.tasks import DATA_SETS, TASKS, get_task, name_task, resolve_task, task_content, task_label
from edgekit.tasks.base import Split
from edgekit.tasks.collection import Collection
from edgekit.tasks.grading import RULES
from edgekit.tasks.hub import hub_task
from edgekit.train.config import TrainConfig, load_config
from edgekit.warm_start.answers import AnswersSettings, teach_answers
from edgekit.workflows.source import task_of

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
OWN_TASK = """
from __future__ import annotations
from dataclasses import dataclass
from edgekit.tasks import Problem

@dataclass
class Doubling:
    name: str = "doubling"
    def problems(self, split, n, seed):
        first = {"train": 0, "validation": 1000, "test": 2000}[split] + seed
        return [Problem(str(k), f"{k} + {k}", "one", {"k": k}) for k in range(first, first + n)]
    def grade(self, problem, answer):
        return (answer or "").strip() == self.solve(problem)
    def solve(self, problem):
        return str(2 * problem.data["k"])
    def parse(self, prompt):
        return None

TASK = Doubling()
"""


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def gsm8k_row(k: int) -> dict[str, str]:
    steps = f"Each of {k} hens lays 2.\nSo {k}*2=<<{k}*2={2 * k}>>{2 * k} eggs."
    return {"question": f"{k} hens lay 2 eggs each. How many eggs?", "answer": f"{steps}\n#### {2 * k:,}"}


def math_row(k: int) -> dict[str, str]:
    solution = f"First $\\boxed{{?}}$, then $\\boxed{{\\frac{{{k}}}{{7}}}}$."
    return {"problem": f"Divide {k} by 7.", "level": f"Level {k % 5 + 1}", "type": "Algebra", "solution": solution}


def write_parquet(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders laid out as the hub's snapshots of GSM8K, MATH-lighteval and MATH-500."""
    datasets = pytest.importorskip("datasets")
    root = tmp_path_factory.mktemp("hub")
    datasets.config.HF_DATASETS_CACHE = root / "cache"
    configs = []
    for config in ("main", "socratic"):
        write_parquet(root / f"gsm8k/{config}/train-00000-of-00001.parquet", [gsm8k_row(k) for k in range(1, 300)])
        write_parquet(root / f"gsm8k/{config}/test-00000-of-00001.parquet", [gsm8k_row(k) for k in range(290, 700)])
        files = [f"  - split: {split}\n    path: {config}/{split}-*" for split in ("train", "test")]
        configs.append("\n".join([f"- config_name: {config}", "  data_files:", *files]))
    (root / "gsm8k/README.md").write_text("\n".join(["---", "configs:", *configs, "---", ""]))
    for split, numbers in (("train", range(200)), ("test", range(200, 260))):
        write_parquet(root / f"MATH-lighteval/data/{split}-00000-of-00001.parquet", [math_row(k) for k in numbers])
    (root / "MATH-500").mkdir()
    rows = [{**math_row(k), "answer": f"\\frac{{{k}}}{{7}}", "unique_id": f"test/{k}.json"} for k in range(200, 230)]
    write_lines(root / "MATH-500/test.jsonl", rows)
    return root


def split_ids(task: Any, seeds: tuple[int, int, int] = (0, 1, 2), n: int = 10_000) -> list[set[str]]:
    return [{p.prompt for p in task.problems(split, n, seed)} for split, seed in zip(SPLITS, seeds, strict=True)]


@pytest.mark.parametrize("source", ["gsm8k:main", "MATH-lighteval"])
def test_a_data_set_is_split_without_overlap_and_solved(snapshots: Path, source: str) -> None:
    task = get_task(f"hub:{snapshots}/{source}")
    train, validation, test = split_ids(task)
    assert len(test) == {"gsm8k:main": 410, "MATH-lighteval": 60}[source]  # its own, whole
    assert len(train) + len(validation) == {"gsm8k:main": 289, "MATH-lighteval": 200}[source]  # less those in test
    assert 0.03 < len(validation) / len(train) < 0.25
    assert len(train | validation | test) == len(train) + len(validation) + len(test)
    for problem in [p for split in SPLITS for p in task.problems(split, 20, 3)]:
        assert task.grade(problem, task.solve(problem))
        assert task.parse(f" {problem.prompt}\n") == problem
        assert not task.grade(problem, "I do not know")


def test_the_label_of_a_data_set_s_folder_holds_no_path(snapshots: Path) -> None:
    assert task_label(resolve_task(f"hub:{snapshots}/gsm8k:main")) == "hub:gsm8k:main"
    assert task_label(resolve_task(f"hub:{snapshots}/MATH-lighteval#number")) == "hub:MATH-lighteval#number"
    assert task_label("hub:openai/gsm8k:main") == "hub:openai/gsm8k:main"


def test_final_answers_and_difficulties_are_read_from_worked_solutions(snapshots: Path) -> None:
    gsm8k, maths = get_task(f"hub:{snapshots}/gsm8k:main"), get_task(f"hub:{snapshots}/MATH-lighteval")
    problem = gsm8k.parse(gsm8k_row(600)["question"])
    assert problem is not None
    assert (gsm8k.solve(problem), problem.difficulty) == ("1200", "2")
    assert gsm8k.grade(problem, "$1,200")
    problem = maths.parse("Divide 5 by 7.")
    assert problem is not None
    assert (maths.solve(problem), problem.difficulty) == ("\\frac{5}{7}", "1")
    assert maths.grade(problem, "5/7")
    assert not maths.grade(problem, "0.714")


def test_rows_that_share_an_id_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set that counts each split's rows from 0: a cloud's answer to one must not pass for another's."""
    rows = {split: [{"id": k, "question": f"{split} {k}?", "answer": f"#### {k}"} for k in (1, 2)] for split in SPLITS}
    rows["test"].append({"id": "own", "question": "own?", "answer": "#### 3"})
    monkeypatch.setattr("edgekit.tasks.hub._load", lambda *_: rows)
    problems = [problem for split in SPLITS for problem in hub_task("a/b", "math").problems(split, 9, 0)]
    assert len({problem.id for problem in problems}) == len(problems) == 7
    assert "own" in {problem.id for problem in problems}


def test_a_data_set_of_test_problems_only_has_no_others(snapshots: Path) -> None:
    task = get_task(f"hub:{snapshots}/MATH-500")
    assert len(task.problems("test", 1000, 0)) == 30
    with pytest.raises(EdgekitError, match=r"no train problems: MATH-500\. It has 30 test"):
        task.problems("train", 1, 0)


def test_a_data_set_that_cannot_be_loaded_is_one_line(snapshots: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgekitError, match="Config name is missing"):
        get_task(f"hub:{snapshots}/gsm8k").problems("test", 1, 0)
    with pytest.raises(EdgekitError, match="no data set folder"):
        get_task(f"hub:{tmp_path}/none")
    write_lines(tmp_path / "test.jsonl", [{"text": "no problem here"}])
    with pytest.raises(EdgekitError, match="A row was left out: it has no prompt"):
        get_task(f"hub:{tmp_path}").problems("test", 1, 0)


@pytest.mark.parametrize("name", ["gsm8k", "math-lighteval", "math-500"])
def test_data_sets_are_known_by_name_and_not_loaded_before_they_are_needed(name: str) -> None:
    task = get_task(name)
    assert isinstance(task, Collection)
    assert (task.name, task.rule) == (name, "math")
    assert resolve_task(name) == name


@pytest.fixture(scope="module")
def lines_task(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a task of 301 problems."""
    rows: list[dict[str, Any]] = [{"prompt": f"{k} + 1", "answer": k + 1, "difficulty": "easy"} for k in range(300)]
    rows.append({"prompt": "half of 1", "answer": "0.5", "id": "h", "split": "test"})
    return write_lines(tmp_path_factory.mktemp("lines") / "sums.jsonl", rows) + "#number"


@settings(max_examples=20, deadline=None)
@given(seeds=st.tuples(*[st.integers(0, 2**32)] * 3), n=st.integers(1, 60))
def test_splits_of_a_file_never_meet_whatever_the_seeds(lines_task: str, seeds: tuple[int, int, int], n: int) -> None:
    task = get_task(lines_task)
    train, validation, test = split_ids(task, seeds, n)
    assert len(train | validation | test) == len(train) + len(validation) + len(test)
    assert task.problems("train", n, seeds[0]) == task.problems("train", n, seeds[0])


def test_a_file_s_lines_are_problems_graded_by_its_rule(lines_task: str) -> None:
    task = get_task(lines_task)
    train, validation, test = split_ids(task)
    assert len(train) + len(validation) + len(test) == 301
    assert 0.6 < len(train) / 301 < 0.8
    half = task.parse("half  of 1")
    assert half is not None
    assert half in task.problems("test", 1000, 0)
    assert (task.name, half.id, half.difficulty) == ("sums", "h", "unknown")
    assert task.grade(half, "1/2")
    assert not get_task(lines_task.partition("#")[0]).grade(half, "1/2")  # exact, unless a rule is named
    assert not task.grade(half, None)


def test_a_warm_start_works_with_fewer_problems_than_it_would_like(lines_task: str, tiny_policy_folder: Path) -> None:
    settings = AnswersSettings(batch_size=64, answer_steps=4, attempts=300, marker_steps=2)
    notes: list[str] = []
    policy = load_policy(tiny_policy_folder)
    teach_answers(policy, get_task(lines_task), settings, on_progress=lambda *a: notes.append(a[2]))
    assert len(notes) == 4 + 1 + 2
    assert notes[4] == f"attempting {len(get_task(lines_task).problems('train', 1000, 0)) // 2} problems"


@pytest.mark.parametrize(
    ("lines", "rule", "words"),
    [
        ("", "exact", "no problems"),
        ("{", "exact", "line 1: it is not JSON"),
        ('\n["a"]', "exact", "line 2: it is not a JSON object"),
        ('{"answer": "1"}', "exact", "no prompt or problem or question"),
        ('{"prompt": "a"}', "exact", "no answer or solution"),
        ('{"prompt": "a", "answer": ["b"]}', "exact", "neither a text nor a number"),
        ('{"prompt": "a", "answer": "b", "split": "exam"}', "exact", "unknown split 'exam'"),
        ('{"prompt": "a", "answer": "b", "rule": ["exact"]}', "exact", r"unknown rule \['exact'\]"),
        ('{"prompt": "a\\ud800", "answer": "b"}', "exact", "line 1: a text in it holds half of a character"),
        ('{"prompt": "a", "answer": "b", "difficulty": ["\\udc00"]}', "exact", "holds half of a character"),
        ('{"prompt": "a", "answer": "b"}', "number", "does not fit the rule number"),
        ('{"prompt": "a", "answer": "bc"}', "choice", "it is not one letter"),
        ('{"prompt": "a", "solution": "no box"}', "math", "no final answer"),
        ('{"prompt": "a", "answer": "1"}\n{"prompt": " a", "answer": "2"}', "exact", "its prompt is line 1's"),
        ('{"prompt": "a", "answer": "1", "id": 1}\n{"prompt": "b", "answer": "2", "id": 1}', "exact", "its id is line"),
        ('{"prompt": "a", "answer": "1"}', "fuzzy", "unknown grading rule: fuzzy"),
        ("\udcff", "exact", "it is not UTF-8"),
        pytest.param(
            json.dumps({"prompt": "a" * 200_001, "answer": "b"}), "exact", "prompt has 200,001 char", id="long prompt"
        ),
        pytest.param(
            json.dumps({"prompt": "a", "answer": "b" * 200_001}), "exact", "answer has 200,001 char", id="long answer"
        ),
    ],
)
def test_a_bad_file_is_one_line_and_exit_code_2(
    lines: str, rule: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.jsonl").write_bytes(lines.encode("utf-8", "surrogateescape"))
    assert_refused(f"{tmp_path}/p.jsonl#{rule}", words, tmp_path, capsys)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("TASK = (", "line 1: .* was never closed"),
        ("import nothing_like_this", "ModuleNotFoundError: No module named 'nothing_like_this'"),
        ("raise SystemExit(0)", "running it raised SystemExit"),
        ("task = 1", "it has no object TASK"),
        ("TASK = 1", "TASK.name is no text, TASK.problems is no method, TASK.grade is no method, TASK.solve"),
        (OWN_TASK.replace("def solve", "def sovle"), "bad task file: .*TASK.solve is no method. docs"),
        (OWN_TASK.replace("def parse", "parse = 3\n    def other"), "TASK.parse is no method. docs"),
    ],
)
def test_a_bad_python_task_is_one_line_and_exit_code_2(
    source: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(source)
    assert_refused(f"{tmp_path}/mine.py", words, tmp_path, capsys)


def assert_refused(task: str, words: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["train", "quick", "--set", f"task={task}", "--out", str(folder / "run")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    with pytest.raises(EdgekitError, match=words):
        get_task(task)
    assert not (folder / "run").exists()


@pytest.mark.parametrize("task", ["chess", "no/such.py", "no/such.jsonl#number", "hub:", "", "#math", "mine.py#exact"])
def test_an_unknown_task_is_refused_when_the_config_is_read(task: str) -> None:
    with pytest.raises(EdgekitError):
        load_config("quick", [f"task={task}"])


def test_a_python_task_is_used_and_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(OWN_TASK)
    task = get_task(name_task(str(path)))
    problem = task.problems("test", 1, 5)[0]
    assert task.grade(problem, task.solve(problem))
    assert get_task(name_task(str(path))) is task
    content = task_content(str(path))
    path.write_text(OWN_TASK.replace('"doubling"', '"twice"'))
    assert get_task(name_task(str(path))).name == "twice"
    assert task_content(str(path)) != content


def test_a_task_s_path_means_the_same_from_every_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(OWN_TASK)
    write_lines(tmp_path / "p.jsonl", [{"prompt": "a", "answer": "1"}])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    for relative, absolute in (("mine.py", f"{tmp_path}/mine.py"), ("p.jsonl#number", f"{tmp_path}/p.jsonl#number")):
        config = load_config("quick", [f"task={relative}"])
        assert config.task == absolute == task_of(tmp_path, relative)
        (tmp_path / "run" / "config.yaml").write_text(config.to_yaml())
        monkeypatch.chdir("/")
        assert task_of(tmp_path / "run", None) == absolute
        get_task(task_of(tmp_path / "run", None))
        monkeypatch.chdir(tmp_path)
    assert resolve_task(f"hub:{tmp_path.name}:main") == f"hub:{tmp_path.name}:main"  # a name on the hub
    monkeypatch.chdir(tmp_path.parent)
    assert resolve_task(f"hub:{tmp_path.name}:main#exact") == f"hub:{tmp_path}:main#exact"
    assert TrainConfig(task=f"hub:{tmp_path.name}").task == f"hub:{tmp_path}"


def test_the_page_on_tasks_shows_a_task_and_a_file_that_work(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text()
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL))
    (tmp_path / "sums.py").write_text(blocks["python"])
    task = get_task(name_task(f"{tmp_path}/sums.py"))
    train, validation, test = split_ids(task)
    assert len(train | validation | test) == len(train) + len(validation) + len(test) == 10_000
    problem = task.problems("test", 1, 0)[0]
    assert task.grade(problem, task.solve(problem))
    assert task.parse(problem.prompt) == problem
    (tmp_path / "shown.jsonl").write_text(blocks["json"])
    problem = get_task(f"{tmp_path}/shown.jsonl").problems("test", 10, 0)[-1]
    assert (problem.id, problem.difficulty) == ("planets-1", "easy")
    assert all(f"`{name}`" in page for name in [*TASKS, *DATA_SETS, *RULES])


@pytest.mark.slow
def test_a_run_on_a_file_goes_on_and_is_measured_from_another_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sums = [{"prompt": f"{a} {b} -> {a + b}", "answer": f"{a} + {b}"} for a in range(2, 30) for b in range(2, 12)]
    write_lines(tmp_path / "p.jsonl", sums)
    monkeypatch.chdir(tmp_path)
    small = ["steps=2", "prompts_per_step=4", "train_pool=1000", "eval_n=0", "checkpoint_every=1"]
    settings = [part for value in ["task=p.jsonl#exact", *small] for part in ("--set", value)]
    assert run_command(["train", "quick", *settings, "--out", "run"]) in (0, 1)  # 1: two steps may teach nothing
    monkeypatch.chdir("/")
    run, bundle = str(tmp_path / "run"), str(tmp_path / "bundle")
    assert run_command(["train", "--resume", "--out", run]) in (0, 1)
    assert run_command(["export", run, "--target", "onnx", "--recipe", "onnx_fp32", "--out", bundle]) == 0
    own = ["--task", str(tmp_path / "p.jsonl#exact")]  # a bundle's label says where it came from, and opens nothing
    for source in ([run], [bundle, *own]):
        capsys.readouterr()
        assert run_command(["eval", *source, "--n", "1000", "--call-fraction", "0.3", "--json"]) == 0
        assert 30 < json.loads(capsys.readouterr().out)["n"] < 100  # the test split's size
    assert run_command(["eval", run, "--task", "arithmetic", "--n", "5", "--json"]) == 0


def test_a_row_may_name_a_rule_of_its_own(tmp_path: Path) -> None:
    rows = [
        {"prompt": "half of 3?", "answer": "1.5", "rule": "number", "split": "test"},
        {"prompt": "largest?", "answer": "B", "rule": "choice", "split": "test"},
        {"prompt": "say hello", "answer": "hello", "split": "test"},
    ]
    task = get_task(write_lines(tmp_path / "mixed.jsonl", rows))
    half, largest, hello = (task.parse(row["prompt"]) for row in rows)
    assert half is not None and largest is not None and hello is not None  # noqa: PT018
    assert task.grade(half, "3/2")
    assert task.grade(largest, "(b)")
    assert task.grade(hello, "hello")
    assert not task.grade(hello, "Hello")
    write_lines(tmp_path / "bad.jsonl", [{"prompt": "p", "answer": "1", "rule": "numbr"}])
    with pytest.raises(EdgekitError, match="line 1: unknown rule 'numbr', one of exact, number, choice, math is meant"):
        get_task(str(tmp_path / "bad.jsonl")).problems("test", 1, 0)
