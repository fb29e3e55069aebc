"""The ONNX operators that an artifact may have: what the export writes, and what the simulator takes.

None runs a graph inside it, loops, or makes more than its inputs' shapes call for, but Expand and Pad.
"""

from __future__ import annotations

MICROSOFT = frozenset(
    {
        "FusedMatMul",
        "GatherBlockQuantized",
        "GroupQueryAttention",
        "MatMulNBits",
        "QuickGelu",
        "RotaryEmbedding",
        "SkipSimplifiedLayerNormalization",
    }
)
"""Operators of ONNX Runtime's own domain."""
STANDARD = frozenset(
    {
        "Add",
        "Cast",
        "Concat",
        "Div",
        "Expand",
        "Gather",
        "Gelu",
        "MatMul",
        "Mul",
        "Neg",
        "Pad",
        "Relu",
        "Reshape",
        "Shape",
        "Sigmoid",
        "SimplifiedLayerNormalization",
        "Size",
        "Slice",
        "Softmax",
        "Split",
        "Sub",
        "Tanh",
        "Transpose",
        "Unsqueeze",
        "Where",
    }
)
"""Operators of ONNX itself (and the norm that ONNX Runtime adds to them)."""
DOMAINS = {"": STANDARD, "ai.onnx": STANDARD, "com.microsoft": MICROSOFT}
EXTERNAL_SUFFIX = "_data"
"""What follows a model's name in that of the file with its large weights: the name that transformers.js looks for."""
