"""The command line: one file a verb.

Heavy imports stand inside the functions, so that --help is quick.
"""

import errno
import inspect
import io
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from evenhand.cli import (
    chain,
    classifier,
    compare,
    demo,
    export,
    generate,
    measure,
    plan,
    publish,
    reference,
    report,
    sweep,
    train,
    verify,
)
from evenhand.cli.app import app as serve
from evenhand.cli.catalogue import catalogue
from evenhand.cli.classify import classify
from evenhand.core.errors import UserError

# typer carries its own click in some versions and imports it in others
UsageError: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
app = typer.Typer(
    name="evenhand",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Measure and correct whom a text-to-image diffusion model draws. "
    "Start with **evenhand demo**.",
)


def _add(group: typer.Typer, verb: Callable[..., None], name: str | None = None) -> None:
    """Makes a function a verb, its docstring the help, the examples there a block of code."""
    text = inspect.cleandoc(verb.__doc__ or "")
    for heading in ("Example:", "Examples:"):
        text = text.replace(f"\n{heading}\n", f"\n**{heading}**\n\n")
    needs = any(p.default is p.empty for p in inspect.signature(verb).parameters.values())
    group.command(name=name, help=text, no_args_is_help=needs or verb is measure.measure)(verb)


for verb in (demo.demo, plan.plan, measure.measure, train.train, compare.compare, report.report):
    _add(app, verb)
_add(app, generate.generate)
_add(app, reference.reference)
_add(app, classify)
_add(app, classifier.calibrate)
app.add_typer(classifier.app, name="classifier")
_add(classifier.app, classifier.train)
_add(app, export.export)
_add(app, sweep.sweep)
_add(app, verify.verify)
_add(app, chain.chain)
_add(app, publish.push)
_add(app, publish.pull)
_add(app, serve, "app")
_add(app, catalogue, "list")


@app.callback()
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    """Options before the verb; `main` reads them again for errors."""


def main() -> None:
    """Entry point: one clear line and an exit code other than 0 on anything the user can mend."""
    for library in ("TRANSFORMERS", "DIFFUSERS"):  # remarks on optional parts are not for our users
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    # Threads of torch that wait for work spin, and on a busy machine keep those from their cores
    # that have some: eval/bench/busy.py. Before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.showwarning = _warn
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files and ASCII terminals
            stream.reconfigure(errors="backslashreplace")
    code = 0
    try:
        _check_words(sys.argv[1:])
        code = app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except typer.Exit as stop:
        code = stop.exit_code
    except UsageError as error:
        verb = error.ctx.command_path if getattr(error, "ctx", None) else "evenhand"
        message = " ".join(error.format_message().split())
        print(f"evenhand: {message.removesuffix('.')}; see {verb} --help", file=sys.stderr)
        code = error.exit_code
    except UserError as error:
        code = _say(str(error), 2)
    except BrokenPipeError:  # whoever read the output has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except OSError as error:
        what = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        hint = (
            "; free some space, the same command goes on from there"
            if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
            else ""
        )
        code = _say(f"{what}{error.strerror or error}{hint}", 1)
    except Exception as error:
        code = _fault(error)
    if code == 130:
        print(
            "evenhand: interrupted; what was finished is kept, the same command goes on from there",
            file=sys.stderr,
        )
    sys.exit(code)


def _check_words(words: list[str]) -> None:
    """Refuses arguments that are empty, such as those of unset variables, or no UTF-8.

    Raises:
        UserError: names the argument.
    """
    for i, word in enumerate(words):
        if not word:
            after = f" after {words[i - 1]!r}" if i else ""
            raise UserError(f"an argument{after} is empty; is a variable of the shell not set?")
        if any("\ud800" <= sign <= "\udfff" for sign in word):
            raise UserError(f"{word!r}: is not UTF-8; rename it")


def _warn(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any
) -> None:
    """Our own warnings in one line; those of libraries only with --debug."""
    if category is UserWarning and filename.startswith(str(Path(__file__).parents[1])):
        print(f"evenhand: {message}", file=sys.stderr)
    elif "--debug" in sys.argv:
        print(warnings.formatwarning(message, category, filename, lineno), end="", file=sys.stderr)


def _fault(error: Exception) -> int:
    """What the user cannot mend: one line where the memory ran out, else the traceback and a hint.

    Returns the exit code.
    """
    if type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error):
        return _say(
            f"out of memory on the device: {str(error).splitlines()[0]} Lower --batch or, in "
            "training, set "
            "gradient.batch=1 gradient.offload=true; what was finished is kept",
            1,
        )
    if "--debug" in sys.argv:
        raise error
    import traceback

    traceback.print_exception(error)
    return _say(
        "this is a fault of evenhand, not of yours: please report it with all of the above", 1
    )


def _say(message: str, code: int) -> int:
    """Prints the error and returns the exit code; with --debug the error goes on as it is."""
    if "--debug" in sys.argv:
        raise  # noqa: PLE0704 -- called from an except clause
    print(f"evenhand: {message}", file=sys.stderr)
    return code
