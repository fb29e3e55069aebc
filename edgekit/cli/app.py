"""The command line: one verb a file, errors in one line, exit codes in one place."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import (
    bench,
    cache,
    calibrate,
    chat,
    demo,
    doctor,
    evaluate,
    experiment,
    export,
    finetune,
    inspect,
    make_base,
    pack,
    run,
    serve,
    train,
    verify,
)
from edgekit.cli.command_log import CommandLog, new_log_file
from edgekit.cli.harmless import harmless
from edgekit.errors import EdgekitError, FailedElsewhere, one_line
from edgekit.version import __version__

LOG_VARIABLE = "EDGEKIT_LOG"
UNUSABLE = (
    errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, errno.EMFILE,
    errno.ENFILE, errno.ENXIO, errno.EBUSY, errno.EISDIR,
)  # fmt: skip
NO_MEMORY = ("can't allocate memory", "out of memory", "Storage size calculation overflowed")
"""What torch says, in RuntimeErrors, of a host or device that has less than is asked for."""
BAD_INPUT, INTERRUPTED, BROKEN_PIPE = EdgekitError.exit_code, 130, 141

app = typer.Typer(name="edgekit", no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich")
app.command("doctor")(doctor.doctor)
app.command("train")(train.train)
app.command("eval")(evaluate.eval_command)
app.command("experiment")(experiment.experiment)
app.command("calibrate")(calibrate.calibrate)
app.command("finetune")(finetune.finetune)
app.command("export")(export.export)
app.command("verify")(verify.verify)
app.command("run")(run.run)
app.command("chat")(chat.chat)
app.command("serve")(serve.serve)
app.command("bench")(bench.bench)
app.command("demo")(demo.demo)
app.command("inspect")(inspect.inspect)
app.command("pack")(pack.pack)
app.command("make-base")(make_base.make_base)
app.command("cache")(cache.cache)
# Their names until 0.2.
app.command("quantize", hidden=True)(finetune.finetune)
app.command("warm-start", hidden=True)(make_base.make_base)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"edgekit {__version__}")
        raise typer.Exit


@app.callback()
def edgekit(
    context: typer.Context,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Write a log, every library's too, to a file (EDGEKIT_LOG names it).")
    ] = False,
    version: Annotated[  # noqa: ARG001  its callback shows it
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Train a small model to know when to call the cloud, make it ready for a phone, check that it decides the same."""
    named = os.environ.get(LOG_VARIABLE)
    if not (verbose or named):
        return
    path = Path(named) if named else new_log_file()
    try:
        context.obj.write_to(path)
    except OSError as error:
        raise EdgekitError(f"cannot write the log: {path}. {error.strerror}. Set {LOG_VARIABLE} to a file.") from None
    if verbose:
        print(f"log: {path}", file=sys.stderr)


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Every failure is one line on stderr, whatever it was."""
    typed = sys.argv[1:] if arguments is None else list(arguments)
    with CommandLog(typed) as log:
        try:
            result = app(args=typed, standalone_mode=False, obj=log)
            code = result if isinstance(result, int) else 0
            return _interrupted() if code == INTERRUPTED else code  # typer turns Ctrl-C into this code
        except FailedElsewhere as error:
            return error.exit_code
        except EdgekitError as error:
            return _fail(str(error), error.exit_code)
        except typer.TyperException as error:
            said = error.format_message()  # empty where the help itself was the answer
            return _fail(f"{said} {_where_to_look(error)}", BAD_INPUT) if said else BAD_INPUT
        except (KeyboardInterrupt, typer.Abort):
            return _interrupted()
        except SystemExit as left:  # typer's completion, and where nobody reads what is printed any more
            return BROKEN_PIPE if left.code == 1 else BAD_INPUT if left.code else 0
        except Exception as error:
            return _fail(_environment_fault(error) or _unforeseen(error, log), BAD_INPUT)


def _where_to_look(error: typer.TyperException) -> str:
    """The help of the command that was typed wrongly, or the list of commands if there is none."""
    context = getattr(error, "ctx", None)
    command = f"{context.info_name} " if context is not None and context.parent is not None else ""
    return f"See edgekit {command}--help."


def _environment_fault(error: Exception) -> str | None:
    """The line for what the system refuses: no room, no permission, no such place; None for anything else."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"disk full: {error.filename or 'output'}. Nothing half-written was left. Free space."
    if isinstance(error, OSError) and error.errno in UNUSABLE:
        return f"cannot write or read: {error.filename2 or error.filename}. {error.strerror}. Choose another path."
    if isinstance(error, MemoryError):
        return f"out of memory: {error or 'this host'}. The work needs more than there is. Close others or choose less."
    if isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY):
        where = "the GPU" if "CUDA" in str(error) else "this host"
        return f"out of memory: {where}. The work needs more than there is. Close others or choose less."
    return None


def _unforeseen(error: Exception, log: CommandLog) -> str:
    said = " ".join(str(error).split())[:160].rstrip(".")
    try:
        where = f"The traceback is in {log.write_traceback(error)}, for a report of it."
    except OSError as refused:
        where = f"Its traceback could not be written: {refused}. Set {LOG_VARIABLE} to a file and try again."
    return (
        f"unforeseen failure: {type(error).__name__}{f': {said}' if said else ''}. This is a fault of edgekit. {where}"
    )


def _interrupted() -> int:
    return _fail("interrupted. Nothing half-written was left behind; training goes on with --resume.", INTERRUPTED)


def _fail(message: str, code: int) -> int:
    print("error: " + one_line(harmless(" ".join(message.split()))), file=sys.stderr)
    return code
