"""What ``import edgekit`` gives: cheap, typed, the commands' own functions with the commands' own defaults."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import pytest
import typer

import edgekit
from edgekit.cli.app import app

HEAVY = ("torch", "numpy", "pydantic", "typer", "onnxruntime", "transformers")
COMMANDS = {"train": "train", "export": "export", "verify": "verify", "calibrate": "calibrate", "answer": "run"}


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_importing_edgekit_loads_nothing_heavy_and_still_lists_what_it_gives() -> None:
    told = run_python(f"import sys, edgekit; print(dir(edgekit)); sys.exit(any(m in sys.modules for m in {HEAVY}))")
    assert told.returncode == 0, told.stderr
    assert all(name in told.stdout for name in edgekit.__all__)


@pytest.mark.slow
def test_a_name_stays_the_function_whichever_room_of_that_name_is_imported_first() -> None:
    code = (
        "import edgekit; from edgekit.train.config import TrainConfig; from edgekit.verify import parity\n"
        "from edgekit import train, verify; from edgekit.train import config\n"
        "assert callable(edgekit.train) and edgekit.train is train and callable(edgekit.verify) and config.TrainConfig"
    )
    assert run_python(code).returncode == 0


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = edgekit.trian  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [name for name in edgekit.__all__ if name[0].islower()])
def test_every_function_is_annotated_and_says_what_it_does(name: str) -> None:
    function = getattr(edgekit, name)
    assert isinstance(function, FunctionType)
    assert function.__doc__
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())


@pytest.mark.parametrize(("name", "command"), COMMANDS.items())
def test_a_function_and_its_command_have_the_same_defaults(name: str, command: str) -> None:
    options = {p.name: p for p in typer.main.get_command(app).commands[command].params}  # type: ignore[attr-defined]
    compared = 0
    for key, parameter in inspect.signature(getattr(edgekit, name)).parameters.items():
        option = options.get({"run": "source"}.get(key, key))
        if option is not None and parameter.default is not inspect.Parameter.empty:
            assert str(option.default) == str(parameter.default), key
            compared += 1
    assert compared >= 2


def test_types_are_shipped() -> None:
    assert (Path(edgekit.__file__).parent / "py.typed").is_file()


@pytest.mark.slow
def test_type_checkers_see_the_functions_behind_the_lazy_names(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import edgekit\n"
        "passed: bool = edgekit.verify(edgekit.export(edgekit.train(), 'onnx')).passed\n"
        "edgekit.export('run', 'onnx', caes=3)\n"
    )
    root = Path(edgekit.__file__).parents[1]
    command = [sys.executable, "-m", "mypy", "--config-file", str(root / "pyproject.toml"), str(program)]
    told = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False).stdout
    assert "program.py:3" in told
    assert 'did you mean "cases"' in told
    assert told.count("error:") == 1, told
