"""A training step on a recipe's grid beside the same step in floats: the same work, in turns, in one run.

Every contender is a process of its own (``workers/edgekit_training.py``) that waits without work while another runs.
A ratio is the median of each round's own, in processor time, which other processes disturb least, and in wall time.

    python benchmarks/grid_step.py --recipes coreml_int4_decisions executorch_int4_decisions onnx_int4_decisions
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from typing import Any

from decode_on_host import Worker
from training_step import WORKERS, add_job_arguments, job_of, measure, start

FLOATS = "floats"


def ratios(replies: list[dict[str, Any]], yardstick: list[dict[str, Any]]) -> dict[str, float]:
    """How much more of each a contender took than ``yardstick``, round by round."""
    pairs = list(zip(replies, yardstick, strict=True))
    over = {key: statistics.median(mine[key] / theirs[key] for mine, theirs in pairs) for key in ("cpu_s", "seconds")}
    return {**over, "peak_rss_mb": replies[-1]["peak_mb"] / yardstick[-1]["peak_mb"]}


def main() -> None:
    """Run the comparison and print one JSON object: each recipe's ratios to the float step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_job_arguments(parser, rounds=3)
    parser.add_argument("--recipes", nargs="+", required=True)
    parser.add_argument("--bfloat16", action="store_true")
    arguments = parser.parse_args()
    job = {**job_of(arguments), "bfloat16": arguments.bfloat16, "checkpointing": False}
    command = [sys.executable, str(WORKERS / "edgekit_training.py")]
    workers: list[Worker] = [start(FLOATS, command, job)]
    workers += [start(recipe, command, {**job, "quantize": recipe}) for recipe in arguments.recipes]
    replies = measure(workers, arguments.rounds)
    for worker in workers:
        assert worker.process.stdin is not None
        worker.process.stdin.close()
        worker.process.wait()
    settings = {key: value for key, value in job.items() if key not in ("model", "prompts")}
    over = {name: ratios(turns, replies[FLOATS]) for name, turns in replies.items() if name != FLOATS}
    print(json.dumps({"settings": settings, "over_floats": over, "rounds": replies}))


if __name__ == "__main__":
    main()
