"""The other side: the process that does the work. It answers one message after another until its parent is gone."""

from __future__ import annotations

import contextlib
import math
import resource
import signal
import socket
import sys
from importlib import import_module
from typing import Any

from edgekit.errors import EdgekitError
from edgekit.isolation.wire import receive, send

LARGEST_FILE = 1_000_000
"""What it may write to a file: its last words."""


def main() -> None:
    """Serve the object ``Service()`` of the module named on the command line, over the socket named there."""
    service_name, descriptor, memory_bytes = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)  # a shell's "ignore" is inherited, and would lift the limit
    _limit(memory_bytes)
    connection = socket.socket(fileno=descriptor)
    with contextlib.suppress(EOFError, OSError):
        service = import_module(service_name).Service()
        while True:
            (method, arguments, seconds), _ = receive(connection)
            _limit_processor_time(seconds)
            send(connection, *_answer(service, method, arguments))


def _answer(service: Any, method: str, arguments: list[Any]) -> tuple[dict[str, Any], bytes | memoryview]:
    try:
        result = getattr(service, method)(*arguments)
        return ({}, result) if isinstance(result, bytes | memoryview) else ({"value": result}, b"")
    except EdgekitError as error:
        return {"error": type(error).__name__, "kind": error.kind, "text": str(error)}, b""
    except MemoryError:
        return {"error": "MemoryError", "text": "it needs more memory than it may have"}, b""
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # whatever a runtime raises; a panic of a Rust library is no Exception
        return {"error": "other", "text": " ".join(f"{type(error).__name__}: {error}".split())[:200]}, b""


def _limit(memory_bytes: int) -> None:
    """Bound memory, and let nothing be written: no core, no file but the last words."""
    limits = {resource.RLIMIT_CORE: 0}
    if sys.platform == "linux":  # macOS ignores or refuses these, and Core ML compiles into files there
        limits |= {resource.RLIMIT_DATA: memory_bytes, resource.RLIMIT_FSIZE: LARGEST_FILE}
    for limit, value in limits.items():
        _, hard = resource.getrlimit(limit)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (value if hard < 0 else min(value, hard), hard))


def _limit_processor_time(seconds: float) -> None:
    """Let the system end this process by SIGXCPU, once its threads have used ``seconds`` more, up to a whole second."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    end = math.ceil(used.ru_utime + used.ru_stime + seconds)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (end if hard < 0 else min(end, hard), hard))
