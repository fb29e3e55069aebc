"""What share of a decode step a vocabulary's head takes, and that a prompt of any length pays for it once.

ONNX Runtime's own profile of a bundle's artifact, one thread: the sum of the head's times over the sum of all
operators' times, so that other work on the machine slows both alike; and the rows that reach the head.

    python benchmarks/head_share.py out/bench/onnx_int8_table4
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime

from edgekit.bundle.load import open_bundle
from edgekit.simulate.on_onnxruntime import FusedModel

HEAD = "lm_head_kernel_time"
LENGTHS = (1, 16, 64, 256)
STEPS = 64


def profile(bundle: Path) -> list[dict[str, Any]]:
    """The runtime's events: a prefill of each of LENGTHS, then STEPS decode steps."""
    opened = open_bundle(bundle, check=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/profile"
        session = onnxruntime.InferenceSession(opened.artifact, options, providers=["CPUExecutionProvider"])
        model = FusedModel(session, opened.manifest.model.context_length)
        for length in LENGTHS:
            model.reset()
            model.prefill(range(length))
        for token in range(STEPS):
            model.decode(token)
        events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
    return events


def calls(events: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The operators' events of each call, in order."""
    operators = [event for event in events if event["name"].endswith("_kernel_time")]
    for run in (event for event in events if event["name"] == "model_run"):
        yield [each for each in operators if run["ts"] <= each["ts"] < run["ts"] + run["dur"]]


def main() -> None:
    """Profile, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="an ONNX bundle of the fused layout")
    found = list(calls(profile(parser.parse_args().bundle)))
    heads = [next(event for event in call if event["name"] == HEAD) for call in found]
    rows = [next(iter(head["args"]["input_type_shape"][0].values()))[:-1] for head in heads]
    steps = list(zip(heads, found, strict=True))[len(LENGTHS) :]
    share = sum(head["dur"] for head, _ in steps) / sum(event["dur"] for _, call in steps for event in call)
    print(json.dumps({"head_share_of_decode": share, "prompt_tokens": LENGTHS, "rows_into_head": rows[: len(LENGTHS)]}))


if __name__ == "__main__":
    main()
