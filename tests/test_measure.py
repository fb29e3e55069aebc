"""edgekit bench: what it measures here, what it predicts for here, and what it estimates for elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from edgekit.bundle.load import open_bundle
from edgekit.cli.app import app
from edgekit.errors import EdgekitError
from edgekit.export.lookup import find_recipe
from edgekit.export.pipeline import export
from edgekit.policy.checkpoint import load_policy, save_policy
from edgekit.policy.model import ModelConfig, PolicyModel
from edgekit.simulate.host import memory_bandwidth, predict_step, probe_depths
from edgekit.simulate.measure import forget_peak_rss, measure, peak_rss, sizes
from edgekit.simulate.workload import Workload

CONTRACT = {"prefill_tokens_per_s", "decode_tokens_per_s", "load_s", "peak_rss_mb", "artifact_mb", "context_length"}


def test_the_prompt_is_128_tokens_or_half_a_shorter_context() -> None:
    assert sizes(1024) == (128, 64)
    assert sizes(64) == (32, 31)
    assert sizes(1024, 1000) == (1000, 23)
    with pytest.raises(EdgekitError, match="needs room"):
        sizes(64, 63)


def test_measuring_gives_the_contract_s_keys_with_plausible_values(tiny_bundle_folder: Path) -> None:
    numbers = measure(open_bundle(tiny_bundle_folder), repeats=2)
    assert set(numbers) >= CONTRACT
    assert numbers["artifact_mb"] == pytest.approx((tiny_bundle_folder / "model.onnx").stat().st_size / 1e6)
    assert numbers["prompt_tokens"] == 32
    assert 0 < numbers["rss_before_mb"] <= numbers["peak_rss_mb"] < 20_000


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux forgets a peak")
def test_the_peak_of_earlier_work_is_forgotten() -> None:
    block = torch.ones(60_000_000)  # 240 MB
    del block
    before = forget_peak_rss()
    assert peak_rss() - before < 100e6


def test_a_layer_costs_what_the_probes_say_but_never_less_than_reading_it() -> None:
    work = Workload(
        layers=10, artifact_bytes=1100, weight_bytes=1100, head_bytes=100, cache_bytes=0, layer_operations=0,
        head_operations=0, attention_operations=0, arithmetic="int8", context_length=64, chunk=64, repacked=False,
    )  # fmt: skip
    probes = {2: 5.0, 4: 7.0}  # one second a layer, three besides
    assert predict_step(work, probes, bandwidth=1000.0) == (13.0, 1.0, 3.0)
    assert predict_step(work, probes, bandwidth=50.0) == (23.0, 2.0, 3.0)  # a layer's 100 bytes take two seconds


def test_a_model_too_shallow_for_probes_is_refused() -> None:
    assert probe_depths(30) == (7, 15)
    assert probe_depths(4) == (1, 2)
    with pytest.raises(EdgekitError, match="nothing to predict: 3 layers"):
        probe_depths(3)


def test_memory_bandwidth_is_that_of_a_memory() -> None:
    assert 1e8 < memory_bandwidth(20_000_000, threads=1) < 1e12


def test_bench_labels_an_estimate_as_one_and_gives_its_sources(tiny_bundle_folder: Path) -> None:
    bundle = str(tiny_bundle_folder)
    done = CliRunner().invoke(app, ["bench", bundle, "--device", "pixel-9", "--json"])
    numbers = json.loads(done.stdout)
    assert numbers["estimate"] is True
    assert numbers["fits"] is True
    assert numbers["facts"]["sources"]
    assert numbers["assumptions"]["why"]
    shown = CliRunner().invoke(app, ["bench", bundle, "--device", "pixel-9"]).stdout
    assert "ESTIMATE, not a measurement" in shown
    assert "https://" in shown
    assert "assumed:" in shown
    every = json.loads(CliRunner().invoke(app, ["bench", bundle, "--device", "list", "--json"]).stdout)
    assert {"pixel-9", "galaxy-s24", "iphone-15"} <= {row["device"] for row in every["devices"]}


@pytest.mark.slow
def test_this_host_s_decode_speed_is_predicted_within_a_quarter(tiny_policy_folder: Path, tmp_path: Path) -> None:
    """From models of a quarter and half its layers and the memory's bandwidth; 85 million parameters."""
    policy = load_policy(tiny_policy_folder)
    policy.model = PolicyModel(
        ModelConfig(policy.model.config.vocab_size, 768, 2048, 12, 12, 4, 64, 512)
    ).requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for parameter in policy.model.parameters():
        if parameter.dim() == 2:
            parameter.normal_(0.0, 0.02, generator=generator)
    save_policy(policy, tmp_path / "policy")
    export(tmp_path / "policy", find_recipe("onnx_int4", "onnx"), tmp_path / "bundle", prompts=["1 2 -> 3"])
    command = ["bench", str(tmp_path / "bundle"), "--device", "host", "--repeats", "15", "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    check = json.loads(done.stdout)
    busy = check["median_tokens_per_s"] < 0.5 * check["measured_tokens_per_s"]
    if busy and abs(check["predicted_over_measured"] - 1) > 0.25:
        pytest.skip(f"other processes took the cores from half of the steps: {check}")
    assert check["predicted_over_measured"] == pytest.approx(1, abs=0.25), check
