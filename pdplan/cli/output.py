"""Results go to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TextIO

from pdplan.errors import InputError, PdplanError

if TYPE_CHECKING:
    from pdplan.report.blocks import Report

ANSWERED, NO, BAD_INPUT, BUG, INTERRUPTED = 0, 1, 2, 70, 130
"""Exit codes."""


def emit(report: Report, format: str) -> None:
    """Print a report: wrapped and coloured on a terminal only."""
    from pdplan.report.render import render

    width, colour = terminal(format)
    write(render(report, format, width=width, colour=colour))


def terminal(format: str) -> tuple[int | None, bool]:
    """Width and colour of text on a terminal; a pipe and other formats have neither."""
    if format != "text" or not sys.stdout.isatty():
        return None, False
    import shutil

    colour = "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return shutil.get_terminal_size().columns, colour


@contextlib.contextmanager
def working(what: str, patience_s: float = 1.0) -> Iterator[None]:
    """A sign of life on a terminal's stderr for work that takes longer than `patience_s`."""
    if not sys.stderr.isatty():
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
    """Write to stdout; a reader that has gone (`| head`) is no error."""
    _write(sys.stdout, text)


def report_error(problem: PdplanError) -> int:
    """Tell an error of the user's making on stderr, one line a finding; the exit code."""
    messages = problem.messages if isinstance(problem, InputError) else (str(problem),)
    say(f"error: {message}" for message in messages)
    return BAD_INPUT


def say(lines: Iterable[str]) -> None:
    """Write lines to stderr."""
    _write(sys.stderr, "".join(f"{line}\n" for line in lines))


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
