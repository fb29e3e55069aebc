"""Fitting a recipe to a model and a target: what cannot be done, and what a weight gets that groups do not divide."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.recipes.export_recipe import ExportRecipe
from edgekit.recipes.quant_recipe import QuantRecipe, QuantRule
from edgekit.recipes.targets import Integers, Target, get_target
from edgekit.recipes.weights import EMBEDDING, Shape

GROUPS = (128, 64, 32, 16)
"""Group sizes to try where the recipe's own does not divide a weight, the longest first."""


@dataclass(frozen=True)
class Fallback:
    """Weights that ``given`` matches, all of one ``length`` that the group of ``asked`` does not divide."""

    asked: QuantRule
    given: QuantRule
    length: int

    def __str__(self) -> str:
        side = "output channels" if self.asked.palette else "inputs"
        group = f"groups of {self.asked.group_size}" if self.asked.group_size else "whole rows"
        why = f"{self.length} {side} are not {group}"
        return f"{self.given.match}: {_grid(self.given)} instead of {_grid(self.asked)}, for {why}"

    def to_json(self) -> dict[str, Any]:
        """As a bundle's manifest lists it."""
        asked, given = ({"bits": r.bits, "group_size": r.group_size} for r in (self.asked, self.given))
        return {"match": self.given.match, "asked": asked, "given": given, "reason": str(self)}


def recipe_problems(recipe: ExportRecipe, shapes: Mapping[str, Shape]) -> list[str]:
    """Every reason why ``recipe`` does not fit its target, or a model whose weights have ``shapes``.

    A group that does not divide a weight is none: see :func:`fit_recipe`.
    """
    target = get_target(recipe.target)
    return [*_setting_problems(recipe, target), *_rule_problems(recipe.quantize, target, shapes)]


def fit_recipe(recipe: ExportRecipe, shapes: Mapping[str, Shape]) -> tuple[ExportRecipe, list[Fallback]]:
    """``recipe`` (without problems) with a rule before each rule whose groups do not divide some weight of ``shapes``.

    Such a weight gets the rule's bits in shorter groups that do, else 8 bits, else 16: the first that the target
    takes. A recipe that fits comes back as it is.
    """
    target, rules, fallbacks = get_target(recipe.target), list[QuantRule](), list[Fallback]()
    for rule, matched, left in _matches(recipe.quantize, shapes):
        unfit: dict[tuple[QuantRule, int], list[str]] = {}
        for name in matched:
            length = _length(rule, shapes[name])
            if not _taken(rule, target, name, shapes[name]):
                unfit.setdefault((_substitute(rule, target, name, shapes[name]), length), []).append(name)
        for (given, length), names in unfit.items():
            own = [given.model_copy(update={"match": match}) for match in _globs(names, left)]
            rules += own
            fallbacks += [Fallback(rule, one, length) for one in own]
        if sum(map(len, unfit.values())) < len(matched):
            rules.append(rule)
    if not fallbacks:
        return recipe, []
    quantize = recipe.quantize.model_copy(update={"rules": tuple(rules)})
    return recipe.model_copy(update={"quantize": quantize}), fallbacks


def _matches(quantize: QuantRecipe, shapes: Mapping[str, Shape]) -> Iterator[tuple[QuantRule, list[str], list[str]]]:
    """Each rule, the weights that it is the first to match, and all that no rule before it matches."""
    left = list(shapes)
    for rule in quantize.rules:
        matched = [name for name in left if fnmatch.fnmatchcase(name, rule.match)]
        yield rule, matched, left
        if matched:
            taken = set(matched)
            left = [name for name in left if name not in taken]


def _setting_problems(recipe: ExportRecipe, target: Target) -> list[str]:
    problems = []
    for setting in ("layout", "compute", "prefill_chunk"):
        value, field = getattr(recipe, setting), type(recipe).model_fields[setting]
        if setting not in target.settings and value != field.default:
            problems.append(f"{setting}: {value} would change nothing, {target.name} does not read it; leave it out")
    quantize, integers = recipe.quantize, [rule for rule in recipe.quantize.rules if rule.bits <= 8]
    if integers and quantize.activations not in target.activations:
        allowed = " or ".join(target.activations)
        problems.append(f"quantize.activations: {quantize.activations}, {target.name} takes {allowed}")
    if not integers:
        for key, value in (("activations", quantize.activations), ("rounding", quantize.rounding)):
            if value != QuantRecipe.model_fields[key].default:
                problems.append(f"quantize.{key}: {value} would change nothing, no rule gives a weight integers")
    if quantize.cache not in target.caches:
        problems.append(f"quantize.cache: {quantize.cache}, {target.name} takes {' or '.join(target.caches)}")
    prompts, usual = quantize.calibration_prompts, QuantRecipe.model_fields["calibration_prompts"].default
    if not quantize.reads_rollouts and prompts != usual:
        problems.append(f"quantize.calibration_prompts: {prompts} would change nothing, rounding to nearest reads none")
    if target.chunked and recipe.prefill_chunk >= recipe.context_length:
        problems.append(
            f"prefill_chunk: {recipe.prefill_chunk} leaves no room to answer in a context of {recipe.context_length}"
        )
    return problems


def _rule_problems(quantize: QuantRecipe, target: Target, shapes: Mapping[str, Shape]) -> list[str]:
    problems = []
    for index, (rule, matched, _) in enumerate(_matches(quantize, shapes)):
        if not matched:
            taken = any(fnmatch.fnmatchcase(name, rule.match) for name in shapes)
            why = "only weights that the rules before it match" if taken else "no weight of this model"
            problems.append(f"rules[{index}]: {rule.match} matches {why}")
        for name in matched:
            grids = _grids(target, name)
            if not _taken(rule, target, name, shapes[name]) and not any(grid.might_take(rule) for grid in grids):
                able = ", ".join(map(str, [*grids, "16 or 32 bits"]))
                problems.append(f"rules[{index}]: {_grid(rule)} for {name}, {target.name} takes {able}")
                break
    return problems


def _grids(target: Target, name: str) -> Sequence[Integers]:
    return target.tables if name == EMBEDDING else target.linears


def _length(rule: QuantRule, shape: Shape) -> int:
    """What the rule's groups divide: the inputs, a palette's the output channels."""
    return shape[0 if rule.palette else 1]


def _taken(rule: QuantRule, target: Target, name: str, shape: Shape) -> bool:
    return rule.bits > 8 or any(grid.takes(rule, _length(rule, shape)) for grid in _grids(target, name))


def _substitute(rule: QuantRule, target: Target, name: str, shape: Shape) -> QuantRule:
    """The rule (its match is of no account) that the weight ``name`` gets in place of ``rule``."""
    shorter = [size for size in GROUPS if size < rule.group_size] if not rule.palette else []
    tried = [QuantRule(match="*", bits=rule.bits, group_size=size) for size in shorter]
    tried += [target.fine_rule, *(QuantRule(match="*", bits=8, group_size=size) for size in (0, *GROUPS))]
    return next((one for one in tried if _taken(one, target, name, shape)), QuantRule(match="*", bits=16))


def _globs(names: Sequence[str], among: Sequence[str]) -> list[str]:
    """Globs that match ``names`` and nothing else ``among``: one for all layers where it can be, else the names."""
    globs = []
    for glob in dict.fromkeys(re.sub(r"\.\d+\.", ".*.", name) for name in names):
        covered = [name for name in among if fnmatch.fnmatchcase(name, glob)]
        globs += [glob] if set(covered) <= set(names) else [name for name in names if name in covered]
    return globs


def _grid(rule: QuantRule) -> str:
    if rule.palette:
        return f"{rule.bits} bits from palettes of {rule.group_size} channels"
    group = f" in groups of {rule.group_size}" if rule.group_size else ""
    return f"{rule.bits} bits{group}"
