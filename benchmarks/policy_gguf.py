"""A trained policy of SmolLM2's shape as a GGUF, so that llama.cpp can be asked what its 4 bits make of the decisions.

    python benchmarks/policy_gguf.py POLICY --like SMOLLM2.gguf --out POLICY.gguf
    .venv-peers/bin/python benchmarks/policy_gguf.py --quantize Q4_K_M --like POLICY.gguf --out POLICY_Q4_K_M.gguf

The first writes the policy's weights in float16 beside the facts and the tokenizer of the file it was trained from; the
second is llama.cpp's own quantizer, at its defaults.
"""

from __future__ import annotations

import argparse
import ctypes
from pathlib import Path

import numpy as np

FILE_TYPES = {"Q4_0": 2, "Q4_K_M": 15}
"""llama.cpp's numbers of its file types."""


def write_gguf(policy: Path, like: Path, out: Path) -> None:
    """``policy``'s weights under llama.cpp's names, with all else that ``like`` says."""
    from gguf import GGUFReader, GGUFValueType, GGUFWriter
    from safetensors.numpy import load_file

    from edgekit.policy.smollm2 import hugging_face_name

    source = GGUFReader(like)
    writer, weights = GGUFWriter(out, "llama"), load_file(policy / "model.safetensors")
    for name, field in source.fields.items():
        if not name.startswith("GGUF.") and name not in ("general.architecture", "general.file_type"):
            kind, inner = field.types[0], field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), kind, inner)
    facts = {name: field.contents() for name, field in source.fields.items() if name.startswith("llama.")}
    heads = {"attn_q": facts["llama.attention.head_count"], "attn_k": facts["llama.attention.head_count_kv"]}
    for tensor in source.tensors:
        weight, kind = weights[hugging_face_name(tensor.name)], tensor.name.split(".")[-2]
        weight = permute(weight, int(heads[kind])) if kind in heads else weight
        writer.add_tensor(tensor.name, weight.astype(np.float32 if weight.ndim == 1 else np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def permute(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows (heads * dim, in) from Hugging Face's two rotary halves to llama.cpp's interleaved pairs."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def quantize_gguf(source: Path, out: Path, file_type: int) -> None:
    """llama.cpp's quantizer."""
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = file_type
    if llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(params)):
        raise SystemExit(f"llama.cpp could not quantize {source}")


def main() -> None:
    """Read the command line and do one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", type=Path, nargs="?")
    parser.add_argument("--like", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quantize", choices=sorted(FILE_TYPES))
    given = parser.parse_args()
    if given.quantize:
        quantize_gguf(given.like, given.out, FILE_TYPES[given.quantize])
    elif given.policy is None:
        parser.error("name a policy folder, or --quantize")
    else:
        write_gguf(given.policy, given.like, given.out)


if __name__ == "__main__":
    main()
