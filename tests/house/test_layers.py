"""Who may import whom, read from the source: data flows one way through the house."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import edgekit

PACKAGE = Path(edgekit.__file__).parent
FOUNDATION = {
    "atomic_write", "cache", "chatter", "errors", "exchange", "faults", "folder_lock", "json_document", "plain_file",
    "free_memory", "progress", "record_lines", "settings", "version", "yaml_document",
}  # fmt: skip

# Each room, and the rooms it may import besides itself and the foundation.
ALLOWED = {
    "isolation": set(),
    "routing": {"isolation"},
    "tasks": set(),
    "cloud": {"tasks"},
    "policy": {"isolation", "recipes", "routing"},
    "recipes": set(),
    "quantize": {"recipes", "policy", "routing"},
    "rollout": {"policy", "routing", "cloud"},
    "warm_start": {"recipes", "quantize", "rollout", "policy", "routing", "tasks"},
    "train": {"recipes", "warm_start", "rollout", "policy", "quantize", "routing", "tasks", "cloud"},
    "bundle": {"isolation", "recipes", "routing"},
    "simulate": {"isolation", "recipes", "routing", "bundle"},
    "export": {"recipes", "quantize", "policy", "routing", "bundle"},
    "evaluate": {"policy", "routing", "tasks", "cloud", "bundle", "simulate"},
    "hybrid": {"routing", "bundle", "simulate", "cloud", "tasks"},
    "serve": {"hybrid", "cloud", "routing"},
    "integrations": {"bundle", "routing"},
    "verify": {"recipes", "routing", "tasks", "cloud", "policy", "quantize", "bundle", "simulate", "evaluate"},
    "experiment": {"rollout", "warm_start", "train", "policy", "routing", "tasks", "cloud", "evaluate"},
    "workflows": {
        "recipes", "routing", "tasks", "cloud", "policy", "quantize", "rollout", "warm_start", "train",
        "bundle", "simulate", "export", "evaluate", "verify", "experiment", "hybrid", "serve",
    },
    "cli": {"workflows", "hybrid", "recipes", "bundle", "verify", "train", "warm_start"},
}  # fmt: skip

HEAVY = {
    "onnxruntime": {"simulate/on_onnxruntime.py"},
    "onnx": {"export/targets/onnx_graph.py"},
    "executorch": {"simulate/on_executorch.py", "export/targets/to_executorch.py"},
    "coremltools": {
        "simulate/on_coreml.py",
        "export/targets/to_coreml.py",
        "export/targets/coreml_graph.py",
        "export/targets/coreml_weights.py",
    },
    "openai": {"cloud/openai_client.py", "rollout/server.py"},
    "gguf": {"policy/gguf_package.py"},
    "datasets": {"tasks/hub.py"},
    "math_verify": {"tasks/math_worker.py"},
    "minisign": {"bundle/signature.py"},
    "wandb": {"train/trackers/to_wandb.py"},
    "vllm": {"integrations/vllm_processor.py"},
    "transformers": {"experiment/routers/pretrained.py", "integrations/generate.py"},
}


# These subclass a backend's classes, and are imported by those who have it.
SUBCLASSES = {"integrations/generate.py"}


def imports(path: Path, *, module_level: bool = False) -> set[str]:
    """Dotted names that the file imports."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if module_level else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


SOURCES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def test_every_room_has_a_rule() -> None:
    rooms = {path.parts[0] for path in SOURCES if len(path.parts) > 1}
    assert rooms == set(ALLOWED)


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_a_file_imports_only_from_rooms_before_it(source: Path) -> None:
    if len(source.parts) == 1:
        return
    room = source.parts[0]
    rooms = {name.split(".")[1] for name in imports(PACKAGE / source) if name.startswith("edgekit.")}
    names = {path.stem for path in SOURCES if len(path.parts) == 1} | set(ALLOWED)
    reached = (rooms & names) - FOUNDATION - {room}
    assert reached <= ALLOWED[room], f"{source} imports {sorted(reached - ALLOWED[room])}"


def test_no_rooms_and_no_files_import_each_other_in_a_circle() -> None:
    TopologicalSorter(ALLOWED).prepare()  # raises CycleError, naming the circle
    names = {
        source: ".".join(("edgekit", *source.with_suffix("").parts)).removesuffix(".__init__") for source in SOURCES
    }
    del names[Path("__init__.py")]  # the front door loads the workflows when they are used
    known = set(names.values())
    graph = {name: (imports(PACKAGE / source) & known) - {name} for source, name in names.items()}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("backend", sorted(HEAVY))
def test_a_backend_is_imported_only_in_its_own_files_and_never_at_module_level(backend: str) -> None:
    for source in SOURCES:
        name = source.as_posix()
        deep = {imported.split(".")[0] for imported in imports(PACKAGE / source)}
        shallow = {imported.split(".")[0] for imported in imports(PACKAGE / source, module_level=True)}
        assert backend not in shallow or name in SUBCLASSES, f"{name} imports {backend} when it is loaded"
        assert backend not in deep or name in HEAVY[backend], f"{name} imports {backend}"


def test_only_the_command_line_prints() -> None:
    for source in SOURCES:
        if source.parts[0] in ("cli", "__main__.py"):
            continue
        calls = [
            node.func for node in ast.walk(ast.parse((PACKAGE / source).read_text())) if isinstance(node, ast.Call)
        ]
        assert not any(isinstance(call, ast.Name) and call.id == "print" for call in calls), source


def test_simulators_need_no_torch_but_executorch_s_own_runtime() -> None:
    for source in SOURCES:
        if source.parts[0] in ("simulate", "bundle", "routing", "tasks", "cloud") and source.name != "on_executorch.py":
            assert not any(name.split(".")[0] == "torch" for name in imports(PACKAGE / source)), source
