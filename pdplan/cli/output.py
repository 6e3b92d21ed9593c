"""Results go to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TextIO

from pdplan.errors import InputError, PdplanError, nearest, quoted_list

if TYPE_CHECKING:
    from pdplan.report.blocks import Report

ANSWERED, NO, BAD_INPUT, BUG, INTERRUPTED = 0, 1, 2, 70, 130
"""Exit codes."""


class OutputError(PdplanError):
    """The result could not be written: a full disk, a closed stream."""


def emit(report: Report, format: str) -> None:
    """Print a report: wrapped and coloured on a terminal only."""
    from pdplan.report.formats.render import render

    width, colour = terminal(format)
    write(render(report, format, width=width, colour=colour))


def terminal(format: str) -> tuple[int | None, bool]:
    """Width and colour of text on a terminal; a pipe and other formats have neither."""
    if format != "text" or sys.stdout is None or not sys.stdout.isatty():
        return None, False
    import shutil

    colour = "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return shutil.get_terminal_size().columns, colour


@contextlib.contextmanager
def working(what: str, patience_s: float = 1.0) -> Iterator[None]:
    """A sign of life on a terminal's stderr for work that takes longer than `patience_s`."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    import threading

    done = threading.Event()

    def show() -> None:
        if done.wait(patience_s):
            return
        from rich.console import Console  # only now: most answers are there before

        with Console(stderr=True).status(f"{what} ..."):
            done.wait()

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def write(text: str) -> None:
    """Write to stdout; a reader that has gone (`| head`) is no error, a full disk is an OutputError."""
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, "it is closed")
        _write(sys.stdout, text)
    except OSError as problem:
        raise unwritable(problem) from None


def unwritable(problem: OSError) -> OutputError:
    """The error of a result that did not reach its reader; drops what is still buffered of it."""
    if sys.stdout is not None:
        _silence(sys.stdout)
    return OutputError(
        f"standard output cannot be written: {problem.strerror or problem}; the answer is lost"
    )


def report_error(problem: PdplanError) -> int:
    """Tell an error of the user's making on stderr, one line a finding; the exit code."""
    messages = problem.messages if isinstance(problem, InputError) else (str(problem),)
    say(f"error: {message}" for message in messages)
    return BAD_INPUT


def nothing_holds(kind: str, text: str, names: Iterable[str]) -> int:
    """Tell that a list has no name with the text, and which names are close; the exit code."""
    close = nearest(text, names)
    hint = f"; did you mean {quoted_list(close)}?" if close else ""
    say([f"no {kind}'s name holds '{text}'{hint}"])
    return NO


def say(lines: Iterable[str]) -> None:
    """Write lines to stderr; where even that fails, the exit code must do."""
    if sys.stderr is None:
        return
    try:
        _write(sys.stderr, "".join(f"{line}\n" for line in lines))
    except OSError:
        _silence(sys.stderr)


def _write(stream: TextIO, text: str) -> None:
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:  # a terminal that knows no "≤" shows a "?"
            encoding = stream.encoding or "ascii"
            stream.write(text.encode(encoding, "replace").decode(encoding))
        stream.flush()
    except BrokenPipeError:
        _silence(stream)


def _silence(stream: TextIO) -> None:
    """Send what is still buffered nowhere, or the interpreter complains at exit."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
    except (OSError, ValueError):
        pass
