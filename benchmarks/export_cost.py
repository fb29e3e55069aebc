"""What an export costs: wall time, processor time and peak memory of each exporter, in a process of its own.

Builds everything that decode_on_host.py measures, from one Hugging Face folder, and writes export_cost.json beside it.
An artifact that is there already is kept, with the cost recorded when it was made; ``--again`` makes it anew. An
exporter that fails is recorded as such, and the others go on.

    python benchmarks/export_cost.py FOLDER --out out/bench --peers-python .venv-peers/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from decode_on_host import ending

RECIPES = ("onnx_int4", "onnx_int8", "executorch_int4", "coreml_int4")
PLAIN = ("--no-calibrate", "--cases", "1")
"""Quantizing, lowering and packing only, as the peers do: no marker bias of the artifact's own, one recorded case."""
HERE = Path(__file__).parent


def run_measured(command: list[str], log: Path) -> dict[str, Any]:
    """Run ``command`` to its end, output to ``log``; seconds, processor seconds, peak MB of it and its children.

    Only ``failed``, with how it ended, if it fails; the log's last lines are printed.
    """
    begin = time.perf_counter()
    with open(log, "w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
        print(f"failed: {' '.join(command)}\n{tail}\nAll of it: {log}", file=sys.stderr)
        return {"failed": ending(process.returncode)}
    return {
        "wall_s": wall_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_rss_mb": usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3),
    }


def commands(
    source: Path, out: Path, peers: Path | None, llm: bool, recipes: list[str]
) -> dict[str, tuple[Path, list[str]]]:
    """Name -> (what appears, command that makes it)."""
    jobs: dict[str, tuple[Path, list[str]]] = {}
    if peers is not None:
        folder = out / "genai_int4"
        builder = [str(peers), "-m", "onnxruntime_genai.models.builder", "-p", "int4", "-e", "cpu"]
        files = ["-i", str(source), "-o", str(folder), "-c", str(out / "genai_cache")]
        jobs["onnxruntime-genai model builder int4"] = (folder, [*builder, *files])
    if llm:
        file = out / "export_llm.pte"
        jobs["export_llm 8da4w"] = (file, [sys.executable, str(HERE / "export_llm_peer.py"), str(source), str(file)])
    for recipe in recipes:
        target = recipe.split("_")[0]
        command = [sys.executable, "-m", "edgekit", "export", str(source), "--target", target, "--recipe", recipe]
        jobs[f"edgekit {recipe}"] = (out / recipe, [*command, "--out", str(out / recipe), *PLAIN])
    return jobs


def main() -> None:
    """Build what is missing, measure each, print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a policy folder: a Hugging Face folder with routing.json")
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--peers-python", type=Path, help="the Python with onnxruntime-genai, torch and transformers")
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES))
    parser.add_argument("--export-llm", action="store_true", help="also run ExecuTorch's export_llm (many minutes)")
    parser.add_argument("--again", action="store_true", help="make everything anew")
    arguments = parser.parse_args()
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    record = out / "export_cost.json"
    costs = json.loads(record.read_text()) if record.exists() else {}
    weights_mb = (arguments.source / "model.safetensors").stat().st_size / 1e6
    jobs = commands(arguments.source, out, arguments.peers_python, arguments.export_llm, arguments.recipes)
    for name, (made, command) in jobs.items():
        if made.exists() and not arguments.again:
            continue
        shutil.rmtree(made, ignore_errors=True)
        made.unlink(missing_ok=True)
        print(f"{name} ...", file=sys.stderr)
        costs[name] = run_measured(command, out / f"{made.stem}.log")
        if "failed" in costs[name]:
            shutil.rmtree(made, ignore_errors=True)  # half of it would be measured
        else:
            costs[name]["peak_over_weights"] = costs[name]["peak_rss_mb"] / weights_mb
        record.write_text(json.dumps(costs, indent=1) + "\n")
    failed = {name: cost["failed"] for name, cost in costs.items() if "failed" in cost}
    for name, cost in costs.items():
        if name in failed:
            print(f"{name:40s} failed: {cost['failed']}")
            continue
        print(
            f"{name:40s} {cost['wall_s']:6.0f} s  {cost['cpu_s']:6.0f} CPU s  {cost['peak_rss_mb']:7,.0f} MB peak  "
            f"{cost['peak_over_weights']:.1f} x the fp32 weights"
        )
    if own := [name for name in failed if name.startswith("edgekit ")]:
        raise SystemExit(f"failed: {', '.join(own)}.")


if __name__ == "__main__":
    main()
