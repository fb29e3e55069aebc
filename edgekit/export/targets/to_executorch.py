"""Lower a policy to one ExecuTorch file: blocks in XNNPACK, attention and cache in the LLM operators.

Around each layer's attention everything is one XNNPACK delegate; the KV cache stays inside the program, as
buffers it mutates. The file's metadata is what ExecuTorch's own LLM runners read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from edgekit.atomic_write import write_file
from edgekit.chatter import logged_chatter
from edgekit.export.capture import capture
from edgekit.export.targets.executorch_attention import FusedAttention
from edgekit.export.targets.executorch_graph import rewrite, stages
from edgekit.policy.model import ModelConfig, PolicyModel
from edgekit.progress import Say
from edgekit.recipes.export_recipe import ExportRecipe
from edgekit.recipes.targets.executorch import TARGET

Metadata = dict[str, int | bool | list[int]]


def problems(config: ModelConfig, recipe: ExportRecipe) -> list[str]:  # noqa: ARG001
    """None that the target's record does not know: XNNPACK and the LLM operators take any sizes."""
    return []


def lower(
    model: PolicyModel,
    recipe: ExportRecipe,
    folder: Path,
    *,
    stop_token_ids: Sequence[int] = (),
    say: Say | None = None,
) -> Path:
    """Write ``folder/model.pte`` and return its path.

    One method, ``forward(token_ids (1, tokens) int64, position (1,) int64) -> logits (1, vocab) float32``,
    serves prefill (at most context_length - 1 tokens) and decode. ``stop_token_ids`` and ``say``:
    see :class:`Lowering`.
    """
    tell = say or (lambda _: None)
    with logged_chatter():
        # In this order: the embedding operators load only when the runtime, which the first brings, is there.
        from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401, I001
        import executorch.kernels.quantized  # noqa: F401

        tell("capturing the program")
        program = capture(model, recipe.context_length, FusedAttention())
        tell("rewriting it for XNNPACK")
        rewrite(program, recipe.context_length)
        data = _compile(program, metadata(model, recipe, stop_token_ids), tell)
    path = folder / TARGET.artifact
    write_file(path, data)
    return path


def oldest_runtime(model: PolicyModel, recipe: ExportRecipe) -> str:  # noqa: ARG001
    """1.4.0 runs what 1.5.1 lowers, and the other way round: the files are the same, byte for byte."""
    return "1.4"


def metadata(model: PolicyModel, recipe: ExportRecipe, stop_token_ids: Sequence[int] = ()) -> Metadata:
    """The constant methods ExecuTorch's LLM runners ask for; a policy's prompts begin with no token of their own."""
    return {
        "get_vocab_size": model.config.vocab_size,
        "get_n_layers": model.config.num_hidden_layers,
        "get_max_context_len": recipe.context_length,
        "get_max_seq_len": recipe.context_length - 1,  # of one call
        "get_eos_ids": list(stop_token_ids),
        "use_kv_cache": True,
        "use_sdpa_with_kv_cache": True,
        "enable_dynamic_shape": True,
    }


def _compile(program: ExportedProgram, constants: Metadata, tell: Say) -> bytes:
    from executorch.exir import EdgeCompileConfig, EdgeProgramManager

    config = EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True)
    manager = EdgeProgramManager({"forward": _edge_dialect(program, config)}, constants, config)
    tell("packing the blocks for XNNPACK")
    lowered = manager.to_backend(_partitioner())
    tell("writing the program")
    return bytes(lowered.to_executorch().buffer)


def _partitioner() -> Any:
    """XNNPACK's partitioner, but one delegate for all that lies between two calls it cannot take."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.xnnpack_preprocess import XnnpackBackend
    from executorch.exir.backend.backend_details import CompileSpec
    from executorch.exir.backend.partitioner import DelegationSpec
    from torch.fx.passes.infra.partitioner import Partition

    class StagePartitioner(XnnpackPartitioner):
        def generate_partitions(self, ep: ExportedProgram) -> list[Any]:
            supported = {node for group in self.get_matched_nodes_from_configs(ep) for node in group}
            return [Partition(id=n, nodes=nodes) for n, nodes in enumerate(stages(ep, supported))]

    partitioner = StagePartitioner()
    # Without this key XNNPACK legalizes and prints the whole graph once per delegate.
    partitioner.delegation_spec = DelegationSpec(XnnpackBackend.__name__, [CompileSpec("dqlinear_partitioner", b"")])
    return partitioner


def _edge_dialect(program: ExportedProgram, config: Any) -> ExportedProgram:
    """``program`` with each operator in ExecuTorch's dialect; it is functional and decomposed already."""
    from executorch.exir.dialects._ops import ops
    from executorch.exir.verification.verifier import EXIREdgeDialectVerifier

    plain = {torch.ops.aten.sym_size.int, torch.ops.aten._local_scalar_dense.default}
    for node in program.graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload) and node.target not in plain:
            space, _, name = node.target._schema.name.partition("::")
            node.target = getattr(getattr(getattr(ops.edge, space), name), node.target._overloadname)
    program.graph_module.recompile()
    return ExportedProgram(
        root=program.graph_module,
        graph=program.graph,
        graph_signature=program.graph_signature,
        state_dict=program.state_dict,
        range_constraints=program.range_constraints,
        module_call_graph=program.module_call_graph,
        example_inputs=program.example_inputs,
        constants=program.constants,
        verifiers=[EXIREdgeDialectVerifier(edge_compile_config=config, class_only=True)],
    )
