"""`pdplan`: the commands, and what becomes of errors."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from pdplan import __version__
from pdplan.cli import (
    calibrate,
    catalog,
    check,
    compare,
    day,
    evaluate,
    explain,
    fleet,
    front,
    hardware,
    models,
    recommend,
    validate,
)
from pdplan.cli.output import BUG, INTERRUPTED, report_error, say, unwritable, write
from pdplan.cli.strays import refuse_strays
from pdplan.errors import PdplanError

DEBUG_VARIABLE = "PDPLAN_DEBUG"

app = typer.Typer(
    name="pdplan",
    help="Plan LLM inference deployments: what to buy, how to lay it out, and why.",
    epilog="""\b
Try: pdplan recommend --model deepseek-r1 --hardware h200 --isl 4k --osl 1k \\
         --rate 20 --ttft 2s --tpot 40ms

Exit codes: 0 answered, 1 the answer is no (infeasible, budget breached), 2 bad input, 70 a bug.
""",
    add_completion=True,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
for command in (recommend, compare, front, day, fleet, evaluate, explain, check, validate, calibrate):
    command.register(app)
app.add_typer(models.app, name="models", help="List, show and add models.")
app.add_typer(hardware.app, name="hardware", help="List and show accelerators.")
app.add_typer(catalog.app, name="catalog", help="Check catalog files, and say where they lie.")


def _show_version(wanted: bool) -> None:
    if wanted:
        write(f"pdplan {__version__}\n")
        raise typer.Exit


@app.callback()
def pdplan(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Plan LLM inference deployments: what to buy, how to lay it out, and why."""


class _AsTyped:
    """Stands in for typer's conversion of a value: pdplan's are text, read in pdplan.inputs."""

    @staticmethod
    def coerce(value: Any, param: Any, **_: Any) -> Any:
        if param.multiple or param.nargs == -1:
            return list(value or ())
        return value


@contextmanager
def _values_as_typed() -> Iterator[None]:
    """Spare typer's converters, which import pydantic and build a validator for every flag: 0.1 s.

    Typer 0.29 and later have them; where they are not found, nothing is changed.
    """
    kind = getattr(typer.core, "_TyperParameter", None)
    convert = getattr(kind, "get_runtime_param", None)
    if convert is None:
        yield
        return

    def plain(self: Any) -> Any:
        asked = getattr(getattr(self, "type_descriptor", None), "annotation", None)
        return _AsTyped if asked in (str, list[str], bool) else convert(self)

    kind.get_runtime_param = plain  # type: ignore[union-attr]
    try:
        yield
    finally:
        kind.get_runtime_param = convert  # type: ignore[union-attr]


def run(args: Sequence[str] | None = None) -> int:
    """Run one command line; its exit code. No error ends in a traceback, unless $PDPLAN_DEBUG asks for it."""
    try:
        refuse_strays(sys.argv[1:] if args is None else args)
        with _values_as_typed():
            typer.main.get_command(app)(args=None if args is None else list(args), prog_name="pdplan")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except KeyboardInterrupt:
        return INTERRUPTED
    except PdplanError as problem:
        return report_error(problem)
    except OSError as problem:
        # Help is written by typer itself; an error with a file name is about another file.
        return _bug(problem) if problem.filename else report_error(unwritable(problem))
    except Exception as problem:
        return _bug(problem)
    return 0


def _bug(problem: Exception) -> int:
    if os.environ.get(DEBUG_VARIABLE):
        import traceback

        say(traceback.format_exc().splitlines())
    what = str(problem).partition("\n")[0][:200]
    say(
        [
            f"internal error: {type(problem).__name__}: {what}; please report this with the command line "
            f"(set {DEBUG_VARIABLE}=1 for a traceback)"
        ]
    )
    return BUG
