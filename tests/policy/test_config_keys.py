"""A config.json is read whole: what changes the mathematics is computed or refused by name, nothing is ignored."""

from __future__ import annotations

import itertools
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from family_cases import CASES, LLAMA3, LONGROPE, YARN, make_model

from edgekit.errors import BundleError
from edgekit.policy.checkpoint import read_config
from edgekit.policy.families import FAMILIES, REFUSED, granitemoehybrid, read_model_config
from edgekit.policy.families.settings import HARMLESS, NEUTRAL
from edgekit.policy.rope import LongRopeScaling

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Each family's config.json as transformers writes it."""
    written = {}
    for family in FAMILIES:
        folder = tmp_path_factory.mktemp(family)
        make_model(family, folder)
        written[family] = json.loads((folder / "config.json").read_text())
    return written


def read(data: dict[str, Any], folder: Path, without: str = "", **changes: Any) -> Any:
    path = folder / "config.json"
    path.write_text(json.dumps({key: value for key, value in (data | changes).items() if key != without}))
    return read_config(path)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_key_that_nobody_knows_is_refused_by_name(family: str, configs: Any, tmp_path: Path) -> None:
    for key, value in (("new_trick", 2), ("use_new_trick", True), ("no_trick", False), ("tricks", ["a"])):
        with pytest.raises(BundleError, match=f"{key} .* is unknown"):
            read(configs[family], tmp_path, **{key: value})
    read(configs[family], tmp_path, new_trick=None)  # null is "not set" in these files


@pytest.mark.parametrize("family", FAMILIES)
def test_every_number_and_flag_is_asked_for_or_known_to_be_harmless(family: str, configs: Any, tmp_path: Path) -> None:
    """Whatever key transformers' own class reads: another value gives another model or a refusal, or it is harmless."""
    known = getattr(transformers, f"{CASES[family][0]}Config")().to_dict()
    plain = read(configs[family], tmp_path)
    for key in sorted(set(known) - HARMLESS):
        value = configs[family].get(key, known[key])
        if isinstance(value, bool | int | float):
            other = not value if isinstance(value, bool) else value * 2 or 1
            found = read_or_refusal(configs[family], tmp_path, **{key: other})
            # A count of layers does not fit the lists of them.
            refused = isinstance(found, str) and (key in found or "layer" in found)
            assert refused or found != plain or key in WITHOUT_EFFECT.get(family, ()), f"{key} {other}: {found}"


def read_or_refusal(data: dict[str, Any], folder: Path, **changes: Any) -> Any:
    try:
        return read(data, folder, **changes)
    except BundleError as error:
        return str(error)


WITHOUT_EFFECT = {
    # The keys stand beside layer_types or another list, which says the same again and has the last word.
    "qwen2": ("use_sliding_window", "sliding_window", "max_window_layers"),
    "qwen3": ("use_sliding_window", "sliding_window", "max_window_layers"),
    "smollm3": ("no_rope_layer_interval", "use_sliding_window"),
    "phi3": ("original_max_position_embeddings",),  # of longrope only
    "gemma3_text": ("sliding_window_pattern", "_sliding_window_pattern"),
    "granitemoehybrid": granitemoehybrid.ABSENT,
}


@pytest.mark.parametrize(
    ("family", "changes", "fault"),
    [
        ("llama", {"hidden_act": "mish"}, "hidden_act 'mish' is none of silu"),
        ("llama", {"sliding_window": 64}, "sliding_window 64 is unknown"),
        ("llama", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping 50.0 is unknown"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping 50.0 is not computed"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention true is not computed"),
        ("mistral", {"attention_bias": True}, "attention_bias true is not computed"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5 is not computed"),
        ("llama", {"rope_scaling": {"rope_type": "spiral", "factor": 2.0}}, "rope scaling spiral is none of default"),
        ("llama", {"rope_scaling": {"rope_type": "yarn"}}, "rope scaling yarn: it lacks 'factor'"),
        (
            "qwen2",
            {"rope_scaling": {"rope_type": "default", "mrope_section": [2, 2, 2]}},
            "rope scaling default has the unknown mrope_section",
        ),
        ("qwen2", {"layer_types": ["sliding_attention", "full_attention"]}, "layer_types has sliding_attention"),
        ("mistral", {"layer_types": ["sliding_attention", "full_attention"]}, "layer_types .* is not computed"),
        ("smollm3", {"no_rope_layers": [1]}, "no_rope_layers are not 4 of 0 and 1"),
        ("smollm3", {"no_rope_layers": [[]] * 4}, "no_rope_layers are not 4 of 0 and 1"),
        ("gemma3_text", {"layer_types": [[]] * 3}, "layer_types are not 3 of sliding_attention and full_attention"),
        ("qwen2", {"use_sliding_window": True, "max_window_layers": "all"}, "max_window_layers 'all' is not a size"),
        ("llama", {"rope_scaling": {**LLAMA3, "rope_type": ["llama3"]}}, r"rope scaling \['llama3'\] is none of"),
        ("llama", {"rope_scaling": {**LLAMA3, "factor": "8"}}, "rope scaling llama3: '8' is not a number above 0"),
        ("llama", {"rope_scaling": {**YARN, "truncate": "no"}}, "rope scaling yarn: truncate no is neither"),
        (
            "llama",
            {"rope_scaling": LONGROPE, "original_max_position_embeddings": 1},
            "rope scaling longrope: 1 is not a length",
        ),
        ("granitemoehybrid", {"layer_types": ["mamba", "attention"]}, "1 of 2 layers are mamba: they carry a state"),
        ("granitemoehybrid", {"layer_types": None}, "2 of 2 layers are mamba: they carry a state"),
        ("granitemoehybrid", {"num_local_experts": 4}, "num_local_experts is not 0: its layers choose among experts"),
        ("granitemoehybrid", {"position_embedding_type": "nope"}, "position_embedding_type 'nope' is none of rope"),
        ("granitemoehybrid", {"position_embedding_type": None}, "position_embedding_type null is none of rope"),
        ("granitemoehybrid", {"head_dim": 16}, "head_dim 16 is not computed"),
        ("granitemoehybrid", {"mlp_bias": True}, "mlp_bias true is not computed"),
        ("llama", {"num_key_value_heads": 3}, "num_key_value_heads 3 does not divide num_attention_heads 4"),
        ("llama", {"hidden_size": "wide"}, "hidden_size 'wide' is not a size"),
        ("llama", {"hidden_size": 2**40}, "hidden_size .* is not a size"),
        ("llama", {"num_hidden_layers": True}, "num_hidden_layers true is not a size"),
        ("llama", {"rms_norm_eps": "nan"}, "rms_norm_eps 'nan' is not a number"),
        ("llama", {"rms_norm_eps": 10**400}, "rms_norm_eps a number of 1329 bits is not a number"),
        ("llama", {"rope_theta": 10**400}, "a number of 1329 bits is not a number above 0"),
        ("llama", {"rope_theta": 1.0, "rope_scaling": YARN}, "rope scaling yarn: its numbers give no angles"),
        ("llama", {"rope_scaling": {**YARN, "beta_slow": 1e-320}}, "rope scaling yarn: its numbers give no angles"),
        ("llama", {"rope_scaling": {**YARN, "attention_factor": 1e9}}, "rope scaling yarn: its numbers give no angles"),
        (
            "llama",
            {"rope_scaling": {**YARN, "mscale": 10**400, "mscale_all_dim": 1}},
            "yarn: a number of 1329 bits is not a number above 0",
        ),
        (
            "llama",
            {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "head_dim": 2},
            "rope scaling dynamic: its numbers give no angles",
        ),
        (
            "llama",
            {"rope_scaling": {**LLAMA3, "original_max_position_embeddings": 1e30}},
            "rope scaling llama3: 1e\\+30 is not a length",
        ),
        (
            "llama",
            {"rope_theta": 5.0, "rope_scaling": {**LLAMA3, "rope_theta": 6.0}},
            "rope_theta 5.0 is not what stands beside it",
        ),
        (
            "llama",
            {"rope_scaling": {**LONGROPE, "factor": 8.0}, "original_max_position_embeddings": 64},
            "longrope: factor 8.0 is not 4, as the two lengths have it",
        ),
        ("phi3", {"partial_rotary_factor": True}, "partial_rotary_factor true is not a share"),
        ("olmo2", {"rope_scaling": YARN}, "a olmo2 has no keys for all of it .YarnScaling.. It could not be saved"),
        ("olmo2", {"rope_scaling": {**LONGROPE, "factor": 4.0}}, "a olmo2 has no keys for all of it .LongRopeScaling."),
        ("llama", {"tie_word_embeddings": "yes"}, "tie_word_embeddings 'yes' is neither"),
        ("llama", {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantized model: .*gptq"),
        ("llama", {"model_type": "qwen3_moe"}, "unsupported model: qwen3_moe.* experts"),
        ("llama", {"model_type": "lfm2"}, "unsupported model: lfm2.* state"),
        ("llama", {"model_type": "gemma3"}, "unsupported model: gemma3.* Its text model is read"),
        ("llama", {"model_type": "who_knows"}, "unsupported model: who_knows.* does not know what it computes"),
        ("llama", {"model_type": ["llama"]}, "unsupported model"),
    ],
)
def test_what_is_not_computed_is_one_line(
    family: str, changes: dict[str, Any], fault: str, configs: Any, tmp_path: Path
) -> None:
    rotary = {"rope_scaling", "rope_theta", "partial_rotary_factor"} & set(changes)
    with pytest.raises(BundleError, match=fault) as raised:
        read(configs[family], tmp_path, without="rope_parameters" if rotary else "", **changes)
    assert "\n" not in str(raised.value)
    assert str(tmp_path) in str(raised.value)


ROPES: dict[str, dict[str, Any]] = {
    "linear": {"factor": 2.0},
    "dynamic": {"factor": 2.0},
    "llama3": LLAMA3,
    "yarn": {**YARN, "attention_factor": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "beta_fast": 32, "truncate": True},
    "longrope": {**LONGROPE, "factor": 4.0, "attention_factor": 1.0},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_any_value_of_any_key_is_read_or_refused(family: str, configs: Any) -> None:
    def attempt(data: dict[str, Any], **changes: Any) -> None:
        with suppress(BundleError):
            read_model_config(data | changes, Path("config.json"))

    whole = configs[family]
    count = whole["num_hidden_layers"]
    odd = (None, True, -1, 0, 1, 0.5, 1e308, "x", [], {}, [[]] * count, [{}] * count, ["x"] * count, [0.0] * 6)
    for key, value in itertools.product(whole, odd):
        attempt(whole, **{key: value})
    bare = {key: value for key, value in whole.items() if key != "rope_parameters"}
    for kind, keys in ROPES.items() if family == "llama" else ():
        for key, value in itertools.product((*keys, "rope_type"), odd):
            attempt(bare, rope_scaling={**keys, "rope_type": kind, key: value})
        for length in odd:
            attempt(bare, rope_scaling={**keys, "rope_type": kind}, original_max_position_embeddings=length)


def test_keys_that_published_files_bear_are_read(configs: Any, tmp_path: Path) -> None:
    """SmolLM3-3B's key of windows that it has not; the kind of scaling of Phi-3-mini-128k's first files."""
    assert read(configs["smollm3"], tmp_path, max_window_layers=28) == read(configs["smollm3"], tmp_path)
    half = {"hidden_size": 96, "num_attention_heads": 4, "partial_rotary_factor": 0.5}
    longrope, su = ({**LONGROPE, "type": kind} for kind in ("longrope", "su"))
    old = {key: value for key, value in configs["phi3"].items() if key != "rope_parameters"}
    assert isinstance(read(old, tmp_path, **half, rope_scaling=su).ropes[0].scaling, LongRopeScaling)
    assert read(old, tmp_path, **half, rope_scaling=su) == read(old, tmp_path, **half, rope_scaling=longrope)


def test_two_words_on_rotary_positions_must_not_contradict_each_other(configs: Any, tmp_path: Path) -> None:
    yarn = {"type": "yarn", "factor": 2.0}
    given = {"rope_theta": 10_000.0, "rope_scaling": yarn}
    with pytest.raises(BundleError, match="rope_scaling and rope_parameters contradict each other"):
        read(configs["llama"], tmp_path, **given, rope_parameters={"rope_type": "default"})
    agreeing = read(configs["llama"], tmp_path, **given, rope_parameters={"rope_type": "yarn", "factor": 2.0})
    assert agreeing == read(configs["llama"], tmp_path, without="rope_parameters", **given)
    half = {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5}
    long = {**LONGROPE, "rope_type": "longrope", "rope_theta": 10_000.0, "original_max_position_embeddings": 64}
    near = {kind: {"rope_type": "default", "rope_theta": 1e4} for kind in ("full_attention", "sliding_attention")}
    for family, key, value, parameters in (
        ("phi3", "partial_rotary_factor", 1.0, half),
        ("phi3", "original_max_position_embeddings", 128, long),
        ("gemma3_text", "rope_theta", 1e6, near),
        ("gemma3_text", "rope_local_base_freq", 1e6, near),
    ):
        rotary = {"rope_theta": None, "rope_scaling": None, "rope_local_base_freq": None, "rope_parameters": parameters}
        with pytest.raises(BundleError, match=f"{key} {value} is not what stands beside it"):
            read(configs[family], tmp_path, **{**rotary, key: value})


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"rope_scaling": {"type": "linear", "rope_type": "dynamic", "factor": 2.0}}, "type and rope_type of one"),
        (
            {"rope_scaling": {**LLAMA3, "low_freq_factor": 4.0, "high_freq_factor": 1.0}},
            "llama3: low_freq_factor 4 is above high_freq_factor 1",
        ),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}, "original_max_position_embeddings": 32},
            "yarn: original_max_position_embeddings 32 stands outside it only",
        ),
    ],
)
def test_rotary_settings_that_transformers_or_its_versions_read_otherwise_are_refused(
    changes: dict[str, Any], fault: str, configs: Any, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=fault):
        read(configs["llama"], tmp_path, without="rope_parameters", **changes)


def test_all_faults_are_told_at_once(configs: Any, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"hidden_act 'mish'.*; new_trick 1 is unknown"):
        read(configs["llama"], tmp_path, hidden_act="mish", new_trick=1)
    with pytest.raises(BundleError, match="it lacks hidden_size"):
        read(configs["llama"], tmp_path, without="hidden_size")


def test_a_fault_is_told_once(configs: Any, tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        read(configs["llama"], tmp_path, max_position_embeddings=10**9)
    assert str(caught.value).count("max_position_embeddings 1000000000") == 1


DEFAULTED = (
    "sliding_window", "rope_theta", "rms_norm_eps", "head_dim", "num_key_value_heads", "hidden_act",
    "tie_word_embeddings", "hidden_activation", "query_pre_attn_scalar", "rope_local_base_freq",
)  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_an_absent_key_means_what_transformers_takes(family: str, configs: Any, tmp_path: Path) -> None:
    """Only keys that the family's class has a default for; sizes are required."""
    kind = getattr(transformers, f"{CASES[family][0]}Config")
    wide = configs[family] | {
        "hidden_size": 512,
        "num_attention_heads": 32,
    }  # which any number of default heads divides
    # Windows follow from other keys then; Granite 4 must tell its layers, and has a size for mamba.
    dropped = ("mamba_d_head", "time_step_limit") if family == "granitemoehybrid" else ("layer_types",)
    for key in set(DEFAULTED) & set(wide):
        less = {name: value for name, value in wide.items() if name not in (key, *dropped)}
        theirs = kind(**{name: value for name, value in less.items() if name != "model_type"})
        assert read(less, tmp_path) == read(less, tmp_path, **{key: getattr(theirs, key, None)}), key


def test_what_transformers_5_writes_is_read_alike(configs: Any, tmp_path: Path) -> None:
    rotary = ("rope_theta", "rope_scaling", "rope_parameters", "rope_local_base_freq", "partial_rotary_factor")
    new = {key: value for key, value in configs["phi3"].items() if key not in rotary}
    old = new | {"rope_theta": 10_000.0, "rope_scaling": None, "partial_rotary_factor": 0.5}
    new |= {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5}}
    assert read(new, tmp_path) == read(old, tmp_path)
    new = {key: value for key, value in configs["gemma3_text"].items() if key not in rotary}
    old = new | {"rope_theta": 1e6, "rope_local_base_freq": 1e4}
    ropes = {
        "full_attention": {"rope_type": "default", "rope_theta": old["rope_theta"]},
        "sliding_attention": {"rope_type": "default", "rope_theta": old["rope_local_base_freq"]},
    }
    assert read(new | {"rope_parameters": ropes}, tmp_path) == read(old, tmp_path)


def test_the_tables_of_keys_and_families_do_not_overlap() -> None:
    assert not HARMLESS & set(NEUTRAL)
    assert not set(FAMILIES) & set(REFUSED)
