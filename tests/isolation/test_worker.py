"""A process of its own: it answers, it is limited, and however it ends is one line here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgekit.errors import BackendMissing, BundleError, ErrorKind
from edgekit.isolation import worker as worker_module
from edgekit.isolation.worker import Worker

SERVICE = """
import ctypes, os, signal, sys, threading, time
from edgekit.errors import BackendMissing, ErrorKind

class Service:
    def echo(self, value): return value
    def bytes(self, n): return memoryview(bytes(range(256)) * n)
    def missing(self): raise BackendMissing("no runtime. Install it.")
    def fail(self): raise ValueError("wrong\\nnumber")
    def panic(self): raise BaseException("panicked")
    def sleep(self, seconds): time.sleep(seconds)
    def use(self, seconds):
        end = time.process_time() + seconds
        while time.process_time() < end: pass
    def spin(self):
        while True: pass
    def eat(self, n): return len(bytearray(n))
    def die(self, code):
        print("last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), code) if code else os._exit(3)
    def crash(self): ctypes.string_at(0)
    def write(self, path):
        with open(path, "wb") as file: file.write(bytes(5_000_000))
    def modules(self): return sorted(sys.modules)
"""


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    (tmp_path / "odd_service.py").write_text(SERVICE)
    monkeypatch.syspath_prepend(tmp_path)
    return Worker("odd_service", "running it", 2**30)


def failure(worker: Worker, method: str, *arguments: object, seconds: float = 60) -> BundleError:
    with pytest.raises(BundleError) as caught:
        worker.call(method, *arguments, seconds=seconds)
    assert "\n" not in str(caught.value)
    assert caught.value.kind is ErrorKind.DEVICE_FAILED
    return caught.value


def test_values_bytes_and_errors_come_back(worker: Worker) -> None:
    assert worker.call("echo", {"a": [1, None, "\u00e9\n"]}, seconds=60) == {"a": [1, None, "\u00e9\n"]}
    assert worker.call("echo", None, seconds=60) is None
    assert bytes(worker.call("bytes", 4000, seconds=60)) == bytes(range(256)) * 4000
    assert worker.call("bytes", 0, seconds=60) == b""
    with pytest.raises(BackendMissing, match=r"no runtime\. Install it") as caught:
        worker.call("missing", seconds=60)
    assert caught.value.kind is ErrorKind.UNSUPPORTED
    assert "ValueError: wrong number" in str(failure(worker, "fail"))
    assert "panicked" in str(failure(worker, "panic"))
    assert worker.call("echo", 1, seconds=60) == 1  # an error is not its end


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No clock ends what other work on this machine keeps waiting."""
    monkeypatch.setattr(worker_module, "CLOCK_PER_PROCESSOR_SECOND", 1e4)  # the ten minutes beyond it are enough


@pytest.mark.usefixtures("patient")
def test_it_is_ended_when_it_uses_too_much_processor_time(worker: Worker) -> None:
    assert "it took more than 1 s of processor time and was ended" in str(failure(worker, "spin", seconds=0.6))
    assert not worker.alive
    assert "ended before" in str(failure(worker, "echo", 1))


def test_one_that_sleeps_is_ended_by_the_clock(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "CLOCK_PER_PROCESSOR_SECOND", 0.3)
    assert "it did not answer within 1 s and was ended" in str(failure(worker, "sleep", 3600, seconds=2))
    assert not worker.alive


@pytest.mark.usefixtures("patient")
def test_one_that_gets_no_processor_for_longer_than_its_limit_is_heard(worker: Worker) -> None:
    """Stopped, as a busy machine keeps a process waiting: it goes on and answers."""
    worker.call("echo", 1, seconds=60)
    os.kill(worker._process.pid, signal.SIGSTOP)
    threading.Timer(0.3, lambda: os.kill(worker._process.pid, signal.SIGCONT)).start()
    assert worker.call("echo", 2, seconds=0.1) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("patient")
def test_each_call_has_its_own_processor_time(worker: Worker) -> None:
    for _ in range(4):
        worker.call("use", 0.8, seconds=1.0)


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not hold a process to its memory")
def test_it_may_not_have_more_memory_nor_write_files(worker: Worker, tmp_path: Path) -> None:
    assert "more memory" in str(failure(worker, "eat", 2**31))
    assert "OSError" in str(failure(worker, "write", str(tmp_path / "large")))
    assert worker.call("eat", 2**20, seconds=60) == 2**20


@pytest.mark.parametrize(
    ("method", "arguments", "words"),
    [("die", (9,), "SIGKILL (last words)"), ("die", (0,), "exit code 3 (last words)"), ("crash", (), "SIGSEGV")],
)
def test_its_death_is_one_line(worker: Worker, method: str, arguments: tuple[int, ...], words: str) -> None:
    assert words in str(failure(worker, method, *arguments))
    assert not worker.alive


def test_ctrl_c_is_the_parent_s_to_answer_and_leaves_no_answer_to_be_mistaken(worker: Worker) -> None:
    worker.call("echo", 1, seconds=60)
    os.kill(worker._process.pid, signal.SIGINT)
    assert worker.call("echo", 2, seconds=60) == 2
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            worker.call("sleep", 60, seconds=60)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not worker.alive


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "odd_service.py").write_text(SERVICE)
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from edgekit.isolation.worker import Worker;"
        "w = Worker('odd_service', 'x', 2**30); w.call('echo', 1, seconds=60); print(w._process.pid, flush=True);"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    child = int(done.stdout)
    for _ in range(200):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            return
        time.sleep(0.05)
    pytest.fail(f"{child} lives on")


@pytest.mark.usefixtures("worker")
def test_nothing_is_imported_from_the_folder_one_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A downloaded folder must not run by standing in it."""
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in ("numpy", "json", "edgekit", "socket"):
        (trap / f"{name}.py").write_text("import os; os._exit(9)")
    monkeypatch.chdir(trap)
    assert Worker("odd_service", "running it", 2**30).call("echo", 1, seconds=60) == 1


def test_a_simulator_s_process_imports_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd_service.py").write_text(SERVICE + "\nimport edgekit.simulate.service")
    monkeypatch.syspath_prepend(tmp_path)
    loaded = set(Worker("odd_service", "running it", 2**30).call("modules", seconds=60))
    assert loaded.isdisjoint({"torch", "pydantic", "typer", "yaml", "tokenizers"})


def test_a_process_that_sleeps_is_waited_for_ten_minutes_at_most() -> None:
    assert worker_module.on_the_clock(0.1) == pytest.approx(2.0)
    assert worker_module.on_the_clock(300.0) == 900.0
