"""edgekit bench: what it measures here, what it predicts for here, and what it estimates for elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from edgekit.bundle.load import open_bundle
from edgekit.cli.app import app
from edgekit.errors import CheckFailed, EdgekitError
from edgekit.export.pipeline import export
from edgekit.policy.checkpoint import load_policy, save_policy
from edgekit.policy.model import ModelConfig, PolicyModel
from edgekit.recipes.lookup import find_recipe
from edgekit.simulate import host, turns
from edgekit.simulate.host import check_host, memory_bandwidth, predict_step, probe_depths
from edgekit.simulate.measure import measure, sizes
from edgekit.simulate.turns import forget_peak_rss, peak_rss
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


WORK = Workload(
    layers=10, artifact_bytes=1100, weight_bytes=1100, head_bytes=100, cache_bytes=0, layer_operations=0,
    head_operations=0, attention_operations=0, arithmetic="int8", context_length=64, chunk=64, repacked=False,
)  # fmt: skip


def test_a_layer_costs_what_the_probes_say_but_never_less_than_reading_it() -> None:
    probes = {2: 5.0, 4: 7.0}  # one second a layer, three besides
    assert predict_step(WORK, probes, bandwidth=1000.0) == (13.0, 1.0, 3.0)
    assert predict_step(WORK, probes, bandwidth=50.0) == (23.0, 2.0, 3.0)  # a layer's 100 bytes take two seconds


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
    assert "upper bounds" in every["caveat"]
    assert numbers["caveat"] == every["caveat"]
    assert "caveat: " in shown


class Clock:
    """Stands in for the host's: only what runs moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    process_time = perf_counter


class Layers:
    """A model whose step takes 3 seconds and one more for each layer, or as long as reading a layer takes."""

    def __init__(self, clock: Clock, layers: int, layer_s: float) -> None:
        self.clock, self.step_s = clock, 3.0 + layers * layer_s

    def reset(self) -> None:
        return

    def prefill(self, tokens: list[int]) -> None:
        self.clock.now += 100.0

    def decode(self, token: int) -> None:
        self.clock.now += self.step_s


@pytest.mark.parametrize(("bandwidth", "layer_s"), [(1000.0, 1.0), (50.0, 2.0)])
def test_a_host_s_speed_is_predicted_from_a_quarter_and_half_of_the_layers(
    monkeypatch: pytest.MonkeyPatch, bandwidth: float, layer_s: float
) -> None:
    """Exactly, where a step is what the formula says: bound by arithmetic, or by memory that the probes do not fill."""
    clock = Clock()
    monkeypatch.setattr(turns, "time", clock)
    monkeypatch.setattr(host, "memory_bandwidth", lambda *_: bandwidth)
    probes = {depth: [Layers(clock, depth, 1.0)] * 2 for depth in probe_depths(10)}
    check = check_host(WORK, Layers(clock, 10, layer_s), probes, [1, 2, 3], steps=20)
    assert check.predicted_over_measured == pytest.approx(1)
    assert check.holds
    assert check.memory_bound == (layer_s == 2.0)
    slower = check_host(WORK, Layers(clock, 14, layer_s), probes, [1, 2, 3], steps=20)
    assert not slower.holds


@pytest.mark.slow
def test_bench_predicts_this_host_and_says_so_where_it_is_off(tiny_policy_folder: Path, tmp_path: Path) -> None:
    """Whether it is off depends on who else uses the machine: `make bench` holds it to a quarter, not this test."""
    policy = load_policy(tiny_policy_folder)
    policy.model = PolicyModel(ModelConfig(policy.model.config.vocab_size, 256, 512, 4, 4, 4, 64, 256))
    save_policy(policy, tmp_path / "policy")
    export(tmp_path / "policy", find_recipe("onnx_int4", "onnx"), tmp_path / "bundle", prompts=["1 2 -> 3"])
    done = CliRunner().invoke(app, ["bench", str(tmp_path / "bundle"), "--device", "host", "--json"])
    check = json.loads(done.stdout)
    ratio = check["predicted_tokens_per_s"] / check["measured_tokens_per_s"]
    assert check["predicted_over_measured"] == pytest.approx(ratio)
    assert 0 < check["median_tokens_per_s"] <= check["measured_tokens_per_s"]
    assert (type(done.exception) is CheckFailed) == (abs(ratio - 1) > 0.25), done.output
