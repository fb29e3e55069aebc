"""Every number in a table of measured results stands in its data, or the page says that it is from another revision.

Tables of the README, of docs/reasoning.md and of docs/results are found by their page and the heading over them. Each
decimal and percentage in their cells must be a value of the data, or one that DERIVED works out of it, rounded to as
many digits as are written. A value in another cell of the same table would pass too: it is a guard against numbers that
nothing made. Tables that an experiment's report has made are made again, to the last character.
"""

from __future__ import annotations

import gzip
import json
import math
import re
import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from edgekit.evaluate.intervals import wilson_interval
from edgekit.experiment.report import write_report
from edgekit.experiment.report.load import load_experiment
from edgekit.experiment.report.statistics import Statistics
from edgekit.verify.judge import Change

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
PAGES = [ROOT / "README.md", ROOT / "docs" / "reasoning.md", *sorted(RESULTS.rglob("*.md"))]
_NUMBER = re.compile(r"(?<![\w.])[+−-]?\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True)
class Table:
    """A Markdown table: where it stands, the text of its section, and its body's cells but the first column's."""

    page: str
    heading: str
    section: str
    cells: tuple[str, ...]

    @property
    def numbers(self) -> list[str]:
        """The decimals and percentages in the cells; whole numbers in words are names more often than results."""
        return [each for cell in self.cells for each in _NUMBER.findall(cell) if "." in each or "%" in cell]


def tables(page: Path) -> Iterator[Table]:
    """Those of ``page`` with two such numbers or more."""
    for section in re.split(r"^(?=#)", page.read_text(), flags=re.MULTILINE):
        heading = re.sub(r"<[^>]*>", "", section.partition("\n")[0]).strip("# ")
        for block in re.findall(r"(?:^\|.*\n?)+", section, re.MULTILINE):
            cells = [cell for row in block.splitlines()[2:] for cell in re.split(r"(?<!\\)\|", row)[2:-1]]
            table = Table(page.relative_to(ROOT).as_posix(), heading, section, tuple(cells))
            if len(table.numbers) > 1:
                yield table


def read(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())


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


def of_reasoning(folder: str, policies: tuple[str, ...], n: int) -> Iterator[float]:
    """What benchmarks/reasoning_study.py counts in the first ``n`` problems, against its first policy."""
    reference = read(RESULTS / folder / f"{policies[0]}.json.gz")[:n]
    for policy in policies:
        made = read(RESULTS / folder / f"{policy}.json.gz")[:n]
        called, right = sum(r["called"] for r in made), sum(r["right"] for r in made)
        same = sum(a["called"] == b["called"] for a, b in zip(reference, made, strict=True))
        kept = max(1, n - called)
        yield from (called / n, right / n, right / kept, same / n, *wilson_interval(same, n))
        yield from (right, kept, *wilson_interval(right, kept))
        yield sum(a["text"] == b["text"] for a, b in zip(reference, made, strict=True)) / n
        for keys in (("right",), ("right", "called")):
            pairs = [(any(a[k] for k in keys), any(b[k] for k in keys)) for a, b in zip(reference, made, strict=True)]
            gained, lost = pairs.count((False, True)), pairs.count((True, False))
            yield from (sum(after for _, after in pairs) / n, (gained - lost) / n, *agresti_min(gained, lost, n))


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


def by_size(file: str) -> Iterator[float]:
    """The shares called and solved alone of Countdown's problems with 3 and with 4 numbers."""
    for size in (3, 4):
        part = [r for r in read(RESULTS / file) if len(r["id"].partition("->")[0].split()) == size]
        yield from (sum(r[key] for r in part) / len(part) for key in ("called", "right"))


def ten_steps_each(*files: str) -> Iterator[float]:
    """What metrics.jsonl says of sampled responses, means of ten steps."""
    for file in files:
        steps = [json.loads(line) for line in (RESULTS / file).read_text().splitlines()]
        for ten in (steps[begin : begin + 10] for begin in range(0, len(steps), 10)):
            for key in ("reward", "local_accuracy", "kept_accuracy", "call_fraction"):
                yield statistics.fmean(step[key] for step in ten)


def agresti_min(gained: int, lost: int, n: int) -> tuple[float, float]:
    """The interval of benchmarks/drift_study.py (Agresti and Min 2005)."""
    more, fewer, size = gained + 0.5, lost + 0.5, n + 2
    change = (more - fewer) / size
    spread = 1.96 * math.sqrt(more + fewer - size * change**2) / size
    return change - spread, change + spread


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


def unpacked(name: str, folder: Path) -> Path:
    """``folder`` as the experiment's own: its configuration and its results."""
    (folder / "results").mkdir(parents=True)
    for file in (RESULTS / name / "results").glob("*.json.gz"):
        (folder / "results" / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    (folder / "experiment.yaml").write_bytes((RESULTS / name / "experiment.yaml").read_bytes())
    return folder


def nothing(_: Any) -> Iterator[float]:
    return iter(())


def from_json(*sources: str, derived: Callable[[Any], Iterator[float]] = nothing) -> list[float]:
    return [
        value for source in sources for data in [read(RESULTS / source)] for value in (*leaves(data), *derived(data))
    ]


ROUNDED = (
    "fp32", "executorch_int8", "executorch_int4", "executorch_int4_decisions",
    "nearest_on_the_same_grid", "fine_tuned", "fine_tuned_on_onnx", "fine_tuned_on_coreml",
)  # fmt: skip

MORE_ROUNDED = ("fp32", "executorch_int4_decisions", "fine_tuned")

IN_FLOATS = ("fp32", "warm_start", "gapg_at_temperature_0.6")

ON_GRID = ("fp32", "gapg_on_grid", "start_on_grid", "gapg_on_grid_on_coreml", "gapg_on_grid_on_onnx")

PEERS = (
    "fp32", "edgekit_executorch_int4_fine_tuned", "edgekit_onnx_int4_decisions",
    "llama.cpp_Q4_K_M", "onnxruntime-genai_int4", "export_llm_8da4w",
)  # fmt: skip

MADE_FROM: dict[tuple[str, str], Callable[[], Iterable[float]]] = {
    ("README.md", "Does the method keep its promise?"): lambda: of_experiment("paper_table"),
    ("README.md", "Do four bits keep the decisions, and is it fast?"): lambda: [
        *of_reasoning("reasoning/peers", PEERS, 300),
        *from_json("reasoning/peers/speed_128.json", "reasoning/peers/speed_896.json", derived=of_speed),
    ],
    ("docs/reasoning.md", "Measured"): lambda: [
        *of_reasoning("reasoning/longer_warm_start", ("warm_start", "fp32"), 1000),
        *by_size("reasoning/longer_warm_start/fp32.json.gz"),
        *by_size("reasoning/longer_warm_start/warm_start.json.gz"),
    ],
    ("docs/reasoning.md", "A shorter warm start"): lambda: [
        *of_reasoning("reasoning/impatient", ("warm_start", "fp32"), 1000),
        *by_size("reasoning/impatient/fp32.json.gz"),
    ],
    ("docs/reasoning.md", "A patient teacher"): lambda: [
        *of_reasoning("reasoning/gapg", IN_FLOATS, 1000),
        *by_size("reasoning/gapg/fp32.json.gz"),
    ],
    ("docs/reasoning.md", "Rounded"): lambda: [
        *of_reasoning("reasoning/rounded", ROUNDED, 300),
        *of_reasoning("reasoning/rounded", MORE_ROUNDED, 1000),
    ],
    ("docs/reasoning.md", "Trained on the grid"): lambda: [
        *of_reasoning("reasoning/on_grid", ON_GRID, 300),
        *ten_steps_each("reasoning/on_grid/metrics.jsonl", "reasoning/gapg/metrics.jsonl"),
    ],
    ("docs/results/README.md", "Where the filter has work to do"): lambda: of_experiment("filter"),
    ("docs/results/README.md", "What a user's words do to the decision"): of_forged_text,
    ("docs/results/README.md", "The demo: trained, exported, verified"): lambda: of_demo(6.625),
    ("docs/results/reasoning/rounded/first_300.md", ""): lambda: of_reasoning("reasoning/rounded", ROUNDED, 300),
    ("docs/results/reasoning/rounded/study.md", ""): lambda: of_reasoning("reasoning/rounded", MORE_ROUNDED, 1000),
    ("docs/results/reasoning/on_grid/study.md", ""): lambda: of_reasoning("reasoning/on_grid", ON_GRID, 300),
    **{
        (f"docs/results/reasoning/{folder}/study.md", ""): partial(
            of_reasoning, f"reasoning/{folder}", ("fp32", "warm_start"), 1000
        )
        for folder in ("longer_warm_start", "impatient")
    },
    ("docs/results/reasoning/gapg/study.md", ""): lambda: of_reasoning("reasoning/gapg", IN_FLOATS, 1000),
    ("docs/results/reasoning/peers/study.md", ""): lambda: of_reasoning("reasoning/peers", PEERS, 300),
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


def source_of(table: Table) -> tuple[str, str] | None:
    return next((key for key in ((table.page, table.heading), (table.page, "")) if key in MADE_FROM), None)


def is_there(number: str, found: frozenset[float]) -> bool:
    """Whether some value, or a hundred times it, is ``number`` when rounded to its digits."""
    text = number.replace(",", "").replace("−", "-")
    digits, wanted = len(text.partition(".")[2]), float(text)
    half = 0.5000001 * 10**-digits
    return any(abs(scale * value - wanted) <= half for value in found for scale in (1, 100))


ALL = [table for page in PAGES for table in tables(page)]
CHECKED = [table for table in ALL if source_of(table) is not None]


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
        assert source_of(table) or own or said, (table.page, table.heading)


def test_what_nothing_made_is_noticed() -> None:
    assert is_there("0.913", values(("docs/results/search/README.md", "ONNX")))
    assert not is_there("91.34", values(("docs/results/search/README.md", "ONNX")))
    assert is_there("−0.7", values(("docs/results/reasoning/gapg/study.md", "")))
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
