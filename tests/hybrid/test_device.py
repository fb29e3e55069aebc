"""The device's thread: one call at a time, and nobody waits for an answer that is no longer wanted."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from edgekit.hybrid.device import DeviceThread
from edgekit.hybrid.stop import Stop, Stopped


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as at a terminal: a shell's background jobs ignore it and hand that down."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_calls_of_any_thread_run_in_one() -> None:
    thread = DeviceThread()
    with ThreadPoolExecutor(8) as pool:
        ran_in = list(pool.map(lambda _: thread.run(threading.get_ident, Stop()), range(32)))
    assert len(set(ran_in)) == 1
    assert ran_in[0] != threading.get_ident()


def test_who_stops_before_its_turn_leaves_the_row_at_once() -> None:
    thread, begun, end, stop = DeviceThread(), threading.Event(), threading.Event(), Stop()

    def call() -> bool:
        begun.set()
        return end.wait(60)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(thread.run, call, Stop())
        assert begun.wait(60)
        second = pool.submit(thread.run, lambda: None, stop)
        stop.set()
        with pytest.raises(Stopped):
            second.result(60)
        assert not first.done()
        end.set()
        assert first.result(60)


def test_what_a_call_raises_is_raised_and_stops_nothing() -> None:
    stop = Stop()
    with pytest.raises(ZeroDivisionError):
        DeviceThread().run(lambda: 1 / 0, stop)
    assert not stop.is_set()


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_stops_what_was_waited_for() -> None:
    stop, ended = Stop(), threading.Event()

    def call() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        for _ in range(6_000):  # and no longer: the interpreter waits for this thread when it ends
            if stop.is_set():
                ended.set()
                return
            time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        DeviceThread().run(call, stop)
    assert ended.wait(60)


def test_a_stop_tells_everyone_once_late_comers_too() -> None:
    stop, told = Stop(), []
    stop.tell(lambda: told.append("early"))
    stop.set()
    stop.set()
    stop.tell(lambda: told.append("late"))
    assert told == ["early", "late"]
