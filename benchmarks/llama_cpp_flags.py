"""CMake's flags for a llama.cpp that uses what this processor has, AMX excepted.

ggml's own detection takes AMX for granted where a processor shows it; some virtual machines show it and refuse it,
and the first product then ends the process (SIGILL).

Usage: CMAKE_ARGS="$(python llama_cpp_flags.py)" pip install llama-cpp-python
"""

from __future__ import annotations

import re
from pathlib import Path

OPTIONS = {
    "avx512f": "GGML_AVX512",
    "avx512vbmi": "GGML_AVX512_VBMI",
    "avx512_vnni": "GGML_AVX512_VNNI",
    "avx512_bf16": "GGML_AVX512_BF16",
    "avx_vnni": "GGML_AVX_VNNI",
}
"""Linux's name of an instruction set -> ggml's option; AVX2, FMA and F16C are on by themselves."""


def flags(cpuinfo: str) -> list[str]:
    """For the text of /proc/cpuinfo; none where it is not an x86 processor's, so that ggml looks for itself."""
    found = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    if found is None:
        return []
    has = set(found[1].split())
    return ["-DGGML_NATIVE=OFF", *(f"-D{option}=ON" for name, option in OPTIONS.items() if name in has)]


if __name__ == "__main__":
    source = Path("/proc/cpuinfo")
    print(*flags(source.read_text() if source.is_file() else ""))
