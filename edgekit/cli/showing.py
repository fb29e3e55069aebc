"""How far long work is, on stderr: a bar in a terminal, elsewhere a plain line every half minute."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from edgekit.cli.harmless import harmless
from edgekit.cli.terminal import PlainConsole
from edgekit.progress import Progress, Say

log = logging.getLogger(__name__)

EVERY_S = 30.0
"""How often a plain line is printed, whether or not the work has said anything new."""


@contextmanager
def progress(description: str, *, shown: bool = True) -> Iterator[Progress]:
    """Show counted work: in a terminal a bar, from the first call on, so that what is refused before shows none."""
    with (_bar if sys.stderr.isatty() else _counted_lines)(description, shown) as show:

        def update(done: int, total: int, note: str = "", /) -> None:
            log.debug("%s: %d of %d %s", description, done, total, note)
            show(done, total, note)

        yield update


@contextmanager
def stages(description: str, *, shown: bool = True) -> Iterator[Say]:
    """Show work whose stages are named but not counted."""
    with (_status if sys.stderr.isatty() else _lines)(description, shown) as show:

        def say(stage: str, /) -> None:
            log.debug("%s: %s", description, stage)
            show(stage)

        yield say


@contextmanager
def _bar(description: str, shown: bool) -> Iterator[Progress]:
    text, note = (TextColumn(f"{{task.{each}}}", markup=False) for each in ("description", "fields[note]"))
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # The stream of now: what libraries print is sent elsewhere while they work.
    console = PlainConsole(file=sys.stderr)
    bars = Bars(*columns, TimeRemainingColumn(), note, console=console, disable=not shown)
    task = bars.add_task(description, total=None, note="")

    def update(done: int, total: int, note: str = "", /) -> None:
        bars.start()
        bars.update(task, completed=done, total=total, note=note)

    try:
        yield update
    finally:
        if bars.live.is_started:
            bars.stop()


@contextmanager
def _status(description: str, shown: bool) -> Iterator[Say]:
    with PlainConsole(file=sys.stderr, quiet=not shown).status(description) as status:
        yield lambda stage: status.update(Text(stage))


@contextmanager
def _counted_lines(description: str, shown: bool) -> Iterator[Progress]:
    with _lines(description, shown) as say:

        def update(done: int, total: int, note: str = "", /) -> None:
            say(f"{done} of {total} {note}")

        yield update


@contextmanager
def _lines(description: str, shown: bool) -> Iterator[Say]:
    """Print every half minute what was said last, and for how long the work has gone on."""
    said, over, stream, begin = ["at work"], threading.Event(), sys.stderr, time.monotonic()

    def say(stage: str, /) -> None:
        said[0] = stage

    def repeat() -> None:
        while not over.wait(EVERY_S):
            minutes, seconds = divmod(int(time.monotonic() - begin), 60)
            line = f"{description} for {minutes} min {seconds:02d} s: {said[0]}"
            print(harmless(" ".join(line.split())), file=stream, flush=True)

    thread = threading.Thread(target=repeat, daemon=True)
    if shown:
        thread.start()
    try:
        yield say
    finally:
        over.set()
        if shown:
            thread.join()
