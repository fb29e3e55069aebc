"""The comparison goes on without a contender that dies, and its table says who did not run and why."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
WORKER = """
import json, os, signal, sys
fate = sys.argv[1]
if fate == "dies at once":
    os.kill(os.getpid(), signal.SIGILL)
if fate == "cannot be imported":
    import a_package_that_nobody_has
print(json.dumps({"runtime": "a toy", "load_s": 0.1, "megabytes": 1.0}), flush=True)
for turn, line in enumerate(sys.stdin):
    if fate == "dies in its second turn" and turn == 2:
        os.kill(os.getpid(), signal.SIGSEGV)
    seconds = {"wall": 1.0, "processor": 0.25}[json.loads(line)["clock"]]
    print(json.dumps({"prefill_s": 0.5, "decode_s": seconds, "tokens": [1, 2]}), flush=True)
"""


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import decode_on_host

    monkeypatch.setattr(decode_on_host, "SETTLE_S", 0.0)
    return decode_on_host


def test_a_contender_that_dies_is_left_out_and_named_in_the_table(bench: Any) -> None:
    fates = ("dies at once", "runs", "cannot be imported", "dies in its second turn")
    contenders = {f"llama.cpp, {fate}": [sys.executable, "-c", WORKER, fate] for fate in fates}
    workers, lost = bench.start(contenders, 1, 64)
    try:
        quiet = bench.measure(workers, lost, [1, 2, 3], 4, rounds=3, clock="processor")
        contestants = {worker.name: bench.summary(worker, workers) for worker in workers}
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.wait()
    assert list(contestants) == ["llama.cpp, runs"]
    assert contestants["llama.cpp, runs"]["decode_rounds"] == [16.0] * 3
    assert lost == {
        "llama.cpp, dies at once": "it ended by SIGILL, an instruction that this processor refuses",
        "llama.cpp, cannot be imported": "it ended with exit code 1",
        "llama.cpp, dies in its second turn": "it ended by SIGSEGV",
    }
    settings = {"prompt_tokens": 3, "decode_steps": 4, "rounds": 3, "threads": 1, "clock": "processor"}
    exporters = {"a builder": {"failed": "it ended with exit code 1"}}
    data = {"host": {"machine": "x", "cores": 1}, "settings": settings, "quiet": quiet, "contenders": contestants,
            "did_not_run": lost, "export": exporters}  # fmt: skip
    table = bench.speed_markdown(json.loads(json.dumps(data)), bench.YARDSTICKS)
    rows = [line for line in table.splitlines() if line.startswith("| llama.cpp")]
    assert len({line.count("|") for line in rows}) == 1
    assert "Median tokens per processor second" in table
    assert "| llama.cpp, dies at once | did not run: it ended by SIGILL, an instruction" in table
    assert "| a builder | failed: it ended with exit code 1 |" in table


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("flags\t\t: sse2 avx2 avx512f amx_int8 avx512_vnni\n", ["NATIVE=OFF", "AVX512=ON", "AVX512_VNNI=ON"]),
        ("flags\t\t: sse2 avx2\n", ["NATIVE=OFF"]),
        ("Features\t: fp asimd\n", []),
        ("", []),
    ],
)
@pytest.mark.usefixtures("bench")
def test_llama_cpp_is_built_with_what_the_processor_has_and_never_with_amx(cpuinfo: str, expected: list[str]) -> None:
    from llama_cpp_flags import flags

    assert flags(cpuinfo) == [f"-DGGML_{option}" for option in expected]
