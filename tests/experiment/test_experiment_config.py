"""What an experiment is told: presets, overrides, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgekit.errors import ConfigError
from edgekit.experiment.config import load_experiment_config, preset_names
from edgekit.experiment.methods import METHODS
from edgekit.experiment.routers import ROUTERS


def test_every_preset_loads_names_only_what_exists_and_survives_a_round_trip(tmp_path: Path) -> None:
    assert preset_names() == ["ablations", "paper_table", "quick", "smollm2"]
    for name in preset_names():
        config = load_experiment_config(name)
        (tmp_path / "copy.yaml").write_text(config.to_yaml())
        assert load_experiment_config(str(tmp_path / "copy.yaml")) == config
    table = load_experiment_config("paper_table")
    assert set(table.methods) == set(METHODS) >= set(ROUTERS)
    assert (table.seeds, table.call_fractions) == ((0, 1, 2, 3, 4), (0.1, 0.2, 0.3, 0.5))


def test_overrides_reach_every_run_and_a_new_name_makes_a_new_method() -> None:
    sets = ["methods=[gapg, gapg_g4, prompt_router]", "overrides.steps=7", "method_overrides.gapg_g4={group_size: 4}"]
    sets += ["method_overrides.task_only.learning_rate=1e-5", "cloud=oracle:0.9"]
    config = load_experiment_config("quick", sets)
    assert config.runs() == ("gapg", "gapg_g4", "task_only")
    small, shared = config.train_config("gapg_g4", 3), config.train_config("task_only", 3)
    assert (small.algorithm, small.group_size, small.steps, small.seed, small.cloud) == ("gapg", 4, 7, 3, "oracle:0.9")
    assert (shared.algorithm, shared.learning_rate, shared.steps) == ("task_only", 1e-5, 7)


def test_a_bad_experiment_lists_every_problem(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "methods: [gapg, magic]\nseeds: [0, 0]\ntrain: quick\noverrides: {seed: 3}\n"
        "method_overrides: {prompt_router: {steps: 1}}\n"
    )
    with pytest.raises(ConfigError, match=r"seeds: named twice.*unknown 'magic'.*train\.seed.*prompt_router: it is"):
        load_experiment_config(str(path))
    with pytest.raises(ConfigError) as caught:
        load_experiment_config("quick", ["colour=red", "call_fractions=[1.5]", "train=fast", "nonsense"])
    text = " ".join(caught.value.problems)
    for part in ("colour", "call_fractions.0", "edgekit has default", "--set nonsense: not key=value"):
        assert part in text
    with pytest.raises(ConfigError, match=r"train\.stepz.*method_overrides\.gapg\.group_size"):
        load_experiment_config("quick", ["overrides.stepz=1", "method_overrides.gapg.group_size=1"])


def test_settings_of_what_is_not_compared_are_refused(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("methods: [gapg]\ntrain: quick\nmethod_overrides: {gpag: {group_size: 4}}\n")
    with pytest.raises(ConfigError, match=r"method_overrides\.gpag: no method compared is trained by it"):
        load_experiment_config(str(own))
    with pytest.raises(ConfigError, match=r"method_overrides\.da_grpo: no method compared is trained by it"):
        load_experiment_config("quick", ["methods=[gapg]", "method_overrides.da_grpo.steps=3"])
    with pytest.raises(ConfigError, match="router_encoder: no method compared is a classifier of texts"):
        load_experiment_config("quick", ["methods=[gapg]", "router_encoder=me/deberta"])
    with pytest.raises(ConfigError, match="trigger_tries: no method compared reads a prompt"):
        load_experiment_config("quick", ["methods=[task_only, oracle_router]", "trigger_tries=2"])
    with pytest.raises(ConfigError, match="n_router_train: no method compared is a router"):
        load_experiment_config("quick", ["methods=[gapg]", "n_router_train=9"])
    own.write_text("methods: [gapg]\ntrain: quick\nn_router_train: 9\n")
    with pytest.raises(ConfigError, match="n_router_train: no method compared is a router"):
        load_experiment_config(str(own))
    searched = load_experiment_config("quick", ["methods=[gapg]", "n_router_train=9", "trigger_tries=2"])
    assert searched.reads_router_problems
    chosen = load_experiment_config("ablations", ["methods=[gapg, gapg_g4]"])  # of a preset, what was named
    assert chosen.runs() == ("gapg", "gapg_g4")


def test_relative_paths_are_stored_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
    config = load_experiment_config("quick", ["overrides.base=mine", "method_overrides.gapg.base=other"])
    assert config.train_config("task_only", 0).base == os.path.abspath("mine")
    assert config.train_config("gapg", 0).base == os.path.abspath("other")


def test_each_seed_may_have_a_base_of_its_own() -> None:
    given = ["seeds=[0, 3]", "overrides.base=bases/{seed}", "method_overrides.gapg.base=others/{seed}"]
    config = load_experiment_config("quick", given)
    assert [config.train_config("task_only", seed).base for seed in config.seeds] == [
        os.path.abspath("bases/0"),
        os.path.abspath("bases/3"),
    ]
    assert config.train_config("gapg", 3).base == os.path.abspath("others/3")
