"""Each number in a table of the reasoning studies, and in the README's of every method, is what its row and column say.

A row names the file that holds its problems, a column what is counted in them; against the first row, where it is a
change. So two cells that change places are noticed.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from measured_tables import (
    COMPARED,
    PAGES,
    RESULTS,
    ROOT,
    STUDIES,
    Study,
    Table,
    is_there,
    numbers,
    read,
    study_of,
    tables,
    unpacked,
)  # fmt: skip

from edgekit.evaluate.intervals import wilson_interval
from edgekit.experiment.report.load import load_experiment
from edgekit.experiment.report.statistics import Statistics

Problems = list[Mapping[str, Any]]


@cache
def problems(folder: str, file: str) -> Problems:
    made: Problems = read(RESULTS / "reasoning" / folder / f"{file}.json.gz")
    return made


def counted(column: str, reference: Problems, made: Problems) -> list[float]:
    """What may stand in ``column`` for the problems ``made``."""
    n, called = len(made), [r["called"] for r in made]
    right, kept = sum(r["right"] for r in made), max(1, n - sum(called))
    alone = [(a["right"], b["right"]) for a, b in zip(reference, made, strict=True)]
    overall = [(a["called"] or a["right"], b["called"] or b["right"]) for a, b in zip(reference, made, strict=True)]
    same = sum(a["called"] == b["called"] for a, b in zip(reference, made, strict=True))
    gained, lost = overall.count((False, True)), overall.count((True, False))
    return {
        "calls": [sum(called) / n],
        "solved alone": [right / n, *change(alone)],
        "right of those kept": [right / kept, right, kept, *wilson_interval(right, kept)],
        "overall": [sum(after for _, after in overall) / n, *change(overall)],
        "change": change(overall),
        "gained, lost": [gained, lost],
        "same decision": [same / n, *wilson_interval(same, n)],
        "same text": [sum(a["text"] == b["text"] for a, b in zip(reference, made, strict=True)) / n],
        "tokens before the decision": [statistics.fmean(r["before"] for r in made)],
    }[kind_of(column)]


def kind_of(column: str) -> str:
    return re.sub(r"\s*\(.*|,? points.*", "", column)


def change(pairs: list[tuple[bool, bool]]) -> list[float]:
    """Of paired answers, with the interval of Agresti and Min (2005), and 95 for its level."""
    gained, lost, size = pairs.count((False, True)), pairs.count((True, False)), len(pairs) + 2
    moved = (gained - lost) / size
    spread = 1.96 * math.sqrt(gained + lost + 1 - size * moved**2) / size
    return [(gained - lost) / len(pairs), moved - spread, moved + spread]


def by_size(column: str, made: Problems) -> Iterator[float]:
    for size in (3, 4):
        part = [r for r in made if len(r["id"].partition("->")[0].split()) == size]
        yield sum(r["called" if column == "calls" else "right"] for r in part) / len(part)


def strangers(table: Table, study: Study) -> list[tuple[str, str, str]]:
    """Row, column and number of what stands in ``table`` and its data do not say."""
    opened = {row: problems(study.folder, file)[: study.n] for row, file in (study.files | study.by_size).items()}
    reference = opened[table.rows[0][0]]
    found = []
    for row, column, cell in table.cells:
        if not cell:
            continue
        if column in study.of_speed:
            values = study.of_speed[column](*study.artifacts[row]) if row in study.artifacts else []
        elif row in study.by_size:
            values = list(by_size(column, opened[row]))
        else:
            values = counted(column, reference, opened[row])
        found += [(row, column, number) for number in numbers(cell) if not is_there(number, values)]
    return found


SHOWN = [(table, key) for page in PAGES for table in tables(page) if (key := study_of(table)) is not None]


@pytest.mark.parametrize(("table", "key"), SHOWN, ids=[f"{key}" for _, key in SHOWN])
def test_each_cell_of_a_study_says_what_its_problems_say(table: Table, key: str) -> None:
    assert strangers(table, STUDIES[key]) == []


def test_every_study_has_its_table() -> None:
    assert {key for _, key in SHOWN} == set(STUDIES)


@pytest.mark.parametrize(("table", "key"), SHOWN, ids=[f"{key}" for _, key in SHOWN])
def test_rows_that_change_places_are_noticed(table: Table, key: str) -> None:
    first, second, *others = table.rows
    swapped = replace(table, rows=((first[0], *second[1:]), (second[0], *first[1:]), *others))
    assert strangers(swapped, STUDIES[key])


@cache
def paper_table() -> Statistics:
    with TemporaryDirectory() as folder:
        return Statistics(load_experiment(unpacked("paper_table", Path(folder))), replicates=2)


def test_each_cell_of_the_readme_s_comparison_is_that_of_its_methods() -> None:
    (table,) = (each for each in tables(ROOT / "README.md") if each.header[-1] == "tokens before a call")
    assert [row[0] for row in table.rows] == list(COMPARED)
    for row, column, cell in table.cells:
        methods = COMPARED[row]
        assert len(numbers(cell)) == (0 if cell == "" else len(methods)), (row, column)
        for method, number in zip(methods, numbers(cell), strict=False):
            if column.endswith("%"):
                value = paper_table().at_exactly(method, float(column.strip(" %")) / 100)
            else:
                found = paper_table().row(method, 0.3)
                value = None if found is None else found.tokens_before_call
            assert value is not None, (row, column)
            assert is_there(number, [float(value.value)]), (row, column, number)
