"""The presets for the paper's models: its settings, model families edgekit reads, and one real step through each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgekit.cloud.oracle import OracleCloud
from edgekit.errors import EdgekitError
from edgekit.policy.checkpoint import load_policy, read_config
from edgekit.policy.tokens import MARKER, build_tokenizer
from edgekit.tasks import get_task
from edgekit.train.config import FOR_LANGUAGE_MODELS, TrainConfig, load_config, preset_names
from edgekit.train.loop import train
from edgekit.train.pool import training_pool
from edgekit.warm_start import bases

# The hub's config.json of each model, without what edgekit does not read.
LLAMA3_ROPE = {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "attention_bias": False,
    "eos_token_id": [128001, 128008, 128009],
    "head_dim": 64,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "max_position_embeddings": 131072,
    "num_attention_heads": 32,
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_scaling": LLAMA3_ROPE,
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "vocab_size": 128256,
}
QWEN: dict[str, Any] = {
    "model_type": "qwen2",
    "eos_token_id": 151645,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "max_position_embeddings": 32768,
    "max_window_layers": 21,
    "num_attention_heads": 12,
    "num_hidden_layers": 28,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
MODELS: dict[str, dict[str, Any]] = {
    "meta-llama/Llama-3.2-1B-Instruct": LLAMA,
    "meta-llama/Llama-3.2-3B-Instruct": LLAMA
    | {"hidden_size": 3072, "head_dim": 128, "num_attention_heads": 24, "num_hidden_layers": 28},
    "Qwen/Qwen2.5-1.5B-Instruct": QWEN,
    "Qwen/Qwen2.5-3B-Instruct": QWEN
    | {"hidden_size": 2048, "intermediate_size": 11008, "num_attention_heads": 16, "num_hidden_layers": 36},
}
PAPER = [name for name in preset_names() if name.startswith(("qwen", "llama"))]


@pytest.mark.parametrize("name", PAPER)
def test_a_paper_preset_has_the_paper_s_settings(name: str) -> None:
    config = load_config(name)
    assert config.base in MODELS
    assert (config.group_size, config.prompts_per_step, config.steps, config.learning_rate) == (8, 32, 800, 5e-6)
    assert (config.max_prompt_tokens, config.max_new_tokens) == (256, 720)
    assert (config.alpha_a, config.alpha_c, config.alpha_f, config.call_fraction) == (1.0, 0.25, 0.0, 0.30)
    assert (config.algorithm, config.bfloat16, config.gradient_checkpointing) == ("gapg", True, True)
    assert config.task == ("countdown" if name.endswith("countdown") else "math-lighteval")
    assert TrainConfig.model_validate(config.model_dump()) == config


def test_each_of_the_paper_s_models_has_a_preset() -> None:
    assert {load_config(name).base for name in PAPER} == set(MODELS)


@pytest.mark.parametrize(("model", "billions"), [*zip(MODELS, (1.236, 3.213, 1.544, 3.086), strict=True)])
def test_the_model_s_config_is_read_and_has_its_known_size(model: str, billions: float, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(MODELS[model]))
    config = read_config(tmp_path / "config.json")
    queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    attention = config.hidden_size * (2 * queries + 2 * keys) + config.attention_bias * (queries + 2 * keys)
    layer = attention + 3 * config.hidden_size * config.intermediate_size + 2 * config.hidden_size
    total = config.num_hidden_layers * layer + config.vocab_size * config.hidden_size + config.hidden_size
    assert total / 1e9 == pytest.approx(billions, abs=0.0005)


@pytest.mark.parametrize("name", PAPER)
def test_a_small_model_of_the_same_kind_takes_a_step_through_the_preset(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers = pytest.importorskip("transformers")
    real = MODELS[load_config(name).base]
    tokenizer = build_tokenizer()
    end = tokenizer.token_to_id("<|end|>")
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "head_dim": 16, "vocab_size": tokenizer.get_vocab_size(), "eos_token_id": end}
    kind = getattr(transformers, {"llama": "Llama", "qwen2": "Qwen2"}[real["model_type"]] + "Config")
    config = kind(**{**real, **sizes, "max_position_embeddings": 1024})
    folder = tmp_path / "model"
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    short = "warm_start_settings={batch_size: 4, answer_steps: 8, attempts: 8, marker_steps: 4}"
    overrides = [
        short,
        f"base={folder}",
        "task=arithmetic",
        "warm_start=answers",
        "steps=1",
        "prompts_per_step=4",
        "eval_n=4",
    ]
    settings = load_config(name, [*overrides, "train_pool=16", "max_new_tokens=24", "rows_per_rollout=8"])
    run = tmp_path / "run"
    train(settings, run, cloud=OracleCloud(get_task("arithmetic")))
    trained = load_policy(run / "policy")
    assert MARKER in trained.routing.prompt_template
    assert trained.routing.max_new_tokens == 24
    (line,) = (json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
    assert line["learning_rate"] == 5e-6
    assert "eval_local_accuracy" in line


def test_a_pool_of_prompts_that_are_too_long_is_refused(tmp_path: Path) -> None:
    settings = load_config("quick", ["max_prompt_tokens=3", "train_pool=30"])
    with pytest.raises(EdgekitError, match=r"prompts too long: 0 of 30 have at most 3 tokens\. A step needs 16"):
        train(settings, tmp_path / "run", cloud=OracleCloud(get_task("countdown")))
    policy = load_policy(bases.run_base(settings))
    some = load_config("quick", ["max_prompt_tokens=7", "train_pool=60", "prompts_per_step=2"])
    pool = training_pool(get_task("countdown"), policy, some)
    assert 2 <= len(pool) < 60
    assert max(len(policy.encode(problem.prompt)) for problem in pool) == 7


def language_model(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    return folder


def test_a_language_model_gets_a_language_model_s_defaults_and_the_resolved_config_says_so(tmp_path: Path) -> None:
    model = language_model(tmp_path / "model")
    config = load_config("default", [f"base={model}"])
    resolved = yaml.safe_load(config.to_yaml())
    assert {key: resolved[key] for key in FOR_LANGUAGE_MODELS} == FOR_LANGUAGE_MODELS
    assert load_config("default", [f"base={model}", "learning_rate=1e-4", "steps=9"]).learning_rate == 1e-4
    assert load_config("default", [f"base={model}", "steps=9"]).steps == 9
    (model / "routing.json").write_text("{}")  # a policy made of it
    assert load_config("default", [f"base={model}"]).learning_rate == 2e-5
    assert load_config("default").learning_rate == 2.5e-4


def test_a_file_or_a_preset_of_language_models_means_what_it_says(tmp_path: Path) -> None:
    model = language_model(tmp_path / "model")
    (tmp_path / "mine.yaml").write_text(f"base: {model}\ntask: arithmetic\nlearning_rate: 3.0e-6\n")
    config = load_config(str(tmp_path / "mine.yaml"))
    assert (config.learning_rate, config.warmup_steps, config.steps) == (3e-6, 5, 150)
    assert load_config("smollm2").steps == 150
    assert load_config("qwen2.5-1.5b-math", [f"base={model}"]).learning_rate == 5e-6
    quick = load_config("quick", [f"base={model}"])
    assert (quick.steps, quick.learning_rate) == (6, 2e-5)


def test_the_preset_to_copy_takes_a_model_and_a_file_of_questions(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": "Half of 3?", "answer": "1.5"}) + "\n")
    model = language_model(tmp_path / "model")
    config = load_config("own-model", [f"base={model}", f"task={tmp_path / 'p.jsonl'}#number"])
    assert config.base == str(model)
    assert config.task.endswith("p.jsonl#number")
