"""Controls for what export_llm's artifact decides: is its model ours, and what does its rounding do by itself?

    python benchmarks/export_llm_control.py POLICY --n 60 --out docs/results/reasoning/peers

Prints the largest difference of logits between its PyTorch model, filled as export_llm_peer.py fills it, and the
policy. Then torchao rounds the policy as export_llm has it rounded (8da4w in groups of 32, the embedding in 8 bits a
row), and PyTorch decodes the first ``n`` problems; control_torchao_8da4w.json.gz keeps each.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from executorch.examples.models.llama.llama_transformer import construct_transformer
from executorch.examples.models.llama.model_args import ModelArgs
from export_llm_peer import convert, model_args
from reasoning_study import decode, kept
from torch import nn
from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
from torchao.quantization.granularity import PerGroup

from edgekit.policy.checkpoint import Policy, load_policy
from edgekit.tasks import get_task


@torch.inference_mode()
def difference(folder: Path, policy: Policy, prompt: str) -> float:
    """The largest distance of its logits from the policy's at any token of ``prompt``, over the latter's length."""
    config = json.loads((folder / "config.json").read_text())
    length = {"max_seq_len": 64, "max_context_len": 64, "generate_full_logits": True}
    theirs = construct_transformer(ModelArgs(**length, **model_args(config)))
    theirs.load_state_dict(convert(folder, config), strict=False)
    ids = torch.tensor([policy.encode(prompt)])
    expected, found = policy.model(ids)[0], theirs(ids)[0]
    return float(((found - expected).norm(dim=-1) / expected.norm(dim=-1)).max())


def rounded(folder: Path) -> Policy:
    """The policy with export_llm's rounding, by torchao."""
    policy = load_policy(folder)
    model = policy.model.requires_grad_(False)
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.clone(), requires_grad=False)  # no longer the embedding
    table = model.model.embed_tokens.weight
    scale = table.abs().amax(1, keepdim=True) / 127
    model.model.embed_tokens.weight = nn.Parameter(
        (table / scale).round().clamp(-128, 127) * scale, requires_grad=False
    )
    recipe = Int8DynamicActivationIntxWeightConfig(weight_dtype=torch.int4, weight_granularity=PerGroup(32))
    quantize_(model, recipe, filter_fn=lambda module, _: isinstance(module, nn.Linear))
    return policy


def main() -> None:
    """Read the command line, print both controls."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", type=Path)
    parser.add_argument("--task", default="countdown-reasoning")
    parser.add_argument("--n", type=int, default=60)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    task = get_task(given.task)
    problems = task.problems("test", given.n, seed=0)
    print(f"its PyTorch model: {difference(given.policy, load_policy(given.policy), problems[0].prompt):.1e}")
    path = given.out / "control_torchao_8da4w.json.gz"
    results = kept(path, problems, lambda missing: decode(rounded(given.policy), missing, task))
    right, called = sum(each.right for each in results), sum(each.called for each in results)
    print(f"its rounding: {right} of {len(results)} solved alone, {called} called")


if __name__ == "__main__":
    main()
