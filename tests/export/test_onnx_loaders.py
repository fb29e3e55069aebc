"""A bundle of the standard layout opens unchanged in Hugging Face's ONNX runtimes, which then write the same tokens."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from edgekit.export.pipeline import export
from edgekit.policy.checkpoint import load_policy
from edgekit.policy.reference import ReferenceModel
from edgekit.quantize.quantized import quantize_policy
from edgekit.recipes.lookup import find_recipe
from edgekit.simulate import on_onnxruntime

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

STANDARD = ["onnx_fp32_standard", "onnx_int4_standard"]
NEW_TOKENS = 12
TRANSFORMERS_JS = "@huggingface/transformers@4.3.1"
NODE = Path(__file__).parents[2] / "out" / "node"


@pytest.fixture(scope="module", params=STANDARD)
def bundle(request: pytest.FixtureRequest, tiny_policy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny policy exported in the standard layout; the folder's name is its recipe's."""
    folder = tmp_path_factory.mktemp("standard") / request.param
    return export(tiny_policy_folder, find_recipe(request.param, "onnx"), folder, prompts=[])


@pytest.fixture
def expected(bundle: Path, tiny_policy_folder: Path, tiny_prompts: list[str]) -> list[tuple[list[int], list[int]]]:
    """Prompts' tokens with the greedy tokens that the quantized torch policy writes after them, its end included."""
    policy = load_policy(tiny_policy_folder)
    reference = ReferenceModel(quantize_policy(policy, find_recipe(bundle.name, "onnx").quantize).model)
    cases = []
    for prompt in tiny_prompts[:4]:
        ids = policy.encode(prompt)
        reference.reset()
        tokens = [int(reference.prefill(ids).argmax())]
        while len(tokens) < NEW_TOKENS and tokens[-1] not in policy.routing.stop_token_ids:
            tokens.append(int(reference.decode(tokens[-1]).argmax()))
        cases.append((ids, tokens))
    return cases


def test_optimum_writes_the_policy_s_tokens(bundle: Path, expected: list[tuple[list[int], list[int]]]) -> None:
    optimum = pytest.importorskip("optimum.onnxruntime")
    torch = pytest.importorskip("torch")
    model = optimum.ORTModelForCausalLM.from_pretrained(bundle)
    for ids, tokens in expected:
        batch = torch.tensor([ids])
        written = model.generate(
            input_ids=batch, attention_mask=torch.ones_like(batch), max_new_tokens=NEW_TOKENS, do_sample=False
        )
        assert written[0, len(ids) :].tolist() == tokens


@pytest.fixture(scope="module")
def node_modules() -> Path:
    """Where transformers.js lies, fetched once (0.5 GB on disk)."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node or npm is not installed")
    modules = NODE / "node_modules"
    if not (modules / "@huggingface" / "transformers").is_dir():
        command = ["npm", "install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--silent"]
        fetched = subprocess.run([*command, "--prefix", str(NODE), TRANSFORMERS_JS], check=False, timeout=300)
        if fetched.returncode:
            pytest.skip(f"npm could not fetch {TRANSFORMERS_JS}: connect to a network once")
    return modules


@pytest.mark.slow
def test_transformers_js_writes_the_policy_s_tokens(
    node_modules: Path, bundle: Path, expected: list[tuple[list[int], list[int]]]
) -> None:
    script = Path(__file__).with_name("transformers_js_generate.cjs")
    environment = os.environ | {"NODE_PATH": str(node_modules)}
    for ids, tokens in expected:
        command = ["node", str(script), str(bundle), json.dumps(ids), str(NEW_TOKENS)]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout.splitlines()[-1]) == tokens


def test_our_own_simulator_runs_it_too(bundle: Path, expected: list[tuple[list[int], list[int]]]) -> None:
    model = on_onnxruntime.open_artifact(bundle / "model.onnx", 64, 16)
    for ids, tokens in expected:
        model.reset()
        written = [int(model.prefill(ids).argmax())]
        while len(written) < len(tokens):
            written.append(int(model.decode(written[-1]).argmax()))
        assert written == tokens
