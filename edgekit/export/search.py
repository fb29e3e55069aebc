"""Trying recipes: which are worth trying for a policy, and what each keeps of its decisions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from edgekit.export.frontier import Point, mark_frontier
from edgekit.policy.checkpoint import Policy
from edgekit.policy.model import PolicyModel
from edgekit.policy.reference import decode_batch
from edgekit.progress import Progress, Say
from edgekit.quantize.quantized import quantize_model, weight_shapes
from edgekit.quantize.rollouts import record_rollouts
from edgekit.quantize.sensitivity import Sensitivity, spend
from edgekit.recipes.export_recipe import ExportRecipe
from edgekit.recipes.fit import fit_recipe
from edgekit.recipes.quant_recipe import QuantRecipe, QuantRule
from edgekit.recipes.targets import get_target
from edgekit.recipes.weights import all_bytes
from edgekit.routing.decoder import Decision

Keep = Callable[[ExportRecipe, PolicyModel], None]
BUDGETS = (0.1, 0.25, 0.5)
"""Mixed recipes spend these shares of what 8 bits for every weight would cost."""


def candidates(model: PolicyModel, plain: ExportRecipe, found: Sequence[Sensitivity]) -> list[ExportRecipe]:
    """The recipes worth trying around ``plain``, a target's 4-bit recipe rounded to nearest; smallest first.

    Nearest and GPTQ; GPTQ with an 8-bit head and embedding; GPTQ with 8 bits for the groups that ``found`` says are
    worth them, at several budgets; 8 bits everywhere, nearest and GPTQ.
    """
    own, fine = plain.quantize.rules, get_target(plain.target).fine_rule
    tables = [rule for item in found if not item.group.name.startswith("layer ") for rule in item.group.finer]
    whole = sum(item.extra_mb for item in found)
    tried: list[tuple[str, Iterable[QuantRule], str]] = [
        ("int4", own, "nearest"),
        ("int4_gptq", own, "gptq"),
        ("int4_head8_gptq", (*tables, *own), "gptq"),
        *((f"int4_mixed{round(100 * s)}_gptq", (*spend(found, s * whole), *own), "gptq") for s in BUDGETS),
        ("int8", (fine,), "nearest"),
        ("int8_gptq", (fine,), "gptq"),
    ]
    recipes: list[ExportRecipe] = []
    for name, rules, rounding in tried:
        recipe = _recipe(model, plain, name, rules, rounding)
        if recipe.quantize not in [other.quantize for other in recipes]:
            recipes.append(recipe)
    return sorted(recipes, key=lambda recipe: artifact_mb(model, recipe))


def _recipe(
    model: PolicyModel, plain: ExportRecipe, name: str, rules: Iterable[QuantRule], rounding: str
) -> ExportRecipe:
    """``plain`` with ``rules``, less those that the ones before them leave nothing, fitted to ``model``."""
    whole, shapes = QuantRecipe(rules=tuple(rules)), weight_shapes(model)
    used = {id(whole.rule_for(weight)) for weight in shapes}
    kept = tuple(rule for rule in whole.rules if id(rule) in used)
    quantize = plain.quantize.model_copy(update={"rules": kept, "rounding": rounding})
    if not quantize.reads_rollouts:
        quantize = quantize.model_copy(update={"calibration_prompts": QuantRecipe().calibration_prompts})
    update = {"name": f"{plain.target}_{name}", "description": f"Found by search: {name}.", "quantize": quantize}
    recipe, _ = fit_recipe(plain.model_copy(update=update | {"precision": name.partition("_")[0]}), shapes)
    return recipe


def artifact_mb(model: PolicyModel, recipe: ExportRecipe) -> float:
    """10^6 bytes of the artifact's numbers: integers, scales, floats that stay, rotary tables; no graph."""
    weights = all_bytes(weight_shapes(model), recipe, model.config.tie_word_embeddings)
    vectors = sum(parameter.numel() for parameter in model.parameters() if parameter.dim() == 1)
    length = min(recipe.context_length, model.config.context_length)
    return (weights + (vectors + length * model.config.head_dim) * recipe.float_bytes) / 1e6


def compare_recipes(
    policy: Policy,
    recipes: Sequence[ExportRecipe],
    calibration: Sequence[str],
    prompts: Sequence[str],
    say: Say,
    keep: Keep | None = None,
) -> list[Point]:
    """Each recipe's quantized reference against ``policy`` on held-out ``prompts``, both greedy at the policy's bias.

    ``recipes`` come smallest first. ``calibration``: training prompts; those that read rollouts take the first
    ``calibration_prompts``. ``keep`` is given each quantized model that nothing before it beats.
    """
    ids = [policy.encode(prompt) for prompt in prompts]
    say(f"the policy's own decisions on {len(prompts)} held-out prompts")
    before = decode_batch(policy, ids)
    sizes = {recipe.quantize.calibration_prompts for recipe in recipes if recipe.quantize.reads_rollouts}
    rollouts = {size: record_rollouts(policy, calibration[:size]) for size in sizes}
    points: list[Point] = []
    for number, recipe in enumerate(recipes, start=1):
        trying = f"trying {recipe.name}, {number} of {len(recipes)}"
        read = rollouts[recipe.quantize.calibration_prompts] if recipe.quantize.reads_rollouts else ()
        twin = replace(policy, model=quantize_model(policy.model, recipe.quantize, read, _layers(say, trying)))
        say(f"{trying}: its decisions")
        after = decode_batch(twin, ids)
        points = mark_frontier([*points, _compare(recipe, artifact_mb(policy.model, recipe), before, after)])
        if keep is not None and any(point.recipe is recipe and point.on_frontier for point in points):
            say(f"{trying}: lowering it")
            keep(recipe, twin.model)
    return points


def _layers(say: Say, trying: str) -> Progress:
    say(trying)
    return lambda done, of, *_: say(f"{trying}: layer {done} of {of}")


def _compare(recipe: ExportRecipe, mb: float, before: Sequence[Decision], after: Sequence[Decision]) -> Point:
    pairs, n = list(zip(before, after, strict=True)), len(before)
    called = _digits(b.called for b in after)
    same_decision = _digits(a.called == b.called for a, b in pairs)
    same_text = _digits(a.token_ids == b.token_ids for a, b in pairs)
    return Point(
        recipe,
        mb,
        n,
        decision_agreement=same_decision.count("1") / n,
        text_agreement=same_text.count("1") / n,
        call_fraction=called.count("1") / n,
        called=called,
        same_decision=same_decision,
        same_text=same_text,
    )


def _digits(each: Iterable[bool]) -> str:
    """A digit for each, 1 for true."""
    return "".join("1" if one else "0" for one in each)
