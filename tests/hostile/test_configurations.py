"""Recipes, configurations and settings on the command line: used, or every fault named in one line."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import yaml
from hostile.counting import Survives
from hostile.generators import VALUES, YAML_BOMBS, damaged, yaml_variants

from edgekit.cli.app import run_command
from edgekit.errors import EdgekitError
from edgekit.experiment.config import load_experiment_config
from edgekit.experiment.config import preset_names as experiments
from edgekit.hybrid.budget import parse_limits
from edgekit.hybrid.redaction import read_names
from edgekit.recipes.export_recipe import load_recipe
from edgekit.recipes.fit import fit_recipe, recipe_problems
from edgekit.recipes.lookup import named_recipes
from edgekit.train.config import TrainConfig, load_config, load_run_config, preset_names
from edgekit.workflows.prices import read_price

SHAPES = {
    "model.embed_tokens": (64, 32),
    **{f"model.layers.{n}.mlp.{w}_proj": (96, 32) for n in range(2) for w in ("up", "gate")},
    "lm_head": (64, 32),
}
KEYS = tuple(TrainConfig.model_fields)
OPTIONS = (
    ["eval", "x", "--n"], ["eval", "x", "--call-fraction"], ["eval", "x", "--task"], ["eval", "x", "--cloud"],
    ["eval"], ["calibrate", "x", "--call-fraction"], ["run", "x"], ["inspect"], ["verify", "x", "--n"],
    ["verify", "x", "--min-agreement"], ["export", "x", "--target"], ["bench", "x", "--device"],
    ["serve", "x", "--budget"],
    ["serve", "x", "--port"], ["demo"], ["train"], ["train", "--set"], ["experiment"], ["experiment", "--set"],
    ["finetune", "x", "--target"],
)  # fmt: skip


def text_of(value: object) -> str:
    return (value if isinstance(value, str) else json.dumps(value)).replace("\0", "")


def test_recipes_are_fitted_or_refused(tmp_path: Path, survives: Survives) -> None:
    sources = [path.read_bytes() for path in list(named_recipes().values())[:4]]

    def attempt(case: tuple[int, bytes]) -> None:
        path = tmp_path / "recipe.yaml"
        path.write_bytes(case[1])
        recipe = load_recipe(path)
        if not recipe_problems(recipe, SHAPES):
            fit_recipe(recipe, SHAPES)

    cases = [(at, data) for at, source in enumerate(sources) for data in yaml_variants(source, 50, seed=at * 40)]
    survives("configuration: recipe", cases, attempt)


@pytest.mark.slow
def test_twenty_thousand_rules_are_refused_as_soon_as_twenty(tmp_path: Path, survives: Survives) -> None:
    recipe = yaml.safe_load(named_recipes()["onnx_int4"].read_text())
    globs = ("*" * 100 + "x", "*a*b*c*d*e*f*g*h*i*j*", "model.layers.{}.mlp.up_proj")

    def attempt(glob: str) -> None:
        rules = [{"match": glob.replace("{}", str(n)), "bits": 4, "group_size": 32} for n in range(20_000)]
        path = tmp_path / "recipe.yaml"
        path.write_text(json.dumps(recipe | {"quantize": {"rules": rules}}))
        assert len(recipe_problems(load_recipe(path), SHAPES)) > 10_000

    survives("configuration: 20,000 rules", globs, attempt)


def test_training_configurations_are_used_or_refused(tmp_path: Path, survives: Survives) -> None:
    presets = Path(load_config.__code__.co_filename).parent / "presets"
    sources = [(presets / f"{name}.yaml").read_bytes() for name in preset_names()[:3]]
    sources.append(load_config().to_yaml().encode())

    def attempt(case: tuple[int, bytes]) -> None:
        path = tmp_path / "config.yaml"
        path.write_bytes(case[1])
        (load_config if case[0] % 2 else lambda path: load_run_config(Path(path)))(str(path))

    cases = [(at, data) for at, source in enumerate(sources) for data in yaml_variants(source, 50, seed=at * 40)]
    survives("configuration: training", cases, attempt)


def test_experiments_are_used_or_refused(tmp_path: Path, survives: Survives) -> None:
    folder = Path(load_experiment_config.__code__.co_filename).parent / "presets"
    sources = [(folder / f"{name}.yaml").read_bytes() for name in experiments()]

    def attempt(case: tuple[int, bytes]) -> None:
        path = tmp_path / "experiment.yaml"
        path.write_bytes(case[1])
        load_experiment_config(str(path))

    cases = [(at, data) for at, source in enumerate(sources) for data in yaml_variants(source, 25, seed=at * 40)]
    survives("configuration: experiment", cases, attempt)


def test_settings_on_the_command_line_are_used_or_refused(survives: Survives) -> None:
    values = [text_of(value) for value in VALUES] + list(YAML_BOMBS)
    cases = [f"{key}={value}" for key, value in itertools.islice(zip(itertools.cycle(KEYS), values * 3), 150)]
    cases += ["", "=", "steps", "=1", "steps==1", " steps =1", "a.b.c=1", ".=1", "\ud800=1", "steps=\ud800"]
    survives("configuration: --set of train", cases, lambda text: load_config("quick", [text]))
    cases = [f"overrides.{each}" for each in cases[:60]] + cases[-10:]
    survives("configuration: --set of experiment", cases, lambda text: load_experiment_config("quick", [text]))


@pytest.mark.parametrize("key", KEYS)
def test_no_setting_takes_a_whole_number_beyond_64_bits(key: str) -> None:
    for text in (2**63, -(2**63) - 1, 10**400):
        with pytest.raises(EdgekitError, match=rf"\b{key}\b"):
            load_config("quick", [f"{key}={text}"])
    assert load_config("quick", ["seed=9223372036854775807"]).seed == 2**63 - 1


@pytest.mark.parametrize("setting", ["seeds=[true]", "seeds=[9223372036854775808]", "call_fractions=[0.1, true]"])
def test_a_list_takes_no_flag_for_a_number_and_no_whole_number_beyond_64_bits(setting: str) -> None:
    with pytest.raises(EdgekitError, match=r"is not a number|is beyond"):
        load_experiment_config("quick", [setting])


def test_an_experiment_says_that_it_is_its_training_settings_which_are_wrong(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text("methods: [gapg]\ntrain: nothing_of_ours\n")
    with pytest.raises(EdgekitError, match="train: 'nothing_of_ours': edgekit has default"):
        load_experiment_config(str(tmp_path / "e.yaml"))


def test_prices_names_and_budgets_are_used_or_refused(tmp_path: Path, survives: Survives) -> None:
    path = tmp_path / "file"
    prices = yaml.safe_dump({"m": {"prompt": 1.0, "completion": 2.5}}).encode()

    def price(data: bytes) -> None:
        path.write_bytes(data)
        read_price(path, "m")

    def names(number: int) -> None:
        path.write_bytes(damaged("# names\nAda\nGrace Hopper\n\u00c9mile\n".encode(), number))
        read_names(path)

    survives("configuration: prices", yaml_variants(prices, 60), price)
    survives("configuration: names", range(30), names)
    budgets = [damaged(b"2.50usd/day", number).decode(errors="surrogateescape") for number in range(60)]
    budgets += [text_of(value) for value in VALUES]
    survives("configuration: budget", budgets, lambda text: parse_limits([text]))


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_whatever_is_typed_is_one_line_and_an_exit_code(
    every: bool, tmp_path: Path, survives: Survives, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    typed = ["", "-1", "9" * 400, "[/x]\x1b[2J", "\ud800", "a\nb", "/dev/null"]

    def attempt(arguments: list[str]) -> None:
        code = run_command(arguments)
        told = capsys.readouterr()
        assert code in (1, 2), told
        assert "unforeseen" not in told.err
        assert told.err.count("\n") == 1, told.err
        assert not set(told.err) & {"\x1b", "\r", "\x07"}
        raise EdgekitError(told.err.rstrip("\n"))

    cases = [[*option, text] for option in OPTIONS for text in typed]
    cases = cases[:: 1 if every else 3]
    survives("configuration: command line", cases, attempt, all_refused=True)
    assert not any(tmp_path.iterdir())
