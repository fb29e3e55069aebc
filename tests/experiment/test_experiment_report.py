"""The experiment report: its rows and its pages, on whole and partial experiments."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import EdgekitError
from edgekit.experiment.report import write_report
from edgekit.experiment.report.drawing import spread
from edgekit.experiment.report.load import load_experiment
from edgekit.experiment.report.methods import style
from edgekit.experiment.report.statistics import EQUAL, Statistics, _at
from edgekit.experiment.report.summary import cautions

ALGORITHMS = {
    "task_only": 0.70,
    "collaboration_grpo": 0.60,
    "collaboration_dr_grpo": 0.65,
    "da_grpo": 0.69,
    "gapg": 0.71,
}
# Per method: the run it uses, how well its score tells wrong answers from right ones (in standard deviations).
METHODS = {
    "task_only": ("task_only", None), "naive_offloading": ("task_only", 0.0), "cloud_only": (None, None),
    "collaboration_grpo": ("collaboration_grpo", 0.8), "collaboration_dr_grpo": ("collaboration_dr_grpo", 1.3),
    "prompt_router": ("task_only", 0.9), "hidden_probe_prompt": ("task_only", 1.1),
    "answer_router": ("task_only", 1.8), "hidden_probe": ("task_only", 2.2),
    "token_entropy": ("task_only", 0.7), "sample_agreement": ("task_only", 1.6),
    "oracle_router": ("task_only", 9.0), "gapg": ("gapg", 2.6),
    "gapg_early": ("gapg", 2.3), "da_grpo": ("da_grpo", 2.4),
}  # fmt: skip
BUDGETS = (0.1, 0.2, 0.3, 0.5)
MARKED = ("gapg", "gapg_early", "da_grpo", "collaboration_grpo", "collaboration_dr_grpo")


def simulate(
    folder: Path,
    methods: dict = METHODS,
    seeds: tuple[int, ...] = (0, 1, 2),
    n: int = 400,
    budgets: tuple[float, ...] = BUDGETS,
) -> Path:
    """An experiment folder as `edgekit experiment` writes it: policies fail by difficulty, routers see it noisily."""
    (folder / "results").mkdir(parents=True)
    (folder / "experiment.yaml").write_text("task: countdown\n")
    level = np.random.default_rng(1).integers(3, 7, n)
    luck = np.random.default_rng(2).normal(size=n)
    for seed in seeds:
        for method, (algorithm, signal) in methods.items():
            data = _result(method, algorithm, signal, seed, level, luck)
            data["budgets"] = [made for made in data["budgets"] if made["call_fraction"] in budgets]
            (folder / "results" / f"{method}-seed{seed}.json").write_text(json.dumps(data))
        for algorithm in {algorithm for algorithm, _ in methods.values() if algorithm}:
            run = folder / "runs" / f"{algorithm}-seed{seed}"
            run.mkdir(parents=True)
            (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in _steps(algorithm, seed)))
    return folder


def _result(
    method: str, algorithm: str | None, signal: float | None, seed: int, level: np.ndarray, luck: np.ndarray
) -> dict:
    n = len(level)
    code = sorted(ALGORITHMS).index(algorithm or "task_only")
    rng = np.random.default_rng([seed, code])
    ability = luck + 0.5 * rng.normal(size=n) - 0.8 * (level - 4.5)
    right = ability > np.quantile(ability, 1 - ALGORITHMS[algorithm or "task_only"] + 0.01 * rng.normal())
    rng = np.random.default_rng([seed, code, sum(map(ord, method))])
    scores = np.zeros(n) if signal is None else rng.normal(size=n) - signal * right
    tokens = np.where(method == "prompt_router", 0, rng.integers(12, 26, n))
    entry = []
    for c in BUDGETS:
        threshold = np.quantile(scores, 1 - np.clip(c + 0.015 * rng.normal(), 0, 1))
        calls = scores > threshold if signal is not None else np.full(n, method == "cloud_only")
        spent = np.where(
            calls & (method in ("prompt_router", "hidden_probe_prompt", "cloud_only")),
            0,
            np.where(method == "gapg_early", tokens - 8 * calls, tokens + 1),
        )
        entry.append({"call_fraction": c, "threshold": float(threshold), "calls": calls.tolist(),
                      "correct": (right | calls).tolist(), "device_tokens": spent.tolist()})  # fmt: skip
    natural = None
    if method in MARKED:
        calls = scores > np.quantile(scores, 0.75)
        natural = {"calls": calls.tolist(), "correct": (right | calls).tolist(), "device_tokens": tokens.tolist()}
    return {
        "method": method, "seed": seed, "algorithm": algorithm, "task": "countdown", "n_validation": 500, "n_test": n,
        "cloud_calls_in_training": int(2500 + 300 * rng.normal()) if method in MARKED else 0,
        "training_prompts": 1000 if "router" in method or "probe" in method else 0,
        "test": {
            "ids": [f"p{i}" for i in range(n)], "difficulty": [str(v) for v in level],
            "local_correct": right.tolist(), "cloud_correct": [True] * n,
            "scores": [None] * n if method == "cloud_only" else scores.tolist(),
        },
        "budgets": entry, "natural": natural, "notes": "", "trigger": _trigger(method, entry),
    }  # fmt: skip


def _trigger(method: str, budgets: list[dict]) -> dict | None:
    if method not in MARKED:
        return None
    calls = {made["call_fraction"]: float(np.mean(made["calls"])) for made in budgets}
    rows = [{"call_fraction": c, "calls_before": share, "calls_after": 0.875, "honest_before": 0.75,
             "honest_after": 0.625} for c, share in calls.items()]  # fmt: skip
    return {"text": "<b>now", "tries": 2, "budgets": rows}


def _steps(algorithm: str, seed: int) -> list[dict]:
    rng = np.random.default_rng([seed, len(algorithm)])
    lines = []
    for step in range(1, 121):
        reached = ALGORITHMS[algorithm] - 0.15 * np.exp(-step / 40)
        line = {
            "step": step, "reward": reached + 0.04 * rng.normal(), "d1": int(36 + 4 * rng.normal()),
            "d2": int(8 + 2 * rng.normal()), "cloud_calls": int(25 + 5 * rng.normal()),
        }  # fmt: skip
        if step % 20 == 0:
            line |= {
                "eval_local_accuracy": reached + 0.01 * rng.normal(),
                "eval_call_fraction": 0.22 + 0.01 * rng.normal(),
            }
        lines.append(line)
    return lines


def test_labels_move_apart_and_keep_their_order() -> None:
    placed = spread([0.5, 0.51, 0.1, 0.99, 1.0], 0.1, 0.0, 1.0)
    assert placed[2] == 0.1
    assert np.diff(sorted(placed)).min() >= 0.1 - 1e-9
    assert max(placed) <= 1.0
    assert placed[0] < placed[1] < placed[3] < placed[4]


def test_rows_are_what_the_decisions_say_and_the_oracle_gains_all_it_can(tmp_path: Path) -> None:
    experiment = load_experiment(simulate(tmp_path, seeds=(0, 1)))
    statistics = Statistics(experiment, 200)
    row = statistics.row("gapg", 0.3)
    made = [result.budgets[0.3] for result in experiment.methods["gapg"].values()]
    assert row is not None
    assert row.overall.value == pytest.approx(np.mean([m.correct.mean() for m in made]))
    assert row.reached.value == pytest.approx(np.mean([m.calls.mean() for m in made]))
    assert row.kept.value == pytest.approx(np.mean([m.correct[~m.calls].mean() for m in made]))
    assert row.tokens_before_call.value == pytest.approx(np.mean([m.device_tokens[m.calls].mean() for m in made]))
    oracle, chance = statistics.row("oracle_router", 0.2), statistics.row("naive_offloading", 0.2)
    assert oracle is not None
    assert chance is not None
    assert oracle.oracle_share.value == pytest.approx(1)
    assert abs(chance.oracle_share.value) < 0.2
    assert np.isnan(statistics.row("task_only", 0.2).oracle_share.value)  # type: ignore[union-attr]


def test_at_exactly_equal_calls_the_highest_scores_are_handed_over(tmp_path: Path) -> None:
    experiment = load_experiment(simulate(tmp_path, seeds=(0, 1)))
    statistics = Statistics(experiment, 50)
    for method in ("gapg", "token_entropy"):
        expected = []
        for result in experiment.methods[method].values():
            called = np.argsort(-result.scores)[: len(result.ids) * 3 // 10]
            right = result.local_correct.copy()
            right[called] = result.cloud_correct[called]
            expected.append(right.mean())
        exactly = statistics.at_exactly(method, 0.3)
        assert exactly is not None
        assert exactly.value == pytest.approx(np.mean(expected), abs=1e-9)
        assert exactly.low < exactly.value < exactly.high
    assert statistics.at_exactly("cloud_only", 0.3) is None


def test_a_method_does_not_differ_from_itself_and_differences_are_paired(tmp_path: Path) -> None:
    statistics = Statistics(load_experiment(simulate(tmp_path, seeds=(0, 1))), 200)
    same, weak = statistics.differences("gapg", ["gapg", "naive_offloading"], 0.3)
    assert same.equal_calls is not None
    assert [float(end) for end in (same.decided.low, same.decided.high, same.equal_calls.value)] == [0, 0, 0]
    assert same.verdict == same.verdict_at_equal_calls == EQUAL
    assert weak.verdict == "beats"
    (turned,) = statistics.differences("naive_offloading", ["gapg"], 0.3)
    assert turned.verdict == "loses"


class Tags(HTMLParser):
    """Collects ids, what attributes refer to, and a table row's heading."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.references: set[str] = set()
        self.headings: list[str] = []
        self.in_heading = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key == "id":
                self.ids.append(value or "")
            if key in ("href", "src"):
                self.references.add(value or "")
            self.references.update(re.findall(r"url\(([^)]*)\)", value or ""))
        self.in_heading = tag == "th" and ("scope", "row") in attrs

    def handle_data(self, data: str) -> None:
        if self.in_heading:
            self.headings.append(data)
            self.in_heading = False


def check_page(folder: Path, page: Path, methods: Iterable[str]) -> None:
    """Nothing from outside, every reference within, every method in every table of both files."""
    assert page == folder / "report" / "index.html"
    text = page.read_text()
    tags = Tags()
    tags.feed(text)
    assert "http" not in text
    assert "<script" not in text
    assert len(tags.ids) == len(set(tags.ids))
    assert {reference for reference in tags.references if reference.removeprefix("#") not in tags.ids} == set()
    markdown = (folder / "report" / "report.md").read_text()
    for name in methods:
        assert tags.headings.count(style(name).label) >= 2 + len(BUDGETS)
        assert markdown.count(f"| {style(name).label} |") >= 2 + len(BUDGETS)
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", markdown)
    assert len(pictures) == 6
    assert all((folder / "report" / picture).read_bytes().startswith(b"\x89PNG") for picture in pictures)


def test_the_page_is_self_contained_and_shows_every_method(tmp_path: Path) -> None:
    methods = ("gapg", "prompt_router", "cloud_only")
    folder = simulate(tmp_path / "countdown", {name: METHODS[name] for name in methods}, (0, 1), n=120)
    page = write_report(folder, replicates=100)
    check_page(folder, page, methods)
    assert '<p class="lead">At 30 % cloud calls, GAPG beats Prompt router.</p>' in page.read_text()
    assert "A prefix that makes it call, at 30 % calls" in page.read_text()
    assert "&lt;b&gt;now" in page.read_text()
    assert "<b>now" not in page.read_text()


@pytest.mark.slow
def test_every_method_has_its_row_on_the_page(tmp_path: Path) -> None:
    folder = simulate(tmp_path / "countdown")
    page = write_report(folder)
    check_page(folder, page, METHODS)
    (lead,) = re.findall(r'<p class="lead">(.*?)</p>', page.read_text())
    assert lead.startswith("At 30 % cloud calls, GAPG beats ")


@pytest.mark.parametrize(
    ("methods", "seeds", "says"),
    [
        (("gapg",), (0,), "One training seed"),
        (("task_only", "cloud_only"), (0,), "No method that routes has results"),
        pytest.param(("prompt_router", "token_entropy"), (3, 4), "of 2 methods that route", marks=pytest.mark.slow),
        pytest.param(("gapg_g4", "task_only"), (0,), "GAPG, g4", marks=pytest.mark.slow),
    ],
    ids=["one run", "no router", "no candidate", "a variant only"],
)
def test_partial_experiments_have_a_report(
    methods: tuple[str, ...], seeds: tuple[int, ...], says: str, tmp_path: Path
) -> None:
    known = METHODS | {"gapg_g4": ("gapg", 2.0)}
    folder = simulate(tmp_path / "part", {name: known[name] for name in methods}, seeds, n=60, budgets=(0.3,))
    shutil.rmtree(folder / "runs")
    for file in (folder / "results").glob("*.json"):
        data = json.loads(file.read_text()) | {"natural": None}
        file.write_text(json.dumps(data))
    page = write_report(folder, replicates=50)
    assert says in page.read_text()
    assert "<h2>Learning" not in page.read_text()


@pytest.mark.slow
def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    folder = simulate(tmp_path, {"gapg": METHODS["gapg"]}, (0, 1), n=60, budgets=(0.3,))
    shutil.rmtree(folder / "runs")
    write_report(folder, replicates=50)
    first = {file.name: file.read_bytes() for file in (folder / "report").iterdir()}
    write_report(folder, replicates=50)
    assert {file.name: file.read_bytes() for file in (folder / "report").iterdir()} == first


def test_a_task_of_the_user_s_own_is_told_without_its_place_on_the_machine(tmp_path: Path) -> None:
    folder = simulate(tmp_path / "own", {"gapg": METHODS["gapg"]}, (0,), n=60, budgets=(0.3,))
    (result,) = (folder / "results").iterdir()
    result.write_text(json.dumps(json.loads(result.read_text()) | {"task": str(tmp_path / "mine.py")}))
    told = write_report(folder, replicates=50).with_name("report.md").read_text()
    assert "Task mine.py: 60 test problems" in told
    assert str(tmp_path) not in told


def test_missing_methods_and_seeds_are_said_and_not_hidden(tmp_path: Path) -> None:
    folder = simulate(tmp_path, {name: METHODS[name] for name in ("gapg", "prompt_router")}, (0, 1), n=60)
    (folder / "results" / "prompt_router-seed1.json").unlink()
    (folder / "experiment.yaml").write_text("methods: [gapg, prompt_router, da_grpo]\n")
    experiment = load_experiment(folder)
    statistics = Statistics(experiment, 50)
    rows = {("prompt_router", 0.3): statistics.row("prompt_router", 0.3)}
    said = cautions(experiment, {key: row for key, row in rows.items() if row is not None}, [])
    assert "Not there yet: DA-GRPO." in said
    assert "Prompt router lacks seed 1; its rows are over the others." in said
    (left,) = statistics.differences("gapg", ["prompt_router"], 0.3)
    assert left.seeds == (0,)


def test_what_cannot_be_compared_or_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgekitError, match=r"no results/\*\.json"):
        write_report(tmp_path)
    folder = simulate(tmp_path, {name: METHODS[name] for name in ("gapg", "token_entropy")}, (0,), n=20)
    file = folder / "results" / "gapg-seed0.json"
    data = json.loads(file.read_text())
    data["test"]["ids"][0] = "another"
    file.write_text(json.dumps(data))
    with pytest.raises(EdgekitError, match="differ in their problems: gapg-seed0 and token_entropy-seed0"):
        write_report(folder)
    file.write_text("{")
    with pytest.raises(EdgekitError, match=r"bad result: .*gapg-seed0"):
        write_report(folder)


@pytest.mark.parametrize("share", [0.29, 0.57, 0.58, 0.07, 0.0, 1.0, 0.5])
def test_a_curve_is_known_at_a_share_where_its_neighbours_are_not(share: float) -> None:
    curves = np.full((1, 101), np.nan)
    curves[0, round(100 * share)] = 0.75
    if share < 1:
        curves[0, round(100 * share) + 1] = 0.25
    else:
        curves[0, 99] = 0.25
    assert _at(share, curves).tolist() == [0.75]
