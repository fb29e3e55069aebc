"""Export: check the whole plan, quantize once, record the decisions, lower, pack."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import compress
from pathlib import Path

from edgekit.atomic_write import new_directory
from edgekit.bundle.conformance import CONFORMANCE_VERSION, ConformanceCase, RecordedResponse
from edgekit.bundle.manifest import MANIFEST, FallbackFacts, ModelFacts, RuntimeFacts
from edgekit.bundle.pack import BundleFacts, pack
from edgekit.export.plan import plan_export
from edgekit.export.targets import get_lowering
from edgekit.policy.checkpoint import Policy, load_policy
from edgekit.policy.folder import policy_folder
from edgekit.policy.reference import decode_batch
from edgekit.policy.weights import find_weights
from edgekit.progress import Say
from edgekit.quantize.integers import forget_floats
from edgekit.quantize.quantized import quantize_policy
from edgekit.recipes.export_recipe import ExportRecipe
from edgekit.recipes.fit import Fallback
from edgekit.recipes.targets import get_target
from edgekit.routing.decision_rule import SOLO
from edgekit.routing.decode_loop import has_room
from edgekit.routing.decoder import Decision
from edgekit.version import __version__

Fit = Callable[[Policy], float]
"""A quantized policy -> the marker bias under which it calls as often as the reference."""
FitBias = Callable[[Policy], Fit]
"""The reference decides what it must, and is needed no more."""


def export(
    source: Path,
    recipe: ExportRecipe,
    out: Path,
    *,
    prompts: Sequence[str],
    answers: Sequence[tuple[str, str] | None] = (),
    task: str = "",
    origin: Mapping[str, str] | None = None,
    calibration_prompts: Sequence[str] = (),
    fit_bias: FitBias | None = None,
    on_stage: Say | None = None,
    on_fallbacks: Callable[[Sequence[Fallback]], None] | None = None,
) -> Path:
    """Export a run (or a policy folder) as a bundle at ``out``; returns ``out``.

    ``prompts`` become the conformance cases, those too long for the recipe's context left out, with the rule and the
    reference answer of each in ``answers``, if any; ``task`` names where they come from, ``origin`` says more of where
    the bundle comes from. A recipe that rounds by gptq reads ``calibration_prompts``. ``fit_bias`` gives a quantized
    artifact a marker bias of its own; without it the bundle has the policy's. ``on_stage`` hears what begins;
    ``on_fallbacks``, before that, which weights get other numbers than the recipe asks for, if any do. All that the
    reference decides it decides first, so that its floats and its twin's are not in memory together.
    Raises before any work: :class:`ConfigError` if the recipe does not fit the model (every reason),
    :class:`BackendMissing` if this host cannot lower to the target, EdgekitError if ``out`` is taken.
    """
    say = on_stage or (lambda _: None)
    folder = policy_folder(source)
    policy = load_policy(folder)
    recipe, fallbacks = plan_export(policy.model, recipe)
    if fallbacks and on_fallbacks is not None:
        on_fallbacks(fallbacks)
    with new_directory(out, marker_file=MANIFEST) as temporary:
        say("recording decisions")
        room = [has_room(len(policy.encode(prompt)), recipe.context_length) for prompt in prompts]
        prompts, answers = list(compress(prompts, room)), list(compress(answers or [None] * len(prompts), room))
        facts = bundle_facts(policy, recipe, fallbacks, folder, {"task": task, **(origin or {})})
        before, bias = _respond(policy, prompts, recipe.context_length), policy.routing.marker_bias
        fit = fit_bias(policy) if fit_bias is not None and recipe.quantize.rules else None
        say("quantizing")
        quantized = quantize_policy(
            policy, recipe.quantize, calibration_prompts, lambda done, of, *_: say(f"quantizing: layer {done} of {of}")
        )
        del policy  # its floats, as large as all that follows, are needed no more
        if fit is not None:
            say("fitting the marker bias")
            quantized.routing = quantized.routing.model_copy(update={"marker_bias": fit(quantized)})
        say("recording the quantized decisions")
        cases = conformance_cases(quantized, prompts, answers, before, bias, recipe.context_length)
        forget_floats(quantized.model)
        say(f"lowering to {recipe.target}")
        stops = quantized.routing.stop_token_ids
        lowering = get_lowering(recipe.target)
        artifact = lowering.lower(quantized.model, recipe, temporary, stop_token_ids=stops, say=say)
        say("packing")
        oldest = lowering.oldest_runtime(quantized.model, recipe)
        runtime = RuntimeFacts(**get_target(recipe.target).runtime.facts(), oldest=oldest)
        pack(temporary, artifact.name, facts, runtime, policy_folder=folder, routing=quantized.routing, cases=cases)
    return out


def _respond(policy: Policy, prompts: Sequence[str], context_length: int) -> list[Decision]:
    """Each prompt's response with the marker forbidden, from which the decision at any bias follows."""
    ids = [policy.encode(prompt) for prompt in prompts]
    return decode_batch(policy, ids, marker_bias=SOLO, context_length=context_length) if ids else []


def conformance_cases(
    quantized: Policy,
    prompts: Sequence[str],
    answers: Sequence[tuple[str, str] | None],
    before: Sequence[Decision],
    reference_bias: float,
    context_length: int,
) -> list[ConformanceCase]:
    """Each prompt with its rule and reference answer, the reference's response ``before`` and its quantized twin's."""
    after = _respond(quantized, prompts, context_length)
    return [
        ConformanceCase(
            version=CONFORMANCE_VERSION,
            id=f"case-{number:04d}",
            prompt=prompt,
            prompt_token_ids=tuple(quantized.encode(prompt)),
            reference_bias=reference_bias,
            marker_bias=quantized.routing.marker_bias,
            grading_rule=graded[0] if graded else None,
            reference_answer=graded[1] if graded else None,
            reference=RecordedResponse.of(reference),
            quantized_reference=RecordedResponse.of(twin),
        )
        for number, (prompt, graded, reference, twin) in enumerate(zip(prompts, answers, before, after, strict=True))
    ]


def bundle_facts(
    policy: Policy, recipe: ExportRecipe, fallbacks: Sequence[Fallback], folder: Path, origin: Mapping[str, str]
) -> BundleFacts:
    """What the manifest says of this export; ``policy_sha256`` pins the weights it was made from."""
    config = policy.model.config
    return BundleFacts(
        target=recipe.target,
        precision=recipe.precision,
        recipe=recipe.model_dump(mode="json"),
        fallbacks=[FallbackFacts.model_validate(fallback.to_json()) for fallback in fallbacks],
        model=ModelFacts(
            vocab_size=config.vocab_size,
            layers=config.num_hidden_layers,
            hidden_size=config.hidden_size,
            parameters=sum(parameter.numel() for parameter in policy.model.parameters()),
            context_length=recipe.context_length,
            prefill_chunk=recipe.prefill_chunk,
            intermediate_size=config.intermediate_size,
            attention_heads=config.num_attention_heads,
            key_value_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            tied_embeddings=config.tie_word_embeddings,
        ),
        provenance={"edgekit": __version__, **origin, "policy_sha256": find_weights(folder).digest()},
    )
