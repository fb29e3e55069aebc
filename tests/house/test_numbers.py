"""Every number in a table of measured results stands in its data, or the page says that it is from another revision.

Tables of the README, of docs/reasoning.md and of docs/results are found by their page and the heading over them. Each
decimal and percentage in their cells must be a value of the data, or one that is worked out of it, rounded to as many
digits as are written. A value in another cell of the same table would pass too: it is a guard against numbers that
nothing made. Tables of the reasoning studies, and the README's of every method, are compared cell by cell
(test_cells.py); those that an experiment's report has made are made again, to the last character.
"""

from __future__ import annotations

import gzip
import json
import statistics
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from measured_tables import PAGES, RESULTS, ROOT, Table, is_there, read, study_of, tables, unpacked

from edgekit.experiment.report import write_report
from edgekit.experiment.report.load import load_experiment
from edgekit.experiment.report.statistics import Statistics
from edgekit.verify.judge import Change


def leaves(data: Any) -> Iterator[float]:
    if isinstance(data, bool) or data is None or isinstance(data, str):
        return
    if isinstance(data, int | float):
        yield float(data)
    else:
        for each in data.values() if isinstance(data, dict) else data:
            yield from leaves(each)


def of_forged_text() -> Iterator[float]:
    """The shares of calls, by the digits that stand for the problems."""
    told = read(RESULTS / "forged_text.json")
    for text in (told, *(each for each in told.values() if isinstance(each, dict))):
        assert text["calls"] == text["called"].count("1") / told["n"]
        yield text["calls"]


def of_search(target: str) -> Iterator[float]:
    """What the digits that stand for the prompts say of each recipe; its size, its speed, the groups' worth."""
    told = read(RESULTS / f"search/{target}.json")
    for row in told["frontier"]:
        for share, digits in (
            ("decision_agreement", "same_decision"), ("text_agreement", "same_text"), ("call_fraction", "called"),
        ):  # fmt: skip
            assert len(row[digits]) == row["n"]
            assert row[share] == row[digits].count("1") / row["n"]
            yield row[share]
        yield from (row["mb"], row["tokens_per_s"] or 0.0)
    yield from (group["divergence"] / group["extra_mb"] for group in told["sensitivity"])


def of_speed(data: Any) -> Iterator[float]:
    """Gigabytes; and how far the rounds of a contender spread, over their median."""
    yield from (made["peak_rss_mb"] / 1000 for made in data["export"].values())
    for made in data["contenders"].values():
        for rounds in (made["prefill_rounds"], made["decode_rounds"]):
            yield (max(rounds) - min(rounds)) / statistics.median(rounds)


def of_demo(bias: float) -> Iterator[float]:
    """What eval says of its problems, as they are and with ``bias``, and verify of its prompts."""
    made = lines("demo/eval.jsonl.gz")
    alone = statistics.fmean(r["right_alone"] for r in made)
    yield from (alone, statistics.fmean(r["right"] for r in made))
    for called in ([r["called"] for r in made], [r["margin"] > -bias for r in made]):
        share = statistics.fmean(called)
        yield from (share, alone + share * (1 - alone), min(1, alone + share))
        yield statistics.fmean(c or r["right_alone"] for c, r in zip(called, made, strict=True))
    for target in ("onnx", "executorch", "coreml"):
        made = lines(f"demo/{target}.jsonl.gz")
        for a, b in (("reference", "artifact"), ("reference", "quantized"), ("quantized", "artifact")):
            yield statistics.fmean(r[a]["called"] == r[b]["called"] for r in made)
        yield from (statistics.fmean(r["artifact"][key] for r in made) for key in ("called", "right"))
        change = Change.of([r["reference"]["right"] for r in made], [r["artifact"]["right"] for r in made])
        yield from (change.value, *change.interval)


def lines(file: str) -> list[Any]:
    return [json.loads(line) for line in gzip.decompress((RESULTS / file).read_bytes()).splitlines()]


def ten_steps_each(*files: str) -> Iterator[float]:
    """What metrics.jsonl says of sampled responses, means of ten steps."""
    for file in files:
        steps = [json.loads(line) for line in (RESULTS / file).read_text().splitlines()]
        for ten in (steps[begin : begin + 10] for begin in range(0, len(steps), 10)):
            for key in ("reward", "local_accuracy", "kept_accuracy", "call_fraction"):
                yield statistics.fmean(step[key] for step in ten)


def of_experiment(name: str) -> Iterator[float]:
    """What an experiment's report says of each method: at its thresholds, at exactly equal calls, alone; the means."""
    with TemporaryDirectory() as folder:
        statistics = Statistics(load_experiment(unpacked(name, Path(folder))), replicates=2)
    for method, runs in statistics.experiment.methods.items():
        yield sum(float(run.local_correct.mean()) for run in runs.values()) / len(runs)
        for fraction in (*statistics.experiment.budgets, None):
            if (row := statistics.row(method, fraction)) is not None:
                shown = (row.overall, row.reached, row.oracle_share, row.kept, row.tokens, row.tokens_before_call)
                yield from (float(one.value) for one in shown)
            if fraction is not None and (exactly := statistics.at_exactly(method, fraction)) is not None:
                yield float(exactly.value)


def nothing(_: Any) -> Iterator[float]:
    return iter(())


def from_json(*sources: str, derived: Callable[[Any], Iterator[float]] = nothing) -> list[float]:
    return [
        value for source in sources for data in [read(RESULTS / source)] for value in (*leaves(data), *derived(data))
    ]


MADE_FROM: dict[tuple[str, str], Callable[[], Iterable[float]]] = {
    ("docs/reasoning.md", "Measured"): lambda: ten_steps_each(
        "reasoning/longer_on_grid/metrics.jsonl", "reasoning/longer_warm_start/metrics.jsonl"
    ),
    ("docs/results/reasoning/README.md", "Trained on the grid"): lambda: ten_steps_each(
        "reasoning/on_grid/metrics.jsonl", "reasoning/gapg/metrics.jsonl"
    ),
    ("docs/results/README.md", "Where the filter has work to do"): lambda: of_experiment("filter"),
    ("docs/results/README.md", "What a user's words do to the decision"): of_forged_text,
    ("docs/results/README.md", "The demo: trained, exported, verified"): lambda: of_demo(6.625),
    ("docs/results/reasoning/peers/speed.md", ""): lambda: from_json(
        *(f"reasoning/peers/speed_{tokens}.json" for tokens in (128, 896)), derived=of_speed
    ),
    ("docs/results/search/README.md", "ONNX"): lambda: of_search("onnx"),
    ("docs/results/search/README.md", "Core ML"): lambda: of_search("coreml"),
    ("docs/results/search/README.md", "ExecuTorch"): lambda: of_search("executorch"),
    ("docs/results/serve.md", ""): lambda: from_json("serve.json"),
    ("docs/results/speed.md", ""): lambda: from_json("speed.json", derived=of_speed),
    ("docs/results/gemma3_270m/speed.md", ""): lambda: from_json("gemma3_270m/speed.json", derived=of_speed),
    ("docs/results/training_step.md", ""): lambda: from_json("training_step.json"),
}
"""The data of each table: by page and heading, "" for all of a page."""
RECORDED = "earlier revision"
"""What the section, or the page's beginning, says of numbers whose data were not kept."""
EXPERIMENTS = ("ablations", "filter", "paper_table", "triggers")
"""Pages whose tables an experiment's report made of the results beside them."""


@cache
def values(key: tuple[str, str]) -> frozenset[float]:
    return frozenset(MADE_FROM[key]())


def is_cell_by_cell(table: Table) -> bool:
    """Whether test_cells.py compares each of its cells by row and column."""
    return study_of(table) is not None or table.header[-1] == "tokens before a call"


def source_of(table: Table) -> tuple[str, str] | None:
    return next((key for key in ((table.page, table.heading), (table.page, "")) if key in MADE_FROM), None)


ALL = [table for page in PAGES for table in tables(page)]
CHECKED = [table for table in ALL if source_of(table) is not None and not is_cell_by_cell(table)]


@pytest.mark.parametrize("table", CHECKED, ids=lambda table: f"{table.page}: {table.heading}")
def test_numbers_are_those_of_their_data(table: Table) -> None:
    key = source_of(table)
    assert key is not None
    assert [number for number in table.numbers if not is_there(number, values(key))] == []


def test_every_other_table_is_made_by_its_experiment_or_says_that_it_is_of_an_earlier_revision() -> None:
    for table in ALL:
        own = any(table.page == f"docs/results/{name}/README.md" for name in EXPERIMENTS)
        beginning = (ROOT / table.page).read_text().splitlines()[:6]
        said = any(RECORDED in " ".join(text.split()) for text in (table.section, " ".join(beginning)))
        assert source_of(table) or is_cell_by_cell(table) or own or said, (table.page, table.heading)


def test_what_nothing_made_is_noticed() -> None:
    assert is_there("0.913", values(("docs/results/search/README.md", "ONNX")))
    assert not is_there("91.34", values(("docs/results/search/README.md", "ONNX")))
    assert len(CHECKED) >= 13


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_s_tables_are_made_again_of_its_results(name: str, tmp_path: Path) -> None:
    folder = unpacked(name, tmp_path / name)
    write_report(folder)
    made = set((folder / "report" / "report.md").read_text().splitlines())
    shown = [line for line in (RESULTS / name / "README.md").read_text().splitlines() if line.startswith("| ")]
    assert len(shown) > 8
    assert [line for line in shown if line not in made] == []
