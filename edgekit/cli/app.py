"""The command line: one verb a file, errors in one line, exit codes in one place."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

import typer

from edgekit.cli import (
    bench,
    calibrate,
    demo,
    doctor,
    evaluate,
    experiment,
    export,
    finetune,
    inspect,
    make_base,
    run,
    serve,
    train,
    verify,
)
from edgekit.errors import EdgekitError, FailedElsewhere

INTERRUPTED = 130

app = typer.Typer(
    name="edgekit",
    help="Train a small model to know when to call the cloud, put it on a phone, prove it decides the same.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("doctor")(doctor.doctor)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("experiment")(experiment.experiment)
app.command("calibrate")(calibrate.calibrate)
app.command("finetune")(finetune.finetune)
app.command("export")(export.export)
app.command("verify")(verify.verify)
app.command("run")(run.run)
app.command("serve")(serve.serve)
app.command("bench")(bench.bench)
app.command("demo")(demo.demo)
app.command("inspect")(inspect.inspect)
app.command("make-base")(make_base.make_base)
# Their names until 0.2.
app.command("quantize", hidden=True)(finetune.finetune)
app.command("warm-start", hidden=True)(make_base.make_base)


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Every foreseeable failure is one line on stderr."""
    try:
        result = app(args=list(arguments) if arguments is not None else None, standalone_mode=False)
        code = result if isinstance(result, int) else 0
        return _interrupted() if code == INTERRUPTED else code  # typer turns Ctrl-C into this code
    except FailedElsewhere as error:
        return error.exit_code
    except EdgekitError as error:
        return _fail(str(error), error.exit_code)
    except typer.TyperException as error:
        return _fail(f"{error.format_message()} See edgekit --help.", 2)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return _fail(f"disk full: {error.filename or 'output'}. Nothing half-written was left. Free space.", 2)
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            return _fail(f"cannot write or read: {error.filename}. {error.strerror}. Choose another path.", 2)
        raise


def _interrupted() -> int:
    return _fail("interrupted. Nothing half-written was left behind; training goes on with --resume.", INTERRUPTED)


def _fail(message: str, code: int) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return code


def main() -> None:
    """Entry point of the ``edgekit`` script."""
    # Spinning threads halve the speed of small models on shared cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(run_command())
