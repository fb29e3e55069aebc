"""Trying recipes: what each keeps of the decisions, what it weighs, and which of them nothing beats."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgekit.errors import CheckFailed
from edgekit.export.recipe import ExportRecipe
from edgekit.policy.checkpoint import Policy
from edgekit.policy.model import PolicyModel
from edgekit.policy.reference import decode_batch
from edgekit.quantize.quantized import quantize_policy
from edgekit.quantize.recipe import QuantRule
from edgekit.quantize.sensitivity import Sensitivity, measure_sensitivity, spend, weight_groups, weight_mb
from edgekit.routing.decoder import Decision

Say = Callable[[str], None]
FINE_GROUPS = {"onnx": 32, "executorch": 0, "coreml": 0}
"""Inputs that share an 8-bit scale: XNNPACK knows whole channels only, MatMulNBits blocks only."""
SCALE_BYTES = {"onnx": 4, "executorch": 2, "coreml": 2}
BUDGETS = (0.1, 0.25, 0.5)
"""Mixed recipes spend these shares of what 8 bits for every layer would cost."""
BLUE, ORANGE = "#0072B2", "#E69F00"


@dataclass(frozen=True)
class Point:
    """A recipe tried. ``mb`` is counted, 10^6 bytes; agreements are with the float policy on ``n`` prompts.

    ``text_agreement``: share of prompts with the very same tokens. ``tokens_per_s``: decoding, measured on this
    host; None where the recipe was not lowered.
    """

    recipe: ExportRecipe
    mb: float
    n: int
    decision_agreement: float
    text_agreement: float
    call_fraction: float
    tokens_per_s: float | None = None
    on_frontier: bool = False

    def to_json(self) -> dict[str, Any]:
        """The point as JSON data, its recipe whole."""
        return {"name": self.recipe.name, **asdict(self), "recipe": self.recipe.model_dump(mode="json")}


def candidates(policy: Policy, plain: ExportRecipe, prompts: Sequence[str], say: Say) -> list[ExportRecipe]:
    """The recipes worth trying for ``plain``'s target; ``plain`` is its 4-bit recipe rounded to nearest.

    Nearest and GPTQ, each with the plain and an 8-bit head; GPTQ with some layers at 8 bits, chosen by measuring
    what they do on the policy's rollouts over ``prompts``; 8 bits everywhere.
    """
    fine = QuantRule(match="*", bits=8, group_size=FINE_GROUPS[plain.target])
    layers = next(r for r in plain.quantize.rules if r.bits == 4 and r.match in ("*", "model.layers.*"))
    layers = layers.model_copy(update={"match": "model.layers.*"})
    rules = {"int4": plain.quantize.rules, "int4_head8": (layers, fine)}
    found = [_recipe(plain, name, kept) for name, kept in rules.items()]
    found += [_recipe(plain, f"{name}_gptq", kept, rounding="gptq") for name, kept in rules.items()]
    say("measuring what each layer does to the marker's margin")
    sensitivities = measure_sensitivity(
        policy, weight_groups(policy.model, layers), fine, prompts, lambda done, of: say(f"layer group {done} of {of}")
    )
    found += [
        _recipe(plain, f"int4_mixed{round(100 * share)}", (*chosen, layers, fine), rounding="gptq")
        for share, chosen in mixed_rules(sensitivities)
    ]
    found.append(_recipe(plain, "int8", (fine,)))
    found.append(_recipe(plain, "int8_gptq", (fine,), rounding="gptq"))
    return found


def mixed_rules(found: Sequence[Sensitivity]) -> list[tuple[float, list[QuantRule]]]:
    """The finer rules for each of :data:`BUDGETS`, without repeats."""
    whole = sum(item.extra_mb for item in found)
    options = [(share, spend(found, share * whole)) for share in BUDGETS]
    return [(s, rules) for i, (s, rules) in enumerate(options) if rules and rules not in [o for _, o in options[:i]]]


def _recipe(plain: ExportRecipe, name: str, rules: Iterable[QuantRule], rounding: str = "nearest") -> ExportRecipe:
    quantize = plain.quantize.model_copy(update={"rules": tuple(rules), "rounding": rounding})
    update = {"name": f"{plain.target}_{name}", "description": f"Found by search: {name}.", "quantize": quantize}
    return plain.model_copy(update=update | {"precision": name.partition("_")[0]})


def artifact_mb(model: PolicyModel, recipe: ExportRecipe) -> float:
    """10^6 bytes of the artifact's numbers: integers, scales, floats that stay, rotary tables; no graph."""
    float_bytes = 2 if recipe.compute == "float16" else 4
    rest = (QuantRule(match="*", bits=32),)
    weights = weight_mb(model, (*recipe.quantize.rules, *rest), SCALE_BYTES[recipe.target], float_bytes=float_bytes)
    vectors = sum(parameter.numel() for parameter in model.parameters() if parameter.dim() == 1)
    length = min(recipe.context_length, model.config.max_position_embeddings)
    return weights + (vectors + length * model.config.head_dim) * float_bytes / 1e6


def evaluate(
    policy: Policy, recipes: Sequence[ExportRecipe], calibration: Sequence[str], prompts: Sequence[str], say: Say
) -> list[Point]:
    """Each recipe's quantized reference against ``policy`` on held-out ``prompts``, both greedy at the policy's bias.

    ``calibration``: training prompts; a recipe that rounds by gptq reads its first ``calibration_prompts``.
    """
    ids = [policy.encode(prompt) for prompt in prompts]
    before = decode_batch(policy, ids)
    points = []
    for recipe in recipes:
        say(f"trying {recipe.name}")
        twin = quantize_policy(policy, recipe.quantize, calibration[: recipe.quantize.calibration_prompts])
        points.append(_compare(recipe, artifact_mb(policy.model, recipe), before, decode_batch(twin, ids)))
    return mark_frontier(points)


def _compare(recipe: ExportRecipe, mb: float, before: Sequence[Decision], after: Sequence[Decision]) -> Point:
    pairs, n = list(zip(before, after, strict=True)), len(before)
    return Point(
        recipe,
        mb,
        n,
        decision_agreement=sum(a.called == b.called for a, b in pairs) / n,
        text_agreement=sum(a.token_ids == b.token_ids for a, b in pairs) / n,
        call_fraction=sum(b.called for b in after) / n,
    )


def mark_frontier(points: Sequence[Point]) -> list[Point]:
    """``points`` by size, with those marked that no other beats: none as small agrees more, none smaller as much."""
    ordered = sorted(points, key=lambda point: (point.mb, -_worth(point)[0], -_worth(point)[1]))
    best: tuple[float, float] = (-1.0, -1.0)
    marked = []
    for point in ordered:
        marked.append(replace(point, on_frontier=_worth(point) > best))
        best = max(best, _worth(point))
    return marked


def _worth(point: Point) -> tuple[float, float]:
    return point.decision_agreement, point.text_agreement


def choose(points: Sequence[Point], max_mb: float | None, min_tokens_per_s: float | None) -> Point:
    """The point of the frontier that keeps the most decisions within the budget, the smaller of equals.

    Raises :class:`CheckFailed` if none fits.
    """
    fitting = [
        point
        for point in points
        if point.on_frontier
        and (max_mb is None or point.mb <= max_mb)
        and (min_tokens_per_s is None or (point.tokens_per_s or 0.0) >= min_tokens_per_s)
    ]
    if not fitting:
        smallest = min(points, key=lambda point: point.mb)
        raise CheckFailed(
            f"no recipe fits the budget: {max_mb} MB, {min_tokens_per_s} tokens a second. The smallest has "
            f"{smallest.mb:.1f} MB. Ask for less."
        )
    return max(fitting, key=lambda point: (*_worth(point), -point.mb))


def draw_frontier(points: Sequence[Point], target: str) -> bytes:
    """A PNG: decision agreement against megabytes, the frontier joined, each point named."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.subplots()
    best = [point for point in points if point.on_frontier]
    rest = [point for point in points if not point.on_frontier]
    for group, style, colour, label in ((best, "o-", BLUE, "the frontier"), (rest, "s", ORANGE, "beaten")):
        xs, ys = [point.mb for point in group], [100 * point.decision_agreement for point in group]
        axes.plot(xs, ys, style, color=colour, label=label, ms=7)
        for point, x, y in zip(group, xs, ys, strict=True):
            speed = f", {point.tokens_per_s:.0f} tokens/s" if point.tokens_per_s else ""
            name = point.recipe.name.removeprefix(f"{target}_")
            axes.annotate(f"{name}{speed}", (x, y), xytext=(5, -11), textcoords="offset points", fontsize=7)
    axes.set(xlabel="artifact, MB", ylabel="same decision as the float policy, %")
    axes.set_title(f"{target}, {points[0].n} held-out prompts", fontsize=10)
    axes.legend(fontsize=8, loc="lower right")
    axes.margins(x=0.18, y=0.12)  # room for the names
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=140)
    return buffer.getvalue()
