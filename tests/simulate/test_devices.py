"""Device estimates: counted work, the roofline's sums, and published phone measurements it must come near."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.bundle.manifest import BUNDLE_FORMAT, BUNDLE_VERSION, FileEntry, Manifest, ModelFacts, RuntimeFacts
from edgekit.errors import EdgekitError
from edgekit.simulate.devices import assumptions, caveat, device_names, estimate, get_device
from edgekit.simulate.workload import Workload, count_workload

INT4 = [
    {"match": "model.layers.*", "bits": 4, "group_size": 32},
    {"match": "lm_head", "bits": 8, "group_size": 0},
    {"match": "model.embed_tokens", "bits": 8, "group_size": 0},
]


def manifest(
    size: int, facts: dict[str, int | bool], rules: list[dict[str, object]], target: str = "executorch"
) -> Manifest:
    model = {"parameters": 1, "context_length": 2048, "prefill_chunk": 16, "tied_embeddings": True, **facts}
    return Manifest(
        format=BUNDLE_FORMAT,
        version=BUNDLE_VERSION,
        target=target,
        artifact="model.pte",
        precision="int4",
        recipe={
            "name": "test",
            "description": "",
            "target": target,
            "precision": "int4",
            "quantize": {"rules": rules, "activations": "int8"},
        },
        model=ModelFacts.model_validate(model),
        runtime=RuntimeFacts(name="x", version="1"),
        files={"model.pte": FileEntry(sha256="0" * 64, size=size), "other.json": FileEntry(sha256="0" * 64, size=9)},
        provenance={},
    )


def llama(layers: int, hidden: int, inner: int, heads: int, kv_heads: int, dim: int) -> dict[str, int]:
    return {
        "vocab_size": 128_256, "layers": layers, "hidden_size": hidden, "intermediate_size": inner,
        "attention_heads": heads, "key_value_heads": kv_heads, "head_dim": dim,
    }  # fmt: skip


LLAMA_1B = llama(16, 2048, 8192, 32, 8, 64)
LLAMA_3B = llama(28, 3072, 8192, 24, 8, 128)
LLAMA_8B = llama(32, 4096, 14336, 32, 8, 128)
INT4_ALL = [{"match": "*", "bits": 4, "group_size": 128}]


def test_a_small_model_s_work_is_what_a_person_counts() -> None:
    facts = {
        "vocab_size": 100, "layers": 2, "hidden_size": 64, "intermediate_size": 128,
        "attention_heads": 4, "key_value_heads": 2, "head_dim": 16,
    }  # fmt: skip
    weights = 2 * (64 * 64 * 2 + 32 * 64 * 2 + 3 * 128 * 64)  # q and o, k and v, the MLP; two layers
    blocks = weights // 2 + weights // 32 * 2
    table = 100 * 64 + 100 * 2  # integers and scales
    work = count_workload(manifest(blocks + 2 * table, facts, INT4))
    assert work.layer_operations == 2 * weights
    assert work.weight_bytes == blocks + table  # the embedding, stored apart from the head, is read one row a step
    assert work.artifact_bytes == blocks + 2 * table
    assert work.head_operations == 2 * 6400
    assert work.cache_bytes == 2 * 2 * 2 * 16 * 4
    assert work.attention_operations == 2 * 4 * 4 * 16
    once = count_workload(manifest(blocks + 6400, facts, INT4_ALL, target="coreml"))
    assert once.weight_bytes == blocks + 6400  # one table is both head and embedding
    assert once.cache_bytes == work.cache_bytes // 2  # of float16 states
    floats = manifest(blocks + 2 * table, facts, INT4, target="onnx")
    quantize = {**floats.recipe["quantize"], "cache": "int8"}
    integers = floats.model_copy(update={"recipe": {**floats.recipe, "quantize": quantize}})
    assert count_workload(integers).cache_bytes == count_workload(floats).cache_bytes // 4


def test_a_manifest_without_layer_sizes_is_refused_with_the_way_out() -> None:
    with pytest.raises(EdgekitError, match="Export it again"):
        count_workload(manifest(1, {"vocab_size": 9, "layers": 1, "hidden_size": 8}, INT4))


@pytest.mark.parametrize(
    ("device", "facts", "rules", "megabytes", "decode", "prefill"),
    [
        ("oneplus-12", LLAMA_1B, INT4, 1083 * 1.048576, 50.2, 260.5),  # the shares were fitted to this one
        ("oneplus-12", LLAMA_3B, INT4, 2435 * 1.048576, 19.7, 89.7),
        ("galaxy-s24", LLAMA_8B, INT4_ALL, 4141, 10.91, None),
        ("galaxy-s22", LLAMA_8B, INT4_ALL, 4141, 7.85, None),
    ],
    ids=["1B OnePlus 12", "3B OnePlus 12", "8B S24", "8B S22"],
)
def test_published_phone_measurements_come_out_within_a_quarter(
    device: str, facts: dict[str, int], rules: list[dict[str, object]], megabytes: float, decode: float, prefill: float
) -> None:
    """ExecuTorch's README: prompt of 64 tokens, XNNPACK, CPU only."""
    tied = facts is not LLAMA_8B
    work = count_workload(manifest(int(megabytes * 1e6), facts | {"tied_embeddings": tied}, rules))
    result = estimate(work, get_device(device), prompt_tokens=64)
    assert result.decode_tokens_per_s == pytest.approx(decode, rel=0.25)
    if prefill is not None:
        assert result.prefill_tokens_per_s == pytest.approx(prefill, rel=0.25)


def test_an_8b_model_does_not_fit_a_phone_with_6_gb() -> None:
    work = count_workload(manifest(4_141_000_000, LLAMA_8B | {"tied_embeddings": False}, INT4_ALL))
    assert not estimate(work, get_device("iphone-15")).fits
    assert estimate(work, get_device("oneplus-12")).memory_mb > 4_141


WORK = Workload(
    layers=10, artifact_bytes=10**9, weight_bytes=10**9, head_bytes=0, cache_bytes=1000,
    layer_operations=10**9, head_operations=10**8, attention_operations=1000, arithmetic="int8", context_length=1024,
    chunk=1024, repacked=False,
)  # fmt: skip


def test_only_artifacts_far_smaller_than_any_measured_carry_a_caveat() -> None:
    assert caveat(WORK) is None
    said = caveat(replace(WORK, artifact_bytes=400_000))
    assert said is not None
    assert said.startswith("0.4 MB is far below")


def test_each_bound_is_named_and_moves_the_estimate() -> None:
    phone = get_device("pixel-9")
    base = estimate(WORK, phone)
    assert base.decode_bound == "memory"
    faster = estimate(WORK, replace(phone, bandwidth_gb_s=2 * phone.bandwidth_gb_s))
    assert 1.8 < faster.decode_tokens_per_s / base.decode_tokens_per_s < 2
    slow_cores = estimate(WORK, replace(phone, int8_gops=1))
    assert slow_cores.decode_bound == "arithmetic"
    slow_calls = estimate(WORK, phone, assume=replace(assumptions(), layer_overhead_us=1e5))
    assert slow_calls.decode_bound == "overhead"
    assert slow_calls.decode_tokens_per_s < 1.01  # ten layers of a tenth of a second


def test_a_chunked_prompt_reads_the_weights_once_a_chunk() -> None:
    phone = replace(get_device("iphone-15"), int8_gops=1e9)
    whole, chunked = estimate(WORK, phone, 128), estimate(replace(WORK, chunk=16), phone, 128)
    assert chunked.time_to_first_token_s / whole.time_to_first_token_s == pytest.approx(8, rel=0.01)


def test_a_prompt_longer_than_the_context_is_refused() -> None:
    with pytest.raises(EdgekitError, match="holds 1024"):
        estimate(WORK, get_device("pixel-8"), prompt_tokens=1024)


@pytest.mark.parametrize("name", device_names())
def test_every_device_has_sources_and_plausible_facts(name: str) -> None:
    device = get_device(name)
    assert all(source.startswith("http") for source in device.sources)
    assert device.sources
    assert 20 < device.bandwidth_gb_s < 200
    assert 3 < device.ram_gb < 33
    assert 2018 < device.year < 2030


def test_an_unknown_device_is_answered_with_the_known_ones() -> None:
    with pytest.raises(EdgekitError, match=r"pixel-9, .*iphone-15"):
        get_device("nokia-3310")
