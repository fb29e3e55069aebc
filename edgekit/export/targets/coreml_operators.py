"""How the edge decoder's two special operators become Core ML's: integer linears and cache writes.

coremltools keeps its translators in one process-wide table, so ours stand in it only while
:func:`edge_operators` is open.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from edgekit.errors import EdgekitError


@contextmanager
def edge_operators(compute: str) -> Iterator[None]:
    """Teach coremltools ``edgekit.quantized_linear`` and the contiguous cache write, for one conversion.

    ``compute`` (float16 or float32) is the type integer linears multiply in.
    """
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY

    ours = {"edgekit::quantized_linear": _quantized_linear(compute), "index_put": _write_cache}
    table: dict[str, Any] = _TORCH_OPS_REGISTRY.name_to_func_mapping
    before = {name: table[name] for name in ours if name in table}
    table.update(ours)
    try:
        yield
    finally:
        for name in ours:
            table.pop(name)
        table.update(before)


def _quantized_linear(compute: str) -> Any:
    """The translator of quantized_linear(x, values, scales, bits, activations)."""
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.frontend.torch.ops import _get_inputs
    from coremltools.converters.mil.mil import types

    half = compute == "float16"

    def translate(context: Any, node: Any) -> None:
        x, values, scales, bits, activations = _get_inputs(context, node, expected=5)
        if activations != "float":
            raise EdgekitError(
                f"recipe does not fit Core ML: activations {activations}. Its linears take float inputs. "
                "Use activations: float."
            )
        integers = values.val.astype(types.np_int4_dtype if int(bits.val) == 4 else np.int8)
        weight = Builder.constexpr_blockwise_shift_scale(
            data=integers, scale=scales.val.astype(np.float16 if half else np.float32)
        )
        y = Builder.linear(x=Builder.cast(x=x, dtype="fp16") if half else x, weight=weight)
        # The frontend works in float32; the pair of casts around each linear is folded away afterwards.
        context.add(Builder.cast(x=y, dtype="fp32", name=node.name) if half else Builder.identity(x=y, name=node.name))

    return translate


def _write_cache(context: Any, node: Any) -> None:
    """index_put(cache (1, K, S, D), [None, None, positions (T,)], new) as one slice update.

    The decoder's positions follow one another, so the first one places the slice; coremltools' own
    translation only knows a single position.
    """
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.frontend.torch.ops import _get_inputs

    cache, indices, new = _get_inputs(context, node)[:3]
    if len(indices) != 3 or indices[0] is not None or indices[1] is not None:
        raise EdgekitError(f"cannot lower to Core ML: {node.name}. Not a write along a KV cache. Write by slots.")
    tokens = indices[2].shape[0]
    first = Builder.slice_by_index(x=indices[2], begin=[0], end=[1])
    zero = np.zeros(1, np.int32)
    begin = Builder.concat(values=[zero, zero, first, zero], axis=0)
    end = Builder.concat(values=[zero, zero, Builder.add(x=first, y=np.int32(tokens)), zero], axis=0)
    whole = [True, True, False, True]
    new = Builder.reshape(x=new, shape=(*cache.shape[:2], tokens, cache.shape[3]))
    updated = Builder.slice_update(
        x=cache, update=new, begin=begin, end=end, begin_mask=whole, end_mask=whole, name=node.name
    )
    context.add(updated)
