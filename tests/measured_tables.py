"""The tables of measured results in the README and in docs, and the data that they were counted from."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
PAGES = [ROOT / "README.md", ROOT / "docs" / "reasoning.md", *sorted(RESULTS.rglob("*.md"))]
_NUMBER = re.compile(r"(?<![\w.])[+−-]?\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True)
class Table:
    """A Markdown table: its page, the heading and the text of its section, its header's and its rows' cells."""

    page: str
    heading: str
    section: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def cells(self) -> Iterator[tuple[str, str, str]]:
        """What stands first in its row, the head of its column, and the cell itself, of all but the first column."""
        for row in self.rows:
            yield from ((row[0], head, cell) for head, cell in zip(self.header[1:], row[1:], strict=True))

    @property
    def numbers(self) -> list[str]:
        """The decimals and percentages in the cells; whole numbers in words are names more often than results."""
        return [each for _, _, cell in self.cells for each in numbers(cell) if "." in each or "%" in cell]


def tables(page: Path) -> Iterator[Table]:
    """Those of ``page`` with two such numbers or more."""
    for section in re.split(r"^(?=#)", page.read_text(), flags=re.MULTILINE):
        heading = re.sub(r"<[^>]*>", "", section.partition("\n")[0]).strip("# ")
        for block in re.findall(r"(?:^\|.*\n?)+", section, re.MULTILINE):
            header, _, *rows = (tuple(split_row(line)) for line in block.splitlines())
            table = Table(page.relative_to(ROOT).as_posix(), heading, section, header, tuple(rows))
            if len(table.numbers) > 1:
                yield table


def split_row(line: str) -> list[str]:
    """The cells of a table's line, without emphasis and the space around them."""
    return [cell.replace("**", "").strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def numbers(cell: str) -> list[str]:
    """Every number that is written in ``cell``."""
    return _NUMBER.findall(cell)


def is_there(number: str, found: Iterable[float]) -> bool:
    """Whether some value, or a hundred times it, is ``number`` when rounded to its digits."""
    text = number.replace(",", "").replace("−", "-")
    digits, wanted = len(text.partition(".")[2]), float(text)
    half = 0.5000001 * 10**-digits
    return any(abs(scale * value - wanted) <= half for value in found for scale in (1, 100))


def read(path: Path) -> Any:
    """The JSON at ``path``, unpacked where its name ends in .gz."""
    return json.loads(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())


def unpacked(name: str, folder: Path) -> Path:
    """``folder`` as the experiment's own: its configuration and its results."""
    (folder / "results").mkdir(parents=True)
    for file in (RESULTS / name / "results").glob("*.json.gz"):
        (folder / "results" / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    (folder / "experiment.yaml").write_bytes((RESULTS / name / "experiment.yaml").read_bytes())
    return folder


@dataclass(frozen=True)
class Study:
    """What a table of one row a policy was counted from: the first ``n`` problems of a folder of reasoning studies.

    ``files``: the file of each row, by what stands first in it. ``by_size``: that of rows which tell problems with
    three numbers from those with four. ``of_speed``: columns of the benchmark of speed, whose names for a row's
    artifact and its export are in ``artifacts``.
    """

    folder: str
    n: int
    files: Mapping[str, str]
    by_size: Mapping[str, str] = field(default_factory=dict)
    artifacts: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def of_speed(self) -> Mapping[str, Callable[[str, str], list[float]]]:
        """What may stand in each of those columns, of a contender and an export."""
        if not self.artifacts:
            return {}
        behind = [read(RESULTS / "reasoning" / self.folder / f"speed_{tokens}.json") for tokens in (128, 896)]
        rates = [told["contenders"] for told in behind]
        ratio = "decode_over_onnxruntime-genai"

        def made(export: str) -> list[float]:
            told = behind[0]["export"][export]
            return [told["cpu_s"], told["peak_rss_mb"] / 1000]

        return {
            "decode, times genai, behind 128 / 896 tokens": lambda name, _: [
                value for each in rates for value in (each[name][ratio], *each[name][f"{ratio}_range"])
            ],
            "MB": lambda name, _: [rates[0][name]["megabytes"]],
            "made in": lambda _, export: made(export),
        }


def same(*names: str) -> dict[str, str]:
    """Rows that are called what their files are."""
    return {name: name for name in names}


STUDIES = {
    "README.md, Do four bits keep the decisions, and is it fast?, today's policy, 1,000 problems": Study(
        "longer_on_grid",
        1000,
        {
            "the same training in floats, fp32": "fp32",
            "trained on ExecuTorch's grid: 4-bit weights, 8-bit activations": "gapg_on_grid",
            "its warm start, before reinforcement": "start_on_grid",
        },
    ),
    "README.md, Do four bits keep the decisions, and is it fast?, an earlier policy, 300 problems": Study(
        "peers",
        300,
        {
            "fp32, PyTorch": "fp32",
            "edgekit ExecuTorch `int4_decisions`, fine-tuned": "edgekit_executorch_int4_fine_tuned",
            "edgekit ONNX `int4_decisions`": "edgekit_onnx_int4_decisions",
            "llama.cpp Q4_K_M": "llama.cpp_Q4_K_M",
            "onnxruntime-genai int4": "onnxruntime-genai_int4",
            "ExecuTorch export_llm, 8da4w": "export_llm_8da4w",
        },
        artifacts={
            "edgekit ExecuTorch `int4_decisions`, fine-tuned": ("edgekit executorch_int4_fine_tuned",) * 2,
            "edgekit ONNX `int4_decisions`": ("edgekit onnx_int4_decisions",) * 2,
            "llama.cpp Q4_K_M": ("llama.cpp", ""),
            "onnxruntime-genai int4": ("onnxruntime-genai int4", "onnxruntime-genai model builder int4"),
            "ExecuTorch export_llm, 8da4w": ("export_llm 8da4w", "export_llm 8da4w"),
        },
    ),
    "docs/reasoning.md, Measured, 1,000 problems": Study(
        "longer_on_grid",
        1000,
        {
            "in floats, 100 steps of GAPG": "fp32",
            "warm start on the grid": "start_on_grid",
            "100 steps of GAPG on the grid": "gapg_on_grid",
        },
        {"its 3 numbers (552) / 4 numbers (448)": "gapg_on_grid", "the warm start's": "start_on_grid"},
    ),
    "docs/reasoning.md, On another target's grid, and rounded afterwards, 300 problems, trained on the grid": Study(
        "longer_on_grid",
        300,
        {"as trained, on ExecuTorch's grid": "gapg_on_grid", "its weights on ONNX's grid": "gapg_on_grid_on_onnx"},
    ),
    "docs/reasoning.md, On another target's grid, and rounded afterwards, 300 problems, trained in floats": Study(
        "longer_on_grid", 300, {"fp32": "fp32", "int4, nearest": "nearest_on_the_same_grid"}
    ),
    "docs/results/reasoning/longer_on_grid/study.md": Study(
        "longer_on_grid", 1000, same("fp32", "start_on_grid", "gapg_on_grid")
    ),
    "docs/reasoning.md, In floats": Study(
        "longer_warm_start",
        1000,
        {"warm start": "warm_start", "100 steps of GAPG": "fp32"},
        {"its 3 numbers (552) / 4 numbers (448)": "fp32", "the warm start's": "warm_start"},
    ),
    "docs/results/reasoning/README.md, A shorter warm start": Study(
        "impatient",
        1000,
        {"its warm start": "warm_start", "100 steps of GAPG": "fp32"},
        {"its 3 numbers (552) / 4 numbers (448)": "fp32"},
    ),
    "docs/results/reasoning/README.md, A patient teacher": Study(
        "gapg",
        1000,
        {
            "warm start": "warm_start",
            "60 steps of GAPG, temperature 1": "fp32",
            "40 steps of GAPG, temperature 0.6": "gapg_at_temperature_0.6",
        },
        {"its 3 numbers (552) / 4 numbers (448)": "fp32"},
    ),
    "docs/results/reasoning/README.md, Rounded, 1,000 problems": Study(
        "rounded",
        1000,
        {
            "fp32": "fp32",
            "int4_decisions (GPTQ)": "executorch_int4_decisions",
            "fine-tuned onto the grid": "fine_tuned",
        },
    ),
    "docs/results/reasoning/README.md, Rounded, 300 problems": Study(
        "rounded",
        300,
        {
            "fp32": "fp32",
            "int8": "executorch_int8",
            "int4, nearest": "nearest_on_the_same_grid",
            "int4, nearest, 4-bit head (`executorch_int4`)": "executorch_int4",
            "int4_decisions (GPTQ)": "executorch_int4_decisions",
            "fine-tuned onto the grid": "fine_tuned",
            "its weights on ONNX's grid": "fine_tuned_on_onnx",
            "its weights on Core ML's grid": "fine_tuned_on_coreml",
        },
    ),
    "docs/results/reasoning/README.md, Trained on the grid, 300 problems": Study(
        "on_grid",
        300,
        {
            "floats, 60 steps": "fp32",
            "warm start on the grid": "start_on_grid",
            "GAPG on the grid, 40 steps": "gapg_on_grid",
            "its weights on Core ML's grid": "gapg_on_grid_on_coreml",
            "its weights on ONNX's grid": "gapg_on_grid_on_onnx",
        },
    ),
    "docs/results/reasoning/longer_warm_start/study.md": Study("longer_warm_start", 1000, same("fp32", "warm_start")),
    "docs/results/reasoning/impatient/study.md": Study("impatient", 1000, same("fp32", "warm_start")),
    "docs/results/reasoning/gapg/study.md": Study(
        "gapg", 1000, same("fp32", "warm_start", "gapg_at_temperature_0.6")
    ),
    "docs/results/reasoning/rounded/study.md": Study(
        "rounded", 1000, same("fp32", "executorch_int4_decisions", "fine_tuned")
    ),
    "docs/results/reasoning/rounded/first_300.md": Study(
        "rounded",
        300,
        same(
            "fp32", "executorch_int8", "executorch_int4", "executorch_int4_decisions", "nearest_on_the_same_grid",
            "fine_tuned", "fine_tuned_on_onnx", "fine_tuned_on_coreml",
        ),
    ),
    "docs/results/reasoning/on_grid/study.md": Study(
        "on_grid", 300, same("fp32", "gapg_on_grid", "start_on_grid", "gapg_on_grid_on_coreml", "gapg_on_grid_on_onnx")
    ),
    "docs/results/reasoning/peers/study.md": Study(
        "peers",
        300,
        same(
            "fp32", "edgekit_executorch_int4_fine_tuned", "edgekit_onnx_int4_decisions", "llama.cpp_Q4_K_M",
            "onnxruntime-genai_int4", "export_llm_8da4w",
        ),
    ),
}  # fmt: skip
"""Of each table of a reasoning study: its page, its heading, and what its header begins with where there are two."""

COMPARED = {
    "task tuning, random hand-off": ["naive_offloading"],
    "task tuning, prompt router": ["prompt_router"],
    "task tuning, linear probe on the last hidden state": ["hidden_probe"],
    "task tuning, agreement of five more samples": ["sample_agreement"],
    "task tuning, token entropy": ["token_entropy"],
    "task tuning, router that reads the finished answer": ["answer_router"],
    "task tuning, the policy's own verdict as score": ["own_verdict"],
    "the warm start alone, its bias calibrated": ["warm_start"],
    "collaboration-aware, Dr.GRPO / GRPO": ["collaboration_dr_grpo", "collaboration_grpo"],
    "GAPG": ["gapg"],
    "DA-GRPO": ["da_grpo"],
    "GAPG's policy, its own verdict as score": ["verdict_on_gapg"],
    "oracle router": ["oracle_router"],
}
"""The methods of each row of the README's comparison."""


def study_of(table: Table) -> str | None:
    """The study that ``table`` shows, None if it shows another thing."""
    names = (f"{table.page}, {table.heading}, {table.header[0]}", f"{table.page}, {table.heading}", table.page)
    return next((name for name in names if name in STUDIES), None)
