"""A policy folder: a plain Hugging Face model directory plus routing.json, read and written here.

config.json, model.safetensors, tokenizer.json, tokenizer_config.json load with
``transformers.AutoModelForCausalLM.from_pretrained``; no transformers import is needed to read them. A policy trained
on a recipe's grid has grid.json too, and rounds activations as that recipe's target does; floats/ in it is a policy
folder of its own, of the floats behind the grid.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from tokenizers import Tokenizer
from torch import nn

from edgekit.atomic_write import write_file
from edgekit.policy.activations import round_inputs
from edgekit.policy.families import get_family, read_model_config, write_model_config
from edgekit.policy.grid import FLOATS, Grid, load_grid
from edgekit.policy.json_file import read_json
from edgekit.policy.model import PolicyModel
from edgekit.policy.traits import ModelConfig
from edgekit.policy.weights import find_weights, read_weights, refuse_adapter
from edgekit.routing.prompt_encoder import PromptEncoder, encoder_of
from edgekit.routing.prompt_tokens import read_tokenizer
from edgekit.routing.spec import RoutingSpec, load_routing
from edgekit.routing.turns import TurnFormat, load_turns
from edgekit.routing.vocabulary import Vocabulary, load_vocabulary

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@dataclass
class Policy:
    """A model with its tokenizer and its routing data.

    ``grid`` is what the model's weights lie on, None for floats; ``turns`` how its chat template writes several turns,
    None for a policy that reads single prompts.
    """

    model: PolicyModel
    tokenizer: Tokenizer
    routing: RoutingSpec
    vocabulary: Vocabulary
    grid: Grid | None = None
    turns: TurnFormat | None = None

    def __post_init__(self) -> None:
        without = torch.from_numpy(self.vocabulary.without_token(self.model.config.vocab_size))
        self.model.without_token = without.to(self.model.cos.device)

    def encode(self, prompt: str) -> list[int]:
        """Token ids of the rendered ``prompt``, ready for prefill."""
        return self.prompt_tokenizer.encode(self.routing.parts(prompt), self.routing.delimiters)

    @cached_property
    def prompt_tokenizer(self) -> PromptEncoder:
        """``tokenizer`` for prompts, in which user text is data."""
        return encoder_of(self.tokenizer)


def read_config(path: Path) -> ModelConfig:
    """Read a Hugging Face config.json. Raises :class:`BundleError` for what edgekit does not compute."""
    return read_model_config(read_json(path), path)


def huggingface_config(config: ModelConfig, eos_token_id: int) -> dict[str, Any]:
    """The config.json of ``config`` as an ordinary checkpoint of its family."""
    return {
        **write_model_config(config),
        "bos_token_id": None,
        "eos_token_id": eos_token_id,
        "torch_dtype": "float32",
    }


def state_tensors(model: PolicyModel) -> dict[str, torch.Tensor]:
    """The model's weights as its family's files have them; a tied head is stored once."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight")
    return get_family(model.config.family).store(tensors)


def save_policy(policy: Policy, folder: Path, floats: PolicyModel | None = None) -> None:
    """Write the policy folder, each file atomically; ``floats``, which round to the policy's weights, beside them."""
    stops = policy.routing.stop_token_ids
    eos = stops[0]
    ends = {"eos_token_id": eos if len(stops) == 1 else list(stops)}
    files = {
        "config.json": json.dumps(huggingface_config(policy.model.config, eos), indent=2) + "\n",
        "generation_config.json": json.dumps(ends, indent=2) + "\n",
        "model.safetensors": save(state_tensors(policy.model), metadata={"format": "pt"}),
        "tokenizer.json": policy.tokenizer.to_str(pretty=True) + "\n",
        "tokenizer_config.json": json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}, indent=2) + "\n",
    }
    for name, data in files.items():
        write_file(folder / name, data)
    if policy.grid is not None:
        policy.grid.save(folder)
    if policy.turns is not None:
        policy.turns.save(folder)
    if floats is not None:
        save_policy(replace(policy, model=floats, grid=None), folder / FLOATS)
    policy.routing.save(folder / "routing.json")


def load_policy(folder: Path) -> Policy:
    """Read a policy folder. Raises :class:`BundleError` naming the file at fault."""
    model = load_model(folder)
    routing = load_routing(folder / "routing.json")
    grid = load_grid(folder)
    if grid is not None:
        round_inputs(model, grid.quantize)
    tokenizer_path = folder / "tokenizer.json"
    vocabulary = load_vocabulary(tokenizer_path, routing)
    return Policy(model, read_tokenizer(tokenizer_path), routing, vocabulary, grid, load_turns(folder))


@contextmanager
def _nothing_drawn() -> Iterator[None]:
    """Modules made inside keep their parameters as they are.

    Drawing on the meta device draws nothing, yet has torch import its compiler, which takes seconds.
    """
    drawing = {kind: kind.reset_parameters for kind in (nn.Linear, nn.Embedding)}
    try:
        for kind in drawing:
            kind.reset_parameters = lambda _: None  # type: ignore[method-assign, assignment]
        yield
    finally:
        for kind, draw in drawing.items():
            kind.reset_parameters = draw  # type: ignore[method-assign, assignment]


def load_model(folder: Path) -> PolicyModel:
    """The model of a Hugging Face folder, in float32. Raises :class:`BundleError` naming the file at fault."""
    refuse_adapter(folder)
    config = read_config(folder / "config.json")
    shapes = {name: tensor.shape for name, tensor in _without_numbers(config).state_dict().items()}
    if config.tie_word_embeddings:
        del shapes[HEAD]
    family = get_family(config.family)
    copies = {HEAD: EMBEDDING} if config.tie_word_embeddings else {}
    stored = read_weights(find_weights(folder), family.stored_shapes(shapes), copies)
    tensors = family.load(stored, shapes)
    if config.tie_word_embeddings:
        tensors[HEAD] = tensors[EMBEDDING]
    return model_of(config, tensors)


def model_of(config: ModelConfig, tensors: dict[str, torch.Tensor]) -> PolicyModel:
    """The model whose parameters, by Llama's names, are ``tensors`` themselves: no second copy."""
    model = _without_numbers(config)
    model.load_state_dict(tensors, assign=True)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    model.without_token = torch.empty(0, dtype=torch.int64)
    model.make_tables()
    return model.eval()


def _without_numbers(config: ModelConfig) -> PolicyModel:
    with torch.device("meta"), _nothing_drawn():
        return PolicyModel(config)
