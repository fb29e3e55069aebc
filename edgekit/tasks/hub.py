"""A task from a Hugging Face data set, by its name on the hub or from a folder with the same files."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.errors import BackendMissing, EdgekitError, install_hint
from edgekit.tasks.base import Problem, Split
from edgekit.tasks.collection import Collection, prompt_id, read_row
from edgekit.tasks.splits import SPLITS, percent_of, split_of

VALIDATION_PERCENT = 10
"""The share of the training problems kept for validation where the data set has no such split."""
_OWN_NAMES: dict[str, Split] = {"train": "train", "validation": "validation", "valid": "validation",
                                "dev": "validation", "test": "test"}  # fmt: skip


def hub_task(source: str, rule: str, name: str | None = None) -> Collection:
    """The task of ``OWNER/NAME[:CONFIG]`` or ``FOLDER[:CONFIG]``; its problems are loaded when first needed."""
    place, _, config = source.partition(":")
    return Collection(name or Path(place).name, rule, lambda: read_hub(place, config or None, rule))


def read_hub(place: str, config: str | None, rule: str) -> dict[Split, list[Problem]]:
    """The data set's problems by split, none in two.

    Its test split is the test split. Validation is its own, or cut out of the training problems by a hash of the
    prompt; so is the test split where there is only a training split. Rows without a final answer are left out.

    Raises EdgekitError if it cannot be loaded or holds no problem, BackendMissing without ``datasets``.
    """
    found: dict[Split, dict[str, Problem]] = {}
    fault = ""
    for own_name, rows in _load(place, config).items():
        if own_name not in _OWN_NAMES:
            continue
        problems = found.setdefault(_OWN_NAMES[own_name], {})
        for row in rows:
            read = read_row(row, rule)
            if isinstance(read, str):
                fault = f" A row was left out: {read}."
                continue
            problems.setdefault(prompt_id(read.problem.prompt), read.problem)
    if not any(found.values()):
        wanted = f"It has no rows with a problem and an answer in {', '.join(_OWN_NAMES)}."
        raise EdgekitError(f"no problems: {place}. {wanted}{fault} Check its columns.")
    return _told_apart({split: list(problems.values()) for split, problems in _disjoint(found).items()})


def _told_apart(splits: dict[Split, list[Problem]]) -> dict[Split, list[Problem]]:
    """``splits`` with an id for one problem only: a data set may count its rows anew in each of its splits."""
    times = Counter(problem.id for problems in splits.values() for problem in problems)
    return {
        split: [each if times[each.id] == 1 else replace(each, id=prompt_id(each.prompt)) for each in problems]
        for split, problems in splits.items()
    }


def _disjoint(found: Mapping[Split, Mapping[str, Problem]]) -> dict[Split, dict[str, Problem]]:
    """Every split filled as far as the data set allows; a problem in several stays in the last of them."""
    splits: dict[Split, dict[str, Problem]] = {split: dict(found.get(split, {})) for split in SPLITS}
    for key in splits["train"]:
        if not found.get("test"):
            cut = split_of(key)
        else:
            cut = "validation" if percent_of(key) < VALIDATION_PERCENT else "train"
        if cut != "train" and not found.get(cut):
            splits[cut][key] = splits["train"][key]
    for earlier, later in (("train", "validation"), ("train", "test"), ("validation", "test")):
        for key in splits[later]:  # type: ignore[index]
            splits[earlier].pop(key, None)  # type: ignore[index]
    return splits


def _load(place: str, config: str | None) -> Mapping[str, Iterable[Mapping[str, Any]]]:
    try:
        import datasets
    except ImportError:
        raise BackendMissing(
            f"data set {place}: the package datasets is missing. It loads them. {install_hint('math')}."
        ) from None
    chatter = logging.getLogger("huggingface_hub")
    level = chatter.level
    chatter.setLevel(logging.ERROR)  # it tells of every attempt to reach the hub
    try:
        return datasets.load_dataset(place, name=config)
    except Exception as error:  # the hub's client, the readers of each format and the network each have their own
        why = (str(error).strip().splitlines() or [""])[0].rstrip(". ")[:200]
        advice = "Check name, config and network, or give a folder with its files: hub:FOLDER[:CONFIG]"
        raise EdgekitError(f"data set cannot be loaded: {place}. {type(error).__name__}: {why}. {advice}.") from None
    finally:
        chatter.setLevel(level)
