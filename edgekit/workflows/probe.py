"""Checking on this host how phones are estimated: by probes, random models with an artifact's layer shapes."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from edgekit.atomic_write import scratch_directory
from edgekit.bundle.load import Bundle
from edgekit.bundle.manifest import Manifest
from edgekit.errors import CheckFailed, EdgekitError
from edgekit.export.plan import require_lowering
from edgekit.export.targets import get_lowering
from edgekit.policy.model import ModelConfig, PolicyModel
from edgekit.progress import Progress
from edgekit.quantize.cache import calibrate_caches
from edgekit.quantize.quantized import quantize_model
from edgekit.simulate.host import TOLERANCE, HostCheck, check_host, probe_depths
from edgekit.simulate.measure import sizes
from edgekit.simulate.process import ProcessModel, SimulatorProcess
from edgekit.simulate.workload import count_workload, decoder_sizes

FEWEST_ROUNDS = 5
"""Of a check whose medians can be believed."""
TOGETHER = 4
"""Times the artifact's size that it and the copies of its two probes take at most."""


def check_estimates(
    bundle: Bundle,
    *,
    rounds: int = FEWEST_ROUNDS,
    prompt_tokens: int | None = None,
    on_progress: Progress | None = None,
) -> HostCheck:
    """Predict the artifact's speed on this host as a phone's is, from smaller models, and measure it beside.

    Raises :class:`BackendMissing` if this host cannot lower to the target, :class:`EdgekitError` for fewer than
    :data:`FEWEST_ROUNDS` rounds.
    """
    if rounds < FEWEST_ROUNDS:
        raise EdgekitError(f"too few repeats: {rounds}. A check needs {FEWEST_ROUNDS}. Give more, or leave them out.")
    report = on_progress or (lambda *_: None)
    manifest, facts = bundle.manifest, bundle.manifest.model
    work = count_workload(manifest)
    tokens, steps = sizes(facts.context_length, prompt_tokens)
    with scratch_directory() as folder:
        probes = {}
        depths = probe_depths(facts.layers)
        for number, depth in enumerate(depths):
            report(number, len(depths), f"making a probe of {depth} of {facts.layers} layers")
            probes[depth] = make_probe(manifest, depth, folder / str(depth))
        process = SimulatorProcess(bundle.artifact, TOGETHER * manifest.artifact_bytes)
        models = {depth: open_copies(process, manifest, depth, path) for depth, path in probes.items()}
        model = process.open(manifest.target, bundle.artifact, facts.context_length, facts.prefill_chunk)
        prompt = [index % facts.vocab_size for index in range(tokens)]
        return check_host(work, model, models, prompt, steps, rounds, on_progress, process.take_turns)


def require_close(check: HostCheck) -> None:
    """Raise :class:`CheckFailed` if prediction and measurement lie further apart than estimates may."""
    if not check.holds:
        raise CheckFailed(
            f"predicted {check.predicted_tokens_per_s:,.0f} tokens/s, measured {check.measured_tokens_per_s:,.0f}: "
            f"more than {TOLERANCE:.0%} apart. Run it again on an idle machine, with more --repeats."
        )


def make_probe(manifest: Manifest, layers: int, folder: Path) -> Path:
    """Make a probe of ``layers`` layers for the artifact of ``manifest`` in ``folder``; returns its artifact.

    Raises :class:`BackendMissing` if this host cannot lower to the target.
    """
    require_lowering(manifest.target)
    facts, recipe = manifest.model, manifest.export_recipe()
    sizes = decoder_sizes(facts)
    config = ModelConfig(
        vocab_size=sizes.vocab_size,
        hidden_size=sizes.hidden_size,
        intermediate_size=sizes.intermediate_size,
        num_hidden_layers=layers,
        num_attention_heads=sizes.attention_heads,
        num_key_value_heads=sizes.key_value_heads,
        head_dim=sizes.head_dim,
        max_position_embeddings=facts.context_length,
        tie_word_embeddings=bool(facts.tied_embeddings),
    )
    model = PolicyModel(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.normal_(0.0, 0.02, generator=generator)
    nearest = recipe.quantize.model_copy(update={"rounding": "nearest", "cache": "float"})
    quantized = quantize_model(model, nearest)
    if recipe.quantize.cache == "int8":  # whatever its scales, it costs the same at run time
        one = torch.zeros(1, 1, dtype=torch.int64)
        calibrate_caches(quantized, [(one, one == 0)])
    folder.mkdir(parents=True, exist_ok=True)
    return get_lowering(manifest.target).lower(quantized, recipe, folder)


def open_copies(process: SimulatorProcess, manifest: Manifest, layers: int, path: Path) -> list[ProcessModel]:
    """The probe of ``layers`` layers at ``path``, loaded until it is as large as the artifact of ``manifest``."""
    facts, copies = manifest.model, math.ceil(manifest.model.layers / layers)
    return [
        process.open(manifest.target, path, facts.context_length, facts.prefill_chunk, facts.vocab_size)
        for _ in range(copies)
    ]
