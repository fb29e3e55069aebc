"""What is wrong with a configuration, in plain words: no word of pydantic's, and the key that may have been meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import ConfigError
from edgekit.experiment.config import load_experiment_config
from edgekit.recipes.export_recipe import load_recipe
from edgekit.train.config import TrainConfig, load_config

PYDANTIC = ("Input should", "Extra inputs", "Value error", "Field required", "valid integer", "[type=")
RECIPE = "{name: a, description: b, target: onnx, precision: int4, quantize: {rules: [{match: '*', %s}]}}"


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("learning_rat=1", "learning_rat: unknown key; did you mean learning_rate?"),
        ("groupsize=4", "groupsize: unknown key; did you mean group_size?"),
        ("zzz=4", "zzz: unknown key; there are task, base"),
        ("steps=soon", "steps: 'soon' is not a whole number"),
        ("steps=1.5", "steps: 1.5 is not a whole number"),
        ("steps=0", "steps: 0 is less than 1"),
        ("call_fraction=1", "call_fraction: 1 is not less than 1"),
        ("learning_rate=0", "learning_rate: 0 is not more than 0"),
        ("learning_rate=fast", "learning_rate: 'fast' is not a number"),
        ("bfloat16=perhaps", "bfloat16: 'perhaps' is not true or false"),
        ("algorithm=ppo", "algorithm: 'ppo' is not one of 'gapg', 'da_grpo'"),
        ("lora_targets=3", "lora_targets: 3 is not a list"),
        ("warm_start_settings=3", "warm_start_settings: 3 is not a mapping of keys to values"),
        ("cloud={a: b}", "cloud: a mapping is not a text"),
        ("alpha_c=2", "alpha_a > alpha_c > alpha_f >= 0 does not hold"),
    ],
)
def test_a_training_setting_is_refused_in_plain_words(setting: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config("quick", [setting])
    assert words in str(error.value)
    assert not any(word in str(error.value) for word in PYDANTIC)


@pytest.mark.parametrize("key", sorted(TrainConfig.model_fields))
def test_a_letter_too_many_is_recognized(key: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean {key}\\? Correct it"):
        load_config("quick", {f"{key}x": 1})


def test_what_lies_deep_in_a_file_is_named_with_its_place(tmp_path: Path) -> None:
    def refusal(rule: str) -> str:
        (tmp_path / "recipe.yaml").write_text(RECIPE % rule)
        with pytest.raises(ConfigError) as error:
            load_recipe(tmp_path / "recipe.yaml")
        return str(error.value)

    assert "quantize.rules.0.bitz: unknown key; did you mean bits?" in refusal("bits: 8, bitz: 8")
    assert "quantize.rules.0.bits: is missing" in refusal("group_size: 32")
    assert "quantize.rules.0.bits: 5 is not one of 4, 8, 16, 32" in refusal("bits: 5")
    assert "quantize.rules.0: 4 bits need a group_size (32)" in refusal("bits: 4")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["methds=[gapg]"], "methds: unknown key; did you mean methods?"),
        (["overrides.stepz=3"], "train.stepz: unknown key; did you mean steps?"),
        (["method_overrides.gapg.group_size=1"], "method_overrides.gapg.group_size: 1 is less than 2"),
        (["seeds=[]"], "seeds: has 0 entries, fewer than 1"),
    ],
)
def test_an_experiment_is_refused_in_plain_words(settings: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_experiment_config("quick", settings)
    assert words in str(error.value)
    assert not any(word in str(error.value) for word in PYDANTIC)


def test_a_long_value_is_not_repeated_whole() -> None:
    given: dict[str, Any] = {"steps": "x" * 10_000}
    with pytest.raises(ConfigError) as error:
        load_config("quick", given)
    assert len(str(error.value)) < 200
